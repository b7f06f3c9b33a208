//! Deepgram: its socket and its recordings against a stand-in that follows the published description, and calls whose words
//! come from it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{sync::Arc, time::Duration};

use audio_worker::provider::{
    Fault, Speech, SpeechToText,
    deepgram::{self, Settings},
    http::Client,
    listening::Recognised,
};
use bytes::Bytes;
use futures_util::future::join_all;
use listened::{Ear, PATIENCE, PAUSE, SILENCE, voice};
use tests::{
    deepgram::{Deepgram, Mishap},
    openai::Stage,
    stack::eventually,
    talk::recorded,
};
use tokio::runtime::Handle;

#[path = "support/listened.rs"]
mod listened;

type Desk = listened::Desk<Box<Deepgram>>;

const KEY: &str = "dg-0123456789abcdef";

async fn desk(more: &str) -> Desk {
    Desk::open("deepgram", Box::new(Deepgram::start().await.unwrap()), more).await
}

fn recogniser(server: &Deepgram, change: impl FnOnce(&mut Settings)) -> Arc<dyn SpeechToText> {
    let mut settings = Settings::default();
    settings.server.base = server.base();
    settings.server.key = Some(KEY.to_owned().into());
    change(&mut settings);
    deepgram::speech_to_text(&Client::new(Handle::current()).unwrap(), &settings).unwrap()
}

#[tokio::test]
async fn a_session_says_what_it_wants_hears_all_and_ends_in_good_order() {
    let server = Deepgram::start().await.unwrap();
    server.says("Hello there.");
    let recogniser = recogniser(&server, |settings| settings.keyterms = vec!["Tandem".to_owned(), "mu-law".to_owned()]);
    let mut ear = Ear(recogniser.listen("en-GB", Bytes::from_static(&[0x12; 20_000])).unwrap());
    ear.feed(&[0x34], 20);
    ear.0.feed(&[]);
    ear.feed(&voice(), 700);
    let found = ear.finish().await;
    let Some(Recognised::Final(stretch)) = found.last() else { panic!("{found:?}") };
    assert_eq!((stretch.from_ms, stretch.to_ms, stretch.text.as_str()), (0, 2500 + 720, "Hello there."));
    assert_eq!((stretch.words.len(), stretch.words[1].text.as_str(), stretch.words[1].to_ms), (2, "there.", 3220));
    // What comes with the end of a flush is no end of the speech.
    assert!(!found.iter().any(|event| matches!(event, Recognised::EndOfSpeech { .. })), "{found:?}");
    assert!(matches!(&found[0], Recognised::Interim(stretch) if stretch.text == "Hello"), "{found:?}");
    drop(ear);
    let sessions = server.wait_for("the end", |sessions| sessions[0].is_over).await;
    let session = &sessions[0];
    assert!(session.said_goodbye);
    assert_eq!(
        (session.bytes, session.first[0], session.authorization.as_deref()),
        (20_000 + 720 * 8, 0x12, Some(&*format!("Token {KEY}")))
    );
    for (name, values) in [
        ("model", &["nova-3"][..]),
        ("language", &["en-GB"]),
        ("encoding", &["mulaw"]),
        ("sample_rate", &["8000"]),
        ("channels", &["1"]),
        ("interim_results", &["true"]),
        ("endpointing", &["300"]),
        ("utterance_end_ms", &["1000"]),
        ("vad_events", &["true"]),
        ("punctuate", &["true"]),
        ("keyterm", &["Tandem", "mu-law"]),
    ] {
        assert_eq!(session.asked(name), values, "{name}");
    }
}

#[tokio::test]
async fn ends_of_speech_are_told() {
    let server = Deepgram::start().await.unwrap();
    server.says("Hello there.");
    let mut ear = Ear::open(&*recogniser(&server, |_| {}));
    ear.feed(&voice(), 600);
    ear.feed(&SILENCE, 1100);
    let mut ends = Vec::new();
    while ends.len() < 2 {
        if let Recognised::EndOfSpeech { at_ms } = ear.next().await.unwrap() {
            ends.push(at_ms);
        }
    }
    // After 300 ms of silence, and with the last word a second ago.
    assert_eq!(ends, [900, 600]);
}

#[tokio::test]
async fn what_comes_in_pieces_is_the_same_as_in_one() {
    let mut whole = None;
    for mishap in [
        None,
        Some(Mishap::ByteByByte(Duration::ZERO)),
        Some(Mishap::ByteByByte(Duration::from_millis(1))),
        Some(Mishap::Fragments),
        Some(Mishap::Before(r#"{"type":"SpeechStarted","channel":[0],"timestamp":0.1}"#.to_owned())),
        Some(Mishap::Before(r#"{"type":"SomethingNew","more":[1,2,3]}"#.to_owned())),
    ] {
        let server = Deepgram::start().await.unwrap();
        server.says("Grüß Gott, это Tandem.");
        if let Some(mishap) = mishap.clone() {
            server.upset(mishap);
        }
        let mut ear = Ear::open(&*recogniser(&server, |_| {}));
        ear.feed(&voice(), 700);
        // Both are understood before it is asked.
        let mut found = vec![ear.next().await.unwrap(), ear.next().await.unwrap()];
        found.extend(ear.finish().await);
        assert_eq!(found.len(), 3);
        assert_eq!(*whole.get_or_insert_with(|| found.clone()), found, "{mishap:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_does_not_end_the_session_at_once() {
    let server = Deepgram::start().await.unwrap();
    server.says("Hello there.");
    server.upset(Mishap::Before("<html></html>".to_owned()));
    let mut ear = Ear::open(&*recogniser(&server, |_| {}));
    ear.feed(&voice(), 700);
    let found = ear.finish().await;
    assert!(matches!(&found[0], Recognised::Unreadable(error) if error.kind == Fault::Malformed), "{found:?}");
    assert!(matches!(found.last(), Some(Recognised::Final(stretch)) if stretch.text == "Hello there."));
    // Where there is nothing else, it does.
    server.upset(Mishap::Instead("{\"type\":\"Results\"".to_owned()));
    let mut ear = Ear::open(&*recogniser(&server, |_| {}));
    ear.feed(&voice(), 4500);
    assert_eq!(ear.fails().await.kind, Fault::Malformed);
}

#[tokio::test]
async fn refusals_and_early_ends_have_their_meaning() {
    let server = Deepgram::start().await.unwrap();
    for (mishap, kind, detail) in [
        (Mishap::Refuse(400), Fault::Rejected, "HTTP 400"),
        (Mishap::Refuse(401), Fault::Denied, "HTTP 401"),
        (Mishap::Refuse(403), Fault::Denied, "HTTP 403"),
        (Mishap::Refuse(429), Fault::Busy, "HTTP 429"),
        (Mishap::Refuse(503), Fault::Failed, "HTTP 503"),
        (Mishap::Refuse(200), Fault::Malformed, "HTTP 200"),
        (Mishap::Close(100, 1011, "NET-0000: said".to_owned()), Fault::Failed, "closed with 1011 NET-0000"),
        (Mishap::Close(100, 1008, "DATA-0000".to_owned()), Fault::Rejected, "closed with 1008 DATA-0000"),
        (Mishap::Close(100, 1000, String::new()), Fault::Unreachable, "closed with 1000"),
        (Mishap::Break(100), Fault::Unreachable, "broke off"),
        (Mishap::Fail(100), Fault::Failed, "says that it failed NET-0000"),
    ] {
        server.upset(mishap.clone());
        let mut ear = Ear::open(&*recogniser(&server, |_| {}));
        ear.feed(&voice(), 400);
        let error = ear.fails().await;
        assert_eq!(error.kind, kind, "{mishap:?}: {error}");
        assert!(error.detail.contains(detail) && !error.detail.contains("said"), "{mishap:?}: {error}");
        assert!(!error.detail.contains(KEY));
    }
}

#[tokio::test]
async fn nobody_there_and_too_much_to_send_are_told() {
    let server = Deepgram::start().await.unwrap();
    let mut ear = Ear::open(&*recogniser(&server, |_| {}));
    // More than 5 s, before any of it could leave.
    ear.feed(&voice(), 5020);
    let error = ear.fails().await;
    assert_eq!((error.kind, error.detail.as_str()), (Fault::Timeout, "5 s of sound could not be sent"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let gone = recogniser(&server, |settings| {
        settings.server.base = format!("http://127.0.0.1:{port}/v1").parse().unwrap();
    });
    let mut ear = Ear(gone.listen("", Bytes::new()).unwrap());
    assert_eq!(ear.fails().await.kind, Fault::Unreachable);
}

#[tokio::test]
async fn without_sound_the_session_is_kept_alive() {
    let server = Deepgram::start().await.unwrap();
    server.says("Hello there.");
    let mut ear = Ear::open(&*recogniser(&server, |_| {}));
    ear.feed(&SILENCE, 20);
    // Nobody asks meanwhile; 10 s of silence would end it.
    server
        .wait_for("the second sign of life", |sessions| sessions.first().is_some_and(|one| one.keep_alives == 2))
        .await;
    ear.feed(&voice(), 300);
    let found = ear.finish().await;
    assert!(matches!(found.last(), Some(Recognised::Final(stretch)) if stretch.text == "Hello there."));
}

#[tokio::test]
async fn recordings_are_put_into_words() {
    let server = Deepgram::start().await.unwrap();
    let recogniser = recogniser(&server, |settings| settings.keyterms = vec!["Tandem".to_owned()]);
    let speech = || Speech { pcm: vec![7; 16_000].into(), language: "de".to_owned(), mulaw: Bytes::new() };
    server.recorded(Ok("Guten Tag."));
    assert_eq!(recogniser.transcribe(speech()).await.unwrap(), "Guten Tag.");
    let asked = server.sessions();
    assert!(asked[0].is_recording && asked[0].first.starts_with(b"RIFF") && asked[0].bytes == 44 + 32_000);
    assert_eq!(asked[0].authorization.as_deref(), Some(&*format!("Token {KEY}")));
    for (name, values) in
        [("model", &["nova-3"][..]), ("language", &["de"]), ("keyterm", &["Tandem"]), ("encoding", &[])]
    {
        assert_eq!(asked[0].asked(name), values, "{name}");
    }
    for (status, kind) in [(400, Fault::Rejected), (401, Fault::Denied), (429, Fault::Busy), (500, Fault::Failed)] {
        server.recorded(Err(status));
        let error = recogniser.transcribe(speech()).await.unwrap_err();
        assert_eq!((error.kind, error.detail.contains("Not today.")), (kind, true), "{error}");
    }
}

#[tokio::test]
async fn a_call_whose_words_come_while_they_are_said_is_answered() {
    let calls = ["", "endpoint = \"provider\""].map(async |more| {
        let desk = desk(more).await;
        let mut phone = desk.greeted().await;
        for (clip, words) in ["What time is it?", "And tomorrow?", "Thank you."].into_iter().enumerate() {
            assert_eq!(desk.say(&mut phone, clip, words).await, words);
        }
        let sessions = desk.server.sessions();
        assert_eq!(sessions.len(), 1, "one session for the whole call, and no recording");
        assert_eq!(sessions[0].asked("language"), ["en-US"]);
        desk.close(phone).await;
    });
    join_all(calls).await;
}

#[tokio::test]
async fn a_turn_in_which_the_socket_dies_is_answered_all_the_same() {
    let desk = desk("").await;
    desk.server.upset(Mishap::Close(400, 1011, "NET-0000".to_owned()));
    let mut phone = desk.greeted().await;
    assert_eq!(desk.say(&mut phone, 0, "What time is it?").await, "What time is it?");
    // What had been said before it died was said once more to the second.
    let sessions = desk.server.sessions();
    assert_eq!((sessions.len(), sessions[0].is_over, sessions[1].is_recording), (2, true, false));
    assert!(sessions[1].bytes > 8 * 400);
    eventually("the fault is counted", async || desk.errors("failed").await == 1.0).await;
    assert_eq!(desk.say(&mut phone, 1, "And tomorrow?").await, "And tomorrow?");
    desk.close(phone).await;
}

#[tokio::test]
async fn where_nobody_listens_any_more_the_recording_is_asked_for() {
    let desk = desk("").await;
    desk.server.recorded(Ok("What was recorded."));
    desk.server.upset(Mishap::Break(400));
    desk.server.upset(Mishap::Refuse(503));
    let mut phone = desk.greeted().await;
    assert_eq!(desk.say(&mut phone, 0, "never").await, "What was recorded.");
    let seen: Vec<_> = desk.server.sessions().iter().map(|session| session.is_recording).collect();
    assert_eq!(seen[..3], [false, false, true]);
    // Later it listens again.
    desk.server
        .wait_for("another session", |sessions| sessions.iter().filter(|one| !one.is_recording).count() == 3)
        .await;
    assert_eq!(desk.say(&mut phone, 1, "And tomorrow?").await, "And tomorrow?");
    desk.close(phone).await;
}

#[tokio::test]
async fn with_a_wrong_key_the_caller_hears_an_apology_and_nobody_insists() {
    let desk = desk("").await;
    desk.server.recorded(Err(401));
    desk.server.upset(Mishap::Refuse(401));
    desk.server.upset(Mishap::Refuse(401));
    let mut phone = desk.greeted().await;
    let said = phone.say_all(&recorded()[0]).await.unwrap().ended.unwrap();
    phone.until("the apology", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
    assert!(desk.openai.asked_for(Stage::Chat).is_empty());
    let sessions = desk.server.sessions();
    // Another provider could stand in for it, so a session is asked for once more, and no more.
    assert!(sessions.iter().filter(|session| !session.is_recording).count() <= 2);
    eventually("both refusals are counted", async || desk.errors("denied").await >= 2.0).await;
    desk.close(phone).await;
}

#[tokio::test]
async fn one_who_takes_all_and_says_nothing_is_not_believed() {
    let desk = desk("").await;
    desk.server.recorded(Ok("What was recorded."));
    desk.server.upset(Mishap::Deaf);
    let mut phone = desk.greeted().await;
    assert_eq!(desk.say(&mut phone, 0, "never").await, "What was recorded.");
    desk.close(phone).await;
}

#[tokio::test]
async fn final_words_that_come_late_or_never_are_not_waited_for() {
    let calls = [Mishap::FinalizesAfter(Duration::from_secs(2)), Mishap::NeverFinalizes].map(async |mishap| {
        let desk = desk("endpointing_ms = 5000").await;
        desk.server.upset(mishap);
        let mut phone = desk.greeted().await;
        // What was understood until then: the stand-in leaves the last word to the end.
        assert_eq!(desk.say(&mut phone, 0, "What time is it?").await, "What time is");
        desk.close(phone).await;
    });
    join_all(calls).await;
}
