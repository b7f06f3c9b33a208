//! The port to what decides what an agent says next, in words. Hearing, taking turns and speaking are the same for all.

use super::report::ToolReport;
use crate::provider::{Message, Streaming};

/// Decides what one agent says to one caller.
///
/// An answer may be asked for as a guess, while it is not sure yet that the caller has finished. So [`Brain::answer`]
/// changes nothing that anybody could notice until [`Brain::commit`]; [`Brain::settle`] says what became of it.
pub trait Brain: Send {
    /// The first thing to say; an empty stream to wait for the caller.
    fn greet(&mut self) -> Answer;

    /// Answers what the caller said. `history` is what went before, oldest first; of what the agent said, what was heard.
    /// The newest answer replaces one that was not settled.
    fn answer(&mut self, said: &str, history: &[Message]) -> Answer;

    /// The caller has finished: the newest answer is no guess any more, and may do what cannot be undone. The caller may
    /// still go on before anything of it is heard; it is replaced then all the same.
    fn commit(&mut self) {}

    /// The newest answer is being said, as the answer to `said`; it will not be taken back.
    fn settle(&mut self, said: &str);

    /// A key: 0-9, *, #, A-D. `None` while it means nothing yet. An answer needs no [`Brain::settle`].
    fn key(&mut self, key: char) -> Option<Answer>;

    /// The caller has been silent for long after the agent finished, for the `nth` time in a row, from 1. `None`: enough of
    /// that, the agent takes its leave.
    fn silence(&mut self, nth: u32) -> Option<Answer>;

    /// Takes leave for the reason given; must end with [`Piece::Hangup`].
    fn farewell(&mut self, why: Farewell) -> Answer;

    /// Something about the call: kind and value.
    fn notice(&mut self, _kind: &str, _value: &str) {}

    /// The call is over, however it ended. Called once, last.
    fn over(&mut self) {}
}

/// What to say, piece by piece. An error in it is apologised for by whoever speaks.
pub type Answer = Streaming<Piece>;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Words, cut anywhere.
    Say(String),
    /// Words end here for now: what has been said so far waits for no more of them.
    Pause,
    /// What has been said in this answer so far, and what follows, must not be interrupted.
    Protect,
    /// The call ends once all of it was heard.
    Hangup {
        /// Why, for logs.
        reason: String,
    },
    /// The call goes to another number once all of it was heard.
    Transfer {
        /// Where to.
        to: String,
    },
    /// Keys are played behind what was said so far: as [`super::Act::PlayDigits`].
    Digits(String),
    /// A tool was called, and this came of it; the caller hears nothing of that.
    Called(ToolReport),
}

/// Why an agent takes its leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// The caller says nothing any more.
    Silence,
    /// Its providers fail again and again.
    Faults,
}
