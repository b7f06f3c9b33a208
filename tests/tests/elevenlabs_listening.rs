//! ElevenLabs' realtime recognition against a stand-in that follows the published description, and calls whose words come
//! from it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{sync::Arc, time::Duration};

use audio_worker::provider::{
    Fault, Speech, SpeechToText,
    elevenlabs::{self, realtime::Settings},
    endpoint::Server,
    http::Client,
    listening::Recognised,
};
use bytes::Bytes;
use listened::{Ear, PATIENCE, PAUSE, SILENCE, voice};
use serde_json::json;
use tests::{deepgram::Mishap, elevenlabs::ElevenLabs, openai::Stage, stack::eventually, talk::recorded};
use tokio::runtime::Handle;

#[path = "support/listened.rs"]
mod listened;

type Desk = listened::Desk<ElevenLabs>;

const KEY: &str = "sk_0123456789abcdef";

fn recogniser(server: &ElevenLabs, change: impl FnOnce(&mut Settings)) -> Arc<dyn SpeechToText> {
    let mut settings = Settings {
        server: Server { base: server.base(), key: Some(KEY.to_owned().into()), ..Server::default() },
        model: "scribe_v2_realtime".to_owned(),
        ends_after: None,
        keyterms: Vec::new(),
        temperature: None,
    };
    change(&mut settings);
    elevenlabs::listening(&Client::new(Handle::current()).unwrap(), &settings).unwrap()
}

fn open(server: &ElevenLabs) -> Ear {
    Ear::open(&*recogniser(server, |_| {}))
}

/// An error that comes as a message.
fn says(name: &str) -> Mishap {
    Mishap::Instead(json!({ "message_type": name, "error": "what was said" }).to_string())
}

async fn desk(more: &str) -> Desk {
    Desk::open("elevenlabs", ElevenLabs::start().await.unwrap(), more).await
}

#[tokio::test]
async fn a_session_says_what_it_wants_hears_all_and_ends_in_good_order() {
    let server = ElevenLabs::start().await.unwrap();
    server.says("Hello there.");
    let recogniser = recogniser(&server, |settings| settings.keyterms = vec!["Tandem".to_owned(), "mu-law".to_owned()]);
    let mut ear = Ear(recogniser.listen("en-GB", Bytes::from_static(&[0x12; 20_000])).unwrap());
    ear.feed(&[0x34], 20);
    ear.0.feed(&[]);
    ear.feed(&voice(), 700);
    let found = ear.finish().await;
    let Some(Recognised::Final(stretch)) = found.last() else { panic!("{found:?}") };
    assert_eq!((stretch.from_ms, stretch.to_ms, stretch.text.as_str()), (0, 2500 + 720, "Hello there."));
    assert!(!found.iter().any(|event| matches!(event, Recognised::EndOfSpeech { .. })), "{found:?}");
    assert!(matches!(&found[0], Recognised::Interim(stretch) if stretch.text == "Hello"), "{found:?}");
    drop(ear);
    let sessions = server.wait_for("the end", |sessions| sessions[0].is_over).await;
    let session = &sessions[0];
    assert!(session.said_goodbye);
    assert_eq!(
        (session.bytes, session.first[0], session.authorization.as_deref()),
        (20_000 + 720 * 8, 0x12, Some(KEY))
    );
    for (name, values) in [
        ("model_id", &["scribe_v2_realtime"][..]),
        ("language_code", &["en"]),
        ("audio_format", &["ulaw_8000"]),
        ("commit_strategy", &["manual"]),
        ("include_timestamps", &["true"]),
        ("vad_silence_threshold_secs", &[]),
        ("keyterms", &["Tandem", "mu-law"]),
    ] {
        assert_eq!(session.asked(name), values, "{name}");
    }
}

#[tokio::test]
async fn words_of_before_are_told_apart_by_their_times() {
    let server = ElevenLabs::start().await.unwrap();
    server.says("Mhm. A table.");
    let mut ear = open(&server);
    ear.feed(&voice(), 400);
    ear.0.voice();
    let Recognised::Interim(first) = ear.next().await.unwrap() else { panic!("no words") };
    assert!(first.text == "Mhm. A" && (300..=400).contains(&first.to_ms), "{first:?}");
    ear.feed(&SILENCE, 1600);
    ear.feed(&voice(), 400);
    ear.0.voice();
    let found = ear.finish().await;
    // All is understood before the times of the words are there.
    let Some([Recognised::Interim(whole), Recognised::Final(timed)]) = found.last_chunk() else { panic!("{found:?}") };
    assert_eq!(
        (whole.text.as_str(), whole.to_ms, timed.text.as_str(), timed.to_ms),
        ("Mhm. A table.", 2400, "Mhm. A table.", 2400)
    );
    let words: Vec<_> = timed.words.iter().map(|word| (word.text.as_str(), word.from_ms, word.to_ms)).collect();
    assert_eq!(words, [("Mhm.", 0, 800), ("A", 800, 1600), ("table.", 1600, 2400)]);
    // What it tells again of that is no new word.
    ear.feed(&SILENCE, 700);
    server.says("Yes, please.");
    ear.feed(&voice(), 600);
    let Recognised::Interim(next) = ear.next().await.unwrap() else { panic!("no words") };
    assert_eq!((next.from_ms, next.text.as_str()), (2400, "Yes,"));
}

#[tokio::test]
async fn ends_of_speech_are_told() {
    let server = ElevenLabs::start().await.unwrap();
    server.says("Hello there.");
    let settings = |settings: &mut Settings| settings.ends_after = Some(Duration::from_millis(500));
    let mut ear = Ear::open(&*recogniser(&server, settings));
    ear.feed(&voice(), 600);
    ear.feed(&SILENCE, 600);
    let mut found = Vec::new();
    while !matches!(found.last(), Some(Recognised::EndOfSpeech { .. })) {
        found.push(ear.next().await.unwrap());
    }
    let Some([Recognised::Final(stretch), Recognised::EndOfSpeech { at_ms }]) = found.last_chunk() else {
        panic!("{found:?}")
    };
    assert_eq!((stretch.text.as_str(), stretch.to_ms), ("Hello there.", *at_ms));
    // It comes when 500 ms of silence were heard there, of what was sent until then.
    assert!((1100..=1200).contains(at_ms), "{at_ms}");
    let session = &server.sessions()[0];
    assert_eq!(
        (session.asked("commit_strategy"), session.asked("vad_silence_threshold_secs")),
        (vec!["vad"], vec!["0.500"])
    );
    assert_eq!(session.finalizes, 0);
}

#[tokio::test]
async fn what_comes_in_pieces_is_the_same_as_in_one() {
    let mut whole = None;
    for mishap in [
        None,
        Some(Mishap::ByteByByte(Duration::ZERO)),
        Some(Mishap::ByteByByte(Duration::from_millis(1))),
        Some(Mishap::Fragments),
        Some(Mishap::Before(r#"{"message_type":"warning","warning":"x"}"#.to_owned())),
        Some(Mishap::Before(r#"{"message_type":"something_new","more":[1,2,3]}"#.to_owned())),
    ] {
        let server = ElevenLabs::start().await.unwrap();
        server.says("Grüß Gott, это Tandem.");
        if let Some(mishap) = mishap.clone() {
            server.upset(mishap);
        }
        let mut ear = open(&server);
        ear.feed(&voice(), 400);
        // It is understood before the end is asked for.
        let first = ear.next().await.unwrap();
        let told = [vec![first], ear.finish().await].concat();
        let told: Vec<_> = told
            .into_iter()
            .map(|event| match event {
                Recognised::Interim(stretch) => (false, stretch.text),
                Recognised::Final(stretch) => (true, stretch.text),
                other @ (Recognised::EndOfSpeech { .. } | Recognised::Unreadable(_)) => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told.len(), 3);
        assert_eq!(*whole.get_or_insert_with(|| told.clone()), told, "{mishap:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_does_not_end_the_session_at_once() {
    let server = ElevenLabs::start().await.unwrap();
    server.says("Hello there.");
    server.upset(Mishap::Before("<html></html>".to_owned()));
    let mut ear = open(&server);
    ear.feed(&voice(), 700);
    let found = ear.finish().await;
    assert!(matches!(&found[0], Recognised::Unreadable(error) if error.kind == Fault::Malformed), "{found:?}");
    assert!(matches!(found.last(), Some(Recognised::Final(stretch)) if stretch.text == "Hello there."));
    // Where there is nothing else, it does.
    server.upset(Mishap::Instead("{\"message_type\":\"partial".to_owned()));
    let mut ear = open(&server);
    ear.feed(&voice(), 4500);
    assert_eq!(ear.fails().await.kind, Fault::Malformed);
}

#[tokio::test]
async fn refusals_errors_and_early_ends_have_their_meaning() {
    let server = ElevenLabs::start().await.unwrap();
    for (mishap, kind, detail) in [
        (Mishap::Refuse(401), Fault::Denied, "HTTP 401"),
        (Mishap::Refuse(403), Fault::Denied, "HTTP 403"),
        (Mishap::Refuse(422), Fault::Rejected, "HTTP 422"),
        (Mishap::Refuse(429), Fault::Busy, "HTTP 429"),
        (Mishap::Refuse(503), Fault::Failed, "HTTP 503"),
        (Mishap::Refuse(200), Fault::Malformed, "HTTP 200"),
        (says("auth_error"), Fault::Denied, "auth_error"),
        (says("unaccepted_terms"), Fault::Denied, "unaccepted_terms"),
        (says("quota_exceeded"), Fault::Busy, "quota_exceeded"),
        (says("input_error"), Fault::Rejected, "input_error"),
        (says("session_time_limit_exceeded"), Fault::Failed, "session_time_limit_exceeded"),
        (Mishap::Close(100, 1000, "unaccepted_terms".to_owned()), Fault::Denied, "closed with 1000 unaccepted_terms"),
        (Mishap::Close(100, 1011, "you said".to_owned()), Fault::Failed, "closed with 1011"),
        (Mishap::Close(100, 1008, String::new()), Fault::Rejected, "closed with 1008"),
        (Mishap::Close(100, 1000, String::new()), Fault::Unreachable, "closed with 1000"),
        (Mishap::Break(100), Fault::Unreachable, "broke off"),
        (Mishap::Fail(100), Fault::Failed, "says that it failed: transcriber_error"),
    ] {
        server.upset(mishap.clone());
        let mut ear = open(&server);
        ear.feed(&voice(), 400);
        let error = ear.fails().await;
        assert_eq!(error.kind, kind, "{mishap:?}: {error}");
        assert!(error.detail.contains(detail) && !error.detail.contains("said"), "{mishap:?}: {error}");
        assert!(!error.detail.contains(KEY));
    }
}

#[tokio::test]
async fn nobody_there_and_too_much_to_send_and_no_answer_are_told() {
    let server = ElevenLabs::start().await.unwrap();
    let mut ear = open(&server);
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
    assert_eq!(Ear::open(&*gone).fails().await.kind, Fault::Unreachable);
    // Silence is not answered, and need not be; words that were asked for have to come.
    let server = ElevenLabs::start().await.unwrap();
    server.upset(Mishap::Deaf);
    let mut ear = open(&server);
    ear.feed(&voice(), 400);
    ear.0.finalize();
    let error = ear.fails().await;
    assert_eq!((error.kind, error.detail.as_str()), (Fault::Timeout, "nothing is answered"));
    assert!(ear.0.judges_itself());
}

#[tokio::test]
async fn without_sound_the_session_is_kept_alive() {
    let server = ElevenLabs::start().await.unwrap();
    server.says("Hello there.");
    let mut ear = open(&server);
    ear.feed(&SILENCE, 100);
    // Nobody asks meanwhile; 10 s of silence would end it.
    let is_kept = |sessions: &[tests::deepgram::Session]| sessions.first().is_some_and(|one| one.keep_alives == 2);
    server.wait_for("the second sign of life", is_kept).await;
    ear.feed(&voice(), 300);
    let found = ear.finish().await;
    assert!(matches!(found.last(), Some(Recognised::Final(stretch)) if stretch.text == "Hello there."));
}

#[tokio::test]
async fn recordings_are_put_into_words_by_another_model() {
    let server = ElevenLabs::start().await.unwrap();
    let recogniser = recogniser(&server, |settings| settings.temperature = Some(0.5));
    let speech = || Speech { pcm: vec![7; 16_000].into(), language: "de".to_owned(), mulaw: Bytes::new() };
    server.recorded(Ok("Guten Tag."));
    assert_eq!(recogniser.transcribe(speech()).await.unwrap(), "Guten Tag.");
    let asked = server.sessions();
    let form = String::from_utf8_lossy(&asked[0].first).into_owned();
    assert!(asked[0].is_recording && asked[0].bytes > 32_000 && form.contains("\r\n\r\nscribe_v2\r\n"), "{form}");
    assert_eq!(asked[0].authorization.as_deref(), Some(KEY));
    for (status, kind) in [(400, Fault::Rejected), (401, Fault::Denied), (429, Fault::Busy), (500, Fault::Failed)] {
        server.recorded(Err(status));
        assert_eq!(recogniser.transcribe(speech()).await.unwrap_err().kind, kind);
    }
}

#[tokio::test]
async fn a_call_whose_words_come_while_they_are_said_is_answered() {
    for more in ["", "endpoint = \"provider\"\nendpointing_ms = 300"] {
        let desk = desk(more).await;
        let mut phone = desk.greeted().await;
        for (clip, words) in ["What time is it?", "And tomorrow?", "Thank you."].into_iter().enumerate() {
            assert_eq!(desk.say(&mut phone, clip, words).await, words);
        }
        let sessions = desk.server.sessions();
        assert_eq!(sessions.len(), 1, "one session for the whole call, and no recording");
        assert_eq!(sessions[0].asked("language_code"), ["en"]);
        desk.close(phone).await;
    }
}

#[tokio::test]
async fn a_turn_in_which_the_session_ends_is_answered_all_the_same() {
    for (mishap, kind) in [
        (Mishap::Close(400, 1011, String::new()), "failed"),
        (Mishap::Fail(400), "failed"),
        (says("session_time_limit_exceeded"), "failed"),
        (says("rate_limited"), "busy"),
    ] {
        let desk = desk("").await;
        desk.server.upset(mishap);
        let mut phone = desk.greeted().await;
        assert_eq!(desk.say(&mut phone, 0, "What time is it?").await, "What time is it?");
        // What had been said before was said once more to the second.
        let sessions = desk.server.sessions();
        assert_eq!((sessions.len(), sessions[0].is_over, sessions[1].is_recording), (2, true, false));
        assert!(sessions[1].bytes > 8 * 400);
        eventually("the fault is counted", async || desk.errors(kind).await == 1.0).await;
        assert_eq!(desk.say(&mut phone, 1, "And tomorrow?").await, "And tomorrow?");
        desk.close(phone).await;
    }
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
    desk.server.upset(says("auth_error"));
    let mut phone = desk.greeted().await;
    let said = phone.say_all(&recorded()[0]).await.unwrap().ended.unwrap();
    phone.until("the apology", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
    assert!(desk.openai.asked_for(Stage::Chat).is_empty());
    let sessions = desk.server.sessions();
    assert!(sessions.iter().filter(|session| !session.is_recording).count() <= 2);
    eventually("both refusals are counted", async || desk.errors("denied").await >= 2.0).await;
    desk.close(phone).await;
}

#[tokio::test]
async fn terms_that_were_not_accepted_leave_recordings() {
    let desk = desk("").await;
    desk.server.recorded(Ok("What was recorded."));
    desk.server.upset(says("unaccepted_terms"));
    desk.server.upset(says("unaccepted_terms"));
    let mut phone = desk.greeted().await;
    assert_eq!(desk.say(&mut phone, 0, "never").await, "What was recorded.");
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
    for mishap in [Mishap::FinalizesAfter(Duration::from_secs(2)), Mishap::NeverFinalizes] {
        let desk = desk("").await;
        desk.server.upset(mishap);
        let mut phone = desk.greeted().await;
        // What was understood until then: the stand-in leaves the last word to the end.
        assert_eq!(desk.say(&mut phone, 0, "What time is it?").await, "What time is");
        desk.close(phone).await;
    }
}
