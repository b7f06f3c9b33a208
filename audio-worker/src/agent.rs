//! The port to whoever talks to the caller: the only boundary to a voice backend.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use telemetry::Sensitive;

use crate::dsp::SampleRate;

mod echo;

/// What an agent is told. It must take each at once: what it cannot use now it keeps, within a bound of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The caller's voice, 16 kHz.
    Audio(&'a [i16]),
    /// Milliseconds that passed without audio: loss, or silence that the carrier left out.
    Gap(u64),
    /// A key: 0-9, *, #, A-D.
    Dtmf(char),
    /// How far an utterance of the agent was heard.
    Played {
        /// Its number, counted from 1 in the order in which the agent began them.
        utterance: u64,
        /// Milliseconds from its start.
        ms: u64,
        /// True when the rest was thrown away.
        cleared: bool,
    },
    /// Something about the call: kind and value.
    Notice(&'a str, &'a str),
}

/// What an agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It speaks: the PCM that it appended to the buffer, at this rate.
    Speak(SampleRate),
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
}

type Hire = dyn Fn(&Opening) -> Box<dyn Agent> + Send + Sync;

/// The agents of a worker, by name. `echo` is always there.
#[derive(Clone)]
pub struct Agents(BTreeMap<String, Arc<Hire>>);

impl Agents {
    /// Adds an agent, or replaces the one of that name; `hire` makes one for a call and must not wait.
    #[must_use]
    pub fn with(mut self, name: &str, hire: impl Fn(&Opening) -> Box<dyn Agent> + Send + Sync + 'static) -> Self {
        self.0.insert(name.to_owned(), Arc::new(hire));
        self
    }

    /// Makes the agent `name` for a call (the empty name is `echo`); `None` when there is no such agent.
    pub fn hire(&self, name: &str, opening: &Opening) -> Option<Box<dyn Agent>> {
        let name = if name.is_empty() { "echo" } else { name };
        self.0.get(name).map(|hire| hire(opening))
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Default for Agents {
    fn default() -> Self {
        Self(BTreeMap::new()).with("echo", |_| Box::new(echo::Echo::default()))
    }
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
