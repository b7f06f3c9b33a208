//! Level, edges, counts and bounds of what is made.

use super::*;
use crate::dsp::{Resampler, SampleRate};

/// A buzz like a voice's: harmonics of `hz`, from sample `from` on.
fn buzz(hz: f64, from: usize, length: usize) -> Vec<i16> {
    let sample = |at: usize| {
        let phase = std::f64::consts::TAU * hz * at as f64 / 16_000.0;
        (1..=8).map(|harmonic| 4_000.0 / f64::from(harmonic) * (phase * f64::from(harmonic)).sin()).sum::<f64>() as i16
    };
    (from..from + length).map(sample).collect()
}

fn rms(pcm: &[i16]) -> f64 {
    (pcm.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / pcm.len() as f64).sqrt()
}

/// The largest step from one sample to the next.
fn steepest(pcm: &[i16]) -> u16 {
    pcm.windows(2).map(|pair| pair[0].abs_diff(pair[1])).max().unwrap()
}

#[test]
fn counts_are_the_gap() {
    for (gap_ms, concealed_ms, comfort_noise_ms, skipped_ms) in [
        (0, 0, 0, 0),
        (20, 20, 0, 0),
        (60, 60, 0, 0),
        (61, 60, 1, 0),
        (2_000, 60, 1_940, 0),
        (3_600_000, 60, 1_940, 3_598_000),
        (u64::MAX, 60, 1_940, u64::MAX - 2_000),
    ] {
        let mut out = vec![7];
        let filled = Concealment::new().fill(gap_ms, &mut out);
        assert_eq!(filled, Filled { concealed_ms, comfort_noise_ms, skipped_ms });
        assert_eq!(out.len(), 1 + (concealed_ms + comfort_noise_ms) as usize * 16);
        assert!(out[1..].iter().all(|&sample| sample == 0), "nothing was heard yet");
    }
}

#[test]
fn a_short_gap_in_a_voice_goes_on_like_the_voice() {
    for hz in [80.0, 110.0, 187.0, 240.0] {
        let heard = buzz(hz, 0, 1_600);
        let (mut concealment, mut made) = (Concealment::new(), Vec::new());
        concealment.hear(&heard);
        concealment.fill(20, &mut made);
        // What was lost, beside what was made: they differ by 10 dB less than they sound.
        let lost = buzz(hz, 1_600, 320);
        let difference: Vec<i16> = made[..160].iter().zip(&lost).map(|(one, other)| one - other).collect();
        assert!(rms(&difference) < rms(&lost) / 3.0, "{hz} Hz: {} of {}", rms(&difference), rms(&lost));
    }
}

#[test]
fn there_is_no_step_at_either_edge_wherever_the_gap_begins() {
    for begin in (700..1_500).step_by(37) {
        for gap_ms in [10, 20, 40, 60, 100] {
            let heard = buzz(110.0, 0, begin);
            let mut after = buzz(110.0, begin + gap_ms * 16, 320);
            let usual = steepest(&heard).max(steepest(&after));
            let (mut concealment, mut all) = (Concealment::new(), heard.clone());
            concealment.hear(&heard);
            concealment.fill(gap_ms as u64, &mut all);
            // In pieces, as it comes.
            for piece in after.chunks_mut(50) {
                concealment.resume(piece);
                concealment.hear(piece);
            }
            all.extend(&after);
            let step = steepest(&all[begin - 1..]);
            assert!(f64::from(step) < 1.3 * f64::from(usual), "{gap_ms} ms at {begin}: {step}, usual {usual}");
        }
    }
}

#[test]
fn what_comes_after_a_gap_is_changed_for_nine_milliseconds_alone() {
    let mut concealment = Concealment::new();
    concealment.hear(&buzz(150.0, 0, 640));
    concealment.fill(20, &mut Vec::new());
    let mut after = vec![0; 320];
    concealment.resume(&mut after);
    assert!(after[80..144].iter().any(|&sample| sample != 0));
    assert_eq!(after[144..], [0; 176]);
    let mut later = vec![123; 320];
    concealment.resume(&mut later);
    assert_eq!(later, [123; 320]);
}

#[test]
fn of_what_the_resampler_kept_from_before_a_gap_nothing_is_heard_after_it() {
    let late = Resampler::new(SampleRate::Hz8000, SampleRate::Hz16000).unwrap().delay();
    assert_eq!(late, LATE);
    let [mut with, mut without] = [(); 2].map(|()| {
        let mut concealment = Concealment::new();
        concealment.hear(&buzz(150.0, 0, 640));
        concealment.fill(20, &mut Vec::new());
        (concealment, vec![0; 320])
    });
    with.1[..late].fill(i16::MAX);
    with.0.resume(&mut with.1);
    without.0.resume(&mut without.1);
    assert_eq!(with.1, without.1);
}

#[test]
fn a_voice_fades_and_noise_of_the_background_stays() {
    let mut noise = Noise::default();
    let background: Vec<i16> = (0..16_000).map(|_| to_i16(noise.next() * 300.0)).collect();
    let (mut concealment, mut made) = (Concealment::new(), Vec::new());
    for window in background.chunks(512) {
        concealment.background(window);
    }
    concealment.hear(&buzz(120.0, 0, 1_600));
    concealment.fill(1_000, &mut made);
    let level = |ms: std::ops::Range<usize>| rms(&made[ms.start * 16..ms.end * 16]);
    assert!(level(0..10) > 2_500.0);
    assert!((1_000.0..2_500.0).contains(&level(25..35)), "{}", level(25..35));
    for ms in [60..200, 200..600, 600..1_000] {
        let decibels = 20.0 * (level(ms) / 300.0).log10();
        assert!(decibels.abs() < 1.0, "{decibels} dB off");
    }
}

#[test]
fn the_level_of_the_background_follows_it_slowly() {
    let mut concealment = Concealment::new();
    concealment.background(&[100; 512]);
    concealment.background(&[]);
    assert_eq!(concealment.background, Some(10_000.0));
    concealment.background(&[10_000; 512]);
    assert!(concealment.background.unwrap() < 1e7, "one window is no background");
    for _ in 0..200 {
        concealment.background(&[10; 512]);
    }
    assert!(concealment.background.unwrap() < 200.0);
}

#[test]
fn loud_sound_does_not_wrap_around() {
    let mut concealment = Concealment::new();
    let square: Vec<i16> = (0..640).map(|at| if at / 50 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
    concealment.background(&square);
    concealment.hear(&square);
    let mut made = Vec::new();
    concealment.fill(2_000, &mut made);
    assert!(steepest(&made[..160]) == u16::MAX, "it is still a square");
    assert!(rms(&made) > 10_000.0);
}
