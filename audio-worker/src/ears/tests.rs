//! Windows, gaps and counts, with a detector that says what it was given.

use super::*;

/// Voice is the first sample of the window, in thousandths.
struct First;

impl VoiceActivity for First {
    fn voice(&mut self, window: &[i16]) -> f32 {
        assert_eq!(window.len(), WINDOW_SAMPLES);
        f32::from(window[0]) / 1_000.0
    }

    fn reset(&mut self) {}
}

#[test]
fn windows_are_whole_and_in_order_whatever_the_cuts_were() {
    let pcm: Vec<i16> = (0..5_000).map(|at| at % 1_000).collect();
    for cut in [1, 7, 160, 320, 512, 513, 4_999, 5_000] {
        let mut ears = Ears::new(Box::new(First));
        let (mut heard, mut voices) = (Vec::new(), Vec::new());
        for piece in pcm.chunks(cut) {
            ears.hear(piece, |voice, window| {
                heard.extend_from_slice(window);
                voices.push(voice);
            });
        }
        let expected: Vec<f32> = (0..9_u16).map(|window| f32::from(window * 512 % 1_000) / 1_000.0).collect();
        assert_eq!((&heard[..], ears.pending()), pcm.split_at(9 * 512), "cut {cut}");
        assert_eq!(voices, expected);
        let voiced = expected.iter().filter(|&&voice| voice >= VOICE).count() as u64;
        assert_eq!(ears.stats(), EarsStats { samples: 5_000, windows: 9, voiced, ..EarsStats::default() });
    }
}

#[test]
fn gaps_are_time_and_are_counted() {
    let mut ears = Ears::new(Box::new(First));
    let mut windows = 0;
    ears.hear(&[100; 320], |_, _| windows += 1);
    assert_eq!(ears.gap(0, |_, _| windows += 1), Filled::default());
    assert_eq!(ears.gap(20, |_, _| windows += 1).concealed_ms, 20);
    assert_eq!((windows, ears.pending().len()), (1, 128));
    // An hour: two seconds of windows.
    let filled = ears.gap(3_600_000, |_, _| windows += 1);
    assert_eq!(windows, 1 + (2_000 * 16 + 128) / 512);
    assert_eq!(filled, Filled { concealed_ms: 60, comfort_noise_ms: 1_940, skipped_ms: 3_598_000 });
    let stats = ears.stats();
    assert_eq!((stats.samples, stats.gaps), ((40 + 3_600_000) * 16, 2));
    assert_eq!((stats.concealed_ms, stats.comfort_noise_ms, stats.skipped_ms), (80, 1_940, 3_598_000));
    ears.gap(u64::MAX, |_, _| {});
    assert_eq!(ears.stats().samples, u64::MAX);
    ears.hear(&[0; 512], |_, _| {});
}

#[test]
fn comfort_noise_has_the_level_of_windows_without_voice() {
    let mut ears = Ears::new(Box::new(First));
    // Voice 0.1 at the level 100, and voice 0.9 that is no background.
    for _ in 0..20 {
        ears.hear(&[100; 512], |_, _| {});
        ears.hear(&[900; 512], |_, _| {});
    }
    let mut made = Vec::new();
    ears.gap(1_000, |_, window| made.extend_from_slice(window));
    let noise = &made[2_048..];
    let power = noise.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / noise.len() as f64;
    assert!((90.0..110.0).contains(&power.sqrt()), "{}", power.sqrt());
}

#[test]
fn the_default_detector_hears_speech_in_the_pieces_that_a_line_brings() {
    let mut codes = &include_bytes!("../../../tests/corpus/speech.ulaw")[..8 * 20 * 200];
    let mut uplink = crate::pipeline::Uplink::new().unwrap();
    let mut ears = Ears::new(detector());
    let mut voices = Vec::new();
    for frame in 0.. {
        let Some((piece, rest)) = codes.split_at_checked(160) else { break };
        codes = rest;
        let heard = uplink.push(piece, frame * 20).unwrap();
        ears.hear(heard.pcm, |voice, _| voices.push(voice >= VOICE));
    }
    assert_eq!(voices.len(), 125);
    // The first second is silent, the first line follows it.
    assert!(voices[..31].iter().all(|&voice| !voice));
    // With holes in it that are heard as such.
    assert!(voices[38..80].iter().filter(|&&voice| voice).count() >= 30);
}
