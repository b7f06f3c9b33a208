//! Noise from numbers.

use std::f64::consts::TAU;

use super::{RATE, Speech, rms};

/// Voices that babble is made of.
const VOICES: usize = 8;
/// Mains, Hz, and the harmonics of it that a telephone carries.
const MAINS: f64 = 50.0;
const HARMONICS: std::ops::RangeInclusive<u32> = 6..=20;

/// A kind of noise that goes on and on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// The same power at each frequency.
    White,
    /// The same power in each octave: rooms, streets, cars.
    Pink,
    /// Harmonics of the mains.
    Hum,
    /// Many people at once, none of them meant for the line.
    Babble,
}

impl Noise {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::White, Self::Pink, Self::Hum, Self::Babble];

    /// So many samples of power 1.
    pub fn make(self, length: usize, random: &mut Random) -> Vec<f64> {
        let mut samples: Vec<f64> = match self {
            Self::White => (0..length).map(|_| random.normal()).collect(),
            Self::Pink => {
                let mut filter = Pink::default();
                (0..length).map(|_| filter.next(random.normal())).collect()
            }
            Self::Hum => (0..length).map(hum).collect(),
            Self::Babble => babble(length, random),
        };
        let level = rms(samples.iter().copied());
        if level > 0.0 {
            samples.iter_mut().for_each(|sample| *sample /= level);
        }
        samples
    }
}

/// Numbers that look like chance and are the same each time (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Another seed, other numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 0 to 1.
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// One of `count`.
    pub fn index(&mut self, count: usize) -> usize {
        ((self.uniform() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Mean 0, power 1, nearly a bell: a sum of four.
    pub fn normal(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| self.uniform()).sum();
        (sum - 2.0) * 3.0_f64.sqrt()
    }
}

/// White to pink noise: the filter of Paul Kellet (musicdsp.org, "Pink noise filter"), within 0.05 dB.
#[derive(Default)]
struct Pink {
    poles: [f64; 6],
    delayed: f64,
}

impl Pink {
    const POLES: [(f64, f64); 6] = [
        (0.99886, 0.0555179),
        (0.99332, 0.0750759),
        (0.96900, 0.1538520),
        (0.86650, 0.3104856),
        (0.55000, 0.5329522),
        (-0.7616, -0.0168980),
    ];

    fn next(&mut self, white: f64) -> f64 {
        for (pole, (keep, gain)) in self.poles.iter_mut().zip(Self::POLES) {
            *pole = keep * *pole + gain * white;
        }
        let pink = self.poles.iter().sum::<f64>() + self.delayed + white * 0.5362;
        self.delayed = white * 0.115926;
        pink
    }
}

fn hum(at: usize) -> f64 {
    let phase = TAU * MAINS * at as f64 / RATE as f64;
    HARMONICS.map(|harmonic| (phase * f64::from(harmonic) + f64::from(harmonic)).sin() / f64::from(harmonic)).sum()
}

/// The bundled speech against itself, from many places at once.
fn babble(length: usize, random: &mut Random) -> Vec<f64> {
    let speech = Speech::bundled().pcm;
    let mut samples = vec![0.0; length];
    for _ in 0..VOICES {
        let begin = random.index(speech.len());
        for (sample, &spoken) in samples.iter_mut().zip(speech.iter().cycle().skip(begin)) {
            *sample += f64::from(spoken);
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Power of the difference from one sample to the next, against the power: 2 for white noise.
    fn roughness(samples: &[f64]) -> f64 {
        let power: f64 = samples.iter().map(|sample| sample * sample).sum();
        samples.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>() / power
    }

    #[test]
    fn each_noise_has_power_one_and_its_own_colour() {
        let made = Noise::ALL.map(|noise| noise.make(80_000, &mut Random::new(7)));
        for samples in &made {
            assert!((rms(samples.iter().copied()) - 1.0).abs() < 1e-6);
        }
        let [white, pink, hum, babble] = made.map(|samples| roughness(&samples));
        assert!((white - 2.0).abs() < 0.05, "{white}");
        assert!((0.2..0.8).contains(&pink), "{pink}");
        assert!(hum < pink && babble < white, "{hum} {babble}");
    }

    #[test]
    fn a_seed_gives_the_same_each_time_and_another_one_something_else() {
        let make = |seed| Noise::Pink.make(1_000, &mut Random::new(seed));
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn chance_is_spread_evenly() {
        let mut random = Random::new(3);
        let mut counts = [0; 5];
        (0..10_000).for_each(|_| counts[random.index(5)] += 1);
        assert!(counts.iter().all(|count| (1_900..2_100).contains(count)), "{counts:?}");
    }
}
