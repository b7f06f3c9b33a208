//! What a realtime model is asked for, as plain values. Pure.

/// The model and how it is spoken to.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Sound on the wire, both ways.
    pub format: WireFormat,
    /// Who decides when the caller has finished.
    pub detection: Detection,
    /// Name of its voice; its own when none.
    pub voice: Option<String>,
    /// How fast it speaks, 0.25 to 1.5.
    pub speed: Option<f64>,
    /// The model that puts the caller's words into text, beside the conversation.
    pub transcribe: Option<String>,
    /// Randomness, for servers that take it.
    pub temperature: Option<f64>,
    /// Longest response, in tokens.
    pub max_tokens: Option<u32>,
}

/// Sound on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WireFormat {
    /// Mu-law at 8 kHz, as the telephone has it: passed on byte for byte.
    #[default]
    Ulaw,
    /// 16-bit PCM at 24 kHz.
    Pcm,
}

/// Who decides when the caller has finished, and what interrupts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Detection {
    /// The server, by silence.
    Server {
        /// How loud voice has to be, 0 to 1.
        threshold: Option<f64>,
        /// Sound that it takes from before the voice, ms.
        prefix_ms: Option<u32>,
        /// Silence that ends a turn, ms.
        silence_ms: Option<u32>,
    },
    /// The server, by what was said.
    Semantic(Option<Eagerness>),
    /// This worker's ears and turn-taking.
    Own,
}

/// How soon a server that goes by what was said answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eagerness {
    /// Lets callers take their time.
    Low,
    /// In between.
    Medium,
    /// Answers as soon as it can.
    High,
    /// As the server likes.
    Auto,
}

impl Eagerness {
    /// The protocol's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Auto => "auto",
        }
    }
}
