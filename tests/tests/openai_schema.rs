//! What the worker asks of OpenAI-compatible providers, and what the stand-in answers, against OpenAI's published
//! description.
//!
//! The document is not part of this repository. `TANDEM_SPECS` names the folder it is in; without it, the tests say loudly
//! that they were skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{collections::BTreeSet, sync::Arc};

use audio_worker::{
    dsp::SampleRate,
    provider::{
        Coding, Message, Role, Sound, Speech, Token, ToolCall, ToolSpec,
        http::Client,
        openai::{self, Server, speech, transcriptions},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use json_schema::Document;
use serde_json::{Value, json};
use tests::openai::{Asked, Call, Extent, Mishap, OpenAi, Script, Stage};
use tokio::{net::TcpStream, runtime::Handle};

#[path = "support/json_schema.rs"]
mod json_schema;
#[path = "support/specs.rs"]
mod specs;

const PATHS: [(Stage, &str); 3] = [
    (Stage::Transcription, "/audio/transcriptions"),
    (Stage::Chat, "/chat/completions"),
    (Stage::Speech, "/audio/speech"),
];

fn document() -> Option<Document> {
    specs::document("openai.openapi.json", "what is asked of OpenAI was").map(Document)
}

impl Document {
    fn request(&self, path: &str) -> &Value {
        let content = self.0["paths"][path]["post"]["requestBody"]["content"].as_object().unwrap();
        assert_eq!(content.len(), 1);
        &content.values().next().unwrap()["schema"]
    }

    fn response(&self, path: &str, method: &str, content_type: &str) -> &Value {
        let schema = &self.0["paths"][path][method]["responses"]["200"]["content"][content_type]["schema"];
        assert!(schema.is_object(), "{path} is not documented to answer {content_type}");
        schema
    }

    /// Names of all fields that a schema knows, wherever it gets them from.
    fn fields(&self, schema: &Value) -> BTreeSet<String> {
        let mut names: BTreeSet<String> =
            schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        if let Some(reference) = schema["$ref"].as_str() {
            names.extend(self.fields(self.0.pointer(&reference[1..]).unwrap()));
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            names.extend(self.fields(part));
        }
        names
    }

    fn check_request(&self, path: &str, fields: &Value) {
        let schema = self.request(path);
        let faults = self.faults(schema, fields);
        assert!(faults.is_empty(), "{path}: {faults:#?}\n{fields:#}");
        let known = self.fields(schema);
        for name in fields.as_object().unwrap().keys() {
            assert!(known.contains(name), "{path} has no field {name}");
        }
    }

    fn check_response(&self, path: &str, method: &str, content_type: &str, answer: &Value) {
        let faults = self.faults(self.response(path, method, content_type), answer);
        assert!(faults.is_empty(), "{path} {content_type}: {faults:#?}\n{answer:#}");
    }
}

/// The fields of a request, in the types that a form has no room for.
fn fields(asked: &Asked) -> Value {
    let mut fields = asked.fields.clone();
    if asked.stage == Stage::Transcription {
        assert!(asked.file.starts_with(b"RIFF"));
        fields["file"] = "speech.wav".into();
        fields["temperature"] = serde_json::from_str(asked.text("temperature")).unwrap();
    }
    fields
}

/// Asks every stage with little and with all that can be set; gives what was asked.
async fn asked() -> Vec<Asked> {
    let stand_in = OpenAi::start(Script::default()).await.unwrap();
    let client = Client::new(Handle::current()).unwrap();
    let server = Server { base: stand_in.base(), ..Server::default() };
    let plain = transcriptions::Settings { server: server.clone(), ..Default::default() };
    for language in ["", "pt-BR"] {
        let ears = openai::speech_to_text(&client, plain.clone()).unwrap();
        ears.transcribe(Speech { pcm: vec![0; 1600].into(), language: language.to_owned(), ..Speech::default() })
            .await
            .unwrap();
    }
    let plain = openai::chat::Settings { server: server.clone(), ..Default::default() };
    let Value::Object(extra) = json!({"top_p": 0.5, "reasoning_effort": "low"}) else { panic!() };
    let field = openai::chat::MaxTokensField::MaxTokens;
    let full = openai::chat::Settings { temperature: Some(0.3), max_tokens: Some(200), extra, ..plain.clone() };
    let old = openai::chat::Settings { max_tokens: Some(200), max_tokens_field: field, usage: false, ..plain.clone() };
    let roles = [Role::System, Role::User, Role::Assistant, Role::User];
    let prompt = roles.map(|role| Message::new(role, "Hello.")).to_vec();
    for settings in [plain.clone(), full, old] {
        let answer = openai::chat(&client, settings).unwrap().answer(prompt.clone(), &[]);
        let tokens: Vec<Token> = answer.map(Result::unwrap).collect().await;
        assert!(!tokens.is_empty());
    }
    let call = ToolCall { id: "call_1".to_owned(), name: "look".to_owned(), arguments: "{}".to_owned() };
    let results = [Message::calling("", vec![call.clone()]), Message::result("call_1", "five")];
    let again = [Message::calling("Let me see.", vec![call.clone()]), Message::result("call_1", "five")];
    let prompt = [prompt, results.to_vec(), again.to_vec()].concat();
    let parameters = json!({"type": "object", "properties": {"at": {"type": "string"}}});
    let tool = ToolSpec { name: "look".to_owned(), description: "Looks.".to_owned(), parameters };
    stand_in.change(|script| script.want = Arc::new(|_| vec![Call::new("look", &json!({"at": "the door"}))]));
    let answer = openai::chat(&client, plain).unwrap().answer(prompt, &[tool]);
    let tokens: Vec<Token> = answer.map(Result::unwrap).collect().await;
    let wanted = |token: &Token| matches!(token, Token::Call(call) if call.arguments == "{\"at\":\"the door\"}");
    assert!(tokens.iter().any(wanted), "{tokens:?}");
    let plain = speech::Settings { server, ..Default::default() };
    let full = speech::Settings {
        voice: "coral".to_owned(),
        format: Coding::Wav,
        speed: Some(1.2),
        instructions: Some("Speak calmly.".to_owned()),
        ..plain.clone()
    };
    for settings in [plain, full] {
        let voice = openai::text_to_speech(&client, settings).unwrap().speak("Hello.", "en");
        let sounds: Vec<Sound> = voice.map(Result::unwrap).collect().await;
        assert!(sounds.iter().all(|sound| matches!(sound, Sound::Pcm(SampleRate::Hz24000, _))));
    }
    stand_in.asked()
}

#[tokio::test(start_paused = true)]
async fn requests_are_as_published() {
    let Some(document) = document() else { return };
    let all = asked().await;
    assert_eq!(all.len(), 8);
    for asked in &all {
        let (_, path) = PATHS.iter().find(|(stage, _)| *stage == asked.stage).unwrap();
        document.check_request(path, &fields(asked));
    }
}

async fn exchange(stand_in: &OpenAi, request: Request<Full<Bytes>>) -> (u16, String, Bytes) {
    let stream = TcpStream::connect(stand_in.base().socket_addrs(|| None).unwrap()[0]).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    (status, content_type, body)
}

fn post(path: &str, body: &Value) -> Request<Full<Bytes>> {
    let request =
        Request::post(format!("/v1{path}")).header("host", "localhost").header("content-type", "application/json");
    request.body(Full::new(body.to_string().into())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn answers_of_the_stand_in_are_as_published() {
    let Some(document) = document() else { return };
    let stand_in =
        OpenAi::start(Script { hear: Arc::new(|_| "Hello.".to_owned()), ..Script::default() }).await.unwrap();
    let models = Request::get("/v1/models").header("host", "localhost").body(Full::default()).unwrap();
    let (_, kind, body) = exchange(&stand_in, models).await;
    document.check_response("/models", "get", &kind, &serde_json::from_slice(&body).unwrap());

    let file = {
        let mut file = std::io::Cursor::new(Vec::new());
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
        (0..1600).for_each(|at| writer.write_sample(at as i16).unwrap());
        writer.finalize().unwrap();
        file.into_inner()
    };
    let form = [
        &b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n\
           Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"[..],
        &file,
        b"\r\n--b--\r\n",
    ]
    .concat();
    let request = Request::post("/v1/audio/transcriptions").header("host", "localhost");
    let request =
        request.header("content-type", "multipart/form-data; boundary=b").body(Full::new(form.into())).unwrap();
    let (_, kind, body) = exchange(&stand_in, request).await;
    document.check_response(PATHS[0].1, "post", &kind, &serde_json::from_slice(&body).unwrap());

    let messages = json!([{"role": "user", "content": "Hello."}]);
    let whole = json!({"model": "m", "messages": messages});
    let (_, kind, body) = exchange(&stand_in, post(PATHS[1].1, &whole)).await;
    document.check_response(PATHS[1].1, "post", &kind, &serde_json::from_slice(&body).unwrap());
    for cost in [false, true] {
        let streamed =
            json!({"model": "m", "messages": messages, "stream": true, "stream_options": {"include_usage": cost}});
        let (_, kind, body) = exchange(&stand_in, post(PATHS[1].1, &streamed)).await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        let mut events: Vec<&str> =
            text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        assert!(events.len() > 5);
        for event in events {
            document.check_response(PATHS[1].1, "post", &kind, &serde_json::from_str(event).unwrap());
        }
    }

    stand_in.change(|script| script.want = Arc::new(|_| vec![Call::new("look", &json!({"at": "the door"})); 2]));
    let tools = json!([{"type": "function", "function": {"name": "look"}}]);
    let called = json!({"model": "m", "messages": messages, "tools": tools});
    let (_, kind, body) = exchange(&stand_in, post(PATHS[1].1, &called)).await;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 2);
    document.check_response(PATHS[1].1, "post", &kind, &answer);
    let streamed = json!({"model": "m", "messages": messages, "tools": tools, "stream": true});
    let (_, kind, body) = exchange(&stand_in, post(PATHS[1].1, &streamed)).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    for event in text.split_terminator("\n\n").filter_map(|event| event.strip_prefix("data: {")) {
        document.check_response(PATHS[1].1, "post", &kind, &serde_json::from_str(&format!("{{{event}")).unwrap());
    }
    // Calls that nobody answers are refused.
    let open =
        json!([{"role": "assistant", "content": null, "tool_calls": answer["choices"][0]["message"]["tool_calls"]}]);
    let (status, ..) = exchange(&stand_in, post(PATHS[1].1, &json!({"model": "m", "messages": open}))).await;
    assert_eq!(status, 400);

    let refused = [Mishap::Unauthorized, Mishap::TooMany { retry_after: None }, Mishap::Internal];
    for mishap in refused {
        stand_in.upset(Stage::Chat, mishap, Extent::Times(1));
        let (status, _, body) = exchange(&stand_in, post(PATHS[1].1, &whole)).await;
        let schema = json!({"$ref": "#/components/schemas/ErrorResponse"});
        let faults = document.faults(&schema, &serde_json::from_slice(&body).unwrap());
        assert!(status >= 400 && faults.is_empty(), "{faults:?}");
    }
}

#[test]
fn the_check_itself_finds_what_is_wrong() {
    let Some(document) = document() else { return };
    let is_refused = |path: &str, fields: Value| {
        let faults = document.faults(document.request(path), &fields);
        assert!(!faults.is_empty(), "{fields}");
    };
    is_refused("/audio/speech", json!({"model": "m", "input": "x"}));
    is_refused("/audio/speech", json!({"model": "m", "input": "x", "voice": "alloy", "response_format": "mu-law"}));
    is_refused("/audio/speech", json!({"model": "m", "input": "x", "voice": "alloy", "speed": 5}));
    is_refused("/audio/speech", json!({"model": "m", "input": "x", "voice": "alloy", "rate": 8000}));
    is_refused("/audio/transcriptions", json!({"model": "m", "file": "x", "temperature": "0"}));
    is_refused("/chat/completions", json!({"model": "m", "messages": []}));
    let result = json!([{"role": "tool", "content": "five"}]);
    is_refused("/chat/completions", json!({"model": "m", "messages": result}));
    is_refused("/chat/completions", json!({"model": "m", "messages": [{"role": "caller", "content": "x"}]}));
    is_refused(
        "/chat/completions",
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}),
    );
    let schema = document.response("/chat/completions", "post", "text/event-stream");
    assert!(!document.faults(schema, &json!({"id": "x", "choices": [{"index": 0, "delta": {}}]})).is_empty());
    assert!(!document.fields(document.request("/chat/completions")).contains("colour"));
}
