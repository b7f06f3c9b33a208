//! Where the words of a turn come from: a recogniser that listens all the time, or one that is given the recording.

use std::{sync::Arc, task::Context, time::Instant};

use super::{
    Talk,
    live_words::{Question, Told},
};
use crate::{
    agent::{
        Act,
        report::{Report, Speaker, Stage},
    },
    provider::{Pending, Speech},
    turn_taking::Input,
};

impl Talk {
    /// Looks for the words of what the caller said so far; for a `probe`, whether there are any.
    pub(super) fn look_for_words(&mut self, probe: bool, at: Instant) -> Pending<String> {
        let (pcm, mulaw) = (self.speech.take(), self.speech.take_native());
        let speech = Speech { pcm, mulaw, language: self.language.clone() };
        let recogniser = Arc::clone(&self.speech_to_text);
        let question = Question {
            within_ms: self.speech.ms(),
            probe,
            last_voice: self.floor.last_voice(),
            endpoint_silence: self.cast.turn.endpoint_silence,
        };
        let Some(live) = &mut self.live else { return recogniser.transcribe(speech) };
        let found = live.ask(question, at);
        Box::pin(async move {
            match found.await {
                Ok(Some(words)) => Ok(words),
                Ok(None) | Err(_) => recogniser.transcribe(speech).await,
            }
        })
    }

    /// What a recogniser that listens has to tell; true when there was something.
    pub(super) fn poll_live(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        let (mut moved, mut more) = (false, false);
        while let Some(told) = self.live.as_mut().and_then(|live| live.poll(cx, at)) {
            moved = true;
            match told {
                Told::Words => more = true,
                Told::Ended => {
                    self.floor.handle(Input::EndOfSpeech, at);
                    self.carry_out(at);
                }
                Told::Fault(error) => {
                    // The turn may be answered all the same: it does not count towards giving up.
                    self.tell_fault(Stage::SpeechToText, &error);
                }
            }
        }
        if more && self.floor.keeps_speech() {
            let text = self.live.as_ref().map(|live| live.words(self.speech.ms())).unwrap_or_default();
            self.floor.handle(Input::WordsSoFar { text: &text }, at);
            self.carry_out(at);
            self.tell_so_far(text);
        }
        moved
    }

    /// Tells what the caller has said so far, once.
    pub(super) fn tell_so_far(&mut self, text: String) {
        if text.is_empty() || self.said_so_far == text {
            return;
        }
        self.said_so_far.clone_from(&text);
        let said = Report::Said { by: Speaker::Caller, text, is_final: false, interrupted: false };
        self.acts.push_back(Act::Report(said));
    }

    /// What was said so far belongs to no turn that is still to come.
    pub(super) fn end_speech(&mut self) {
        self.speech.end_turn();
        self.said_so_far.clear();
        if let Some(live) = &mut self.live {
            live.end_turn();
        }
    }
}
