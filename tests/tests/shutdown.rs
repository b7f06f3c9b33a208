//! SIGTERM to either service: nobody is cut off before the deadline, nobody new is taken, and the end comes.

use proto::v1::{ConverseRequest, converse_request::Message, converse_response::Message as Answer};
use tests::{
    line::{Line, document, is_fallback, signed},
    sim::Verb,
    stack::{Stack, StackPlan, eventually},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_types::StatusExt as _;

const CALL: &str = "CA00000000000000000000000000000001";

#[tokio::test]
async fn a_draining_gateway_takes_nobody_new_and_lets_the_live_call_end() {
    let stack = Stack::start(StackPlan::default().gateway("DRAIN_SECONDS", "60")).await;
    let plan = stack.call_plan();
    let mut line = Line::dial(&plan).await;
    line.assert_echoes().await;
    stack.shut_gateway_down();
    eventually("it is not ready", async || stack.gateway_readiness().await.is_some_and(|r| r.status == 503)).await;
    let reply = signed(&plan, "/voice/incoming", plan.parameters(CALL, "ringing")).await;
    assert!(is_fallback(&document(&reply).verbs), "{}", reply.body);
    line.assert_echoes().await;
    assert!(!stack.gateway_has_ended());
    line.hang_up().await;
    // Twilio still gets its answer to what comes next.
    assert_eq!(line.after().await, [Verb::Hangup]);
    eventually("it has ended, long before the deadline", async || stack.gateway_has_ended()).await;
    stack.stop().await;
}

#[tokio::test]
async fn a_draining_gateway_refuses_new_media_sockets() {
    let stack = Stack::start(StackPlan::default().gateway("DRAIN_SECONDS", "60")).await;
    let plan = stack.call_plan();
    let mut line = Line::dial(&plan).await;
    line.assert_echoes().await;
    let invitation = tests::line::Invitation::ask(&plan).await;
    stack.shut_gateway_down();
    eventually("it is not ready", async || stack.gateway_readiness().await.is_some_and(|r| r.status == 503)).await;
    let url = &invitation.connect.stream.url;
    let late = tests::sim::MediaSocket::connect(&plan.route, url, &plan.auth_token, &plan.quirks).await;
    assert!(matches!(late.err(), Some(tests::sim::ConnectError::Status { status: 503, .. })));
    line.hang_up().await;
    stack.stop().await;
}

#[tokio::test]
async fn at_the_deadline_the_gateway_ends_its_calls_with_1001_and_they_get_the_fallback() {
    let stack = Stack::start(StackPlan::default().gateway("DRAIN_SECONDS", "1")).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    stack.shut_gateway_down();
    assert_eq!(line.close_code().await, Some(1001));
    assert!(is_fallback(&line.after().await));
    eventually("it has ended", async || stack.gateway_has_ended()).await;
    eventually("the worker knows", async || stack.info().await.live == 0).await;
    stack.stop().await;
}

#[tokio::test]
async fn an_idle_pair_ends_at_once() {
    let stack = Stack::start(StackPlan::default().gateway("DRAIN_SECONDS", "60").worker("DRAIN_SECONDS", "60")).await;
    stack.shut_gateway_down();
    stack.shut_worker_down();
    eventually("both have ended", async || stack.gateway_has_ended() && stack.worker_has_ended()).await;
    stack.stop().await;
}

#[tokio::test]
async fn a_draining_worker_says_so_takes_nobody_and_lets_the_live_conversation_end() {
    let stack = Stack::start(StackPlan::default().worker("DRAIN_SECONDS", "60")).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    let mut voice = stack.voice().await;
    let (requests, receiver) = mpsc::channel(4);
    requests.send(opening()).await.unwrap();
    let mut answers = voice.converse(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    assert!(matches!(answers.message().await.unwrap().unwrap().message, Some(Answer::Ready(_))));
    stack.shut_worker_down();
    let Some(Answer::Draining(draining)) = answers.message().await.unwrap().unwrap().message else {
        panic!("not told that it drains")
    };
    assert_eq!(draining.deadline.unwrap().seconds, 60);
    eventually("it is not ready", async || stack.worker_readiness().await.is_some_and(|r| r.status == 503)).await;
    eventually("a new connection is refused at once", async || {
        tokio::net::TcpStream::connect(stack.worker_address()).await.is_err()
    })
    .await;
    // One that is open already may still ask; what it asks for is refused.
    let refused = voice.converse(tokio_stream::iter([opening()])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "WORKER_DRAINING");
    line.assert_echoes().await;
    line.hang_up().await;
    assert_eq!(line.after().await, [Verb::Hangup]);
    assert!(!stack.worker_has_ended(), "one conversation still lives");
    drop(requests);
    while answers.message().await.unwrap().is_some() {}
    eventually("it has ended, long before the deadline", async || stack.worker_has_ended()).await;
    stack.stop().await;
}

#[tokio::test]
async fn at_the_deadline_the_worker_ends_its_conversations_and_callers_get_the_fallback() {
    let stack = Stack::start(StackPlan::default().worker("DRAIN_SECONDS", "1")).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    let (_requests, receiver) = {
        let (requests, receiver) = mpsc::channel(4);
        requests.send(opening()).await.unwrap();
        (requests, receiver)
    };
    let mut answers = stack.voice().await.converse(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    stack.shut_worker_down();
    let status = loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "WORKER_STOPPED");
    assert_eq!(line.close_code().await, Some(1011));
    assert!(is_fallback(&line.after().await));
    eventually("it has ended", async || stack.worker_has_ended()).await;
    stack.stop().await;
}

fn opening() -> ConverseRequest {
    ConverseRequest { message: Some(Message::Open(Box::default())) }
}
