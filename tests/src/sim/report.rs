//! What came of a call: numbers for a program, text for a person.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::Serialize;

use super::{
    Finding, Gap, Level, PlayoutStats,
    speech::{SAMPLE_RATE, decode_mulaw},
};
use crate::signal;

/// Longest echo that is looked for, in samples: five seconds.
const MAX_ECHO: usize = 5 * SAMPLE_RATE as usize;
/// Below this correlation what was heard is not an echo of what was said.
const ECHO_CORRELATION: f64 = 0.5;

/// Counters that all calls of a process add to while they run.
#[derive(Debug, Default)]
pub struct Progress {
    /// Streams that are up.
    pub live: AtomicU64,
    /// Media messages sent.
    pub sent: AtomicU64,
    /// Media messages received.
    pub received: AtomicU64,
    /// Calls that have ended.
    pub ended: AtomicU64,
}

impl Progress {
    /// One line for a person.
    pub fn line(&self) -> String {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} up, {} ended, {} frames sent, {} received",
            load(&self.live),
            load(&self.ended),
            load(&self.sent),
            load(&self.received)
        )
    }
}

/// How long the steps took, in milliseconds; none for a step that was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Webhook sent until TwiML.
    pub webhook_ms: Option<f64>,
    /// TwiML until 101, of the first stream.
    pub handshake_ms: Option<f64>,
    /// `start` sent until the first media came back, on the first stream.
    pub first_media_ms: Option<f64>,
}

impl Timing {
    /// TwiML until the first media came back, in milliseconds; with an echo, 20 of them are the first frame itself.
    pub fn setup_ms(&self) -> Option<f64> {
        Some(self.handshake_ms? + self.first_media_ms?)
    }
}

/// The caller's speech as it came back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Echoed {
    /// Delay from saying to hearing, in samples; 20 ms of it is the first frame being spoken.
    pub delay_samples: usize,
    /// Samples of gaps that were cut out before comparing; each makes the delay longer from there on.
    pub gap_samples: usize,
    /// The same in milliseconds.
    pub delay_ms: f64,
    /// Normalised correlation.
    pub correlation: f64,
    /// Signal over error after delay and gain are taken out, in dB.
    pub snr_db: f64,
    /// Gain of the echo, in dB.
    pub gain_db: f64,
}

impl Echoed {
    /// Looks for `sent` in `heard` (both mu-law from the start of one stream).
    ///
    /// A gap shifts all that follows, which no single delay can undo; so the comparison is made with
    /// the gaps and without them, and the better one counts. How bad the gaps are is told by their own
    /// counters.
    pub fn find(sent: &[u8], heard: &[u8], gaps: &[Gap]) -> Option<Self> {
        let (sent, heard) = (decode_mulaw(sent), decode_mulaw(heard));
        let as_heard = Self::compare(&sent, &heard, 0);
        if gaps.is_empty() {
            return as_heard;
        }
        let whole = without(&heard, gaps);
        let without_gaps = Self::compare(&sent, &whole, heard.len() - whole.len());
        match (as_heard, without_gaps) {
            (Some(a), Some(b)) => Some(if b.correlation > a.correlation { b } else { a }),
            (a, b) => b.or(a),
        }
    }

    fn compare(sent: &[i16], heard: &[i16], gap_samples: usize) -> Option<Self> {
        let found = signal::align(sent, heard, MAX_ECHO)?;
        if found.correlation < ECHO_CORRELATION {
            return None;
        }
        let fidelity = signal::fidelity(sent, heard, found.delay)?;
        Some(Self {
            delay_samples: found.delay,
            gap_samples,
            delay_ms: found.delay as f64 * 1000.0 / f64::from(SAMPLE_RATE),
            correlation: found.correlation,
            snr_db: fidelity.snr_db,
            gain_db: fidelity.gain_db,
        })
    }
}

fn without(heard: &[i16], gaps: &[Gap]) -> Vec<i16> {
    let index = |sample: u64| usize::try_from(sample).map_or(heard.len(), |i| i.min(heard.len()));
    let (mut whole, mut from) = (Vec::with_capacity(heard.len()), 0);
    for gap in gaps {
        whole.extend_from_slice(&heard[from..index(gap.at)]);
        from = index(gap.at + gap.samples);
    }
    whole.extend_from_slice(&heard[from..]);
    whole
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It never was up.
    NotConnected,
    /// The caller hung up.
    CallerHungUp,
    /// The server sent a close frame.
    ServerClosed,
    /// The connection went without a close frame.
    Lost,
    /// The server broke the WebSocket protocol.
    Violation,
    /// The REST API ended the call or gave it other TwiML.
    CallUpdated,
}

/// One media stream.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    /// `MZ…`
    pub stream_sid: String,
    /// What was dialled.
    pub url: String,
    /// How it ended.
    pub ended: Ended,
    /// Code of the server's close frame.
    pub close_code: Option<u16>,
    /// Connect until 101, in ms.
    pub handshake_ms: Option<f64>,
    /// `start` sent until the first media came back, in ms.
    pub first_media_ms: Option<f64>,
    /// From `start` to the end.
    #[serde(skip)]
    pub lasted: Duration,
    /// Media messages sent.
    pub frames_sent: u64,
    /// Media messages received.
    pub frames_received: u64,
    /// Caller audio dropped because the server did not read (31930), in messages.
    pub frames_dropped: u64,
    /// Key presses sent.
    pub digits_sent: u64,
    /// When turns of the dialogue were taken, in ms from `start`.
    pub turns_ms: Vec<f64>,
    /// Names of the marks sent back, in order.
    #[serde(skip)]
    pub marks: Vec<String>,
    /// The playout buffer.
    pub playout: PlayoutStats,
    /// Gaps in what was heard while the agent was speaking.
    #[serde(skip)]
    pub gaps: Vec<Gap>,
    /// The echo, if what was heard is one.
    pub echo: Option<Echoed>,
    /// Warnings and errors.
    pub findings: Vec<Finding>,
    /// What was said, mu-law from the start of the stream.
    #[serde(skip)]
    pub sent: Vec<u8>,
    /// What was heard in real time, mu-law from the start of the stream.
    #[serde(skip)]
    pub heard: Vec<u8>,
}

impl StreamReport {
    pub(super) fn not_connected(stream_sid: String, url: String, finding: Finding) -> Self {
        Self {
            stream_sid,
            url,
            ended: Ended::NotConnected,
            close_code: None,
            handshake_ms: None,
            first_media_ms: None,
            lasted: Duration::ZERO,
            frames_sent: 0,
            frames_received: 0,
            frames_dropped: 0,
            digits_sent: 0,
            turns_ms: Vec::new(),
            marks: Vec::new(),
            playout: PlayoutStats::default(),
            gaps: Vec::new(),
            echo: None,
            findings: vec![finding],
            sent: Vec::new(),
            heard: Vec::new(),
        }
    }
}

/// What the server answered when a stream had ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionOutcome {
    /// The URL asked.
    pub url: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The verbs of its TwiML, by name.
    pub verbs: Vec<String>,
}

/// A whole call.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CallReport {
    /// `CA…`
    pub call_sid: String,
    /// Setup times.
    pub timing: Timing,
    /// Streams in order.
    pub streams: Vec<StreamReport>,
    /// Answers to `<Connect action>`.
    pub actions: Vec<ActionOutcome>,
    /// What `<Say>` said.
    pub said: Vec<String>,
    /// Numbers that `<Dial>` called.
    pub dialled: Vec<String>,
    /// Queues that `<Enqueue>` named.
    pub queued: Vec<String>,
    /// Reason of `<Reject>`.
    pub rejected: Option<String>,
    /// Stream events posted to `statusCallback`, each with the HTTP status it got.
    pub status_callbacks: Vec<(String, Option<u16>)>,
    /// Events of an inbound call posted to the number's status callback, each with the HTTP status it got.
    pub call_callbacks: Vec<(String, Option<u16>)>,
    /// Findings outside of streams.
    pub findings: Vec<Finding>,
}

impl CallReport {
    /// Every finding of the call.
    pub fn all_findings(&self) -> impl Iterator<Item = &Finding> {
        let streams = self.streams.iter().flat_map(|stream| &stream.findings);
        self.findings.iter().chain(streams)
    }

    /// The gravest level among the findings.
    pub fn level(&self) -> Option<Level> {
        self.all_findings().map(|finding| finding.level).max()
    }

    /// True when a stream was up and nothing was an error.
    pub fn is_ok(&self) -> bool {
        let connected = |stream: &StreamReport| stream.ended != Ended::NotConnected;
        self.streams.iter().any(connected) && self.level() < Some(Level::Error)
    }

    /// What was heard, all streams in a row, as PCM.
    pub fn heard_pcm(&self) -> Vec<i16> {
        self.pcm(|stream| &stream.heard)
    }

    /// What was said, all streams in a row, as PCM.
    pub fn sent_pcm(&self) -> Vec<i16> {
        self.pcm(|stream| &stream.sent)
    }

    fn pcm(&self, side: fn(&StreamReport) -> &Vec<u8>) -> Vec<i16> {
        self.streams.iter().flat_map(|stream| decode_mulaw(side(stream))).collect()
    }
}

impl fmt::Display for CallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "call {}", self.call_sid)?;
        let Timing { webhook_ms, handshake_ms, first_media_ms } = self.timing;
        writeln!(
            f,
            "  setup: TwiML after {}, 101 after {} more, first media {} after start: {} from TwiML to sound",
            Ms(webhook_ms),
            Ms(handshake_ms),
            Ms(first_media_ms),
            Ms(self.timing.setup_ms())
        )?;
        for stream in &self.streams {
            write!(f, "{stream}")?;
        }
        for action in &self.actions {
            let status = action.status.map_or("no answer".into(), |s| s.to_string());
            let verbs = action.verbs.join(", ");
            writeln!(f, "  action {}: {status}, {verbs}", action.url)?;
        }
        for (what, texts) in [("said", &self.said), ("dialled", &self.dialled), ("waits in the queue", &self.queued)] {
            texts.iter().try_for_each(|text| writeln!(f, "  {what}: {text}"))?;
        }
        if let Some(reason) = &self.rejected {
            writeln!(f, "  rejected: {reason}")?;
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        let verdict = if self.is_ok() { "ok" } else { "failed" };
        writeln!(f, "  {verdict}")
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = match self.ended {
            Ended::NotConnected => "never connected".to_owned(),
            Ended::CallerHungUp => "the caller hung up".to_owned(),
            Ended::ServerClosed => {
                let code = self.close_code.map_or("no code".into(), |c| c.to_string());
                format!("the server closed ({code})")
            }
            Ended::Lost => "the connection was lost".to_owned(),
            Ended::Violation => "the server broke the protocol".to_owned(),
            Ended::CallUpdated => "the REST API ended it".to_owned(),
        };
        let seconds = self.lasted.as_secs_f64();
        writeln!(f, "  stream {} ({seconds:.2} s): {ended}", self.url)?;
        if self.ended != Ended::NotConnected {
            let p = &self.playout;
            writeln!(
                f,
                "    frames: {} sent, {} received, {} dropped; longest queue {}",
                self.frames_sent,
                self.frames_received,
                self.frames_dropped,
                Ms::samples(p.longest_queue)
            )?;
            writeln!(
                f,
                "    heard: {} of speech, {} gaps ({}), {} thrown away by {} clears",
                Ms::samples(p.played),
                p.gaps,
                Ms::samples(p.gap_samples),
                Ms::samples(p.cleared),
                p.clears
            )?;
            writeln!(f, "    marks: {} back after playing, {} back by clear", p.marks_played, p.marks_cleared)?;
        }
        if let Some(echo) = &self.echo {
            writeln!(
                f,
                "    echo: {:.2} ms later ({} samples), {:.1} dB over the error, gain {:+.2} dB",
                echo.delay_ms, echo.delay_samples, echo.snr_db, echo.gain_db
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "    {finding}")?;
        }
        Ok(())
    }
}

/// Milliseconds for a person.
struct Ms(Option<f64>);

impl Ms {
    fn samples(samples: u64) -> Self {
        Self(Some(samples as f64 * 1000.0 / f64::from(SAMPLE_RATE)))
    }
}

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ms) => write!(f, "{ms:.1} ms"),
            None => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{bundled_speech, encode_mulaw, speech::SILENCE};

    #[test]
    fn gaps_shift_the_echo_but_do_not_count_as_error() {
        let sent = encode_mulaw(bundled_speech());
        let mut heard = vec![SILENCE; 200];
        heard.extend(&sent[..20_000]);
        heard.extend([SILENCE; 30]);
        heard.extend(&sent[20_000..]);
        let gap = Gap { at: 20_200, samples: 30 };
        let echo = Echoed::find(&sent, &heard, &[gap]).unwrap();
        assert_eq!((echo.delay_samples, echo.gap_samples), (200, 30));
        assert!(echo.snr_db > 60.0, "{echo:?}");
        let blind = Echoed::find(&sent, &heard, &[]).unwrap();
        assert!(blind.snr_db < 20.0, "{blind:?}");
    }

    #[test]
    fn silence_is_no_echo() {
        let sent = encode_mulaw(bundled_speech());
        assert_eq!(Echoed::find(&sent, &[SILENCE; 8000], &[]), None);
        assert_eq!(Echoed::find(&sent, &[], &[]), None);
    }
}
