//! An answer that is being prepared while nobody hears it: first the words of the caller, then the answer to them.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use super::reply::Reply;
use crate::{
    agent::report::Stage,
    provider::{Pending, ProviderError},
    traces::{TurnSpans, TurnStage},
};

/// An answer ahead of its time.
pub(super) struct Prepared {
    /// The guess that it is for; 0 for what the agent says of its own accord.
    pub(super) turn: u64,
    /// Only the words are wanted.
    pub(super) probe: bool,
    words: Option<Pending<String>>,
    /// What the caller said, once it is known.
    pub(super) said: Option<String>,
    pub(super) reply: Option<Reply>,
    /// It is its turn to be heard.
    pub(super) released: bool,
    /// The caller's last sound before it.
    pub(super) last_voice: Option<Instant>,
    pub(super) worded: Option<Instant>,
    pub(super) endpoint: Option<Instant>,
    pub(super) spans: Option<TurnSpans>,
    /// What failed on the way to it.
    pub(super) failed: Vec<(Stage, ProviderError)>,
}

impl Prepared {
    /// For a guess, whose words are looked for.
    pub(super) const fn guess(turn: u64, probe: bool, words: Pending<String>, last_voice: Option<Instant>) -> Self {
        Self {
            turn,
            probe,
            words: Some(words),
            said: None,
            reply: None,
            released: false,
            last_voice,
            worded: None,
            endpoint: None,
            spans: None,
            failed: Vec::new(),
        }
    }

    /// For what the agent says of its own accord.
    pub(super) const fn own(reply: Reply) -> Self {
        Self {
            turn: 0,
            probe: false,
            words: None,
            said: None,
            reply: Some(reply),
            released: true,
            last_voice: None,
            worded: None,
            endpoint: None,
            spans: None,
            failed: Vec::new(),
        }
    }

    /// Lets its spans follow how far it has come.
    pub(super) fn trace(&mut self) {
        let (Some(spans), Some(reply)) = (&mut self.spans, &self.reply) else { return };
        let (first_token, first_audio) = reply.firsts();
        spans.reach(match (first_token, first_audio) {
            (None, _) => TurnStage::Chat,
            (Some(_), None) => TurnStage::TextToSpeech,
            (Some(_), Some(_)) => TurnStage::Endpoint,
        });
    }

    /// The words, with their turn, when they have come.
    pub(super) fn poll_words(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Option<(u64, Result<String, ProviderError>)> {
        let Poll::Ready(found) = self.words.as_mut()?.as_mut().poll(cx) else { return None };
        self.words = None;
        self.worded = Some(now);
        Some((self.turn, found))
    }

    /// What went wrong with its answer since this was last asked. Of a guess an apology that fails is told once it is to be
    /// heard: until then it would fail again and again.
    pub(super) fn take_fault(&mut self) -> Option<(Stage, ProviderError)> {
        let released = self.released;
        self.reply.as_mut().filter(|reply| released || !reply.apologises()).and_then(Reply::take_fault)
    }

    /// How often something failed on the way to it.
    pub(super) fn faults(&self) -> u32 {
        u32::try_from(self.failed.len()).unwrap_or(u32::MAX)
    }

    /// True while its words are looked for.
    pub(super) const fn awaits_words(&self) -> bool {
        self.words.is_some()
    }
}
