//! Workers that are not there, are full, do not know the agent, or go away: the caller always gets an answer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::time::Duration;

use proto::v1::{ConverseRequest, Open, converse_request::Message};
use tests::{
    line::{Line, is_fallback},
    scripted::{Notes, Told},
    sim::{CallPlan, Caller, Ended, Verb},
    stack::{Stack, StackPlan, eventually},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn without_a_worker_the_caller_hears_the_fallback() {
    let stack = Stack::start(StackPlan::default().without_worker()).await;
    let report = Caller::new(stack.call_plan()).place().await;
    assert_eq!((report.streams[0].ended, report.streams[0].close_code), (Ended::ServerClosed, Some(1011)), "{report}");
    assert!(report.streams[0].lasted < Duration::from_secs(6), "{report}");
    assert!(matches!(&report.said[..], [words] if words.contains("nobody can take your call")), "{report}");
    stack.stop().await;
}

#[tokio::test]
async fn without_a_worker_the_caller_can_be_put_through_to_a_person() {
    let stack = Stack::start(StackPlan::default().without_worker().gateway("FALLBACK_DIAL", "+15550142")).await;
    let report = Caller::new(stack.call_plan()).place().await;
    assert_eq!(report.dialled, ["+15550142"], "{report}");
    stack.stop().await;
}

#[tokio::test]
async fn a_worker_that_dies_ends_its_calls_and_no_others() {
    let mut stack = Stack::start(StackPlan::default().with_wire()).await;
    let other = Stack::start_default().await;
    let (mut line, mut beside) = (Line::dial(&stack.call_plan()).await, Line::dial(&other.call_plan()).await);
    line.assert_echoes().await;
    beside.assert_echoes().await;
    stack.cut_wire().await;
    assert_eq!(line.close_code().await, Some(1011));
    assert!(is_fallback(&line.after().await));
    beside.assert_echoes().await;
    // Nobody is left who could take the next call.
    let mut next = Line::dial(&stack.call_plan()).await;
    assert_eq!(next.close_code().await, Some(1011));
    assert!(is_fallback(&next.after().await));
    eventually("no call is left", async || stack.live_calls().await == 0).await;
    beside.assert_echoes().await;
    beside.hang_up().await;
    other.stop().await;
}

#[tokio::test]
async fn a_full_worker_refuses_with_the_time_to_come_again_and_the_caller_hears_the_fallback() {
    let stack = Stack::start(StackPlan::default().worker("WORKER_MAX_CALLS", "1")).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    let refused = open(&stack, "echo").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_info(&refused, "WORKER_FULL");
    assert_eq!(refused.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    let mut second = Line::dial(&stack.call_plan()).await;
    assert_eq!(second.close_code().await, Some(1011));
    assert!(is_fallback(&second.after().await));
    line.assert_echoes().await;
    line.hang_up().await;
    eventually("the place is free again", async || stack.info().await.live == 0).await;
    let info = stack.info().await;
    assert_eq!((info.opened_total, info.refused_total >= 2), (1, true), "{info:?}");
    eventually("the worker is asked again", async || {
        let mut third = Line::dial(&stack.call_plan()).await;
        let speech = [0xff; 1600];
        let taken = matches!(
            tokio::time::timeout(Duration::from_secs(2), third.converse(&speech, &[160], 800)).await,
            Ok(heard) if !heard.mulaw.is_empty()
        );
        third.hang_up().await;
        taken
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_nobody_knows_leads_to_the_fallback() {
    let stack = Stack::start(StackPlan::default().gateway("DEFAULT_AGENT", "nobody")).await;
    let unknown = open(&stack, "nobody").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    assert!(unknown.message().contains("echo"), "the known ones are named: {unknown}");
    assert_info(&unknown, "UNKNOWN_AGENT");
    let mut line = Line::dial(&stack.call_plan()).await;
    assert_eq!(line.close_code().await, Some(1011));
    assert!(is_fallback(&line.after().await));
    stack.stop().await;
}

#[tokio::test]
async fn an_agent_that_panics_or_fails_ends_only_its_call() {
    let notes = Notes::default();
    let stack = Stack::start(StackPlan::default().agents(notes.agents()).gateway("DEFAULT_AGENT", "scripted")).await;
    let plan = stack.call_plan();
    let mut beside = Line::dial(&plan).await;
    beside.speak(&[0xff; 160]).await;
    for key in ['A', 'B'] {
        let mut line = Line::dial(&plan).await;
        line.press(key).await;
        assert_eq!(line.close_code().await, Some(1011), "{key}");
        assert!(is_fallback(&line.after().await), "{key}");
        eventually("its agent is gone", async || notes.of(line.call_sid()).contains(&Told::Gone)).await;
    }
    beside.press('1').await;
    beside.listen_until(|heard| heard.mulaw.len() >= 8000).await;
    eventually("one conversation is left", async || stack.info().await.live == 1).await;
    beside.press('D').await;
    assert_eq!(beside.close_code().await, Some(1000));
    assert_eq!(beside.after().await, [Verb::Hangup]);
    stack.stop().await;
}

#[tokio::test]
async fn a_raw_conversation_with_the_panicking_agent_ends_with_a_status() {
    let notes = Notes::default();
    let stack = Stack::start(StackPlan::default().agents(notes.agents())).await;
    for (key, reason) in [("A", "CONVERSATION_PANICKED"), ("B", "AGENT_FAILED")] {
        let first = request(Message::Open(Box::new(Open { agent: "scripted".into(), ..Open::default() })));
        let second = request(Message::Dtmf(proto::v1::Dtmf { digit: key.into() }));
        let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([first, second]), tokio_stream::pending());
        let mut answers = stack.voice().await.converse(requests).await.unwrap().into_inner();
        let status = loop {
            match answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no status"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Internal, "{status}");
        assert_info(&status, reason);
    }
    stack.stop().await;
}

#[tokio::test]
async fn a_call_that_reached_its_longest_ends_as_one_that_is_over() {
    let stack = Stack::start(StackPlan::default().gateway("MAX_CALL_SECONDS", "2")).await;
    let report = Caller::new(CallPlan { ..stack.call_plan() }).place().await;
    assert_eq!((report.streams[0].ended, report.streams[0].close_code), (Ended::ServerClosed, Some(1000)), "{report}");
    assert!(report.streams[0].lasted < Duration::from_secs(3), "{report}");
    assert_eq!((report.actions[0].verbs.join(" "), report.said.len()), ("Hangup".into(), 0), "{report}");
    stack.stop().await;
}

/// Opens a conversation at the worker; the first answer, or the status.
async fn open(stack: &Stack, agent: &str) -> Result<(), Status> {
    let first = request(Message::Open(Box::new(Open { agent: agent.into(), ..Open::default() })));
    let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([first]), tokio_stream::pending());
    stack.voice().await.converse(requests).await?.into_inner().message().await?;
    Ok(())
}

fn request(message: Message) -> ConverseRequest {
    ConverseRequest { message: Some(message) }
}

fn assert_info(status: &Status, reason: &str) {
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "tandem.voice.v1"), "{status}");
}
