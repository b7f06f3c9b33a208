//! Pure: when which piece of the caller's audio is due.
//!
//! A frame is due when its last sample has been spoken, counted from the start of the stream against
//! an absolute clock, so that lateness never adds up. After the speech the caller is silent but for what
//! is said at a moment's notice.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    playout::MAX_HEARD,
    speech::{SAMPLE_RATE, SILENCE, decode_mulaw},
};

/// A frame counts as silent when no sample of it is louder than this (about -50 dBFS).
const SILENT_LEVEL: u16 = 100;

/// How caller audio is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePlan {
    /// Frame sizes in bytes of mu-law (8 per ms), taken in turn. Zeros are left out; when nothing is
    /// left, 160.
    pub sizes: Vec<usize>,
    /// Leave out silent frames; timestamps and real time go on.
    pub suppress_silence: bool,
}

impl Default for FramePlan {
    fn default() -> Self {
        Self { sizes: vec![160], suppress_silence: false }
    }
}

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutFrame {
    /// Milliseconds from the start of the stream to the frame's first sample.
    pub timestamp: u64,
    /// The audio.
    pub mulaw: Vec<u8>,
}

/// The caller's side of one stream.
#[derive(Debug)]
pub struct Outgoing {
    speech: Arc<[u8]>,
    /// Sample of the speech at which this stream began.
    offset: usize,
    sizes: Vec<usize>,
    suppress_silence: bool,
    frames: usize,
    /// First sample of the next frame, from the start of the stream.
    position: usize,
    /// What is said as soon as the speech is over.
    lines: VecDeque<u8>,
    sent: Vec<u8>,
}

impl Outgoing {
    /// Speech (mu-law) from sample `offset` on, cut as `plan` says.
    pub fn new(speech: Arc<[u8]>, offset: usize, plan: &FramePlan) -> Self {
        let mut sizes: Vec<usize> = plan.sizes.iter().copied().filter(|&n| n > 0).collect();
        if sizes.is_empty() {
            sizes.push(160);
        }
        Self {
            speech,
            offset,
            sizes,
            suppress_silence: plan.suppress_silence,
            frames: 0,
            position: 0,
            lines: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    /// Says this (mu-law) next, behind the speech and what was to be said before.
    pub fn say(&mut self, mulaw: &[u8]) {
        self.lines.extend(mulaw);
    }

    /// When the next frame has been spoken, as offset from the start of the stream.
    pub fn poll_timeout(&self) -> Duration {
        time_of(self.position + self.next_size())
    }

    /// The next frame that is due at `now`.
    pub fn poll_frame(&mut self, now: Duration) -> Option<OutFrame> {
        while self.poll_timeout() <= now {
            let size = self.next_size();
            let from = self.offset.saturating_add(self.position).min(self.speech.len());
            let until = from.saturating_add(size).min(self.speech.len());
            let mut mulaw = self.speech[from..until].to_vec();
            mulaw.extend(self.lines.drain(..self.lines.len().min(size - mulaw.len())));
            mulaw.resize(size, SILENCE);
            let timestamp = self.position as u64 * 1000 / u64::from(SAMPLE_RATE);
            self.frames += 1;
            self.position += size;
            if self.suppress_silence && is_silent(&mulaw) {
                self.keep(&vec![SILENCE; size]);
                continue;
            }
            self.keep(&mulaw);
            return Some(OutFrame { timestamp, mulaw });
        }
        None
    }

    /// Samples spoken so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Everything spoken on this stream, at most 30 minutes.
    pub fn into_sent(self) -> Vec<u8> {
        self.sent
    }

    fn next_size(&self) -> usize {
        self.sizes[self.frames % self.sizes.len()]
    }

    fn keep(&mut self, mulaw: &[u8]) {
        let room = MAX_HEARD.saturating_sub(self.sent.len()).min(mulaw.len());
        self.sent.extend_from_slice(&mulaw[..room]);
    }
}

pub(super) fn is_silent(mulaw: &[u8]) -> bool {
    decode_mulaw(mulaw).iter().all(|sample| sample.unsigned_abs() <= SILENT_LEVEL)
}

fn time_of(samples: usize) -> Duration {
    Duration::from_nanos(samples as u64 * (1_000_000_000 / u64::from(SAMPLE_RATE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn outgoing(speech: &[u8], plan: &FramePlan) -> Outgoing {
        Outgoing::new(speech.into(), 0, plan)
    }

    #[test]
    fn frames_come_when_spoken_and_silence_follows_the_speech() {
        let mut outgoing = outgoing(&[1; 200], &FramePlan::default());
        assert_eq!(outgoing.poll_frame(19 * MS), None);
        let first = outgoing.poll_frame(20 * MS).unwrap();
        assert_eq!((first.timestamp, first.mulaw), (0, vec![1; 160]));
        // A late driver gets what it missed, one by one.
        let second = outgoing.poll_frame(60 * MS).unwrap();
        assert_eq!(second.timestamp, 20);
        assert_eq!(second.mulaw[39..41], [1, SILENCE]);
        assert_eq!(outgoing.poll_frame(60 * MS).unwrap().timestamp, 40);
        assert_eq!(outgoing.poll_frame(60 * MS), None);
        assert_eq!(outgoing.poll_timeout(), 80 * MS);
        assert_eq!(outgoing.into_sent().len(), 480);
    }

    #[test]
    fn what_is_said_later_follows_the_speech_and_is_said_once() {
        let mut outgoing = outgoing(&[1; 100], &FramePlan::default());
        outgoing.say(&[2; 100]);
        assert_eq!(outgoing.poll_frame(20 * MS).unwrap().mulaw[99..101], [1, 2]);
        let second = outgoing.poll_frame(40 * MS).unwrap();
        assert_eq!(second.mulaw[39..41], [2, SILENCE]);
        assert_eq!(outgoing.poll_frame(60 * MS).unwrap().mulaw, [SILENCE; 160]);
    }

    #[test]
    fn sizes_are_taken_in_turn() {
        let plan = FramePlan { sizes: vec![80, 0, 240], suppress_silence: false };
        let mut outgoing = outgoing(&[], &plan);
        let frames: Vec<(u64, usize)> = std::iter::from_fn(|| outgoing.poll_frame(80 * MS))
            .map(|frame| (frame.timestamp, frame.mulaw.len()))
            .collect();
        assert_eq!(frames, [(0, 80), (10, 240), (40, 80), (50, 240)]);
    }

    #[test]
    fn suppressed_silence_lets_the_timestamp_jump() {
        let plan = FramePlan { suppress_silence: true, ..FramePlan::default() };
        let mut speech = vec![SILENCE; 160 * 50];
        speech.extend([0x20; 160]);
        let mut outgoing = outgoing(&speech, &plan);
        let frame = outgoing.poll_frame(2000 * MS).unwrap();
        assert_eq!(frame.timestamp, 1000);
        assert_eq!(outgoing.poll_frame(2000 * MS), None);
        assert_eq!(outgoing.into_sent().len(), 16_000);
    }
}
