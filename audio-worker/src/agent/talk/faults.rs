//! What becomes of a provider's failure: an apology, last words, or the end of the call.
//!
//! Each failure is told as it happens, but it counts towards `max_faults` only with the answer that it spoiled: a guess that
//! is thrown away takes its failures along. So a turn of the caller counts once for each stage at most, and not at all when
//! it is understood and answered in the end. An apology that cannot be said counts anew, which ends the call of an agent
//! whose voice is gone.

use std::time::Instant;

use super::{Prepared, Reply, Talk};
use crate::{
    agent::{
        Act,
        brain::Farewell,
        report::{Report, Stage},
    },
    provider::ProviderError,
};

impl Talk {
    /// The recogniser failed.
    pub(super) fn on_no_words(&mut self, turn: u64, error: ProviderError) {
        self.tell_fault(Stage::SpeechToText, &error);
        let Some(prepared) = self.prepared.as_mut().filter(|prepared| prepared.turn == turn) else { return };
        if let Some(spans) = &prepared.spans {
            spans.failed();
        }
        if self.floor.keeps_speech() {
            prepared.failed.push((Stage::SpeechToText, error));
            prepared.reply = Some(Reply::apology(&self.apology));
        } else {
            // Of what was no interruption nothing is expected any more.
            self.prepared = None;
        }
    }

    /// What went wrong is apologised for, or the call ends.
    pub(super) fn look_for_faults(&mut self, at: Instant) -> bool {
        let said = self.reply.as_mut().and_then(Reply::take_fault);
        let guessed = self.prepared.as_mut().and_then(Prepared::take_fault);
        let moved = said.is_some() || guessed.is_some();
        if let Some((stage, error)) = said {
            self.tell_fault(stage, &error);
            if let Some(spans) = &self.spans {
                spans.failed();
            }
            self.faults += 1;
            if self.gives_up(self.faults, &(stage, error), at) {
                return true;
            }
            if let Some(reply) = &mut self.reply {
                reply.say_instead(&self.apology);
            }
        }
        if let Some((stage, error)) = guessed {
            self.tell_fault(stage, &error);
            if let Some(prepared) = &mut self.prepared {
                if let Some(spans) = &prepared.spans {
                    spans.failed();
                }
                if let Some(reply) = &mut prepared.reply {
                    reply.say_instead(&self.apology);
                }
                prepared.failed.push((stage, error));
            }
        }
        self.look_at_released(at) || moved
    }

    /// Tells of a failure.
    pub(super) fn tell_fault(&mut self, stage: Stage, error: &ProviderError) {
        let report = Report::Fault { stage, fault: error.kind, detail: error.detail.clone() };
        self.acts.push_back(Act::Report(report));
    }

    /// Whether what failed on the way to an answer that is to be heard now is too much.
    fn look_at_released(&mut self, at: Instant) -> bool {
        let Some(prepared) = self.prepared.as_ref().filter(|prepared| prepared.released) else { return false };
        let voice = prepared.failed.iter().find(|(stage, _)| *stage == Stage::TextToSpeech);
        let Some(failure) = voice.or(prepared.failed.last()).cloned() else { return false };
        self.gives_up(self.faults + prepared.faults(), &failure, at)
    }

    /// Ends the call when there were too many `faults` by now; true when it does.
    fn gives_up(&mut self, faults: u32, (stage, error): &(Stage, ProviderError), at: Instant) -> bool {
        let is_mute = *stage == Stage::TextToSpeech && !self.anything_heard && self.reply.is_none();
        if is_mute || faults > 2 * self.cast.max_faults {
            // Nobody would hear an apology; who carries the call has words of its own.
            self.acts.push_back(Act::Fail { reason: format!("{}: {error}", stage.label()) });
            (self.ending, self.prepared, self.reply) = (true, None, None);
            return true;
        }
        let is_too_many = faults > self.cast.max_faults;
        if is_too_many {
            self.faults = faults;
            let farewell = self.brain.farewell(Farewell::Faults);
            self.take_floor(Prepared::own(Reply::new(farewell)), at);
        }
        is_too_many
    }
}
