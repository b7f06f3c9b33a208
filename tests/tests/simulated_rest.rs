//! The REST half of the simulated Twilio against a stand-in server, in virtual time.

#![expect(clippy::disallowed_methods, reason = "the virtual clock is read to see what was waited")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "support/rest_client.rs"]
mod rest_client;
#[path = "support/stand_in.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod stand_in;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt as _;
use rest_client::{RestClient, below};
use serde_json::Value;
use stand_in::{Seen, Socket, StandIn, TOKEN};
use tests::sim::{
    self, CallEvent, Code, Delivery, Ended, Transfer,
    rest::{
        AnsweredBy, CallStatus, Exchange, Fault, Gateway, Line, Mishap, Outcome, OwnedNumber, PlacedCall, Rate,
        RestError, RestPlan, Target,
    },
};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

const FROM: &str = "+15550199";
const TO: &str = "+15550100";
const URL: &str = "https://demo.example/voice/incoming";
const STATUS: &str = "https://demo.example/call/status";
const WAITING: &str = "<Response><Pause length=\"60\"/></Response>";
const SECOND: Duration = Duration::from_secs(1);

/// Reads the stream until its end.
async fn listen(mut socket: Socket) {
    while let Some(Ok(_)) = socket.next().await {}
}

fn server() -> StandIn {
    StandIn::new(listen).page("/call/status", 200, "").page("/amd", 200, "")
}

fn plan() -> RestPlan {
    let line = Line { speech: [0; 8000].into(), hangup_after: Some(SECOND), ..Line::default() };
    RestPlan { line, rate: Rate::UNLIMITED, ..RestPlan::new(TOKEN) }
}

/// An exchange whose calls come to `server`, and a client.
async fn start(plan: RestPlan, server: &StandIn) -> (Exchange, RestClient) {
    let exchange = Exchange::start(plan).await.unwrap();
    let call = server.start();
    exchange.set_gateway(Gateway { route: call.route, public_url: call.public_url });
    let client = RestClient::new(exchange.route(), TOKEN);
    (exchange, client)
}

async fn settled(exchange: &Exchange, sid: &str) -> PlacedCall {
    exchange.wait_for_call(|call| call.sid == sid && call.is_settled).await.expect("the call ends")
}

async fn reaches(exchange: &Exchange, sid: &str, status: CallStatus) {
    let call = exchange.wait_for_call(|call| call.sid == sid && call.status == status).await;
    assert!(call.is_some(), "never {status:?}: {:?}", exchange.call(sid));
}

fn value<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.params.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
}

fn values(seen: &[Seen], name: &str) -> Vec<String> {
    seen.iter().map(|seen| value(seen, name).unwrap_or("-").to_owned()).collect()
}

fn call<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("To", TO), ("From", FROM)], more].concat()
}

/// All four events.
fn watched<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let events = CallEvent::ALL.map(|event| ("StatusCallbackEvent", event.as_str()));
    [&call(&[("StatusCallback", STATUS)])[..], &events, more].concat()
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_from_queued_to_completed_and_tells_of_it() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    let reply = client.post("/Calls.json", &watched(&[("Url", URL)])).await;
    assert_eq!((reply.status, &reply.json()["status"]), (201, &Value::from("queued")));
    let sid = reply.json()["sid"].as_str().unwrap().to_owned();
    let call = settled(&exchange, &sid).await;
    assert_eq!(call.status, CallStatus::Completed);
    assert_eq!(call.callbacks, CallEvent::ALL.map(|event| (event.as_str().to_owned(), Some(200))));
    let report = call.report.unwrap();
    assert_eq!(report.streams[0].ended, Ended::CallerHungUp, "{report}");
    let webhook = &server.seen("/voice/incoming")[0];
    for (name, expected) in [
        ("CallStatus", "in-progress"),
        ("Direction", "outbound-api"),
        ("CallSid", sid.as_str()),
        ("To", TO),
        ("From", FROM),
        ("ApiVersion", "2010-04-01"),
    ] {
        assert_eq!(value(webhook, name), Some(expected));
    }
    assert_eq!(value(webhook, "AnsweredBy"), None);
    let told = server.seen("/call/status");
    assert_eq!(values(&told, "CallStatus"), ["initiated", "ringing", "in-progress", "completed"]);
    assert_eq!(values(&told, "SequenceNumber"), ["0", "1", "2", "3"]);
    assert_eq!(values(&told, "CallbackSource"), ["call-progress-events"; 4]);
    assert_eq!(values(&told, "CallDuration"), ["-", "-", "-", "1"]);
    assert!(value(&told[0], "Timestamp").unwrap().ends_with(" +0000"));
    for seen in &told {
        let signature = sim::sign(STATUS, &seen.params, TOKEN);
        assert_eq!(seen.headers["x-twilio-signature"], signature);
    }
    let fetched = client.get(&format!("/Calls/{sid}.json")).await.json();
    assert_eq!((&fetched["status"], &fetched["duration"]), (&Value::from("completed"), &Value::from("1")));
}

#[tokio::test(start_paused = true)]
async fn only_the_end_is_told_when_nothing_else_is_asked_for() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    let sid = client.create(&call(&[("Url", URL), ("StatusCallback", STATUS)])).await;
    settled(&exchange, &sid).await;
    let told = server.seen("/call/status");
    assert_eq!(values(&told, "CallStatus"), ["completed"]);
    assert_eq!(values(&told, "SequenceNumber"), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_nobody_answers_end_as_planned() {
    let cases = [
        (Outcome::Busy, CallStatus::Busy, "486", &["initiated", "busy"][..]),
        (Outcome::Failed, CallStatus::Failed, "404", &["initiated", "failed"]),
        (Outcome::NoAnswer, CallStatus::NoAnswer, "487", &["initiated", "ringing", "no-answer"]),
    ];
    for (outcome, status, sip, told) in cases {
        let server = server();
        let (exchange, client) = start(plan(), &server).await;
        exchange.set_line(Some(TO), Line::of(outcome));
        let sid = client.create(&watched(&[("Url", URL)])).await;
        let call = settled(&exchange, &sid).await;
        assert_eq!((call.status, call.report.is_none()), (status, true));
        let seen = server.seen("/call/status");
        assert_eq!(values(&seen, "CallStatus"), told);
        assert_eq!(value(seen.last().unwrap(), "SipResponseCode"), Some(sip));
        assert!(server.seen("/voice/incoming").is_empty());
        let fetched = client.get(&format!("/Calls/{sid}.json")).await.json();
        assert_eq!((&fetched["duration"], &fetched["end_time"]), (&Value::Null, &Value::Null));
    }
}

#[tokio::test(start_paused = true)]
async fn it_rings_no_longer_than_the_timeout() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    exchange.set_line(None, Line { rings: SECOND * 100, ..Line::default() });
    let began = Instant::now();
    let sid = client.create(&call(&[("Url", URL), ("Timeout", "5")])).await;
    assert_eq!(settled(&exchange, &sid).await.status, CallStatus::NoAnswer);
    assert!((5.0..5.5).contains(&began.elapsed().as_secs_f64()));
}

#[tokio::test(start_paused = true)]
async fn callbacks_come_reversed_twice_or_not_at_all() {
    let cases = [
        (Delivery::Reversed, &["3", "2", "1", "0"][..]),
        (Delivery::Duplicated, &["0", "0", "1", "1", "2", "2", "3", "3"]),
        (Delivery::Losing(vec![CallEvent::Ringing, CallEvent::Completed]), &["0", "2"]),
    ];
    for (delivery, numbers) in cases {
        let server = server();
        let (exchange, client) = start(RestPlan { delivery, ..plan() }, &server).await;
        let sid = client.create(&watched(&[("Url", URL)])).await;
        settled(&exchange, &sid).await;
        assert_eq!(values(&server.seen("/call/status"), "SequenceNumber"), numbers);
    }
}

#[tokio::test(start_paused = true)]
async fn synchronous_detection_delays_the_webhook_and_is_told_there() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    let line = Line { answered_by: AnsweredBy::MachineStart, detected_after: SECOND * 4, ..plan().line };
    exchange.set_line(None, line);
    let began = Instant::now();
    let sid = client.create(&call(&[("Url", URL), ("MachineDetection", "DetectMessageEnd")])).await;
    let placed = settled(&exchange, &sid).await;
    assert_eq!(placed.answered_by, Some("machine_end_beep"));
    assert!(began.elapsed() > SECOND * 5, "four for the machine and one for the call");
    assert_eq!(value(&server.seen("/voice/incoming")[0], "AnsweredBy"), Some("machine_end_beep"));
    let sid = client.create(&call(&[("Url", URL), ("MachineDetection", "Enable"), ("SendDigits", "1")])).await;
    assert_eq!(settled(&exchange, &sid).await.answered_by, None, "digits cancel the detection");
    let limited = call(&[("Url", URL), ("MachineDetection", "Enable"), ("MachineDetectionTimeout", "3")]);
    let sid = client.create(&limited).await;
    assert_eq!(settled(&exchange, &sid).await.answered_by, Some("unknown"));
}

#[tokio::test(start_paused = true)]
async fn asynchronous_detection_is_told_while_the_call_goes_on() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    exchange.set_line(
        None,
        Line {
            answered_by: AnsweredBy::MachineEndBeep,
            detected_after: Duration::from_millis(500),
            speech: plan().line.speech,
            hangup_after: Some(SECOND),
            ..Line::default()
        },
    );
    let detection = [
        ("Url", URL),
        ("MachineDetection", "DetectMessageEnd"),
        ("AsyncAmd", "true"),
        ("AsyncAmdStatusCallback", "https://demo.example/amd"),
        ("StatusCallback", STATUS),
    ];
    let sid = client.create(&call(&detection)).await;
    let placed = settled(&exchange, &sid).await;
    assert_eq!(placed.detection_callback, Some(Some(200)));
    assert_eq!(value(&server.seen("/voice/incoming")[0], "AnsweredBy"), None);
    let told = &server.seen("/amd")[0];
    for (name, expected) in [
        ("CallSid", sid.as_str()),
        ("AccountSid", rest_client::ACCOUNT),
        ("AnsweredBy", "machine_end_beep"),
        ("MachineDetectionDuration", "500"),
    ] {
        assert_eq!(value(told, name), Some(expected));
    }
    assert_eq!(told.params.len(), 4);
    assert_eq!(value(&server.seen("/call/status")[0], "AnsweredBy"), Some("machine_end_beep"));
}

#[tokio::test(start_paused = true)]
async fn a_live_call_is_hung_up_and_its_stream_told() {
    let ends = Arc::<Mutex<Vec<Message>>>::default();
    let kept = Arc::clone(&ends);
    let server = StandIn::new(move |mut socket: Socket| {
        let kept = Arc::clone(&kept);
        async move {
            while let Some(Ok(message)) = socket.next().await {
                kept.lock().unwrap().push(message);
            }
        }
    })
    .page("/call/status", 200, "");
    let (exchange, client) = start(plan(), &server).await;
    exchange.set_line(None, Line { hangup_after: Some(SECOND * 60), ..Line::default() });
    let sid = client.create(&call(&[("Url", URL), ("StatusCallback", STATUS)])).await;
    reaches(&exchange, &sid, CallStatus::InProgress).await;
    tokio::time::sleep(SECOND * 3).await;
    let canceled = client.update(&sid, &[("Status", "canceled")]).await;
    assert_eq!(canceled.refusal(), (400, 21220), "only what is queued or rings can be canceled");
    let reply = client.update(&sid, &[("Status", "completed")]).await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &Value::from("completed")));
    let placed = settled(&exchange, &sid).await;
    let report = placed.report.unwrap();
    assert_eq!(report.streams[0].ended, Ended::CallUpdated, "{report}");
    assert_eq!(report.status_callbacks[1], ("stream-stopped".to_owned(), Some(200)));
    assert!(report.actions.is_empty());
    let ends = std::mem::take(&mut *ends.lock().unwrap());
    let [.., stop, Message::Close(_)] = &ends[..] else { panic!("{:?}", ends.last()) };
    assert!(stop.to_text().unwrap().contains("\"event\":\"stop\""), "{stop:?}");
    assert_eq!(values(&server.seen("/call/status"), "CallDuration"), ["3"]);
    assert_eq!(client.update(&sid, &[("Status", "completed")]).await.refusal(), (400, 21220));
}

#[tokio::test(start_paused = true)]
async fn ended_calls_may_be_gone() {
    let server = server();
    let (exchange, client) = start(RestPlan { forgets_ended_calls: true, ..plan() }, &server).await;
    let sid = client.create(&call(&[("Url", URL)])).await;
    settled(&exchange, &sid).await;
    assert_eq!(client.update(&sid, &[("Status", "completed")]).await.refusal(), (404, 20404));
    let unknown = format!("CA{}", "0".repeat(32));
    assert_eq!(client.update(&unknown, &[("Status", "completed")]).await.refusal(), (404, 20404));
    assert_eq!(client.get(&format!("/Calls/{unknown}.json")).await.refusal(), (404, 20404));
}

#[tokio::test(start_paused = true)]
async fn calls_are_canceled_only_before_the_answer() {
    let server = server();
    let (exchange, client) = start(RestPlan { rate: Rate::default(), ..plan() }, &server).await;
    exchange.set_line(None, Line { rings: SECOND * 10, ..plan().line });
    let ringing = client.create(&watched(&[("Url", URL)])).await;
    let queued = client.create(&watched(&[("Url", URL)])).await;
    reaches(&exchange, &ringing, CallStatus::Ringing).await;
    assert_eq!(client.update(&ringing, &[("Twiml", WAITING)]).await.refusal(), (400, 21220));
    for sid in [&ringing, &queued] {
        let reply = client.update(sid, &[("Status", "canceled")]).await;
        assert_eq!((reply.status, &reply.json()["status"]), (200, &Value::from("canceled")));
        assert_eq!(settled(&exchange, sid).await.status, CallStatus::Canceled);
    }
    let told = values(&server.seen("/call/status"), "CallStatus");
    assert_eq!(told, ["initiated", "ringing", "canceled", "canceled"]);
    assert!(server.seen("/voice/incoming").is_empty());
}

#[tokio::test(start_paused = true)]
async fn other_twiml_replaces_what_runs() {
    let transfer = "<Response><Dial answerOnBridge='true' callerId='+15550199' action='/voice/dialled'>\
                    <Number>+15550123</Number></Dial></Response>";
    let server = server().page("/voice/dialled", 200, "<Response><Say>Good bye.</Say></Response>").page(
        "/transfer",
        200,
        transfer,
    );
    let (exchange, client) = start(plan(), &server).await;
    let transfer = Transfer::Completed(SECOND * 5);
    exchange.set_line(None, Line { hangup_after: Some(SECOND * 60), transfer, ..Line::default() });
    let sid = client.create(&call(&[("Url", URL)])).await;
    reaches(&exchange, &sid, CallStatus::InProgress).await;
    tokio::time::sleep(SECOND).await;
    let again = "<Response><Connect><Stream url='wss://demo.example/media'/></Connect></Response>";
    assert_eq!(client.update(&sid, &[("Twiml", again)]).await.status, 200);
    tokio::time::sleep(SECOND).await;
    assert_eq!(client.update(&sid, &[("Url", "https://demo.example/transfer")]).await.status, 200);
    let report = settled(&exchange, &sid).await.report.unwrap();
    let ends: Vec<Ended> = report.streams.iter().map(|stream| stream.ended).collect();
    assert_eq!(ends, [Ended::CallUpdated, Ended::CallUpdated], "{report}");
    assert_eq!(
        (report.dialled.as_slice(), report.said.as_slice()),
        (&["+15550123".into()][..], &["Good bye.".into()][..])
    );
    let dialled = &server.seen("/voice/dialled")[0];
    assert_eq!(value(dialled, "DialCallStatus"), Some("completed"));
    assert_eq!(value(dialled, "DialCallDuration"), Some("5"));
}

#[tokio::test(start_paused = true)]
async fn relative_addresses_in_twiml_given_as_text_lead_nowhere() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    let sid = client.create(&call(&[("Twiml", "<Response><Redirect>/voice/incoming</Redirect></Response>")])).await;
    let report = settled(&exchange, &sid).await.report.unwrap();
    let codes: Vec<Code> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::HttpRetrievalFailure]);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_is_asked_once_with_what_went_wrong() {
    let server = server().page("/broken", 500, "").page("/fallback", 200, "<Response><Say>Sorry.</Say></Response>");
    let (exchange, client) = start(plan(), &server).await;
    let urls = [("Url", "https://demo.example/broken"), ("FallbackUrl", "https://demo.example/fallback")];
    let sid = client.create(&call(&urls)).await;
    assert_eq!(settled(&exchange, &sid).await.report.unwrap().said, ["Sorry."]);
    let asked = &server.seen("/fallback")[0];
    assert_eq!(value(asked, "ErrorCode"), Some("11200"));
    assert_eq!(value(asked, "ErrorUrl"), Some("https://demo.example/broken"));
}

#[tokio::test(start_paused = true)]
async fn time_limits_end_calls_and_can_be_changed() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    exchange.set_line(None, Line { hangup_after: Some(SECOND * 600), ..Line::default() });
    for (given, changed, lasted) in [("7", None, "7"), ("500", Some("9"), "9")] {
        let sid = client.create(&call(&[("Url", URL), ("TimeLimit", given)])).await;
        reaches(&exchange, &sid, CallStatus::InProgress).await;
        if let Some(changed) = changed {
            assert_eq!(client.update(&sid, &[("TimeLimit", changed)]).await.status, 200);
        }
        settled(&exchange, &sid).await;
        assert_eq!(client.get(&format!("/Calls/{sid}.json")).await.json()["duration"], lasted);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_over_the_rate_wait_or_are_refused() {
    let server = server();
    let (exchange, client) = start(RestPlan { rate: Rate::default(), ..plan() }, &server).await;
    let began = Instant::now();
    let mut sids = Vec::new();
    for _ in 0..3 {
        sids.push(client.create(&call(&[("Url", URL)])).await);
    }
    for sid in &sids {
        settled(&exchange, sid).await;
    }
    assert!(began.elapsed() >= SECOND * 3, "dialled at 0, 1 and 2 s, and each lasts one");
    let waits: Vec<u64> = exchange.calls().iter().map(|call| call.queue_time.as_secs()).collect();
    assert_eq!(waits, [0, 1, 2]);
    let rate = Rate { refuses: true, ..Rate::default() };
    let (_exchange, client) = start(RestPlan { rate, ..plan() }, &server).await;
    client.create(&call(&[("Url", URL)])).await;
    assert_eq!(client.post("/Calls.json", &call(&[("Url", URL)])).await.refusal(), (429, 20429));
    tokio::time::sleep(SECOND).await;
    client.create(&call(&[("Url", URL)])).await;
}

#[tokio::test(start_paused = true)]
async fn faults_come_as_planned_and_are_in_the_log() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    let retry_after = Some(SECOND * 2);
    let own = RestError::new(400, 21215, "Account not authorized to call this number");
    for mishap in [
        Mishap::TooMany { retry_after },
        Mishap::TooMany { retry_after: None },
        Mishap::internal(),
        Mishap::Page { status: 502 },
        Mishap::unauthorized(),
        Mishap::not_found(),
        Mishap::Refused(own),
        Mishap::LostAnswer { carried_out: false },
        Mishap::LostAnswer { carried_out: true },
        Mishap::NoAnswer { carried_out: true },
        Mishap::Delay(SECOND * 20),
    ] {
        exchange.add_fault(Fault::on_create(mishap));
    }
    let fields = call(&[("Url", URL)]);
    let mut answers = Vec::new();
    let began = Instant::now();
    for _ in 0..11 {
        answers.push(timeout(SECOND * 60, client.ask("POST", &below("/Calls.json"), &fields)).await);
    }
    let statuses: Vec<Option<u16>> =
        answers.iter().map(|reply| reply.as_ref().ok()?.as_ref().map(|reply| reply.status)).collect();
    let expected = [429, 429, 500, 502, 401, 404, 400].map(Some);
    assert_eq!(statuses[..7], expected);
    assert_eq!(statuses[7..], [None, None, None, Some(201)]);
    assert!(answers[9].is_err(), "nothing ever came");
    assert!(began.elapsed() >= SECOND * 80);
    let first = answers[0].as_ref().unwrap().as_ref().unwrap();
    assert_eq!(first.refusal(), (429, 20429));
    assert!(first.head.contains("\r\nretry-after: 2\r\n"), "{first:?}");
    let page = answers[3].as_ref().unwrap().as_ref().unwrap();
    assert!(page.head.contains("text/html") && page.body.starts_with("<html>"), "{page:?}");
    // Lost after it was made, never answered, and answered late.
    assert_eq!(exchange.calls().len(), 3);
    let log = exchange.requests();
    assert!(log.iter().all(|asked| asked.method == "POST" && asked.fields.contains(&("To".into(), TO.into()))));
    assert_eq!(log.iter().map(|asked| asked.answered).collect::<Vec<_>>(), statuses);
    exchange.add_fault(Fault::on_create(Mishap::internal()).target(Target::Any).lasting(SECOND));
    assert_eq!(client.get("/Calls.json").await.refusal(), (500, 20500));
    tokio::time::sleep(SECOND).await;
    assert_eq!(client.get("/Calls.json").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_the_accounts_or_a_keys() {
    let server = server();
    let key = format!("SK{}", "1".repeat(32));
    let api_keys = vec![(key.clone(), "secret".to_owned())];
    let (exchange, client) = start(RestPlan { api_keys, ..plan() }, &server).await;
    let right = RestClient { user: key.clone(), password: "secret".into(), ..client.clone() };
    assert_eq!(right.get("/Calls.json").await.status, 200);
    for (user, password) in [(rest_client::ACCOUNT, "wrong"), (key.as_str(), TOKEN), ("", ""), ("AC1", TOKEN)] {
        let wrong = RestClient { user: user.into(), password: password.into(), ..client.clone() };
        let reply = wrong.get("/Calls.json").await;
        assert_eq!(reply.refusal(), (401, 20003));
        assert!(reply.head.contains("www-authenticate: basic"));
    }
    let foreign = format!("/2010-04-01/Accounts/AC{}/Calls.json", "1".repeat(32));
    assert_eq!(client.ask("GET", &foreign, &[]).await.unwrap().refusal(), (401, 20003));
    assert_eq!(client.ask("GET", "/2010-04-01/Nothing.json", &[]).await.unwrap().refusal(), (404, 20404));
    assert_eq!(client.ask("PUT", &below("/Calls.json"), &[]).await.unwrap().refusal(), (405, 20004));
    exchange.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_parameter_of_a_new_call_is_checked() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    let long = format!("<Response><Say>{}</Say></Response>", "x".repeat(4000));
    let application = format!("AP{}", "0".repeat(32));
    let bare: [(&[(&str, &str)], u64); 9] = [
        (&[("From", FROM), ("Url", URL)], 21201),
        (&[("To", ""), ("From", FROM), ("Url", URL)], 21201),
        (&[("To", "12"), ("From", FROM), ("Url", URL)], 21211),
        (&[("To", "+0123456789"), ("From", FROM), ("Url", URL)], 21211),
        (&[("To", "+15005550001"), ("From", FROM), ("Url", URL)], 21217),
        (&[("To", "+15005550003"), ("From", FROM), ("Url", URL)], 21215),
        (&[("To", TO), ("Url", URL)], 21213),
        (&[("To", TO), ("From", "me"), ("Url", URL)], 21212),
        (&[("To", TO), ("From", "+15550111"), ("Url", URL)], 21210),
    ];
    for (fields, code) in bare {
        assert_eq!(client.post("/Calls.json", fields).await.refusal(), (400, code), "{fields:?}");
    }
    let more: [(&[(&str, &str)], u64); 22] = [
        (&[], 21205),
        (&[("Url", "/voice")], 21205),
        (&[("Url", "ftp://demo.example/")], 21205),
        (&[("Url", "https://my_host.example/")], 21205),
        (&[("Twiml", &long)], 20001),
        (&[("ApplicationSid", &application)], 21218),
        (&[("Url", URL), ("Method", "PUT")], 21209),
        (&[("Url", URL), ("FallbackUrl", "fallback")], 21205),
        (&[("Url", URL), ("StatusCallback", "https://my_host.example/")], 21609),
        (&[("Url", URL), ("StatusCallback", STATUS), ("StatusCallbackMethod", "PATCH")], 21209),
        (&[("Url", URL), ("StatusCallbackEvent", "hung-up")], 20001),
        (&[("Url", URL), ("Timeout", "601")], 21208),
        (&[("Url", URL), ("Timeout", "soon")], 21208),
        (&[("Url", URL), ("TimeLimit", "0")], 20001),
        (&[("Url", URL), ("SendDigits", "12x")], 21206),
        (&[("Url", URL), ("SendDigits", "123456789012345678901234567890123")], 21206),
        (&[("Url", URL), ("MachineDetection", "Yes")], 20001),
        (&[("Url", URL), ("MachineDetectionTimeout", "60")], 20001),
        (&[("Url", URL), ("MachineDetectionSpeechThreshold", "999")], 20001),
        (&[("Url", URL), ("AsyncAmd", "maybe")], 20001),
        (&[("Url", URL), ("Record", "loud")], 20001),
        (&[("Url", URL), ("RecordingStatusCallbackEvent", "begun")], 20001),
    ];
    for (fields, code) in more {
        assert_eq!(client.post("/Calls.json", &call(fields)).await.refusal(), (400, code), "{fields:?}");
    }
    assert!(exchange.calls().is_empty(), "nothing was dialled");
    client.create(&call(&[("Url", URL), ("Volume", "11")])).await;
    assert_eq!(exchange.requests().last().unwrap().unknown, ["Volume"], "ignored, and seen");
}

#[tokio::test(start_paused = true)]
async fn calls_are_listed_by_page_and_filter() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    let mut sids = Vec::new();
    for n in 0..5 {
        let to = format!("+1555010{n}");
        sids.insert(0, client.create(&[("To", to.as_str()), ("From", FROM), ("Twiml", WAITING)]).await);
    }
    reaches(&exchange, &sids[0], CallStatus::InProgress).await;
    let mut uri = Some(below("/Calls.json?PageSize=2"));
    let (mut listed, mut pages) = (Vec::new(), 0);
    while let Some(next) = uri {
        let page = client.ask("GET", &next, &[]).await.unwrap().json();
        assert_eq!((&page["page"], &page["page_size"]), (&Value::from(pages), &Value::from(2)));
        let calls = page["calls"].as_array().unwrap();
        listed.extend(calls.iter().map(|call| call["sid"].as_str().unwrap().to_owned()));
        uri = page["next_page_uri"].as_str().map(ToOwned::to_owned);
        pages += 1;
        if pages == 1 {
            // What comes in front does not shift what is read on.
            client.create(&call(&[("Twiml", WAITING)])).await;
        }
    }
    assert_eq!((pages, &listed), (3, &sids));
    let count = async |query: &str| {
        let page = client.get(&format!("/Calls.json?{query}")).await.json();
        page["calls"].as_array().unwrap().len()
    };
    assert_eq!(count("To=%2B15550103").await, 1);
    assert_eq!(count("From=%2B15550199").await, 6);
    assert_eq!(count("Status=completed").await, 0);
    assert_eq!(count("StartTime%3E=2020-01-01").await, 6, "the newest has been dialled by now");
    assert_eq!(count("StartTime%3C=2020-01-01").await, 0);
    assert_eq!(count("Page=7").await, 0);
    for query in ["Status=gone", "PageSize=0", "Page=x", "PageToken=x", "StartTime=today"] {
        assert_eq!(client.get(&format!("/Calls.json?{query}")).await.refusal(), (400, 20001), "{query}");
    }
    let live = client.ask("DELETE", &below(&format!("/Calls/{}.json", sids[0])), &[]).await.unwrap();
    assert_eq!(live.refusal(), (400, 21220));
    client.update(&sids[0], &[("Status", "completed")]).await;
    settled(&exchange, &sids[0]).await;
    let ended = client.ask("DELETE", &below(&format!("/Calls/{}.json", sids[0])), &[]).await.unwrap();
    assert_eq!((ended.status, ended.body.as_str()), (204, ""));
    assert_eq!(client.get(&format!("/Calls/{}.json", sids[0])).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn numbers_are_looked_up_and_set_and_called() {
    let server = server().page("/number/status", 200, "");
    let number = OwnedNumber::new(FROM)
        .with("VoiceUrl", "https://demo.example/elsewhere")
        .with("StatusCallback", "https://demo.example/number/status");
    let numbers = vec![number.clone(), OwnedNumber::new("+442071838750")];
    let (exchange, client) = start(RestPlan { numbers, ..plan() }, &server).await;
    let found = client.get("/IncomingPhoneNumbers.json?PhoneNumber=%2B15550199").await.json();
    let found = found["incoming_phone_numbers"].as_array().unwrap();
    assert_eq!((found.len(), &found[0]["sid"]), (1, &Value::from(number.sid.as_str())));
    assert_eq!(found[0]["voice_url"], "https://demo.example/elsewhere");
    let path = format!("/IncomingPhoneNumbers/{}.json", number.sid);
    assert_eq!(client.post(&path, &[("VoiceUrl", "elsewhere")]).await.refusal(), (400, 21402));
    assert_eq!(client.post(&path, &[("VoiceMethod", "PUT")]).await.refusal(), (400, 21209));
    let reply = client.post(&path, &[("VoiceUrl", URL), ("VoiceMethod", "POST")]).await;
    assert_eq!((reply.status, &reply.json()["voice_url"]), (200, &Value::from(URL)));
    assert_eq!(client.get(&path).await.json(), reply.json());
    assert_eq!(client.get("/IncomingPhoneNumbers/PN1.json").await.refusal(), (404, 20404));
    let account = client.ask("GET", &below(".json"), &[]).await.unwrap().json();
    assert_eq!((&account["status"], &account["sid"]), (&Value::from("active"), &Value::from(rest_client::ACCOUNT)));

    assert!(exchange.call_in(TO, "+15550111", Line::default()).is_err());
    let sid = exchange.call_in(TO, FROM, plan().line).unwrap();
    let placed = settled(&exchange, &sid).await;
    assert_eq!((placed.status, placed.callbacks.len()), (CallStatus::Completed, 1));
    let webhook = &server.seen("/voice/incoming")[0];
    assert_eq!((value(webhook, "Direction"), value(webhook, "CallStatus")), (Some("inbound"), Some("ringing")));
    let told = &server.seen("/number/status")[0];
    assert_eq!((value(told, "CallStatus"), value(told, "CallDuration")), (Some("completed"), Some("1")));
    assert_eq!((value(told, "Direction"), value(told, "From")), (Some("inbound"), Some(TO)));
    let fetched = client.get(&format!("/Calls/{sid}.json")).await.json();
    assert_eq!((&fetched["direction"], &fetched["phone_number_sid"]), (&"inbound".into(), &number.sid.as_str().into()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_a_queue_is_taken_out_or_hangs_up() {
    let server = server();
    let (exchange, client) = start(plan(), &server).await;
    exchange.set_line(None, Line { hangup_after: Some(SECOND * 90), ..Line::default() });
    let queue = "<Response><Enqueue waitUrl='https://demo.example/music'>support</Enqueue></Response>";
    let (patient, impatient) =
        (client.create(&call(&[("Twiml", queue)])).await, client.create(&call(&[("Twiml", queue)])).await);
    reaches(&exchange, &impatient, CallStatus::InProgress).await;
    assert_eq!(client.update(&patient, &[("Twiml", "<Response><Say>Hello.</Say></Response>")]).await.status, 200);
    let taken = settled(&exchange, &patient).await.report.unwrap();
    assert_eq!((taken.queued.as_slice(), taken.said.as_slice()), (&["support".into()][..], &["Hello.".into()][..]));
    assert!(settled(&exchange, &impatient).await.report.unwrap().said.is_empty());
    assert_eq!(client.get(&format!("/Calls/{impatient}.json")).await.json()["duration"], "90");
}

#[tokio::test(start_paused = true)]
async fn a_single_caller_tells_the_numbers_status_callback() {
    let server = server().page("/voice/incoming", 200, "<Response><Reject reason='busy'/></Response>");
    let status_callback = Some((sim::Method::Post, STATUS.parse().unwrap()));
    let report = sim::Caller::new(sim::CallPlan { status_callback, ..server.start() }).place().await;
    assert_eq!(report.call_callbacks, [("completed".to_owned(), Some(200))]);
    let told = &server.seen("/call/status")[0];
    assert_eq!((value(told, "CallStatus"), value(told, "Direction")), (Some("busy"), Some("inbound")));
}

#[tokio::test(start_paused = true)]
async fn calls_without_a_gateway_are_answered_by_nobody() {
    let exchange = Exchange::start(plan()).await.unwrap();
    let client = RestClient::new(exchange.route(), TOKEN);
    let sid = client.create(&call(&[("Url", URL)])).await;
    let report = settled(&exchange, &sid).await.report.unwrap();
    assert_eq!(report.findings[0].code, Code::HttpConnectionFailure);
    exchange.stop().await;
}
