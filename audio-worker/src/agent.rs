//! The port to whoever talks to the caller: the only boundary to a voice backend.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use telemetry::{Sensitive, traces::TraceContext};

use crate::{
    dsp::SampleRate,
    provider::{meter::Meter, place::Places},
};

pub mod brain;
mod echo;
pub mod history;
pub mod pipeline;
pub mod realtime;
mod remote;
mod report;
mod roster;
mod staffing;
pub mod survey;
mod talk;
pub mod text;
pub mod tools;

pub use report::{AgentStats, Report, Speaker, Stage, ToolReport, Turn, Verdict};
pub use roster::Roster;
pub use talk::{Cast, Endpoint, LiveSettings, Talk};

/// What an agent is told. It must take each at once: what it cannot use now it keeps, within a bound of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The caller's voice as it came, mu-law at 8 kHz; [`Heard::Audio`] of the same follows.
    Mulaw(&'a [u8]),
    /// The caller's voice, 16 kHz.
    Audio(&'a [i16]),
    /// Milliseconds that passed without audio: loss, silence that the carrier left out, or a hold.
    Gap(u64),
    /// A key: 0-9, *, #, A-D.
    Dtmf(char),
    /// How far an utterance of the agent was heard.
    Played {
        /// Its number, counted from 1 in the order in which this agent began them.
        utterance: u64,
        /// Milliseconds from its start.
        ms: u64,
        /// True when the rest was thrown away.
        cleared: bool,
    },
    /// Something about the call: kind and value.
    Notice(&'a str, &'a str),
    /// True: it is on hold. What it said and the caller has not heard was thrown away, as if it had interrupted itself;
    /// until it is told false, it hears neither audio nor keys and is not asked what it does.
    Held(bool),
}

/// Why an agent does not say a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSay {
    /// It has no voice of its own.
    #[error("this agent has no voice of its own")]
    NoVoice,
    /// Its bound of texts to say is reached.
    #[error("this agent has too much left to say; give the order again later")]
    TooMuch,
}

/// What an agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It speaks: the PCM that it appended to the buffer, at this rate.
    Speak(SampleRate),
    /// It speaks: mu-law at 8 kHz, which reaches the caller as it is, byte for byte.
    Forward(Bytes),
    /// The utterance is complete.
    EndUtterance,
    /// What it said so far is worthless.
    Interrupt,
    /// It ends the call.
    Hangup {
        /// Why, for logs.
        reason: String,
        /// Only after what was said has been heard.
        after_playback: bool,
    },
    /// It hands the call to another number.
    Transfer {
        /// Where to.
        to: String,
        /// Only after what was said has been heard.
        after_playback: bool,
    },
    /// What it says next goes on where its newest utterance was cut short.
    Continue,
    /// Keys are played to the caller's side, behind what was said before: 1 to 64 of 0-9, *, #, A-D, and w and W for
    /// pauses of half a second and a second.
    PlayDigits {
        /// The keys; they may be somebody's PIN.
        keys: String,
    },
    /// Something worth telling; it changes nothing.
    Report(Report),
    /// It cannot go on; the conversation ends as failed.
    Fail {
        /// Why, for logs.
        reason: String,
    },
}

/// One side of a conversation. An agent belongs to one call and shares nothing with another.
pub trait Agent: Send {
    /// Tells the agent something.
    fn hear(&mut self, heard: Heard<'_>);

    /// Has the agent say `text`, by order: 1 to 4000 characters, none of them a control character. It must answer at
    /// once and speak through [`Agent::poll_act`], after what it says already.
    ///
    /// # Errors
    /// When it cannot; most agents say only what they think of.
    fn say(&mut self, _text: &str) -> Result<(), CannotSay> {
        Err(CannotSay::NoVoice)
    }

    /// The conversation is over, or another agent takes over: what it still has to tell. It is asked nothing more.
    fn leave(&mut self) -> Vec<Report> {
        Vec::new()
    }

    /// What it counted so far.
    fn stats(&self) -> AgentStats {
        AgentStats::default()
    }

    /// What the agent does next. It is asked again after each [`Agent::hear`] and whenever it woke the context;
    /// samples of [`Act::Speak`] are appended to `pcm`, which is empty when it is asked.
    fn poll_act(&mut self, cx: &mut Context<'_>, pcm: &mut Vec<i16>) -> Poll<Act>;
}

/// What an agent knows of its call from the start.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// The carrier's id of the call.
    pub call_id: String,
    /// Caller.
    pub from: Sensitive<String>,
    /// Called number.
    pub to: Sensitive<String>,
    /// BCP 47 tag; empty for the agent's own.
    pub language: String,
    /// Parameters of the call.
    pub parameters: Sensitive<BTreeMap<String, String>>,
    /// The conversation's span, where it is kept.
    pub trace: Option<TraceContext>,
    /// The agent that had the call before, when this one takes over in the middle.
    pub taken_over_from: Option<String>,
    /// Counts what providers cost in this call, whichever agents it has.
    pub meter: Meter,
}

/// Who takes a call that names no agent.
pub const DEFAULT_AGENT: &str = "echo";

type Hire = dyn Fn(&Opening) -> Result<Box<dyn Agent>, NotHired> + Send + Sync;

/// Why a call does not get the agent that it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHired {
    /// There is none of that name; these there are.
    #[error("this worker has: {0}")]
    Unknown(String),
    /// It cannot begin.
    #[error("{0}")]
    Failed(String),
}

/// The agents of a worker, by name. `echo` is always there.
#[derive(Clone)]
pub struct Agents {
    hires: Arc<BTreeMap<String, Arc<Hire>>>,
    places: Places,
}

impl Agents {
    /// Adds an agent, or replaces the one of that name; `hire` makes one for a call and must not wait.
    #[must_use]
    pub fn with(self, name: &str, hire: impl Fn(&Opening) -> Box<dyn Agent> + Send + Sync + 'static) -> Self {
        self.with_trial(name, move |opening| Ok(hire(opening)))
    }

    /// As [`Agents::with`], with an agent that may fail to begin.
    #[must_use]
    pub fn with_trial(
        mut self,
        name: &str,
        hire: impl Fn(&Opening) -> Result<Box<dyn Agent>, NotHired> + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.hires).insert(name.to_owned(), Arc::new(hire));
        self
    }

    /// Makes the agent `name` for a call (the empty name is `echo`).
    ///
    /// # Errors
    /// When there is no such agent, or it cannot begin.
    pub fn hire(&self, name: &str, opening: &Opening) -> Result<Box<dyn Agent>, NotHired> {
        let name = if name.is_empty() { DEFAULT_AGENT } else { name };
        match self.hires.get(name) {
            Some(hire) => hire(opening),
            None => Err(NotHired::Unknown(self.names().collect::<Vec<_>>().join(", "))),
        }
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.hires.keys().map(String::as_str)
    }

    /// The same agents, whose providers are at `places`.
    #[must_use]
    pub fn asking(self, places: &Places) -> Self {
        Self { places: places.clone(), ..self }
    }

    /// Where their providers are.
    pub const fn places(&self) -> &Places {
        &self.places
    }
}

impl Default for Agents {
    fn default() -> Self {
        let nobody = Self { hires: Arc::default(), places: Places::default() };
        nobody.with(DEFAULT_AGENT, |_| Box::new(echo::Echo::default()))
    }
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
