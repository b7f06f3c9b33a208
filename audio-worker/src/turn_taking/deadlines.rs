//! When the core has to be woken though nothing comes.

use std::time::{Duration, Instant};

use super::{
    TurnTaking,
    state::{Guess, LATE_AUDIO, Over},
    voice::MAY_GO_ON,
};

impl TurnTaking {
    /// When it is decided whether a voice over the agent's is an interruption: when words are looked for, or at once then if
    /// they are known while the caller speaks on. Who is silent is waited for, since the last words tell fillers apart.
    pub(super) fn over_deadline(&self, over: Option<Over>, guess: Guess) -> Option<Instant> {
        let over = over.filter(|over| !over.confirmed)?;
        let early = match guess {
            Guess::None | Guess::Probe if over.worded => self.settings.probe(0),
            Guess::None => self.settings.probe(over.probes),
            Guess::Probe | Guess::Asked | Guess::Words | Guess::Empty => None,
        };
        Some(over.since + early.unwrap_or(self.settings.false_interruption))
    }

    /// When the turn ends though no sound comes any more.
    pub(super) fn endpoint_deadline(&self, over: Option<Over>, guess: Guess) -> Option<Instant> {
        let waits_for_words = over.is_some_and(|over| !over.confirmed) && guess == Guess::Asked;
        let last = self.voice.last_voice().filter(|_| !waits_for_words)?;
        let may_resume = self.voice.may_resume(self.settings.endpoint_silence);
        let more = if may_resume { MAY_GO_ON } else { Duration::ZERO };
        Some(last + self.settings.endpoint_silence + more + LATE_AUDIO)
    }
}
