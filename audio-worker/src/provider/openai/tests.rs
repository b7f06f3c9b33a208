//! Each stage against a server that answers as told: what is asked, what is taken, and every way to fail.

use std::time::Duration;

use super::*;
use crate::{
    dsp::SampleRate,
    provider::{
        Coding, Fault, Limits, Message, ProviderError, Role, Sound, Speech, Streaming, Token, ToolCall, ToolSpec,
        endpoint::WARM_PAUSE, wav,
    },
};
use futures_util::StreamExt;
use peer::{Peer, Script, Step, answer, chunk, chunked};
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Handle},
    time::{Instant, sleep},
};
use url::Url;

pub(in crate::provider) mod peer;

const HZ_24000: Coding = Coding::Pcm(SampleRate::Hz24000);
const KEY: &str = "sk-test-0123456789abcdef";
const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";
const PCM: &str = "application/octet-stream";

#[expect(clippy::disallowed_methods, reason = "limits are measured in virtual time")]
fn now() -> Instant {
    Instant::now()
}

fn client() -> Client {
    Client::new(Handle::current()).unwrap()
}

fn server(peer: &Peer) -> Server {
    let base = Url::parse(&format!("http://{}/v1/", peer.address)).unwrap();
    Server { base, key: Some(format!("{KEY}\n").into()), ..Server::default() }
}

fn hearing(peer: &Peer) -> Arc<dyn SpeechToText> {
    let settings = transcriptions::Settings { server: server(peer), ..Default::default() };
    speech_to_text(&client(), settings).unwrap()
}

fn thinking(peer: &Peer) -> Arc<dyn Chat> {
    chat(&client(), chat::Settings { server: server(peer), ..Default::default() }).unwrap()
}

fn speaking_as(peer: &Peer, format: Coding) -> Arc<dyn TextToSpeech> {
    text_to_speech(&client(), speech::Settings { server: server(peer), format, ..Default::default() }).unwrap()
}

fn speaking(peer: &Peer) -> Arc<dyn TextToSpeech> {
    speaking_as(peer, HZ_24000)
}

fn spoken() -> Speech {
    Speech { pcm: (0..1600).collect(), language: "de-AT".to_owned(), ..Speech::default() }
}

fn prompt() -> Vec<Message> {
    vec![
        Message::new(Role::System, "Be brief and friendly to them."),
        Message::new(Role::User, "What is my balance today?"),
    ]
}

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

const STOP: &str = "data: {\"choices\": [{\"index\": 0, \"delta\": {}, \"finish_reason\": \"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// What came of a stream: its text and its cost, or its samples; and how it ended.
async fn told(mut stream: Streaming<Token>) -> (String, Option<(u64, u64)>, Option<ProviderError>) {
    let (mut text, mut cost) = (String::new(), None);
    while let Some(token) = stream.next().await {
        match token {
            Ok(Token::Text(piece)) => text.push_str(&piece),
            Ok(Token::Call(call)) => panic!("{call:?}"),
            Ok(Token::Usage { prompt, completion }) => cost = Some((prompt, completion)),
            Err(error) => {
                assert!(stream.next().await.is_none(), "after an error nothing follows");
                return (text, cost, Some(error));
            }
        }
    }
    (text, cost, None)
}

async fn heard(mut stream: Streaming<Sound>) -> (Option<SampleRate>, Vec<i16>, Option<ProviderError>) {
    let (mut rate, mut pcm) = (None, Vec::new());
    while let Some(sound) = stream.next().await {
        match sound {
            Ok(Sound::Pcm(hz, samples)) => {
                assert_eq!(*rate.get_or_insert(hz), hz);
                pcm.extend(samples);
            }
            Ok(other) => panic!("nobody says {other:?}"),
            Err(error) => return (rate, pcm, Some(error)),
        }
    }
    (rate, pcm, None)
}

async fn chat_fault(scripts: impl IntoIterator<Item = Script>) -> (String, Option<Fault>, usize) {
    let peer = Peer::start(scripts).await;
    let (text, _, error) = told(thinking(&peer).answer(prompt(), &[])).await;
    (text, error.map(|error| error.kind), peer.seen().len())
}

async fn speech_fault(format: Coding, script: Script) -> (usize, Option<ProviderError>) {
    let peer = Peer::start([script]).await;
    let (_, pcm, error) = heard(speaking_as(&peer, format).speak("hello", "")).await;
    (pcm.len(), error)
}

#[tokio::test]
async fn speech_is_sent_as_a_form_with_a_file() {
    let peer = Peer::start([answer(200, JSON, "", r#"{"text":" Guten Tag. "}"#)]).await;
    assert_eq!(hearing(&peer).transcribe(spoken()).await.unwrap(), "Guten Tag.");
    let seen = &peer.seen()[0];
    assert!(seen.head.starts_with("POST /v1/audio/transcriptions HTTP/1.1\r\n"), "{}", seen.head);
    assert!(seen.head.contains(&format!("authorization: Bearer {KEY}\r\n")), "{}", seen.head);
    let boundary = seen.head.split("multipart/form-data; boundary=").nth(1).unwrap().lines().next().unwrap();
    let body = String::from_utf8_lossy(&seen.body);
    let parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
    assert_eq!((parts.len(), parts[0], parts[6]), (7, "", "--\r\n"));
    let fields = [("model", "whisper-1"), ("response_format", "json"), ("temperature", "0"), ("language", "de")];
    for (part, (name, value)) in parts[1..].iter().zip(fields) {
        assert_eq!(*part, format!("\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
    }
    assert!(parts[5].contains("name=\"file\"; filename=\"speech.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF"));
    let file = wav::file(SampleRate::Hz16000, &spoken().pcm);
    assert!(seen.body.windows(file.len()).any(|bytes| bytes == file));
}

#[tokio::test]
async fn a_language_that_is_not_known_and_a_key_that_is_not_there_are_not_sent() {
    let peer = Peer::start([answer(200, JSON, "", r#"{"text":""}"#)]).await;
    let server = Server { key: Some("\n".to_owned().into()), ..server(&peer) };
    let settings = transcriptions::Settings { server, ..Default::default() };
    let provider = speech_to_text(&client(), settings).unwrap();
    let speech = Speech { language: String::new(), ..spoken() };
    assert_eq!(provider.transcribe(speech).await.unwrap(), "", "no words are an answer");
    assert!(!peer.seen()[0].head.to_lowercase().contains("authorization"));
    assert!(!String::from_utf8_lossy(&peer.seen()[0].body).contains("language"));
}

#[tokio::test]
async fn what_is_no_transcript_is_told_apart() {
    let cases = [
        (answer(200, "text/html", "", "<html>hello</html>"), Fault::Malformed),
        (answer(200, JSON, "", r#"{"text": "hel"#), Fault::Malformed),
        (answer(200, JSON, "", ""), Fault::Malformed),
        (answer(200, JSON, "", r#"{"error": {"message": "overloaded"}}"#), Fault::Failed),
        (answer(200, JSON, "", format!(r#"{{"text": "{}"}}"#, "x".repeat(256 << 10))), Fault::Malformed),
        (answer(302, JSON, "Location: /\r\n", ""), Fault::Malformed),
        (answer(404, JSON, "", ""), Fault::Rejected),
        (answer(401, JSON, "", ""), Fault::Denied),
    ];
    for (script, fault) in cases {
        let peer = Peer::start([script.clone(), script]).await;
        let error = hearing(&peer).transcribe(spoken()).await.unwrap_err();
        assert_eq!((error.kind, peer.seen().len()), (fault, 1 + usize::from(fault.is_passing())), "{error}");
    }
}

#[tokio::test]
async fn messages_are_sent_with_all_that_is_set() {
    let end = [delta("Hi."), DONE.to_owned()].concat();
    let peer = Peer::start([answer(200, SSE, "", &end), answer(200, SSE, "", &end)]).await;
    told(thinking(&peer).answer(prompt(), &[])).await;
    let Value::Object(extra) = json!({"top_p": 0.5, "model": "mine", "stream": false}) else { panic!() };
    let settings = chat::Settings {
        server: Server { base: Url::parse(&format!("http://{}/?v=1#x", peer.address)).unwrap(), ..Server::default() },
        model: "gemma".to_owned(),
        temperature: Some(0.25),
        max_tokens: Some(100),
        max_tokens_field: chat::MaxTokensField::MaxTokens,
        usage: false,
        extra,
    };
    told(chat(&client(), settings).unwrap().answer(prompt(), &[])).await;
    let [plain, full] = &peer.seen()[..] else { panic!() };
    assert!(plain.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", plain.head);
    assert!(full.head.starts_with("POST /chat/completions?v=1 HTTP/1.1\r\n"), "{}", full.head);
    let messages = json!([
        {"role": "system", "content": "Be brief and friendly to them."},
        {"role": "user", "content": "What is my balance today?"},
    ]);
    assert_eq!(
        serde_json::from_slice::<Value>(&plain.body).unwrap(),
        json!({"model": "gpt-4o-mini", "messages": messages, "stream": true, "stream_options": {"include_usage": true}})
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&full.body).unwrap(),
        json!({"model": "gemma", "messages": messages, "stream": true, "temperature": 0.25, "max_tokens": 100, "top_p": 0.5})
    );
}

#[tokio::test]
async fn an_answer_is_the_same_wherever_its_bytes_are_cut() {
    let stream = [
        ": OPENROUTER PROCESSING\r\n\r\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":null}},{\"index\":1,\"delta\":{\"content\":\"no\"}}]}\n\n",
        &delta("H\u{e4}"),
        "data: {\"choices\":[{\"index\":null,\"finish_reason\":\"\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":null}}\r\n\r\n",
        &delta("\u{1f6b2}."),
        STOP,
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\n",
        DONE,
    ]
    .concat();
    let bytes = stream.as_bytes();
    let cuts = 1..bytes.len();
    let scripts = cuts.clone().map(|at| chunked(SSE, [&bytes[..at], &bytes[at..]]));
    let peer = Peer::start(scripts.chain([chunked(SSE, bytes.chunks(1))])).await;
    let provider = thinking(&peer);
    for at in cuts.chain([0]) {
        let got = told(provider.answer(prompt(), &[])).await;
        assert_eq!(got, ("H\u{e4}\u{1f6b2}.".to_owned(), Some((7, 2)), None), "{at}");
    }
    assert_eq!(peer.connections(), 1, "what is read to its end keeps its connection");
}

#[tokio::test]
async fn calls_of_tools_are_the_same_wherever_their_bytes_are_cut() {
    let piece =
        |calls: Value| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}));
    let stream = [
        delta("Let me see."),
        piece(json!([{"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}])),
        piece(json!([{"index": 0, "function": {"arguments": "{\"at\": \"H\u{e4}"}}])),
        piece(json!([{"index": 0, "function": {"arguments": "\"}"}}])),
        piece(json!([{"index": 1, "id": "c2", "function": {"name": "hang_up", "arguments": "{}"}}])),
        "data: {\"choices\": [{\"index\": 0, \"delta\": {}, \"finish_reason\": \"tool_calls\"}]}\n\n".to_owned(),
        DONE.to_owned(),
    ]
    .concat();
    let bytes = stream.as_bytes();
    let cuts = 1..bytes.len();
    let peer = Peer::start(cuts.clone().map(|at| chunked(SSE, [&bytes[..at], &bytes[at..]]))).await;
    let provider = thinking(&peer);
    let call = |id: &str, name: &str, arguments: &str| {
        Token::Call(ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() })
    };
    let expected = [
        Token::Text("Let me see.".to_owned()),
        call("c1", "look", "{\"at\": \"H\u{e4}\"}"),
        call("c2", "hang_up", "{}"),
    ];
    for at in cuts {
        let got: Vec<Token> = provider.answer(prompt(), &[]).map(Result::unwrap).collect().await;
        assert_eq!(got, expected, "{at}");
    }
}

#[tokio::test]
async fn tools_and_what_came_of_them_are_sent_and_calls_without_words_are_an_answer() {
    let calls = json!([{"id": "c9", "type": "function", "function": {"name": "look", "arguments": "{}"}}]);
    let whole =
        json!({"choices": [{"message": {"content": null, "tool_calls": calls}, "finish_reason": "tool_calls"}]});
    let peer = Peer::start([answer(200, JSON, "", whole.to_string())]).await;
    let parameters = json!({"type": "object", "properties": {}});
    let spec = ToolSpec { name: "look".to_owned(), description: "Looks.".to_owned(), parameters: parameters.clone() };
    let call = ToolCall { id: "c1".to_owned(), name: "look".to_owned(), arguments: "{}".to_owned() };
    let prompt = vec![Message::calling("", vec![call]), Message::result("c1", "five")];
    let got: Vec<Token> = thinking(&peer).answer(prompt, &[spec]).map(Result::unwrap).collect().await;
    assert!(matches!(&got[..], [Token::Call(call)] if call.id == "c9"), "{got:?}");
    let sent: Value = serde_json::from_slice(&peer.seen()[0].body).unwrap();
    let function = json!({"name": "look", "description": "Looks.", "parameters": parameters});
    assert_eq!(sent["tools"], json!([{"type": "function", "function": function}]));
    let call = json!({"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}});
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "content": "five", "tool_call_id": "c1"},
        ])
    );
}

#[tokio::test]
async fn half_a_call_is_none() {
    let begun = "data: {\"choices\": [{\"delta\": {\"tool_calls\": [{\"index\": 0, \"id\": \"c\", \"function\": {\"name\": \"x\"}}]}}]}\n\n";
    let peer = Peer::start([answer(200, SSE, "", begun)]).await;
    let mut stream = thinking(&peer).answer(prompt(), &[]);
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind, stream.next().await), (Fault::Malformed, None));
}

#[tokio::test]
async fn ends_are_taken_as_servers_write_them() {
    let json = json!({"choices": [{"message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}]});
    let close = |text: String| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {SSE}\r\n\r\n{text}");
        vec![Step::Send(head.into_bytes()), Step::Close]
    };
    for script in [
        answer(200, JSON, "", json.to_string()),
        answer(200, "text/plain", "", format!("\n {json}")),
        answer(200, "text/plain", "", [&delta("Hi."), DONE].concat()),
        close([&delta("Hi."), STOP].concat()),
        close([&delta("Hi."), "data: [DONE]"].concat()),
        // What follows the finish is of no interest, nor how it ends.
        [close([&delta("Hi."), STOP].concat()), vec![]].concat()[..1].iter().cloned().chain([Step::Hold]).collect(),
        chunked(SSE, [delta("Hi.").as_bytes(), STOP.as_bytes()])[..3].iter().cloned().chain([Step::Close]).collect(),
    ] {
        let shown = format!("{script:?}");
        assert_eq!(chat_fault([script]).await, ("Hi.".to_owned(), None, 1), "{shown}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_apart() {
    let hi = delta("Hi.");
    let long = delta(&"x".repeat(32 << 10));
    let cases = [
        (answer(200, "text/html", "", "<html></html>"), "", Fault::Malformed),
        (answer(200, "text/plain", "", "<html></html>"), "", Fault::Malformed),
        (answer(200, SSE, "", "<html></html>"), "", Fault::Malformed),
        (answer(200, JSON, "", r#"{"choices": [{"mess"#), "", Fault::Malformed),
        (answer(200, JSON, "", ""), "", Fault::Malformed),
        (answer(200, JSON, "", r#"{"choices": []}"#), "", Fault::Empty),
        (answer(200, SSE, "", ""), "", Fault::Malformed),
        (answer(200, SSE, "", DONE), "", Fault::Empty),
        (answer(200, SSE, "", format!("{STOP}{DONE}")), "", Fault::Empty),
        (answer(200, SSE, "", &hi), "Hi.", Fault::Malformed),
        (answer(200, SSE, "", format!("{hi}data: {{\"choi\n\n")), "Hi.", Fault::Malformed),
        (
            answer(200, SSE, "", format!("{hi}data: {{\"error\": {{\"message\": \"x\"}}}}\n\n{DONE}")),
            "Hi.",
            Fault::Failed,
        ),
        (answer(200, SSE, "", format!("{hi}event: error\ndata: oh no\n\n")), "Hi.", Fault::Failed),
        (answer(200, SSE, "", format!("{hi}data: {}", "x".repeat(64 << 10))), "Hi.", Fault::Malformed),
        (answer(400, JSON, "", ""), "", Fault::Rejected),
    ];
    for (script, text, fault) in cases {
        let shown = format!("{script:?}");
        assert_eq!(chat_fault([script]).await, (text.to_owned(), Some(fault), 1), "{shown}");
    }
    let (text, fault, _) = chat_fault([chunked(SSE, [long.as_bytes(); 3])]).await;
    assert_eq!((text.len(), fault), (64 << 10, Some(Fault::Malformed)));
    let broken: Script = chunked(SSE, [hi.as_bytes()])[..2].iter().cloned().chain([Step::Close]).collect();
    assert_eq!(chat_fault([broken]).await, ("Hi.".to_owned(), Some(Fault::Unreachable), 1));
}

#[tokio::test(start_paused = true)]
async fn only_what_may_pass_is_asked_again_and_once() {
    let good = || answer(200, SSE, "", [&delta("Hi."), DONE].concat());
    let bad = |status: u16, headers: &str| answer(status, JSON, headers, r#"{"error": {"message": "no"}}"#);
    let hi = "Hi.".to_owned();
    for passing in [bad(500, ""), bad(503, ""), bad(429, ""), bad(429, "Retry-After: 1\r\n"), vec![Step::Close]] {
        assert_eq!(chat_fault([passing.clone(), good()]).await, (hi.clone(), None, 2), "{passing:?}");
        let (text, fault, asked) = chat_fault([passing.clone(), passing.clone(), good()]).await;
        assert_eq!((text.as_str(), fault.map(Fault::is_passing), asked), ("", Some(true), 2), "{passing:?}");
    }
    for lasting in [bad(401, ""), bad(400, ""), answer(200, SSE, "", DONE), bad(429, "Retry-After: 2\r\n")] {
        let (_, fault, asked) = chat_fault([lasting, good()]).await;
        assert_eq!((fault.is_some(), asked), (true, 1));
    }
    // Something was given out already.
    let broken = format!("{}data: {{\"error\": 1}}\n\n", delta("Hi."));
    assert_eq!(chat_fault([answer(200, SSE, "", broken), good()]).await, (hi.clone(), Some(Fault::Failed), 1));
    // Nothing was, though an event came.
    let early = "data: {\"error\": {\"message\": \"loading\"}}\n\n";
    assert_eq!(chat_fault([answer(200, SSE, "", early), good()]).await, (hi, None, 2));
}

#[tokio::test(start_paused = true)]
async fn a_busy_provider_gets_the_time_that_it_asks_for() {
    let begun = now();
    let good = answer(200, JSON, "", r#"{"text": "yes"}"#);
    let peer = Peer::start([answer(429, JSON, "Retry-After: 1\r\n", ""), good]).await;
    assert_eq!(hearing(&peer).transcribe(spoken()).await.unwrap(), "yes");
    let taken = begun.elapsed();
    assert!(taken >= Duration::from_secs(1) && taken < Duration::from_secs(2), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_piece_and_the_last_have_their_time() {
    let second = Duration::from_secs(1);
    // Nothing at all, nothing but signs of life, a head alone.
    let dead = vec![Step::Hold];
    let comments = (0..20).flat_map(|_| [chunk(b": still here\n\n"), Step::Wait(second)]);
    let alive: Script = chunked(SSE, [])[..1].iter().cloned().chain(comments).chain([Step::Hold]).collect();
    for script in [dead.clone(), alive] {
        let begun = now();
        let (text, fault, asked) = chat_fault([script.clone(), script]).await;
        let taken = begun.elapsed();
        assert_eq!((text.as_str(), fault, asked), ("", Some(Fault::Timeout), 1), "no time is left for a second try");
        assert!(taken >= second * 10 && taken < second * 11, "{taken:?}");
    }
    // A second try has what the first one left.
    let begun = now();
    let slow = vec![Step::Wait(second * 6), Step::Close];
    assert_eq!(chat_fault([slow, dead.clone()]).await, (String::new(), Some(Fault::Timeout), 2));
    assert!(begun.elapsed() < second * 11);
    // A slow drip is an answer, for so long.
    let begun = now();
    let drips = (0..40).flat_map(|_| [chunk(delta("x").as_bytes()), Step::Wait(second * 9)]);
    let drip: Script = chunked(SSE, [])[..1].iter().cloned().chain(drips).collect();
    let (text, fault, asked) = chat_fault([drip]).await;
    assert_eq!((text.len(), fault, asked), (14, Some(Fault::Timeout), 1));
    assert!(begun.elapsed() >= second * 120 && begun.elapsed() < second * 121);
    let peer = Peer::start([dead.clone(), dead]).await;
    assert_eq!(hearing(&peer).transcribe(spoken()).await.unwrap_err().kind, Fault::Timeout);
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_listens_is_not_the_providers() {
    let pieces = vec![[1_u8; 4096]; 40];
    let peer = Peer::start([chunked(PCM, pieces.iter().map(|piece| &piece[..]))]).await;
    let mut stream = speaking(&peer).speak("hello", "");
    let mut samples = 0;
    while let Some(sound) = stream.next().await {
        let Sound::Pcm(_, pcm) = sound.unwrap() else { panic!() };
        samples += pcm.len();
        sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(samples, 40 * 2048);
}

#[tokio::test]
async fn dropping_a_request_ends_its_connection() {
    let begun = || chunked(SSE, [delta("Hi.").as_bytes()])[..2].iter().cloned().chain([Step::Hold]).collect::<Script>();
    let peer = Peer::start([vec![Step::Hold], vec![Step::Hold], begun(), begun()]).await;
    let transcript = hearing(&peer).transcribe(spoken());
    peer.until_seen(1).await;
    drop(transcript);
    peer.until_left(1).await;
    let answer = thinking(&peer).answer(prompt(), &[]);
    peer.until_seen(2).await;
    drop(answer);
    peer.until_left(2).await;
    let mut answer = thinking(&peer).answer(prompt(), &[]);
    assert_eq!(answer.next().await, Some(Ok(Token::Text("Hi.".to_owned()))));
    drop(answer);
    peer.until_left(3).await;
}

#[tokio::test]
async fn a_voice_is_asked_for_with_all_that_is_set() {
    let peer = Peer::start([
        answer(200, PCM, "", [0; 64]),
        answer(200, "audio/wav", "", wav::file(SampleRate::Hz8000, &[0; 9])),
    ])
    .await;
    heard(speaking(&peer).speak("Hello.", "en-US")).await;
    let settings = speech::Settings {
        server: server(&peer),
        model: "kokoro".to_owned(),
        voice: "af_sky".to_owned(),
        format: Coding::Wav,
        speed: Some(1.25),
        instructions: Some("Gently.".to_owned()),
    };
    let voice = text_to_speech(&client(), settings).unwrap();
    assert_eq!(heard(voice.speak("Bye.", "")).await, (Some(SampleRate::Hz8000), vec![0; 9], None));
    let [plain, full] = &peer.seen()[..] else { panic!() };
    assert!(plain.head.starts_with("POST /v1/audio/speech HTTP/1.1\r\n"), "{}", plain.head);
    let asked = |seen: &peer::Seen| serde_json::from_slice::<Value>(&seen.body).unwrap();
    assert_eq!(
        asked(plain),
        json!({"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello.", "response_format": "pcm"})
    );
    assert_eq!(
        asked(full),
        json!({"model": "kokoro", "voice": "af_sky", "input": "Bye.", "response_format": "wav", "speed": 1.25,
               "instructions": "Gently."})
    );
}

#[tokio::test]
async fn a_voice_is_the_same_wherever_its_bytes_are_cut() {
    let pcm: Vec<i16> = (0..60).map(|at| at * 7 - 200).collect();
    let raw: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let file = wav::file(SampleRate::Hz16000, &pcm);
    let formats = [(HZ_24000, SampleRate::Hz24000, raw), (Coding::Wav, SampleRate::Hz16000, file)];
    for (format, rate, bytes) in formats {
        let cuts = 1..bytes.len();
        let scripts = cuts.clone().map(|at| chunked(PCM, [&bytes[..at], &bytes[at..]]));
        let peer = Peer::start(scripts.chain([chunked(PCM, bytes.chunks(1))])).await;
        let voice = speaking_as(&peer, format);
        for at in cuts.chain([0]) {
            assert_eq!(heard(voice.speak("hello", "")).await, (Some(rate), pcm.clone(), None), "{at}");
        }
        assert_eq!(peer.connections(), 1);
    }
}

#[tokio::test]
async fn what_is_no_voice_is_told_apart() {
    let pcm = HZ_24000;
    let mut wrong_rate = wav::file(SampleRate::Hz16000, &[0; 100]);
    wrong_rate[24..28].copy_from_slice(&11_025_u32.to_le_bytes());
    let message = r#"{"error": {"message": "voice af_sky is not loaded"}}"#;
    let cases = [
        (pcm, answer(200, JSON, "", message), Fault::Malformed, "af_sky"),
        (pcm, answer(200, PCM, "", message), Fault::Malformed, "af_sky"),
        (pcm, answer(200, "text/html; charset=utf-8", "", "<html></html>"), Fault::Malformed, "text"),
        (pcm, answer(200, "audio/pcm", "", "Internal Server Error"), Fault::Malformed, "text"),
        (pcm, answer(200, PCM, "", ""), Fault::Empty, ""),
        (pcm, answer(200, PCM, "", [7]), Fault::Empty, ""),
        (pcm, answer(204, PCM, "", ""), Fault::Empty, ""),
        (pcm, answer(200, "audio/mpeg", "", b"ID3\x04\0\0\0\0\0\0"), Fault::Malformed, "compressed"),
        (pcm, answer(200, "audio/pcm; rate=16000", "", [0; 200]), Fault::Malformed, "16000 Hz where 24000"),
        (Coding::Wav, answer(200, "audio/wav", "", &wrong_rate), Fault::Malformed, "11025"),
        (pcm, answer(200, "audio/wav", "", &wrong_rate), Fault::Malformed, "11025"),
        (Coding::Wav, answer(200, "audio/wav", "", &wrong_rate[..30]), Fault::Malformed, ""),
        (Coding::Wav, answer(200, "audio/wav", "", [0; 200]), Fault::Malformed, "WAV"),
        (pcm, answer(400, JSON, "", message), Fault::Rejected, "af_sky"),
    ];
    for (format, script, fault, word) in cases {
        let shown = format!("{script:?}");
        let (samples, error) = speech_fault(format, script).await;
        let error = error.expect("an error");
        assert_eq!((samples, error.kind, error.detail.contains(word)), (0, fault, true), "{error} {shown}");
    }
    let broken: Script = chunked(PCM, [&[0; 200][..]])[..2].iter().cloned().chain([Step::Close]).collect();
    let (samples, error) = speech_fault(pcm, broken).await;
    assert_eq!((samples, error.map(|error| error.kind)), (100, Some(Fault::Unreachable)));
}

#[tokio::test]
async fn a_voice_without_end_is_cut() {
    let endless = vec![0; 600 * 16_000 + 2];
    let peer = Peer::start([answer(200, PCM, "", endless)]).await;
    let voice = speaking_as(&peer, Coding::Pcm(SampleRate::Hz8000));
    let (_, pcm, error) = heard(voice.speak("hello", "")).await;
    assert_eq!(error.map(|error| error.kind), Some(Fault::Malformed));
    assert!(pcm.len() <= 600 * 8000);
}

#[tokio::test(start_paused = true)]
async fn errors_tell_neither_the_key_nor_what_was_said() {
    let tell = |message: &str| answer(400, JSON, "", json!({"error": {"message": message}}).to_string());
    let peer = Peer::start([
        tell(&format!("Incorrect API key provided: {KEY}")),
        tell("cannot parse: What is my balance today?"),
        tell(&"long ".repeat(1000)),
        answer(400, JSON, "", "x".repeat(1 << 20)),
    ])
    .await;
    let provider = thinking(&peer);
    let mut details = Vec::new();
    for _ in 0..4 {
        details.push(told(provider.answer(prompt(), &[])).await.2.unwrap().detail);
    }
    assert_eq!(details[0], "HTTP 400: Incorrect API key provided: [redacted]");
    assert_eq!(details[1], "HTTP 400");
    assert!(details[2].starts_with("HTTP 400: long long") && details[2].chars().count() <= 200, "{}", details[2]);
    assert_eq!(details[3], "HTTP 400");
    let shown = format!("{provider:?} {:?}", server(&peer));
    assert!(!shown.contains("0123456789"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_opened_ahead_once_and_used() {
    let models = || answer(200, JSON, "", r#"{"data": []}"#);
    let peer = Peer::start([models(), answer(200, SSE, "", [&delta("Hi."), DONE].concat()), models()]).await;
    let provider = thinking(&peer);
    for _ in 0..5 {
        provider.warm();
    }
    // The clock moves on when nothing else can happen.
    sleep(Duration::from_secs(1)).await;
    provider.warm();
    assert_eq!(told(provider.answer(prompt(), &[])).await.0, "Hi.");
    assert_eq!((peer.connections(), peer.seen().len()), (1, 2));
    assert!(peer.seen()[0].head.starts_with("GET /v1/models HTTP/1.1\r\n"));
    assert!(peer.seen()[0].head.contains(KEY));
    sleep(WARM_PAUSE).await;
    provider.warm();
    peer.until_seen(3).await;
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_its_server_closed_costs_nothing_but_a_new_one() {
    let good = || answer(200, JSON, "", r#"{"text": "yes"}"#);
    let closing = [good(), vec![Step::Close]].concat();
    let peer = Peer::start([closing, good()]).await;
    let provider = hearing(&peer);
    for _ in 0..2 {
        assert_eq!(provider.transcribe(spoken()).await.unwrap(), "yes");
    }
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_warming_it_harmless() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let settings = chat::Settings { server: Server { base, ..Server::default() }, ..Default::default() };
    let provider = chat(&client(), settings).unwrap();
    provider.warm();
    let error = told(provider.answer(prompt(), &[])).await.2.unwrap();
    assert_eq!(error.kind, Fault::Unreachable);
    assert!(error.detail.starts_with("no connection: "), "{error}");
}

#[test]
fn requests_of_any_shard_run_on_the_clients_runtime() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (told_peer, peer) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let own = std::thread::spawn(move || {
        runtime().block_on(async {
            let good = || answer(200, SSE, "", [&delta("Hi."), DONE].concat());
            let peer = Peer::start([good(), good()]).await;
            told_peer.send((thinking(&peer), peer)).unwrap();
            let _ = stopped.await;
        });
    });
    let (provider, peer) = peer.recv().unwrap();
    // Each of these ends before the next begins.
    for _ in 0..2 {
        assert_eq!(runtime().block_on(async { told(provider.answer(prompt(), &[])).await.0 }), "Hi.");
    }
    assert_eq!(peer.connections(), 1);
    let _ = stop.send(());
    own.join().unwrap();
    let (text, _, error) = runtime().block_on(async { told(provider.answer(prompt(), &[])).await });
    assert_eq!((text.as_str(), error.unwrap().kind), ("", Fault::Unreachable));
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let at = |base: &str| Server { base: Url::parse(base).unwrap(), ..Server::default() };
    let no_time = Limits { first: Duration::ZERO, ..Limits::default() };
    let cases = [
        (at("ftp://example.com/v1"), Err(SettingsError::Scheme)),
        (at("https://user:pass@example.com/v1"), Err(SettingsError::Userinfo)),
        (Server { key: Some("a\nb".to_owned().into()), ..Server::default() }, Err(SettingsError::Key)),
        (Server { limits: no_time, ..Server::default() }, Err(SettingsError::Limits)),
        (Server { key: Some(KEY.to_owned().into()), ..Server::default() }, Ok(())),
        (at("http://[::1]:11434/v1/"), Ok(())),
    ];
    for (server, expected) in cases {
        let settings = transcriptions::Settings { server, ..Default::default() };
        assert_eq!(speech_to_text(&client(), settings).map(|_| ()), expected);
    }
    let refused = |settings| chat(&client(), settings).map(|_| ()).unwrap_err();
    let base = chat::Settings::default;
    assert_eq!(refused(chat::Settings { model: String::new(), ..base() }), SettingsError::Model);
    assert_eq!(refused(chat::Settings { temperature: Some(2.1), ..base() }), SettingsError::Temperature);
    assert_eq!(refused(chat::Settings { temperature: Some(f64::NAN), ..base() }), SettingsError::Temperature);
    assert_eq!(refused(chat::Settings { max_tokens: Some(0), ..base() }), SettingsError::Tokens);
    let refused = |settings| text_to_speech(&client(), settings).map(|_| ()).unwrap_err();
    let base = speech::Settings::default;
    assert_eq!(refused(speech::Settings { voice: String::new(), ..base() }), SettingsError::Voice);
    assert_eq!(refused(speech::Settings { speed: Some(0.1), ..base() }), SettingsError::Speed);
    let long = Some("x".repeat(4097));
    assert_eq!(refused(speech::Settings { instructions: long, ..base() }), SettingsError::Instructions);
    let shown = format!("{:?}", at("https://user:secret@example.com/v1"));
    assert!(!shown.contains("secret"), "{shown}");
}
