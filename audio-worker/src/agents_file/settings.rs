//! What an agents file says, as plain values: no provider is made of it here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use telemetry::Sensitive;
use url::Url;

use super::realtime::RealtimeSettings;
use crate::{
    agent::{LiveSettings, survey, text::Text, tools::function::Function},
    dsp::SampleRate,
    provider::Limits,
    turn_taking,
};

/// An agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSettings {
    /// What routes and the calls API call it.
    pub name: String,
    /// BCP 47 tag for calls that bring none; empty when it is left to the providers.
    pub language: String,
    /// What it does.
    pub kind: Kind,
}

/// What an agent does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// It says what it hears.
    Echo,
    /// It asks its questions and reports the answers.
    Survey(Box<SurveySettings>),
    /// It understands, thinks and speaks.
    Pipeline(Box<PipelineSettings>),
    /// Its model hears and speaks by itself.
    Realtime(Box<RealtimeSettings>),
    /// It is a service of its own.
    Remote(Box<RemoteSettings>),
}

/// What all agents have that talk.
#[derive(Debug, Clone, PartialEq)]
pub struct Talk {
    /// The first words; empty to wait for the caller.
    pub greeting: Text,
    /// Whether the greeting must not be interrupted.
    pub greeting_protected: bool,
    /// Said instead of an answer when a provider fails.
    pub apology: Text,
    /// Said to a caller who is silent: one a time, then it takes its leave.
    pub silence_prompts: Vec<Text>,
    /// The last words to a caller who says nothing any more; the last words of a survey.
    pub goodbye: Text,
    /// The last words when providers failed `max_faults` times in a row.
    pub give_up: Text,
    /// Failures in a row after which it takes its leave.
    pub max_faults: u32,
    /// Turn-taking.
    pub turn: turn_taking::Settings,
    /// What understands.
    pub speech_to_text: StageSettings<Hearing>,
    /// What speaks.
    pub text_to_speech: StageSettings<Voice>,
}

/// An agent of the kind `pipeline`.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineSettings {
    /// As all that talk.
    pub talk: Talk,
    /// What the model is told to be.
    pub instructions: Text,
    /// The newest messages of the conversation that the model is told.
    pub max_history: usize,
    /// What thinks.
    pub chat: StageSettings<Thinking>,
    /// What the model may call.
    pub tools: Vec<ToolSettings>,
}

/// A tool that a model may call.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolSettings {
    /// Ends the call.
    HangUp,
    /// Presses keys.
    SendDigits,
    /// Hands the call to one of these: numbers and `sip:` addresses by name.
    Transfer(Sensitive<BTreeMap<String, String>>),
    /// A function of the user's.
    Function(Arc<Function>),
}

/// An agent of the kind `survey`.
#[derive(Debug, Clone, PartialEq)]
pub struct SurveySettings {
    /// As all that talk.
    pub talk: Talk,
    /// What it asks; the texts of `talk` are in it as well.
    pub plan: Arc<survey::Plan>,
    /// Who is told what came of it.
    pub results: Option<ResultsSettings>,
}

/// An agent of the kind `remote`.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSettings {
    /// Where its service is: scheme, host and port.
    pub url: Url,
    /// What the service knows us by.
    pub token: Option<Sensitive<String>>,
    /// What it is sent of the caller's voice.
    pub format: RemoteFormat,
    /// Who stops what it says when the caller speaks over it.
    pub interrupt: InterruptBy,
    /// Whether it is told the numbers of the call.
    pub share_numbers: bool,
    /// How long a connection may take.
    pub connect_limit: Duration,
    /// How long it may take to be ready for a call.
    pub first_answer: Duration,
    /// Said when it fails; empty without a voice.
    pub apology: Text,
    /// Turn-taking.
    pub turn: turn_taking::Settings,
    /// What understands, where it is to be told words.
    pub speech_to_text: Option<StageSettings<Hearing>>,
    /// What speaks the texts that it sends.
    pub text_to_speech: Option<StageSettings<Voice>>,
}

/// What a remote agent is sent of the caller's voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteFormat {
    /// PCM at 16 or 8 kHz.
    Pcm(SampleRate),
    /// As it came.
    Mulaw,
}

/// Who stops what a remote agent says when the caller speaks over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptBy {
    /// The worker, by voice.
    Worker,
    /// The agent itself.
    Agent,
}

/// Where results of a survey go.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultsSettings {
    /// The webhook; its path may be a secret.
    pub url: Sensitive<Url>,
    /// Signs what is sent.
    pub secret: Sensitive<String>,
    /// Whether the numbers of the call are sent.
    pub include_numbers: bool,
}

/// Who does the work of one stage, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct StageSettings<O> {
    /// Whose protocol it speaks.
    pub provider: Provider,
    /// Where it is; paths of the protocol are appended.
    pub url: Url,
    /// What it calls its model.
    pub model: String,
    /// What it knows us by.
    pub key: Option<Sensitive<String>>,
    /// How long a request may take.
    pub limits: Limits,
    /// What only this stage has.
    pub options: O,
    /// Who stands in for it.
    pub fallback: Option<Box<Fallback<O>>>,
}

/// Who does the work of a stage when its provider fails or keeps silent.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback<O> {
    /// How long the provider may keep silent before this one is asked beside it.
    pub after: Duration,
    /// Its own settings; it has no fallback itself.
    pub stage: StageSettings<O>,
}

/// Whose protocol a stage speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Provider {
    /// OpenAI's, which many servers speak.
    #[default]
    OpenAi,
    /// Google Cloud's.
    Google,
    /// ElevenLabs'.
    ElevenLabs,
    /// Deepgram's.
    Deepgram,
}

/// Options of speech-to-text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hearing {
    /// Words that are likely, to help the recogniser spell them.
    pub prompt: Option<String>,
    /// Randomness, 0 to 1.
    pub temperature: Option<f64>,
    /// It listens while the caller speaks, where it can do that and take whole turns.
    pub listens: bool,
    /// How a recogniser is used that listens while the caller speaks.
    pub live: LiveSettings,
    /// What such a one is told.
    pub streaming: Streaming,
}

/// What a recogniser is told that listens while the caller speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streaming {
    /// Silence after which it takes a stretch as final.
    pub endpointing: Duration,
    /// Time without words after which it takes the speech as over.
    pub utterance_end: Duration,
    /// Words that are likely, to help it hear them.
    pub keyterms: Vec<String>,
}

impl Default for Streaming {
    /// Deepgram's own, but for its 10 ms of silence, which is a hole within a word.
    fn default() -> Self {
        Self { endpointing: Duration::from_millis(300), utterance_end: Duration::from_secs(1), keyterms: Vec::new() }
    }
}

/// Options of chat.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Thinking {
    /// Randomness, 0 to 2.
    pub temperature: Option<f64>,
    /// Share of likely tokens that it chooses from, 0 to 1.
    pub top_p: Option<f64>,
    /// Longest answer, in tokens.
    pub max_tokens: Option<u32>,
}

/// Options of text-to-speech.
#[derive(Debug, Clone, PartialEq)]
pub struct Voice {
    /// Its name; empty where the language is enough.
    pub voice: String,
    /// What it sends.
    pub format: Format,
    /// Of raw samples; for WAV and MP3 a wish, since the sound itself tells.
    pub rate: SampleRate,
    /// How fast it speaks; 1 is usual.
    pub speed: Option<f64>,
    /// How it is to speak, where the model can be told.
    pub instructions: Option<String>,
    /// How even it is, 0 to 1.
    pub stability: Option<f64>,
    /// How close to its original it is, 0 to 1.
    pub similarity_boost: Option<f64>,
    /// How much of a manner it has, 0 to 1.
    pub style: Option<f64>,
    /// Whether it tells when it says which word, where it can.
    pub word_times: bool,
    /// Whether its sound is to come as it is made, where that is a choice.
    pub streams: bool,
}

/// What a voice sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Raw 16-bit little-endian samples.
    #[default]
    Pcm,
    /// The same behind a WAV header, which tells the rate.
    Wav,
    /// MPEG layer 3.
    Mp3,
    /// Mu-law at 8 kHz, which reaches the caller as it is.
    Ulaw,
}

/// What stages and agents have that the file leaves out: the worker's own settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// For speech-to-text.
    pub speech_to_text: Provider,
    /// For chat.
    pub chat: Provider,
    /// BCP 47 tag, or empty.
    pub language: String,
    /// Where the family of OpenAI is.
    pub url: Url,
    /// Keys by family; each belongs to its family's default place and goes nowhere else.
    pub keys: BTreeMap<Provider, DefaultKey>,
}

/// A key that no agents file names.
#[derive(Debug, Clone, PartialEq)]
pub enum DefaultKey {
    /// The key.
    Value(Sensitive<String>),
    /// The file that it is in, as this variable says.
    File(&'static str, String),
}

impl Default for Defaults {
    /// OpenAI, without a key.
    fn default() -> Self {
        Self {
            speech_to_text: Provider::OpenAi,
            chat: Provider::OpenAi,
            language: String::new(),
            url: "https://api.openai.com/v1".parse().expect("an address"),
            keys: BTreeMap::new(),
        }
    }
}

impl Defaults {
    /// The same with this key for the family's default place.
    #[must_use]
    pub fn with_key(mut self, provider: Provider, key: Sensitive<String>) -> Self {
        self.keys.insert(provider, DefaultKey::Value(key));
        self
    }
}

/// Bounds of a request's first piece and of the whole.
pub(super) const FIRST: std::ops::RangeInclusive<u64> = 100..=120_000;
pub(super) const WHOLE: std::ops::RangeInclusive<u64> = 1000..=600_000;

/// Milliseconds of a limit.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
