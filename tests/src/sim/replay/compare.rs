//! Pure: where two transcripts differ.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use super::{Transcript, transcript::Stretch};
use crate::{signal::align, sim::decode_mulaw};

/// Sound counts as the same from this correlation on; another sentence has about 0.1, the same through filters 0.99.
const SAME_SOUND: f64 = 0.9;

/// Longest shift between two recordings of the same sound, in samples: 100 ms.
const MAX_SHIFT: usize = 800;

/// Mean square below which sound is silence (about -50 dBFS).
const SILENCE_POWER: f64 = 100.0 * 100.0;

/// What counts as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// Samples by which the length of a stretch, or the place of a mark at a cut, may differ.
    pub samples: usize,
}

impl Tolerance {
    /// So much sound.
    pub fn of(sound: Duration) -> Self {
        Self { samples: usize::try_from(sound.as_millis() * 8).unwrap_or(usize::MAX) }
    }
}

impl Default for Tolerance {
    /// Two frames: what may be under way when the call ends or is interrupted.
    fn default() -> Self {
        Self { samples: 320 }
    }
}

/// One difference. Stretches are counted from 1 and parted by `clear`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Difference {
    #[error("mark {index} of stretch {stretch} was {then}, is {now}")]
    Mark { stretch: usize, index: usize, then: String, now: String },
    #[error("mark {name} of stretch {stretch} was at {then} ms, is at {now} ms")]
    MarkPlace { stretch: usize, name: String, then: usize, now: usize },
    #[error("stretch {stretch} had {then} samples, has {now}")]
    Samples { stretch: usize, then: usize, now: usize },
    #[error("stretch {stretch} sounds different: correlation {percent} %")]
    Sound { stretch: usize, percent: i64 },
    #[error("stretch {stretch} had as undocumented messages {then:?}, has {now:?}")]
    Others { stretch: usize, then: Vec<String>, now: Vec<String> },
    #[error("there were {then} clear, are {now}")]
    Clears { then: usize, now: usize },
    #[error("the close code was {then:?}, is {now:?}")]
    Close { then: Option<u16>, now: Option<u16> },
    #[error("the gateway {}", if *then { "closed, and does not" } else { "did not close, and does" })]
    Closes { then: bool, now: bool },
    #[error("the call ended after {then} messages of the caller, ends after {now}")]
    End { then: usize, now: usize },
}

/// Every difference, in the order of the call.
pub fn compare(then: &Transcript, now: &Transcript, tolerance: Tolerance) -> Vec<Difference> {
    let mut found = Vec::new();
    for (at, (then, now)) in then.stretches.iter().zip(&now.stretches).enumerate() {
        compare_stretches(at + 1, then, now, tolerance, &mut found);
    }
    if then.clears() != now.clears() {
        found.push(Difference::Clears { then: then.clears(), now: now.clears() });
    }
    match (then.close, now.close) {
        (Some(then), Some(now)) if then != now => found.push(Difference::Close { then, now }),
        (Some(_), Some(_)) | (None, None) => {}
        (then, now) => found.push(Difference::Closes { then: then.is_some(), now: now.is_some() }),
    }
    // What was under way when the gateway closed differs from call to call: some frames and their marks.
    let slack = tolerance.samples / 80 + 2;
    if then.caller_messages.abs_diff(now.caller_messages) > slack {
        found.push(Difference::End { then: then.caller_messages, now: now.caller_messages });
    }
    found
}

fn compare_stretches(stretch: usize, then: &Stretch, now: &Stretch, tolerance: Tolerance, found: &mut Vec<Difference>) {
    let is_near = |a: usize, b: usize| a.abs_diff(b) <= tolerance.samples;
    for index in 0..then.marks.len().max(now.marks.len()) {
        match (then.marks.get(index), now.marks.get(index)) {
            (Some((name, then)), Some((same, now))) if name == same => {
                if !is_near(*then, *now) {
                    let name = name.clone();
                    found.push(Difference::MarkPlace { stretch, name, then: *then / 8, now: *now / 8 });
                }
            }
            // Where the end came a frame earlier, a mark at the end is missing.
            (Some((_, at)), None) if is_near(*at, now.samples) => {}
            (None, Some((_, at))) if is_near(*at, then.samples) => {}
            (then, now) => {
                let name = |mark: Option<&(String, usize)>| mark.map_or("missing".to_owned(), |(name, _)| name.clone());
                found.push(Difference::Mark { stretch, index: index + 1, then: name(then), now: name(now) });
                break;
            }
        }
    }
    if !is_near(then.samples, now.samples) {
        found.push(Difference::Samples { stretch, then: then.samples, now: now.samples });
    }
    let names = |stretch: &Stretch| stretch.others.iter().map(|(what, _)| what.clone()).collect::<Vec<_>>();
    if names(then) != names(now) {
        found.push(Difference::Others { stretch, then: names(then), now: names(now) });
    }
    let correlation = correlation(&then.mulaw, &now.mulaw);
    if correlation < SAME_SOUND {
        #[expect(clippy::cast_possible_truncation, reason = "between -100 and 100")]
        let percent = (correlation * 100.0).round() as i64;
        found.push(Difference::Sound { stretch, percent });
    }
}

/// How alike the sound is where both have some: 1 for the same.
fn correlation(then: &[u8], now: &[u8]) -> f64 {
    let common = then.len().min(now.len());
    let (then, now) = (decode_mulaw(&then[..common]), decode_mulaw(&now[..common]));
    match (is_silent(&then), is_silent(&now)) {
        (true, true) => 1.0,
        (true, false) | (false, true) => 0.0,
        (false, false) => {
            // Either may be the later one.
            let shifted: Vec<i16> = [vec![0; MAX_SHIFT], now].concat();
            align(&then, &shifted, 2 * MAX_SHIFT).map_or(0.0, |found| found.correlation)
        }
    }
}

fn is_silent(samples: &[i16]) -> bool {
    let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    power <= SILENCE_POWER * samples.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{GatewaySaid as G, Sound, bundled_speech, encode_mulaw};

    fn transcript(said: &[G]) -> Transcript {
        let mut transcript = Transcript::default();
        said.iter().for_each(|said| transcript.hear(said));
        transcript
    }

    fn speech(from: usize, samples: usize) -> G {
        G::Media(Sound::Mulaw(encode_mulaw(&bundled_speech()[from..from + samples])))
    }

    fn silence(samples: usize) -> G {
        G::Media(Sound::Length(samples))
    }

    fn mark(name: &str) -> G {
        G::Mark(name.to_owned())
    }

    fn differences(then: &[G], now: &[G]) -> Vec<String> {
        compare(&transcript(then), &transcript(now), Tolerance::default()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn timing_and_frame_sizes_are_no_difference() {
        let then = [silence(1600), mark("a"), silence(800), G::Clear, silence(160), G::Close(Some(1000))];
        let now = [
            silence(800),
            silence(800),
            mark("a"),
            G::Ping,
            silence(1120),
            G::Clear,
            silence(80),
            G::Close(Some(1000)),
        ];
        assert_eq!(differences(&then, &now), [""; 0]);
        // A mark at the cut may have come just in time or not.
        let then = [silence(1600), mark("a"), silence(1500), G::Clear];
        let now = [silence(1600), mark("a"), silence(1600), mark("b"), G::Clear];
        assert_eq!(differences(&then, &now), [""; 0]);
        assert_eq!(differences(&now, &then), [""; 0]);
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        let then = [silence(1600), mark("a"), silence(1600), mark("b"), silence(1600), G::Clear, G::Close(Some(1000))];
        let without = |at: usize| {
            let mut now = then.to_vec();
            now.remove(at);
            now
        };
        let with = |at: usize, other: G| {
            let mut now = then.to_vec();
            now[at] = other;
            now
        };
        let cases = [
            (without(1), "mark 1 of stretch 1 was a, is b"),
            (with(3, mark("c")), "mark 2 of stretch 1 was b, is c"),
            (with(0, silence(3200)), "mark a of stretch 1 was at 200 ms, is at 400 ms"),
            (with(4, silence(1200)), "stretch 1 had 4800 samples, has 4400"),
            (with(6, G::Close(Some(1011))), "the close code was Some(1000), is Some(1011)"),
            (without(6), "the gateway closed, and does not"),
            (with(5, G::Ping), "there were 1 clear, are 0"),
            (with(5, G::Other("hm".into())), "stretch 1 had as undocumented messages [], has [\"hm\"]"),
        ];
        for (now, expected) in cases {
            let found = differences(&then, &now);
            assert_eq!(found.first().map(String::as_str), Some(expected), "{found:?}");
        }
        let (mut early, mut late) = (transcript(&then), transcript(&then));
        (early.caller_messages, late.caller_messages) = (20, 60);
        let found = compare(&late, &early, Tolerance::default());
        assert_eq!(found, [Difference::End { then: 60, now: 20 }]);
    }

    #[test]
    fn other_words_sound_different() {
        let said = [speech(8000, 8000)];
        assert_eq!(differences(&said, &[speech(8100, 8000)]), [""; 0], "12 ms later");
        assert!(differences(&said, &[speech(24_000, 8000)])[0].starts_with("stretch 1 sounds different"));
        let mute = [G::Media(Sound::Mulaw(vec![0xff; 8000]))];
        assert_eq!(differences(&said, &mute), ["stretch 1 sounds different: correlation 0 %"]);
        assert_eq!(differences(&mute, &mute), [""; 0]);
        // Without the sound of one, only its length counts.
        assert_eq!(differences(&said, &[silence(8000)]), [""; 0]);
    }
}
