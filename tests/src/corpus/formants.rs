//! Sounds of a mouth from a source and a few resonances (Klatt, JASA 67, 1980): coughs, hums, breath; and knocks.

use std::f64::consts::{PI, TAU};

use super::{RATE, Random};

/// A resonance of two poles.
struct Resonance {
    gain: f64,
    last: f64,
    before: f64,
    out: [f64; 2],
}

impl Resonance {
    /// At `hz`, so many Hz wide.
    fn new(hz: f64, width: f64) -> Self {
        let radius = (-PI * width / RATE as f64).exp();
        let last = 2.0 * radius * (TAU * hz / RATE as f64).cos();
        let before = -radius * radius;
        Self { gain: 1.0 - last - before, last, before, out: [0.0; 2] }
    }

    fn next(&mut self, sample: f64) -> f64 {
        let out = self.gain * sample + self.last * self.out[0] + self.before * self.out[1];
        self.out = [out, self.out[0]];
        out
    }
}

/// Resonances side by side, as (Hz, width in Hz, share).
fn shaped(source: impl Iterator<Item = f64>, resonances: &[(f64, f64, f64)]) -> Vec<f64> {
    let mut filters: Vec<_> = resonances.iter().map(|&(hz, width, share)| (Resonance::new(hz, width), share)).collect();
    source.map(|sample| filters.iter_mut().map(|(filter, share)| filter.next(sample) * *share).sum()).collect()
}

/// Pulses of a glottis, their pitch going from one frequency to the other, Hz.
fn glottis(from: f64, to: f64, length: usize) -> impl Iterator<Item = f64> {
    let mut phase = 1.0;
    (0..length).map(move |at| {
        phase += (from + (to - from) * at as f64 / length as f64) / RATE as f64;
        if phase >= 1.0 {
            phase -= 1.0;
            1.0
        } else {
            0.0
        }
    })
}

/// Comes in, stays and goes: the shape of a sound, its edges in samples.
fn shape(samples: &mut [f64], rise: usize, fall: usize) {
    let length = samples.len();
    for (at, sample) in samples.iter_mut().enumerate() {
        let edge = (at as f64 / rise.max(1) as f64).min((length - at) as f64 / fall.max(1) as f64).min(1.0);
        *sample *= 0.5 - 0.5 * (PI * edge).cos();
    }
}

/// The loudest sample becomes 1.
fn normalized(mut samples: Vec<f64>) -> Vec<f64> {
    let peak = samples.iter().fold(f64::MIN_POSITIVE, |peak, sample| peak.max(sample.abs()));
    samples.iter_mut().for_each(|sample| *sample /= peak);
    samples
}

fn milliseconds(ms: f64) -> usize {
    (ms * RATE as f64 / 1_000.0) as usize
}

/// A burst, then breath through an open mouth, then often a short voice: one to three times.
pub(super) fn cough(random: &mut Random) -> Vec<f64> {
    let mut cough = Vec::new();
    for _ in 0..=random.index(3) {
        let formant = random.between(500.0, 900.0);
        let resonances = [(formant, 300.0, 1.0), (2.1 * formant, 400.0, 0.7), (2_600.0, 700.0, 0.6)];
        let length = milliseconds(random.between(180.0, 320.0));
        let (burst, decay) = (milliseconds(35.0) as f64, random.between(3.0, 5.0));
        let breath = (0..length).map(|at| {
            let sharp = if (at as f64) < burst { 1.0 } else { 0.35 };
            sharp * (-decay * at as f64 / length as f64).exp() * random.normal()
        });
        let mut one = normalized(shaped(breath, &resonances));
        shape(&mut one, milliseconds(3.0), milliseconds(40.0));
        if random.uniform() < 0.5 {
            let begin = one.len() / 2;
            let pitch = random.between(150.0, 260.0);
            let mut voice = normalized(shaped(glottis(pitch, 0.7 * pitch, one.len() - begin), &resonances));
            shape(&mut voice, milliseconds(20.0), milliseconds(60.0));
            one[begin..].iter_mut().zip(voice).for_each(|(sample, voice)| *sample += 0.3 * voice);
        }
        cough.extend(one);
        cough.extend(std::iter::repeat_n(0.0, milliseconds(random.between(80.0, 200.0))));
    }
    normalized(cough)
}

/// "Mhm": two hums through the nose, the second higher, with a breath between.
pub(super) fn mhm(random: &mut Random) -> Vec<f64> {
    let pitch = random.between(95.0, 220.0);
    let nose = [(270.0, 80.0, 1.0), (1_000.0, 250.0, 0.12), (2_200.0, 350.0, 0.06)];
    let hum = |from: f64, to: f64, ms: f64| {
        let mut hum = normalized(shaped(glottis(from, to, milliseconds(ms)), &nose));
        shape(&mut hum, milliseconds(25.0), milliseconds(45.0));
        hum
    };
    let mut mhm = hum(pitch, 0.92 * pitch, random.between(110.0, 170.0));
    let puff = milliseconds(random.between(40.0, 80.0));
    mhm.extend((0..puff).map(|_| 0.02 * random.normal()));
    mhm.extend(hum(1.1 * pitch, 1.25 * pitch, random.between(150.0, 260.0)));
    mhm
}

/// Breath into the microphone.
pub(super) fn breath(random: &mut Random) -> Vec<f64> {
    let length = milliseconds(random.between(400.0, 1_100.0));
    let source = (0..length).map(|_| random.normal());
    let mut breath = shaped(source, &[(450.0, 500.0, 1.0), (1_700.0, 900.0, 0.5)]);
    shape(&mut breath, length / 2, length / 2);
    normalized(breath)
}

/// Something hits something: a few damped tones.
pub(super) fn knock(random: &mut Random) -> Vec<f64> {
    let mut knock = Vec::new();
    for _ in 0..=random.index(3) {
        let length = milliseconds(random.between(60.0, 160.0));
        let tones: Vec<_> = (0..4).map(|_| (random.between(200.0, 2_000.0), random.between(0.2, 1.0))).collect();
        let damping = random.between(6.0, 14.0);
        knock.extend((0..length).map(|at| {
            let time = at as f64 / RATE as f64;
            let ring: f64 = tones.iter().map(|&(hz, share)| share * (TAU * hz * time).sin()).sum();
            ring * (-damping * at as f64 / length as f64).exp()
        }));
        knock.extend(std::iter::repeat_n(0.0, milliseconds(random.between(50.0, 250.0))));
    }
    normalized(knock)
}

/// Somebody types: clicks of a few milliseconds.
pub(super) fn keyboard(random: &mut Random) -> Vec<f64> {
    let mut keyboard = Vec::new();
    for _ in 0..4 + random.index(10) {
        let length = milliseconds(random.between(4.0, 14.0));
        let level = random.between(0.3, 1.0);
        keyboard.extend((0..length).map(|at| level * random.normal() * (-5.0 * at as f64 / length as f64).exp()));
        keyboard.extend(std::iter::repeat_n(0.0, milliseconds(random.between(60.0, 220.0))));
    }
    normalized(keyboard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_are_finite_and_as_long_as_such_sounds_are() {
        let mut random = Random::new(5);
        for _ in 0..50 {
            for (name, sound, ms) in [
                ("cough", cough(&mut random), 250..1_600),
                ("mhm", mhm(&mut random), 290..520),
                ("breath", breath(&mut random), 390..1_110),
                ("knock", knock(&mut random), 100..1_240),
                ("keyboard", keyboard(&mut random), 250..3_400),
            ] {
                assert!(ms.contains(&(sound.len() / 8)), "{name}: {} ms", sound.len() / 8);
                let peak = sound.iter().fold(0.0_f64, |peak, sample| peak.max(sample.abs()));
                assert!(peak > 0.9 && peak < 1.1, "{name}: {peak}");
            }
        }
    }

    #[test]
    fn a_hum_has_the_pitch_that_was_asked_for() {
        let pulses = glottis(100.0, 100.0, RATE).filter(|&sample| sample > 0.0).count();
        assert!((99..=101).contains(&pulses), "{pulses}");
    }
}
