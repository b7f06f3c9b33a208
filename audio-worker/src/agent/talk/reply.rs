//! One answer on its way from words to sound: pieces of text, clauses, voices, and the sound that is there so far.
//!
//! Its clock is its own sound, in ticks of 1/7,056,000 s, which all known rates divide.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Instant,
};

use futures_util::{StreamExt, stream};

use super::{clauses::Clauses, spoken::Spoken};
use crate::{
    agent::{
        Act, Stage,
        brain::{Answer, Piece},
        report::ToolReport,
    },
    provider::{ProviderError, Sound, Streaming, TextToSpeech},
};

mod sound;

pub(super) use sound::Given;
use sound::{Chunk, TICKS, TICKS_PER_MS, sound_ticks, ticks};

/// Voices at work for one answer: the one that is heard next and the one after it.
const VOICES: usize = 2;

/// Clauses that may wait for a voice; beyond it the answer is not read on.
const MAX_WAITING: usize = 32;

/// Sound that is made ahead of what was given out, in ticks: 20 s. Beyond it voices are not read on.
const MAX_AHEAD: u64 = 20 * TICKS;

/// Sound before the position that was heard which is kept, to go on from the beginning of a word: 5 s.
const KEPT: u64 = 5 * TICKS;

/// Most sound that is given out in one go: 0.5 s.
const PORTION: u64 = TICKS / 2;

/// An answer that is being made.
pub(super) struct Reply {
    answer: Option<Answer>,
    clauses: Clauses,
    waiting: VecDeque<Waiting>,
    voices: VecDeque<Voice>,
    spoken: Spoken,
    sound: VecDeque<Chunk>,
    /// Ticks of sound that are not kept any more, that there are in all, and that were given out.
    dropped: u64,
    made: u64,
    given: u64,
    is_protected: bool,
    /// Keys that are to be played, each with its place in the sound.
    keys: VecDeque<(u64, String)>,
    called: Vec<ToolReport>,
    ending: Option<Act>,
    fault: Option<(Stage, ProviderError)>,
    first_token: Option<Instant>,
    first_audio: Option<Instant>,
    apologises: bool,
    tokens: u64,
}

/// An answer of one text.
pub(super) fn say(text: String) -> Answer {
    Box::pin(stream::iter([Ok(Piece::Say(text))]))
}

/// What waits for a voice.
enum Waiting {
    Words(String),
    /// Keys that are played where it would be.
    Keys(String),
}

/// A clause that is being put into sound.
struct Voice {
    text: Option<Waiting>,
    stream: Streaming<Sound>,
    /// What came while another voice was to be heard first.
    early: VecDeque<Sound>,
    early_ticks: u64,
    is_done: bool,
}

impl Reply {
    pub(super) fn new(answer: Answer) -> Self {
        Self {
            answer: Some(answer),
            clauses: Clauses::default(),
            waiting: VecDeque::new(),
            voices: VecDeque::new(),
            spoken: Spoken::default(),
            sound: VecDeque::new(),
            dropped: 0,
            made: 0,
            given: 0,
            is_protected: false,
            keys: VecDeque::new(),
            called: Vec::new(),
            ending: None,
            fault: None,
            first_token: None,
            first_audio: None,
            apologises: false,
            tokens: 0,
        }
    }

    /// A reply that only apologises.
    pub(super) fn apology(text: &str) -> Self {
        Self { apologises: true, ..Self::new(say(text.to_owned())) }
    }

    /// Reads on: true when something came of it.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        voice: &dyn TextToSpeech,
        language: &str,
        now: Instant,
    ) -> bool {
        let mut moved = false;
        while self.read_answer(cx, now) || self.hire_voice(voice, language) || self.read_voices(cx, now) {
            moved = true;
        }
        moved
    }

    /// Adds words behind all others, when the answer can come to no good end any more.
    pub(super) fn say_instead(&mut self, text: &str) {
        self.answer = None;
        self.apologises = true;
        self.waiting.push_back(Waiting::Words(text.to_owned()));
    }

    /// The next of its sound; of PCM, as much as is of one rate. `None` when there is none yet.
    pub(super) fn give(&mut self, pcm: &mut Vec<i16>) -> Option<Given> {
        if let Some((_, keys)) = self.keys.pop_front_if(|(at, _)| *at <= self.given) {
            return Some(Given::Keys(keys));
        }
        let (mut at, mut given) = (self.dropped, None);
        let end = self.keys.front().map_or(u64::MAX, |(at, _)| *at).min(self.given + PORTION);
        for chunk in &self.sound {
            let (tick, length) = (ticks(chunk.rate()), chunk.ticks());
            let from = self.given.max(at).saturating_sub(at) / tick;
            at += length;
            if at <= self.given {
                continue;
            }
            if self.given >= end {
                break;
            }
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(chunk.samples());
            let most = usize::try_from((end - self.given).div_ceil(tick)).unwrap_or(usize::MAX);
            let part = from..chunk.samples().min(from.saturating_add(most));
            let samples = part.len() as u64;
            match chunk {
                Chunk::Pcm(rate, samples) if given.as_ref().is_none_or(|given| *given == Given::Pcm(*rate)) => {
                    pcm.extend_from_slice(&samples[part]);
                    given = Some(Given::Pcm(*rate));
                }
                Chunk::Mulaw(codes) if given.is_none() => {
                    self.given += samples * tick;
                    return Some(Given::Mulaw(codes.slice(part)));
                }
                Chunk::Pcm(..) | Chunk::Mulaw(_) => break,
            }
            self.given += samples * tick;
        }
        given
    }

    /// So much of it was heard: what is needed no more is dropped.
    pub(super) fn heard_to(&mut self, ms: u64) {
        let keep = (ms * TICKS_PER_MS).saturating_sub(KEPT).min(self.given);
        while let Some(first) = self.sound.front().map(Chunk::ticks).filter(|length| self.dropped + length <= keep) {
            self.sound.pop_front();
            self.dropped += first;
        }
    }

    /// Goes on from the beginning of the word that sounded at `ms`; where that is, in ms.
    pub(super) fn rewind(&mut self, ms: u64) -> u64 {
        let at = self.spoken.resume_at(ms, self.made_ms()) * TICKS_PER_MS;
        self.given = at.clamp(self.dropped, self.made);
        self.given / TICKS_PER_MS
    }

    /// The words that were heard, when so much was played.
    pub(super) fn heard(&self, ms: u64) -> String {
        self.spoken.heard(ms, self.made_ms())
    }

    /// All words that have a voice.
    pub(super) fn whole(&self) -> String {
        self.spoken.whole()
    }

    /// True once there is sound to give, or there never will be any.
    pub(super) fn can_begin(&self) -> bool {
        self.given < self.made || self.is_made()
    }

    /// True once all of its sound is there.
    pub(super) fn is_made(&self) -> bool {
        self.answer.is_none() && self.waiting.is_empty() && self.voices.is_empty()
    }

    /// True once all of its sound was given out.
    pub(super) fn is_given(&self) -> bool {
        self.is_made() && self.given == self.made && self.keys.is_empty()
    }

    /// Length of the sound that is there, in ms.
    pub(super) const fn made_ms(&self) -> u64 {
        self.made / TICKS_PER_MS
    }

    /// Of that, what was given out.
    pub(super) const fn given_ms(&self) -> u64 {
        self.given / TICKS_PER_MS
    }

    pub(super) const fn is_protected(&self) -> bool {
        self.is_protected
    }

    /// What went wrong since this was last asked.
    pub(super) const fn take_fault(&mut self) -> Option<(Stage, ProviderError)> {
        self.fault.take()
    }

    /// Keys that are still to be played.
    pub(super) fn take_keys(&mut self) -> impl Iterator<Item = String> {
        self.keys.drain(..).map(|(_, keys)| keys)
    }

    /// The tools that were called since this was last asked.
    pub(super) fn take_called(&mut self) -> Vec<ToolReport> {
        std::mem::take(&mut self.called)
    }

    /// How the call ends after it.
    pub(super) const fn take_ending(&mut self) -> Option<Act> {
        self.ending.take()
    }

    /// True when something went wrong with it.
    pub(super) const fn apologises(&self) -> bool {
        self.apologises
    }

    /// Pieces of text that it consists of so far.
    pub(super) const fn tokens(&self) -> u64 {
        self.tokens
    }

    /// When its first word and its first sound came.
    pub(super) const fn firsts(&self) -> (Option<Instant>, Option<Instant>) {
        (self.first_token, self.first_audio)
    }

    fn read_answer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        let Some(answer) = &mut self.answer else { return false };
        match answer.poll_next_unpin(cx) {
            Poll::Pending => return false,
            Poll::Ready(Some(Ok(Piece::Say(text)))) => {
                if !text.is_empty() {
                    self.first_token.get_or_insert(now);
                    self.tokens += 1;
                }
                self.clauses.push(&text);
                self.waiting.extend(std::iter::from_fn(|| self.clauses.next()).map(Waiting::Words));
            }
            Poll::Ready(Some(Ok(Piece::Pause))) => self.end_clause(),
            Poll::Ready(Some(Ok(Piece::Digits(keys)))) => {
                self.end_clause();
                self.waiting.push_back(Waiting::Keys(keys));
            }
            Poll::Ready(Some(Ok(Piece::Called(report)))) => self.called.push(report),
            Poll::Ready(Some(Ok(Piece::Protect))) => self.is_protected = true,
            Poll::Ready(Some(Ok(Piece::Hangup { reason }))) => {
                self.ending = Some(Act::Hangup { reason, after_playback: true });
            }
            Poll::Ready(Some(Ok(Piece::Transfer { to }))) => {
                self.ending = Some(Act::Transfer { to, after_playback: true });
            }
            Poll::Ready(None) => {
                self.answer = None;
                self.end_clause();
            }
            Poll::Ready(Some(Err(error))) => {
                self.answer = None;
                self.end_clause();
                self.fault = Some((Stage::Chat, error));
            }
        }
        true
    }

    /// No further words belong to the last ones.
    fn end_clause(&mut self) {
        self.waiting.extend(self.clauses.finish().map(Waiting::Words));
    }

    fn hire_voice(&mut self, voice: &dyn TextToSpeech, language: &str) -> bool {
        if self.voices.len() >= VOICES {
            return false;
        }
        let Some(text) = self.waiting.pop_front() else { return false };
        let stream = match &text {
            Waiting::Words(text) => voice.speak(text, language),
            Waiting::Keys(_) => Box::pin(stream::empty()),
        };
        let early = VecDeque::new();
        self.voices.push_back(Voice { text: Some(text), stream, early, early_ticks: 0, is_done: false });
        true
    }

    fn read_voices(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        for at in 0..self.voices.len() {
            let voice = &mut self.voices[at];
            while !voice.is_done && self.made + voice.early_ticks < self.given + MAX_AHEAD {
                match voice.stream.poll_next_unpin(cx) {
                    Poll::Pending => break,
                    Poll::Ready(None) => voice.is_done = true,
                    Poll::Ready(Some(Ok(sound))) => {
                        voice.early_ticks += sound_ticks(&sound);
                        voice.early.push_back(sound);
                    }
                    Poll::Ready(Some(Err(error))) => {
                        // What comes after a hole makes no sense; what is there is said.
                        self.fault = Some((Stage::TextToSpeech, error));
                        self.answer = None;
                        self.waiting.clear();
                        voice.is_done = true;
                        self.voices.truncate(at + 1);
                        moved = true;
                        break;
                    }
                }
                moved = true;
            }
            if at >= self.voices.len() {
                break;
            }
        }
        while let Some(mut voice) = self.voices.pop_front() {
            match voice.text.take() {
                Some(Waiting::Words(text)) => self.spoken.begin(text, self.made_ms()),
                Some(Waiting::Keys(keys)) => {
                    self.keys.push_back((self.made, keys));
                    moved = true;
                    continue;
                }
                None => {}
            }
            voice.early_ticks = 0;
            for sound in voice.early.drain(..) {
                self.take(sound, now);
            }
            if !voice.is_done {
                self.voices.push_front(voice);
                break;
            }
            self.spoken.end(self.made_ms());
            moved = true;
        }
        moved
    }

    fn take(&mut self, sound: Sound, now: Instant) {
        match sound {
            Sound::Word { text, from_ms, to_ms } => self.spoken.word(&text, from_ms, to_ms),
            Sound::Pcm(rate, pcm) => self.add(Chunk::Pcm(rate, pcm), now),
            Sound::Mulaw(codes) => self.add(Chunk::Mulaw(codes), now),
        }
    }

    fn add(&mut self, chunk: Chunk, now: Instant) {
        if chunk.samples() > 0 {
            self.first_audio.get_or_insert(now);
            self.made += chunk.ticks();
            self.sound.push_back(chunk);
        }
    }
}

#[cfg(test)]
mod tests;
