//! Twilio's requests, and those that only claim to be: who is believed, and what each is answered.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::{
    line::{Invitation, Line, after, dialled, document, is_fallback, signed},
    sim::{CallPlan, ConnectError, MediaSocket, Quirks, Reply, Route, Verb, get, post_form, sign},
    stack::{AUTH_TOKEN, PUBLIC_URL, Stack, StackPlan, eventually},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use url::Url;

const CALL: &str = "CA00000000000000000000000000000001";
const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn a_wrong_or_missing_signature_is_403_with_a_problem_that_helps() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    for path in ["/voice/incoming", "/voice", "/twiml", "/voice/after", "/voice/stream-status"] {
        let url = plan.public_url.join(path).unwrap();
        let fields = plan.parameters(CALL, "ringing");
        let other_url = sign("https://gateway.example/", &fields, AUTH_TOKEN);
        for signature in [None, Some(String::new()), Some("AAAA".into()), Some("%".into()), Some(other_url)] {
            let reply = post_form(&plan.route, &url, &fields, signature.clone()).await.unwrap();
            assert_problem(&reply, 403, "signature_invalid");
            assert!(reply.body.contains(url.as_str()), "the address that was checked is named: {}", reply.body);
            assert!(!reply.body.contains(AUTH_TOKEN));
        }
        let mut changed = fields.clone();
        changed[0].1.push('0');
        let reply = post_form(&plan.route, &url, &changed, Some(sign(url.as_str(), &fields, AUTH_TOKEN))).await;
        assert_problem(&reply.unwrap(), 403, "signature_invalid");
    }
    assert_eq!(stack.info().await.opened_total, 0);
    stack.stop().await;
}

#[tokio::test]
async fn any_of_several_auth_tokens_may_have_signed() {
    let stack = Stack::start(StackPlan::default().gateway("TWILIO_AUTH_TOKEN", &format!("{AUTH_TOKEN}, second"))).await;
    for token in [AUTH_TOKEN, "second"] {
        let mut line = Line::dial(&CallPlan { auth_token: token.into(), ..stack.call_plan() }).await;
        line.assert_echoes().await;
        line.hang_up().await;
    }
    let url = Url::parse("https://gateway.example/voice/incoming").unwrap();
    let plan = CallPlan { auth_token: "third".into(), ..stack.call_plan() };
    let fields = plan.parameters(CALL, "ringing");
    let reply = post_form(&plan.route, &url, &fields, Some(sign(url.as_str(), &fields, "third"))).await.unwrap();
    assert_problem(&reply, 403, "signature_invalid");
    stack.stop().await;
}

#[tokio::test]
async fn a_webhook_that_twilio_repeats_is_answered_again_and_either_answer_carries_the_call() {
    let stack = Stack::start_default().await;
    let plan = CallPlan { call_sid: Some(CALL.into()), ..stack.call_plan() };
    let (first, second) = (Invitation::ask(&plan).await, Invitation::ask(&plan).await);
    assert_ne!(first.ticket(), second.ticket());
    for invitation in [second, first] {
        let mut line = Line::open(&plan, invitation).await;
        line.start().await;
        line.assert_echoes().await;
        line.hang_up().await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn another_account_is_refused_where_one_is_configured() {
    let ours = "AC00000000000000000000000000000000";
    let stack = Stack::start(StackPlan::default().gateway("TWILIO_ACCOUNT_SID", ours)).await;
    let plan = stack.call_plan();
    assert_eq!(plan.account_sid, ours);
    Invitation::ask(&plan).await;
    let theirs = CallPlan { account_sid: "AC11111111111111111111111111111111".into(), ..plan };
    let reply = signed(&theirs, "/voice/incoming", theirs.parameters(CALL, "ringing")).await;
    assert_problem(&reply, 403, "account_unknown");
    stack.stop().await;
}

#[tokio::test]
async fn a_request_without_a_usable_call_sid_is_400() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    for path in ["/voice/incoming", "/voice/after", "/voice/stream-status"] {
        for sid in [None, Some(""), Some("CA 1"), Some("CA\"><x>"), Some(&*"C".repeat(65))] {
            let mut fields = plan.parameters(CALL, "ringing");
            fields.retain(|(name, _)| name != "CallSid");
            fields.extend(sid.map(|sid| ("CallSid".to_owned(), sid.to_owned())));
            assert_problem(&signed(&plan, path, fields).await, 400, "field_invalid");
        }
    }
    stack.stop().await;
}

#[tokio::test]
async fn other_methods_paths_and_sizes_have_their_statuses() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    let url = |path: &str| plan.public_url.join(path).unwrap();
    for path in ["/voice/incoming", "/voice", "/twiml", "/voice/after", "/voice/stream-status"] {
        assert_problem(&get(&plan.route, &url(path)).await.unwrap(), 405, "method_not_allowed");
    }
    for path in ["/", "/voice/nothing", "/wp-login.php", "/ws/twilio", "/ws/twilio/a/b", "/livez", "/readyz"] {
        assert_problem(&get(&plan.route, &url(path)).await.unwrap(), 404, "not_found");
        assert_problem(&signed(&plan, path, Vec::new()).await, 404, "not_found");
    }
    let mut fields = plan.parameters(CALL, "ringing");
    fields.push(("SpeechResult".into(), "a".repeat(64 << 10)));
    assert_problem(&signed(&plan, "/voice/incoming", fields).await, 413, "too_large");
    let headers = [("Content-Type", FORM), ("Transfer-Encoding", "chunked")];
    assert_problem(&exchange(&plan.route, "POST /voice/incoming", &headers, "0\r\n\r\n").await, 411, "length_required");
    stack.stop().await;
}

#[tokio::test]
async fn a_json_body_counts_when_its_hash_is_in_the_signed_query() {
    let stack = Stack::start_default().await;
    let route = Route::Tcp(stack.gateway_address());
    let body = r#"{"CallSid":"CA1"}"#;
    let hash = Sha256::digest(body).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let target = format!("/voice/stream-status?bodySHA256={hash}");
    let signature = sign(&format!("{PUBLIC_URL}{target}"), &[], AUTH_TOKEN);
    let headers = [("Content-Type", "application/json"), ("X-Twilio-Signature", signature.as_str())];
    // Believed; but the id of the call is only read from a form.
    assert_problem(&exchange(&route, &format!("POST {target}"), &headers, body).await, 400, "field_invalid");
    let changed = r#"{"CallSid":"CA2"}"#;
    assert_problem(&exchange(&route, &format!("POST {target}"), &headers, changed).await, 403, "signature_invalid");
    stack.stop().await;
}

#[tokio::test]
async fn headers_of_proxies_and_the_host_header_choose_no_address() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    let fields = plan.parameters(CALL, "ringing");
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
    let evil = sign("https://evil.example/voice/incoming", &fields, AUTH_TOKEN);
    let good = sign("https://gateway.example/voice/incoming", &fields, AUTH_TOKEN);
    for (name, value) in [
        ("X-Forwarded-Host", "evil.example"),
        ("X-Original-Host", "evil.example"),
        ("Forwarded", "host=evil.example;proto=https"),
        ("X-Twilio-Host", "evil.example"),
    ] {
        let with = |signature| [("Content-Type", FORM), ("X-Twilio-Signature", signature), (name, value)];
        let reply = exchange(&plan.route, "POST /voice/incoming", &with(evil.as_str()), &form).await;
        assert_problem(&reply, 403, "signature_invalid");
        let reply = exchange(&plan.route, "POST /voice/incoming", &with(good.as_str()), &form).await;
        assert!(matches!(document(&reply).verbs[..], [Verb::Connect(_)]), "{name}");
        assert!(!reply.body.contains("evil.example"), "{name}");
    }
    stack.stop().await;
}

#[tokio::test]
async fn the_media_socket_takes_only_signed_handshakes() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    for path in ["/voice/stream", "/ws", "/ws/twilio/1"] {
        let plain = get(&plan.route, &plan.public_url.join(path).unwrap()).await.unwrap();
        assert_problem(&plain, 426, "websocket_expected");
        let url = format!("wss://gateway.example{path}");
        let others = sign("wss://evil.example/voice/stream", &[], AUTH_TOKEN);
        for signature in [None, Some("AAAA".to_owned()), Some(others), Some(sign(&url, &[], "another token"))] {
            let refused = MediaSocket::connect_with(&plan.route, &url, signature, &Quirks::default()).await;
            let Err(ConnectError::Status { status: 403, body }) = refused else { panic!("{:?}", refused.err()) };
            assert!(body.contains("signature_invalid"), "{body}");
        }
    }
    assert_eq!(stack.live_calls().await, 0);
    stack.stop().await;
}

#[tokio::test]
async fn without_validation_anybody_may_call() {
    let plan = StackPlan::default().gateway("TWILIO_SKIP_VALIDATION", "1");
    let stack = Stack::start(plan).await;
    let mut line = Line::dial(&CallPlan { auth_token: "nobody's".into(), ..stack.call_plan() }).await;
    line.assert_echoes().await;
    let readiness = stack.gateway_readiness().await.unwrap();
    assert!(readiness.body.contains(r#""signatures_checked":false"#), "{}", readiness.body);
    line.hang_up().await;
    stack.stop().await;
}

#[tokio::test]
async fn without_tickets_the_signature_alone_guards_the_socket() {
    let stack = Stack::start(StackPlan::default().gateway("REQUIRE_TICKET", "false")).await;
    let plan = stack.call_plan();
    let mut line = Line::open(&plan, Invitation::ask(&plan).await).await;
    line.start_with(&[]).await;
    line.assert_echoes().await;
    line.hang_up().await;
    stack.stop().await;
}

#[tokio::test]
async fn a_full_gateway_answers_busy_and_takes_calls_again_when_one_ends() {
    let stack = Stack::start(StackPlan::default().gateway("MAX_CALLS", "1")).await;
    let plan = stack.call_plan();
    let mut line = Line::dial(&plan).await;
    line.assert_echoes().await;
    let reply = signed(&plan, "/voice/incoming", plan.parameters(CALL, "ringing")).await;
    assert_eq!(document(&reply).verbs, [Verb::Reject("busy".into())]);
    line.assert_echoes().await;
    line.hang_up().await;
    eventually("the place is free again", async || stack.live_calls().await == 0).await;
    Line::dial(&plan).await.assert_echoes().await;
}

#[tokio::test]
async fn what_comes_after_a_call_that_nobody_knows_is_the_fallback() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    assert!(is_fallback(&after(&plan, CALL).await));
    // Nor does a stream that never came count as an ending.
    let invitation = Invitation::ask(&plan).await;
    assert!(is_fallback(&after(&plan, &invitation.call_sid).await));
    stack.stop().await;
}

#[tokio::test]
async fn the_fallback_is_what_the_operator_chose() {
    let verbs = async |name: &str, value: &str| {
        let stack = Stack::start(StackPlan::default().gateway(name, value)).await;
        let verbs = after(&stack.call_plan(), CALL).await;
        stack.stop().await;
        verbs
    };
    assert_eq!(verbs("FALLBACK_DIAL", "+15550142").await, [dialled("+15550142")]);
    assert_eq!(verbs("FALLBACK_DIAL", "sip:desk@example.com").await, [dialled("sip:desk@example.com")]);
    assert_eq!(verbs("FALLBACK_SAY", "Bye & <all>.").await, [Verb::Say("Bye & <all>.".into()), Verb::Hangup]);
}

#[tokio::test]
async fn stream_events_are_taken_without_an_answer() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    for event in [None, Some("stream-started"), Some("stream-stopped"), Some("stream-error"), Some("stream-sung")] {
        let mut fields = plan.parameters(CALL, "in-progress");
        fields.extend(event.map(|event| ("StreamEvent".to_owned(), event.to_owned())));
        fields.push(("StreamError".into(), "31902 - refused\n".into()));
        let reply = signed(&plan, "/voice/stream-status", fields).await;
        assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    }
    stack.stop().await;
}

fn assert_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.content_type.as_str()), (status, "application/problem+json"), "{}", reply.body);
    let problem: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{problem}");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
}

/// A request as its bytes; the answer.
async fn exchange(route: &Route, what: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let Route::Tcp(address) = route else { panic!("{route:?}") };
    let mut request = format!("{what} HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    if headers.iter().all(|(name, _)| *name != "Transfer-Encoding") {
        let _ = write!(request, "Content-Length: {}\r\n", body.len());
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    Reply {
        status: head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap(),
        content_type: field("content-type").unwrap_or_default(),
        body: body.to_owned(),
    }
}
