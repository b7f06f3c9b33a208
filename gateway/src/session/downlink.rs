//! Worker to caller: a bounded queue, the ledger of marks, and what an interrupt throws away. No pacing: the worker
//! keeps the lead.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use super::Stats;
use crate::twilio::message::{Mark, Outbound};

/// Audio that may wait for the socket, in samples: the worker's lead is at most half a second, so five seconds mean that
/// the socket is stuck or the worker broke the contract.
pub(super) const CAPACITY_SAMPLES: usize = 5 * 8000;

/// A mark is asked for after this much audio: 200 ms. More often costs messages, more rarely costs knowledge.
const MARK_EVERY_SAMPLES: u64 = 1600;

/// Marks that may be under way: 20 s of audio, where the worker is at most half a second ahead. More mean that Twilio
/// reads nothing, which the kernel's buffers would hide for a minute.
const MAX_PENDING_MARKS: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Downlink {
    /// With when it came, if it is audio.
    queue: VecDeque<(Outbound, Option<Instant>)>,
    samples: usize,
    /// The utterance that is being sent, and how many of its samples were, and how many when it was last marked.
    current: Option<Progress>,
    /// Marks asked for and not back, in order.
    pending: VecDeque<Mark>,
    /// The highest utterance that an interrupt made worthless.
    killed: u64,
    /// Furthest position of each utterance that is not wholly confirmed: at most the current and those pending.
    heard: Option<Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    utterance: u64,
    samples: u64,
    marked: u64,
}

/// The queue towards Twilio is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// What a mark that came back means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkBack {
    /// The caller heard everything up to it.
    Played(Mark),
    /// It was returned by a `clear`.
    Cleared,
    /// Not one that we wait for.
    Foreign,
}

impl Downlink {
    /// Takes audio of an utterance that came `now`; what an interrupt made worthless is dropped.
    pub(super) fn push(&mut self, utterance: u64, mulaw: Bytes, now: Instant, stats: &mut Stats) -> Result<(), Full> {
        if utterance <= self.killed {
            stats.stale_samples += mulaw.len() as u64;
            return Ok(());
        }
        if self.samples + mulaw.len() > CAPACITY_SAMPLES || self.pending.len() > MAX_PENDING_MARKS {
            return Err(Full);
        }
        if self.current.is_some_and(|current| current.utterance != utterance) {
            self.mark();
            self.current = None;
        }
        let length = mulaw.len();
        self.samples += length;
        stats.agent_queue_peak_samples = stats.agent_queue_peak_samples.max(self.samples as u64);
        self.queue.push_back((Outbound::Media(mulaw), Some(now)));
        let progress = self.current.get_or_insert(Progress { utterance, samples: 0, marked: 0 });
        progress.samples += length as u64;
        if progress.samples - progress.marked >= MARK_EVERY_SAMPLES {
            self.mark();
        }
        Ok(())
    }

    /// The utterance is complete: its end is marked.
    pub(super) fn end(&mut self, utterance: u64) {
        if self.current.is_some_and(|current| current.utterance == utterance) {
            self.mark();
            self.current = None;
        }
    }

    /// Throws away all up to `utterance`. Answers, for each utterance of which something was sent and not confirmed,
    /// how far it was heard.
    pub(super) fn interrupt(&mut self, utterance: u64, stats: &mut Stats) -> Vec<Mark> {
        if utterance <= self.killed {
            return Vec::new();
        }
        self.killed = utterance;
        stats.interrupted_samples += self.samples as u64;
        self.samples = 0;
        self.queue.clear();
        let mut unfinished: Vec<u64> = self.pending.iter().map(|mark| mark.utterance).collect();
        unfinished.extend(self.current.take().map(|current| current.utterance));
        unfinished.dedup();
        if !unfinished.is_empty() {
            self.queue.push_back((Outbound::Clear, None));
            stats.clears += 1;
        }
        let heard_ms = |utterance| self.heard.filter(|heard| heard.utterance == utterance).map_or(0, |heard| heard.ms);
        unfinished.into_iter().map(|utterance| Mark { utterance, ms: heard_ms(utterance) }).collect()
    }

    /// The next message for Twilio, and when it came if it is audio.
    pub(super) fn pop(&mut self, stats: &mut Stats) -> Option<(Outbound, Option<Instant>)> {
        let (message, came) = self.queue.pop_front()?;
        match &message {
            Outbound::Media(mulaw) => {
                self.samples -= mulaw.len();
                stats.agent_frames += 1;
                stats.agent_samples += mulaw.len() as u64;
            }
            Outbound::Mark(_) => stats.marks_sent += 1,
            Outbound::Clear => {}
        }
        Some((message, came))
    }

    /// A mark came back. After a `clear` all pending ones do, and that is not playback: their utterance says so.
    pub(super) fn on_mark(&mut self, name: &str) -> MarkBack {
        let Some(mark) = Mark::parse(name) else { return MarkBack::Foreign };
        let Some(at) = self.pending.iter().position(|pending| *pending == mark) else {
            return MarkBack::Foreign;
        };
        // Marks come back in order, so those before it are known to be reached as well.
        self.pending.drain(..=at);
        if mark.utterance <= self.killed {
            return MarkBack::Cleared;
        }
        self.heard = Some(mark);
        MarkBack::Played(mark)
    }

    /// True while something waits for the socket or for the caller to hear it.
    pub(super) fn is_unheard(&self) -> bool {
        !self.queue.is_empty() || self.pending.iter().any(|mark| mark.utterance > self.killed)
    }

    /// Milliseconds that wait for the socket or are under way to the caller, at most.
    pub(super) fn unheard_ms(&self) -> u64 {
        // The last mark of each utterance says how long it is, as far as it was sent.
        let (mut under_way, mut counted) = (0, None);
        for mark in self.pending.iter().rev().filter(|mark| mark.utterance > self.killed) {
            if counted != Some(mark.utterance) {
                counted = Some(mark.utterance);
                under_way +=
                    mark.ms - self.heard.filter(|heard| heard.utterance == mark.utterance).map_or(0, |heard| heard.ms);
            }
        }
        under_way + MARK_EVERY_SAMPLES / 8 + self.samples as u64 / 8
    }

    /// Marks the position that was reached, unless it is marked already.
    pub(super) fn mark(&mut self) {
        if let Some(progress) = &mut self.current
            && progress.samples > progress.marked
        {
            progress.marked = progress.samples;
            let mark = Mark { utterance: progress.utterance, ms: progress.samples / 8 };
            self.pending.push_back(mark);
            self.queue.push_back((Outbound::Mark(mark), None));
        }
    }
}
