//! Pure: sound to listen to with a known truth, at 8 kHz: speech with labels, noise, and what is not meant as speech.
//!
//! `corpus/noise.rs` makes noise from numbers, `corpus/formants.rs` coughs and hums, and `corpus/disturbances.rs` strings
//! them to minutes of a line on which nobody takes the turn. Where the clips come from: `tests/corpus/README.md`.

mod disturbances;
mod formants;
mod noise;

use std::ops::Range;

use audio_codec_algorithms::decode_ulaw;

pub use disturbances::{Disturbances, Event, Kind, disturbances};
pub use noise::{Noise, Random};

/// Samples per second.
pub const RATE: usize = 8_000;

/// Sound in which somebody speaks now and then.
#[derive(Debug, Clone)]
pub struct Speech {
    /// PCM at 8 kHz.
    pub pcm: Vec<i16>,
    /// Where somebody speaks, in samples, in order.
    pub spans: Vec<Range<usize>>,
}

impl Speech {
    /// 102 s of telephone speech, 32 lines of four voices; somebody speaks in 58 % of it.
    pub fn bundled() -> Self {
        let pcm = decoded(include_bytes!("../corpus/speech.ulaw"));
        Self { pcm, spans: spans(include_str!("../corpus/speech.tsv")) }
    }

    /// Its first seconds.
    pub fn first(mut self, seconds: usize) -> Self {
        self.pcm.truncate(seconds * RATE);
        self.spans.retain(|span| span.start < self.pcm.len());
        for span in &mut self.spans {
            span.end = span.end.min(self.pcm.len());
        }
        self
    }

    /// Root mean square of the samples where somebody speaks.
    pub fn level(&self) -> f64 {
        let spoken = || self.spans.iter().flat_map(|span| &self.pcm[span.clone()]);
        rms(spoken().map(|&sample| f64::from(sample)))
    }

    /// The same with noise in it, so many dB below [`Speech::level`]. The same arguments give the same samples.
    pub fn with_noise(&self, noise: Noise, below_db: f64) -> Self {
        let level = self.level() * decibels(-below_db);
        let noise = noise.make(self.pcm.len(), &mut Random::new(1));
        let mix = |(&sample, noise): (&i16, f64)| to_i16(f64::from(sample) + level * noise);
        Self { pcm: self.pcm.iter().zip(noise).map(mix).collect(), spans: self.spans.clone() }
    }
}

/// Clips of what listeners say while the other one goes on: "uh huh", "um hum", "okay".
pub fn murmurs() -> Vec<Vec<i16>> {
    let pcm = decoded(include_bytes!("../corpus/murmurs.ulaw"));
    spans(include_str!("../corpus/murmurs.tsv")).into_iter().map(|span| pcm[span].to_vec()).collect()
}

fn decoded(codes: &[u8]) -> Vec<i16> {
    codes.iter().map(|&code| decode_ulaw(code)).collect()
}

/// The first two columns, first sample and the one after the last.
fn spans(table: &str) -> Vec<Range<usize>> {
    let span = |line: &str| {
        let mut columns = line.split('\t').map_while(|column| column.parse().ok());
        Some(columns.next()?..columns.next()?)
    };
    table.lines().filter_map(span).collect()
}

/// A ratio of amplitudes.
fn decibels(level: f64) -> f64 {
    10.0_f64.powf(level / 20.0)
}

fn rms(samples: impl Iterator<Item = f64>) -> f64 {
    let (count, power) = samples.fold((0_u32, 0.0), |(count, power), sample| (count + 1, power + sample * sample));
    (power / f64::from(count.max(1))).sqrt()
}

#[expect(clippy::cast_possible_truncation, reason = "saturating on purpose")]
fn to_i16(sample: f64) -> i16 {
    sample.round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speech_is_what_its_labels_say() {
        let speech = Speech::bundled();
        assert_eq!(speech.pcm.len() % 160, 0);
        assert!(speech.spans.windows(2).all(|pair| pair[0].end < pair[1].start));
        let spoken: usize = speech.spans.iter().map(ExactSizeIterator::len).sum();
        assert!((0.5..0.65).contains(&(spoken as f64 / speech.pcm.len() as f64)));
        let mut silent = speech.pcm.clone();
        speech.spans.iter().for_each(|span| silent[span.clone()].fill(0));
        let between = rms(silent.iter().map(|&sample| f64::from(sample)));
        assert!(speech.level() > 100.0 * between, "{} and {between}", speech.level());
    }

    #[test]
    fn noise_has_the_level_that_was_asked_for() {
        let speech = Speech::bundled();
        for noise in Noise::ALL {
            let noisy = speech.with_noise(noise, 10.0);
            let added = noisy.pcm.iter().zip(&speech.pcm).map(|(one, other)| f64::from(*one) - f64::from(*other));
            let below = 20.0 * (speech.level() / rms(added)).log10();
            assert!((below - 10.0).abs() < 0.2, "{noise:?}: {below} dB");
        }
    }

    #[test]
    fn murmurs_are_short_and_heard() {
        let murmurs = murmurs();
        assert_eq!(murmurs.len(), 12);
        for murmur in murmurs {
            assert!((RATE / 10..RATE).contains(&murmur.len()), "{} samples", murmur.len());
            assert!(rms(murmur.iter().map(|&sample| f64::from(sample))) > 500.0);
        }
    }
}
