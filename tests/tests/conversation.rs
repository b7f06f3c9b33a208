//! Conversations through the whole system: real speech through the line, the worker's own ears and turns, a stand-in for
//! the providers. What the caller hears, what the model is told of it, and what is left when something goes wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;
use tests::{
    corpus::murmurs,
    line::{after, is_fallback},
    openai::{Asked, Extent, Mishap, Script, Stage},
    signal,
    sim::{Verb, decode_mulaw},
    talk::{Clip, Closed, Desk, Phone, heard, recorded},
};

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which the caller takes an answer as over.
const PAUSE: Duration = Duration::from_millis(600);

/// An agent that says again what it heard, or tells a story; with `more` lines of its table.
async fn open(name: &str, more: &str) -> Desk {
    let script = Script {
        think: Arc::new(|turns| match turns.last().unwrap().text.as_str() {
            "Tell me a story." => STORY.to_owned(),
            said => format!("You said {said}"),
        }),
        ..Script::default()
    };
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
    Desk::open(name, &file, script, PAUSE).await
}

/// The newest request for an answer, as roles and texts.
fn newest_prompt(desk: &Desk) -> Vec<(String, String)> {
    let text = |message: &Value, name: &str| message[name].as_str().unwrap().to_owned();
    desk.newest_prompt().iter().map(|message| (text(message, "role"), text(message, "content"))).collect()
}

/// Seven seconds and a half.
const STORY: &str = "Once there was a gateway. Often it was called by people. Others wanted to hear it sing a long song again. \
                     On and on it went.";

/// Milliseconds of a text's pitch in what was heard.
fn heard_ms(samples: &[i16], text: &str) -> usize {
    heard(samples, text).len() * 20
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
    let desk = open("turns", "").await;
    let (clips, mut phone) = (recorded(), desk.greeted().await);
    let said = ["what time is it", "and tomorrow", "thank you"];
    for (clip, words) in clips.iter().zip(said) {
        desk.ask(&mut phone, clip, words).await;
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
    assert_eq!(newest_prompt(&desk), expected);
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
    let samples = decode_mulaw(&phone.into_heard());
    for (text, characters) in [("Hello", 12), ("You", 24 + 21 + 18)] {
        let (ms, expected) = (heard_ms(&samples, text), characters * 60);
        assert!(ms.abs_diff(expected) <= 120, "{text}: {ms} of {expected} ms were heard");
    }
    let metrics = desk.stack.worker_metrics().await;
    assert_eq!(metrics.of("tandem_worker_turns_total"), Some(3.0));
    assert_eq!(metrics.of("tandem_worker_response_seconds_count"), Some(3.0));
    desk.close().await;
}

#[tokio::test]
async fn an_interruption_silences_the_agent_and_the_model_is_told_what_was_heard() {
    let desk = open("interruption", "").await;
    let (clips, mut phone) = (recorded(), desk.greeted().await);
    desk.understand("Tell me a story.");
    let asked = phone.say_all(&clips[0]).await.unwrap().ended.unwrap();
    phone.until("the story", PATIENCE, |log| log.media_after(asked).is_some()).await.unwrap();
    let before = phone.playout().played;
    phone.wait(Duration::from_millis(2500)).await.unwrap();
    desk.understand("stop that");
    phone.say(&clips[2]);
    phone.until("clear", PATIENCE, |log| !log.clears.is_empty()).await.unwrap();
    let (cleared, heard_ms) = (phone.log().clears[0], (phone.playout().played - before) / 8);
    phone.until("the end", PATIENCE, |log| log.last_word().is_some()).await.unwrap();
    let said = phone.log().last_word().unwrap();
    desk.answered(&mut phone, said).await;
    // Between `clear` and the caller's last word nothing came.
    let first = phone.log().media_after(cleared).unwrap().at;
    assert!(
        first > said,
        "{:?} after clear, {:?} before the caller's end",
        first - cleared,
        said.duration_since(first)
    );
    // The model is told what was heard, and no more.
    let prompt = newest_prompt(&desk);
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
    let samples = decode_mulaw(&phone.into_heard());
    assert!(
        heard(&samples, "You")[0] > *heard(&samples, STORY).last().unwrap(),
        "nothing of the story is heard in the answer"
    );
    desk.close().await;
}

#[tokio::test]
async fn a_murmur_without_words_interrupts_for_a_moment_only() {
    let desk = open("murmur", "").await;
    let (clips, mut phone) = (recorded(), desk.greeted().await);
    desk.understand("Tell me a story.");
    let asked = phone.say_all(&clips[0]).await.unwrap().ended.unwrap();
    phone.until("the story", PATIENCE, |log| log.media_after(asked).is_some()).await.unwrap();
    phone.wait(Duration::from_millis(1500)).await.unwrap();
    desk.understand("");
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

/// Each mishap at a stage: noticed as what it is, apologised for, and the next turn is answered. Two calls share them.
async fn survives(name: &str, stage: Stage, label: &str, own: &[(Mishap, &str)]) {
    let mishaps = [&ANYWHERE, own].concat();
    let calls = mishaps.chunks(mishaps.len().div_ceil(2)).enumerate();
    join_all(calls.map(async |(at, some)| survives_in_turn(&format!("{name}-{at}"), stage, label, some).await)).await;
}

async fn survives_in_turn(name: &str, stage: Stage, label: &str, mishaps: &[(Mishap, &str)]) {
    let desk = open(name, "").await;
    let (mut clips, mut phone) = (recorded(), desk.greeted().await);
    clips.sort_by_key(Clip::ms);
    for (at, (mishap, fault)) in mishaps.iter().enumerate() {
        let series = format!("tandem_worker_provider_errors_total{{kind=\"{fault}\",stage=\"{label}\"}}");
        let before = desk.stack.worker_metrics().await.of(&series).unwrap();
        desk.server.upset(stage, mishap.clone(), Extent::Lasting);
        let before_it = sounds(&phone);
        desk.ask(&mut phone, &clips[at % 4], &format!("wrong {at}")).await;
        assert!(sounds(&phone) > before_it, "{mishap:?}: no answer at all");
        let after = desk.stack.worker_metrics().await.of(&series).unwrap();
        assert!(after > before, "{mishap:?} is not counted as {series}");
        desk.server.mend(stage);
        desk.ask(&mut phone, &clips[at % 4], &format!("right {at}")).await;
        assert_eq!(newest_prompt(&desk).last().unwrap().1, format!("right {at}"), "{mishap:?}");
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

/// What goes wrong at any stage, and what it is counted as.
const ANYWHERE: [(Mishap, &str); 3] =
    [(Mishap::Down, "unreachable"), (Mishap::Slow(Duration::from_secs(4)), "timeout"), (Mishap::Html, "malformed")];

#[tokio::test]
async fn a_recogniser_that_fails_is_apologised_for() {
    let own = [(Mishap::HalfJson, "malformed"), (Mishap::Nothing, "malformed")];
    survives("recogniser", Stage::Transcription, "speech_to_text", &own).await;
}

#[tokio::test]
async fn a_model_that_fails_is_apologised_for() {
    let own = [(Mishap::HalfJson, "malformed"), (Mishap::Nothing, "malformed"), (Mishap::ErrorMidway, "failed")];
    survives("model", Stage::Chat, "chat", &own).await;
}

#[tokio::test]
async fn a_voice_that_fails_is_apologised_for() {
    let own = [
        (Mishap::Nothing, "empty"),
        (Mishap::WrongRate, "malformed"),
        (Mishap::ErrorText, "malformed"),
        (Mishap::CloseEarly, "unreachable"),
    ];
    survives("voice", Stage::Speech, "text_to_speech", &own).await;
}

#[tokio::test]
async fn who_reaches_an_agent_without_a_voice_hears_words_all_the_same() {
    let desk = open("mute", "").await;
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
    let desk = open("silence", "[agent.desk.turn]\nsilence_prompt_ms = 1200").await;
    let mut phone = Phone::dial(&desk.plan).await.unwrap();
    phone.until("the end", PATIENCE, |log| log.closed.is_some()).await.unwrap();
    assert_eq!(phone.log().closed, Some(Closed(Some(1000))));
    assert_eq!(after(&desk.plan, phone.call_sid()).await, [Verb::Hangup]);
    let lines = desk.transcript(phone.call_sid()).await;
    assert_eq!(spoken(&lines, "agent"), ["Hello there.", "Still there?", "Bye for now."]);
    assert_eq!(lines.last().unwrap()["event"], "ended");
    let samples = decode_mulaw(&phone.into_heard());
    for text in ["Hello there.", "Still there?", "Bye for now."] {
        let (ms, expected) = (heard_ms(&samples, text), text.len() * 60);
        assert!(ms.abs_diff(expected) <= 60, "{text}: {ms} of {expected} ms were heard");
    }
    desk.close().await;
}
