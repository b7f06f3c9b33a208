//! The telephone's own sound at both ends: what a caller says reaches Google as it came, and what ElevenLabs says reaches
//! the caller, byte for byte. Nothing between them decodes it to encode it again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tests::{
    openai::{OpenAi, Script, Stage},
    stack::{Stack, StackPlan},
    talk::{Phone, recorded, staff},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

/// How long an answer may take to come and to be heard.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which the caller takes an answer as over.
const PAUSE: Duration = Duration::from_millis(600);

/// Google's recogniser and ElevenLabs' voice.
struct Families {
    address: SocketAddr,
    /// What the recogniser was sent.
    recognized: Arc<Mutex<Vec<Value>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Families {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recognized = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&recognized);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                let service = service_fn(move |request| answer(request, Arc::clone(&noted)));
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, recognized, _serving: AbortOnDropHandle::new(serving) }
    }
}

async fn answer(
    request: Request<Incoming>,
    recognized: Arc<Mutex<Vec<Value>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let body = if path.ends_with("/speech:recognize") {
        recognized.lock().unwrap().push(asked);
        json!({"results": [{"alternatives": [{"transcript": "what time is it"}]}]}).to_string()
    } else if path == "/v1/text-to-speech/someone/stream/with-timestamps" {
        let codes = voice(asked["text"].as_str().unwrap());
        // Pieces of no round number of frames.
        codes.chunks(777).map(|codes| format!("{}\n", json!({"audio_base64": STANDARD.encode(codes)}))).collect()
    } else {
        "{}".to_owned()
    };
    Ok(Response::new(Full::new(body.into())))
}

/// A second and a half of all codes, other ones for each text.
fn voice(text: &str) -> Vec<u8> {
    let mut state = text.bytes().fold(7_u32, |state, byte| state.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    next.take(12_000).collect()
}

fn contains(heard: &[u8], codes: &[u8]) -> bool {
    heard.windows(codes.len()).any(|window| window == codes)
}

#[tokio::test]
async fn mu_law_crosses_the_system_byte_for_byte() {
    let script = Script { think: Arc::new(|_| "It is noon.".to_owned()), ..Script::default() };
    let (families, chat) = (Families::start().await, OpenAi::start(script).await.unwrap());
    let place = format!("http://{}/v1", families.address);
    let file = format!(
        r#"
        [agent.desk]
        kind = "pipeline"
        instructions = "Be brief."
        greeting = "Hello there."
        [agent.desk.speech_to_text]
        provider = "google"
        streaming = false
        url = "{place}"
        [agent.desk.chat]
        model = "m"
        [agent.desk.text_to_speech]
        provider = "elevenlabs"
        url = "{place}"
        voice = "someone"
        "#
    );
    let agents = staff(&file, &chat.base());
    let stack = Stack::start(StackPlan::default().agents(agents).gateway("DEFAULT_AGENT", "desk")).await;
    let mut phone = Phone::dial(&stack.call_plan()).await.unwrap();
    let began = phone.began();
    phone.until("the greeting", PATIENCE, |log| log.has_answered(began, PAUSE)).await.unwrap();
    let clip = &recorded()[0];
    let said = phone.say_all(clip).await.unwrap().ended.unwrap();
    phone.until("an answer", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
    phone.hang_up().await;
    let asked = chat.asked_for(Stage::Chat).pop().unwrap();
    let messages = asked.fields["messages"].as_array().unwrap().clone();
    assert_eq!(messages.last().unwrap()["content"], "what time is it");
    let recognized = families.recognized.lock().unwrap().pop().unwrap();
    assert_eq!(recognized["config"]["encoding"], "MULAW");
    let sent = STANDARD.decode(recognized["audio"]["content"].as_str().unwrap()).unwrap();
    assert!(contains(&sent, &clip.mulaw), "{} codes hold not all {} that were said", sent.len(), clip.mulaw.len());
    // A little from before it, and the silence behind it.
    assert!(sent.len() < clip.mulaw.len() + 8 * 1500, "{} codes for {}", sent.len(), clip.mulaw.len());
    let heard = phone.into_heard();
    for text in ["Hello there.", "It is noon."] {
        assert!(contains(&heard, &voice(text)), "{text}");
    }
    stack.stop().await;
}
