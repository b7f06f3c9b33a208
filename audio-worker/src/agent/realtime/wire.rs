//! The wire of realtime servers: what they are told and what they say, in JSON. Pure.
//!
//! The names of events are OpenAI's published ones; those of its beta, which compatible servers still send, are understood
//! as well.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::settings::{Detection, Eagerness, Model, WireFormat};
use crate::provider::{Role, ToolSpec};

/// Calls of functions that are taken from one response; a model asks for one or two.
const MAX_CALLS: usize = 8;

/// Most sound of one message, in bytes: a second or so.
pub(super) const MAX_APPEND: usize = 48_000;

/// Longest word of an error that is told, in characters.
const MAX_WORD: usize = 60;

/// What a server says, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The session is there, or has taken its settings.
    Ready,
    /// The server hears the caller speak.
    SpeechStarted,
    /// It takes the caller as finished.
    SpeechStopped,
    /// What the caller said, and what it cost to put it into words, where the server says so.
    Heard { text: String, usage: Option<Usage> },
    /// What the caller said could not be put into words.
    NotHeard,
    /// A response begins.
    Begun { response: String },
    /// Sound of a response's item, as it is on the wire.
    Sound { place: Place, sound: Vec<u8> },
    /// The item's sound is complete.
    SoundEnd { place: Place },
    /// More words of the item.
    Words { place: Place, words: String },
    /// All its words.
    AllWords { place: Place, words: String },
    /// A response has ended.
    Done(Done),
    /// Something went wrong.
    Failure(Failure),
    /// Nothing that matters.
    Other,
}

/// What was billed for putting words into text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// Tokens that were read and written.
    Tokens { read: u64, written: u64 },
    /// Sound.
    Audio(Duration),
}

/// Where something belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(super) struct Place {
    #[serde(default, rename = "response_id")]
    pub(super) response: String,
    #[serde(default, rename = "item_id")]
    pub(super) item: String,
    #[serde(default, rename = "content_index")]
    pub(super) content: u32,
}

/// The end of a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Done {
    pub(super) response: String,
    /// It was made as far as it goes; false when it failed, with why.
    pub(super) failure: Option<Failure>,
    /// It was given up before its end.
    pub(super) is_cancelled: bool,
    /// Tokens that it read and wrote, where the server says so.
    pub(super) usage: Option<(u64, u64)>,
    pub(super) calls: Vec<Call>,
}

/// A function that the model wants called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// What went wrong, in words that servers have for it: never a sentence, which could repeat what was said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Failure {
    pub(super) kind: String,
    pub(super) code: String,
    pub(super) param: String,
    /// Our event that it is about.
    pub(super) about: String,
}

/// The message is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Garbage(pub(super) &'static str);

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    r#type: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(flatten)]
    place: Place,
    #[serde(default, borrow)]
    delta: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Transcript {
    #[serde(flatten)]
    place: Place,
    #[serde(default)]
    transcript: String,
}

#[derive(Deserialize)]
struct Transcribed {
    #[serde(default)]
    transcript: String,
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct OfResponse {
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    status_details: Option<Details>,
    #[serde(default)]
    output: Option<Vec<Value>>,
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    error: Option<Error>,
}

#[derive(Deserialize)]
struct OfError {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    param: Option<String>,
    #[serde(default)]
    event_id: Option<String>,
}

impl Event {
    /// Reads a message. What is not known is [`Event::Other`].
    ///
    /// # Errors
    /// When it is no event, or a known one of another shape.
    pub(super) fn read(text: &str) -> Result<Self, Garbage> {
        let kind: Kind<'_> = serde_json::from_str(text).map_err(|_| Garbage("a message that is no event"))?;
        let event = match &*kind.r#type {
            "session.created" | "session.updated" => Self::Ready,
            "input_audio_buffer.speech_started" => Self::SpeechStarted,
            "input_audio_buffer.speech_stopped" => Self::SpeechStopped,
            "conversation.item.input_audio_transcription.completed" => {
                let Transcribed { transcript, usage } = read(text)?;
                Self::Heard { text: transcript, usage: Usage::of(&usage) }
            }
            "conversation.item.input_audio_transcription.failed" => Self::NotHeard,
            "response.created" => Self::Begun { response: read::<OfResponse>(text)?.response.id.unwrap_or_default() },
            "response.output_audio.delta" | "response.audio.delta" => {
                let Delta { place, delta } = read(text)?;
                let sound = STANDARD.decode(&*delta).map_err(|_| Garbage("sound that is no base64"))?;
                Self::Sound { place, sound }
            }
            "response.output_audio.done" | "response.audio.done" => Self::SoundEnd { place: read(text)? },
            "response.output_audio_transcript.delta" | "response.audio_transcript.delta" => {
                let Delta { place, delta } = read(text)?;
                Self::Words { place, words: delta.into_owned() }
            }
            "response.output_audio_transcript.done" | "response.audio_transcript.done" => {
                let Transcript { place, transcript } = read(text)?;
                Self::AllWords { place, words: transcript }
            }
            "response.done" => Self::Done(read::<OfResponse>(text)?.response.done()),
            "error" => Self::Failure(read::<OfError>(text)?.error.failure()),
            _ => Self::Other,
        };
        Ok(event)
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Garbage> {
    serde_json::from_str(text).map_err(|_| Garbage("an event of another shape than published"))
}

impl Usage {
    /// As published: by its type, tokens or a duration.
    fn of(usage: &Value) -> Option<Self> {
        let tokens = |name: &str| usage[name].as_u64();
        let seconds = usage["seconds"].as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let of_tokens = tokens("input_tokens").zip(tokens("output_tokens"));
        seconds.map(Self::Audio).or(of_tokens.map(|(read, written)| Self::Tokens { read, written }))
    }
}

impl Response {
    fn done(self) -> Done {
        let status = self.status.unwrap_or_default();
        let details = self.status_details.and_then(|details| details.error).map(Error::failure);
        let failure = (status == "failed").then(|| details.unwrap_or_default());
        let calls = self.output.unwrap_or_default();
        let calls = calls.iter().filter(|item| item["type"] == "function_call").take(MAX_CALLS).map(|item| {
            let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
            Call { id: text("call_id"), name: text("name"), arguments: text("arguments") }
        });
        let (calls, is_cancelled) = (calls.collect(), status == "cancelled");
        let tokens = |name: &str| self.usage[name].as_u64();
        let usage = tokens("input_tokens").zip(tokens("output_tokens"));
        Done { response: self.id.unwrap_or_default(), failure, is_cancelled, usage, calls }
    }
}

impl Error {
    fn failure(self) -> Failure {
        let word = |text: Option<String>| -> String {
            let text = text.unwrap_or_default();
            let is_word = |c: char| c.is_ascii_alphanumeric() || "._-[]".contains(c);
            if text.chars().all(is_word) { text.chars().take(MAX_WORD).collect() } else { String::new() }
        };
        Failure { kind: word(self.r#type), code: word(self.code), param: word(self.param), about: word(self.event_id) }
    }
}

/// The event that settings are given by.
pub(super) const SESSION: &str = "session";

/// Configures the session.
pub(super) fn session(model: &Model, instructions: &str, language: &str, tools: &[Value]) -> String {
    let format = match model.format {
        WireFormat::Ulaw => json!({"type": "audio/pcmu"}),
        WireFormat::Pcm => json!({"type": "audio/pcm", "rate": 24_000}),
    };
    let detection = match &model.detection {
        Detection::Own => Value::Null,
        Detection::Server { threshold, prefix_ms, silence_ms } => {
            let mut detection = json!({"type": "server_vad"});
            set(&mut detection, "threshold", threshold.map(Value::from));
            set(&mut detection, "prefix_padding_ms", prefix_ms.map(Value::from));
            set(&mut detection, "silence_duration_ms", silence_ms.map(Value::from));
            detection
        }
        Detection::Semantic(eagerness) => {
            let mut detection = json!({"type": "semantic_vad"});
            set(&mut detection, "eagerness", eagerness.map(|eagerness| Eagerness::word(eagerness).into()));
            detection
        }
    };
    let mut input = json!({"format": format, "turn_detection": detection});
    if let Some(transcriber) = &model.transcribe {
        let mut transcription = json!({"model": transcriber});
        // Recognisers know languages by their ISO 639 code alone.
        let code = language.split('-').next().filter(|code| !code.is_empty());
        set(&mut transcription, "language", code.map(|code| code.to_ascii_lowercase().into()));
        set(&mut input, "transcription", Some(transcription));
    }
    let mut output = json!({"format": format});
    set(&mut output, "voice", model.voice.as_deref().map(Value::from));
    set(&mut output, "speed", model.speed.map(Value::from));
    let mut session = json!({
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": instructions,
        "audio": {"input": input, "output": output},
    });
    set(&mut session, "max_output_tokens", model.max_tokens.map(Value::from));
    set(&mut session, "temperature", model.temperature.map(Value::from));
    if !tools.is_empty() {
        set(&mut session, "tools", Some(tools.into()));
        set(&mut session, "tool_choice", Some("auto".into()));
    }
    json!({"type": "session.update", "event_id": SESSION, "session": session}).to_string()
}

/// A function that the model may call.
pub(super) fn tool(ToolSpec { name, description, parameters }: &ToolSpec) -> Value {
    json!({"type": "function", "name": name, "description": description, "parameters": parameters})
}

fn set(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[name] = value;
    }
}

/// More of the caller's sound. Written by hand: there are fifty a second.
pub(super) fn append(sound: &[u8]) -> String {
    let mut text = String::with_capacity(64 + sound.len().div_ceil(3) * 4);
    text.push_str(r#"{"type":"input_audio_buffer.append","audio":""#);
    STANDARD.encode_string(sound, &mut text);
    text.push_str("\"}");
    text
}

/// What was appended is a turn of the caller.
pub(super) fn commit() -> String {
    json!({"type": "input_audio_buffer.commit"}).to_string()
}

/// What was appended was nothing.
pub(super) fn clear() -> String {
    json!({"type": "input_audio_buffer.clear"}).to_string()
}

/// Asks for a response; without `instructions`, an answer to what was said.
pub(super) fn create(event: &str, instructions: Option<&str>) -> String {
    let mut create = json!({"type": "response.create", "event_id": event});
    if let Some(instructions) = instructions {
        // Words that were asked for are no reason to call a function.
        create["response"] = json!({"instructions": instructions, "tool_choice": "none"});
    }
    create.to_string()
}

/// Gives a response up; without its id, the one that is being made.
pub(super) fn cancel(response: Option<&str>) -> String {
    let mut cancel = json!({"type": "response.cancel"});
    set(&mut cancel, "response_id", response.map(Value::from));
    cancel.to_string()
}

/// Of an item, no more than this was heard.
pub(super) fn truncate(place: &Place, heard_ms: u64) -> String {
    json!({
        "type": "conversation.item.truncate",
        "item_id": place.item,
        "content_index": place.content,
        "audio_end_ms": heard_ms,
    })
    .to_string()
}

/// Something was said before, or is told in text.
pub(super) fn message(role: Role, text: &str) -> String {
    let (role, kind) = match role {
        Role::System => ("system", "input_text"),
        // Results of tools have an event of their own.
        Role::User | Role::Tool => ("user", "input_text"),
        Role::Assistant => ("assistant", "output_text"),
    };
    let item = json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]});
    json!({"type": "conversation.item.create", "item": item}).to_string()
}

/// What a function that the model called gave back.
pub(super) fn called(call: &str, output: &str) -> String {
    let item = json!({"type": "function_call_output", "call_id": call, "output": output});
    json!({"type": "conversation.item.create", "item": item}).to_string()
}

#[cfg(test)]
mod tests;
