//! More calls than there is room for: what each caller gets, that no limit is passed, and that room comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use futures_util::future::join_all;
use serde_json::Value;
use tests::{
    line::{Invitation, Line, after, document, is_fallback, signed},
    sim::{CallPlan, Connect, ConnectError, Identity, MediaSocket, Reply, Verb},
    stack::{Stack, StackPlan, eventually},
};
use tokio::time::Instant;

const CALL: &str = "CA00000000000000000000000000000001";

fn plan(settings: &[(&str, &str)]) -> StackPlan {
    settings.iter().fold(StackPlan::default(), |plan, (name, value)| plan.gateway(name, value))
}

/// The webhook of a new call.
async fn ring(plan: &CallPlan) -> (String, Reply) {
    let call_sid = Identity::random(&plan.account_sid).call_sid;
    let reply = signed(plan, "/voice/incoming", plan.parameters(&call_sid, "ringing")).await;
    (call_sid, reply)
}

/// The webhooks of many new calls at once: those that get a stream; the others get a busy tone.
async fn ring_all(plan: &CallPlan, calls: usize) -> Vec<Invitation> {
    let answers = join_all((0..calls).map(|_| ring(plan))).await;
    answers
        .into_iter()
        .filter_map(|(call_sid, reply)| Some(Invitation { call_sid, connect: stream(&reply)? }))
        .collect()
}

fn stream(reply: &Reply) -> Option<Connect> {
    match document(reply).verbs.into_iter().next() {
        Some(Verb::Connect(connect)) => Some(connect),
        verb => {
            assert_eq!(verb, Some(Verb::Reject("busy".into())));
            None
        }
    }
}

async fn readiness(stack: &Stack) -> Value {
    serde_json::from_str(&stack.gateway_readiness().await.unwrap().body).unwrap()
}

/// The status of a refused handshake; `None` when it was taken.
async fn handshake(plan: &CallPlan, invitation: &Invitation) -> Option<u16> {
    let url = &invitation.connect.stream.url;
    match MediaSocket::connect(&plan.route, url, &plan.auth_token, &plan.quirks).await {
        Ok(_) => None,
        Err(ConnectError::Status { status, .. }) => Some(status),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_call_too_many_gets_what_the_operator_chose() {
    let forms = [
        ("busy", "<Reject reason=\"busy\"/>"),
        ("say:All lines are busy & you wait.", "<Say>All lines are busy &amp; you wait.</Say><Hangup/>"),
        ("queue:support", "<Enqueue>support</Enqueue>"),
        (
            "dial:+15550142",
            "<Dial answerOnBridge=\"true\" action=\"https://gateway.example/voice/dialled\"><Number>+15550142</Number></Dial>",
        ),
        (
            "dial:sip:desk@example.com",
            "<Dial answerOnBridge=\"true\" action=\"https://gateway.example/voice/dialled\"><Sip>sip:desk@example.com</Sip></Dial>",
        ),
    ];
    let checks = forms.map(async |(overload, twiml)| {
        let stack = Stack::start(plan(&[("MAX_CALLS", "1"), ("OVERLOAD", overload)])).await;
        let plan = stack.call_plan();
        let mut line = Line::dial(&plan).await;
        line.assert_echoes().await;
        let (_, reply) = ring(&plan).await;
        assert_eq!((reply.status, reply.content_type.as_str()), (200, "text/xml; charset=utf-8"));
        assert!(reply.body.ends_with(&format!("<Response>{twiml}</Response>")), "{overload}: {}", reply.body);
        line.hang_up().await;
        eventually("there is room again", async || stack.live_calls().await == 0).await;
        let mut next = Line::dial(&plan).await;
        next.assert_echoes().await;
        next.hang_up().await;
        stack.stop().await;
    });
    join_all(checks).await;
}

#[tokio::test]
async fn a_burst_of_webhooks_does_not_pass_the_limit_before_its_sockets_come() {
    let stack = Stack::start(plan(&[("MAX_CALLS", "5"), ("MAX_CALLS_PER_SECOND", "0")])).await;
    let plan = stack.call_plan();
    let invitations = ring_all(&plan, 40).await;
    assert_eq!(invitations.len(), 5);
    let ready = readiness(&stack).await;
    assert_eq!((&ready["announced_calls"], &ready["refused"]["max_calls"]), (&5.into(), &35.into()), "{ready}");
    // Those that were let in all find a place, and take no second one.
    let mut lines = Vec::new();
    for invitation in invitations {
        let mut line = Line::open(&plan, invitation).await;
        line.start().await;
        lines.push(line);
    }
    eventually("all five are calls", async || {
        let ready = readiness(&stack).await;
        ["live_calls", "announced_calls", "pending_sockets"].map(|name| ready[name].as_u64()) == [5, 0, 0].map(Some)
    })
    .await;
    assert_eq!(ring_all(&plan, 3).await.len(), 0);
    lines.pop().unwrap().hang_up().await;
    eventually("one is gone", async || stack.live_calls().await == 4).await;
    assert_eq!(ring_all(&plan, 3).await.len(), 1);
    for line in &mut lines {
        line.hang_up().await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn a_call_that_is_announced_again_or_comes_to_nothing_takes_no_room_from_others() {
    let stack = Stack::start(plan(&[("MAX_CALLS", "1"), ("MAX_CALLS_PER_SECOND", "1")])).await;
    let plan = stack.call_plan();
    // Twilio asks again when an answer is lost.
    for _ in 0..5 {
        let reply = signed(&plan, "/voice/incoming", plan.parameters(CALL, "ringing")).await;
        assert!(stream(&reply).is_some());
    }
    assert!(stream(&ring(&plan).await.1).is_none());
    assert!(is_fallback(&after(&plan, CALL).await));
    eventually("its room is free", async || stream(&ring(&plan).await.1).is_some()).await;
    stack.stop().await;
}

#[tokio::test]
async fn more_calls_a_second_than_configured_are_turned_away_and_the_next_second_takes_others() {
    let stack = Stack::start(plan(&[("MAX_CALLS_PER_SECOND", "5")])).await;
    let plan = stack.call_plan();
    let began = now();
    let taken = ring_all(&plan, 60).await.len();
    let most = 5 + (5.0 * (now() - began).as_secs_f64()).ceil() as usize;
    assert!((5..=most).contains(&taken), "{taken} of at most {most}");
    assert!(taken < 60, "sixty webhooks took so long that the test shows nothing");
    let refused = readiness(&stack).await["refused"]["max_calls_per_second"].as_u64().unwrap();
    assert_eq!(refused as usize, 60 - taken);
    eventually("calls are taken again", async || stream(&ring(&plan).await.1).is_some()).await;
    stack.stop().await;
}

#[tokio::test]
async fn sockets_without_a_ticket_have_a_limit_that_calls_do_not_count_against() {
    let stack = Stack::start(plan(&[("MAX_PENDING_SOCKETS", "2")])).await;
    let plan = stack.call_plan();
    let mut calls = [Line::dial(&plan).await, Line::dial(&plan).await, Line::dial(&plan).await];
    eventually("all three are calls", async || readiness(&stack).await["pending_sockets"] == 0).await;
    let invitation = Invitation::ask(&plan).await;
    let mut held = vec![Line::open(&plan, invitation.clone()).await, Line::open(&plan, invitation.clone()).await];
    assert_eq!(handshake(&plan, &invitation).await, Some(503));
    let ready = readiness(&stack).await;
    assert_eq!((&ready["pending_sockets"], &ready["refused"]["max_pending_sockets"]), (&2.into(), &1.into()));
    // One of them turns out to be a call.
    held[0].start().await;
    held[0].assert_echoes().await;
    assert_eq!(handshake(&plan, &invitation).await, None);
    drop(held);
    eventually("they are let go", async || readiness(&stack).await["pending_sockets"] == 0).await;
    for line in &mut calls {
        line.hang_up().await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn without_tickets_the_sockets_themselves_are_held_to_the_limit() {
    let stack = Stack::start(plan(&[("REQUIRE_TICKET", "false"), ("MAX_CALLS", "1")])).await;
    let plan = stack.call_plan();
    let invitation = Invitation::ask(&plan).await;
    let mut line = Line::open(&plan, invitation.clone()).await;
    line.start_with(&[]).await;
    line.assert_echoes().await;
    assert_eq!(handshake(&plan, &invitation).await, Some(503));
    line.hang_up().await;
    eventually("there is room again", async || stack.live_calls().await == 0).await;
    assert_eq!(handshake(&plan, &invitation).await, None);
    stack.stop().await;
}

#[expect(clippy::disallowed_methods, reason = "how long the webhooks took decides how many may be taken")]
fn now() -> Instant {
    Instant::now()
}
