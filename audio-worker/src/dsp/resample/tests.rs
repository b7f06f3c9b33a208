//! Counts, cuts, quality and delay of the resampler.

use std::f64::consts::TAU;

use proptest::prelude::*;

use super::*;
use SampleRate::{Hz8000, Hz16000, Hz22050};

fn tone(hz: f64, rate: SampleRate, samples: usize, amplitude: f64) -> Vec<i16> {
    (0..samples).map(|n| (amplitude * (TAU * hz * n as f64 / rate.hz() as f64).sin()).round() as i16).collect()
}

/// Amplitude of one frequency, by projection on a sine and a cosine.
fn amplitude(signal: &[i16], hz: f64, rate: SampleRate) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, &sample) in signal.iter().enumerate() {
        let phase = TAU * hz * n as f64 / rate.hz() as f64;
        re += f64::from(sample) * phase.cos();
        im += f64::from(sample) * phase.sin();
    }
    2.0 * re.hypot(im) / signal.len() as f64
}

#[test]
fn every_160_samples_give_exactly_320_from_the_first_block_on() {
    let mut resampler = Resampler::new(Hz8000, Hz16000).unwrap();
    for block in 1..=50 {
        let mut output = Vec::new();
        resampler.push(&[1000; 160], &mut output).unwrap();
        assert_eq!(output.len(), 320, "block {block}");
    }
}

#[test]
fn every_pair_of_rates_keeps_its_counts() {
    for from in SampleRate::ALL {
        for to in SampleRate::ALL {
            let mut resampler = Resampler::new(from, to).unwrap();
            let mut output = Vec::new();
            for blocks in 1..=20 {
                resampler.push(&vec![500; from.block()], &mut output).unwrap();
                assert_eq!(output.len(), blocks * to.block(), "{from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn the_delay_is_5_ms_or_10() {
    for (from, to) in ways() {
        let resampler = Resampler::new(from, to).unwrap();
        // The block of 22,050 Hz cannot be halved.
        let delay_ms = if [from, to].contains(&Hz22050) { 10.0 } else { 5.0 };
        let difference = resampler.delay() as f64 - delay_ms * to.hz() as f64 / 1000.0;
        assert!(difference.abs() <= 0.5, "{from:?} to {to:?}: {} samples", resampler.delay());
    }
}

#[test]
fn an_impulse_comes_out_where_the_delay_says() {
    let mut input = vec![0; 480];
    input[200] = 20_000;
    let mut output = Vec::new();
    let mut resampler = Resampler::new(Hz8000, Hz16000).unwrap();
    resampler.push(&input, &mut output).unwrap();
    let peak = output.iter().enumerate().max_by_key(|(_, s)| s.unsigned_abs()).map(|(at, _)| at);
    assert_eq!(peak, Some(2 * 200 + resampler.delay()));
}

/// Every way that sound goes: up to what agents hear, and from whatever a voice sends down to the telephone.
fn ways() -> impl Iterator<Item = (SampleRate, SampleRate)> {
    SampleRate::ALL.into_iter().filter(|rate| *rate != Hz8000).flat_map(|rate| [(Hz8000, rate), (rate, Hz8000)])
}

#[test]
fn the_pass_band_is_flat_within_a_tenth_of_a_decibel() {
    for (from, to) in ways() {
        for hz in (100..=3400).step_by(100).map(f64::from) {
            let output = resample_clip(&tone(hz, from, from.hz(), 10_000.0), from, to).unwrap();
            let middle = &output[to.hz() / 4..3 * to.hz() / 4];
            let gain = 20.0 * (amplitude(middle, hz, to) / 10_000.0).log10();
            assert!(gain.abs() < 0.1, "{from:?} to {to:?}, {hz} Hz: {gain:.3} dB");
        }
    }
}

#[test]
fn aliases_of_a_sweep_are_70_db_down() {
    for from in SampleRate::ALL.into_iter().filter(|rate| *rate != Hz8000) {
        // From where the filter stops to where the rate does.
        let top = from.hz() as f64 / 2.0 - 100.0;
        for hz in (0..).map(|n| 4600.0 + 250.0 * f64::from(n)).take_while(|hz| *hz < top) {
            let down = resample_clip(&tone(hz, from, from.hz() / 2, 30_000.0), from, Hz8000).unwrap();
            let middle = &down[1000..3000];
            let power = middle.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / middle.len() as f64;
            let level = 10.0 * (power.max(1e-9) / (30_000.0_f64.powi(2) / 2.0)).log10();
            assert!(level < -70.0, "{from:?}, {hz} Hz: {level:.1} dB");
        }
    }
}

#[test]
fn images_of_a_sweep_are_70_db_down() {
    for to in SampleRate::ALL.into_iter().filter(|rate| *rate != Hz8000) {
        for hz in (300..=3400).step_by(310).map(f64::from) {
            let up = resample_clip(&tone(hz, Hz8000, 8000, 30_000.0), Hz8000, to).unwrap();
            let middle = &up[to.hz() / 4..3 * to.hz() / 4];
            for image in [8000.0 - hz, 8000.0 + hz, 16_000.0 - hz].into_iter().filter(|hz| 2.0 * hz < to.hz() as f64) {
                let level = 20.0 * (amplitude(middle, image, to).max(1e-9) / 30_000.0).log10();
                assert!(level < -70.0, "{to:?}, {hz} Hz at {image} Hz: {level:.1} dB");
            }
        }
    }
}

#[test]
fn a_clip_keeps_its_exact_length() {
    for samples in [0, 1, 159, 160, 161, 4000] {
        assert_eq!(resample_clip(&vec![7; samples], Hz8000, Hz16000).unwrap().len(), 2 * samples);
        assert_eq!(resample_clip(&vec![7; samples], Hz16000, Hz8000).unwrap().len(), samples.div_ceil(2));
    }
}

#[test]
fn reset_and_flush_leave_nothing_behind() {
    let input = tone(440.0, Hz8000, 320, 8000.0);
    let run = |resampler: &mut Resampler| {
        let mut output = Vec::new();
        resampler.push(&input, &mut output).unwrap();
        output
    };
    let mut resampler = Resampler::new(Hz8000, Hz16000).unwrap();
    let first = run(&mut resampler);
    resampler.push(&[12_345; 77], &mut Vec::new()).unwrap();
    resampler.reset();
    assert_eq!(run(&mut resampler), first);
    resampler.flush(&mut Vec::new()).unwrap();
    assert_eq!(run(&mut resampler), first);
}

proptest! {
    #[test]
    fn the_output_does_not_depend_on_where_the_input_was_cut(cuts in prop::collection::vec(1_usize..700, 1..40)) {
        let input = tone(700.0, Hz8000, cuts.iter().sum(), 9000.0);
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        Resampler::new(Hz8000, Hz16000).unwrap().push(&input, &mut whole).unwrap();
        let mut resampler = Resampler::new(Hz8000, Hz16000).unwrap();
        let mut rest = input.as_slice();
        for cut in cuts {
            let (piece, tail) = rest.split_at(cut);
            resampler.push(piece, &mut pieces).unwrap();
            rest = tail;
        }
        prop_assert_eq!(whole, pieces);
    }
}
