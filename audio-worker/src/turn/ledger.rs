//! Whose an utterance is: an agent counts its own from 1, the wire counts all, keys played by order included.
//!
//! Keys part an utterance that the agent is in the middle of: what follows them has a new number on the wire and is
//! still the same utterance to the agent. An agent that took over counts from 1 again, and is not told what became of
//! what was said before.

use std::collections::VecDeque;

/// Most runs that are remembered. A report comes back within some 20 s; one older than all runs reaches nobody.
const MAX_RUNS: usize = 32;

/// Utterance numbers on the wire and the agent's own. While one agent talks and nothing else, they are the same.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Oldest first.
    runs: VecDeque<Run>,
    /// Numbers below belong to nobody any more.
    known_from: u64,
}

/// Utterances from number `first` on the wire, up to the next run.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    owner: Owner,
}

#[derive(Debug, Clone, Copy)]
enum Owner {
    /// Keys, which no agent said.
    Keys,
    /// The agent. `number` is its own for the first of the run, `before_ms` how much of that one was said earlier.
    Agent { number: u64, before_ms: u64 },
}

impl Ledger {
    pub(super) const fn new() -> Self {
        Self { runs: VecDeque::new(), known_from: 1 }
    }

    /// The agent's own number and position in ms for those on the wire; `None` when they are not the agent's.
    pub(super) fn of_agent(&self, utterance: u64, ms: u64) -> Option<(u64, u64)> {
        if utterance < self.known_from {
            return None;
        }
        let Some(run) = self.runs.iter().rfind(|run| run.first <= utterance) else {
            return Some((utterance, ms));
        };
        match run.owner {
            Owner::Keys => None,
            Owner::Agent { number, before_ms } if utterance == run.first => {
                Some((number, ms.saturating_add(before_ms)))
            }
            Owner::Agent { number, .. } => Some((number + (utterance - run.first), ms)),
        }
    }

    /// The agent's utterance `number` begins, or goes on after `before_ms` of it, as `utterance` on the wire.
    pub(super) fn agent(&mut self, utterance: u64, number: u64, before_ms: u64) {
        if self.of_agent(utterance, 0) != Some((number, before_ms)) {
            self.push(Run { first: utterance, owner: Owner::Agent { number, before_ms } });
        }
    }

    /// Keys are `utterance` on the wire.
    pub(super) fn keys(&mut self, utterance: u64) {
        if self.of_agent(utterance, 0).is_some() {
            self.push(Run { first: utterance, owner: Owner::Keys });
        }
    }

    /// Another agent talks from `utterance` on.
    pub(super) fn take_over(&mut self, utterance: u64) {
        self.runs.clear();
        self.known_from = utterance;
    }

    fn push(&mut self, run: Run) {
        if self.runs.len() == MAX_RUNS {
            self.runs.pop_front();
            self.known_from = self.runs.front().map_or(run.first, |oldest| oldest.first);
        }
        self.runs.push_back(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_alone_counts_as_the_wire_does() {
        let mut ledger = Ledger::new();
        for number in 1..=100 {
            ledger.agent(number, number, 0);
            assert_eq!(ledger.of_agent(number, 20), Some((number, 20)));
        }
        assert_eq!((ledger.of_agent(0, 5), ledger.runs.len()), (None, 0));
    }

    #[test]
    fn keys_are_nobodys_and_a_parted_utterance_goes_on_where_it_was() {
        let mut ledger = Ledger::new();
        ledger.agent(1, 1, 0);
        ledger.keys(2);
        ledger.keys(3);
        ledger.agent(4, 1, 500);
        ledger.agent(5, 2, 0);
        ledger.agent(6, 3, 0);
        let told: Vec<_> = (1..=6).map(|utterance| ledger.of_agent(utterance, 20)).collect();
        assert_eq!(told, [Some((1, 20)), None, None, Some((1, 520)), Some((2, 20)), Some((3, 20))]);
        assert_eq!(ledger.runs.len(), 2);
    }

    #[test]
    fn a_second_agent_counts_from_one_and_hears_nothing_of_the_first() {
        let mut ledger = Ledger::new();
        ledger.agent(1, 1, 0);
        ledger.keys(2);
        ledger.agent(3, 2, 0);
        ledger.take_over(4);
        ledger.keys(4);
        ledger.agent(5, 1, 0);
        ledger.agent(6, 2, 0);
        let told: Vec<_> = (1..=6).map(|utterance| ledger.of_agent(utterance, 0)).collect();
        assert_eq!(told, [None, None, None, None, Some((1, 0)), Some((2, 0))]);
    }

    #[test]
    fn it_stays_small_and_forgets_the_oldest() {
        let mut ledger = Ledger::new();
        for round in 0..1000 {
            ledger.keys(2 * round + 1);
            ledger.agent(2 * round + 2, round + 1, 0);
        }
        assert_eq!(ledger.runs.len(), MAX_RUNS);
        assert_eq!((ledger.of_agent(2, 0), ledger.of_agent(2000, 7)), (None, Some((1000, 7))));
    }
}
