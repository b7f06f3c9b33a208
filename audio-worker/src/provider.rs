//! The ports to what understands, thinks and speaks: speech-to-text, chat, text-to-speech.
//!
//! A provider is made once per agent and shared by its calls; what belongs to one request is in the future or stream that
//! it gives out. Dropping that gives the request up. None of them blocks, and none spawns what outlives the request.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::Stream;

use crate::dsp::SampleRate;
use listening::Listening;
use meter::Meter;

pub mod breaker;
pub mod cached_voice;
pub mod deepgram;
pub mod elevenlabs;
pub mod endpoint;
mod exchange;
pub mod fallback;
mod fault;
mod form;
pub mod google;
pub(crate) mod grpc;
pub mod http;
mod intake;
mod json_stream;
mod language;
pub mod listening;
pub mod meter;
mod mp3;
pub mod openai;
pub mod place;
mod question;
mod recording;
mod sse;
pub(crate) mod visits;
mod voice_body;
mod wav;
pub mod websocket;

pub use intake::Coding;

/// A request that answers once.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, ProviderError>> + Send>>;

/// A request that answers piece by piece. After an error nothing follows.
pub type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, ProviderError>> + Send>>;

/// Puts speech into words.
pub trait SpeechToText: fmt::Debug + Send + Sync {
    /// The words of one stretch of speech; an empty text when there are none.
    fn transcribe(&self, speech: Speech) -> Pending<String>;

    /// Whether it takes the caller's sound as it came: [`Speech::mulaw`] is kept for it then.
    fn wants_native(&self) -> bool {
        false
    }

    /// Begins to listen to a call while it goes on, in `language` (BCP 47; empty when it is not known). `earlier` is sound
    /// that was heard already, mu-law at 8 kHz. None when it takes whole stretches alone.
    fn listen(&self, _language: &str, _earlier: Bytes) -> Option<Box<dyn Listening>> {
        None
    }

    /// Opens a connection ahead of the first request, when there is none.
    fn warm(&self) {}

    /// The same for one call, whose `meter` is told what it costs; `None` where nothing is metered.
    fn metered(&self, _meter: &Meter) -> Option<Arc<dyn SpeechToText>> {
        None
    }
}

/// Thinks of an answer.
pub trait Chat: fmt::Debug + Send + Sync {
    /// The answer, in pieces of text as the model gives them; together they are the whole. It may call `tools` instead
    /// of answering, or beside it.
    fn answer(&self, prompt: Vec<Message>, tools: &[ToolSpec]) -> Streaming<Token>;

    /// As [`SpeechToText::warm`].
    fn warm(&self) {}

    /// As [`SpeechToText::metered`].
    fn metered(&self, _meter: &Meter) -> Option<Arc<dyn Chat>> {
        None
    }
}

/// Puts words into speech.
pub trait TextToSpeech: fmt::Debug + Send + Sync {
    /// The voice that says `text`, 1 to 4000 characters, in `language` (BCP 47; empty for the voice's own).
    fn speak(&self, text: &str, language: &str) -> Streaming<Sound>;

    /// As [`SpeechToText::warm`].
    fn warm(&self) {}

    /// As [`SpeechToText::metered`].
    fn metered(&self, _meter: &Meter) -> Option<Arc<dyn TextToSpeech>> {
        None
    }

    /// How often another voice has stood in for it.
    fn stand_ins(&self) -> u64 {
        0
    }
}

/// What a caller said.
#[derive(Debug, Clone, Default)]
pub struct Speech {
    /// 16 kHz, mono.
    pub pcm: Arc<[i16]>,
    /// The same as it came, mu-law at 8 kHz, for a recogniser that [wants it](SpeechToText::wants_native); else empty.
    pub mulaw: Bytes,
    /// BCP 47 tag; empty when it is not known.
    pub language: String,
}

/// One message of a conversation, as a model is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose it is.
    pub role: Role,
    /// Its text; of a tool, its result.
    pub text: String,
    /// Of the agent: the tools that it called. Each is answered by a message of a tool before anybody says anything.
    pub calls: Vec<ToolCall>,
    /// Of a tool: the [`ToolCall::id`] that it answers. Empty for all others.
    pub call_id: String,
}

impl Message {
    /// What somebody said.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, text: text.into(), calls: Vec::new(), call_id: String::new() }
    }

    /// The agent called these tools, and said this before.
    pub fn calling(text: impl Into<String>, calls: Vec<ToolCall>) -> Self {
        Self { calls, ..Self::new(Role::Assistant, text) }
    }

    /// The result of the call `id`.
    pub fn result(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { call_id: id.into(), ..Self::new(Role::Tool, text) }
    }
}

/// A function that a model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolSpec {
    /// Its name: 1 to 64 letters, digits, _ and -.
    pub name: String,
    /// What it does and when to call it, in words for the model.
    pub description: String,
    /// Its arguments: a JSON Schema of type `object`.
    pub parameters: serde_json::Value,
}

/// A call of a tool by a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// What the model calls this call.
    pub id: String,
    /// Which tool; it may be one that does not exist.
    pub name: String,
    /// JSON, as the model wrote it: it may be none.
    pub arguments: String,
}

/// Whose a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What the model is told to be.
    System,
    /// The caller.
    User,
    /// The agent.
    Assistant,
    /// A tool that the agent called.
    Tool,
}

/// A piece of a model's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Text; may be empty.
    Text(String),
    /// A call of a tool, whole.
    Call(ToolCall),
    /// What the whole answer cost, where the provider says so.
    Usage {
        /// Tokens that were read.
        prompt: u64,
        /// Tokens that were written.
        completion: u64,
    },
}

/// A piece of a voice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sound {
    /// Mono PCM at this rate; the rate is the same through a whole stream.
    Pcm(SampleRate, Vec<i16>),
    /// Mono mu-law at 8 kHz, which reaches the caller as it is.
    Mulaw(Bytes),
    /// A word of the text is said from here to there, in milliseconds from the stream's first sample; comes before its sound
    /// or after it. Only some voices tell.
    Word {
        /// The word as it stands in the text.
        text: String,
        /// Where it begins.
        from_ms: u64,
        /// Where it ends.
        to_ms: u64,
    },
}

/// Why a provider has no answer, or no more of it. It says nothing of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", kind.label())]
pub struct ProviderError {
    /// What went wrong, in kinds that are counted.
    pub kind: Fault,
    /// In words for the log, at most 200 printable characters, without keys and without what was said.
    pub detail: String,
}

/// What goes wrong at providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No connection, or it broke.
    Unreachable,
    /// No first result, or no end, in time.
    Timeout,
    /// The key is wrong or may not do this: 401, 403.
    Denied,
    /// Too many requests: 429.
    Busy,
    /// The request is not to its liking: other 4xx.
    Rejected,
    /// It says that it failed: 5xx.
    Failed,
    /// The answer is not what was asked for: HTML, half a JSON, a wrong rate, too much of it.
    Malformed,
    /// The answer is empty where something has to be.
    Empty,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unreachable,
        Self::Timeout,
        Self::Denied,
        Self::Busy,
        Self::Rejected,
        Self::Failed,
        Self::Malformed,
        Self::Empty,
    ];

    /// The fault as a label of metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Malformed => "malformed",
            Self::Empty => "empty",
        }
    }

    /// True when the same request may do better a second time.
    pub const fn is_passing(self) -> bool {
        match self {
            Self::Unreachable | Self::Timeout | Self::Busy | Self::Failed => true,
            Self::Denied | Self::Rejected | Self::Malformed | Self::Empty => false,
        }
    }
}

/// How long a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To the first piece of the answer.
    pub first: Duration,
    /// To its end.
    pub whole: Duration,
}

impl Default for Limits {
    /// 10 s to the first piece, 120 s in all.
    fn default() -> Self {
        Self { first: Duration::from_secs(10), whole: Duration::from_secs(120) }
    }
}
