//! Events over real connections: what a receiver gets, and when it gets it again.

use super::*;
use crate::client::scripted::{Peer, Reply};
use serde_json::json;
use tokio::runtime::Handle;

const PATIENCE: Duration = Duration::from_secs(20);

/// The same limits, a thousand times faster.
const FAST: Limits = Limits {
    tries: telemetry::backoff::Backoff {
        first: Duration::from_millis(4),
        longest: Duration::from_millis(32),
        attempts: 5,
        within: Duration::from_secs(130),
    },
    ..Limits::USUAL
};

fn settings(url: Option<String>) -> config::Events {
    config::Events {
        url: url.map(Sensitive::new),
        secret: Some(Sensitive::new("whsec_test".to_owned())),
        hosts: Vec::new(),
    }
}

fn sink(limits: Limits) -> EventSink {
    EventSink::with_limits(&settings(None), Client::new(Handle::current()).unwrap(), limits)
}

fn event(call: &str, n: usize) -> Event {
    Event { id: format!("ev-{call}-{n}"), call: call.to_owned(), kind: "call.test", body: json!({"n": n}) }
}

fn ok() -> Reply {
    Reply::answer(204, "", "")
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    request.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap()
}

#[tokio::test]
async fn an_event_arrives_signed() {
    let peer = Peer::start(vec![ok()]).await;
    let sink = sink(Limits::USUAL);
    sink.send(&format!("http://{}/hook?key=1", peer.address), event("a", 1));
    sink.flush(PATIENCE).await;
    let seen = peer.seen();
    assert!(seen[0].starts_with("POST /hook?key=1 HTTP/1.1\r\n"), "{seen:?}");
    assert_eq!(header(&seen[0], "content-type"), "application/json");
    assert_eq!(header(&seen[0], "tandem-event-id"), "ev-a-1");
    let (_, body) = seen[0].split_once("\r\n\r\n").unwrap();
    assert_eq!(body, r#"{"n":1}"#);
    let signature = header(&seen[0], "tandem-signature");
    let (seconds, _) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let seconds: u64 = seconds.parse().unwrap();
    assert!(unix_seconds().abs_diff(seconds) < 60);
    let secret = Sensitive::new("whsec_test".to_owned());
    assert_eq!(signature, signature::sign(&secret, seconds, body.as_bytes()));
    assert_eq!(sink.counts(), Counts { delivered: 1, ..Counts::default() });
}

#[tokio::test]
async fn failures_that_may_pass_are_tried_again_and_order_is_kept() {
    let failures =
        vec![Reply::Reset, Reply::answer(500, "", ""), Reply::answer(408, "", ""), Reply::answer(429, "", "")];
    let peer = Peer::start([failures, vec![ok(); 3]].concat()).await;
    let (sink, url) = (sink(FAST), format!("http://{}/", peer.address));
    for n in 0..3 {
        sink.send(&url, event("a", n));
    }
    sink.flush(PATIENCE).await;
    let ids: Vec<_> = peer.seen().iter().map(|request| header(request, "tandem-event-id").to_owned()).collect();
    assert_eq!(ids, ["ev-a-0", "ev-a-0", "ev-a-0", "ev-a-0", "ev-a-0", "ev-a-1", "ev-a-2"]);
    assert_eq!(sink.counts(), Counts { delivered: 3, ..Counts::default() });
}

#[tokio::test]
async fn five_tries_are_enough_and_a_refusal_needs_no_second() {
    let peer = Peer::start([vec![Reply::answer(503, "", ""); 5], vec![Reply::answer(400, "", "")]].concat()).await;
    let (sink, url) = (sink(FAST), format!("http://{}/", peer.address));
    sink.send(&url, event("a", 0));
    sink.send(&url, event("a", 1));
    sink.flush(PATIENCE).await;
    assert_eq!(peer.seen().len(), 6);
    assert_eq!(sink.counts(), Counts { given_up: 2, ..Counts::default() });
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_left_alone() {
    let peer = Peer::start(vec![Reply::answer(410, "", ""); 9]).await;
    let (sink, url) = (sink(FAST), format!("http://{}/", peer.address));
    for n in 0..5 {
        sink.send(&url, event("a", n));
    }
    sink.flush(PATIENCE).await;
    assert_eq!((peer.seen().len(), sink.counts().given_up), (1, 5));
}

#[tokio::test]
async fn a_silent_receiver_costs_a_bounded_number_of_events_and_no_time() {
    let peer = Peer::start(vec![Reply::Silence]).await;
    let sink = sink(Limits { events: 4, ..Limits::USUAL });
    for n in 0..10 {
        sink.send(&format!("http://{}/", peer.address), event("a", n));
    }
    assert_eq!(sink.counts(), Counts { dropped: 6, waiting: 4, ..Counts::default() });
    sink.flush(Duration::from_millis(50)).await;
    assert_eq!(sink.counts().waiting, 4);
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_taken() {
    let sink = sink(Limits::USUAL);
    sink.send("no address", event("a", 0));
    sink.send("https://example.com", Event { body: json!("x".repeat(MAX_BODY_BYTES)), ..event("a", 0) });
    let unsigned = config::Events::default();
    let client = Client::new(Handle::current()).unwrap();
    EventSink::new(&unsigned, client.clone()).send("http://127.0.0.1:9", event("a", 0));
    assert_eq!(sink.counts(), Counts::default());

    // In the clear only where the operator says so.
    let plain = "http://receiver.invalid/".to_owned();
    sink.send(&plain, event("a", 0));
    sink.flush(PATIENCE).await;
    assert_eq!(sink.counts().given_up, 1);
    let operators = EventSink::with_limits(&settings(Some(plain.clone())), client, FAST);
    operators.send(&plain, event("a", 0));
    operators.flush(PATIENCE).await;
    assert_eq!((operators.default_url(), operators.counts().given_up), (Some(plain.as_str()), 1));
}

#[test]
fn each_answer_has_its_verdict() {
    let of = |status: u16, retry_after: Option<&str>| {
        let mut headers = http::HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.parse().unwrap());
        }
        verdict(&Ok(Answer { status: http::StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() }))
    };
    for (status, expected) in [
        (200, Verdict::Delivered),
        (204, Verdict::Delivered),
        (302, Verdict::Never),
        (400, Verdict::Never),
        (404, Verdict::Never),
        (408, Verdict::Later(None)),
        (410, Verdict::Stop),
        (429, Verdict::Later(None)),
        (500, Verdict::Later(None)),
        (503, Verdict::Later(None)),
    ] {
        assert_eq!(of(status, None), expected, "{status}");
    }
    assert_eq!(of(429, Some("7")), Verdict::Later(Some(Duration::from_secs(7))));
    assert_eq!(of(503, Some("soon")), Verdict::Later(None));
}
