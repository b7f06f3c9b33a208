//! The REST half of the simulated Twilio against Twilio's published OpenAPI document: what it answers, and what it takes.
//!
//! The document is not part of this repository. `TANDEM_SPECS` names the folder it is in; without it, the tests say loudly
//! that they were skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "support/openapi.rs"]
mod openapi;
#[path = "support/rest_client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod rest_client;

use std::collections::BTreeSet;

use openapi::Spec;
use rest_client::RestClient;
use serde_json::Value;
use tests::sim::rest::{
    CREATE, CallStatus, Exchange, Kind, LIST_CALLS, LIST_NUMBERS, Line, Outcome, Rate, RestPlan, SETTINGS, UPDATE,
};

const TOKEN: &str = "12345";
const CALLS: &str = "/2010-04-01/Accounts/{AccountSid}/Calls.json";
const CALL: &str = "/2010-04-01/Accounts/{AccountSid}/Calls/{Sid}.json";
const NUMBERS: &str = "/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers.json";
const NUMBER: &str = "/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers/{Sid}.json";
const BASE: [(&str, &str); 2] = [("To", "+15550100"), ("From", "+15550199")];
const WAITING: &str = "<Response><Pause length=\"60\"/></Response>";

async fn start() -> (Exchange, RestClient) {
    let exchange = Exchange::start(RestPlan { rate: Rate::UNLIMITED, ..RestPlan::new(TOKEN) }).await.unwrap();
    let client = RestClient::new(exchange.route(), TOKEN);
    (exchange, client)
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(ToOwned::to_owned).collect()
}

#[test]
fn known_parameters_are_those_that_are_published() {
    let Some(spec) = Spec::calls() else { return };
    assert_eq!(set(CREATE), spec.form(CALLS, "post"));
    assert_eq!(set(UPDATE), spec.form(CALL, "post"));
    assert_eq!(set(LIST_CALLS), spec.query(CALLS));
    assert_eq!(set(LIST_NUMBERS), spec.query(NUMBERS));
    let settable = SETTINGS.iter().filter(|(_, _, kind)| *kind != Kind::Fixed).map(|(name, _, _)| *name);
    assert_eq!(set(settable), spec.form(NUMBER, "post"));
}

#[tokio::test(start_paused = true)]
async fn calls_in_every_state_fit_the_schema() {
    let Some(spec) = Spec::calls() else { return };
    let (exchange, client) = start().await;
    let mut seen = BTreeSet::new();
    let cases = [
        (Outcome::Answered, CallStatus::InProgress),
        (Outcome::Answered, CallStatus::Ringing),
        (Outcome::Answered, CallStatus::Queued),
        (Outcome::Busy, CallStatus::Busy),
        (Outcome::Failed, CallStatus::Failed),
        (Outcome::NoAnswer, CallStatus::NoAnswer),
    ];
    for (outcome, status) in cases {
        exchange.set_line(None, Line::of(outcome));
        let made = client.post("/Calls.json", &[&BASE[..], &[("Twiml", WAITING)]].concat()).await;
        spec.check(CALLS, "post", made.status, &made.json());
        let sid = made.json()["sid"].as_str().unwrap().to_owned();
        exchange.wait_for_call(|call| call.sid == sid && call.status == status).await.unwrap();
        let fetched = client.get(&format!("/Calls/{sid}.json")).await;
        spec.check(CALL, "get", fetched.status, &fetched.json());
        seen.insert(fetched.json()["status"].to_string());
        if !status.is_final() {
            let ended = client.update(&sid, &[("Status", "completed")]).await;
            spec.check(CALL, "post", ended.status, &ended.json());
            seen.insert(ended.json()["status"].to_string());
        }
    }
    let sid = exchange.call_in("+15550100", "+15550199", Line::default()).unwrap();
    let inbound = client.get(&format!("/Calls/{sid}.json")).await;
    spec.check(CALL, "get", inbound.status, &inbound.json());
    let published = spec.words("call_enum_status").iter().map(ToString::to_string).collect();
    assert_eq!(seen, published, "all states were seen");
    let listed = client.get("/Calls.json?PageSize=3&Page=1").await;
    assert_eq!(listed.json()["calls"].as_array().unwrap().len(), 3);
    spec.check(CALLS, "get", listed.status, &listed.json());
}

#[tokio::test(start_paused = true)]
async fn numbers_fit_the_schema_before_and_after_every_setting() {
    let Some(spec) = Spec::calls() else { return };
    let (_exchange, client) = start().await;
    let listed = client.get("/IncomingPhoneNumbers.json").await;
    spec.check(NUMBERS, "get", listed.status, &listed.json());
    let sid = listed.json()["incoming_phone_numbers"][0]["sid"].as_str().unwrap().to_owned();
    let path = format!("/IncomingPhoneNumbers/{sid}.json");
    let fields = spec.samples(NUMBER);
    for (name, value) in &fields {
        let changed = client.post(&path, &[(name, value)]).await;
        assert_eq!(changed.status, 200, "{name}={value}: {changed:?}");
        spec.check(NUMBER, "post", 200, &changed.json());
    }
    assert!(fields.len() > 20);
}

#[tokio::test(start_paused = true)]
async fn every_published_parameter_is_taken() {
    let Some(spec) = Spec::calls() else { return };
    let (exchange, client) = start().await;
    let mut taken = 0;
    for (name, value) in spec.samples(CALLS) {
        // There are no applications to be named.
        if ["To", "From", "ApplicationSid"].contains(&name.as_str()) {
            continue;
        }
        let instructions: &[(&str, &str)] =
            if ["Url", "Twiml"].contains(&name.as_str()) { &[] } else { &[("Twiml", WAITING)] };
        let fields = [&BASE[..], instructions, &[(&name, &value)]].concat();
        let made = client.post("/Calls.json", &fields).await;
        assert_eq!(made.status, 201, "{name}={value}: {made:?}");
        taken += 1;
    }
    assert_eq!(taken, CREATE.len() - 3);
    let unknown: Vec<String> = exchange.requests().into_iter().flat_map(|asked| asked.unknown).collect();
    assert_eq!(unknown, Vec::<String>::new());
}

#[test]
fn the_check_itself_finds_what_is_wrong() {
    let Some(spec) = Spec::calls() else { return };
    let good = spec.example(CALLS, "post", 201);
    spec.check(CALLS, "post", 201, &good);
    let is_refused = |change: fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(!spec.faults(CALLS, "post", 201, &bad).is_empty(), "{bad}");
    };
    is_refused(|call| call["sid"] = "CA1".into());
    is_refused(|call| call["duration"] = 15.into());
    is_refused(|call| call["status"] = "initiated".into());
    is_refused(|call| call["date_created"] = "2026-11-21".into());
    is_refused(|call| drop(call.as_object_mut().unwrap().remove("queue_time")));
    is_refused(|call| call["colour"] = "red".into());
}
