//! Who has the floor, and what is known of what is being said.

use std::time::{Duration, Instant};

/// Audio may come late without anybody being silent: so long is waited beyond the silence that is asked for when nothing
/// comes at all.
pub(super) const LATE_AUDIO: Duration = Duration::from_millis(100);

/// Silence after which a voice that was no interruption, or that the agent talked over, has ended: a comma is shorter.
pub(super) const AFTER_DOUBT: Duration = Duration::from_millis(320);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody speaks, since then.
    Listening(Instant),
    /// The caller speaks.
    Hearing { guess: Guess, over: Option<Over> },
    /// The caller has finished; the answer has no sound yet.
    Thinking,
    /// The agent is about to say something of its own accord, which has no sound yet.
    Preparing,
    /// The agent speaks.
    Speaking { protected: bool },
}

/// What is known of the words of the turn that is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    /// Nothing was asked for.
    None,
    /// Asked for, with the caller still speaking, to know whether there are words at all.
    Probe,
    /// Asked for in a silence, to be answered.
    Asked,
    /// It has words.
    Words,
    /// It has none.
    Empty,
}

/// The caller has interrupted the agent, whose rest can still be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) since: Instant,
    /// There were words: it will not be said.
    pub(super) confirmed: bool,
    /// Somebody who listens all the time has understood words in it by now.
    pub(super) worded: bool,
    /// How often words were looked for while it went on.
    pub(super) probes: u32,
}
