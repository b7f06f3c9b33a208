//! What a remote agent says, on its way to the caller: sound and texts in their order, whose numbers are whose, and how much
//! of it was heard. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use proto::agent::v1::{Played, Say};

use super::audio::{Audio, Broken};
use crate::agent::{Act, Report};

mod utterance;

use utterance::{ROUNDING_US, Utterance, transcript};

/// Sound that may be ahead of what the caller has heard. An agent that sends more does not look at what is played.
const MAX_AHEAD_US: u64 = 60 * SECOND;

/// Of that, sound that is given out: the reply queue holds more.
const MAX_GIVEN_US: u64 = 20 * SECOND;

/// Messages that may wait, however little is in each.
pub(super) const MAX_WAITING: usize = 8192;

/// Texts that may wait.
pub(super) const MAX_TEXTS: usize = 64;

/// Texts by order that may wait, beyond those of the agent.
const MAX_ORDERED: usize = 8;

/// Messages that one of them takes: it ends an utterance and begins another.
const ORDER: usize = 5;

/// Longest text, in characters: what voices take in one go.
pub(super) const MAX_TEXT_CHARS: usize = 4000;

/// Utterances whose playback is followed; of older ones nothing is told any more.
const MAX_FOLLOWED: usize = 64;

/// Reports may be missing: sound that was given out so long ago, beyond its length, was heard.
const UNREPORTED: Duration = Duration::from_secs(5);

/// Microseconds.
pub(super) const SECOND: u64 = 1_000_000;

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Nothing, or not yet.
    Nothing,
    /// This sound; [`Said::give`] is told when it is given out.
    Sound(Audio),
    /// The voice of the text with this id: its sound is told likewise, its end by [`Said::end_text`].
    Text(u64),
    /// This act.
    Act(Act),
}

#[derive(Debug)]
enum Item {
    Begin(Option<u64>),
    Sound(Audio),
    Text { id: u64, text: String, is_ordered: bool },
    End,
    Ending(Act),
}

/// Everything that one agent says in one call.
#[derive(Debug, Default)]
pub(super) struct Said {
    waiting: VecDeque<Item>,
    waiting_us: u64,
    /// The agent's own, and those by order.
    texts: usize,
    ordered: usize,
    /// The number of the utterance that the agent is in the middle of.
    open: Option<u64>,
    /// What is still sent under this number was interrupted.
    muted: Option<u64>,
    /// What was dropped for that, in microseconds.
    pub(super) muted_us: u64,
    /// The utterance whose sound is being given out.
    current: Option<Utterance>,
    /// Those that are wholly given out, oldest first.
    playing: VecDeque<Utterance>,
    begun: u64,
    text_ids: u64,
    given_at: Option<Instant>,
    /// Heard since the newest silence.
    heard_us: u64,
    /// The agent has ended the call: nothing counts any more.
    ended: bool,
    /// What the agent is to be told, and what is worth telling.
    told: VecDeque<Played>,
    reports: VecDeque<Report>,
}

impl Said {
    /// The agent sent sound. True when it belongs to what was interrupted, and was dropped.
    pub(super) fn on_audio(&mut self, utterance: u64, audio: Audio) -> Result<bool, Broken> {
        if self.is_muted(utterance) {
            self.muted_us += audio.us();
            return Ok(true);
        }
        self.open(utterance);
        self.waiting_us += audio.us();
        self.push(Item::Sound(audio))?;
        if self.ahead_us() > MAX_AHEAD_US { Err(Broken::TooFarAhead) } else { Ok(false) }
    }

    /// The agent sent a text; its id, or `None` when it was dropped.
    pub(super) fn on_say(&mut self, say: Say) -> Result<Option<u64>, Broken> {
        if say.text.chars().count() > MAX_TEXT_CHARS {
            return Err(Broken::TextTooLong);
        }
        if self.is_muted(say.utterance) || say.text.trim().is_empty() {
            return Ok(None);
        }
        self.open(say.utterance);
        if self.texts >= MAX_TEXTS {
            return Err(Broken::TooFarAhead);
        }
        self.texts += 1;
        self.text_ids += 1;
        self.push(Item::Text { id: self.text_ids, text: say.text, is_ordered: false })?;
        Ok(Some(self.text_ids))
    }

    /// A text is to be said as an utterance of its own, which is not the agent's and takes none of its room; its id, or `None`
    /// when too many wait.
    pub(super) fn order(&mut self, text: &str) -> Option<u64> {
        if self.ordered >= MAX_ORDERED {
            return None;
        }
        self.ordered += 1;
        self.close();
        self.waiting.push_back(Item::Begin(None));
        self.text_ids += 1;
        self.waiting.push_back(Item::Text { id: self.text_ids, text: text.to_owned(), is_ordered: true });
        self.waiting.push_back(Item::End);
        Some(self.text_ids)
    }

    /// The agent completed its utterance.
    pub(super) fn on_end(&mut self) {
        self.muted = None;
        self.close();
    }

    /// The agent ends the call, after what it said or at once.
    pub(super) fn on_ending(&mut self, act: Act, after_playback: bool) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.on_end();
        if !after_playback {
            self.waiting.clear();
            (self.waiting_us, self.texts, self.ordered) = (0, 0, 0);
        }
        self.waiting.push_back(Item::Ending(act));
    }

    /// What was said and not heard is worthless, by the agent's own word or (`mute`) by ours: then what it still sends of the
    /// open utterance is so too. The agent's newest number, or 0, when there was anything. An end that waited for all that
    /// comes now: the agent says nothing more.
    pub(super) fn cut(&mut self, mute: bool) -> Option<u64> {
        let open = self.open.take();
        let unheard = self.current.as_ref().or(self.playing.back()).filter(|utterance| !utterance.cut);
        let mut is_anything = unheard.is_some();
        let mut newest = unheard.and_then(|utterance| utterance.theirs);
        for item in std::mem::take(&mut self.waiting) {
            match item {
                Item::Ending(_) => {
                    self.waiting.push_back(item);
                    continue;
                }
                Item::Begin(Some(theirs)) => {
                    newest = Some(theirs);
                    self.told.push_back(Played { utterance: theirs, ms: 0, cleared: true });
                }
                Item::Begin(None) | Item::Sound(_) | Item::Text { .. } | Item::End => {}
            }
            is_anything = true;
        }
        (self.waiting_us, self.texts, self.ordered) = (0, 0, 0);
        if mute {
            self.muted = open;
        }
        // What was given out is told of by whoever plays it.
        if let Some(current) = self.current.take() {
            self.follow(current);
        }
        for utterance in &mut self.playing {
            (utterance.complete, utterance.cut) = (true, true);
        }
        is_anything.then(|| newest.or(open).unwrap_or_default())
    }

    /// What comes next.
    pub(super) fn next(&mut self) -> Next {
        loop {
            let is_far = self.given_us() >= MAX_GIVEN_US;
            match self.waiting.front() {
                None => return Next::Nothing,
                Some(Item::Sound(_) | Item::Text { .. }) if is_far => return Next::Nothing,
                Some(Item::Text { id, .. }) => return Next::Text(*id),
                Some(Item::Begin(_) | Item::Sound(_) | Item::End | Item::Ending(_)) => {}
            }
            match self.waiting.pop_front() {
                Some(Item::Begin(theirs)) => {
                    let (complete, cut, text) = (false, false, String::new());
                    self.current = Some(Utterance { theirs, ours: 0, given_us: 0, heard_us: 0, complete, cut, text });
                }
                Some(Item::Sound(audio)) => {
                    self.waiting_us = self.waiting_us.saturating_sub(audio.us());
                    return Next::Sound(audio);
                }
                Some(Item::End) => {
                    if let Some(mut current) = self.current.take().filter(|current| current.ours > 0) {
                        current.complete = true;
                        self.follow(current);
                        return Next::Act(Act::EndUtterance);
                    }
                }
                Some(Item::Ending(act)) => return Next::Act(act),
                Some(Item::Text { .. }) | None => {}
            }
        }
    }

    /// Sound of `us` microseconds is given out at `now`; it is of the text that is next where `is_text`. True when it is the
    /// first after a silence.
    pub(super) fn give(&mut self, us: u64, is_text: bool, now: Instant) -> bool {
        let is_silent = self.playing.iter().all(|utterance| utterance.cut);
        let Some(current) = &mut self.current else { return false };
        let begins = is_silent && current.ours == 0;
        if begins {
            self.heard_us = 0;
        }
        if current.ours == 0 {
            self.begun += 1;
            current.ours = self.begun;
        }
        current.given_us += us;
        self.given_at = Some(now);
        if let Some(Item::Text { text, .. }) = self.waiting.front_mut().filter(|_| is_text) {
            // Each text counts once, with its first sound.
            let text = std::mem::take(text);
            if !current.text.is_empty() && !text.is_empty() {
                current.text.push(' ');
            }
            current.text.push_str(&text);
        }
        begins
    }

    /// The voice of the text that is next has ended.
    pub(super) fn end_text(&mut self) {
        if let Some(Item::Text { is_ordered, .. }) = self.waiting.front() {
            let counted = if *is_ordered { &mut self.ordered } else { &mut self.texts };
            *counted = counted.saturating_sub(1);
            self.waiting.pop_front();
        }
    }

    /// The texts that wait, in their order.
    pub(super) fn texts(&self) -> impl Iterator<Item = (u64, &str)> {
        self.waiting.iter().filter_map(|item| match item {
            Item::Text { id, text, .. } => Some((*id, text.as_str())),
            Item::Begin(_) | Item::Sound(_) | Item::End | Item::Ending(_) => None,
        })
    }

    /// So much of our utterance `ours` was heard; `cleared` when the rest was thrown away.
    pub(super) fn played(&mut self, ours: u64, ms: u64, cleared: bool) {
        let followed = self.playing.iter_mut().chain(self.current.as_mut());
        let Some(utterance) = followed.into_iter().find(|utterance| utterance.ours == ours) else { return };
        let before = utterance.heard_us;
        utterance.heard_us = before.max(ms.saturating_mul(1000)).min(utterance.given_us);
        self.heard_us += utterance.heard_us - before;
        if let Some(theirs) = utterance.theirs {
            self.told.push_back(Played { utterance: theirs, ms, cleared });
        }
        let is_heard = utterance.complete && utterance.heard_us + ROUNDING_US >= utterance.given_us;
        if cleared || is_heard {
            let at = self.playing.iter().position(|utterance| utterance.ours == ours);
            if let Some(utterance) = at.and_then(|at| self.playing.remove(at)) {
                self.reports.extend(transcript(&utterance, cleared));
            }
        }
    }

    /// Time passed: what should have been heard long ago was.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            for utterance in std::mem::take(&mut self.playing) {
                self.reports.extend(transcript(&utterance, utterance.cut));
            }
        }
    }

    /// When to call [`Said::tick`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        let given_at = self.given_at.filter(|_| !self.playing.is_empty())?;
        let left: u64 = self.playing.iter().map(Utterance::ahead_us).sum();
        Some(given_at + Duration::from_micros(left) + UNREPORTED)
    }

    /// Nothing is being said, and nothing waits to be.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.current.is_none() && self.playing.iter().all(|utterance| utterance.cut)
    }

    /// The agent has ended the call.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Of the sound since the newest silence, milliseconds that were heard by now.
    pub(super) const fn heard_ms(&self) -> u64 {
        self.heard_us / 1000
    }

    /// What the agent is to be told.
    pub(super) fn poll_told(&mut self) -> Option<Played> {
        self.told.pop_front()
    }

    /// What is worth telling.
    pub(super) fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// The call is over: what was said, as far as it was heard.
    pub(super) fn finish(&mut self) -> Vec<Report> {
        let heard = self.playing.drain(..).chain(self.current.take());
        let heard: Vec<_> = heard.filter_map(|utterance| transcript(&utterance, true)).collect();
        self.reports.drain(..).chain(heard).collect()
    }

    fn is_muted(&mut self, utterance: u64) -> bool {
        if self.muted.is_some_and(|muted| muted != utterance) {
            self.muted = None;
        }
        self.muted.is_some() || self.ended
    }

    fn open(&mut self, utterance: u64) {
        if self.open != Some(utterance) {
            self.close();
            self.waiting.push_back(Item::Begin(Some(utterance)));
            self.open = Some(utterance);
        }
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.waiting.push_back(Item::End);
        }
    }

    fn push(&mut self, item: Item) -> Result<(), Broken> {
        self.waiting.push_back(item);
        let most = MAX_WAITING + MAX_ORDERED * ORDER;
        if self.waiting.len() > most { Err(Broken::TooFarAhead) } else { Ok(()) }
    }

    fn follow(&mut self, utterance: Utterance) {
        if utterance.ours == 0 {
            // Nothing of it was given out.
            if let Some(theirs) = utterance.theirs {
                self.told.push_back(Played { utterance: theirs, ms: 0, cleared: true });
            }
            return;
        }
        if self.playing.len() >= MAX_FOLLOWED {
            self.playing.pop_front();
        }
        self.playing.push_back(utterance);
    }

    /// Given out and not heard.
    fn given_us(&self) -> u64 {
        self.playing.iter().chain(&self.current).map(Utterance::ahead_us).sum()
    }

    /// The agent's own, given out or not.
    fn ahead_us(&self) -> u64 {
        let own = self.playing.iter().chain(&self.current).filter(|utterance| utterance.theirs.is_some());
        own.map(Utterance::ahead_us).sum::<u64>() + self.waiting_us
    }
}

#[cfg(test)]
mod tests;
