//! The port to a recogniser that listens to a call while it goes on and tells what it understands as it comes.

use std::task::{Context, Poll};

use super::ProviderError;

pub(super) mod feed;
pub(super) mod socket;

/// One call's sound on its way to a recogniser. Dropping it ends the session in good order, within a bound.
pub trait Listening: Send {
    /// Takes the caller's sound, mu-law at 8 kHz. Never waits: what cannot be sent is kept within a bound, and beyond it the
    /// session ends with an error, which the next poll tells.
    fn feed(&mut self, codes: &[u8]);

    /// Our own ears have just heard the caller's voice in what was fed: for those that want sound only while somebody speaks.
    fn voice(&mut self) {}

    /// Asks for what was heard so far to become final, without waiting for more. Whether it is answered is left to the
    /// recogniser.
    fn finalize(&mut self);

    /// Sound that was sent, in milliseconds, where that is not all that was fed.
    fn sent_ms(&self) -> Option<u64> {
        None
    }

    /// Whether it finds out by itself that nobody answers any more. One that does not is given up when it tells nothing of
    /// 5 s of sound, silence included.
    fn judges_itself(&self) -> bool {
        false
    }

    /// It is given up since it does not do what it should; whoever keeps account of it is told before it is dropped.
    fn lost(&mut self, _error: &ProviderError) {}

    /// What was understood next. After an error nothing follows, and it must not be asked again.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Recognised, ProviderError>>;
}

/// What a recogniser tells. Times are milliseconds of sound from the session's first sample, what it was begun with
/// included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    /// What is understood so far of the sound behind the newest final stretch; the next one replaces it.
    Interim(Stretch),
    /// It will not change.
    Final(Stretch),
    /// The recogniser takes the speech as over.
    EndOfSpeech {
        /// Up to where it has listened for that, or the end of the last word.
        at_ms: u64,
    },
    /// Something came that cannot be read; the session goes on.
    Unreadable(ProviderError),
}

/// The words of a stretch of sound; none when nobody spoke.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins.
    pub from_ms: u64,
    /// Where it ends.
    pub to_ms: u64,
    /// All that was said in it.
    pub text: String,
    /// The same word by word, where the recogniser tells when each was said.
    pub words: Vec<TimedWord>,
}

/// A word and when it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedWord {
    /// The word with its punctuation.
    pub text: String,
    /// Where it begins.
    pub from_ms: u64,
    /// Where it ends.
    pub to_ms: u64,
}
