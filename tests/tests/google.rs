//! Google: its streams against a stand-in that speaks the published protocol, and calls whose words come from them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{future::poll_fn, sync::Arc, time::Duration};

use audio_worker::{
    agent::Agents,
    dsp::mulaw,
    provider::{
        Fault, ProviderError, Speech, SpeechToText,
        endpoint::Server,
        google::{
            self,
            recognize::{Settings, Streams},
        },
        http::Client,
        listening::{Listening, Recognised},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use proto::google_speech::{
    StreamingRecognitionResult, StreamingRecognizeResponse, recognition_config::AudioEncoding,
    streaming_recognize_response::SpeechEventType,
};
use serde_json::json;
use tests::{
    google::{Google, Mishap},
    openai::{OpenAi, Script, Stage, tone},
    stack::{Stack, StackPlan, eventually},
    talk::{Phone, recorded, staff},
};
use tokio::{runtime::Handle, time::timeout};
use tonic::Code;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which an answer is over.
const PAUSE: Duration = Duration::from_millis(600);
const KEY: &str = "AIza-0123456789abcdef";
/// A key that was made for tests alone.
const ACCOUNT_KEY: &[u8] = include_bytes!("../../audio-worker/src/provider/google/fixtures/key.der");

fn recogniser(server: &Google, change: impl FnOnce(&mut Settings)) -> Arc<dyn SpeechToText> {
    let place = Server { base: server.base(), key: Some(KEY.to_owned().into()), ..Server::default() };
    let streaming = Some(Streams { ends: false });
    let mut settings = Settings { server: place, model: "telephony".to_owned(), prompt: None, streaming };
    change(&mut settings);
    google::speech_to_text(&Client::new(Handle::current()).unwrap(), settings).unwrap()
}

/// A session that is fed by hand.
struct Ear(Box<dyn Listening>);

impl Ear {
    fn open(server: &Google) -> Self {
        Self(recogniser(server, |_| {}).listen("en-GB", Bytes::new()).unwrap())
    }

    fn feed(&mut self, sound: &[u8], ms: usize, is_voice: bool) {
        for frame in sound.iter().copied().cycle().take(ms * 8).collect::<Vec<_>>().chunks(160) {
            self.0.feed(frame);
            if is_voice {
                self.0.voice();
            }
        }
    }

    fn speak(&mut self, ms: usize) {
        self.feed(&voice(), ms, true);
    }

    async fn next(&mut self) -> Result<Recognised, ProviderError> {
        timeout(PATIENCE, poll_fn(|cx| self.0.poll(cx))).await.expect("nothing comes")
    }

    /// All up to the first final words.
    async fn finish(&mut self) -> Vec<Recognised> {
        self.0.finalize();
        let mut found = Vec::new();
        loop {
            let next = self.next().await.unwrap();
            let is_final = matches!(next, Recognised::Final(_));
            found.push(next);
            if is_final {
                return found;
            }
        }
    }

    async fn fails(&mut self) -> ProviderError {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }
}

/// Mu-law of a loud tone.
fn voice() -> Vec<u8> {
    let mut codes = Vec::new();
    let pcm: Vec<i16> = tone(400.0, Duration::from_secs(1)).into_iter().step_by(3).collect();
    mulaw::encode(&pcm, &mut codes);
    codes
}

const SILENCE: [u8; 160] = [0xff; 160];

#[tokio::test]
async fn a_stream_says_what_it_wants_hears_all_and_ends_in_good_order() {
    let server = Google::start().await.unwrap();
    server.says("Hello there.");
    let recogniser = recogniser(&server, |settings| settings.prompt = Some("Tandem, mu-law".to_owned()));
    let mut ear = Ear(recogniser.listen("en-GB", Bytes::from_static(&[0x12; 20_000])).unwrap());
    ear.feed(&[0x34], 20, true);
    ear.0.feed(&[]);
    ear.speak(700);
    let found = ear.finish().await;
    let Some(Recognised::Final(stretch)) = found.last() else { panic!("{found:?}") };
    assert_eq!((stretch.from_ms, stretch.to_ms, stretch.text.as_str()), (0, 2500 + 720, "Hello there."));
    assert_eq!((stretch.words.len(), stretch.words[1].text.as_str(), stretch.words[1].to_ms), (2, "there.", 3220));
    assert!(matches!(&found[0], Recognised::Interim(stretch) if stretch.text == "Hello"), "{found:?}");
    assert_eq!(ear.0.sent_ms(), Some(3220));
    let sessions = server.wait_for("the end", |sessions| sessions[0].is_over).await;
    let session = &sessions[0];
    assert!(session.is_closed && session.largest <= 8000);
    assert_eq!((session.bytes, session.first[0]), (20_000 + 720 * 8, 0x12));
    assert_eq!((session.credential("x-goog-api-key"), session.credential("authorization")), (Some(KEY), None));
    let asked = session.config.clone().unwrap();
    let config = asked.config.unwrap();
    assert!(asked.interim_results && !asked.single_utterance && !asked.enable_voice_activity_events);
    assert_eq!((config.encoding(), config.sample_rate_hertz), (AudioEncoding::Mulaw, 8000));
    assert_eq!((config.language_code.as_str(), config.model.as_str()), ("en-GB", "telephony"));
    assert_eq!(config.speech_contexts[0].phrases, ["Tandem", "mu-law"]);
    assert!(config.enable_automatic_punctuation && config.enable_word_time_offsets);
}

#[tokio::test]
async fn silence_is_not_sent_and_each_turn_is_a_stream() {
    let server = Google::start().await.unwrap();
    let mut ear = Ear::open(&server);
    for (at, words) in ["Hello there.", "What time is it?"].into_iter().enumerate() {
        server.says(words);
        ear.feed(&SILENCE, 3000, false);
        ear.speak(600);
        ear.feed(&SILENCE, 100, false);
        let found = ear.finish().await;
        let end_ms = (at as u64 + 1) * 3700;
        assert!(
            matches!(found.last(), Some(Recognised::Final(last)) if last.text == words && last.to_ms == end_ms),
            "{found:?}"
        );
        server.wait_for("its end", |sessions| sessions.get(at).is_some_and(|session| session.is_over)).await;
    }
    // 480 ms before it, the voice and what was silent then.
    let bytes: Vec<_> = server.sessions().iter().map(|session| session.bytes).collect();
    assert_eq!(bytes, [(480 + 600 + 100) * 8; 2]);
    // One that is left while it speaks ends, too.
    ear.speak(600);
    server.wait_for("another stream", |sessions| sessions.len() == 3).await;
    drop(ear);
    server.wait_for("its end", |sessions| sessions[2].is_over).await;
}

#[tokio::test]
async fn ends_of_speech_are_told_with_the_words() {
    let server = Google::start().await.unwrap();
    server.says("Hello there.");
    let recogniser = recogniser(&server, |settings| settings.streaming = Some(Streams { ends: true }));
    let mut ear = Ear(recogniser.listen("", Bytes::new()).unwrap());
    ear.speak(600);
    ear.feed(&SILENCE, 700, false);
    let mut found = Vec::new();
    while !matches!(found.last(), Some(Recognised::EndOfSpeech { .. })) {
        found.push(ear.next().await.unwrap());
    }
    // After 600 ms of silence; the words are final by then.
    assert_eq!(found.last(), Some(&Recognised::EndOfSpeech { at_ms: 1200 }));
    let is_final = |told: &Recognised| matches!(told, Recognised::Final(last) if last.text == "Hello there.");
    assert!(found.iter().any(is_final), "{found:?}");
    let config = server.sessions()[0].config.clone().unwrap();
    assert!(config.enable_voice_activity_events);
    assert_eq!(config.config.unwrap().language_code, "en-US");
}

#[tokio::test]
async fn what_comes_in_pieces_or_between_others_is_the_same() {
    let event = |kind: SpeechEventType| StreamingRecognizeResponse {
        speech_event_type: kind.into(),
        ..StreamingRecognizeResponse::default()
    };
    let without_alternatives = StreamingRecognizeResponse {
        results: vec![StreamingRecognitionResult::default(); 2],
        ..StreamingRecognizeResponse::default()
    };
    let mut whole = None;
    for (pace, mishap) in [
        (None, None),
        (Some(Duration::ZERO), None),
        (Some(Duration::from_millis(1)), None),
        (None, Some(Mishap::Before(StreamingRecognizeResponse::default()))),
        (None, Some(Mishap::Before(event(SpeechEventType::SpeechActivityTimeout)))),
        (None, Some(Mishap::Before(without_alternatives))),
        (None, Some(Mishap::FinalAfter(Duration::from_secs(1)))),
    ] {
        let server = Google::start().await.unwrap();
        server.says("Grüß Gott, это Tandem.");
        if let Some(pace) = pace {
            server.drip(pace);
        }
        if let Some(mishap) = mishap.clone() {
            server.upset(mishap);
        }
        let mut ear = Ear::open(&server);
        ear.speak(700);
        // Both are understood before it is asked.
        let mut found = vec![ear.next().await.unwrap(), ear.next().await.unwrap()];
        found.extend(ear.finish().await);
        assert_eq!(found.len(), 3);
        assert_eq!(*whole.get_or_insert_with(|| found.clone()), found, "{pace:?} {mishap:?}");
    }
}

#[tokio::test]
async fn refusals_and_early_ends_have_their_meaning() {
    let server = Google::start().await.unwrap();
    for (mishap, kind, detail) in [
        (Mishap::Refuse(Code::InvalidArgument), Fault::Rejected, "InvalidArgument: Not today."),
        (Mishap::Refuse(Code::Unauthenticated), Fault::Denied, "Unauthenticated"),
        (Mishap::Refuse(Code::PermissionDenied), Fault::Denied, "PermissionDenied"),
        (Mishap::WrongKey, Fault::Denied, "API key not valid"),
        (Mishap::Refuse(Code::ResourceExhausted), Fault::Busy, "ResourceExhausted"),
        (Mishap::Refuse(Code::Unavailable), Fault::Unreachable, "Unavailable"),
        (Mishap::Fail(100, Code::Internal), Fault::Failed, "Internal"),
        (Mishap::Fail(100, Code::OutOfRange), Fault::Failed, "OutOfRange"),
        (Mishap::Tell(100, Code::ResourceExhausted), Fault::Busy, "ResourceExhausted"),
        (Mishap::Leave(100), Fault::Unreachable, "ended early"),
    ] {
        server.upset(mishap.clone());
        let mut ear = Ear::open(&server);
        ear.speak(400);
        let error = ear.fails().await;
        assert_eq!(error.kind, kind, "{mishap:?}: {error}");
        assert!(error.detail.contains(detail) && !error.detail.contains(KEY), "{mishap:?}: {error}");
    }
}

#[tokio::test]
async fn nobody_there_nobody_who_answers_and_too_much_to_send_are_told() {
    let server = Google::start().await.unwrap();
    let mut ear = Ear::open(&server);
    // More than 5 s, before any of it could leave.
    ear.feed(&voice(), 5020, true);
    let error = ear.fails().await;
    assert_eq!((error.kind, error.detail.as_str()), (Fault::Timeout, "5 s of sound could not be sent"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let at = |settings: &mut Settings| settings.server.base = format!("http://{address}/v1").parse().unwrap();
    // Takes the connection, and nothing else.
    let mut ear = Ear(recogniser(&server, at).listen("", Bytes::new()).unwrap());
    ear.speak(400);
    ear.0.finalize();
    assert_eq!(ear.fails().await.kind, Fault::Timeout);
    drop(listener);
    let mut ear = Ear(recogniser(&server, at).listen("", Bytes::new()).unwrap());
    assert_eq!(ear.fails().await.kind, Fault::Unreachable);
    // One that says nothing, nor ends.
    server.upset(Mishap::Deaf);
    let mut ear = Ear::open(&server);
    ear.speak(400);
    ear.0.finalize();
    assert_eq!(ear.fails().await.kind, Fault::Timeout);
    // And one that is gone.
    let mut ear = Ear::open(&server);
    ear.speak(400);
    server.wait_for("the stream", |sessions| sessions.last().is_some_and(|last| last.bytes > 0 && !last.is_over)).await;
    drop(server);
    let error = ear.fails().await;
    assert_ne!(error.kind, Fault::Denied, "{error}");
}

#[tokio::test]
async fn a_flood_is_taken_as_it_can_be_and_does_not_outlive_the_session() {
    let server = Google::start().await.unwrap();
    server.says("Hello there.");
    server.upset(Mishap::Flood(1000));
    let mut ear = Ear::open(&server);
    ear.speak(340);
    let found = ear.finish().await;
    assert_eq!(found.len(), 1001);
    server.says("Hello there.");
    server.upset(Mishap::Flood(usize::MAX));
    ear.speak(700);
    ear.next().await.unwrap();
    drop(ear);
    server.wait_for("its end", |sessions| sessions[1].is_over).await;
}

#[tokio::test]
async fn an_account_shows_a_token_and_gets_another_when_that_is_refused() {
    let server = Google::start().await.unwrap();
    let key = STANDARD.encode(ACCOUNT_KEY);
    let account = json!({
        "type": "service_account",
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
        "client_email": "tandem@tests.iam.gserviceaccount.com",
        "token_uri": server.token_uri(),
        "quota_project_id": "payer",
    });
    let recogniser = recogniser(&server, |settings| settings.server.key = Some(account.to_string().into()));
    for (refusals, tokens, words) in [(1, 2, Some("Hello there.")), (2, 3, None)] {
        for _ in 0..refusals {
            server.upset(Mishap::Refuse(Code::Unauthenticated));
        }
        server.says("Hello there.");
        let mut ear = Ear(recogniser.listen("", Bytes::new()).unwrap());
        ear.speak(700);
        match words {
            Some(words) => {
                let found = ear.finish().await;
                // What the first stream had been told was told once more.
                assert!(
                    matches!(found.last(), Some(Recognised::Final(last)) if last.text == words && last.to_ms == 700),
                    "{found:?}"
                );
            }
            None => {
                let error = ear.fails().await;
                assert!(error.kind == Fault::Denied && !error.detail.contains("ya29"), "{error}");
            }
        }
        assert_eq!(server.tokens(), tokens);
    }
    let shown = |name: &str| -> Vec<_> {
        server.sessions().iter().map(|session| session.credential(name).unwrap_or_default().to_owned()).collect()
    };
    let bearers = ["1", "2", "2", "3"].map(|number| format!("Bearer ya29.token-{number}"));
    assert_eq!((shown("authorization"), shown("x-goog-user-project")), (bearers.to_vec(), vec!["payer".to_owned(); 4]));
}

#[tokio::test]
async fn recordings_are_put_into_words_and_whole_turns_can_be_had() {
    let server = Google::start().await.unwrap();
    server.recorded(Ok("Guten Tag."));
    let whole = recogniser(&server, |settings| settings.streaming = None);
    assert!(whole.listen("de", Bytes::new()).is_none());
    let speech = Speech { pcm: vec![7; 16_000].into(), language: "de".to_owned(), mulaw: vec![7; 8000].into() };
    assert_eq!(whole.transcribe(speech).await.unwrap(), "Guten Tag.");
    assert!(server.sessions()[0].is_recording);
}

/// An agent that is heard through the stand-in.
struct Desk {
    stack: Stack,
    google: Google,
    openai: OpenAi,
}

impl Desk {
    async fn open(more: &str) -> Self {
        let script =
            Script { think: Arc::new(|turns| format!("You said {}", turns.last().unwrap().text)), ..Script::default() };
        let (openai, google) = (OpenAi::start(script).await.unwrap(), Google::start().await.unwrap());
        let stack = Stack::start(
            StackPlan::default().agents(Self::staff(&openai, &google, more)).gateway("DEFAULT_AGENT", "desk"),
        );
        Self { stack: stack.await, google, openai }
    }

    fn staff(openai: &OpenAi, google: &Google, more: &str) -> Agents {
        let url = google.base();
        let file = format!(
            r#"
            [agent.desk]
            kind = "pipeline"
            instructions = "Be brief."
            greeting = "Hello there."
            max_faults = 20
            [agent.desk.speech_to_text]
            provider = "google"
            url = "{url}"
            {more}
            [agent.desk.chat]
            model = "m"
            [agent.desk.text_to_speech]
            model = "m"
            "#
        );
        staff(&file, &openai.base())
    }

    async fn greeted(&self) -> Phone {
        let mut phone = Phone::dial(&self.stack.call_plan()).await.unwrap();
        let began = phone.began();
        phone.until("the greeting", PATIENCE, |log| log.has_answered(began, PAUSE)).await.unwrap();
        phone
    }

    /// Says something in which `words` are understood; gives what the model was told of it.
    async fn say(&self, phone: &mut Phone, clip: usize, words: &str) -> String {
        self.google.says(words);
        let said = phone.say_all(&recorded()[clip]).await.unwrap().ended.unwrap();
        phone.until("an answer", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
        let asked = self.openai.asked_for(Stage::Chat);
        let messages = asked.last().unwrap().fields["messages"].as_array().unwrap().clone();
        messages.last().unwrap()["content"].as_str().unwrap().to_owned()
    }

    async fn errors(&self, kind: &str) -> f64 {
        let name = format!("tandem_worker_provider_errors_total{{kind=\"{kind}\",stage=\"speech_to_text\"}}");
        self.stack.worker_metrics().await.of(&name).unwrap_or_default()
    }

    async fn close(self, mut phone: Phone) {
        phone.hang_up().await;
        self.google.wait_for("the end of all streams", |sessions| sessions.iter().all(|one| one.is_over)).await;
        self.stack.stop().await;
    }
}

#[tokio::test]
async fn a_call_whose_words_come_while_they_are_said_is_answered_and_only_speech_is_paid_for() {
    for more in ["", "endpoint = \"provider\"\nfinalize_wait_ms = 500"] {
        let desk = Desk::open(more).await;
        let mut phone = desk.greeted().await;
        for (clip, words) in ["What time is it?", "And tomorrow?", "Thank you."].into_iter().enumerate() {
            assert_eq!(desk.say(&mut phone, clip, words).await, words);
        }
        phone.hang_up().await;
        let over = |sessions: &[tests::google::Session]| sessions.iter().all(|one| one.is_over);
        let sessions = desk.google.wait_for("the end of all streams", over).await;
        assert!(sessions.len() >= 3 && sessions.iter().all(|session| !session.is_recording));
        let sent: usize = sessions.iter().map(|session| session.bytes).sum();
        let said: usize = (0..3).map(|clip| recorded()[clip].mulaw.len()).sum();
        // Half a second before each turn, and silence behind it.
        assert!(sent < said + 3 * 8 * 2000, "{sent} bytes for {said}");
        let name = "tandem_worker_provider_seconds_total{provider=\"google\",stage=\"speech_to_text\"}";
        eventually("it is counted", async || {
            let counted = desk.stack.worker_metrics().await.of(name).unwrap_or_default();
            (counted - sent as f64 / 8000.0).abs() < 0.01
        })
        .await;
        desk.stack.stop().await;
    }
}

#[tokio::test]
async fn a_turn_in_which_a_stream_dies_is_answered_all_the_same() {
    let desk = Desk::open("").await;
    desk.google.upset(Mishap::Fail(400, Code::Internal));
    let mut phone = desk.greeted().await;
    assert_eq!(desk.say(&mut phone, 0, "What time is it?").await, "What time is it?");
    // What had been said before it died was said once more in the second.
    let sessions = desk.google.sessions();
    assert!(sessions.len() >= 2 && sessions.iter().all(|session| !session.is_recording));
    assert!(sessions[1].bytes > sessions[0].bytes, "{} and {}", sessions[0].bytes, sessions[1].bytes);
    eventually("the fault is counted", async || desk.errors("failed").await == 1.0).await;
    assert_eq!(desk.say(&mut phone, 1, "And tomorrow?").await, "And tomorrow?");
    desk.close(phone).await;
}

#[tokio::test]
async fn where_nobody_listens_any_more_the_recording_is_asked_for() {
    let desk = Desk::open("").await;
    desk.google.recorded(Ok("What was recorded."));
    desk.google.upset(Mishap::Fail(400, Code::Unavailable));
    desk.google.upset(Mishap::Refuse(Code::Unavailable));
    let mut phone = desk.greeted().await;
    assert_eq!(desk.say(&mut phone, 0, "never").await, "What was recorded.");
    eventually("both faults are counted", async || desk.errors("unreachable").await == 2.0).await;
    // Later it listens again.
    for turn in 1..4 {
        if desk.say(&mut phone, turn % 3, "And tomorrow?").await == "And tomorrow?" {
            return desk.close(phone).await;
        }
    }
    panic!("nobody listens again: {:?}", desk.google.sessions().len());
}

#[tokio::test]
async fn with_a_wrong_key_the_caller_hears_an_apology_and_nobody_insists() {
    let desk = Desk::open("").await;
    desk.google.recorded(Err(401));
    desk.google.upset(Mishap::WrongKey);
    desk.google.upset(Mishap::WrongKey);
    let mut phone = desk.greeted().await;
    let said = phone.say_all(&recorded()[0]).await.unwrap().ended.unwrap();
    phone.until("the apology", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
    assert!(desk.openai.asked_for(Stage::Chat).is_empty());
    // Another provider could stand in for it, so a session is asked for once more, and no more.
    assert!(desk.google.sessions().iter().filter(|session| !session.is_recording).count() <= 2);
    eventually("both refusals are counted", async || desk.errors("denied").await >= 2.0).await;
    desk.close(phone).await;
}

#[tokio::test]
async fn one_who_says_nothing_is_not_believed_and_late_words_are_not_waited_for() {
    let desk = Desk::open("").await;
    desk.google.recorded(Ok("What was recorded."));
    desk.google.upset(Mishap::Deaf);
    let mut phone = desk.greeted().await;
    assert_eq!(desk.say(&mut phone, 0, "never").await, "What was recorded.");
    desk.close(phone).await;
    let desk = Desk::open("").await;
    desk.google.upset(Mishap::FinalAfter(Duration::from_secs(2)));
    let mut phone = desk.greeted().await;
    // What was understood until then: the stand-in leaves the last word to the end.
    assert_eq!(desk.say(&mut phone, 0, "What time is it?").await, "What time is");
    desk.close(phone).await;
}
