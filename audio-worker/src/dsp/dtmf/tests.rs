//! What a receiver would measure: frequencies, levels, lengths and silence, after mu-law.

use super::*;

/// Every key with its frequencies, written down from ITU-T Q.23 once more.
const Q23: [(char, f64, f64); 16] = [
    ('1', 697.0, 1209.0),
    ('2', 697.0, 1336.0),
    ('3', 697.0, 1477.0),
    ('A', 697.0, 1633.0),
    ('4', 770.0, 1209.0),
    ('5', 770.0, 1336.0),
    ('6', 770.0, 1477.0),
    ('B', 770.0, 1633.0),
    ('7', 852.0, 1209.0),
    ('8', 852.0, 1336.0),
    ('9', 852.0, 1477.0),
    ('C', 852.0, 1633.0),
    ('*', 941.0, 1209.0),
    ('0', 941.0, 1336.0),
    ('#', 941.0, 1477.0),
    ('D', 941.0, 1633.0),
];

fn codes(digits: &str) -> Vec<u8> {
    let mut codes = Vec::new();
    Keys::parse(digits).unwrap().take(usize::MAX, &mut codes);
    codes
}

fn pcm(digits: &str) -> Vec<i16> {
    let mut pcm = Vec::new();
    mulaw::decode(&codes(digits), &mut pcm);
    pcm
}

/// Peak of the sine at `hz`, through a Hann window, so that the other tone does not leak in.
fn peak_at(samples: &[i16], hz: f64) -> f64 {
    let (mut real, mut imaginary, mut weight) = (0.0, 0.0, 0.0);
    for (n, &sample) in samples.iter().enumerate() {
        let window = 0.5 - 0.5 * (TAU * (n as f64 + 0.5) / samples.len() as f64).cos();
        let angle = TAU * hz * n as f64 / RATE;
        real += window * f64::from(sample) * angle.cos();
        imaginary += window * f64::from(sample) * angle.sin();
        weight += window;
    }
    2.0 * real.hypot(imaginary) / weight
}

/// The frequency near `hz` at which the sound is strongest, by ternary search.
fn strongest_near(samples: &[i16], hz: f64) -> f64 {
    let (mut low, mut high) = (hz * 0.98, hz * 1.02);
    while high - low > 0.001 {
        let third = (high - low) / 3.0;
        if peak_at(samples, low + third) < peak_at(samples, high - third) { low += third } else { high -= third }
    }
    f64::midpoint(low, high)
}

fn decibels(ratio: f64) -> f64 {
    20.0 * ratio.log10()
}

#[test]
fn every_key_has_its_two_frequencies_within_a_thousandth() {
    for (key, low, high) in Q23 {
        let tone = &pcm(&key.to_string())[..TONE_SAMPLES];
        for expected in [low, high] {
            let found = strongest_near(tone, expected);
            assert!((found / expected - 1.0).abs() < 0.001, "{key}: {found} Hz instead of {expected}");
        }
        // Nothing else sounds.
        let whole: f64 = tone.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / tone.len() as f64;
        let (low, high) = (peak_at(tone, low), peak_at(tone, high));
        let tones = f64::midpoint(low * low, high * high);
        assert!((tones / whole - 1.0).abs() < 0.05, "{key}: {tones} of {whole}");
    }
}

#[test]
fn levels_are_as_stated_and_the_upper_tone_is_two_decibels_stronger() {
    let of_dbm0 = |level: f64| 32_636.0 * 10_f64.powf((level - 3.17) / 20.0);
    assert!((of_dbm0(-11.0) - LOW_PEAK).abs() < 1.0 && (of_dbm0(-9.0) - HIGH_PEAK).abs() < 1.0);
    for (key, low, high) in Q23 {
        let pcm = pcm(&key.to_string());
        let steady = &pcm[RAMP_SAMPLES..TONE_SAMPLES - RAMP_SAMPLES];
        let (low, high) = (peak_at(steady, low), peak_at(steady, high));
        assert!(decibels(low / LOW_PEAK).abs() < 0.1 && decibels(high / HIGH_PEAK).abs() < 0.1, "{key}: {low} {high}");
        assert!((decibels(high / low) - 2.0).abs() < 0.1, "{key}: twist {}", decibels(high / low));
        let loudest = pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
        assert!(loudest < 16_384, "{key}: {loudest}");
    }
}

#[test]
fn lengths_are_exact_and_pauses_are_silent() {
    let codes = codes("1w2W#");
    assert_eq!(codes.len(), 3 * (TONE_SAMPLES + GAP_SAMPLES) + 4000 + 8000);
    let mut at = 0;
    for (tone, silent) in
        [(TONE_SAMPLES, GAP_SAMPLES + 4000), (TONE_SAMPLES, GAP_SAMPLES + 8000), (TONE_SAMPLES, GAP_SAMPLES)]
    {
        let sounding = &codes[at..at + tone];
        // It sounds from its first millisecond to its last.
        for edge in [&sounding[..8], &sounding[tone - 8..]] {
            assert!(edge.iter().any(|code| *code != mulaw::SILENCE));
        }
        assert!(codes[at + tone..at + tone + silent].iter().all(|code| *code == mulaw::SILENCE), "at {at}");
        at += tone + silent;
    }
}

#[test]
fn a_tone_comes_and_goes_without_a_click() {
    for (key, ..) in Q23 {
        let pcm = pcm(&key.to_string());
        let edges = [pcm[0], pcm[1], pcm[TONE_SAMPLES - 2], pcm[TONE_SAMPLES - 1]];
        assert!(edges.iter().all(|sample| sample.unsigned_abs() < 400), "{key}: {edges:?}");
        // Full from 2 ms on.
        assert!((0..RAMP_SAMPLES).all(|n| ramp(n) < 1.0 && (ramp(n) - ramp(TONE_SAMPLES - 1 - n)).abs() < 1e-12));
        assert!((ramp(RAMP_SAMPLES) - 1.0).abs() < 1e-12);
    }
}

#[test]
fn pieces_of_any_size_make_the_same_sound() {
    let whole = codes("19wD0");
    for size in [1, 7, 160, 799, 801, 5000] {
        let (mut keys, mut pieces) = (Keys::parse("19wD0").unwrap(), Vec::new());
        assert!(!keys.has_begun());
        while keys.remaining() > 0 {
            let before = (pieces.len(), keys.remaining());
            keys.take(size, &mut pieces);
            assert!(keys.has_begun());
            let taken = pieces.len() - before.0;
            assert_eq!((taken, keys.remaining()), (size.min(before.1), before.1 - taken));
        }
        keys.take(size, &mut pieces);
        assert_eq!(pieces, whole, "pieces of {size}");
    }
}

#[test]
fn mulaw_brings_the_tone_back_within_half_a_step() {
    let (key, pcm) = (Key::of('5').unwrap(), pcm("5"));
    for (n, &sample) in pcm.iter().enumerate() {
        let meant = i32::from(key.sample(n));
        // A step of G.711 is at most a sixteenth of the sample; half of that, and 4 near zero.
        let allowed = meant.abs() / 32 + 8;
        assert!((i32::from(sample) - meant).abs() <= allowed, "sample {n}: {sample} instead of {meant}");
    }
}

#[test]
fn what_cannot_be_played_is_refused_by_its_place() {
    assert_eq!(Keys::parse(""), Err(KeysError::Empty));
    assert!(Keys::parse(&"5".repeat(64)).is_ok());
    assert_eq!(Keys::parse(&"5".repeat(65)), Err(KeysError::TooMany(65)));
    for (digits, place) in [("x", 1), ("12a", 3), ("1 2", 2), ("1,2", 2), ("é", 1), ("123\n", 4), ("1e9", 2), ("+1", 1)]
    {
        assert_eq!(Keys::parse(digits), Err(KeysError::NoSuchKey(place)), "{digits:?}");
    }
    assert!(Keys::parse("0123456789*#ABCDwW").is_ok());
}

#[test]
fn keys_are_not_printed() {
    let printed = format!("{:?}", Keys::parse("9876").unwrap());
    assert!(printed.contains("redacted") && !printed.contains("852"), "{printed}");
}
