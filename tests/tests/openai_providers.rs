//! The worker's OpenAI-compatible providers against the stand-in: the delays of each stage, and each thing that goes
//! wrong, which ends as the fault that it is and leaves the next request alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use audio_worker::{
    dsp::SampleRate,
    provider::{
        Chat, Fault, Limits, Message, ProviderError, Role, Sound, Speech, SpeechToText, TextToSpeech, Token,
        http::Client,
        openai::{self, Server, speech, transcriptions},
    },
};
use futures_util::StreamExt;
use tests::openai::{End, Extent, Mishap, OpenAi, Script, Stage, in_turn};
use tokio::{runtime::Handle, time::Instant};

const KEY: &str = "sk-stand-in";

struct Stages {
    server: OpenAi,
    ears: Arc<dyn SpeechToText>,
    brain: Arc<dyn Chat>,
    voice: Arc<dyn TextToSpeech>,
}

impl Stages {
    async fn start(script: Script) -> Self {
        let server = OpenAi::start(Script { key: Some(KEY.to_owned()), ..script }).await.unwrap();
        let client = Client::new(Handle::current()).unwrap();
        let at = Server { base: server.base(), key: Some(KEY.to_owned().into()), limits: Limits::default() };
        let hearing = transcriptions::Settings { server: at.clone(), ..Default::default() };
        let thinking = openai::chat::Settings { server: at.clone(), ..Default::default() };
        let speaking = speech::Settings { server: at, ..Default::default() };
        Self {
            server,
            ears: openai::speech_to_text(&client, hearing).unwrap(),
            brain: openai::chat(&client, thinking).unwrap(),
            voice: openai::text_to_speech(&client, speaking).unwrap(),
        }
    }

    async fn hear(&self) -> Result<String, ProviderError> {
        self.ears
            .transcribe(Speech { pcm: vec![0; 16_000].into(), language: "en-US".to_owned(), ..Speech::default() })
            .await
    }

    /// The text, when its first piece came, and the error after it.
    async fn think(&self) -> (String, Duration, Option<ProviderError>) {
        let begun = now();
        let prompt = vec![Message::new(Role::User, "Hello?")];
        let (mut text, mut first, mut error) = (String::new(), None, None);
        let mut answer = self.brain.answer(prompt, &[]);
        while let Some(token) = answer.next().await {
            match token {
                Ok(Token::Text(piece)) => text.push_str(&piece),
                Ok(Token::Call(_) | Token::Usage { .. }) => {}
                Err(wrong) => error = Some(wrong),
            }
            first.get_or_insert(begun.elapsed());
        }
        (text, first.unwrap(), error)
    }

    /// The samples, when the first came, and the error after them.
    async fn speak(&self, text: &str) -> (Vec<i16>, Duration, Option<ProviderError>) {
        let begun = now();
        let (mut pcm, mut first, mut error) = (Vec::new(), None, None);
        let mut voice = self.voice.speak(text, "en-US");
        while let Some(sound) = voice.next().await {
            match sound {
                Ok(Sound::Pcm(rate, samples)) => {
                    assert_eq!(rate, SampleRate::Hz24000);
                    pcm.extend(samples);
                }
                Ok(other) => panic!("it does not say {other:?}"),
                Err(wrong) => error = Some(wrong),
            }
            first.get_or_insert(begun.elapsed());
        }
        (pcm, first.unwrap(), error)
    }

    async fn fault(&self, stage: Stage) -> Option<Fault> {
        let error = match stage {
            Stage::Transcription => self.hear().await.err(),
            Stage::Chat => self.think().await.2,
            Stage::Speech => self.speak("Hello.").await.2,
            Stage::Models => None,
        };
        error.map(|error| error.kind)
    }
}

#[expect(clippy::disallowed_methods, reason = "delays are measured in virtual time")]
fn now() -> Instant {
    Instant::now()
}

fn is_about(time: Duration, ms: u64) -> bool {
    time >= Duration::from_millis(ms) && time < Duration::from_millis(ms + 20)
}

#[tokio::test(start_paused = true)]
async fn each_stage_answers_as_scripted_after_its_delay() {
    let stages = Stages::start(Script { think: in_turn(["One two three.", "Four."]), ..Script::default() }).await;
    let begun = now();
    assert_eq!(stages.hear().await.unwrap(), "What can you do for me?");
    assert!(is_about(begun.elapsed(), 120), "{:?}", begun.elapsed());
    let (text, first, error) = stages.think().await;
    assert_eq!((text.as_str(), error), ("One two three.", None));
    assert!(is_about(first, 150), "{first:?}");
    assert_eq!(stages.think().await.0, "Four.");
    let begun = now();
    let (pcm, first, error) = stages.speak("Hello.").await;
    assert_eq!((pcm.len(), error), (6 * 60 * 24, None));
    assert!(is_about(first, 80), "{first:?}");
    assert!(is_about(begun.elapsed(), 80 + 8 * 4), "{:?}", begun.elapsed());
    let asked = stages.server.asked();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|asked| asked.end == Some(End::Answered) && asked.key.as_deref() == Some(KEY)));
    assert_eq!(asked[0].text("language"), "en");
    assert_eq!(asked[1].fields["messages"][0]["content"], "Hello?");
    assert_eq!(asked[3].text("input"), "Hello.");
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_ends_as_its_fault_and_alone() {
    use Fault::{Busy, Denied, Empty, Failed, Malformed, Timeout, Unreachable};
    let stages = Stages::start(Script::default()).await;
    let too_many = Mishap::TooMany { retry_after: Some(Duration::from_secs(1)) };
    let everywhere = [
        (Mishap::Down, [Unreachable; 3]),
        (Mishap::Silent, [Timeout; 3]),
        (Mishap::Slow(Duration::from_secs(11)), [Timeout; 3]),
        (Mishap::Html, [Malformed; 3]),
        (Mishap::HalfJson, [Malformed; 3]),
        (Mishap::Nothing, [Malformed, Malformed, Empty]),
        (Mishap::CloseEarly, [Unreachable; 3]),
        (Mishap::Unauthorized, [Denied; 3]),
        (too_many, [Busy; 3]),
        (Mishap::Internal, [Failed; 3]),
    ];
    let all = [Stage::Transcription, Stage::Chat, Stage::Speech];
    let each = everywhere.into_iter().flat_map(|(mishap, faults)| {
        let of = move |(stage, fault)| (stage, mishap.clone(), fault);
        // Half a JSON is no voice, and no less of one.
        all.into_iter()
            .zip(faults)
            .map(of)
            .filter(|(stage, mishap, _)| *stage != Stage::Speech || *mishap != Mishap::HalfJson)
    });
    let some = [
        (Stage::Speech, Mishap::WrongRate, Malformed),
        (Stage::Speech, Mishap::ErrorText, Malformed),
        (Stage::Chat, Mishap::ErrorMidway, Failed),
    ];
    for (stage, mishap, fault) in each.chain(some) {
        stages.server.upset(stage, mishap.clone(), Extent::Lasting);
        assert_eq!(stages.fault(stage).await, Some(fault), "{stage:?} {mishap:?}");
        stages.server.mend(stage);
        assert_eq!(stages.fault(stage).await, None, "{stage:?} after {mishap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_passes_once_is_not_noticed() {
    let stages = Stages::start(Script::default()).await;
    for mishap in [Mishap::Down, Mishap::Internal, Mishap::TooMany { retry_after: None }] {
        for stage in [Stage::Transcription, Stage::Chat, Stage::Speech] {
            let before = stages.server.asked_for(stage).len();
            stages.server.upset(stage, mishap.clone(), Extent::Times(1));
            assert_eq!(stages.fault(stage).await, None, "{stage:?} {mishap:?}");
            assert_eq!(stages.server.asked_for(stage).len(), before + 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_seen_to_be() {
    let words = vec!["word"; 1000].join(" ");
    let script = Script { think: in_turn([words]), next_token: Duration::from_millis(50), ..Script::default() };
    let stages = Stages::start(script).await;
    let mut answer = stages.brain.answer(vec![Message::new(Role::User, "Count.")], &[]);
    for _ in 0..3 {
        answer.next().await.unwrap().unwrap();
    }
    drop(answer);
    let asked = stages.server.wait_for("the end", |asked| asked[0].end.is_some()).await;
    assert_eq!(asked[0].end, Some(End::GivenUp));
    assert!(asked[0].pieces >= 4 && asked[0].pieces < 20, "{}", asked[0].pieces);
    let transcript = stages.ears.transcribe(Speech { pcm: vec![0; 160].into(), ..Speech::default() });
    stages.server.wait_for("a recording", |asked| asked.len() == 2).await;
    drop(transcript);
    let asked = stages.server.wait_for("the end", |asked| asked[1].end.is_some()).await;
    assert_eq!((asked[1].end, asked[1].answered), (Some(End::GivenUp), None));
}

#[tokio::test]
async fn closures_hear_think_and_speak() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let script = Script {
        hear: Arc::new(|heard| {
            let wav = hound::WavReader::new(&heard.wav[..]).unwrap();
            format!("{} Hz, {} samples, {:?}", wav.spec().sample_rate, wav.duration(), heard.language)
        }),
        think: Arc::new(|turns| turns.iter().map(|turn| turn.role.to_uppercase()).collect()),
        say: Arc::new({
            let said = Arc::clone(&said);
            move |text, voice| {
                said.lock().unwrap().push(format!("{voice}: {text}"));
                (0..100).collect()
            }
        }),
        ..Script::default()
    };
    let stages = Stages::start(script).await;
    assert_eq!(stages.hear().await.unwrap(), "16000 Hz, 16000 samples, Some(\"en\")");
    assert_eq!(stages.think().await.0, "USER");
    assert_eq!(stages.speak("Hello.").await.0, (0..100).collect::<Vec<i16>>());
    assert_eq!(*said.lock().unwrap(), ["alloy: Hello."]);
}
