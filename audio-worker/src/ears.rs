//! What is heard: whether somebody speaks, window by window, and what stands in for sound that never came.
//!
//! [`Ears`] joins both for one call. Everything is at [`HEARING_RATE`](crate::pipeline::HEARING_RATE).

pub mod concealment;
mod dense;
pub mod echo;
mod ending;
pub mod silero;

pub use concealment::{Concealment, Filled};
pub use silero::Silero;

use ending::Sharp;

/// Samples of one window: 32 ms at 16 kHz.
pub const WINDOW_SAMPLES: usize = 512;

/// From this probability on a window counts as voice: what Silero's authors propose, and the best in `docs/hearing.md`.
pub const VOICE: f32 = 0.5;

/// Below this probability a window is background, whose level comfort noise takes.
const BACKGROUND: f32 = 0.2;

/// Samples in a millisecond.
const PER_MS: u64 = 16;

/// Tells windows with voice from windows without. One detector hears one call: it remembers what came before.
pub trait VoiceActivity: Send {
    /// Probability (0 to 1) that the window of [`WINDOW_SAMPLES`] holds voice. Windows come one after the other.
    fn voice(&mut self, window: &[i16]) -> f32;

    /// Forgets what came before.
    fn reset(&mut self);
}

/// The default detector, for one call. All of a process share its weights.
pub fn detector() -> Box<dyn VoiceActivity> {
    Box::new(Silero::new())
}

/// The same for whoever takes turns: it tells the gaps between words from voice, and the end of a turn at once.
pub fn turn_detector() -> Box<dyn VoiceActivity> {
    Box::new(Sharp::new(Silero::new()))
}

/// What [`Ears`] have heard so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EarsStats {
    /// Samples of media time, with all that is counted below.
    pub samples: u64,
    /// Windows that were judged.
    pub windows: u64,
    /// Windows with [`VOICE`].
    pub voiced: u64,
    /// Gaps.
    pub gaps: u64,
    /// Milliseconds of gaps that were filled with what came before.
    pub concealed_ms: u64,
    /// Milliseconds of gaps that were filled with comfort noise.
    pub comfort_noise_ms: u64,
    /// Milliseconds of gaps in which time passed and nothing was made.
    pub skipped_ms: u64,
}

/// The ears of one call: PCM of any length and gaps in, judged windows out. Nothing is allocated per window.
pub struct Ears {
    detector: Box<dyn VoiceActivity>,
    concealment: Concealment,
    window: [i16; WINDOW_SAMPLES],
    filled: usize,
    stats: EarsStats,
}

impl Ears {
    /// Ears that have heard nothing yet; see [`detector`].
    pub fn new(detector: Box<dyn VoiceActivity>) -> Self {
        Self {
            detector,
            concealment: Concealment::new(),
            window: [0; WINDOW_SAMPLES],
            filled: 0,
            stats: EarsStats::default(),
        }
    }

    /// Takes what came, and hands each window that is full to `each`, with the probability that it holds voice.
    pub fn hear(&mut self, mut pcm: &[i16], mut each: impl FnMut(f32, &[i16])) {
        while !pcm.is_empty() {
            let (taken, rest) = pcm.split_at(pcm.len().min(WINDOW_SAMPLES - self.filled));
            let place = &mut self.window[self.filled..][..taken.len()];
            place.copy_from_slice(taken);
            self.concealment.resume(place);
            self.concealment.hear(place);
            self.advance(taken.len(), &mut each);
            pcm = rest;
        }
    }

    /// Stands in for `ms` for which nothing came, as [`Concealment::fill`] does, and hands out the windows like
    /// [`Ears::hear`]. The work is bounded, however long the gap is.
    pub fn gap(&mut self, ms: u64, mut each: impl FnMut(f32, &[i16])) -> Filled {
        let filled = self.concealment.begin(ms);
        let mut left = filled.samples();
        while left > 0 {
            let place = &mut self.window[self.filled..];
            let length = place.len().min(left);
            self.concealment.make(&mut place[..length]);
            self.advance(length, &mut each);
            left -= length;
        }
        self.stats.samples = self.stats.samples.saturating_add(filled.skipped_ms.saturating_mul(PER_MS));
        self.stats.gaps += u64::from(ms > 0);
        self.stats.concealed_ms += filled.concealed_ms;
        self.stats.comfort_noise_ms += filled.comfort_noise_ms;
        self.stats.skipped_ms = self.stats.skipped_ms.saturating_add(filled.skipped_ms);
        filled
    }

    /// Counts so far.
    pub fn stats(&self) -> EarsStats {
        self.stats
    }

    /// Samples that wait for their window to be full.
    pub fn pending(&self) -> &[i16] {
        &self.window[..self.filled]
    }

    /// Takes account of `samples` more in the window.
    fn advance(&mut self, samples: usize, each: &mut impl FnMut(f32, &[i16])) {
        self.filled += samples;
        self.stats.samples = self.stats.samples.saturating_add(samples as u64);
        if self.filled < WINDOW_SAMPLES {
            return;
        }
        self.filled = 0;
        let voice = self.detector.voice(&self.window);
        self.stats.windows += 1;
        self.stats.voiced += u64::from(voice >= VOICE);
        if voice < BACKGROUND {
            self.concealment.background(&self.window);
        }
        each(voice, &self.window);
    }
}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ears").field("stats", &self.stats).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
