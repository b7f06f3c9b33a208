//! The items of a conversation that are played to the caller: their sound, their words, and how far each was heard. Pure.
//!
//! A server sends sound faster than it is heard. It is kept here, whole, until it was heard, so that what was interrupted
//! can be cut at what was heard, or go on.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{codec::PER_MS, wire::Place};
use crate::agent::talk::spoken::Spoken;

/// Most sound that waits to be heard, in milliseconds: OpenAI's longest response (4096 tokens of 50 ms) and some more.
pub(super) const MAX_WAITING_MS: u64 = 240_000;

/// Most words of one item, in bytes; more are not told.
const MAX_TEXT: usize = 64 << 10;

/// Sound that is given out ahead of what was heard: the reply queue holds more.
const MAX_AHEAD_MS: u64 = 20_000;

/// A report comes every 200 ms; the clock goes on for so long without one.
const REPORT: Duration = Duration::from_millis(200);

/// Reports may be missing: sound that was given out so long ago, beyond its length, was heard.
const UNREPORTED: Duration = Duration::from_secs(5);

/// A report this much short of the end is one of the end: codec and filters round.
const ROUNDING_MS: u64 = 40;

/// There is more sound waiting than any answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_WAITING_MS} ms of sound wait to be heard")]
pub(super) struct Flood;

/// Something to give out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Sound; `begins` an utterance, `is_first` of its item.
    Sound { codes: Bytes, begins: bool, is_first: bool, is_protected: bool },
    /// The utterance is complete.
    End,
}

/// Something that is said to the caller.
#[derive(Debug)]
pub(super) struct Item {
    /// Where the server knows it; none for words of our own.
    pub(super) place: Option<Place>,
    /// The session is lost that it came from: no server knows it.
    pub(super) is_orphan: bool,
    /// It must not be interrupted.
    pub(super) is_protected: bool,
    /// Sound that the server sent, in ms as it counts them.
    pub(super) received_ms: u64,
    /// No more sound of it comes.
    pub(super) is_ended: bool,
    sound: Vec<u8>,
    text: String,
    /// Bytes of `sound` that were given out.
    given: usize,
    /// The utterance that plays it, and where it begins in the sound, ms.
    utterance: Option<(u64, u64)>,
    given_at: Instant,
    heard_ms: u64,
    reported: Instant,
    /// All of it was given out, and the end told.
    is_complete: bool,
}

impl Item {
    fn new(place: Option<Place>, is_protected: bool, now: Instant) -> Self {
        Self {
            place,
            is_orphan: false,
            is_protected,
            received_ms: 0,
            is_ended: false,
            sound: Vec::new(),
            text: String::new(),
            given: 0,
            utterance: None,
            given_at: now,
            heard_ms: 0,
            reported: now,
            is_complete: false,
        }
    }

    fn sound_ms(&self) -> u64 {
        (self.sound.len() / PER_MS) as u64
    }

    fn given_ms(&self) -> u64 {
        (self.given / PER_MS) as u64
    }

    /// True when all of it that there is was heard.
    pub(super) fn is_heard(&self) -> bool {
        self.is_ended && self.heard_ms + ROUNDING_MS >= self.sound_ms()
    }

    /// How much of it was heard, ms; never more than there is.
    pub(super) fn heard_ms(&self) -> u64 {
        self.heard_ms.min(self.sound_ms()).min(self.received_ms)
    }

    /// The words that were heard.
    pub(super) fn heard_text(&self) -> String {
        if self.is_heard() {
            return self.text.trim().to_owned();
        }
        self.spoken().heard(self.heard_ms, self.sound_ms())
    }

    fn spoken(&self) -> Spoken {
        let mut spoken = Spoken::default();
        spoken.begin(self.text.trim().to_owned(), 0);
        if self.is_ended {
            spoken.end(self.sound_ms());
        }
        spoken
    }
}

/// What is being said, oldest first.
#[derive(Debug, Default)]
pub(super) struct Playback {
    items: VecDeque<Item>,
    /// Utterances begun.
    begun: u64,
    /// What was given out was thrown away: nothing more is, until it is known how it goes on.
    is_stopped: bool,
}

impl Playback {
    /// The newest item there, or a new one.
    pub(super) fn item(&mut self, place: Option<&Place>, is_protected: bool, now: Instant) -> &mut Item {
        let is_it = |item: &Item| match (&item.place, place) {
            (Some(known), Some(place)) => known.item == place.item,
            (None, None) => !item.is_ended,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let at = self.items.iter().rposition(is_it).unwrap_or_else(|| {
            // What comes next is what says that the one before has ended, should its end be missing.
            if let Some(last) = self.items.back_mut() {
                last.is_ended = true;
            }
            self.items.push_back(Item::new(place.cloned(), is_protected, now));
            self.items.len() - 1
        });
        &mut self.items[at]
    }

    /// The item there, if it is known.
    pub(super) fn known(&mut self, place: &Place) -> Option<&mut Item> {
        self.items.iter_mut().rfind(|item| item.place.as_ref().is_some_and(|known| known.item == place.item))
    }

    /// Adds sound to an item: mu-law, and the item's length on the wire with it.
    ///
    /// # Errors
    /// When too much waits; nothing was added.
    pub(super) fn sound(
        &mut self,
        place: Option<&Place>,
        is_protected: bool,
        (codes, ms): (&[u8], u64),
        now: Instant,
    ) -> Result<(), Flood> {
        let waiting: u64 = self.items.iter().map(|item| item.sound_ms() - item.heard_ms.min(item.sound_ms())).sum();
        if waiting + (codes.len() / PER_MS) as u64 > MAX_WAITING_MS {
            return Err(Flood);
        }
        let item = self.item(place, is_protected, now);
        item.sound.extend_from_slice(codes);
        item.received_ms += ms;
        Ok(())
    }

    /// Adds words to an item, or gives it all its words.
    pub(super) fn words(item: &mut Item, words: &str, are_all: bool) {
        if are_all {
            item.text.clear();
        }
        if item.text.len() + words.len() <= MAX_TEXT {
            item.text.push_str(words);
        }
    }

    /// No more sound comes for any item of `response`.
    pub(super) fn end(&mut self, response: &str) {
        let is_of = |item: &&mut Item| item.place.as_ref().is_some_and(|place| place.response == response);
        self.items.iter_mut().filter(is_of).for_each(|item| item.is_ended = true);
    }

    /// The session is lost that the items came from: nothing more comes of any, and the next one does not know them.
    pub(super) fn orphan(&mut self) {
        for item in &mut self.items {
            item.is_ended = true;
            item.is_orphan |= item.place.take().is_some();
        }
    }

    /// No more sound comes of words of our own.
    pub(super) fn end_own(&mut self) {
        self.items.iter_mut().filter(|item| item.place.is_none()).for_each(|item| item.is_ended = true);
    }

    /// What is to be given out next.
    pub(super) fn give(&mut self, now: Instant) -> Option<Given> {
        if self.is_stopped || self.ahead_ms(now) >= MAX_AHEAD_MS {
            return None;
        }
        // One without any sound is not played.
        while self.items.front().is_some_and(|item| item.is_ended && item.sound.is_empty()) {
            self.items.pop_front();
        }
        let at = self.items.iter().position(|item| !item.is_complete)?;
        let item = &mut self.items[at];
        if item.given == item.sound.len() {
            if !item.is_ended {
                return None;
            }
            item.is_complete = true;
            return item.utterance.map(|_| Given::End).or_else(|| self.give(now));
        }
        let most = usize::try_from(MAX_AHEAD_MS).unwrap_or(usize::MAX) * PER_MS;
        let until = item.sound.len().min(item.given + most);
        let codes = Bytes::copy_from_slice(&item.sound[item.given..until]);
        let begins = item.utterance.is_none();
        let is_first = begins && item.given == 0;
        if begins {
            self.begun += 1;
            item.utterance = Some((self.begun, item.given_ms()));
            item.reported = now;
        }
        (item.given, item.given_at) = (until, now);
        Some(Given::Sound { codes, begins, is_first, is_protected: item.is_protected })
    }

    /// The gateway reports `ms` of the utterance `number`; true when that is the last word on what was thrown away.
    pub(super) fn report(&mut self, number: u64, ms: u64, cleared: bool, now: Instant) -> bool {
        let at = |item: &Item| item.utterance.is_some_and(|(utterance, _)| utterance == number);
        let Some(at) = self.items.iter().position(at) else { return false };
        // A report that is older than the stop knows less.
        if self.is_stopped && !cleared {
            return false;
        }
        for item in self.items.iter_mut().take(at) {
            item.heard_ms = item.sound_ms();
        }
        let item = &mut self.items[at];
        let base_ms = item.utterance.map_or(0, |(_, base_ms)| base_ms);
        let heard_ms = base_ms.saturating_add(ms).min(item.given_ms());
        item.heard_ms = if cleared { heard_ms } else { heard_ms.max(item.heard_ms) };
        item.reported = now;
        cleared && self.is_stopped
    }

    /// Takes out the oldest item once all of it was heard.
    pub(super) fn finished(&mut self, now: Instant) -> Option<Item> {
        let item = self.items.front().filter(|item| item.is_complete && !self.is_stopped)?;
        let is_over = item.is_heard() || self.deadline().is_some_and(|at| at <= now);
        let mut item = if is_over { self.items.pop_front() } else { None }?;
        item.heard_ms = item.sound_ms();
        // The next one begins to be heard.
        if let Some(next) = self.items.front_mut() {
            next.reported = next.reported.max(now);
        }
        Some(item)
    }

    /// When the oldest item counts as heard without a report.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let item = self.items.front().filter(|item| item.is_complete && !self.is_stopped)?;
        let left = item.sound_ms().saturating_sub(item.heard_ms);
        Some(item.reported.max(item.given_at) + Duration::from_millis(left) + UNREPORTED)
    }

    /// What was given out is thrown away: it was heard up to where the clock says, until that is known better.
    pub(super) fn stop(&mut self, now: Instant) {
        if let Some(ms) = self.heard_now(now)
            && let Some(item) = self.items.front_mut()
        {
            item.heard_ms = ms;
        }
        self.is_stopped = true;
    }

    /// What was thrown away and not heard is said after all, from the beginning of the word in which it stopped.
    pub(super) fn go_on(&mut self) {
        self.is_stopped = false;
        for item in self.items.iter_mut().filter(|item| !item.is_heard()) {
            let from_ms = item.spoken().resume_at(item.heard_ms, item.sound_ms()).min(item.heard_ms);
            item.given = usize::try_from(from_ms).unwrap_or(usize::MAX).saturating_mul(PER_MS).min(item.sound.len());
            (item.heard_ms, item.utterance, item.is_complete) = (from_ms, None, false);
        }
        while self.items.front().is_some_and(Item::is_heard) {
            self.items.pop_front();
        }
    }

    /// Everything, oldest first; nothing of it is said any more.
    pub(super) fn take(&mut self) -> VecDeque<Item> {
        self.is_stopped = false;
        std::mem::take(&mut self.items)
    }

    /// True when nothing is left to be heard.
    pub(super) fn is_empty(&self) -> bool {
        self.items.iter().all(|item| item.is_ended && item.sound.is_empty())
    }

    /// True while something with sound is being said, or can go on.
    pub(super) fn is_speaking(&self) -> bool {
        self.items.iter().any(|item| !item.sound.is_empty())
    }

    /// True while something is being said that must not be interrupted.
    pub(super) fn is_protected(&self) -> bool {
        self.items.front().is_some_and(|item| item.is_protected && !item.sound.is_empty())
    }

    /// Of the utterance that is being played, so much was heard by `now`, ms; `None` when none is.
    pub(super) fn heard_of_utterance(&self, now: Instant) -> Option<u64> {
        if self.is_stopped {
            return None;
        }
        let (_, base_ms) = self.items.front()?.utterance?;
        Some(self.heard_now(now)?.saturating_sub(base_ms))
    }

    /// So much of the oldest item was heard by `now`, ms: what was reported, and the time since, but no more than the
    /// distance of reports.
    fn heard_now(&self, now: Instant) -> Option<u64> {
        let item = self.items.front()?;
        if self.is_stopped || item.utterance.is_none() {
            return Some(item.heard_ms);
        }
        let since = now.saturating_duration_since(item.reported).min(REPORT);
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Some(item.heard_ms.saturating_add(since_ms).min(item.given_ms()))
    }

    fn ahead_ms(&self, now: Instant) -> u64 {
        let given: u64 = self.items.iter().map(Item::given_ms).sum();
        let behind: u64 = self.items.iter().skip(1).map(|item| item.heard_ms).sum();
        given.saturating_sub(behind + self.heard_now(now).unwrap_or(0))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn place(item: &str) -> Place {
        Place { response: "r".to_owned(), item: item.to_owned(), content: 0 }
    }

    fn add(playback: &mut Playback, item: &str, length_ms: usize, now: Instant) {
        playback.sound(Some(&place(item)), false, (&vec![1; length_ms * PER_MS], length_ms as u64), now).unwrap();
    }

    fn given(playback: &mut Playback, now: Instant) -> Vec<usize> {
        std::iter::from_fn(|| playback.give(now))
            .map(|given| match given {
                Given::Sound { codes, .. } => codes.len() / PER_MS,
                Given::End => 0,
            })
            .collect()
    }

    #[test]
    fn items_follow_each_other_and_each_is_over_when_it_was_heard() {
        let (start, mut playback) = (Instant::now(), Playback::default());
        add(&mut playback, "a", 1000, start);
        assert_eq!(given(&mut playback, start), [1000]);
        add(&mut playback, "b", 500, start);
        playback.end("r");
        assert_eq!(given(&mut playback, start), [0, 500, 0]);
        assert_eq!(playback.heard_of_utterance(start + ms(900)), Some(200));
        playback.report(1, 980, false, start + ms(1000));
        assert_eq!(playback.finished(start + ms(1000)).map(|item| item.heard_ms()), Some(1000));
        assert!(playback.finished(start + ms(1100)).is_none());
        assert_eq!(playback.heard_of_utterance(start + ms(1100)), Some(100));
        // Reports are missing.
        assert_eq!(playback.deadline(), Some(start + ms(6500)));
        assert!(playback.finished(start + ms(6500)).is_some() && playback.is_empty());
    }

    #[test]
    fn what_was_stopped_is_heard_as_far_as_was_cleared_and_can_go_on_from_a_word() {
        let (start, mut playback) = (Instant::now(), Playback::default());
        add(&mut playback, "a", 2000, start);
        Playback::words(playback.item(Some(&place("a")), false, start), "aaaa bbbb cccc dddd", false);
        playback.end("r");
        given(&mut playback, start);
        playback.report(1, 800, false, start + ms(800));
        playback.stop(start + ms(900));
        assert!(!playback.report(1, 1000, false, start + ms(901)), "older than the stop");
        assert!(playback.report(1, 860, true, start + ms(910)));
        assert!(playback.give(start + ms(910)).is_none());
        playback.go_on();
        // "bbbb" begins at 5 of 19 characters.
        assert_eq!(given(&mut playback, start + ms(1500)), [2000 - 526, 0]);
        playback.report(2, 274, false, start + ms(1800));
        playback.stop(start + ms(1800));
        let item = playback.take().pop_front().unwrap();
        assert_eq!((item.heard_ms(), item.heard_text().as_str(), item.is_heard()), (800, "aaaa bbbb", false));
    }

    #[test]
    fn a_flood_is_refused_and_little_is_given_ahead() {
        let (start, mut playback) = (Instant::now(), Playback::default());
        for _ in 0..240 {
            add(&mut playback, "a", 1000, start);
        }
        let more = vec![1; PER_MS];
        assert_eq!(playback.sound(Some(&place("a")), false, (&more, 1), start), Err(Flood));
        assert_eq!(given(&mut playback, start), [20_000]);
        playback.report(1, 5000, false, start + ms(5000));
        assert_eq!(given(&mut playback, start + ms(5000)), [20_000]);
    }

    #[test]
    fn what_was_heard_is_never_more_than_was_received() {
        let (start, mut playback) = (Instant::now(), Playback::default());
        // The filter of 24 kHz pads what it made.
        playback.sound(Some(&place("a")), false, (&[1; 160 * 10], 190), start).unwrap();
        given(&mut playback, start);
        playback.report(1, 5000, false, start + ms(100));
        assert_eq!(playback.take()[0].heard_ms(), 190);
    }
}
