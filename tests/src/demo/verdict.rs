//! Pure: did the echo come back whole? Judged on what crossed the wire, mu-law against mu-law: a busy machine
//! may play late, and that is told but not judged here.

use serde::Serialize;

use crate::{
    signal,
    sim::{CallReport, StreamReport, decode_mulaw},
};

/// Samples per millisecond of the phone line.
const SAMPLES_PER_MS: usize = 8;
/// Longest delay that is looked for on the wire, in samples: half a second.
const MAX_DELAY: usize = 500 * SAMPLES_PER_MS;
/// The filters hold back 10 ms, which is less than a frame; with a frame more, one came twice before the speech.
const FRAME: usize = 20 * SAMPLES_PER_MS;
/// The echo is compared piece by piece as well, so that no lost frame hides in the mean: one second.
const PIECE: usize = 1000 * SAMPLES_PER_MS;
/// A piece whose mean square is below this (about -48 dBFS) holds no speech to compare.
const QUIET: f64 = 130.0 * 130.0;
/// The loudest sample heard must be above this for the recording to be more than silence.
const AUDIBLE: u16 = 500;

/// What a good echo has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Signal over error of the whole, in dB.
    pub whole_db: f64,
    /// Signal over error of the worst second, in dB.
    pub second_db: f64,
}

impl Limits {
    /// For the bundled speech. One mu-law coding leaves 37 dB.
    pub const BUNDLED: Self = Self { whole_db: 36.0, second_db: 30.0 };
    /// For a recording that may hold what no phone line carries. A lost frame leaves less than 5.
    pub const ANY: Self = Self { whole_db: 20.0, second_db: 12.0 };
}

/// The echo as it crossed the wire.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WireEcho {
    /// Samples by which the reply is behind the speech: what the filters hold back.
    pub delay_samples: usize,
    /// The same in milliseconds.
    pub delay_ms: f64,
    /// Signal over error, in dB.
    pub snr_db: f64,
    /// The same of the worst second.
    pub worst_second_db: f64,
    /// Gain, in dB.
    pub gain_db: f64,
    /// Samples of the speech that came back.
    pub came_back: usize,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What it was held against.
    pub limits: Limits,
    /// The echo, if what came back is one.
    pub wire: Option<WireEcho>,
    /// What is wrong; nothing when the echo came back whole.
    pub failures: Vec<String>,
}

impl Verdict {
    /// Judges the echo of `speech` samples of speech.
    pub fn new(report: &CallReport, speech: usize, limits: Limits) -> Self {
        let mut failures: Vec<String> = Vec::new();
        if !report.is_ok() {
            failures.push("the call did not go through".to_owned());
        }
        let wire = match report.streams.as_slice() {
            [stream] => echo(&stream.sent, &on_the_wire(stream), speech),
            streams => {
                failures.push(format!("{} media streams instead of one", streams.len()));
                None
            }
        };
        match wire {
            None => failures.push("what came back is no echo of what was said".to_owned()),
            Some(wire) => wire.judge(speech, limits, &mut failures),
        }
        let loudest = report.heard_pcm().iter().map(|sample| sample.unsigned_abs()).max();
        if loudest <= Some(AUDIBLE) {
            failures.push("the caller heard only silence".to_owned());
        }
        Self { limits, wire, failures }
    }

    /// The echo came back whole.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty()
    }
}

impl WireEcho {
    fn judge(&self, speech: usize, limits: Limits, failures: &mut Vec<String>) {
        if self.came_back < speech {
            let ms = (speech - self.came_back) / SAMPLES_PER_MS;
            failures.push(format!("{ms} ms of the speech did not come back"));
        }
        if self.delay_samples >= FRAME {
            failures.push(format!("{} ms of something else came before the speech", self.delay_ms));
        }
        if self.snr_db < limits.whole_db {
            failures.push(format!("{:.1} dB over the error, not {}", self.snr_db, limits.whole_db));
        }
        if self.worst_second_db < limits.second_db {
            let db = self.worst_second_db;
            failures.push(format!("a second with {db:.1} dB over the error: a frame is missing or out of place"));
        }
    }
}

/// What the server sent, in order: what was heard without the silence in which nothing had arrived.
///
/// A second and more without a frame counts as a pause, not as a gap, and stays in: no echo is whole then.
fn on_the_wire(stream: &StreamReport) -> Vec<u8> {
    let Some(first_ms) = stream.first_media_ms else {
        return Vec::new();
    };
    let index = |sample: u64| usize::try_from(sample).map_or(stream.heard.len(), |i| i.min(stream.heard.len()));
    let mut from = index((first_ms * SAMPLES_PER_MS as f64) as u64);
    let mut wire = Vec::with_capacity(stream.heard.len());
    for gap in &stream.gaps {
        wire.extend_from_slice(&stream.heard[from..index(gap.at).max(from)]);
        from = index(gap.at + gap.samples);
    }
    wire.extend_from_slice(&stream.heard[from..]);
    wire.truncate(index(stream.playout.played));
    wire
}

/// Finds the echo of what was `sent`, of which the first `speech` samples are speech, in `wire`.
fn echo(sent: &[u8], wire: &[u8], speech: usize) -> Option<WireEcho> {
    let speech = decode_mulaw(&sent[..speech.min(sent.len())]);
    let wire = decode_mulaw(wire);
    let delay = signal::align(&speech, &wire, MAX_DELAY)?.delay;
    let whole = signal::fidelity(&speech, &wire, delay)?;
    let worst = speech.chunks(PIECE).zip(wire[delay..].chunks(PIECE)).filter_map(|(said, back)| {
        (mean_square(said) >= QUIET).then(|| signal::fidelity(said, back, 0)).flatten().map(|f| f.snr_db)
    });
    Some(WireEcho {
        delay_samples: delay,
        delay_ms: delay as f64 / SAMPLES_PER_MS as f64,
        snr_db: whole.snr_db,
        worst_second_db: worst.fold(whole.snr_db, f64::min),
        gain_db: whole.gain_db,
        came_back: (wire.len() - delay).min(speech.len()),
    })
}

fn mean_square(samples: &[i16]) -> f64 {
    samples.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / samples.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sim::{Ended, Playout, bundled_speech, encode_mulaw};

    /// A call in which `wire` came back, a frame each 20 ms from the second on, but `late` frames of it late.
    fn call(wire: &[u8], late: &[usize]) -> CallReport {
        let mut sent = encode_mulaw(bundled_speech());
        sent.resize(sent.len() + 2 * PIECE, 0xff);
        let mut playout = Playout::default();
        let mut first = None;
        for (index, frame) in wire.chunks(FRAME).enumerate() {
            let lateness: u64 = late.iter().filter(|&&from| index >= from).map(|_| 37).sum();
            let now = Duration::from_micros(20_000 * (index as u64 + 1) + 1_300) + Duration::from_millis(lateness);
            first.get_or_insert(now);
            playout.handle_media(frame.to_vec(), now);
        }
        playout.handle_time(Duration::from_micros(sent.len() as u64 * 125));
        let stats = playout.stats().clone();
        let (heard, gaps) = playout.into_heard();
        let stream = StreamReport {
            stream_sid: String::new(),
            url: String::new(),
            ended: Ended::CallerHungUp,
            close_code: None,
            handshake_ms: None,
            first_media_ms: first.map(|now: Duration| now.as_secs_f64() * 1000.0),
            lasted: Duration::ZERO,
            frames_sent: 0,
            frames_received: 0,
            frames_dropped: 0,
            digits_sent: 0,
            turns_ms: Vec::new(),
            marks: Vec::new(),
            playout: stats,
            gaps,
            echo: None,
            findings: Vec::new(),
            sent,
            heard,
        };
        CallReport { streams: vec![stream], ..CallReport::default() }
    }

    /// The speech as a worker sends it back: 80 samples later, coded once more.
    fn reply() -> Vec<u8> {
        let mut pcm = vec![0; 80];
        pcm.extend(bundled_speech());
        pcm.resize(pcm.len() + PIECE, 0);
        let mut codes = encode_mulaw(&pcm);
        codes.truncate(codes.len() / FRAME * FRAME);
        codes
    }

    fn judged(wire: &[u8], late: &[usize]) -> Verdict {
        Verdict::new(&call(wire, late), bundled_speech().len(), Limits::BUNDLED)
    }

    #[test]
    fn whole_echo_is_good_to_the_sample() {
        let verdict = judged(&reply(), &[]);
        assert!(verdict.is_good(), "{verdict:?}");
        let wire = verdict.wire.unwrap();
        assert_eq!((wire.delay_samples, wire.came_back), (80, bundled_speech().len()));
    }

    #[test]
    fn late_frames_are_no_fault_of_the_wire() {
        let verdict = judged(&reply(), &[20, 21, 22, 200, 333]);
        assert!(verdict.is_good(), "{verdict:?}");
        assert_eq!(verdict.wire.unwrap().delay_samples, 80);
    }

    #[test]
    fn lost_doubled_or_swapped_frame_is_found_wherever_it_is() {
        let good = reply();
        for at in [5, 100, 215, 330, 425] {
            let (from, to) = (at * FRAME, (at + 1) * FRAME);
            let lost = [&good[..from], &good[to..]].concat();
            let doubled = [&good[..to], &good[from..]].concat();
            let mut swapped = good.clone();
            swapped[from..to + FRAME].rotate_left(FRAME);
            // The speech begins with some silence, of which frames are alike.
            let swapped = (at != 5).then_some(swapped);
            for wire in [lost, doubled].into_iter().chain(swapped) {
                assert!(!judged(&wire, &[]).is_good(), "{at}");
            }
        }
    }

    #[test]
    fn echo_that_ends_early_is_not_whole() {
        let verdict = judged(&reply()[..300 * FRAME], &[]);
        assert_eq!(verdict.failures.len(), 1, "{verdict:?}");
        assert!(verdict.failures[0].ends_with("of the speech did not come back"));
    }

    #[test]
    fn silence_and_other_sound_are_no_echo() {
        let silence = judged(&vec![0xff; 400 * FRAME], &[]);
        assert_eq!(silence.wire, None);
        assert_eq!(silence.failures.len(), 2, "{silence:?}");
        let tone = encode_mulaw(&signal::tone(1000.0, 10_000, 400 * FRAME));
        assert!(!judged(&tone, &[]).is_good());
        assert!(!judged(&[], &[]).is_good());
        assert!(!Verdict::new(&CallReport::default(), 100, Limits::ANY).is_good());
    }

    #[test]
    fn noise_and_distortion_are_heard() {
        let mut wire = reply();
        for code in wire.iter_mut().step_by(50) {
            *code ^= 0x10;
        }
        assert!(!judged(&wire, &[]).is_good());
    }
}
