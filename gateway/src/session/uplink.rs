//! Caller to worker: a bounded queue of audio that drops the oldest, order and gaps counted, control beside it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Stats, ToWorker};
use crate::twilio::message::Media;

/// Audio that may wait for the worker, in samples: one second.
pub(super) const CAPACITY_SAMPLES: usize = 8000;

/// Control messages that may wait; beyond it the oldest key press is dropped and counted.
const CAPACITY_CONTROL: usize = 64;

/// Time stamps are whole milliseconds and frames need not be; a jump below this is rounding, not a gap.
const GAP_TOLERANCE_MS: u64 = 20;

#[derive(Debug, Default)]
pub(super) struct Uplink {
    audio: VecDeque<Piece>,
    samples: usize,
    control: VecDeque<ToWorker>,
    seq: u64,
    last_chunk: Option<u64>,
    /// Where the next audio should begin on Twilio's clock: milliseconds, and samples after it.
    clock: Option<(u64, u64)>,
    /// The most punctual audio so far: when it came, and its time stamp in ms.
    punctual: Option<(Instant, u64)>,
}

#[derive(Debug)]
struct Piece {
    seq: u64,
    media_time_ms: u64,
    mulaw: Bytes,
    came: Instant,
}

impl Uplink {
    /// Takes a media message that came `now`: counts what is missing before it, drops what came before or twice.
    pub(super) fn push(&mut self, media: Media, now: Instant, stats: &mut Stats) {
        if let (Some(last), Some(chunk)) = (self.last_chunk, media.chunk)
            && chunk <= last
        {
            *(if chunk == last { &mut stats.repeated_chunks } else { &mut stats.late_chunks }) += 1;
            return;
        }
        let due_ms = self.clock.map(|(anchor, samples)| anchor.saturating_add(samples / 8));
        let media_time_ms = media.timestamp_ms.or(due_ms).unwrap_or(0);
        let gap_ms = due_ms.map_or(0, |due| media_time_ms.saturating_sub(due));
        let length = media.mulaw.len() as u64;
        if gap_ms >= GAP_TOLERANCE_MS {
            stats.gaps += 1;
            stats.gap_ms += gap_ms;
            // A jump of the chunk number alone is no loss: the counter may run over other tracks too.
            if let (Some(last), Some(chunk)) = (self.last_chunk, media.chunk) {
                stats.missing_chunks += chunk - last - 1;
            }
            self.clock = Some((media_time_ms, length));
        } else {
            let (anchor, samples) = self.clock.unwrap_or((media_time_ms, 0));
            self.clock = Some((anchor, samples + length));
        }
        self.last_chunk = media.chunk.or(self.last_chunk);
        stats.caller_frames += 1;
        stats.caller_samples += length;
        self.seq += 1;
        self.samples += media.mulaw.len();
        self.audio.push_back(Piece { seq: self.seq, media_time_ms, mulaw: media.mulaw, came: now });
        while self.samples > CAPACITY_SAMPLES
            && let Some(oldest) = self.audio.pop_front()
        {
            self.samples -= oldest.mulaw.len();
            stats.dropped_caller_samples += oldest.mulaw.len() as u64;
        }
        stats.caller_queue_peak_samples = stats.caller_queue_peak_samples.max(self.samples as u64);
    }

    /// Notes how late audio with this time stamp is at `now`, against the most punctual: a line that is too slow makes an
    /// agent answer to words of long ago, and nothing else shows it.
    pub(super) fn note_lag(&mut self, timestamp_ms: u64, now: Instant, stats: &mut Stats) {
        let (came, stamp) = *self.punctual.get_or_insert((now, timestamp_ms));
        let later = Duration::from_millis(timestamp_ms.abs_diff(stamp));
        let due = if timestamp_ms >= stamp { came.checked_add(later) } else { came.checked_sub(later) };
        let Some(due) = due else { return };
        if due > now {
            self.punctual = Some((now, timestamp_ms));
        }
        let lag = now.saturating_duration_since(due).as_millis();
        stats.caller_lag_peak_ms = stats.caller_lag_peak_ms.max(u64::try_from(lag).unwrap_or(u64::MAX));
    }

    /// Takes a control message, which never waits behind audio.
    pub(super) fn push_control(&mut self, message: ToWorker, stats: &mut Stats) {
        if self.control.len() >= CAPACITY_CONTROL {
            self.control.pop_front();
            stats.dropped_control += 1;
        }
        self.control.push_back(message);
    }

    /// The next message for the worker.
    pub(super) fn pop(&mut self) -> Option<ToWorker> {
        if let Some(message) = self.pop_control() {
            return Some(message);
        }
        let Piece { seq, media_time_ms, mulaw, came } = self.audio.pop_front()?;
        self.samples -= mulaw.len();
        Some(ToWorker::Audio { seq, media_time_ms, mulaw, came })
    }

    /// The next control message for the worker.
    pub(super) fn pop_control(&mut self) -> Option<ToWorker> {
        self.control.pop_front()
    }

    /// Twilio's clock: where the last audio ended, in ms.
    pub(super) fn media_time_ms(&self) -> u64 {
        self.clock.map_or(0, |(anchor, samples)| anchor.saturating_add(samples / 8))
    }
}
