//! Calls that are placed, watched, steered and ended through the calls API, over the simulated account and the whole pair.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    calls_api::ApiClient,
    line::{document, is_fallback, signed},
    scripted::{Told, WORDS_HZ},
    signal,
    sim::{
        Delivery, decode_mulaw,
        rest::{AnsweredBy, CallStatus, Fault, Line, Mishap, Outcome, RestPlan, Target},
    },
    stack::{Stack, StackPlan, eventually},
    world::{ACCOUNT, TO, TOKEN, World},
};

#[tokio::test]
async fn a_call_is_placed_carried_and_told_to_its_end() {
    let world = World::start().await;
    world.exchange.set_line(None, Line { hangup_after: Some(Duration::from_secs(3)), ..Line::default() });
    let placed = world.call(&json!({"to": TO, "ring_timeout_s": 20, "time_limit_s": 60, "recording": "dual"})).await;
    assert_eq!(placed.status, 201, "{}", placed.json);
    let (id, sid) = (placed.text("id"), placed.text("call_sid"));
    assert!(id.starts_with("call_") && sid.starts_with("CA") && placed.json["direction"] == "outbound");
    let live = world.until(sid, |call| call["stream"] == "live" && call["counters"]["agent_frames"] != 0).await;
    assert_eq!((&live["id"], &live["status"]), (&json!(id), &json!("in-progress")));
    let call = world.settled(sid).await;
    let report = call.report.unwrap();
    assert!(report.is_ok() && report.streams[0].echo.is_some_and(|echo| echo.snr_db > 20.0), "{report}");
    let ended = world.until(id, |call| !call["ended_at"].is_null()).await;
    assert_eq!((&ended["status"], &ended["end_reason"]), (&json!("completed"), &json!("caller_hangup")));
    assert!(ended["counters"]["caller_ms"].as_u64().unwrap() > 2500, "{ended}");
    let asked = |name: &str| call.asked.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!(
        (asked("Timeout"), asked("TimeLimit"), asked("RecordingChannels")),
        (Some("20"), Some("60"), Some("dual"))
    );
    assert!(call.callbacks.iter().all(|(_, status)| *status == Some(204)), "{:?}", call.callbacks);
    world.stop().await;
}

#[tokio::test]
async fn a_bundle_tells_the_story_of_a_call_and_no_number() {
    let world = World::start().await;
    let placed = world.talking("scripted").await;
    let id = placed.text("id");
    for hold in [true, false] {
        assert_eq!(world.patch(id, json!({"hold": hold})).await.status, 200);
    }
    assert_eq!(world.api.delete(&format!("/v1/calls/{id}")).await.status, 204);
    world.settled(placed.text("call_sid")).await;
    world.until(id, |call| !call["ended_at"].is_null()).await;
    let bundle = world.api.get(&format!("/v1/calls/{id}/debug")).await.json;
    let timeline = bundle["timeline"].as_array().unwrap();
    let told: Vec<_> =
        timeline.iter().map(|entry| [&entry["what"], &entry["detail"]].map(|it| it.as_str().unwrap())).collect();
    let mut story = [
        ["status", "dialling"],
        ["status", "in-progress"],
        ["stream_began", ""],
        ["instruction", "hold"],
        ["instruction", "resume"],
        ["stream_ended", "api_hangup"],
        ["status", "completed"],
    ]
    .into_iter();
    let missing = story.find(|entry| !told.contains(entry));
    assert_eq!(missing, None, "{told:?}");
    assert!(timeline.is_sorted_by_key(|entry| entry["after_ms"].as_u64()), "{timeline:?}");
    assert_eq!(bundle["call"]["end_reason"], "api_hangup");
    assert!(bundle["counters"]["marks_sent"].is_u64(), "{bundle}");
    assert!(!bundle.to_string().contains(TO), "{bundle}");
    world.api.get("/v1/calls/CA1/debug").await.assert_problem(404, "call_unknown");
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_another_gateway_placed_goes_to_its_agent() {
    let world = World::start().await;
    let plan = StackPlan::default().gateway("API_TOKENS", TOKEN).gateway("DEFAULT_AGENT", "scripted");
    let other = Stack::start(plan.agents(world.notes.agents())).await;
    let api = ApiClient { gateway: other.gateway_address(), token: TOKEN.into() };
    world.exchange.set_gateway(other.for_exchange());
    world.exchange.set_line(None, Line { hangup_after: Some(Duration::from_secs(3)), ..Line::default() });
    let placed = world.call(&json!({"to": TO, "agent": "echo", "language": "ja"})).await;
    let report = world.settled(placed.text("call_sid")).await.report.unwrap();
    assert!(report.is_ok() && report.streams[0].echo.is_some_and(|echo| echo.snr_db > 20.0), "{report}");
    eventually("it ends where it was answered", async || {
        let call = api.get(&format!("/v1/calls/{}", placed.text("id"))).await.json;
        assert_eq!(
            [&call["call_sid"], &call["direction"], &call["agent"], &call["language"], &call["to"]],
            [&placed.json["call_sid"], &json!("outbound"), &json!("echo"), &json!("ja"), &json!(TO)],
        );
        call["status"] == "completed"
    })
    .await;
    // An address that names no agent, or an id that is none of ours, gets the fallback.
    let plan = other.call_plan();
    for target in ["call_00000000000000000000000000000000", "call_1?agent=echo", "mine?agent=echo"] {
        let fields = plan.parameters("CA00000000000000000000000000000009", "in-progress");
        let reply = signed(&plan, &format!("/voice/outbound/{target}"), fields).await;
        assert!(is_fallback(&document(&reply).verbs), "{target}: {}", reply.body);
    }
    other.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn the_documented_form_dials_and_connects_to_our_own_stream() {
    let world = World::start().await;
    world.exchange.set_line(None, Line { hangup_after: Some(Duration::from_secs(2)), ..Line::default() });
    let path = "/call/outbound?to_number=%2B15550100&websocket_url=wss%3A%2F%2Fgateway.example%2Fws";
    let placed = world.api.ask("POST", path, &[], None).await;
    assert_eq!(placed.status, 201, "{}", placed.json);
    let report = world.settled(placed.text("call_sid")).await.report.unwrap();
    assert!(report.is_ok() && report.streams[0].echo.is_some(), "{report}");
    let foreign = path.replace("gateway.example", "evil.example");
    world.api.ask("POST", &foreign, &[], None).await.assert_problem(403, "stream_host_not_allowed");
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_waits_has_an_id_of_ours_and_can_be_called_off() {
    let slow = |plan: StackPlan| plan.gateway("OUTBOUND_CALLS_PER_SECOND", "1").gateway("OUTBOUND_QUEUE", "2");
    let world = World::with(slow, |plan| plan).await;
    let calls = async || world.call(&json!({"to": TO})).await;
    // The first goes at once, the second waits its second out, and two more wait for their turn behind it.
    let first = calls().await;
    assert_eq!(first.status, 201);
    let (second, third) = tokio::join!(calls(), async {
        eventually("the second waits", async || {
            world.api.get("/v1/calls?state=live").await.json["calls"].as_array().unwrap().len() >= 2
        })
        .await;
        calls().await
    });
    assert_eq!((second.status, third.status), (201, 202));
    assert!(third.json["call_sid"].is_null() && third.text("status") == "waiting", "{}", third.json);
    let id = third.text("id");
    assert_eq!(world.api.delete(&format!("/v1/calls/{id}")).await.status, 204);
    let gone = world.get(id).await;
    assert_eq!((&gone["status"], &gone["end_reason"]), (&json!("canceled"), &json!("api_hangup")));
    assert_eq!(world.api.delete(&format!("/v1/calls/{id}")).await.status, 204, "already gone is success");
    // Calls are dialled in the order in which they were asked for: with the next one its turn has passed.
    let fourth = calls().await;
    let dialled = world.until(fourth.text("id"), |call| call["call_sid"].is_string()).await;
    let sids = [&first, &second].map(|call| call.text("call_sid").to_owned());
    let made: Vec<String> = world.exchange.calls().into_iter().map(|call| call.sid).collect();
    assert_eq!(made, [&sids[..], &[dialled["call_sid"].as_str().unwrap().to_owned()]].concat(), "it was never dialled");
    world.stop().await;
}

#[tokio::test]
async fn the_same_key_is_the_same_call() {
    let world = World::start().await;
    let ask = async |key: &str, body: &Value| {
        world.api.ask("POST", "/v1/calls", &[("Idempotency-Key", key)], Some(body.to_string())).await
    };
    let body = json!({"to": TO});
    let (a, b, c) = tokio::join!(ask("one", &body), ask("one", &body), ask("one", &body));
    assert!([&a, &b, &c].iter().all(|answer| answer.text("id") == a.text("id")), "{} {} {}", a.json, b.json, c.json);
    assert_eq!(ask("one", &body).await.text("id"), a.text("id"));
    ask("one", &json!({"to": "+15550101"})).await.assert_problem(422, "idempotency_key_reused");
    assert_ne!(ask("two", &body).await.text("id"), a.text("id"));
    assert_eq!(world.exchange.calls().len(), 2);
    world.stop().await;
}

#[tokio::test]
async fn what_may_have_dialled_is_said_so_and_never_tried_again() {
    let world = World::start().await;
    let line = Line { hangup_after: Some(Duration::from_secs(1)), ..Line::default() };
    world.exchange.set_line(None, line);
    world.exchange.add_fault(Fault::on_create(Mishap::LostAnswer { carried_out: true }));
    let lost = world.call(&json!({"to": TO})).await;
    lost.assert_problem(502, "may_have_dialled");
    assert!(lost.text("detail").contains("GET /v1/calls/"), "how to check: {}", lost.json);
    let id = lost.text("call_id").to_owned();
    // Twilio's callbacks prove that it was.
    let call = world.until(&id, |call| !call["call_sid"].is_null() && !call["ended_at"].is_null()).await;
    assert_eq!(call["status"], "completed");
    assert_eq!(world.exchange.calls().len(), 1);
    for mishap in [Mishap::LostAnswer { carried_out: false }, Mishap::internal(), Mishap::Page { status: 502 }] {
        let before = world.exchange.requests().len();
        world.exchange.add_fault(Fault::on_create(mishap));
        let lost = world.call(&json!({"to": TO})).await;
        lost.assert_problem(502, "may_have_dialled");
        assert_eq!(world.get(lost.text("call_id")).await["status"], "unknown");
        assert_eq!(world.exchange.requests().len(), before + 1, "asked once");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_twilio_refuses_reaches_the_user_with_its_code() {
    let world = World::start().await;
    let not_ours = world.call(&json!({"to": TO, "from": "+15550177"})).await;
    not_ours.assert_problem(422, "twilio_refused");
    assert_eq!(not_ours.json["twilio_code"], 21210);
    assert!(not_ours.text("more_info").contains("21210"), "{}", not_ours.json);
    let call = world.get(not_ours.text("call_id")).await;
    assert_eq!((&call["status"], &call["error"]["code"]), (&json!("failed"), &json!("twilio_refused")));
    world.exchange.add_fault(Fault::on_create(Mishap::unauthorized()));
    world.call(&json!({"to": TO})).await.assert_problem(502, "twilio_credentials");
    world.exchange.add_fault(Fault::on_create(Mishap::not_found()));
    world.call(&json!({"to": TO})).await.assert_problem(502, "twilio_not_found");
    // Only "too many" is tried again.
    world.exchange.add_fault(Fault::on_create(Mishap::TooMany { retry_after: Some(Duration::from_secs(1)) }));
    let placed = world.call(&json!({"to": TO})).await;
    assert_eq!(placed.status, 201, "{}", placed.json);
    assert_eq!(world.exchange.calls().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_twilio_that_throttles_for_long_leaves_the_call_waiting_its_answer() {
    let world = World::start().await;
    let many = Fault::on_create(Mishap::TooMany { retry_after: None }).lasting(Duration::from_secs(60));
    world.exchange.add_fault(many);
    let placed = world.call(&json!({"to": TO})).await;
    assert_eq!((placed.status, placed.text("status")), (202, "dialling"), "{}", placed.json);
    assert_eq!(world.api.delete(&format!("/v1/calls/{}", placed.text("id"))).await.status, 204);
    world.stop().await;
}

#[tokio::test]
async fn an_end_that_twilio_throttles_for_long_is_asked_for_on() {
    let world = World::start().await;
    world.exchange.set_line(None, Line { rings: Duration::from_secs(60), ..Line::default() });
    let placed = world.call(&json!({"to": TO})).await;
    let id = placed.text("id");
    world.until(id, |call| call["status"] == "ringing").await;
    // Twilio asks for a pause that is longer than any try.
    let later = Mishap::TooMany { retry_after: Some(Duration::from_secs(300)) };
    world.exchange.add_fault(Fault::on_create(later).target(Target::Update));
    let refused = world.api.delete(&format!("/v1/calls/{id}")).await;
    refused.assert_problem(502, "not_ended");
    assert_eq!(refused.headers["retry-after"], "300");
    let many = Fault::on_create(Mishap::TooMany { retry_after: None }).target(Target::Update);
    world.exchange.add_fault(many.lasting(Duration::from_secs(8)));
    // Longer than anybody is kept waiting.
    let waiting = world.api.delete(&format!("/v1/calls/{id}")).await;
    assert_eq!((waiting.status, waiting.text("status")), (202, "ringing"), "{}", waiting.json);
    let ended = world.until(id, |call| !call["ended_at"].is_null()).await;
    assert_ne!(ended["end_reason"], "caller_hangup");
    world.stop().await;
}

#[tokio::test]
async fn each_outcome_is_told_however_its_callbacks_come() {
    let reversed = |plan: RestPlan| RestPlan { delivery: Delivery::Reversed, ..plan };
    let world = World::with(|plan| plan, reversed).await;
    for (outcome, status, reason) in [
        (Outcome::Busy, "busy", "busy"),
        (Outcome::NoAnswer, "no-answer", "no_answer"),
        (Outcome::Failed, "failed", "failed"),
        (Outcome::Answered, "completed", "caller_hangup"),
    ] {
        world.exchange.set_line(
            None,
            Line {
                outcome,
                rings: Duration::from_millis(100),
                hangup_after: Some(Duration::from_millis(500)),
                ..Line::default()
            },
        );
        let placed = world.call(&json!({"to": TO, "ring_timeout_s": 5})).await;
        world.settled(placed.text("call_sid")).await;
        let ended = world.until(placed.text("id"), |call| !call["ended_at"].is_null()).await;
        assert_eq!((&ended["status"], &ended["end_reason"]), (&json!(status), &json!(reason)));
    }
    world.stop().await;
}

#[tokio::test]
async fn an_answering_machine_is_told_to_the_agent() {
    let world = World::start().await;
    world.exchange.set_line(
        None,
        Line {
            answered_by: AnsweredBy::MachineStart,
            detected_after: Duration::from_millis(300),
            hangup_after: Some(Duration::from_secs(3)),
            ..Line::default()
        },
    );
    let body = json!({"to": TO, "agent": "scripted", "answering_machine": {"mode": "detect", "timeout_s": 10}});
    let placed = world.call(&body).await;
    let sid = placed.text("call_sid");
    world.until(sid, |call| call["answered_by"] == "machine_start").await;
    let told = Told::Notice("answered_by".into(), "machine_start".into());
    eventually("the agent is told", async || world.notes.of(sid).contains(&told)).await;
    assert_eq!(world.settled(sid).await.detection_callback, Some(Some(204)));
    world.stop().await;
}

#[tokio::test]
async fn a_live_call_is_steered() {
    let world = World::start().await;
    let placed = world.talking("scripted").await;
    let (id, sid) = (placed.text("id").to_owned(), placed.text("call_sid").to_owned());
    let ok = async |change: Value| {
        let answer = world.patch(&id, change.clone()).await;
        assert_eq!(answer.status, 200, "{change}: {}", answer.json);
        answer.json
    };
    assert_eq!(ok(json!({"hold": true})).await["stream"], "held");
    assert_eq!(ok(json!({"hold": false})).await["stream"], "live");
    ok(json!({"say": "Hello there."})).await;
    ok(json!({"play_digits": "12#"})).await;
    world.patch(&id, json!({"agent": "nobody"})).await.assert_problem(422, "agent_unknown");
    eventually("the agent heard", async || {
        let told = world.notes.of(&sid);
        told.contains(&Told::Say("Hello there.".into())) && told.contains(&Told::Held(false))
    })
    .await;
    // What was said and played is heard before the transfer.
    ok(json!({"transfer": "+15550111"})).await;
    let report = world.settled(&sid).await.report.unwrap();
    assert_eq!(report.dialled, ["+15550111"]);
    let heard = decode_mulaw(&report.streams[0].heard);
    assert_eq!(signal::keys_in(&heard), "12#");
    assert!(signal::tone_onset(&heard, WORDS_HZ, tests::scripted::AMPLITUDE).is_some());
    let ended = world.until(&id, |call| !call["ended_at"].is_null()).await;
    assert_eq!(ended["end_reason"], "api_transfer");
    world.patch(&id, json!({"hold": true})).await.assert_problem(409, "call_over");
    world.stop().await;
}

#[tokio::test]
async fn an_agent_without_a_voice_borrows_the_carriers_and_another_agent_can_take_over() {
    let world = World::start().await;
    let placed = world.talking("echo").await;
    let (id, sid) = (placed.text("id").to_owned(), placed.text("call_sid").to_owned());
    let said = world.patch(&id, json!({"say": "One moment <please>."})).await;
    assert_eq!(said.status, 200, "{}", said.json);
    eventually("there is a second stream", async || {
        let call = world.get(&id).await;
        call["stream"] == "live" && call["stream_ended_at"].is_string()
    })
    .await;
    let handed = world.patch(&id, json!({"agent": "scripted"})).await;
    assert_eq!((handed.status, handed.text("agent")), (200, "scripted"), "{}", handed.json);
    eventually("it took over", async || world.notes.of(&sid).contains(&Told::TookOverFrom("echo".into()))).await;
    assert_eq!(world.api.delete(&format!("/v1/calls/{sid}")).await.status, 204);
    let report = world.settled(&sid).await.report.unwrap();
    assert_eq!((report.said.as_slice(), report.streams.len()), (&["One moment <please>.".to_owned()][..], 2));
    let ended = world.until(&id, |call| !call["ended_at"].is_null()).await;
    assert_eq!((&ended["status"], &ended["end_reason"]), (&json!("completed"), &json!("api_hangup")));
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_rings_is_ended_at_twilio_and_one_that_is_gone_there_is_a_success() {
    let world = World::start().await;
    world.exchange.set_line(None, Line { rings: Duration::from_secs(30), ..Line::default() });
    let placed = world.call(&json!({"to": TO})).await;
    let (id, sid) = (placed.text("id"), placed.text("call_sid"));
    world.until(id, |call| call["status"] == "ringing").await;
    world.patch(id, json!({"hold": true})).await.assert_problem(409, "call_not_live");
    assert_eq!(world.api.delete(&format!("/v1/calls/{id}")).await.status, 204);
    let call = world.settled(sid).await;
    assert!(matches!(call.status, CallStatus::Canceled | CallStatus::Completed), "{:?}", call.status);
    let placed = world.call(&json!({"to": TO})).await;
    world.exchange.add_fault(Fault::on_create(Mishap::not_found()).target(Target::Update));
    assert_eq!(world.api.delete(&format!("/v1/calls/{}", placed.text("id"))).await.status, 204);
    world.stop().await;
}

#[tokio::test]
async fn the_spend_guard_stands_before_twilio() {
    let tight = |plan: StackPlan| plan.gateway("OUTBOUND_PER_TO_PER_HOUR", "1").gateway("OUTBOUND_MAX_CALLS", "2");
    let world = World::with(tight, |plan| plan).await;
    world.exchange.set_line(None, Line { rings: Duration::from_secs(30), ..Line::default() });
    assert_eq!(world.call(&json!({"to": TO})).await.status, 201);
    world.call(&json!({"to": TO})).await.assert_problem(429, "spend_limit");
    assert_eq!(world.call(&json!({"to": "+15550101"})).await.status, 201);
    world.call(&json!({"to": "+15550102"})).await.assert_problem(429, "spend_limit");
    assert_eq!(world.exchange.calls().len(), 2);
    world.stop().await;
}

#[tokio::test]
async fn calls_are_listed_page_by_page_and_only_to_those_with_a_token() {
    let world = World::start().await;
    let mut line = tests::line::Line::dial(&world.stack.call_plan()).await;
    let placed = world.talking("echo").await;
    let page = world.api.get("/v1/calls?limit=1").await.json;
    assert_eq!(page["calls"][0]["id"], placed.json["id"], "the newest first");
    let next = world.api.get(&format!("/v1/calls?limit=1&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!(
        (&next.json["calls"][0]["call_sid"], &next.json["next_cursor"]),
        (&json!(line.call_sid()), &Value::Null)
    );
    assert_eq!(next.json["calls"][0]["direction"], "inbound");
    // An inbound call is steered like any other.
    let held = world.patch(line.call_sid(), json!({"hold": true})).await;
    assert_eq!(held.status, 200, "{}", held.json);
    assert_eq!(world.api.delete(&format!("/v1/calls/{}", line.call_sid())).await.status, 204);
    assert_eq!(line.close_code().await, Some(1000));
    assert!(matches!(line.after().await[..], [tests::sim::Verb::Hangup]));
    let stranger = ApiClient { token: "token-of-somebody-else".into(), ..world.api.clone() };
    for (method, path) in [("GET", "/v1/calls"), ("GET", "/v1/calls/CA1"), ("DELETE", "/v1/calls/CA1")] {
        let refused = stranger.ask(method, path, &[], None).await;
        refused.assert_problem(401, "unauthorized");
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
    world.api.get("/v1/calls/CA99999999999999999999999999999999").await.assert_problem(404, "call_unknown");
    for bad in ["limit=0", "limit=x", "cursor=y", "state=gone"] {
        world.api.get(&format!("/v1/calls?{bad}")).await.assert_problem(400, "field_invalid");
    }
    world.stop().await;
}

#[tokio::test]
async fn without_tokens_the_api_is_off_and_without_an_account_nothing_is_dialled() {
    let stack = Stack::start_default().await;
    let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
    api.get("/v1/calls").await.assert_problem(503, "api_off");
    stack.stop().await;
    let plan = StackPlan::default().gateway("API_TOKENS", TOKEN).gateway("OUTBOUND_ALLOW", "+1555");
    let stack = Stack::start(plan.gateway("TWILIO_PHONE_NUMBER", "+15550199")).await;
    let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
    let refused = api.post("/v1/calls", &json!({"to": TO})).await;
    refused.assert_problem(503, "twilio_not_configured");
    assert!(refused.text("detail").contains("TWILIO_ACCOUNT_SID"), "{}", refused.json);
    stack.stop().await;
}

#[tokio::test]
async fn nobody_is_called_for_an_agent_that_no_worker_has() {
    let world = World::start().await;
    let unknown = world.call(&json!({"to": TO, "agent": "nobody"})).await;
    unknown.assert_problem(422, "agent_unknown");
    assert!(unknown.text("detail").contains("echo, scripted"), "{}", unknown.json);
    world.stop().await;
    let stack = StackPlan::default().without_worker().gateway("API_TOKENS", TOKEN).gateway("OUTBOUND_ALLOW", "+1555");
    let stack = stack.gateway("TWILIO_PHONE_NUMBER", "+15550199").gateway("TWILIO_ACCOUNT_SID", ACCOUNT);
    let stack = Stack::start(stack).await;
    let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
    api.post("/v1/calls", &json!({"to": TO})).await.assert_problem(503, "no_worker");
    stack.stop().await;
}

#[tokio::test]
async fn callbacks_that_are_forged_or_of_calls_that_nobody_saw_change_nothing() {
    let world = World::start().await;
    let placed = world.talking("echo").await;
    let (id, sid) = (placed.text("id"), placed.text("call_sid"));
    let plan = world.stack.call_plan();
    let fields = |sid: &str, status: &str, sequence: &str| {
        let mut fields = plan.parameters(sid, status);
        fields.push(("SequenceNumber".into(), sequence.into()));
        fields
    };
    let (url, completed) = (plan.public_url.join("/voice/status").unwrap(), fields(sid, "completed", "9"));
    let forged = tests::sim::post_form(&plan.route, &url, &completed, Some("AAAA".into()));
    assert_eq!(forged.await.unwrap().status, 403);
    let foreign = "CA99999999999999999999999999999999";
    for path in ["/voice/status".to_owned(), format!("/voice/status/{id}"), "/voice/status/call_0".to_owned()] {
        let reply = signed(&plan, &path, fields(foreign, "completed", "9")).await;
        assert!(reply.status == 404 && reply.body.contains("call_unknown"), "{path}: {}", reply.body);
    }
    let odd = signed(&plan, "/voice/status", fields(sid, "exploded", "9")).await;
    assert!(odd.status == 400 && odd.body.contains("field_invalid"), "{}", odd.body);
    let amd = signed(&plan, &format!("/voice/amd/{id}"), fields(sid, "in-progress", "9")).await;
    assert!(amd.status == 400 && amd.body.contains("AnsweredBy"), "{}", amd.body);
    // An old one, replayed, changes nothing either.
    assert_eq!(signed(&plan, "/voice/status", fields(sid, "ringing", "1")).await.status, 204);
    let call = world.get(id).await;
    assert_eq!((&call["status"], &call["stream"]), (&json!("in-progress"), &json!("live")));
    world.stop().await;
}
