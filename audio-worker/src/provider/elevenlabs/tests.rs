//! Each stage against a server that answers as told: what is asked, what is taken, and every way to fail.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::{runtime::Handle, time::Instant};
use url::Url;

use super::*;
use crate::{
    dsp::SampleRate,
    provider::{
        Coding, Fault, ProviderError, Sound, Speech, Streaming,
        openai::tests::peer::{Peer, Script, Step, answer, chunk, chunked},
    },
};

const KEY: &str = "sk_0123456789abcdef";
const JSON: &str = "application/json";
const TONE: &[u8] = include_bytes!("../mp3/fixtures/tone-44100-stereo.mp3");

#[expect(clippy::disallowed_methods, reason = "limits are measured in virtual time")]
fn now() -> Instant {
    Instant::now()
}

fn client() -> Client {
    Client::new(Handle::current()).unwrap()
}

fn server(peer: &Peer) -> Server {
    let base = Url::parse(&format!("http://{}/v1", peer.address)).unwrap();
    Server { base, key: Some(KEY.to_owned().into()), ..Server::default() }
}

fn hearing(peer: &Peer) -> Arc<dyn SpeechToText> {
    let settings = transcribe::Settings { server: server(peer), model: "scribe_v1".to_owned(), temperature: None };
    speech_to_text(&client(), settings).unwrap()
}

fn settings(peer: &Peer, format: Coding) -> voice::Settings {
    voice::Settings {
        server: server(peer),
        model: "eleven_flash_v2_5".to_owned(),
        voice: "JBFqnCBsd6RMkjVDRZzb".to_owned(),
        format,
        rate: SampleRate::Hz44100,
        word_times: true,
        speed: None,
        stability: None,
        similarity_boost: None,
        style: None,
    }
}

fn speaking(peer: &Peer, format: Coding) -> Arc<dyn TextToSpeech> {
    text_to_speech(&client(), settings(peer, format)).unwrap()
}

fn speaking_plainly(peer: &Peer, format: Coding) -> Arc<dyn TextToSpeech> {
    let settings = voice::Settings { word_times: false, ..settings(peer, format) };
    text_to_speech(&client(), settings).unwrap()
}

/// A piece of a voice: its bytes, and its characters of 100 ms each from `from` on.
fn piece(bytes: &[u8], text: &str, from: f64) -> String {
    let times = |shift: f64| (0..text.chars().count()).map(|at| from + shift + at as f64 / 10.0).collect::<Vec<_>>();
    let alignment = json!({
        "characters": text.chars().map(String::from).collect::<Vec<_>>(),
        "character_start_times_seconds": times(0.0),
        "character_end_times_seconds": times(0.1),
    });
    let object = json!({
        "audio_base64": STANDARD.encode(bytes),
        "alignment": if text.is_empty() { Value::Null } else { alignment.clone() },
        "normalized_alignment": if text.is_empty() { Value::Null } else { alignment },
    });
    format!("{object}\n")
}

/// What was said: codes, samples with their rate, words; and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Said {
    codes: Vec<u8>,
    rate: Option<SampleRate>,
    pcm: Vec<i16>,
    words: Vec<(String, u64, u64)>,
    error: Option<ProviderError>,
}

async fn heard(mut stream: Streaming<Sound>) -> Said {
    let mut said = Said::default();
    while let Some(sound) = stream.next().await {
        match sound {
            Ok(Sound::Pcm(hz, samples)) => {
                assert_eq!(*said.rate.get_or_insert(hz), hz);
                assert!(samples.len() <= 32 << 10);
                said.pcm.extend(samples);
            }
            Ok(Sound::Mulaw(bytes)) => {
                assert!(bytes.len() <= 64 << 10);
                said.codes.extend(bytes);
            }
            Ok(Sound::Word { text, from_ms, to_ms }) => said.words.push((text, from_ms, to_ms)),
            Err(error) => {
                said.error = Some(error);
                assert!(stream.next().await.is_none(), "after an error nothing follows");
                break;
            }
        }
    }
    said
}

#[tokio::test]
async fn a_voice_is_asked_for_with_all_that_is_set() {
    let good = || answer(200, JSON, "", piece(&[0xff; 80], "", 0.0));
    let peer = Peer::start([good(), good(), answer(200, "audio/mpeg", "", TONE)]).await;
    assert_eq!(heard(speaking(&peer, Coding::Mulaw).speak("Hello.", "en-GB")).await.codes, [0xff; 80]);
    let full = voice::Settings {
        model: "eleven_multilingual_v2".to_owned(),
        speed: Some(1.25 - 0.05),
        stability: Some(0.5),
        similarity_boost: Some(0.75),
        style: Some(0.0),
        ..settings(&peer, Coding::Pcm(SampleRate::Hz22050))
    };
    heard(text_to_speech(&client(), full).unwrap().speak("Hallo.", "de")).await;
    let said = heard(speaking_plainly(&peer, Coding::Mp3).speak("Hi.", "")).await;
    assert_eq!((said.rate, said.error), (Some(SampleRate::Hz44100), None));
    assert!(said.pcm.len() > 17_640 && said.pcm.iter().any(|&sample| sample > 7000));
    let seen = peer.seen();
    let lines: Vec<_> = seen.iter().map(|seen| seen.head.lines().next().unwrap()).collect();
    let place = "POST /v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream";
    assert_eq!(lines[0], format!("{place}/with-timestamps?output_format=ulaw_8000 HTTP/1.1"));
    assert_eq!(lines[1], format!("{place}/with-timestamps?output_format=pcm_22050 HTTP/1.1"));
    assert_eq!(lines[2], format!("{place}?output_format=mp3_44100_64 HTTP/1.1"));
    assert!(seen.iter().all(|seen| seen.head.contains(&format!("xi-api-key: {KEY}\r\n"))));
    let asked: Vec<Value> = seen.iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    assert_eq!(asked[0], json!({"text": "Hello.", "model_id": "eleven_flash_v2_5", "language_code": "en"}));
    let own = json!({"stability": 0.5, "similarity_boost": 0.75, "style": 0.0, "speed": 1.2});
    assert_eq!(asked[1], json!({"text": "Hallo.", "model_id": "eleven_multilingual_v2", "voice_settings": own}));
    assert_eq!(asked[2], json!({"text": "Hi.", "model_id": "eleven_flash_v2_5"}));
}

#[tokio::test]
async fn mu_law_and_words_are_the_same_wherever_the_bytes_are_cut() {
    let codes: Vec<u8> = (0..=255).rev().collect();
    let stream = [
        piece(&codes[..100], "Hi, y", 0.0),
        "\r\n \n".to_owned(),
        piece(&[], "ou ", 0.5),
        piece(&codes[100..], "", 0.0),
        piece(&[], "two.", 0.8),
    ]
    .concat();
    let bytes = stream.as_bytes();
    let words = [("Hi,", 0, 300), ("you", 400, 700), ("two.", 800, 1200)];
    let words: Vec<_> = words.into_iter().map(|(text, from, to)| (text.to_owned(), from, to)).collect();
    let cuts = 1..bytes.len();
    let scripts = cuts.clone().map(|at| chunked(JSON, [&bytes[..at], &bytes[at..]]));
    let peer = Peer::start(scripts.chain([chunked(JSON, bytes.chunks(1))])).await;
    let provider = speaking(&peer, Coding::Mulaw);
    for at in cuts.chain([0]) {
        let said = heard(provider.speak("Hi, you two.", "")).await;
        assert_eq!((&said.codes, &said.words, said.error), (&codes, &words, None), "{at}");
    }
    assert_eq!(peer.connections(), 1, "what is read to its end keeps its connection");
}

#[tokio::test]
async fn plain_mu_law_is_the_same_wherever_the_bytes_are_cut() {
    let codes: Vec<u8> = (0..=255).rev().collect();
    let cuts = 1..codes.len();
    let scripts = cuts.clone().map(|at| chunked("audio/basic", [&codes[..at], &codes[at..]]));
    let peer = Peer::start(scripts.chain([chunked("audio/basic", codes.chunks(1))])).await;
    let provider = speaking_plainly(&peer, Coding::Mulaw);
    for at in cuts.chain([0]) {
        let said = heard(provider.speak("hello", "")).await;
        assert_eq!((&said.codes, said.pcm.len(), said.error), (&codes, 0, None), "{at}");
    }
}

#[tokio::test]
async fn samples_and_frames_go_on_from_piece_to_piece() {
    let pcm: Vec<i16> = (0..400).map(|at| at * 80 - 16_000).collect();
    let raw: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let cut = |bytes: &[u8], size: usize| bytes.chunks(size).map(|bytes| piece(bytes, "", 0.0)).collect::<String>();
    let peer = Peer::start([
        answer(200, JSON, "", cut(&raw, 33)),
        answer(200, JSON, "", cut(TONE, 33)),
        answer(200, JSON, "", cut(TONE, TONE.len())),
    ])
    .await;
    let said = heard(speaking(&peer, Coding::Pcm(SampleRate::Hz16000)).speak("hello", "")).await;
    assert_eq!((said.rate, said.pcm, said.error), (Some(SampleRate::Hz16000), pcm, None));
    let provider = speaking(&peer, Coding::Mp3);
    let (small, whole) = (heard(provider.speak("hello", "")).await, heard(provider.speak("hello", "")).await);
    assert_eq!((small.rate, small.error.as_ref()), (Some(SampleRate::Hz44100), None));
    assert_eq!(small, whole);
}

#[tokio::test]
async fn a_large_piece_is_given_in_small_ones() {
    let codes: Vec<u8> = (0..200_001_u32).map(|at| (at % 251) as u8).collect();
    let whole = || answer(200, JSON, "", piece(&codes, "", 0.0));
    let peer = Peer::start([whole(), whole(), answer(200, "audio/basic", "", &codes[..])]).await;
    assert_eq!(heard(speaking(&peer, Coding::Mulaw).speak("hello", "")).await.codes, codes);
    let samples = heard(speaking(&peer, Coding::Pcm(SampleRate::Hz16000)).speak("hello", "")).await.pcm;
    assert!(samples.iter().flat_map(|sample| sample.to_le_bytes()).eq(codes[..200_000].iter().copied()));
    assert_eq!(heard(speaking_plainly(&peer, Coding::Mulaw).speak("hello", "")).await.codes, codes);
}

#[tokio::test(start_paused = true)]
async fn words_without_sound_are_no_beginning() {
    let words = piece(&[], "Hi, you ", 0.0);
    let broken: Script = chunked(JSON, [words.as_bytes()])[..2].iter().cloned().chain([Step::Close]).collect();
    let peer = Peer::start([broken, answer(200, JSON, "", format!("{words}{}", piece(&[1; 80], "", 0.0)))]).await;
    let said = heard(speaking(&peer, Coding::Mulaw).speak("Hi, you", "")).await;
    let told = [("Hi,", 0, 300), ("you", 400, 700)].map(|(text, from, to)| (text.to_owned(), from, to));
    assert_eq!((said.codes.len(), &said.words[..], said.error), (80, &told[..], None), "asked once more");
    let begun = now();
    let silent: Script = chunked(JSON, [words.as_bytes()])[..2].iter().cloned().chain([Step::Hold]).collect();
    let peer = Peer::start([silent]).await;
    let said = heard(speaking(&peer, Coding::Mulaw).speak("Hi, you", "")).await;
    assert_eq!((said.words.len(), said.error.map(|error| error.kind)), (0, Some(Fault::Timeout)));
    assert!(begun.elapsed() < Duration::from_secs(11));
    let many = piece(&[], &"a ".repeat(4097), 0.0);
    let peer = Peer::start([answer(200, JSON, "", many)]).await;
    let error = heard(speaking(&peer, Coding::Mulaw).speak("a", "")).await.error.unwrap();
    assert_eq!((error.kind, error.detail.as_str()), (Fault::Malformed, "times of words without sound"));
}

#[tokio::test]
async fn the_first_piece_is_heard_before_the_second_is_made() {
    let first = piece(&[1; 80], "Hi.", 0.0);
    let held: Script = chunked(JSON, [first.as_bytes()])[..2].iter().cloned().chain([Step::Hold]).collect();
    let peer = Peer::start([held]).await;
    let mut stream = speaking(&peer, Coding::Mulaw).speak("Hi.", "");
    assert_eq!(stream.next().await, Some(Ok(Sound::Mulaw(vec![1; 80].into()))));
    drop(stream);
    peer.until_left(1).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_voice_is_told_apart() {
    let detail = |status: u16, message: &str| {
        answer(status, JSON, "", json!({"detail": {"status": "x", "message": message}}).to_string())
    };
    let good = piece(&[1; 80], "Hi", 0.0);
    let close =
        |text: &str| -> Script { chunked(JSON, [text.as_bytes()])[..2].iter().cloned().chain([Step::Close]).collect() };
    let refused = json!({"detail": {"status": "quota_exceeded", "message": "no credits left"}}).to_string();
    for (script, codes, fault, word) in [
        (answer(200, JSON, "", ""), 0, Fault::Empty, ""),
        (answer(200, JSON, "", piece(&[], "Hi", 0.0)), 0, Fault::Empty, ""),
        (answer(200, JSON, "", "{}"), 0, Fault::Empty, ""),
        (answer(200, "text/html", "", "<html><body></body></html>"), 0, Fault::Malformed, "text"),
        (answer(200, JSON, "", "null"), 0, Fault::Malformed, "text"),
        (answer(200, JSON, "", &good[..60]), 0, Fault::Malformed, "half a JSON"),
        (answer(200, JSON, "", r#"{"audio_base64": 5}"#), 0, Fault::Malformed, "piece"),
        (answer(200, JSON, "", r#"{"audio_base64": "%%%%"}"#), 0, Fault::Malformed, "base64"),
        (answer(200, JSON, "", &refused), 0, Fault::Failed, "no credits left"),
        (answer(200, JSON, "", format!("{good}{refused}")), 80, Fault::Failed, "no credits left"),
        (answer(200, JSON, "", format!("{good}oh no")), 80, Fault::Malformed, "text"),
        (close(&good), 80, Fault::Unreachable, "broke off"),
        (close(&format!("{good}{{\"audio_b")), 80, Fault::Unreachable, "broke off"),
        (answer(200, JSON, "", format!("{{\"a\": \"{}", "x".repeat(5 << 20))), 0, Fault::Malformed, "MiB"),
        (detail(401, &format!("Invalid API key {KEY}")), 0, Fault::Denied, "Invalid API key [redacted]"),
        (detail(400, "cannot say: What is my balance today?"), 0, Fault::Rejected, "HTTP 400"),
        (detail(404, "no such voice"), 0, Fault::Rejected, "no such voice"),
        (detail(429, "too many at once"), 0, Fault::Busy, "too many"),
        (answer(422, JSON, "", r#"{"detail": [{"loc": ["body"], "msg": "x"}]}"#), 0, Fault::Rejected, "HTTP 422"),
        (detail(500, "oh"), 0, Fault::Failed, "oh"),
        (vec![Step::Close], 0, Fault::Unreachable, ""),
    ] {
        let peer = Peer::start([script.clone(), script]).await;
        let said = heard(speaking(&peer, Coding::Mulaw).speak("What is my balance today?", "")).await;
        let error = said.error.expect("an error");
        assert_eq!((said.codes.len(), error.kind, error.detail.contains(word)), (codes, fault, true), "{error}");
        assert!(!error.detail.contains("0123456789") && !error.detail.contains("balance"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_plain_voice_is_told_apart() {
    let refused = json!({"detail": {"status": "x", "message": "no credits left"}}).to_string();
    for (format, script, fault, word) in [
        (Coding::Mulaw, answer(200, JSON, "", &refused), Fault::Malformed, "no credits left"),
        (Coding::Mulaw, answer(200, "audio/basic", "", &refused), Fault::Malformed, "no credits left"),
        (Coding::Mulaw, answer(200, "audio/basic", "", ""), Fault::Empty, ""),
        (Coding::Mp3, answer(200, "audio/mpeg", "", &refused), Fault::Malformed, "no credits left"),
        (Coding::Mp3, answer(200, "audio/mpeg", "", "<html></html>"), Fault::Malformed, "text"),
        (Coding::Mp3, answer(200, "audio/mpeg", "", [0; 300]), Fault::Malformed, "not MP3"),
        (Coding::Mp3, answer(200, "audio/mpeg", "", &TONE[..100]), Fault::Malformed, "not MP3"),
    ] {
        let peer = Peer::start([script]).await;
        let said = heard(speaking_plainly(&peer, format).speak("hello", "")).await;
        let error = said.error.expect("an error");
        let is_silent = said.codes.is_empty() && said.pcm.is_empty();
        assert_eq!((is_silent, error.kind, error.detail.contains(word)), (true, fault, true), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_piece_and_the_last_have_their_time() {
    let second = Duration::from_secs(1);
    // Signs of life are no sound.
    let alive = (0..20).flat_map(|_| [chunk(b"\n"), Step::Wait(second)]);
    let alive: Script = chunked(JSON, [])[..1].iter().cloned().chain(alive).chain([Step::Hold]).collect();
    let begun = now();
    let peer = Peer::start([alive]).await;
    let said = heard(speaking(&peer, Coding::Mulaw).speak("hello", "")).await;
    assert_eq!(said.error.unwrap().kind, Fault::Timeout);
    assert!(begun.elapsed() >= second * 10 && begun.elapsed() < second * 11);
    // A slow drip is an answer, for so long.
    let begun = now();
    let drips = (0..40).flat_map(|_| [chunk(piece(&[1; 80], "", 0.0).as_bytes()), Step::Wait(second * 9)]);
    let peer = Peer::start([chunked(JSON, [])[..1].iter().cloned().chain(drips).collect::<Script>()]).await;
    let said = heard(speaking(&peer, Coding::Mulaw).speak("hello", "")).await;
    assert_eq!((said.codes.len(), said.error.unwrap().kind), (14 * 80, Fault::Timeout));
    assert!(begun.elapsed() >= second * 120 && begun.elapsed() < second * 121);
}

#[tokio::test(start_paused = true)]
async fn only_what_was_not_heard_is_asked_for_again() {
    let good = || answer(200, JSON, "", piece(&[1; 80], "", 0.0));
    let busy = answer(429, JSON, "", "{}");
    let peer = Peer::start([busy, good()]).await;
    assert_eq!(heard(speaking(&peer, Coding::Mulaw).speak("hello", "")).await.codes.len(), 80);
    let broken = piece(&[1; 80], "", 0.0);
    let broken: Script = chunked(JSON, [broken.as_bytes()])[..2].iter().cloned().chain([Step::Close]).collect();
    let peer = Peer::start([broken, good()]).await;
    let said = heard(speaking(&peer, Coding::Mulaw).speak("hello", "")).await;
    assert_eq!((said.codes.len(), said.error.map(|error| error.kind)), (80, Some(Fault::Unreachable)));
    assert_eq!(peer.seen().len(), 1);
}

#[tokio::test]
async fn speech_is_sent_as_a_form_with_samples() {
    let found = json!({"language_code": "deu", "language_probability": 1.0, "text": " Guten Tag. ", "words": []});
    let peer = Peer::start([answer(200, JSON, "", found.to_string()), answer(200, JSON, "", r#"{"text": ""}"#)]).await;
    let speech = Speech { pcm: vec![1, -2].into(), language: "de-AT".to_owned(), ..Speech::default() };
    assert_eq!(hearing(&peer).transcribe(speech).await.unwrap(), "Guten Tag.");
    let settings =
        transcribe::Settings { server: server(&peer), model: "scribe_v2".to_owned(), temperature: Some(0.5) };
    let provider = speech_to_text(&client(), settings).unwrap();
    assert!(!provider.wants_native());
    assert_eq!(provider.transcribe(Speech::default()).await.unwrap(), "", "no words are an answer");
    let seen = &peer.seen()[0];
    assert!(seen.head.starts_with("POST /v1/speech-to-text HTTP/1.1\r\n"), "{}", seen.head);
    assert!(seen.head.contains(&format!("xi-api-key: {KEY}\r\n")));
    let parts = |nth: usize| {
        let seen = &peer.seen()[nth];
        let boundary = seen.head.split("boundary=").nth(1).unwrap().lines().next().unwrap().to_owned();
        let body: String = seen.body.iter().map(|&byte| char::from(byte)).collect();
        body.split(&format!("--{boundary}")).map(str::to_owned).collect::<Vec<_>>()
    };
    let field =
        |name: &str, value: &str| format!("\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let file = |bytes: &str| {
        format!(
            "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"speech.pcm\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n{bytes}\r\n"
        )
    };
    let common = [("file_format", "pcm_s16le_16"), ("tag_audio_events", "false"), ("timestamps_granularity", "none")];
    let common = common.map(|(name, value)| field(name, value));
    let expected = [
        vec![String::new(), field("model_id", "scribe_v1")],
        common.to_vec(),
        vec![field("language_code", "de"), file("\u{1}\0\u{fe}\u{ff}"), "--\r\n".to_owned()],
    ];
    assert_eq!(parts(0), expected.concat());
    let expected = [
        vec![String::new(), field("model_id", "scribe_v2")],
        common.to_vec(),
        vec![field("temperature", "0.5"), file(""), "--\r\n".to_owned()],
    ];
    assert_eq!(parts(1), expected.concat());
}

#[tokio::test]
async fn what_is_no_transcript_is_told_apart() {
    for (script, fault) in [
        (answer(200, "text/html", "", "<html>hello</html>"), Fault::Malformed),
        (answer(200, JSON, "", r#"{"text": "hel"#), Fault::Malformed),
        (answer(200, JSON, "", r#"{"text": null}"#), Fault::Malformed),
        (answer(200, JSON, "", ""), Fault::Malformed),
        (answer(200, JSON, "", r#"{"detail": {"message": "overloaded"}}"#), Fault::Failed),
        (answer(200, JSON, "", format!(r#"{{"text": "{}"}}"#, "x".repeat(1 << 20))), Fault::Malformed),
        (answer(401, JSON, "", ""), Fault::Denied),
        (answer(422, JSON, "", ""), Fault::Rejected),
    ] {
        let peer = Peer::start([script.clone(), script]).await;
        let error = hearing(&peer).transcribe(Speech::default()).await.unwrap_err();
        assert_eq!(error.kind, fault, "{error}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let peer = Peer::start([]).await;
    let refused = |settings| text_to_speech(&client(), settings).map(|_| ()).unwrap_err();
    let base = || settings(&peer, Coding::Mulaw);
    for voice in ["", "a/b", "a?b", "a b", "..", &"x".repeat(101)] {
        let voice = voice.to_owned();
        assert_eq!(refused(voice::Settings { voice, ..base() }), SettingsError::Voice);
    }
    assert_eq!(refused(voice::Settings { model: String::new(), ..base() }), SettingsError::Model);
    assert_eq!(refused(voice::Settings { speed: Some(0.5), ..base() }), SettingsError::Speed);
    assert_eq!(refused(voice::Settings { format: Coding::Wav, ..base() }), SettingsError::Format);
    let mp3 = voice::Settings { format: Coding::Mp3, rate: SampleRate::Hz48000, ..base() };
    assert_eq!(refused(mp3), SettingsError::Format);
}
