//! Sound of an answer as it is kept, and its clock.

use bytes::Bytes;

use crate::{dsp::SampleRate, provider::Sound};

/// Ticks in a second, and in a millisecond.
pub(super) const TICKS: u64 = 7_056_000;
pub(super) const TICKS_PER_MS: u64 = TICKS / 1000;

/// Sound of one kind.
pub(super) enum Chunk {
    Pcm(SampleRate, Vec<i16>),
    Mulaw(Bytes),
}

/// A piece of sound that is given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::agent::talk) enum Given {
    /// What was appended to the buffer, at this rate.
    Pcm(SampleRate),
    /// Mu-law at 8 kHz.
    Mulaw(Bytes),
    /// Keys are to be played here.
    Keys(String),
}

impl Chunk {
    pub(super) fn samples(&self) -> usize {
        match self {
            Self::Pcm(_, pcm) => pcm.len(),
            Self::Mulaw(codes) => codes.len(),
        }
    }

    pub(super) const fn rate(&self) -> SampleRate {
        match self {
            Self::Pcm(rate, _) => *rate,
            Self::Mulaw(_) => SampleRate::Hz8000,
        }
    }

    pub(super) fn ticks(&self) -> u64 {
        self.samples() as u64 * ticks(self.rate())
    }
}

/// Ticks of one sample.
pub(super) const fn ticks(rate: SampleRate) -> u64 {
    TICKS / rate.hz() as u64
}

pub(super) fn sound_ticks(sound: &Sound) -> u64 {
    match sound {
        Sound::Pcm(rate, pcm) => pcm.len() as u64 * ticks(*rate),
        Sound::Mulaw(codes) => codes.len() as u64 * ticks(SampleRate::Hz8000),
        Sound::Word { .. } => 0,
    }
}
