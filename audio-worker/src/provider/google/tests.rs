//! Each stage against a server that answers as told: what is asked, what is taken, and every way to fail.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use url::Url;

use super::*;
use crate::{
    dsp::SampleRate,
    provider::{
        Coding, Fault, Sound, Speech, Streaming,
        openai::tests::peer::{Peer, Script, Seen, Step, answer, chunked},
        wav,
    },
};

const KEY: &str = "AIza-test-0123456789abcdef";
const JSON: &str = "application/json; charset=UTF-8";
const TONE: &[u8] = include_bytes!("../mp3/fixtures/tone-24000-mono.mp3");

#[expect(clippy::disallowed_methods, reason = "limits are measured in virtual time")]
fn now() -> Instant {
    Instant::now()
}

fn client() -> Client {
    Client::new(Handle::current()).unwrap()
}

fn server(peer: &Peer, key: &str) -> Server {
    let base = Url::parse(&format!("http://{}/v1", peer.address)).unwrap();
    Server { base, key: Some(key.to_owned().into()), ..Server::default() }
}

fn hearing_as(peer: &Peer, key: &str) -> Arc<dyn SpeechToText> {
    let settings = recognize::Settings {
        server: server(peer, key),
        model: "latest_long".to_owned(),
        prompt: None,
        streaming: None,
    };
    speech_to_text(&client(), settings).unwrap()
}

fn hearing(peer: &Peer) -> Arc<dyn SpeechToText> {
    hearing_as(peer, KEY)
}

fn settings(peer: &Peer, format: Coding) -> synthesize::Settings {
    synthesize::Settings {
        server: server(peer, KEY),
        model: String::new(),
        voice: String::new(),
        format,
        rate: SampleRate::Hz24000,
        speed: None,
        instructions: None,
        streams: false,
    }
}

fn speaking(peer: &Peer, format: Coding) -> Arc<dyn TextToSpeech> {
    text_to_speech(&client(), settings(peer, format)).unwrap()
}

fn spoken() -> Speech {
    let mulaw = Bytes::from((0..=255).collect::<Vec<u8>>());
    Speech { pcm: vec![7; 512].into(), mulaw, language: "de-AT".to_owned() }
}

fn words(text: &str) -> Script {
    answer(200, JSON, "", json!({"results": [{"alternatives": [{"transcript": text}]}]}).to_string())
}

fn voice(bytes: &[u8]) -> String {
    json!({"audioContent": STANDARD.encode(bytes)}).to_string()
}

fn asked(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

/// A WAV file of these codes.
fn mulaw_file(codes: &[u8]) -> Vec<u8> {
    let mut file = wav::file(SampleRate::Hz8000, &[]);
    (file[20], file[34]) = (7, 8);
    file[40..44].copy_from_slice(&u32::try_from(codes.len()).unwrap().to_le_bytes());
    file.extend(codes);
    file
}

/// Rate and samples, codes, and how it ended.
async fn heard(mut stream: Streaming<Sound>) -> (Option<SampleRate>, Vec<i16>, Vec<u8>, Option<ProviderError>) {
    let (mut rate, mut pcm, mut codes) = (None, Vec::new(), Vec::new());
    while let Some(sound) = stream.next().await {
        match sound {
            Ok(Sound::Pcm(hz, samples)) => {
                assert_eq!(*rate.get_or_insert(hz), hz);
                pcm.extend(samples);
            }
            Ok(Sound::Mulaw(bytes)) => codes.extend(bytes),
            Ok(other) => panic!("nobody says {other:?}"),
            Err(error) => return (rate, pcm, codes, Some(error)),
        }
    }
    (rate, pcm, codes, None)
}

#[tokio::test]
async fn the_telephones_own_sound_is_sent() {
    let peer = Peer::start([words("Guten Tag."), words(""), words("")]).await;
    let provider = hearing(&peer);
    assert!(provider.wants_native());
    assert_eq!(provider.transcribe(spoken()).await.unwrap(), "Guten Tag.");
    let seen = &peer.seen()[0];
    assert!(seen.head.starts_with("POST /v1/speech:recognize HTTP/1.1\r\n"), "{}", seen.head);
    assert!(seen.head.contains(&format!("x-goog-api-key: {KEY}\r\n")) && !seen.head.contains("authorization"));
    let content = STANDARD.encode(spoken().mulaw);
    let config = json!({
        "encoding": "MULAW", "sampleRateHertz": 8000, "languageCode": "de-AT", "model": "latest_long",
        "enableAutomaticPunctuation": true, "profanityFilter": false,
    });
    assert_eq!(asked(seen), json!({"config": config, "audio": {"content": content}}));
    // Without it, the samples; of what is too long, the end.
    let prompt = Some("Tandem, sleep study;\nOslo".to_owned());
    let settings = recognize::Settings { server: server(&peer, KEY), model: String::new(), prompt, streaming: None };
    let provider = speech_to_text(&client(), settings).unwrap();
    let plain = Speech { pcm: vec![1, -2].into(), mulaw: Bytes::new(), language: "ja".to_owned() };
    provider.transcribe(plain).await.unwrap();
    let long = Speech { mulaw: [vec![1; 8000], vec![2; 59 * 8000]].concat().into(), ..Speech::default() };
    provider.transcribe(long).await.unwrap();
    let config = json!({
        "encoding": "LINEAR16", "sampleRateHertz": 16000, "languageCode": "ja-JP",
        "enableAutomaticPunctuation": true, "profanityFilter": false,
        "speechContexts": [{"phrases": ["Tandem", "sleep study", "Oslo"]}],
    });
    let content = STANDARD.encode([1, 0, 254, 255]);
    assert_eq!(asked(&peer.seen()[1]), json!({"config": config, "audio": {"content": content}}));
    let long = asked(&peer.seen()[2]);
    assert_eq!(long["config"]["languageCode"], "en-US");
    assert_eq!(long["audio"]["content"], STANDARD.encode(vec![2; 59 * 8000]));
}

#[tokio::test]
async fn words_are_the_same_wherever_the_bytes_are_cut() {
    let body = json!({"results": [{"alternatives": [{"transcript": "H\u{e4}, \u{1f6b2}?"}]}], "requestId": "7"});
    let body = body.to_string();
    let bytes = body.as_bytes();
    let cuts = 1..bytes.len();
    let scripts = cuts.clone().map(|at| chunked(JSON, [&bytes[..at], &bytes[at..]]));
    let peer = Peer::start(scripts.chain([chunked(JSON, bytes.chunks(1))])).await;
    let provider = hearing(&peer);
    for at in cuts.chain([0]) {
        assert_eq!(provider.transcribe(spoken()).await.unwrap(), "H\u{e4}, \u{1f6b2}?", "{at}");
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_transcript_is_told_apart() {
    let error = |code: u16, message: &str| {
        answer(code, JSON, "", json!({"error": {"code": code, "message": message, "status": "X"}}).to_string())
    };
    let half: Script = chunked(JSON, [&b"{\"results\""[..]])[..2].iter().cloned().chain([Step::Close]).collect();
    for (script, fault, word) in [
        (answer(200, JSON, "", ""), Fault::Malformed, "results"),
        (answer(200, "text/html", "", "<html></html>"), Fault::Malformed, "results"),
        (answer(200, JSON, "", r#"{"results": [{"alt"#), Fault::Malformed, "results"),
        (answer(200, JSON, "", format!("[{}]", "1,".repeat(200_000))), Fault::Malformed, "KiB"),
        (error(200, "Internal error encountered."), Fault::Failed, "Internal error"),
        (error(400, "Invalid recognition 'config': bad encoding."), Fault::Rejected, "bad encoding"),
        (error(400, "API key not valid. Please pass a valid API key."), Fault::Rejected, "not valid"),
        (error(403, &format!("Requests with {KEY} are blocked.")), Fault::Denied, "[redacted] are blocked"),
        (error(429, "Quota exceeded"), Fault::Busy, "Quota"),
        (error(503, "The service is currently unavailable."), Fault::Failed, "unavailable"),
        (half, Fault::Unreachable, "broke off"),
        (vec![Step::Hold], Fault::Timeout, "no first piece"),
    ] {
        let peer = Peer::start([script.clone(), script]).await;
        let error = hearing(&peer).transcribe(spoken()).await.unwrap_err();
        assert_eq!((error.kind, error.detail.contains(word)), (fault, true), "{error}");
        assert!(!error.detail.contains("0123456789"), "{error}");
    }
}

#[tokio::test]
async fn a_voice_is_asked_for_with_all_that_is_set() {
    let file = wav::file(SampleRate::Hz16000, &[5; 40]);
    let peer = Peer::start([
        answer(200, JSON, "", voice(&mulaw_file(&[1, 2, 3]))),
        answer(200, JSON, "", voice(&file)),
        answer(200, JSON, "", voice(TONE)),
    ])
    .await;
    let (_, _, codes, error) = heard(speaking(&peer, Coding::Mulaw).speak("Hello.", "")).await;
    assert_eq!((codes, error), (vec![1, 2, 3], None));
    let full = synthesize::Settings {
        model: "gemini-2.5-flash-tts".to_owned(),
        voice: "Kore".to_owned(),
        speed: Some(1.25),
        instructions: Some("Gently.".to_owned()),
        ..settings(&peer, Coding::Pcm(SampleRate::Hz16000))
    };
    let stream = text_to_speech(&client(), full).unwrap().speak("Hallo.", "de");
    assert_eq!(heard(stream).await, (Some(SampleRate::Hz16000), vec![5; 40], vec![], None));
    let named = synthesize::Settings { voice: "en-GB-Neural2-C".to_owned(), ..settings(&peer, Coding::Mp3) };
    let (rate, pcm, _, error) = heard(text_to_speech(&client(), named).unwrap().speak("Hi.", "de")).await;
    assert_eq!((rate, error), (Some(SampleRate::Hz24000), None));
    assert!(pcm.len() > 9600);
    let seen = peer.seen();
    assert!(seen[0].head.starts_with("POST /v1/text:synthesize HTTP/1.1\r\n"), "{}", seen[0].head);
    assert!(seen[0].head.contains(&format!("x-goog-api-key: {KEY}\r\n")));
    let wanted = [
        json!({"input": {"text": "Hello."}, "voice": {"languageCode": "en-US"},
               "audioConfig": {"audioEncoding": "MULAW", "sampleRateHertz": 8000}}),
        json!({"input": {"text": "Hallo.", "prompt": "Gently."},
               "voice": {"languageCode": "de-DE", "name": "Kore", "modelName": "gemini-2.5-flash-tts"},
               "audioConfig": {"audioEncoding": "LINEAR16", "sampleRateHertz": 16000, "speakingRate": 1.25}}),
        json!({"input": {"text": "Hi."}, "voice": {"languageCode": "en-GB", "name": "en-GB-Neural2-C"},
               "audioConfig": {"audioEncoding": "MP3", "sampleRateHertz": 24000}}),
    ];
    assert_eq!(seen.iter().map(asked).collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn mu_law_is_the_same_byte_for_byte_wherever_the_answer_is_cut() {
    let codes: Vec<u8> = (0..=255).collect();
    let body = voice(&mulaw_file(&codes));
    let bytes = body.as_bytes();
    let cuts = 1..bytes.len();
    let scripts = cuts.clone().map(|at| chunked(JSON, [&bytes[..at], &bytes[at..]]));
    let peer = Peer::start(scripts.chain([chunked(JSON, bytes.chunks(1))])).await;
    let provider = speaking(&peer, Coding::Mulaw);
    for at in cuts.chain([0]) {
        let (_, pcm, heard, error) = heard(provider.speak("hello", "")).await;
        assert_eq!((pcm.len(), &heard, error), (0, &codes, None), "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_voice_is_told_apart() {
    let wav = Coding::Pcm(SampleRate::Hz24000);
    let unknown = {
        let mut file = wav::file(SampleRate::Hz24000, &[0; 50]);
        file[24..28].copy_from_slice(&11_025_u32.to_le_bytes());
        file
    };
    let said = r#"{"error": {"code": 400, "message": "cannot say: What is my balance today?"}}"#;
    let half: Script =
        chunked(JSON, [&b"{\"audioContent\": \"UklG"[..]])[..2].iter().cloned().chain([Step::Close]).collect();
    for (format, script, fault, word) in [
        (wav, answer(200, JSON, "", voice(b"")), Fault::Empty, ""),
        (wav, answer(200, JSON, "", "{}"), Fault::Malformed, "audioContent"),
        (wav, answer(200, JSON, "", r#"{"audioContent": "UklG"#), Fault::Malformed, "audioContent"),
        (wav, answer(200, JSON, "", r#"{"audioContent": "%%%%"}"#), Fault::Malformed, "base64"),
        (wav, answer(200, JSON, "", voice(&[0; 100])), Fault::Malformed, "not a WAV"),
        (wav, answer(200, JSON, "", voice(&unknown)), Fault::Malformed, "11025"),
        (wav, answer(200, JSON, "", voice(b"Internal Server Error")), Fault::Malformed, "text"),
        (Coding::Mp3, answer(200, JSON, "", voice(b"<html><body></body></html>")), Fault::Malformed, "text"),
        (Coding::Mp3, answer(200, JSON, "", voice(&[0; 200])), Fault::Malformed, "not MP3"),
        (wav, answer(200, "text/html", "", "<html></html>"), Fault::Malformed, "audioContent"),
        (wav, answer(200, JSON, "", r#"{"error": {"message": "try again"}}"#), Fault::Failed, "try again"),
        (wav, answer(200, JSON, "", voice(&vec![0; 7 << 20])), Fault::Malformed, "KiB"),
        (wav, answer(400, JSON, "", said), Fault::Rejected, "HTTP 400"),
        (wav, half, Fault::Unreachable, "broke off"),
    ] {
        let peer = Peer::start([script.clone(), script]).await;
        let (_, pcm, codes, error) = heard(speaking(&peer, format).speak("What is my balance today?", "")).await;
        let error = error.expect("an error");
        assert_eq!((pcm.len(), codes.len(), error.kind), (0, 0, fault), "{error}");
        assert!(error.detail.contains(word) && !error.detail.contains("balance"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_drip_has_to_be_whole_in_time() {
    let second = Duration::from_secs(1);
    let body = voice(&mulaw_file(&[9; 30]));
    let drip = |wait: Duration| -> Script {
        let steps = chunked(JSON, body.as_bytes().chunks(10)).into_iter();
        steps.flat_map(|step| [step, Step::Wait(wait)]).collect()
    };
    let peer = Peer::start([drip(second / 4)]).await;
    let (_, _, codes, error) = heard(speaking(&peer, Coding::Mulaw).speak("hello", "")).await;
    assert_eq!((codes, error), (vec![9; 30], None));
    let begun = now();
    let peer = Peer::start([drip(second * 4)]).await;
    let (_, _, _, error) = heard(speaking(&peer, Coding::Mulaw).speak("hello", "")).await;
    assert_eq!(error.unwrap().kind, Fault::Timeout);
    assert!(begun.elapsed() >= second * 10 && begun.elapsed() < second * 11);
}

/// A server for tokens and for what they are for, and the file of an account with it.
async fn with_account(scripts: impl IntoIterator<Item = Script>) -> (Peer, String) {
    let peer = Peer::start(scripts).await;
    let mut file = account::tests::file(&format!("http://{}/token", peer.address));
    file["quota_project_id"] = "payer".into();
    (peer, file.to_string())
}

fn token(value: &str) -> Script {
    let token = json!({"access_token": value, "expires_in": 3599, "token_type": "Bearer"});
    answer(200, JSON, "", token.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_service_account_gets_a_token_and_keeps_it() {
    let scripts = [token("ya29.first"), words("one"), words("two"), token("ya29.second"), words("three")];
    let (peer, file) = with_account(scripts).await;
    let provider = hearing_as(&peer, &file);
    assert_eq!(provider.transcribe(spoken()).await.unwrap(), "one");
    sleep(Duration::from_secs(3530)).await;
    assert_eq!(provider.transcribe(spoken()).await.unwrap(), "two");
    // In its last minute it is not used any more.
    sleep(Duration::from_secs(20)).await;
    assert_eq!(provider.transcribe(spoken()).await.unwrap(), "three");
    let seen = peer.seen();
    assert!(seen[0].head.starts_with("POST /token HTTP/1.1\r\n"), "{}", seen[0].head);
    assert!(seen[0].head.contains("content-type: application/x-www-form-urlencoded\r\n"));
    let form = String::from_utf8(seen[0].body.clone()).unwrap();
    let assertion =
        form.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=").unwrap();
    assert_eq!(assertion.split('.').count(), 3);
    for (at, name) in [(1, "first"), (2, "first"), (4, "second")] {
        assert!(seen[at].head.contains(&format!("authorization: Bearer ya29.{name}\r\n")), "{}", seen[at].head);
        assert!(seen[at].head.contains("x-goog-user-project: payer\r\n"));
        assert!(!seen[at].head.contains("x-goog-api-key"));
    }
    assert!(!format!("{provider:?}").contains("ya29"));
}

#[tokio::test]
async fn those_who_ask_at_once_share_one_token() {
    let (peer, file) = with_account([token("ya29.x")].into_iter().chain((0..8).map(|_| words("yes")))).await;
    let provider = hearing_as(&peer, &file);
    let answers = join_all((0..8).map(|_| provider.transcribe(spoken()))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == "yes"));
    let tokens = peer.seen().iter().filter(|seen| seen.head.starts_with("POST /token")).count();
    assert_eq!(tokens, 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_not_used_again() {
    let denied = answer(401, JSON, "", r#"{"error": {"code": 401, "message": "ya29.old is not valid"}}"#);
    let scripts = [token("ya29.first"), denied.clone(), token("ya29.new"), words("yes"), words("again")];
    let (peer, file) = with_account(scripts).await;
    let provider = hearing_as(&peer, &file);
    assert_eq!(provider.transcribe(spoken()).await.unwrap(), "yes", "a token may end early");
    assert_eq!(provider.transcribe(spoken()).await.unwrap(), "again");
    assert_eq!(peer.seen().len(), 5);
    // Who is refused with a new one as well has no right.
    let scripts = [token("ya29.first"), denied.clone(), token("ya29.old"), denied, token("ya29.new"), words("yes")];
    let (peer, file) = with_account(scripts).await;
    let provider = hearing_as(&peer, &file);
    let error = provider.transcribe(spoken()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (Fault::Denied, "HTTP 401: [redacted] is not valid"));
    assert_eq!(peer.seen().len(), 4);
    assert_eq!(provider.transcribe(spoken()).await.unwrap(), "yes");
    // Another token would be refused for the same reason.
    let (peer, file) = with_account([token("ya29.x"), answer(403, JSON, "", "{}"), words("yes")]).await;
    let provider = hearing_as(&peer, &file);
    assert_eq!(provider.transcribe(spoken()).await.unwrap_err().kind, Fault::Denied);
    assert_eq!(provider.transcribe(spoken()).await.unwrap(), "yes");
    assert_eq!(peer.seen().len(), 3);
}

#[tokio::test]
async fn a_wrong_api_key_is_a_refusal() {
    let reason = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"});
    let wrong = json!({"error": {"code": 400, "message": "API key not valid.", "details": [reason]}}).to_string();
    let peer = Peer::start([answer(400, JSON, "", wrong)]).await;
    let error = hearing(&peer).transcribe(spoken()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (Fault::Denied, "HTTP 400: API key not valid."));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_it_is_told_why() {
    let grant = r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#;
    for (script, fault, detail) in [
        (answer(400, JSON, "", grant), Fault::Denied, "no token: HTTP 400: invalid_grant"),
        (answer(401, JSON, "", ""), Fault::Denied, "no token: HTTP 401"),
        (answer(503, JSON, "", ""), Fault::Failed, "no token: HTTP 503"),
        (answer(200, "text/html", "", "<html></html>"), Fault::Malformed, "no token in the answer"),
        (answer(200, JSON, "", r#"{"access_token": ""}"#), Fault::Malformed, "no token in the answer"),
        (answer(200, JSON, "", r#"{"access_token": "a\nb"}"#), Fault::Malformed, "no token in the answer"),
        (vec![Step::Close], Fault::Unreachable, "no token: no answer"),
        (vec![Step::Hold], Fault::Timeout, "no token: no first piece in time"),
    ] {
        let (peer, file) = with_account([script.clone(), script]).await;
        let error = hearing_as(&peer, &file).transcribe(spoken()).await.unwrap_err();
        assert_eq!((error.kind, error.detail.contains(detail)), (fault, true), "{error}");
        assert!(peer.seen().iter().all(|seen| seen.head.starts_with("POST /token")));
    }
}

#[tokio::test]
async fn connection_and_token_are_got_ahead() {
    let (peer, file) = with_account([answer(404, JSON, "", "{}"), answer(404, JSON, "", "{}")]).await;
    hearing_as(&peer, &file).warm();
    peer.until_seen(2).await;
    let mut heads: Vec<_> = peer.seen().iter().map(|seen| seen.head.lines().next().unwrap().to_owned()).collect();
    heads.sort();
    assert_eq!(heads, ["GET /v1/operations HTTP/1.1", "POST /token HTTP/1.1"]);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let peer = Peer::start([]).await;
    let refused = |settings| text_to_speech(&client(), settings).map(|_| ()).unwrap_err();
    let base = || settings(&peer, Coding::Mulaw);
    assert_eq!(refused(synthesize::Settings { speed: Some(2.5), ..base() }), SettingsError::Speed);
    assert_eq!(refused(synthesize::Settings { format: Coding::Wav, ..base() }), SettingsError::Format);
    assert_eq!(refused(synthesize::Settings { server: server(&peer, "{}"), ..base() }), SettingsError::ServiceAccount);
    assert_eq!((check_key(" {"), check_key(KEY)), (Err(SettingsError::ServiceAccount), Ok(())));
}
