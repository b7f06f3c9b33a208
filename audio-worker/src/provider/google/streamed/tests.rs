//! A streamed voice against a server of Google's protocol that answers as told.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use proto::google_text_to_speech::text_to_speech_server::{TextToSpeech as Service, TextToSpeechServer};
use tokio::{net::TcpListener, runtime::Handle, sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Response,
    transport::{Server as GrpcServer, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt as _};
use url::Url;

use super::*;
use crate::provider::{
    Fault,
    endpoint::Server,
    google::{account, text_to_speech},
    openai::tests::peer::{Peer, answer},
};

const KEY: &str = "AIza-test-0123456789abcdef";
const VOICE: &str = "en-GB-Chirp3-HD-Aoede";

/// What the server does in one stream, after the text came.
#[derive(Debug, Clone)]
enum Step {
    Sound(Vec<u8>),
    Wait(Duration),
    Fail(Status),
    Hold,
}

/// What was asked in one stream: its credentials, and its messages.
#[derive(Debug, Clone, Default)]
struct Seen {
    credentials: Vec<(String, String)>,
    requests: Vec<StreamingRequest>,
}

#[derive(Debug, Default)]
struct State {
    scripts: Vec<Vec<Step>>,
    seen: Vec<Seen>,
}

/// Plays a script a stream, and the last one again.
#[derive(Debug, Clone, Default)]
struct Stand(Arc<Mutex<State>>);

#[tonic::async_trait]
impl Service for Stand {
    type StreamingSynthesizeStream = ReceiverStream<Result<StreamingSynthesizeResponse, Status>>;

    async fn streaming_synthesize(
        &self,
        request: Request<tonic::Streaming<StreamingSynthesizeRequest>>,
    ) -> Result<Response<Self::StreamingSynthesizeStream>, Status> {
        let header = |name: &str| request.metadata().get(name).map(|value| value.to_str().unwrap().to_owned());
        let names = ["authorization", "x-goog-api-key", "x-goog-user-project"];
        let credentials = names.iter().filter_map(|name| Some(((*name).to_owned(), header(name)?))).collect();
        let stand = self.clone();
        let (told, answers) = mpsc::channel(1);
        let mut asked = request.into_inner();
        tokio::spawn(async move {
            let mut seen = Seen { credentials, requests: Vec::new() };
            while let Ok(Some(request)) = asked.message().await {
                seen.requests.extend(request.streaming_request);
            }
            for step in stand.next(seen) {
                let told = match step {
                    Step::Sound(audio) => {
                        told.send(Ok(StreamingSynthesizeResponse { audio_content: audio.into() })).await
                    }
                    Step::Fail(status) => told.send(Err(status)).await,
                    Step::Wait(time) => {
                        sleep(time).await;
                        Ok(())
                    }
                    Step::Hold => {
                        told.closed().await;
                        Ok(())
                    }
                };
                // Whoever asked may be gone.
                if told.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

impl Stand {
    async fn start(scripts: impl IntoIterator<Item = Vec<Step>>) -> (Self, Url) {
        let stand = Self::default();
        stand.0.lock().unwrap().scripts = scripts.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/v1", listener.local_addr().unwrap())).unwrap();
        let server = GrpcServer::builder().add_service(TextToSpeechServer::new(stand.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
        (stand, url)
    }

    fn next(&self, seen: Seen) -> Vec<Step> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.seen.push(seen);
        if state.scripts.len() > 1 { state.scripts.remove(0) } else { state.scripts[0].clone() }
    }

    fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).seen.clone()
    }
}

fn settings(base: Url, key: &str, format: Coding) -> Settings {
    Settings {
        server: Server { base, key: Some(key.to_owned().into()), ..Server::default() },
        model: String::new(),
        voice: VOICE.to_owned(),
        format,
        rate: SampleRate::Hz24000,
        speed: None,
        instructions: None,
        streams: true,
    }
}

fn voice(settings: Settings) -> Arc<dyn TextToSpeech> {
    text_to_speech(&Client::new(Handle::current()).unwrap(), settings).unwrap()
}

/// What `text` sounds like: samples or codes, as bytes, and how it ended.
async fn heard(voice: &dyn TextToSpeech, text: &str) -> (Vec<u8>, Option<ProviderError>) {
    let (mut sound, mut bytes) = (voice.speak(text, "en"), Vec::new());
    while let Some(piece) = sound.next().await {
        match piece {
            Ok(Sound::Mulaw(codes)) => bytes.extend(codes),
            Ok(Sound::Pcm(rate, pcm)) => {
                assert_eq!(rate, SampleRate::Hz16000);
                bytes.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes()));
            }
            Ok(Sound::Word { .. }) => panic!("no words"),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

fn codes() -> Vec<u8> {
    (0..=255).collect()
}

#[test]
fn only_voices_that_google_streams_are_asked_for_so() {
    let with = |voice: &str, model: &str, format| {
        let base = Url::parse("https://texttospeech.googleapis.com/v1").unwrap();
        serves(&Settings { voice: voice.to_owned(), model: model.to_owned(), ..settings(base, KEY, format) })
    };
    for (voice, model, format, streams) in [
        (VOICE, "", Coding::Mulaw, true),
        (VOICE, "", Coding::Pcm(SampleRate::Hz24000), true),
        (VOICE, "", Coding::Mp3, false),
        ("Kore", "gemini-2.5-flash-tts", Coding::Mulaw, true),
        ("Kore", "chirp_2", Coding::Mulaw, false),
        ("en-US-Neural2-C", "", Coding::Mulaw, false),
        ("", "", Coding::Mulaw, false),
    ] {
        assert_eq!(with(voice, model, format), streams, "{voice} {model} {format:?}");
    }
    let base = Url::parse("https://texttospeech.googleapis.com/v1").unwrap();
    assert!(!serves(&Settings { streams: false, ..settings(base, KEY, Coding::Mulaw) }));
}

#[tokio::test]
async fn a_voice_is_asked_for_with_all_that_is_set() {
    let (stand, base) = Stand::start([vec![Step::Sound(codes())]]).await;
    let plain = settings(base, KEY, Coding::Mulaw);
    let full = Settings {
        model: "gemini-2.5-flash-tts".to_owned(),
        voice: "Kore".to_owned(),
        format: Coding::Pcm(SampleRate::Hz16000),
        speed: Some(1.5),
        instructions: Some("Whisper.".to_owned()),
        ..plain.clone()
    };
    heard(&*voice(plain), "hello").await;
    heard(&*voice(full), "bye").await;
    let expected = [
        ("en-GB", VOICE, "", (AudioEncoding::Mulaw, 8000, 0.0), ("hello", None)),
        ("en-US", "Kore", "gemini-2.5-flash-tts", (AudioEncoding::Pcm, 16_000, 1.5), ("bye", Some("Whisper."))),
    ];
    for (seen, (language, name, model, (encoding, rate, speed), (text, prompt))) in
        stand.seen().into_iter().zip(expected)
    {
        assert_eq!(seen.credentials, [("x-goog-api-key".to_owned(), KEY.to_owned())]);
        let config = StreamingSynthesizeConfig {
            voice: Some(VoiceSelectionParams {
                language_code: language.to_owned(),
                name: name.to_owned(),
                model_name: model.to_owned(),
            }),
            streaming_audio_config: Some(StreamingAudioConfig {
                audio_encoding: encoding.into(),
                sample_rate_hertz: rate,
                speaking_rate: speed,
            }),
        };
        let input = StreamingSynthesisInput {
            prompt: prompt.map(str::to_owned),
            input_source: Some(InputSource::Text(text.to_owned())),
        };
        assert_eq!(seen.requests, [StreamingRequest::StreamingConfig(config), StreamingRequest::Input(input)]);
    }
    assert_eq!(stand.seen().len(), 2);
}

#[tokio::test]
async fn sound_is_the_same_byte_for_byte_wherever_it_is_cut() {
    let all = codes();
    let cut = |at: usize| vec![Step::Sound(all[..at].to_vec()), Step::Sound(vec![]), Step::Sound(all[at..].to_vec())];
    let drip: Vec<_> = all.iter().map(|byte| Step::Sound(vec![*byte])).collect();
    for format in [Coding::Mulaw, Coding::Pcm(SampleRate::Hz16000)] {
        let (_, base) = Stand::start((0..=all.len()).map(cut).chain([drip.clone()])).await;
        let voice = voice(settings(base, KEY, format));
        for at in 0..=all.len() + 1 {
            assert_eq!(heard(&*voice, "hello").await, (all.clone(), None), "{format:?} {at}");
        }
    }
}

#[tokio::test]
async fn what_is_heard_does_not_wait_for_the_rest() {
    let (_, base) = Stand::start([vec![Step::Sound(codes()), Step::Hold]]).await;
    let mut sound = voice(settings(base, KEY, Coding::Mulaw)).speak("hello", "en");
    assert_eq!(sound.next().await, Some(Ok(Sound::Mulaw(Bytes::from(codes())))));
}

#[tokio::test]
async fn failures_are_told_apart_and_repeat_neither_key_nor_text() {
    let text = "What is my balance today?";
    let key_invalid =
        ErrorDetails::with_error_info("API_KEY_INVALID", "googleapis.com", [(String::new(), String::new())]);
    let wrong_key = Status::with_error_details(Code::InvalidArgument, "API key not valid.", key_invalid);
    for (steps, fault, word) in [
        (vec![], Fault::Empty, "without sound"),
        (vec![Step::Sound(b"{\"error\": {\"message\": \"no\"}}".to_vec())], Fault::Malformed, "text"),
        (vec![Step::Fail(wrong_key)], Fault::Denied, "API key not valid"),
        (vec![Step::Fail(Status::unauthenticated(format!("{KEY} is unknown")))], Fault::Denied, "[redacted]"),
        (vec![Step::Fail(Status::permission_denied("no"))], Fault::Denied, "no"),
        (vec![Step::Fail(Status::resource_exhausted("quota"))], Fault::Busy, "quota"),
        (vec![Step::Fail(Status::invalid_argument(format!("cannot say: {text}")))], Fault::Rejected, "InvalidArgument"),
        (vec![Step::Fail(Status::internal("oops"))], Fault::Failed, "oops"),
        (vec![Step::Sound(vec![0; 7 << 20])], Fault::Failed, "too large"),
    ] {
        let (_, base) = Stand::start([steps]).await;
        let (sound, error) = heard(&*voice(settings(base, KEY, Coding::Mulaw)), text).await;
        let error = error.expect("an error");
        assert_eq!((sound.len(), error.kind), (0, fault), "{error}");
        assert!(error.detail.contains(word), "{error}");
        assert!(!error.detail.contains("balance") && !error.detail.contains(KEY), "{error}");
    }
}

#[tokio::test]
async fn one_that_fails_is_asked_once_more_unless_it_has_said_something() {
    let down = Step::Fail(Status::unavailable("down"));
    let (stand, base) = Stand::start([vec![down.clone()], vec![Step::Sound(codes())]]).await;
    let provider = voice(settings(base, KEY, Coding::Mulaw));
    assert_eq!(heard(&*provider, "hello").await, (codes(), None));
    assert_eq!(stand.seen().len(), 2);
    let (stand, base) = Stand::start([vec![Step::Sound(codes()), down]]).await;
    let (sound, error) = heard(&*voice(settings(base, KEY, Coding::Mulaw)), "hello").await;
    assert_eq!((sound, error.map(|error| error.kind)), (codes(), Some(Fault::Unreachable)));
    assert_eq!(stand.seen().len(), 1);
    // Nobody is there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let base = Url::parse(&format!("http://{free}/v1")).unwrap();
    let (_, error) = heard(&*voice(settings(base, KEY, Coding::Mulaw)), "hello").await;
    assert_eq!(error.map(|error| error.kind), Some(Fault::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn it_has_its_limits() {
    let slow = vec![Step::Sound(codes()), Step::Wait(Duration::from_secs(130)), Step::Sound(codes())];
    for (script, bytes, word) in [(vec![Step::Hold], 0, "first piece"), (slow, codes().len(), "no end")] {
        let (_, base) = Stand::start([script]).await;
        let (sound, error) = heard(&*voice(settings(base, KEY, Coding::Mulaw)), "hello").await;
        let error = error.expect("an error");
        assert_eq!((sound.len(), error.kind), (bytes, Fault::Timeout), "{error}");
        assert!(error.detail.contains(word), "{error}");
    }
}

#[tokio::test]
async fn an_account_gets_another_token_when_its_own_is_refused() {
    let token = |value: &str| {
        answer(200, "application/json", "", format!(r#"{{"access_token": "{value}", "expires_in": 3599}}"#))
    };
    let peer = Peer::start([token("ya29.old"), token("ya29.new")]).await;
    let mut file = account::tests::file(&format!("http://{}/token", peer.address));
    file["quota_project_id"] = "payer".into();
    let refused = vec![Step::Fail(Status::unauthenticated("ya29.old has ended"))];
    let (stand, base) = Stand::start([refused, vec![Step::Sound(codes())]]).await;
    let provider = voice(settings(base, &file.to_string(), Coding::Mulaw));
    assert_eq!(heard(&*provider, "hello").await, (codes(), None));
    assert_eq!(heard(&*provider, "again").await, (codes(), None));
    let told: Vec<_> = stand.seen().into_iter().map(|seen| seen.credentials).collect();
    let with = |token: &str| {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![pair("authorization", &format!("Bearer {token}")), pair("x-goog-user-project", "payer")]
    };
    assert_eq!(told, [with("ya29.old"), with("ya29.new"), with("ya29.new")]);
    // Who is refused with the new one as well has no right.
    let peer = Peer::start([token("ya29.old"), token("ya29.new")]).await;
    let file = account::tests::file(&format!("http://{}/token", peer.address));
    let (stand, base) = Stand::start([vec![Step::Fail(Status::unauthenticated("no"))]]).await;
    let (_, error) = heard(&*voice(settings(base, &file.to_string(), Coding::Mulaw)), "hello").await;
    assert_eq!((error.map(|error| error.kind), stand.seen().len()), (Some(Fault::Denied), 2));
}
