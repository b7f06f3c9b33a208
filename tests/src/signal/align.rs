//! Pure: the delay between two signals by cross-correlation, and the error that is left.

use rustfft::{FftPlanner, num_complex::Complex};
use serde::Serialize;

/// Where a signal lies in another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Alignment {
    /// Samples by which the second is later than the first.
    pub delay: usize,
    /// Normalised correlation there: 1 for the same signal, whatever its level; 0 for unrelated.
    pub correlation: f64,
}

/// Error of a delayed copy, after the delay and a constant gain have been taken out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fidelity {
    /// Signal over error, in dB.
    pub snr_db: f64,
    /// Gain of the copy, in dB.
    pub gain_db: f64,
}

/// Mean error power next to the seams of frames and away from them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EdgeError {
    /// Mean square error within the edge width of a seam.
    pub edge: f64,
    /// Mean square error elsewhere.
    pub inside: f64,
    /// Edge over inside in dB: near 0 when the seams cannot be heard.
    pub ratio_db: f64,
}

/// Finds `reference` in `heard`, delayed by 0 to `max_delay` samples; none when either is silent.
///
/// The delay with the largest inner product wins; both signals should be of about one length.
pub fn align(reference: &[i16], heard: &[i16], max_delay: usize) -> Option<Alignment> {
    if reference.is_empty() || heard.is_empty() {
        return None;
    }
    let last = max_delay.min(heard.len() - 1);
    let products = inner_products(reference, heard, last);
    let (delay, _) = products.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    let correlation = correlation_at(reference, heard, delay)?;
    Some(Alignment { delay, correlation })
}

/// Signal to noise of `heard` as a copy of `reference` delayed by `delay` samples; none when there is
/// no signal to compare.
pub fn fidelity(reference: &[i16], heard: &[i16], delay: usize) -> Option<Fidelity> {
    let (gain, pairs) = fit(reference, heard, delay)?;
    let signal: f64 = pairs.iter().map(|(r, _)| (gain * r).powi(2)).sum();
    let error: f64 = pairs.iter().map(|(r, h)| (h - gain * r).powi(2)).sum();
    Some(Fidelity {
        snr_db: decibel(signal / error.max(f64::MIN_POSITIVE)),
        gain_db: 20.0 * gain.abs().max(f64::MIN_POSITIVE).log10(),
    })
}

/// Error power within `width` samples of a multiple of `frame` samples (counted in `heard`), against
/// the error elsewhere; none when there is no signal to compare or `width` leaves no inside.
pub fn edge_error(reference: &[i16], heard: &[i16], delay: usize, (frame, width): (usize, usize)) -> Option<EdgeError> {
    if frame <= 2 * width || width == 0 {
        return None;
    }
    let (gain, pairs) = fit(reference, heard, delay)?;
    let (mut edge, mut inside) = (Mean::default(), Mean::default());
    for (index, (r, h)) in pairs.iter().enumerate() {
        let phase = (index + delay) % frame;
        let error = (h - gain * r).powi(2);
        if phase < width || phase >= frame - width {
            edge.add(error);
        } else {
            inside.add(error);
        }
    }
    let (edge, inside) = (edge.value()?, inside.value()?);
    Some(EdgeError { edge, inside, ratio_db: decibel((edge + 1e-9) / (inside + 1e-9)) })
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Least-squares gain of `heard` over `reference`, and the aligned pairs.
fn fit(reference: &[i16], heard: &[i16], delay: usize) -> Option<(f64, Vec<(f64, f64)>)> {
    let pairs: Vec<(f64, f64)> =
        reference.iter().zip(heard.get(delay..)?).map(|(&r, &h)| (f64::from(r), f64::from(h))).collect();
    let power: f64 = pairs.iter().map(|(r, _)| r * r).sum();
    if power == 0.0 {
        return None;
    }
    let product: f64 = pairs.iter().map(|(r, h)| r * h).sum();
    Some((product / power, pairs))
}

fn correlation_at(reference: &[i16], heard: &[i16], delay: usize) -> Option<f64> {
    let (gain, pairs) = fit(reference, heard, delay)?;
    let reference: f64 = pairs.iter().map(|(r, _)| r * r).sum();
    let heard: f64 = pairs.iter().map(|(_, h)| h * h).sum();
    (heard > 0.0).then(|| gain * (reference / heard).sqrt())
}

/// Inner products of `reference` with `heard` delayed by 0 to `last` samples.
fn inner_products(reference: &[i16], heard: &[i16], last: usize) -> Vec<f64> {
    let length = (reference.len() + heard.len()).next_power_of_two();
    let spectrum = |samples: &[i16], planner: &mut FftPlanner<f64>| {
        let mut buffer: Vec<Complex<f64>> = samples.iter().map(|&sample| Complex::from(f64::from(sample))).collect();
        buffer.resize(length, Complex::default());
        planner.plan_fft_forward(length).process(&mut buffer);
        buffer
    };
    let mut planner = FftPlanner::new();
    let reference = spectrum(reference, &mut planner);
    let mut product = spectrum(heard, &mut planner);
    for (value, reference) in product.iter_mut().zip(&reference) {
        *value *= reference.conj();
    }
    planner.plan_fft_inverse(length).process(&mut product);
    product[..=last].iter().map(|value| value.re).collect()
}

fn decibel(ratio: f64) -> f64 {
    10.0 * ratio.max(f64::MIN_POSITIVE).log10()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{bundled_speech, decode_mulaw, encode_mulaw};

    fn delayed(signal: &[i16], delay: usize) -> Vec<i16> {
        let mut delayed = vec![0; delay];
        delayed.extend_from_slice(signal);
        delayed
    }

    #[test]
    fn delay_is_found_to_the_sample() {
        let speech = bundled_speech();
        for delay in [0, 1, 159, 160, 1601, 7999] {
            let heard = delayed(speech, delay);
            let found = align(speech, &heard, 8000).unwrap();
            assert_eq!(found.delay, delay);
            assert!(found.correlation > 0.999);
        }
    }

    #[test]
    fn gain_and_mulaw_do_not_hide_the_delay() {
        let speech = bundled_speech();
        let quiet: Vec<i16> = speech.iter().map(|s| s / 2).collect();
        let heard = delayed(&decode_mulaw(&encode_mulaw(&quiet)), 123);
        let found = align(speech, &heard, 8000).unwrap();
        assert_eq!(found.delay, 123);
        let fidelity = fidelity(speech, &heard, 123).unwrap();
        assert!((fidelity.gain_db + 6.02).abs() < 0.05, "{fidelity:?}");
        // G.711 has about 38 dB for speech at a fair level.
        assert!((34.0..42.0).contains(&fidelity.snr_db), "{fidelity:?}");
    }

    #[test]
    fn silence_and_unrelated_signals_do_not_align() {
        let speech = bundled_speech();
        assert_eq!(align(speech, &[0; 8000], 800), None);
        assert_eq!(align(&[], speech, 800), None);
        assert_eq!(fidelity(&[0; 10], &[1; 10], 0), None);
        assert_eq!(fidelity(&[1; 10], &[1; 10], 11), None);
        let tone = super::super::tone(1000.0, 10_000, speech.len());
        assert!(align(&tone, speech, 800).unwrap().correlation < 0.3);
    }

    #[test]
    fn clicks_at_the_seams_are_seen() {
        let speech = bundled_speech();
        let mut heard: Vec<i16> = decode_mulaw(&encode_mulaw(speech));
        let even = edge_error(speech, &heard, 0, (160, 8)).unwrap();
        assert!(even.ratio_db.abs() < 1.0, "{even:?}");
        for seam in (160..heard.len()).step_by(160) {
            heard[seam] = heard[seam].saturating_add(2000);
        }
        let clicks = edge_error(speech, &heard, 0, (160, 8)).unwrap();
        assert!(clicks.ratio_db > 6.0, "{clicks:?}");
        assert_eq!(edge_error(speech, &heard, 0, (160, 80)), None);
    }
}
