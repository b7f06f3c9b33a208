//! Pure: which keys are heard as in-band tones, as a receiver of ITU-T Q.24 decides it, at 8 kHz.
//!
//! Shares nothing with what makes the tones: it knows the keypad of ITU-T Q.23 and Goertzel's algorithm.

use super::tone_power;

/// Window of a decision: 20 ms, in which the closest two frequencies are a bin and a half apart.
const WINDOW: usize = 160;
/// From one window to the next: 5 ms.
const STEP: usize = 40;
/// Shortest tone that counts as a key, in samples: 40 ms (ITU-T Q.24).
const SHORTEST: usize = 320;
/// Weakest power of either tone: a peak of 300, some 40 dB below full scale.
const WEAKEST: f64 = 300.0 * 300.0 / 2.0;
/// Share of the energy that both tones must have: a tone that is 1.5 % off (ITU-T Q.24) has it, speech has overtones.
const SHARE: f64 = 0.55;
/// How much stronger the upper tone may be than the lower, as a ratio of powers: 4 dB (ITU-T Q.24).
const UPPER_OVER_LOWER: f64 = 2.512;
/// And the lower than the upper: 8 dB (ITU-T Q.24).
const LOWER_OVER_UPPER: f64 = 6.31;
/// How much stronger a tone must be than its neighbours on the keypad, as a ratio of powers: 6 dB.
const CLEAR: f64 = 3.981;
/// Silence by which the begin and end of a tone are told: 2 ms below a thirtieth of its peak.
const QUIET: (usize, i32) = (16, 30);

const ROWS: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f64; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
const KEYS: [&[u8; 4]; 4] = [b"123A", b"456B", b"789C", b"*0#D"];

/// A key that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    /// 0-9, *, #, A-D.
    pub key: char,
    /// Its first sample.
    pub from: usize,
    /// How many samples it lasted. Next to silence both are exact to a millisecond, next to other sound to 20.
    pub samples: usize,
}

/// The keys heard in `samples`, in order.
pub fn presses(samples: &[i16]) -> Vec<Press> {
    let mut presses = Vec::new();
    let mut run: Option<(char, usize, usize)> = None;
    let mut close = |run: Option<(char, usize, usize)>| {
        let Some((key, first, last)) = run else { return };
        let press = measure(samples, key, first, last + WINDOW);
        if press.samples >= SHORTEST {
            presses.push(press);
        }
    };
    for at in (0..(samples.len() + 1).saturating_sub(WINDOW)).step_by(STEP) {
        let key = key_in(&samples[at..at + WINDOW]);
        run = match (run, key) {
            (Some((before, first, _)), Some(key)) if key == before => Some((key, first, at)),
            (before, key) => {
                close(before);
                key.map(|key| (key, at, at))
            }
        };
    }
    close(run);
    presses
}

/// The keys alone, as a text.
pub fn keys_in(samples: &[i16]) -> String {
    presses(samples).iter().map(|press| press.key).collect()
}

/// The key that one window is full of.
fn key_in(window: &[i16]) -> Option<char> {
    let energy = window.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / window.len() as f64;
    // Most windows of a call are silent.
    if energy < WEAKEST {
        return None;
    }
    let (row, lower) = strongest(window, &ROWS)?;
    let (column, upper) = strongest(window, &COLUMNS)?;
    let is_key = lower + upper >= SHARE * energy
        && upper <= lower * UPPER_OVER_LOWER
        && lower <= upper * LOWER_OVER_UPPER
        && lower.min(upper) >= WEAKEST;
    is_key.then(|| char::from(KEYS[row][column]))
}

/// The frequency that stands out, and its power.
fn strongest(window: &[i16], group: &[f64; 4]) -> Option<(usize, f64)> {
    let powers = group.map(|frequency| tone_power(window, frequency));
    let (at, best) = powers.into_iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    powers.iter().enumerate().all(|(other, power)| other == at || power * CLEAR <= best).then_some((at, best))
}

/// Where the tone that fills the windows `first..end` for the most part really begins and ends.
fn measure(samples: &[i16], key: char, first: usize, end: usize) -> Press {
    let peak = samples[first..end].iter().map(|&sample| i32::from(sample).abs()).max().unwrap_or(0);
    let (length, part) = QUIET;
    let is_quiet = |at: usize| samples[at..at + length].iter().all(|&sample| i32::from(sample).abs() * part <= peak);
    let middle = usize::midpoint(first, end);
    let from = (first.saturating_sub(WINDOW)..middle).rev().find(|at| is_quiet(*at)).map(|at| at + length);
    let last = samples.len().min(end + WINDOW).saturating_sub(length);
    let until = (middle..last).find(|at| is_quiet(*at));
    let (from, until) = (from.unwrap_or(first), until.unwrap_or(end));
    Press { key, from, samples: until.saturating_sub(from) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        signal::tone,
        sim::{bundled_speech, decode_mulaw, encode_mulaw},
    };

    /// Two tones of these peaks.
    fn pair(low: f64, high: f64, peaks: (i16, i16), length: usize) -> Vec<i16> {
        tone(low, peaks.0, length).iter().zip(tone(high, peaks.1, length)).map(|(a, b)| a + b).collect()
    }

    fn silence(length: usize) -> Vec<i16> {
        vec![0; length]
    }

    #[test]
    fn every_key_is_told_from_every_other() {
        for (row, low) in ROWS.into_iter().enumerate() {
            for (column, high) in COLUMNS.into_iter().enumerate() {
                let key = char::from(KEYS[row][column]);
                // As far off as ITU-T Q.24 allows, weak, and after mu-law.
                for (detune, peaks) in [(1.0, (6000, 8000)), (1.015, (6000, 6000)), (0.985, (900, 700))] {
                    let sound = [silence(777), pair(low * detune, high * detune, peaks, 400), silence(500)].concat();
                    let heard = presses(&decode_mulaw(&encode_mulaw(&sound)));
                    let [press] = heard[..] else { panic!("{key}: {heard:?}") };
                    assert_eq!(press.key, key);
                    assert!(press.from.abs_diff(777) <= 8 && press.samples.abs_diff(400) <= 16, "{press:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_is_heard_in_order_and_the_same_key_twice_is_two() {
        let sound: Vec<_> = [(697.0, 1209.0), (697.0, 1209.0), (941.0, 1477.0)]
            .into_iter()
            .flat_map(|(low, high)| [pair(low, high, (6000, 7000), 400), silence(400)].concat())
            .collect();
        assert_eq!(keys_in(&sound), "11#");
        assert_eq!(presses(&sound).iter().map(|press| press.from / 10 * 10).collect::<Vec<_>>(), [0, 800, 1600]);
    }

    #[test]
    fn what_is_no_key_is_none() {
        let too_short = [silence(300), pair(770.0, 1336.0, (6000, 6000), 250), silence(300)].concat();
        for (what, sound) in [
            ("nothing", Vec::new()),
            ("silence", silence(2000)),
            ("one tone", tone(770.0, 9000, 2000)),
            ("too short", too_short),
            ("the upper tone is too strong", pair(770.0, 1336.0, (2000, 4000), 2000)),
            ("the lower tone is too strong", pair(770.0, 1336.0, (9000, 3000), 2000)),
            ("too weak", pair(770.0, 1336.0, (200, 200), 2000)),
            ("between two keys", pair(733.0, 1336.0, (6000, 6000), 2000)),
            ("speech", bundled_speech().to_vec()),
        ] {
            assert_eq!(keys_in(&sound), "", "{what}");
        }
    }
}
