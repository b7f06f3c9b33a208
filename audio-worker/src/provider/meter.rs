//! What the requests of a call cost: seconds of audio, characters, tokens, by stage and family. Prices are nobody's
//! business here. Pure, but for the lock that is taken when a request ends.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::agent::Stage;

/// Pairs of stage and family that are told apart in one call; an agents file cannot name more.
const MAX_ENTRIES: usize = 32;

/// Counts for one call, whatever agents it has; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Costs>>);

/// What all requests of a call cost so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Costs(Vec<Entry>);

/// What one family cost at one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub stage: Stage,
    /// Whose protocol was spoken, as the agents file calls it.
    pub provider: &'static str,
    /// How much.
    pub cost: Cost,
}

/// How much was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests, however they ended.
    pub requests: u64,
    /// Of those, the ones that failed.
    pub failed: u64,
    /// Of those, the ones that were given up before their end: guesses that were thrown away, answers that were
    /// interrupted, and whoever was outrun. They cost as others do, but for tokens, which are told at the end only.
    pub given_up: u64,
    /// Of those, the ones that answered in place of another provider.
    pub stood_in: u64,
    /// Audio that was to be put into words, in ms.
    pub audio_ms: u64,
    /// Characters that were to be spoken.
    pub characters: u64,
    /// Tokens that were read.
    pub tokens_in: u64,
    /// Tokens that were written.
    pub tokens_out: u64,
    /// Answers of a model that did not say how many tokens they cost.
    pub without_usage: u64,
}

impl Meter {
    /// Adds to what `provider` cost at `stage`.
    pub fn add(&self, stage: Stage, provider: &'static str, cost: &Cost) {
        // Held for a few additions, when a request ends.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(stage, provider, cost);
    }

    /// All so far.
    pub fn costs(&self) -> Costs {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Costs {
    /// By stage and family, in the order in which they were first asked.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// What is new since `before`, of the same call.
    pub fn since(&self, before: &Self) -> Vec<Entry> {
        let news = self.0.iter().map(|entry| {
            let old = before.0.iter().find(|old| (old.stage, old.provider) == (entry.stage, entry.provider));
            Entry {
                cost: entry.cost.combined(&old.map(|old| old.cost).unwrap_or_default(), u64::saturating_sub),
                ..*entry
            }
        });
        news.filter(|entry| entry.cost != Cost::default()).collect()
    }

    fn add(&mut self, stage: Stage, provider: &'static str, cost: &Cost) {
        let known = self.0.iter().position(|entry| (entry.stage, entry.provider) == (stage, provider));
        match known {
            Some(at) => self.0[at].cost = self.0[at].cost.combined(cost, u64::saturating_add),
            None if self.0.len() < MAX_ENTRIES => self.0.push(Entry { stage, provider, cost: *cost }),
            None => tracing::warn!(stage = stage.label(), provider, "too many families to count what they cost"),
        }
    }
}

impl Cost {
    fn combined(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            requests: with(self.requests, other.requests),
            failed: with(self.failed, other.failed),
            given_up: with(self.given_up, other.given_up),
            stood_in: with(self.stood_in, other.stood_in),
            audio_ms: with(self.audio_ms, other.audio_ms),
            characters: with(self.characters, other.characters),
            tokens_in: with(self.tokens_in, other.tokens_in),
            tokens_out: with(self.tokens_out, other.tokens_out),
            without_usage: with(self.without_usage, other.without_usage),
        }
    }

    /// The counts that are not zero, with their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let all = [
            ("requests", self.requests),
            ("failed", self.failed),
            ("given_up", self.given_up),
            ("stood_in", self.stood_in),
            ("audio_ms", self.audio_ms),
            ("characters", self.characters),
            ("tokens_in", self.tokens_in),
            ("tokens_out", self.tokens_out),
            ("without_usage", self.without_usage),
        ];
        all.into_iter().filter(|(_, count)| *count > 0)
    }
}

impl fmt::Display for Costs {
    /// For a line of the log: `speech_to_text openai requests=2 audio_ms=4100; chat openai …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Entry { stage, provider, cost }) in self.0.iter().enumerate() {
            let between = if at == 0 { "" } else { "; " };
            write!(f, "{between}{} {provider}", stage.label())?;
            for (name, count) in cost.named() {
                write!(f, " {name}={count}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_add_up_by_stage_and_family_and_are_told_once() {
        let meter = Meter::default();
        let asked = |characters| Cost { requests: 1, characters, ..Cost::default() };
        meter.clone().add(Stage::TextToSpeech, "openai", &asked(20));
        let before = meter.costs();
        meter.add(Stage::TextToSpeech, "openai", &asked(22));
        meter.add(Stage::TextToSpeech, "google", &Cost { stood_in: 1, ..asked(7) });
        let costs = meter.costs();
        assert_eq!(
            costs.to_string(),
            "text_to_speech openai requests=2 characters=42; \
             text_to_speech google requests=1 stood_in=1 characters=7"
        );
        let news: Vec<_> = costs.since(&before).iter().map(|entry| (entry.provider, entry.cost.characters)).collect();
        assert_eq!(news, [("openai", 22), ("google", 7)]);
        assert!(costs.since(&costs).is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let meter = Meter::default();
        for n in 0..100 {
            let name: &'static str = Box::leak(format!("family {n}").into_boxed_str());
            meter.add(Stage::Chat, name, &Cost { requests: 1, ..Cost::default() });
        }
        assert_eq!(meter.costs().entries().len(), MAX_ENTRIES);
    }
}
