//! Results at a scripted receiver: what it gets, and when it gets it again.

use std::sync::Mutex;

use serde_json::json;
use tokio::sync::mpsc;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the receiver says to one request after the other; in the end it takes all.
fn receiver(script: Vec<Result<Answered, String>>) -> (Arc<Send>, mpsc::Receiver<Post>) {
    let (seen, posts) = mpsc::channel(2000);
    let script = Arc::new(Mutex::new(script.into_iter()));
    let send = move |post: Post| {
        seen.try_send(post).unwrap();
        let answer = script.lock().unwrap().next().unwrap_or_else(|| status(204));
        let answer: Pin<Box<dyn Future<Output = _> + std::marker::Send>> = Box::pin(async move { answer });
        answer
    };
    (Arc::new(send), posts)
}

#[expect(clippy::unnecessary_wraps, reason = "a receiver answers or does not")]
fn status(status: u16) -> Result<Answered, String> {
    Ok(Answered { status, retry_after: None })
}

fn to() -> ResultsSettings {
    ResultsSettings {
        url: Sensitive::new("https://example.com/s3cret".parse().unwrap()),
        secret: Sensitive::new("whsec_test".to_owned()),
        include_numbers: false,
    }
}

fn report(n: usize) -> Report {
    Report { call_id: format!("CA{n}"), outcome: "completed".to_owned(), body: Sensitive::new(json!({"n": n})) }
}

fn header<'a>(post: &'a Post, name: &str) -> &'a str {
    post.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str()).unwrap()
}

#[tokio::test]
async fn a_result_arrives_signed() {
    let (send, mut posts) = receiver(Vec::new());
    let results = Results::start(send);
    results.leave(&to(), &report(1));
    results.flush(PATIENCE).await;
    let post = posts.recv().await.unwrap();
    assert_eq!(
        (post.url.expose().as_str(), post.body.expose().as_ref()),
        ("https://example.com/s3cret", &br#"{"n":1}"#[..])
    );
    assert_eq!(header(&post, "content-type"), "application/json");
    let signature = header(&post, "tandem-signature");
    let (seconds, _) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let seconds = seconds.parse().unwrap();
    assert!(unix_seconds().abs_diff(seconds) < 60);
    assert_eq!(signature, signature::sign(&to().secret, seconds, br#"{"n":1}"#));
    assert_eq!(results.counts(), Counts { delivered: 1, ..Counts::default() });
    assert!(!format!("{post:?}").contains("s3cret"));
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_with_the_same_id() {
    let (send, mut posts) = receiver(vec![
        Err("no connection".to_owned()),
        status(500),
        status(408),
        Ok(Answered { status: 429, retry_after: Some(Duration::from_secs(40)) }),
    ]);
    let results = Results::start(send);
    results.leave(&to(), &report(1));
    let began = crate::conversation::now();
    results.flush(Duration::from_secs(600)).await;
    let (mut ids, mut tries) = (Vec::new(), 0);
    while let Ok(post) = posts.try_recv() {
        ids.push(header(&post, "tandem-event-id").to_owned());
        tries += 1;
    }
    ids.dedup();
    assert_eq!((ids.len(), tries), (1, 5));
    assert!(crate::conversation::now() - began >= Duration::from_secs(40), "the receiver asked for patience");
    assert_eq!(results.counts(), Counts { delivered: 1, ..Counts::default() });
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_given_up() {
    let (send, mut posts) = receiver(vec![status(404)]);
    let results = Results::start(send);
    results.leave(&to(), &report(1));
    results.flush(Duration::from_secs(600)).await;
    assert_eq!((results.counts().given_up, posts.try_recv().is_ok(), posts.try_recv().is_ok()), (1, true, false));
    let (send, mut posts) = receiver((0..5).map(|_| status(503)).collect());
    let results = Results::start(send);
    results.leave(&to(), &report(1));
    results.flush(Duration::from_secs(600)).await;
    assert_eq!(results.counts().given_up, 1);
    assert_eq!(std::iter::from_fn(|| posts.try_recv().ok()).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_never_answers_holds_nobody_else() {
    let (seen, mut posts) = mpsc::channel(100);
    let send: Arc<Send> = Arc::new(move |post: Post| {
        let is_first = seen.capacity() == seen.max_capacity();
        seen.try_send(post).unwrap();
        Box::pin(async move { if is_first { std::future::pending().await } else { status(200) } })
    });
    let results = Results::start(send);
    results.leave(&to(), &report(1));
    let _ = posts.recv().await;
    // Keeps the channel from looking empty.
    results.leave(&to(), &report(2));
    results.flush(Duration::from_secs(600)).await;
    assert_eq!(results.counts(), Counts { delivered: 2, ..Counts::default() });
}

#[tokio::test]
async fn the_oldest_makes_room() {
    let (send, mut posts) = receiver(Vec::new());
    let results = Results::with_limits(send, Limits { events: 3, ..Limits::USUAL });
    for n in 0..5 {
        results.leave(&to(), &report(n));
    }
    results.flush(PATIENCE).await;
    assert_eq!(results.counts(), Counts { delivered: 3, dropped: 2, ..Counts::default() });
    let bodies: Vec<_> = std::iter::from_fn(|| posts.try_recv().ok()).map(|post| post.body.expose().clone()).collect();
    assert_eq!(bodies, [&br#"{"n":2}"#[..], br#"{"n":3}"#, br#"{"n":4}"#]);
}
