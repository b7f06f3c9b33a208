//! Which sound a text of ElevenLabs belongs to, and when sound is committed. Pure.
//!
//! Its texts come without times: a partial one is of all that is not committed, a committed one of all up to the commit.
//! So places are counted here, in bytes of mu-law since the session's first.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::message::{self, Heard};
use crate::provider::{
    ProviderError,
    listening::{Recognised, Stretch, TimedWord, socket::Dialect},
};

/// Bytes in a millisecond.
const PER_MS: u64 = 8;

/// Sound that is sent at once, as in its own examples: 100 ms. What is left leaves with the order to commit.
const PIECE_BYTES: usize = 100 * PER_MS as usize;

/// With less it refuses to commit: 0.3 s.
const LEAST_COMMIT: u64 = 300 * PER_MS;

/// It commits by itself after a while (90 s, it says; others saw 36 s), wherever that is in a word; so silence is found
/// before, for words that belong to no turn soon, and for what has none.
const TIDY_WORDS: u64 = 10_000 * PER_MS;
const TIDY_SILENCE: u64 = 20_000 * PER_MS;

/// Without a voice for so long nobody is in the middle of a word, and a voice after it is of another stretch of speech.
const PAUSE: u64 = 1000 * PER_MS;

/// What was committed is told once more as partial within this time.
const ECHO: u64 = 1000 * PER_MS;

/// How long the times of words are waited for, in sound; they come about 100 ms after the words.
const TIMES_WAIT: u64 = 1000 * PER_MS;

/// Times that are further off the sound that they belong to are of no use.
const SLACK_MS: u64 = 1000;

/// Commits that are not answered; it is given up long before.
const MAX_ASKED: usize = 16;

/// One session's sound, and how far it is understood.
#[derive(Debug)]
pub(super) struct Segments {
    /// The server commits by its own ears, and that is an end of the speech.
    ends: bool,
    /// All that came.
    heard: u64,
    /// The end of it, which was not sent yet.
    waiting: Vec<u8>,
    /// Up to where it was asked to commit, or did.
    cut: u64,
    /// Up to where words are committed.
    committed: u64,
    /// The places of commits that are not answered.
    asked: VecDeque<u64>,
    /// A commit is wanted once there is enough for it.
    owed: bool,
    /// Where our own ears heard a voice last.
    voice: Option<u64>,
    /// What is understood of what is not committed.
    partial: Option<Stretch>,
    /// Some of that was said in an earlier stretch of speech, so that times are needed to tell one from the other.
    has_earlier: bool,
    /// The words that were committed last.
    last: String,
    /// Committed words that wait for their times, until this place.
    held: Option<(Stretch, u64)>,
    /// Times that came before their words.
    early: Option<(String, Vec<TimedWord>)>,
}

impl Segments {
    /// `ends` is whether the server was asked to find ends of speech.
    pub(super) const fn new(ends: bool) -> Self {
        Self {
            ends,
            heard: 0,
            waiting: Vec::new(),
            cut: 0,
            committed: 0,
            asked: VecDeque::new(),
            owed: false,
            voice: None,
            partial: None,
            has_earlier: false,
            last: String::new(),
            held: None,
            early: None,
        }
    }

    fn sent(&self) -> u64 {
        self.heard - self.waiting.len() as u64
    }

    fn hand_over(&mut self, commit: bool) -> Message {
        if commit {
            (self.owed, self.cut) = (false, self.heard);
            self.asked.push_back(self.heard);
            if self.asked.len() > MAX_ASKED {
                self.asked.pop_front();
            }
        }
        Message::text(message::chunk(&std::mem::take(&mut self.waiting), commit))
    }

    fn is_untidy(&self) -> bool {
        let open = self.heard - self.cut;
        let is_much = open >= TIDY_SILENCE || (open >= TIDY_WORDS && self.partial.is_some());
        is_much && !self.ends && self.voice.is_none_or(|voice| self.heard - voice >= PAUSE)
    }

    fn on_partial(&mut self, text: String) -> Vec<Recognised> {
        let (sent, mut told) = (self.sent(), Vec::new());
        match self.held.take_if(|(_, until)| *until <= sent) {
            Some((stretch, _)) => told.push(Recognised::Final(stretch)),
            // The committed words stand until they are final; a partial text comes again.
            None if self.held.is_some() => return told,
            None => {}
        }
        let is_voiced = self.voice.is_none_or(|voice| voice > self.committed);
        let is_echo = text == self.last && (!is_voiced || sent < self.committed + ECHO);
        if text.is_empty() || is_echo {
            return told;
        }
        // It is told again each second, also in silence: then it is newer by the voice alone that was heard since.
        let known = self.partial.as_ref().filter(|partial| partial.text == text).map(|partial| partial.to_ms);
        let to_ms = ms(if known.is_some() { self.voice.unwrap_or_default().min(sent) } else { sent });
        if known.is_none_or(|known| known < to_ms) {
            let stretch = Stretch { from_ms: ms(self.committed), to_ms, text, words: Vec::new() };
            self.partial = Some(stretch.clone());
            told.push(Recognised::Interim(stretch));
        }
        told
    }

    fn on_committed(&mut self, text: String) -> Vec<Recognised> {
        let held = self.held.take().map(|(stretch, _)| Recognised::Final(stretch));
        let mut told: Vec<_> = held.into_iter().collect();
        let asked = self.asked.pop_front();
        let from_ms = ms(self.committed);
        self.committed = asked.unwrap_or_else(|| self.sent()).max(self.committed);
        self.cut = self.cut.max(self.committed);
        self.partial = None;
        self.last.clone_from(&text);
        let is_end = self.ends && asked.is_none() && !text.is_empty();
        let stretch = Stretch { from_ms, to_ms: ms(self.committed), text, words: Vec::new() };
        let times = self.early.take().filter(|(text, _)| *text == stretch.text).map(|(_, words)| words);
        if !std::mem::take(&mut self.has_earlier) || stretch.text.is_empty() {
            told.push(Recognised::Final(stretch));
        } else if let Some(words) = times {
            told.push(timed(stretch, words));
        } else {
            self.held = Some((stretch.clone(), self.sent() + TIMES_WAIT));
            told.push(Recognised::Interim(stretch));
        }
        if is_end {
            told.push(Recognised::EndOfSpeech { at_ms: ms(self.committed) });
        }
        told
    }

    fn on_timed(&mut self, text: &str, words: Vec<TimedWord>) -> Vec<Recognised> {
        if self.held.is_none() {
            self.early = Some((text.to_owned(), words));
            return Vec::new();
        }
        let held = self.held.take_if(|(stretch, _)| stretch.text == text);
        held.map(|(stretch, _)| timed(stretch, words)).into_iter().collect()
    }
}

impl Dialect for Segments {
    /// In silence it tells nothing, and of a cough neither.
    const JUDGES_ITSELF: bool = true;

    fn sound(&mut self, codes: Bytes) -> Option<Message> {
        self.heard += codes.len() as u64;
        self.waiting.extend_from_slice(&codes);
        let is_due = self.owed && self.heard - self.cut >= LEAST_COMMIT;
        if is_due || self.is_untidy() {
            return Some(self.hand_over(true));
        }
        (self.waiting.len() >= PIECE_BYTES).then(|| self.hand_over(false))
    }

    fn voice(&mut self) {
        let is_new = self.voice.is_none_or(|voice| self.heard - voice > PAUSE);
        self.has_earlier |= is_new && self.partial.is_some();
        self.voice = Some(self.heard);
        // It would fall into a word; whoever wants it asks again.
        self.owed = false;
    }

    fn finalize(&mut self) -> Option<Message> {
        // Two commits of one speech would meet, and the second have too little.
        if self.ends || self.voice.is_some_and(|voice| voice <= self.cut) {
            return None;
        }
        self.owed = self.heard - self.cut < LEAST_COMMIT;
        (!self.owed).then(|| self.hand_over(true))
    }

    fn alive(&mut self) -> Message {
        self.hand_over(false)
    }

    fn goodbye(&mut self) -> Message {
        Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
    }

    fn read(&mut self, text: &str) -> Result<Vec<Recognised>, ProviderError> {
        Ok(match message::read(text)? {
            Heard::Partial(text) => self.on_partial(text),
            Heard::Committed(text) => self.on_committed(text),
            Heard::Timed(text, words) => self.on_timed(&text, words),
            Heard::Throttled => {
                self.asked.pop_front();
                Vec::new()
            }
            Heard::Nothing => Vec::new(),
            Heard::Unreadable(error) => vec![Recognised::Unreadable(error)],
        })
    }

    fn closed(&self, code: u16, reason: &str) -> ProviderError {
        message::closed(code, reason)
    }

    fn owes(&self) -> bool {
        !self.asked.is_empty()
    }
}

/// The millisecond that ends with or after a place.
const fn ms(place: u64) -> u64 {
    place.div_ceil(PER_MS)
}

fn timed(stretch: Stretch, words: Vec<TimedWord>) -> Recognised {
    let words = within(words, stretch.from_ms, stretch.to_ms);
    Recognised::Final(Stretch { words, ..stretch })
}

/// Words at times of their stretch; none where they are of another.
fn within(mut words: Vec<TimedWord>, from_ms: u64, to_ms: u64) -> Vec<TimedWord> {
    let is_off = |word: &TimedWord| word.to_ms + SLACK_MS < from_ms || word.from_ms > to_ms + SLACK_MS;
    if words.iter().any(is_off) {
        return Vec::new();
    }
    for word in &mut words {
        word.from_ms = word.from_ms.clamp(from_ms, to_ms);
        word.to_ms = word.to_ms.clamp(from_ms, to_ms);
    }
    words
}

#[cfg(test)]
mod tests;
