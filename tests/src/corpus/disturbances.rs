//! Minutes of a line on which there is much to hear and nobody takes the turn.

use super::{Noise, RATE, Random, decibels, formants, murmurs, to_i16};

/// A background lasts so many samples: ten seconds.
const BACKGROUND: usize = 10 * RATE;
/// Backgrounds in turn: what, and its level in dB of full scale.
const BACKGROUNDS: [Option<(Noise, f64)>; 6] = [
    None,
    Some((Noise::Pink, -45.0)),
    Some((Noise::White, -50.0)),
    Some((Noise::Hum, -45.0)),
    Some((Noise::Pink, -35.0)),
    Some((Noise::Babble, -50.0)),
];
/// From the end of a sound to the next one, s.
const PAUSE: (f64, f64) = (0.8, 3.5);
/// Peaks of the sounds, dB of full scale.
const PEAK: (f64, f64) = (-24.0, -8.0);

/// What a sound is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One to three coughs.
    Cough,
    /// A hum in two parts.
    Mhm,
    /// "Uh huh", "um hum", "okay", spoken.
    Murmur,
    /// Breath into the microphone.
    Breath,
    /// Something falls or is knocked at.
    Knock,
    /// Somebody types.
    Keyboard,
}

impl Kind {
    /// Every kind, as often as it comes.
    pub const ALL: [Self; 6] = [Self::Cough, Self::Mhm, Self::Murmur, Self::Breath, Self::Knock, Self::Keyboard];
}

/// One sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What it is.
    pub kind: Kind,
    /// Its first sample.
    pub begin: usize,
    /// The sample after its last.
    pub end: usize,
}

/// A line without a word that is meant for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbances {
    /// PCM at 8 kHz.
    pub pcm: Vec<i16>,
    /// Sounds in order; they do not overlap.
    pub events: Vec<Event>,
}

/// So many minutes of it; the same each time, and more minutes begin like less.
pub fn disturbances(minutes: usize) -> Disturbances {
    let length = minutes * 60 * RATE;
    let mut samples = background(length);
    let mut events = Vec::new();
    let (mut random, murmurs) = (Random::new(2), murmurs());
    let mut begin = RATE;
    for kind in Kind::ALL.into_iter().cycle() {
        let sound = sound(kind, &murmurs, &mut random);
        let end = begin + sound.len();
        if end > length {
            break;
        }
        let level = decibels(random.between(PEAK.0, PEAK.1));
        samples[begin..end].iter_mut().zip(sound).for_each(|(sample, sound)| *sample += level * sound);
        events.push(Event { kind, begin, end });
        begin = end + (random.between(PAUSE.0, PAUSE.1) * RATE as f64) as usize;
    }
    let pcm = samples.into_iter().map(|sample| to_i16(sample * f64::from(i16::MAX))).collect();
    Disturbances { pcm, events }
}

fn background(length: usize) -> Vec<f64> {
    let mut samples = vec![0.0; length];
    let mut random = Random::new(4);
    for (piece, background) in samples.chunks_mut(BACKGROUND).zip(BACKGROUNDS.iter().cycle()) {
        if let Some((noise, level)) = background {
            let noise = noise.make(piece.len(), &mut random);
            piece.iter_mut().zip(noise).for_each(|(sample, noise)| *sample += decibels(*level) * noise);
        }
    }
    samples
}

/// The loudest sample is 1.
fn sound(kind: Kind, murmurs: &[Vec<i16>], random: &mut Random) -> Vec<f64> {
    match kind {
        Kind::Cough => formants::cough(random),
        Kind::Mhm => formants::mhm(random),
        Kind::Murmur => {
            let murmur = &murmurs[random.index(murmurs.len())];
            let peak = murmur.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(1).max(1);
            murmur.iter().map(|&sample| f64::from(sample) / f64::from(peak)).collect()
        }
        Kind::Breath => formants::breath(random),
        Kind::Knock => formants::knock(random),
        Kind::Keyboard => formants::keyboard(random),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_hold_each_sound_many_times_and_are_the_same_again() {
        let made = disturbances(10);
        assert_eq!(made.pcm.len(), 600 * RATE);
        for kind in Kind::ALL {
            let count = made.events.iter().filter(|event| event.kind == kind).count();
            assert!(count >= 25, "{count} of {kind:?}");
        }
        assert!(made.events.windows(2).all(|pair| pair[0].end + RATE / 2 < pair[1].begin));
        assert_eq!(disturbances(10), made);
    }

    #[test]
    fn sounds_are_louder_than_what_is_behind_them() {
        let made = disturbances(2);
        for event in &made.events {
            let peak = made.pcm[event.begin..event.end].iter().map(|sample| sample.unsigned_abs()).max();
            assert!((1_500..16_000).contains(&peak.unwrap()), "{event:?}: {peak:?}");
        }
    }
}
