//! Pure: where a tone begins, by Goertzel's algorithm at 8 kHz.

use std::f64::consts::TAU;

/// Samples per second.
const RATE: f64 = 8000.0;
/// Window in which an onset is searched: 5 ms.
const WINDOW: usize = 40;
/// Share of the energy that must be at the frequency for a tone to be there.
const SHARE: f64 = 0.6;

/// `length` samples of a sine of `frequency` Hz and peak `amplitude`, starting at phase zero.
pub fn tone(frequency: f64, amplitude: i16, length: usize) -> Vec<i16> {
    let step = TAU * frequency / RATE;
    (0..length).map(|n| (f64::from(amplitude) * (step * n as f64).sin()).round() as i16).collect()
}

/// Mean power of `samples` at `frequency` Hz, in squared sample units: a sine of peak `a` that fills
/// the window has `a² / 2`.
pub fn tone_power(samples: &[i16], frequency: f64) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let coefficient = 2.0 * (TAU * frequency / RATE).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for &sample in samples {
        let next = f64::from(sample) + coefficient * last - before;
        before = last;
        last = next;
    }
    let energy = last * last + before * before - coefficient * last * before;
    let length = samples.len() as f64;
    2.0 * energy / (length * length)
}

/// Share of the energy of `samples` that is at `frequency` Hz: about 1 for a pure tone, 0 for silence.
pub fn tone_share(samples: &[i16], frequency: f64) -> f64 {
    let total: f64 = samples.iter().map(|&s| f64::from(s).powi(2)).sum();
    if total == 0.0 {
        return 0.0;
    }
    (tone_power(samples, frequency) * samples.len() as f64 / total).min(1.0)
}

/// First sample of a tone of `frequency` Hz that is at least `amplitude` / 2 strong; exact to about
/// a millisecond when silence comes before it.
pub fn tone_onset(samples: &[i16], frequency: f64, amplitude: i16) -> Option<usize> {
    let full = f64::from(amplitude).powi(2) / 2.0;
    let window = samples
        .windows(WINDOW)
        .position(|window| tone_power(window, frequency) >= full / 4.0 && tone_share(window, frequency) >= SHARE)?;
    // The window that is found first holds the onset; within it the onset is where the level rises.
    let floor = i32::from(amplitude) / 10;
    let rise = samples[window..window + WINDOW].iter().position(|&sample| i32::from(sample).abs() >= floor)?;
    Some(window + rise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::bundled_speech;

    #[test]
    fn power_of_a_full_window_is_half_the_square() {
        let sine = tone(1000.0, 8000, 160);
        let power = tone_power(&sine, 1000.0);
        assert!((power / 32_000_000.0 - 1.0).abs() < 0.01, "{power}");
        assert!(tone_share(&sine, 1000.0) > 0.99);
        assert!(tone_share(&sine, 2000.0) < 0.01);
        assert!(tone_share(&[0; 160], 1000.0) == 0.0);
        assert!(tone_power(&[], 1000.0) == 0.0);
    }

    #[test]
    fn onset_after_silence_is_found_within_a_millisecond() {
        for start in [0, 160, 801, 4000] {
            let mut samples = vec![0; start];
            samples.extend(tone(1000.0, 10_000, 400));
            let onset = tone_onset(&samples, 1000.0, 10_000).unwrap();
            assert!(onset.abs_diff(start) <= 8, "{start}: {onset}");
        }
    }

    #[test]
    fn speech_and_silence_have_no_onset() {
        assert_eq!(tone_onset(&[0; 800], 1000.0, 10_000), None);
        assert_eq!(tone_onset(&tone(440.0, 10_000, 800), 1000.0, 10_000), None);
        let first_second = &bundled_speech()[..8000];
        assert_eq!(tone_onset(first_second, 1000.0, 20_000), None);
    }
}
