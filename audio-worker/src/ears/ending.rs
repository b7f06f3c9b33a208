//! Where voice ends, and may begin again, by the level of the sound. A detector that was made to tell voice from noise goes
//! on telling voice for a window or two after it and is late for soft beginnings; on a clear line the level tells at once.

use super::{VOICE, VoiceActivity};

/// The sound is over when it is so far below the voice before it, as a ratio of powers: 30 dB. On a line with more noise
/// than that it never is, and the detector alone decides.
const FALL: f32 = 1e-3;

/// How fast the voice before it is forgotten, per window of voice: 3 dB in 0.7 s.
const FORGET: f32 = 0.97;

/// What is told of a window in which voice ends: as sure as a detector is of silence.
const ENDED: f32 = 0.1;

/// Sound that is so much above the quietest lately, as a ratio of powers, has begun anew: 12 dB.
const RISE: f32 = 16.0;

/// How fast the quietest is forgotten, per window: 3 dB in 1.1 s.
const FLOOR_RISES: f32 = 1.02;

/// Below this the line is silent, in squared samples: codes of mu-law next to zero.
const LEAST: f32 = 64.0;

/// What is told at least of a window in which sound begins anew: no voice yet, and no silence either.
const RISING: f32 = 0.3;

/// A detector whose edges are as sharp as those of the sound.
#[derive(Debug)]
pub(super) struct Sharp<D> {
    detector: D,
    ending: Ending,
}

impl<D: VoiceActivity> Sharp<D> {
    /// Sharpens what `detector` says.
    pub(super) fn new(detector: D) -> Self {
        Self { detector, ending: Ending::default() }
    }
}

impl<D: VoiceActivity> VoiceActivity for Sharp<D> {
    fn voice(&mut self, window: &[i16]) -> f32 {
        let voice = self.detector.voice(window);
        self.ending.judge(voice, window)
    }

    fn reset(&mut self) {
        self.detector.reset();
        self.ending = Ending::default();
    }
}

/// Follows the level of one caller's voice, and of what is behind it.
#[derive(Debug, Clone, Copy, Default)]
struct Ending {
    /// Power of the voice lately, in squared samples.
    level: f32,
    /// The quietest half of a window lately.
    floor: f32,
}

impl Ending {
    /// The probability that voice goes on at the end of `window`, of which a detector says `voice`.
    fn judge(&mut self, voice: f32, window: &[i16]) -> f32 {
        let (first, last) = window.split_at(window.len() / 2);
        let end = power(last);
        if voice >= VOICE {
            self.level = (self.level * FORGET).max(f32::midpoint(power(first), end));
        }
        self.floor = (self.floor.max(LEAST) * FLOOR_RISES).min(end.max(LEAST));
        let (is_over, begins) = (end < self.level * FALL, self.level > 0.0 && end > self.floor * RISE);
        match (is_over, begins) {
            (true, false) => voice.min(ENDED),
            (true, true) => RISING,
            (false, true) => voice.max(RISING),
            (false, false) => voice,
        }
    }
}

fn power(samples: &[i16]) -> f32 {
    let sum: f32 = samples.iter().map(|&sample| f32::from(sample) * f32::from(sample)).sum();
    sum / samples.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(first: i16, last: i16) -> Vec<i16> {
        [vec![first; 256], vec![last; 256]].concat()
    }

    #[test]
    fn voice_ends_where_the_level_falls() {
        let mut ending = Ending::default();
        assert_eq!(ending.judge(0.9, &window(8000, 8000)), 0.9);
        assert_eq!(ending.judge(0.9, &window(8000, 400)), 0.9, "26 dB below is a soft sound");
        assert_eq!(ending.judge(0.9, &window(8000, 30)), ENDED);
        assert_eq!(ending.judge(0.05, &window(0, 0)), 0.05);
        assert_eq!(ending.judge(0.1, &window(0, 900)), RISING, "it may begin again");
        assert_eq!(ending.judge(0.9, &window(0, 4000)), 0.9, "it begins again");
    }

    #[test]
    fn in_steady_noise_the_detector_decides() {
        let mut ending = Ending::default();
        ending.judge(0.9, &window(8000, 8000));
        let noise = window(800, 800);
        (0..400).for_each(|_| {
            ending.judge(0.3, &noise);
        });
        assert_eq!((ending.judge(0.4, &noise), ending.judge(0.02, &noise)), (0.4, 0.02));
    }

    #[test]
    fn a_softer_voice_is_heard_after_a_loud_one() {
        let mut ending = Ending::default();
        ending.judge(0.9, &window(16_000, 16_000));
        let soft = window(600, 600);
        let heard = (0..40).map(|_| ending.judge(0.9, &soft)).filter(|voice| *voice > 0.5).count();
        assert_eq!(heard, 40);
    }
}
