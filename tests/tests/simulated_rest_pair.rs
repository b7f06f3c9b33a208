//! The simulated account in front of the real pair: calls that the REST API makes, ends and redirects while the gateway
//! carries them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "support/rest_client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod rest_client;

use std::time::Duration;

use rest_client::RestClient;
use tests::{
    sim::{
        Ended,
        rest::{CallStatus, Exchange, Line, OwnedNumber, PlacedCall, Rate, RestPlan},
    },
    stack::{AUTH_TOKEN, PUBLIC_URL, Stack, eventually},
};

const FROM: &str = "+15550199";
const TO: &str = "+15550100";

/// An account whose calls come to a pair of its own, and a client.
async fn start() -> (Stack, Exchange, RestClient) {
    let webhook = format!("{PUBLIC_URL}/voice/incoming");
    let plan = RestPlan {
        numbers: vec![OwnedNumber::new(FROM).with("VoiceUrl", &webhook)],
        rate: Rate::UNLIMITED,
        ..RestPlan::new(AUTH_TOKEN)
    };
    // In the order of a real set-up: the account is there before the gateway.
    let exchange = Exchange::start(plan).await.unwrap();
    assert!(exchange.api_url().starts_with("http://127.0.0.1:"));
    let stack = Stack::start_default().await;
    exchange.set_gateway(stack.for_exchange());
    let client = RestClient::new(tests::sim::Route::Tcp(exchange.address()), AUTH_TOKEN);
    (stack, exchange, client)
}

async fn settled(exchange: &Exchange, sid: &str) -> PlacedCall {
    exchange.wait_for_call(|call| call.sid == sid && call.is_settled).await.expect("the call ends")
}

#[tokio::test]
async fn a_call_made_through_the_rest_api_is_carried_by_the_pair() {
    let (stack, exchange, client) = start().await;
    exchange.set_line(None, Line { hangup_after: Some(Duration::from_secs(3)), ..Line::default() });
    let url = format!("{PUBLIC_URL}/voice/incoming");
    let sid = client.create(&[("To", TO), ("From", FROM), ("Url", &url)]).await;
    let placed = settled(&exchange, &sid).await;
    let report = placed.report.unwrap();
    assert!(placed.status == CallStatus::Completed && report.is_ok(), "{report}");
    assert!(report.streams[0].echo.is_some_and(|echo| echo.snr_db > 20.0), "{report}");
    exchange.stop().await;
    stack.stop().await;
}

#[tokio::test]
async fn an_inbound_call_is_redirected_and_ended_through_the_rest_api() {
    let (stack, exchange, client) = start().await;
    let line = Line { hangup_after: Some(Duration::from_secs(60)), ..Line::default() };
    let sid = exchange.call_in(TO, FROM, line).unwrap();
    eventually("the gateway has the call", async || stack.live_calls().await == 1).await;
    let words = "<Response><Say>One moment.</Say><Pause length=\"60\"/></Response>";
    assert_eq!(client.update(&sid, &[("Twiml", words)]).await.status, 200);
    eventually("the gateway has let go of it", async || stack.live_calls().await == 0).await;
    assert_eq!(client.update(&sid, &[("Status", "completed")]).await.status, 200);
    let report = settled(&exchange, &sid).await.report.unwrap();
    assert_eq!(
        (report.streams[0].ended, report.said.as_slice()),
        (Ended::CallUpdated, &["One moment.".to_owned()][..])
    );
    exchange.stop().await;
    stack.stop().await;
}
