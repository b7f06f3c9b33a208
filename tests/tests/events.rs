//! Call events at a user's webhook, from real calls in both directions: in order, signed as the README says, again after
//! a failure, and not for ever.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::time::Duration;

use serde_json::json;
use telemetry::log::Format;
use tests::{
    line::Line,
    log::Log,
    receiver::{Answer, Delivery, Receiver},
    sim::rest::{self, AnsweredBy, Outcome},
    stack::{AUTH_TOKEN, Stack, StackPlan},
    world::{TO, World},
};

const SECRET: &str = "whsec-of-the-events-test";

/// Least pause before the second try: four seconds, and a quarter less by chance.
const FIRST_PAUSE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_inbound_call_is_told_from_answer_to_end() {
    let receiver = Receiver::start();
    let stack = told(&receiver).await;
    let plan = stack.call_plan();
    let mut line = Line::dial(&plan).await;
    line.assert_echoes().await;
    line.hang_up().await;
    let told = receiver.until_ended(line.call_sid()).await;
    assert_good(&told, &["call.answered", "call.ended"]);
    let [answered, ended] = [&told[0], &told[1]].map(|told| &told.event["call"]);
    assert_eq!((&answered["direction"], &answered["status"]), (&json!("inbound"), &json!("in-progress")));
    assert_eq!((&answered["from"], &answered["to"]), (&json!(plan.from), &json!(plan.to)));
    assert_eq!((&ended["status"], &ended["end_reason"]), (&json!("completed"), &json!("caller_hangup")));
    assert!(ended["counters"]["agent_frames"].as_u64().unwrap() > 0, "{ended}");
    assert!(told.iter().all(|told| told.target == "/calls?of=all"), "{told:?}");
    stack.stop().await;
    assert_eq!(receiver.seen().len(), 2, "nothing is told twice");
}

#[tokio::test]
async fn an_outbound_call_is_told_to_its_own_webhook_from_dialling_to_end() {
    let (everybodys, own) = (Receiver::start(), Receiver::start());
    let settings = |plan: StackPlan| with_events(plan, &everybodys);
    let world = World::with(settings, |plan| plan).await;
    // So slow that no callback overtakes another on a busy machine.
    let slow = rest::Line {
        setup: Duration::from_millis(500),
        rings: Duration::from_secs(1),
        answered_by: AnsweredBy::MachineStart,
        detected_after: Duration::from_millis(500),
        hangup_after: Some(Duration::from_secs(2)),
        ..rest::Line::default()
    };
    world.exchange.set_line(None, slow.clone());
    let body = json!({
        "to": TO, "parameters": {"order": "17"}, "answering_machine": {"mode": "detect"},
        "status_webhook": own.url("/mine"),
    });
    let placed = world.call(&body).await;
    assert_eq!(placed.status, 201, "{}", placed.json);
    let told = own.until_ended(placed.text("call_sid")).await;
    assert_good(&told, &["call.initiated", "call.ringing", "call.answered", "call.answered_by", "call.ended"]);
    for told in &told {
        let call = &told.event["call"];
        assert_eq!(
            (&call["id"], &call["to"], &call["direction"]),
            (&placed.json["id"], &json!(TO), &json!("outbound"))
        );
        assert_eq!((&call["parameters"]["order"], told.target.as_str()), (&json!("17"), "/mine"));
    }
    assert_eq!(told[3].event["call"]["answered_by"], "machine_start");
    assert_eq!(told[4].event["call"]["end_reason"], "caller_hangup");
    // One that nobody answers, told to everybody's.
    world.exchange.set_line(None, rest::Line { outcome: Outcome::NoAnswer, ..slow });
    let placed = world.call(&json!({"to": TO})).await;
    let told = everybodys.until_ended(placed.text("call_sid")).await;
    assert_good(&told, &["call.initiated", "call.ringing", "call.ended"]);
    assert_eq!(told[2].event["call"]["end_reason"], "no_answer");
    world.stop().await;
    assert_eq!((own.seen().len(), everybodys.seen().len()), (5, 3), "nothing is told twice");
}

#[tokio::test]
async fn after_an_error_the_same_event_comes_again_and_later_ones_of_its_call_wait() {
    let receiver = Receiver::answering(|delivery, before| {
        // Only one call's: others are not held up.
        let is_first =
            delivery.event["call"]["from"] == "+15550171" && delivery.kind() == "call.answered" && before == 0;
        Answer::from(if is_first { 500 } else { 204 })
    });
    let stack = told(&receiver).await;
    let mut plan = stack.call_plan();
    plan.from = "+15550171".into();
    let mut failed = Line::dial(&plan).await;
    failed.hang_up().await;
    receiver.wait_for("the first try", |seen| !seen.is_empty()).await;
    let mut other = Line::dial(&stack.call_plan()).await;
    other.hang_up().await;
    let others = receiver.until_ended(other.call_sid()).await;
    assert_good(&others, &["call.answered", "call.ended"]);
    let told = receiver.until_ended(failed.call_sid()).await;
    assert_tried_again(&told);
    assert!(others[1].at < told[1].at, "another call's events go on meanwhile");
    stack.stop().await;
}

#[tokio::test]
async fn what_a_webhook_misses_while_it_is_down_it_gets_when_it_is_up() {
    let mut receiver = Receiver::closed();
    let stack = told(&receiver).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.hang_up().await;
    log().wait_for(&["event not delivered", "no connection", "call.answered"]).await;
    receiver.open();
    let told = receiver.until_ended(line.call_sid()).await;
    assert_good(&told, &["call.answered", "call.ended"]);
    stack.stop().await;
}

#[tokio::test]
async fn an_event_is_not_tried_for_ever() {
    // A pause of an hour is more than there is; 400 is a refusal; 410 is one for all that comes.
    let receiver = Receiver::answering(|delivery, _| match delivery.event["call"]["from"].as_str().unwrap() {
        "+15550181" => Answer { status: 503, retry_after: Some(3600) },
        "+15550182" => 400.into(),
        "+15550183" => 410.into(),
        _ => 204.into(),
    });
    let stack = told(&receiver).await;
    for (from, expected) in [
        ("+15550181", &["call.answered", "call.ended"][..]),
        ("+15550182", &["call.answered", "call.ended"]),
        ("+15550183", &["call.answered"]),
    ] {
        let mut plan = stack.call_plan();
        plan.from = from.into();
        let mut line = Line::dial(&plan).await;
        let call_sid = line.call_sid().to_owned();
        let of = |seen: &[Delivery]| seen.iter().filter(|seen| seen.call_sid() == call_sid).count();
        receiver.wait_for("the answer", |seen| of(seen) == 1).await;
        line.hang_up().await;
        // What is still to be told of it is told no later than what happens after it.
        let mut next = Line::dial(&stack.call_plan()).await;
        next.hang_up().await;
        receiver.until_ended(next.call_sid()).await;
        let told = receiver.wait_for("the rest", |seen| of(seen) >= expected.len()).await;
        let told: Vec<_> = told.into_iter().filter(|told| told.call_sid() == call_sid).collect();
        assert_good(&told, expected);
    }
    stack.stop().await;
    assert_eq!(receiver.seen().len(), 5 + 6, "nothing is tried again");
}

#[tokio::test]
async fn a_webhook_that_is_down_holds_no_gateway_up() {
    let receiver = Receiver::closed();
    let stack = told(&receiver).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.hang_up().await;
    // Panics when it does not end; that it gave up is in the log.
    stack.stop().await;
    log().wait_for(&["not all reached their webhook in time", r#""waiting":2"#]).await;
}

/// The pair, whose gateway tells `receiver` about all calls.
async fn told(receiver: &Receiver) -> Stack {
    log();
    Stack::start(with_events(StackPlan::default(), receiver)).await
}

fn with_events(plan: StackPlan, receiver: &Receiver) -> StackPlan {
    plan.gateway("EVENTS_URL", &receiver.url("/calls?of=all")).gateway("EVENTS_SECRET", SECRET)
}

/// Panics unless these are events of these kinds, in this order, each once, signed, of one call, and ever later.
fn assert_good(told: &[Delivery], kinds: &[&str]) {
    assert_eq!(told.iter().map(Delivery::kind).collect::<Vec<_>>(), kinds);
    for told in told {
        assert_signed(told);
        assert_eq!(told.header("content-type"), "application/json");
        assert!(told.id().starts_with("evt_") && told.header("tandem-event-id") == told.id(), "{told:?}");
    }
    for pair in told.windows(2) {
        assert_ne!(pair[0].id(), pair[1].id());
        assert_eq!(pair[0].event["call"]["id"], pair[1].event["call"]["id"]);
        assert!(pair[0].event["created_at"].as_str().unwrap() <= pair[1].event["created_at"].as_str().unwrap());
    }
}

/// Panics unless the first event came twice, the same but for its signature, before the second.
fn assert_tried_again(told: &[Delivery]) {
    assert_eq!(told.iter().map(Delivery::kind).collect::<Vec<_>>(), ["call.answered", "call.answered", "call.ended"]);
    told.iter().for_each(assert_signed);
    assert_eq!((told[0].id(), &told[0].body), (told[1].id(), &told[1].body));
    assert_eq!(told[0].header("tandem-event-id"), told[1].header("tandem-event-id"));
    assert_ne!(told[0].header("tandem-signature"), told[1].header("tandem-signature"), "signed anew");
    assert!(told[1].at - told[0].at >= FIRST_PAUSE, "{:?}", told[1].at - told[0].at);
}

/// Panics unless the event is signed with our secret, by no other, and in each byte.
fn assert_signed(told: &Delivery) {
    assert!(told.is_signed_with(SECRET), "{told:?}");
    assert!(!told.is_signed_with(AUTH_TOKEN));
    let mut forged = told.body.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(!tests::receiver::is_signed(told.header("tandem-signature"), &forged, SECRET));
}

fn log() -> &'static Log {
    Log::of_process(Format::Json, "gateway=info,telemetry=info")
}
