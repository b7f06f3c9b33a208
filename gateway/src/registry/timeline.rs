//! What happened to one call, and when. Pure.

use std::time::Duration;

/// Entries that are kept: the first ones, since a call goes wrong where it begins.
const MAX_ENTRIES: usize = 48;

/// The story of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Timeline {
    entries: Vec<Entry>,
    /// Things that found no room.
    dropped: u64,
}

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Since the Unix epoch.
    pub(crate) at: Duration,
    pub(crate) what: &'static str,
    /// More of it, such as the status that was entered; empty when there is no more.
    pub(crate) detail: &'static str,
}

impl Timeline {
    /// Something happened at `at`.
    pub(crate) fn note(&mut self, at: Duration, what: &'static str, detail: &'static str) {
        if self.entries.len() < MAX_ENTRIES {
            self.entries.push(Entry { at, what, detail });
        } else {
            self.dropped += 1;
        }
    }

    /// What happened, in the order in which it was told.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How much more happened.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_kept_and_the_rest_counted() {
        let mut timeline = Timeline::default();
        for second in 0..50 {
            timeline.note(Duration::from_secs(second), "status", "ringing");
        }
        assert_eq!((timeline.entries().len(), timeline.dropped()), (MAX_ENTRIES, 2));
        assert_eq!(timeline.entries()[0], Entry { at: Duration::ZERO, what: "status", detail: "ringing" });
    }
}
