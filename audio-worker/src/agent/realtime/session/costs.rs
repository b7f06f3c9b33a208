//! What responses cost: each is told once, when it is over, however it ends. And what it costs to put the caller's words into
//! text, which servers bill apart.

use std::collections::VecDeque;

use super::{Output, Session};
use crate::{
    agent::{
        Stage,
        realtime::wire::{Event, Usage},
    },
    provider::meter::Cost,
};

/// Responses that have begun and not ended, at most: servers make one at a time.
const MAX_OPEN: usize = 8;

/// Responses that have begun and not ended, the newest last.
pub(super) type Open = VecDeque<OpenResponse>;

#[derive(Debug)]
pub(super) struct OpenResponse {
    id: String,
    has_given: bool,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Ended,
    Failed,
    GivenUp,
}

impl Session {
    /// What an event says of it.
    pub(super) fn count(&mut self, event: &Event) {
        match event {
            Event::Begun { response } => {
                if self.open.len() == MAX_OPEN
                    && let Some(oldest) = self.open.pop_front()
                {
                    self.tell_cost(End::Failed, None, oldest.has_given);
                }
                self.open.push_back(OpenResponse { id: response.clone(), has_given: false });
            }
            Event::Sound { place, .. } | Event::Words { place, .. } => {
                if let Some(open) = self.open.iter_mut().find(|open| open.id == place.response) {
                    open.has_given = true;
                }
            }
            Event::Done(done) => {
                let known = self.open.iter().position(|open| open.id == done.response);
                let has_given = known.and_then(|at| self.open.remove(at)).is_some_and(|open| open.has_given);
                let end = match (&done.failure, done.is_cancelled) {
                    (Some(_), _) => End::Failed,
                    (None, true) => End::GivenUp,
                    (None, false) => End::Ended,
                };
                self.tell_cost(end, done.usage, has_given);
            }
            Event::Heard { usage, .. } => {
                let cost = Cost { requests: 1, ..Cost::default() };
                self.tell_transcription(match *usage {
                    Some(Usage::Tokens { read, written }) => Cost { tokens_in: read, tokens_out: written, ..cost },
                    Some(Usage::Audio(length)) => {
                        Cost { audio_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX), ..cost }
                    }
                    None => Cost { without_usage: 1, ..cost },
                });
            }
            Event::NotHeard => self.tell_transcription(Cost { requests: 1, failed: 1, ..Cost::default() }),
            Event::Ready
            | Event::SpeechStarted
            | Event::SpeechStopped
            | Event::SoundEnd { .. }
            | Event::AllWords { .. }
            | Event::Failure(_)
            | Event::Other => {}
        }
    }

    /// No end is told of any more: all that was asked for and begun ends so.
    pub(super) fn end_open(&mut self, end: End) {
        if self.response.as_ref().is_some_and(|response| response.id.is_none()) {
            self.tell_cost(end, None, false);
        }
        for open in std::mem::take(&mut self.open) {
            self.tell_cost(end, None, open.has_given);
        }
    }

    pub(super) fn tell_cost(&mut self, end: End, usage: Option<(u64, u64)>, has_given: bool) {
        let has_failed_at_once = end == End::Failed && !has_given;
        let (tokens_in, tokens_out) = usage.unwrap_or_default();
        let cost = Cost {
            requests: 1,
            failed: (end == End::Failed).into(),
            given_up: (end == End::GivenUp).into(),
            tokens_in,
            tokens_out,
            without_usage: (usage.is_none() && !has_failed_at_once).into(),
            ..Cost::default()
        };
        self.out.push_back(Output::Cost(Stage::Realtime, cost));
    }

    fn tell_transcription(&mut self, cost: Cost) {
        self.out.push_back(Output::Cost(Stage::SpeechToText, cost));
    }
}
