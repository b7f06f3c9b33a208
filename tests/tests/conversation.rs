//! Conversations through the whole system: real speech through the line, the worker's own ears and turns, a stand-in for
//! the providers. What the caller hears, what the model is told of it, and what is left when something goes wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tests::{
    corpus::murmurs,
    line::{after, is_fallback},
    openai::{Asked, Extent, Mishap, OpenAi, Script, Stage, tone},
    signal,
    sim::{CallPlan, Verb, decode_mulaw},
    stack::{Stack, StackPlan, eventually},
    talk::{Clip, Closed, Phone, recorded, staff},
};

/// The stand-in's voice takes so long for a character.
const CHARACTER: Duration = Duration::from_millis(60);
/// How long an answer may take to come and to be heard.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which the caller takes an answer as over.
const PAUSE: Duration = Duration::from_millis(600);

/// An agent, its providers and a caller's way to it.
struct Desk {
    stack: Stack,
    server: OpenAi,
    plan: CallPlan,
    /// What the recogniser hears in whatever comes.
    words: Arc<Mutex<String>>,
    transcripts: PathBuf,
}

impl Desk {
    async fn open(name: &str, more: &str) -> Self {
        let words = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&words);
        let script = Script {
            hear: Arc::new(move |_| heard.lock().unwrap().clone()),
            think: Arc::new(|turns| match turns.last().unwrap().text.as_str() {
                "Tell me a story." => STORY.to_owned(),
                said => format!("You said {said}"),
            }),
            say: Arc::new(|text, _| tone(pitch(text), CHARACTER * u32::try_from(text.chars().count()).unwrap())),
            ..Script::default()
        };
        let server = OpenAi::start(script).await.unwrap();
        let transcripts = std::env::temp_dir().join(format!("tandem-talk-{name}-{}", std::process::id()));
        let file = format!(
            r#"
            [agent.desk]
            kind = "pipeline"
            instructions = "Be brief."
            greeting = "Hello there."
            apology = "Alas."
            silence_prompts = ["Still there?"]
            goodbye = "Bye for now."
            {more}
            [agent.desk.speech_to_text]
            model = "m"
            timeout_first_ms = 1500
            [agent.desk.chat]
            model = "m"
            timeout_first_ms = 1500
            [agent.desk.text_to_speech]
            model = "m"
            format = "wav"
            timeout_first_ms = 1500
            "#
        );
        let plan = StackPlan::default()
            .agents(staff(&file, &server.base()))
            .worker("TRANSCRIPTS_DIR", transcripts.to_str().unwrap())
            .gateway("DEFAULT_AGENT", "desk");
        let stack = Stack::start(plan).await;
        let plan = stack.call_plan();
        Self { stack, server, plan, words, transcripts }
    }

    /// A caller who has heard the greeting.
    async fn greeted(&self) -> Phone {
        let mut phone = Phone::dial(&self.plan).await.unwrap();
        let began = phone.began();
        phone.until("the greeting", PATIENCE, |log| log.has_answered(began, PAUSE)).await.unwrap();
        phone
    }

    /// Says something, in which `words` are understood, and hears what comes of it.
    async fn say(&self, phone: &mut Phone, clip: &Clip, words: &str) {
        words.clone_into(&mut self.words.lock().unwrap());
        let said = phone.say_all(clip).await.unwrap().ended.unwrap();
        phone.until("an answer", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
    }

    /// The newest request for an answer, as roles and texts.
    fn newest_prompt(&self) -> Vec<(String, String)> {
        let asked = self.server.asked_for(Stage::Chat);
        let messages = asked.last().unwrap().fields["messages"].as_array().unwrap();
        let text = |message: &Value, name: &str| message[name].as_str().unwrap().to_owned();
        messages.iter().map(|message| (text(message, "role"), text(message, "content"))).collect()
    }

    /// The transcript of a call that is over.
    async fn transcript(&self, call_sid: &str) -> Vec<Value> {
        let path = self.transcripts.join(format!("{call_sid}.jsonl"));
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        eventually("the transcript is whole", async || read().contains("\"ended\"")).await;
        read().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn close(self) {
        self.stack.stop().await;
        std::fs::remove_dir_all(&self.transcripts).unwrap();
    }
}

/// Seven seconds and a half.
const STORY: &str = "Once there was a gateway. Often it was called by people. Others wanted to hear it sing a long song again. \
                     On and on it went.";

/// Each text has a pitch of its own, by its first letter.
fn pitch(text: &str) -> f64 {
    let letter = text.chars().next().unwrap_or('A').to_ascii_uppercase();
    400.0 + 50.0 * f64::from(u32::from(letter).saturating_sub(u32::from('A')).min(25))
}

/// Milliseconds of a text's pitch in what was heard.
fn heard_ms(heard: &[i16], text: &str) -> usize {
    heard.chunks(160).filter(|frame| is_tone(frame, pitch(text))).count() * 20
}

fn is_tone(frame: &[i16], hz: f64) -> bool {
    signal::tone_share(frame, hz) > 0.6 && frame.iter().any(|sample| sample.unsigned_abs() > 2000)
}

fn speech() -> Vec<Clip> {
    recorded()
}

fn spoken(lines: &[Value], speaker: &str) -> Vec<String> {
    let of = |line: &&Value| line["event"] == "said" && line["speaker"] == speaker;
    lines.iter().filter(of).map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

/// Samples of a recording that was sent, at 8 kHz.
fn recording(asked: &Asked) -> Vec<i16> {
    let mut wav = hound::WavReader::new(&asked.file[..]).unwrap();
    assert_eq!(wav.spec().sample_rate, 16_000);
    wav.samples::<i16>().step_by(2).map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_call_of_several_turns_is_heard_and_answered() {
    let desk = Desk::open("turns", "").await;
    let (clips, mut phone) = (speech(), desk.greeted().await);
    let said = ["what time is it", "and tomorrow", "thank you"];
    for (clip, words) in clips.iter().zip(said) {
        desk.say(&mut phone, clip, words).await;
        // What was asked for was what the caller said, from its beginning to its end.
        let asked = desk.server.asked_for(Stage::Transcription);
        let sent = recording(asked.last().unwrap());
        let found = signal::align(&decode_mulaw(&clip.mulaw), &sent, sent.len()).unwrap();
        assert!(found.correlation > 0.8, "{words}: {found:?} of {} samples", sent.len());
        assert_eq!(asked.last().unwrap().text("language"), "en");
    }
    let told = |role: &str, text: &str| (role.to_owned(), text.to_owned());
    let expected = [
        told("system", "Be brief."),
        told("assistant", "Hello there."),
        told("user", said[0]),
        told("assistant", "You said what time is it"),
        told("user", said[1]),
        told("assistant", "You said and tomorrow"),
        told("user", said[2]),
    ];
    assert_eq!(desk.newest_prompt(), expected);
    phone.hang_up().await;
    let lines = desk.transcript(phone.call_sid()).await;
    assert_eq!(spoken(&lines, "caller"), said);
    assert_eq!(spoken(&lines, "agent").len(), 4);
    let answered: Vec<_> = lines.iter().filter(|line| line["event"] == "answered").collect();
    assert_eq!(answered.len(), 3);
    for line in answered {
        let ms = |name: &str| line[name].as_u64().unwrap();
        assert!(ms("speech_to_text_ms") < ms("first_token_ms") && ms("first_token_ms") < ms("first_audio_ms"));
        assert!(ms("first_sent_ms") >= ms("endpoint_ms").max(ms("first_audio_ms")), "{line}");
    }
    let heard = decode_mulaw(&phone.into_heard());
    for (text, characters) in [("Hello", 12), ("You", 24 + 21 + 18)] {
        let (ms, expected) = (heard_ms(&heard, text), characters * 60);
        assert!(ms.abs_diff(expected) <= 120, "{text}: {ms} of {expected} ms were heard");
    }
    let metrics = desk.stack.worker_metrics().await;
    assert_eq!(metrics.of("tandem_worker_turns_total"), Some(3.0));
    assert_eq!(metrics.of("tandem_worker_response_seconds_count"), Some(3.0));
    desk.close().await;
}

#[tokio::test]
async fn an_interruption_silences_the_agent_and_the_model_is_told_what_was_heard() {
    let desk = Desk::open("interruption", "").await;
    let (clips, mut phone) = (speech(), desk.greeted().await);
    "Tell me a story.".clone_into(&mut desk.words.lock().unwrap());
    let asked = phone.say_all(&clips[0]).await.unwrap().ended.unwrap();
    phone.until("the story", PATIENCE, |log| log.media_after(asked).is_some()).await.unwrap();
    let before = phone.playout().played;
    phone.wait(Duration::from_millis(2500)).await.unwrap();
    "stop that".clone_into(&mut desk.words.lock().unwrap());
    phone.say(&clips[2]);
    phone.until("clear", PATIENCE, |log| !log.clears.is_empty()).await.unwrap();
    let (cleared, heard_ms) = (phone.log().clears[0], (phone.playout().played - before) / 8);
    phone.until("the end", PATIENCE, |log| log.last_word().is_some()).await.unwrap();
    let said = phone.log().last_word().unwrap();
    phone.until("an answer", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
    // Between `clear` and the caller's last word nothing came.
    let first = phone.log().media_after(cleared).unwrap().at;
    assert!(
        first > said,
        "{:?} after clear, {:?} before the caller's end",
        first - cleared,
        said.duration_since(first)
    );
    // The model is told what was heard, and no more.
    let prompt = desk.newest_prompt();
    let (role, text) = &prompt[prompt.len() - 2];
    assert_eq!((role.as_str(), prompt.last().unwrap().1.as_str()), ("assistant", "stop that"));
    assert!(STORY.starts_with(text.as_str()), "{text:?}");
    let told_ms = text.chars().count() as u64 * 60;
    // A word that was half heard counts, or does not: that is up to half of the longest word beside the 200 ms.
    assert!(told_ms.abs_diff(heard_ms) <= 200 + 240, "{text:?}: {told_ms} of {heard_ms} ms");
    phone.hang_up().await;
    let lines = desk.transcript(phone.call_sid()).await;
    let cut = lines.iter().find(|line| line["interrupted"] == true).unwrap();
    assert_eq!(cut["text"], text.as_str());
    assert_eq!(spoken(&lines, "agent").last().unwrap(), "You said stop that");
    assert_eq!(desk.stack.worker_metrics().await.of("tandem_worker_barge_ins_total"), Some(1.0));
    let heard = decode_mulaw(&phone.into_heard());
    let last = heard.chunks(160).rposition(|frame| is_tone(frame, pitch(STORY))).unwrap();
    let answer = heard.chunks(160).position(|frame| is_tone(frame, pitch("You"))).unwrap();
    assert!(answer > last, "nothing of the story is heard in the answer");
    desk.close().await;
}

#[tokio::test]
async fn a_murmur_without_words_interrupts_for_a_moment_only() {
    let desk = Desk::open("murmur", "").await;
    let (clips, mut phone) = (speech(), desk.greeted().await);
    "Tell me a story.".clone_into(&mut desk.words.lock().unwrap());
    let asked = phone.say_all(&clips[0]).await.unwrap().ended.unwrap();
    phone.until("the story", PATIENCE, |log| log.media_after(asked).is_some()).await.unwrap();
    phone.wait(Duration::from_millis(1500)).await.unwrap();
    desk.words.lock().unwrap().clear();
    // The longest one: "um hum".
    let murmur = murmurs().into_iter().max_by_key(Vec::len).unwrap();
    let said = phone.say_all(&Clip::new(&murmur)).await.unwrap().ended.unwrap();
    phone.until("clear", PATIENCE, |log| !log.clears.is_empty()).await.unwrap();
    let cleared = phone.log().clears[0];
    phone.until("the tail", PATIENCE, |log| log.media_after(cleared.max(said)).is_some()).await.unwrap();
    let tail = phone.log().media_after(cleared).unwrap().at;
    assert!(tail - cleared <= Duration::from_millis(1500), "the tail came {:?} after clear", tail - cleared);
    phone.until("the end", PATIENCE, |log| log.has_answered(cleared, PAUSE)).await.unwrap();
    phone.hang_up().await;
    let lines = desk.transcript(phone.call_sid()).await;
    assert_eq!(spoken(&lines, "agent"), ["Hello there.", STORY]);
    assert_eq!(spoken(&lines, "caller"), ["Tell me a story."]);
    let metrics = desk.stack.worker_metrics().await;
    assert_eq!(metrics.of("tandem_worker_barge_ins_total"), Some(0.0));
    assert_eq!(metrics.of("tandem_worker_false_interruptions_total"), Some(1.0));
    // All of it was heard; the word in which it stopped twice, in part.
    let (ms, all) = (heard_ms(&decode_mulaw(&phone.into_heard()), STORY), STORY.len() * 60);
    assert!((all - 200..=all + 800).contains(&ms), "{ms} of {all} ms were heard");
    desk.close().await;
}

/// Each mishap at a stage: noticed as what it is, apologised for, and the next turn is answered.
async fn survives(name: &str, stage: Stage, label: &str, mishaps: &[(Mishap, &str)]) {
    let desk = Desk::open(name, "").await;
    let (mut clips, mut phone) = (speech(), desk.greeted().await);
    clips.sort_by_key(Clip::ms);
    for (at, (mishap, fault)) in mishaps.iter().enumerate() {
        let series = format!("tandem_worker_provider_errors_total{{kind=\"{fault}\",stage=\"{label}\"}}");
        let before = desk.stack.worker_metrics().await.of(&series).unwrap();
        desk.server.upset(stage, mishap.clone(), Extent::Lasting);
        let before_it = sounds(&phone);
        desk.say(&mut phone, &clips[at % 4], &format!("wrong {at}")).await;
        assert!(sounds(&phone) > before_it, "{mishap:?}: no answer at all");
        let after = desk.stack.worker_metrics().await.of(&series).unwrap();
        assert!(after > before, "{mishap:?} is not counted as {series}");
        desk.server.mend(stage);
        desk.say(&mut phone, &clips[at % 4], &format!("right {at}")).await;
        assert_eq!(desk.newest_prompt().last().unwrap().1, format!("right {at}"), "{mishap:?}");
    }
    phone.hang_up().await;
    let lines = desk.transcript(phone.call_sid()).await;
    let agent = spoken(&lines, "agent");
    for (at, (mishap, _)) in mishaps.iter().enumerate() {
        assert!(agent.contains(&format!("You said right {at}")), "after {mishap:?}: {agent:?}");
    }
    let apologies = agent.iter().filter(|text| text.ends_with("Alas.")).count();
    assert_eq!(apologies, mishaps.len(), "{agent:?}");
    desk.close().await;
}

/// Messages of sound so far: it grows with whatever is said.
fn sounds(phone: &Phone) -> usize {
    phone.log().media.len()
}

const LATE: Mishap = Mishap::Slow(Duration::from_secs(4));

#[tokio::test]
async fn a_recogniser_that_fails_is_apologised_for() {
    let mishaps = [
        (Mishap::Down, "unreachable"),
        (LATE, "timeout"),
        (Mishap::Html, "malformed"),
        (Mishap::HalfJson, "malformed"),
        (Mishap::Nothing, "malformed"),
    ];
    survives("recogniser", Stage::Transcription, "speech_to_text", &mishaps).await;
}

#[tokio::test]
async fn a_model_that_fails_is_apologised_for() {
    let mishaps = [
        (Mishap::Down, "unreachable"),
        (LATE, "timeout"),
        (Mishap::Html, "malformed"),
        (Mishap::HalfJson, "malformed"),
        (Mishap::Nothing, "malformed"),
        (Mishap::ErrorMidway, "failed"),
    ];
    survives("model", Stage::Chat, "chat", &mishaps).await;
}

#[tokio::test]
async fn a_voice_that_fails_is_apologised_for() {
    let mishaps = [
        (Mishap::Down, "unreachable"),
        (LATE, "timeout"),
        (Mishap::Html, "malformed"),
        (Mishap::Nothing, "empty"),
        (Mishap::WrongRate, "malformed"),
        (Mishap::ErrorText, "malformed"),
        (Mishap::CloseEarly, "unreachable"),
    ];
    survives("voice", Stage::Speech, "text_to_speech", &mishaps).await;
}

#[tokio::test]
async fn who_reaches_an_agent_without_a_voice_hears_words_all_the_same() {
    let desk = Desk::open("mute", "").await;
    desk.server.upset(Stage::Speech, Mishap::Down, Extent::Lasting);
    let mut phone = Phone::dial(&desk.plan).await.unwrap();
    phone.until("the end", PATIENCE, |log| log.closed.is_some()).await.unwrap();
    assert!(phone.log().media.is_empty(), "{:?}", phone.log().media);
    let verbs = after(&desk.plan, phone.call_sid()).await;
    assert!(is_fallback(&verbs), "{verbs:?}");
    desk.close().await;
}

#[tokio::test]
async fn who_says_nothing_is_asked_once_and_then_hears_goodbye() {
    let desk = Desk::open("silence", "[agent.desk.turn]\nsilence_prompt_ms = 1200").await;
    let mut phone = Phone::dial(&desk.plan).await.unwrap();
    phone.until("the end", PATIENCE, |log| log.closed.is_some()).await.unwrap();
    assert_eq!(phone.log().closed, Some(Closed(Some(1000))));
    assert_eq!(after(&desk.plan, phone.call_sid()).await, [Verb::Hangup]);
    let lines = desk.transcript(phone.call_sid()).await;
    assert_eq!(spoken(&lines, "agent"), ["Hello there.", "Still there?", "Bye for now."]);
    assert_eq!(lines.last().unwrap()["event"], "ended");
    let heard = decode_mulaw(&phone.into_heard());
    for text in ["Hello there.", "Still there?", "Bye for now."] {
        let (ms, expected) = (heard_ms(&heard, text), text.len() * 60);
        assert!(ms.abs_diff(expected) <= 60, "{text}: {ms} of {expected} ms were heard");
    }
    desk.close().await;
}
