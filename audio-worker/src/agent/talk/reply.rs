//! One answer on its way from words to sound: pieces of text, clauses, voices, and the sound that is there so far.
//!
//! Its clock is its own sound, in ticks of 1/7,056,000 s, which all known rates divide.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{clauses::Clauses, spoken::Spoken};
use crate::{
    agent::{
        Act, Stage,
        brain::{Answer, Piece},
    },
    dsp::SampleRate,
    provider::{ProviderError, Sound, Streaming, TextToSpeech},
};

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

/// Ticks in a second, and in a millisecond.
const TICKS: u64 = 7_056_000;
const TICKS_PER_MS: u64 = TICKS / 1000;

/// An answer that is being made.
pub(super) struct Reply {
    answer: Option<Answer>,
    clauses: Clauses,
    waiting: VecDeque<String>,
    voices: VecDeque<Voice>,
    spoken: Spoken,
    sound: VecDeque<Chunk>,
    /// Ticks of sound that are not kept any more, that there are in all, and that were given out.
    dropped: u64,
    made: u64,
    given: u64,
    is_protected: bool,
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

/// A clause that is being put into sound.
struct Voice {
    text: Option<String>,
    stream: Streaming<Sound>,
    /// What came while another voice was to be heard first.
    early: VecDeque<Sound>,
    early_ticks: u64,
    is_done: bool,
}

/// Sound of one kind.
enum Chunk {
    Pcm(SampleRate, Vec<i16>),
    Mulaw(Bytes),
}

/// A piece of sound that is given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// What was appended to the buffer, at this rate.
    Pcm(SampleRate),
    /// Mu-law at 8 kHz.
    Mulaw(Bytes),
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
        self.waiting.push_back(text.to_owned());
    }

    /// The next of its sound; of PCM, as much as is of one rate. `None` when there is none yet.
    pub(super) fn give(&mut self, pcm: &mut Vec<i16>) -> Option<Given> {
        let (mut at, mut given) = (self.dropped, None);
        let end = self.given + PORTION;
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
        self.is_made() && self.given == self.made
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
                self.waiting.extend(std::iter::from_fn(|| self.clauses.next()));
            }
            Poll::Ready(Some(Ok(Piece::Protect))) => self.is_protected = true,
            Poll::Ready(Some(Ok(Piece::Hangup { reason }))) => {
                self.ending = Some(Act::Hangup { reason, after_playback: true });
            }
            Poll::Ready(Some(Ok(Piece::Transfer { to }))) => {
                self.ending = Some(Act::Transfer { to, after_playback: true });
            }
            Poll::Ready(None) => {
                self.answer = None;
                self.waiting.extend(self.clauses.finish());
            }
            Poll::Ready(Some(Err(error))) => {
                self.answer = None;
                self.waiting.extend(self.clauses.finish());
                self.fault = Some((Stage::Chat, error));
            }
        }
        true
    }

    fn hire_voice(&mut self, voice: &dyn TextToSpeech, language: &str) -> bool {
        if self.voices.len() >= VOICES {
            return false;
        }
        let Some(text) = self.waiting.pop_front() else { return false };
        let stream = voice.speak(&text, language);
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
            if let Some(text) = voice.text.take() {
                self.spoken.begin(text, self.made_ms());
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

impl Chunk {
    fn samples(&self) -> usize {
        match self {
            Self::Pcm(_, pcm) => pcm.len(),
            Self::Mulaw(codes) => codes.len(),
        }
    }

    const fn rate(&self) -> SampleRate {
        match self {
            Self::Pcm(rate, _) => *rate,
            Self::Mulaw(_) => SampleRate::Hz8000,
        }
    }

    fn ticks(&self) -> u64 {
        self.samples() as u64 * ticks(self.rate())
    }
}

/// Ticks of one sample.
const fn ticks(rate: SampleRate) -> u64 {
    TICKS / rate.hz() as u64
}

fn sound_ticks(sound: &Sound) -> u64 {
    match sound {
        Sound::Pcm(rate, pcm) => pcm.len() as u64 * ticks(*rate),
        Sound::Mulaw(codes) => codes.len() as u64 * ticks(SampleRate::Hz8000),
        Sound::Word { .. } => 0,
    }
}

#[cfg(test)]
mod tests;
