//! Rows of keys as in-band tones (DTMF), straight to mu-law at 8 kHz.
//!
//! A row is made piece by piece, as it is sent, from the number of the sample alone: it costs no memory, and no
//! error adds up. Frequencies are those of ITU-T Q.23.

use std::f64::consts::{PI, TAU};

use telemetry::Sensitive;

use super::mulaw;

/// Most keys and pauses of a row.
pub const MAX_KEYS: usize = 64;

/// Length of a tone in samples: 100 ms. Receivers of ITU-T Q.24 need 40.
pub const TONE_SAMPLES: usize = 800;

/// Silence after a tone in samples: 100 ms. Receivers of ITU-T Q.24 need 40.
pub const GAP_SAMPLES: usize = 800;

/// Peak of the lower tone: -11 dBm0, the nominal level (World Tone Database, 3amsystems.com, "Tone dialing"). In G.711
/// a sine of +3.17 dBm0 peaks at 32,636, so both tones together stay 7 dB below clipping.
pub const LOW_PEAK: f64 = 6385.0;

/// Peak of the upper tone: -9 dBm0 (same source). The 2 dB more make up for what lines take from high frequencies.
pub const HIGH_PEAK: f64 = 8039.0;

/// Rows of the keypad, Hz (ITU-T Q.23).
const LOW: [u16; 4] = [697, 770, 852, 941];

/// Columns of the keypad, Hz (ITU-T Q.23).
const HIGH: [u16; 4] = [1209, 1336, 1477, 1633];

/// The keypad.
const KEYPAD: [[char; 4]; 4] = [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// Samples in which a tone comes up, and goes down: 2 ms of a raised cosine, so that nothing clicks.
const RAMP_SAMPLES: usize = 16;

/// Samples per second.
const RATE: f64 = 8000.0;

/// A row of keys that is being played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Keys may be somebody's PIN.
    keys: Sensitive<Box<[Key]>>,
    /// The key that is next, and how many of its samples were taken.
    at: usize,
    taken: usize,
    left: usize,
}

/// What cannot be played. It names places, never keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Nothing to play.
    #[error("digits: there is none; give 1 to {MAX_KEYS} of 0-9, *, #, A-D, w (0.5 s pause), W (1 s pause)")]
    Empty,
    /// Too many, of this length.
    #[error("digits: {0} are too many; at most {MAX_KEYS} are played in one go")]
    TooMany(usize),
    /// The key at this place, counted from 1, does not exist.
    #[error("digits: number {0} is none of 0-9, *, #, A-D, w (0.5 s pause), W (1 s pause)")]
    NoSuchKey(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Two frequencies, Hz.
    Tone { low: u16, high: u16 },
    /// Samples of silence.
    Pause(usize),
}

impl Keys {
    /// Reads a row: 0-9, *, #, A-D, `w` for half a second of pause and `W` for one (as in Twilio's `SendDigits`).
    ///
    /// # Errors
    /// When it is empty, too long or has another character.
    pub fn parse(digits: &str) -> Result<Self, KeysError> {
        let count = digits.chars().count();
        if count == 0 {
            return Err(KeysError::Empty);
        }
        if count > MAX_KEYS {
            return Err(KeysError::TooMany(count));
        }
        let key = |(at, digit)| Key::of(digit).ok_or(KeysError::NoSuchKey(at + 1));
        let keys: Box<[Key]> = digits.chars().enumerate().map(key).collect::<Result<_, _>>()?;
        let left = keys.iter().map(|key| key.samples()).sum();
        Ok(Self { keys: keys.into(), at: 0, taken: 0, left })
    }

    /// Samples that are left, pauses and the silence after the last tone included.
    pub const fn remaining(&self) -> usize {
        self.left
    }

    /// True once something was taken.
    pub const fn has_begun(&self) -> bool {
        self.at > 0 || self.taken > 0
    }

    /// Appends the next `samples` to `codes`, or fewer at the end.
    pub fn take(&mut self, samples: usize, codes: &mut Vec<u8>) {
        let mut wanted = samples.min(self.left);
        self.left -= wanted;
        while let Some(key) = self.keys.expose().get(self.at)
            && wanted > 0
        {
            let end = key.samples().min(self.taken + wanted);
            wanted -= end - self.taken;
            codes.extend((self.taken..end).map(|n| mulaw::code(key.sample(n))));
            (self.at, self.taken) = if end == key.samples() { (self.at + 1, 0) } else { (self.at, end) };
        }
    }
}

impl Key {
    fn of(digit: char) -> Option<Self> {
        match digit {
            'w' => Some(Self::Pause(4000)),
            'W' => Some(Self::Pause(8000)),
            _ => KEYPAD.iter().zip(LOW).find_map(|(row, low)| {
                let column = row.iter().position(|key| *key == digit)?;
                Some(Self::Tone { low, high: HIGH[column] })
            }),
        }
    }

    /// Its length, with the silence after it.
    const fn samples(self) -> usize {
        match self {
            Self::Tone { .. } => TONE_SAMPLES + GAP_SAMPLES,
            Self::Pause(samples) => samples,
        }
    }

    /// Its sample number `n`.
    fn sample(self, n: usize) -> i16 {
        match self {
            Self::Tone { low, high } if n < TONE_SAMPLES => {
                let wave = |hz: u16, peak: f64| peak * (TAU * f64::from(hz) * n as f64 / RATE).sin();
                (ramp(n) * (wave(low, LOW_PEAK) + wave(high, HIGH_PEAK))).round() as i16
            }
            Self::Tone { .. } | Self::Pause(_) => 0,
        }
    }
}

/// How far a tone has come up, or is still there, at its sample number `n`: 0 to 1.
fn ramp(n: usize) -> f64 {
    let from_edge = n.min(TONE_SAMPLES - 1 - n);
    if from_edge >= RAMP_SAMPLES {
        return 1.0;
    }
    0.5 - 0.5 * (PI * (from_edge as f64 + 0.5) / RAMP_SAMPLES as f64).cos()
}

#[cfg(test)]
mod tests;
