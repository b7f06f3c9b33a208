//! The conformance checks pass a good agent and fail those that are wrong on purpose, each for its own fault.

use std::time::Duration;

use tests::{
    conformance::{CHECKS, Candidate, Verdict, check},
    remote::{Misdeed, RemoteAgent},
};
use tokio::net::TcpListener;
use url::Url;

#[path = "../examples/agent.rs"]
#[allow(dead_code, reason = "its main is for who runs it as a program")]
mod example;

#[tokio::test]
async fn the_example_in_rust_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serving = tokio::spawn(async { example::serve(listener).await.map_err(|error| error.to_string()) });
    let verdicts = check(&candidate(url)).await;
    assert_eq!(failed(&verdicts), [""; 0], "{verdicts:?}");
    assert_eq!(verdicts.len(), CHECKS.len());
    serving.abort();
}

#[tokio::test]
async fn each_misdeed_is_found_by_its_check() {
    let expected = |misdeed| match misdeed {
        Misdeed::NeverReady | Misdeed::SpeaksFirst | Misdeed::Refuses => "ready",
        Misdeed::WrongRate | Misdeed::OddBytes | Misdeed::LongText | Misdeed::Mute => "speaks",
        Misdeed::Floods => "pace",
        Misdeed::DiesOfKey | Misdeed::LeavesOnKey => "messages",
        Misdeed::NeverReads | Misdeed::IgnoresEnd => "end",
        Misdeed::KeepsNumber | Misdeed::TalksOnHold => "hold",
    };
    let found = Misdeed::ALL.map(|misdeed| async move {
        let agent = RemoteAgent::misbehaving(misdeed).await.unwrap();
        (misdeed, check(&candidate(agent.url())).await)
    });
    for (misdeed, verdicts) in futures_util::future::join_all(found).await {
        assert!(failed(&verdicts).contains(&expected(misdeed)), "{misdeed:?}: {verdicts:?}");
        let wrong = verdicts.iter().filter_map(|verdict| verdict.wrong.as_ref());
        assert!(wrong.clone().all(|wrong| !wrong.is_empty()), "{verdicts:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_told() {
    let verdicts = check(&candidate("http://127.0.0.1:1".parse().unwrap())).await;
    assert_eq!(failed(&verdicts), ["ready"]);
    assert!(verdicts[0].wrong.as_ref().unwrap().contains("nobody listens"), "{verdicts:?}");
}

/// With less patience than the worker has.
fn candidate(url: Url) -> Candidate {
    let (ready_limit, answer_limit) = (Duration::from_secs(2), Duration::from_secs(2));
    Candidate { ready_limit, answer_limit, ..Candidate::new(url) }
}

fn failed(verdicts: &[Verdict]) -> Vec<&'static str> {
    verdicts.iter().filter(|verdict| verdict.wrong.is_some()).map(|verdict| verdict.name).collect()
}
