//! The signal path: G.711 mu-law, resampling and key tones, pure functions over caller-owned buffers.

pub mod dtmf;
pub mod mulaw;
mod resample;

pub use resample::{ResampleError, Resampler, resample_clip};

/// A sample rate that the signal path knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SampleRate {
    /// 8000 Hz: the telephone network.
    Hz8000,
    /// 16,000 Hz: speech recognition.
    Hz16000,
    /// 22,050 Hz: half of a compact disc's rate; MP3 of some voices.
    Hz22050,
    /// 24,000 Hz: most synthetic voices.
    Hz24000,
    /// 44,100 Hz: a compact disc's rate; MP3.
    Hz44100,
    /// 48,000 Hz: browsers.
    Hz48000,
}

impl SampleRate {
    /// Every rate, in order.
    pub const ALL: [Self; 6] =
        [Self::Hz8000, Self::Hz16000, Self::Hz22050, Self::Hz24000, Self::Hz44100, Self::Hz48000];

    /// All of them, in words for who names another.
    pub const NAMES: &str = "8000, 16000, 22050, 24000, 44100 or 48000";

    /// The rate in Hz.
    pub const fn hz(self) -> usize {
        match self {
            Self::Hz8000 => 8_000,
            Self::Hz16000 => 16_000,
            Self::Hz22050 => 22_050,
            Self::Hz24000 => 24_000,
            Self::Hz44100 => 44_100,
            Self::Hz48000 => 48_000,
        }
    }

    /// The rate with this many Hz, if it is known.
    pub fn from_hz(hz: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|rate| u32::try_from(rate.hz()) == Ok(hz))
    }

    /// Samples in 20 ms.
    pub const fn block(self) -> usize {
        self.hz() / 50
    }
}
