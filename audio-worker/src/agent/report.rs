//! What an agent tells of a conversation beside what it does: for the gateway, the transcript, metrics and traces.

use std::time::Duration;

use crate::{ears::EarsStats, provider::Fault, turn_taking};

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The caller began to speak, or ended.
    Speech {
        /// Which of the two.
        began: bool,
    },
    /// Somebody said something.
    Said {
        /// Who.
        by: Speaker,
        /// What; of the agent's words, those that were heard.
        text: String,
        /// False while it may still change.
        is_final: bool,
        /// The agent was interrupted, and this is what was heard.
        interrupted: bool,
    },
    /// The agent answered a turn of the caller.
    Turn(Turn),
    /// A provider failed.
    Fault {
        /// Where.
        stage: Stage,
        /// How.
        fault: Fault,
        /// In words, without what was said.
        detail: String,
    },
    /// A model called a tool.
    Tool(ToolReport),
}

/// A tool was called, and is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolReport {
    /// Its name, as the agents file has it; empty when the model called one that there is not.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of calling a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It did what it does.
    Done,
    /// The model called what there is not, or with arguments that do not fit.
    Invalid,
    /// There was no connection, or it broke.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// It said that it failed: an HTTP status other than 2xx.
    Failed,
    /// It answered too much, or what is no text.
    Unusable,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Done, Self::Invalid, Self::Unreachable, Self::Timeout, Self::Failed, Self::Unusable];

    /// The verdict as a label of metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Invalid => "invalid",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Unusable => "unusable",
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The caller.
    Caller,
    /// The agent.
    Agent,
}

/// Where the time of one turn went, each counted from the caller's last sound. What did not happen is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// The end of the caller's turn was decided.
    pub endpoint: Option<Duration>,
    /// The words were there.
    pub speech_to_text: Option<Duration>,
    /// The first words of the answer were there.
    pub first_token: Option<Duration>,
    /// The first sound was there.
    pub first_audio: Option<Duration>,
    /// The first sound was given out.
    pub first_sent: Option<Duration>,
}

/// A stage of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Speech to text.
    SpeechToText,
    /// The model, or whatever else decides what to say.
    Chat,
    /// Text to speech.
    TextToSpeech,
    /// A model that hears and speaks by itself.
    Realtime,
    /// An agent that is a service of its own.
    Agent,
}

impl Stage {
    /// All of them, in the order in which they work.
    pub const ALL: [Self; 5] = [Self::SpeechToText, Self::Chat, Self::TextToSpeech, Self::Realtime, Self::Agent];

    /// The stage as a label of metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SpeechToText => "speech_to_text",
            Self::Chat => "chat",
            Self::TextToSpeech => "text_to_speech",
            Self::Realtime => "realtime",
            Self::Agent => "agent",
        }
    }
}

/// What an agent counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentStats {
    /// Who had the floor.
    pub floor: turn_taking::Stats,
    /// What was heard.
    pub ears: EarsStats,
    /// Pieces of text, mostly a token each, of answers that were thrown away before anybody heard them.
    pub wasted_tokens: u64,
    /// Windows of the caller's sound that were taken for the agent's own voice.
    pub echo_windows: u64,
    /// Sound of a remote agent that came too late: of what had been interrupted, or after its end, ms.
    pub dropped_ms: u64,
}
