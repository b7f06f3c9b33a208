//! What the server does: it comes, speaks, fails and goes.

use std::time::{Duration, Instant};

use super::{
    Ask, Output, Session, Turns, What,
    asks::Response,
    costs::End,
    wire::{self, Done, Event, Failure, Place},
};
use crate::{
    agent::{
        Report, Speaker, Stage,
        realtime::{codec::Downwards, playback::Playback},
    },
    provider::{Fault, ProviderError, Role, visits::LEFT_ALONE},
    turn_taking,
};

/// Sessions in a row that may come to nothing.
const MAX_FAILURES: u32 = 2;

/// After the first of them the next is opened so much later.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A session that lasted so long was none that came to nothing.
const LASTED: Duration = Duration::from_secs(10);

/// The socket to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Is being opened.
    Opening,
    /// Is opened again then.
    Waiting(Instant),
    /// Is open.
    Open {
        since: Instant,
        /// The server has said something.
        is_ready: bool,
        /// A response was made in it.
        has_answered: bool,
    },
    /// Is not wanted any more.
    Down,
}

impl Session {
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.link, Link::Open { .. })
    }

    /// Something has to come of the server.
    pub(super) const fn expects(&self) -> bool {
        let is_awaited = matches!(&self.turns, Turns::Server(server) if server.is_awaited);
        match self.link {
            Link::Open { is_ready, .. } => !is_ready || is_awaited || self.response.is_some(),
            Link::Opening | Link::Waiting(_) | Link::Down => false,
        }
    }

    pub(super) fn send(&mut self, text: String) {
        if self.is_open() {
            self.out.push_back(Output::Send(text));
        }
    }

    pub(super) fn on_opened(&mut self) {
        if self.link != Link::Opening {
            return;
        }
        self.link = Link::Open { since: self.now, is_ready: false, has_answered: false };
        self.mark = self.now;
        let script = &self.script;
        self.send(wire::session(&self.model, &script.instructions, &script.language, &script.tools));
        for at in 0..self.history.messages().len() {
            let message = &self.history.messages()[at];
            self.send(wire::message(message.role, &message.text));
        }
        for at in 0..self.results.len() {
            self.send(wire::message(Role::System, &self.results[at]));
        }
        let has_turn = self.send_unsent();
        if std::mem::take(&mut self.is_owed) {
            let what = if self.is_unworded && !has_turn { What::Again } else { What::Answer };
            self.drop_answers();
            self.asks.push_front(Ask::of(what));
        }
    }

    pub(super) fn on_text(&mut self, text: &str) {
        let Link::Open { is_ready, .. } = &mut self.link else { return };
        let is_first = !std::mem::replace(is_ready, true);
        self.mark = self.now;
        match Event::read(text) {
            Ok(event) => {
                // Some servers begin with something else than the session.
                if is_first && !matches!(event, Event::Failure(_) | Event::Ready) {
                    self.out.push_back(Output::Well);
                }
                self.on_event(event);
            }
            Err(garbage) => self.on_broken(garbage.0),
        }
    }

    fn on_event(&mut self, event: Event) {
        self.count(&event);
        match event {
            Event::SpeechStarted => self.on_speech_started(),
            Event::SpeechStopped => self.on_speech_stopped(),
            Event::Heard { text, .. } => self.on_heard(&text),
            Event::NotHeard => {
                let detail = "the caller's words were not put into text".to_owned();
                self.report(Report::Fault { stage: Stage::SpeechToText, fault: Fault::Failed, detail });
            }
            Event::Begun { response } => self.on_begun(response),
            Event::Sound { place, sound } => self.on_sound(&place, &sound),
            Event::SoundEnd { place } => self.on_sound_end(&place),
            Event::Words { place, words } => self.on_words(&place, &words, false),
            Event::AllWords { place, words } => self.on_words(&place, &words, true),
            Event::Done(done) => self.on_done(done),
            Event::Failure(failure) => self.on_failure(&failure),
            Event::Ready => self.out.push_back(Output::Well),
            Event::Other => {}
        }
    }

    fn on_heard(&mut self, text: &str) {
        self.is_unworded = false;
        if let Some(timing) = &mut self.timing {
            timing.words = Some(self.now);
        }
        let text = text.trim();
        if !text.is_empty() {
            self.history.push(Role::User, text);
            let text = text.to_owned();
            self.report(Report::Said { by: Speaker::Caller, text, is_final: true, interrupted: false });
        }
    }

    fn on_begun(&mut self, id: String) {
        if let Turns::Server(server) = &mut self.turns {
            server.is_awaited = false;
        }
        match &mut self.response {
            Some(response) if response.id.is_none() => {
                let is_void = response.is_void;
                response.id = Some(id.clone());
                if is_void {
                    self.remember_void(id);
                }
            }
            Some(response) if response.id.as_ref() == Some(&id) => {}
            // The server begins another of its own accord: the one before is over.
            Some(_) | None => {
                let (event, ask) = (String::new(), None);
                self.response = Some(Response { id: Some(id), event, ask, is_void: false, has_sound: false });
            }
        }
    }

    fn is_void(&self, place: &Place) -> bool {
        self.void.contains(&place.response)
    }

    fn on_sound(&mut self, place: &Place, sound: &[u8]) {
        if self.is_void(place) {
            return;
        }
        if let Some(timing) = &mut self.timing {
            timing.first_audio.get_or_insert(self.now);
        }
        let mut protected = !self.script.turn.interruptible;
        if let Some(response) = &mut self.response {
            response.has_sound = true;
            protected |= response.ask.as_ref().is_some_and(|ask| ask.protected);
        }
        // What is in the filter belongs to the item before.
        if self.playback.known(place).is_none() {
            self.codes.clear();
            if self.down.finish(&mut self.codes).is_err() {
                self.codes.clear();
            }
        }
        let mut codes = std::mem::take(&mut self.codes);
        codes.clear();
        let converted = self.down.convert(sound, &mut codes);
        let ms = Downwards::ms(self.model.format, sound.len());
        let taken = self.playback.sound(Some(place), protected, (&codes, ms), self.now);
        self.codes = codes;
        if let Err(error) = converted {
            self.fail(format!("the signal path failed: {error}"));
        } else if taken.is_err() {
            // Nobody wants to hear all of that.
            self.interrupt(true);
            self.settle();
            self.on_broken("more sound than any answer has");
        }
    }

    fn on_sound_end(&mut self, place: &Place) {
        let Some(item) = self.playback.known(place).filter(|item| !item.is_ended) else { return };
        item.is_ended = true;
        let is_protected = item.is_protected;
        let mut codes = std::mem::take(&mut self.codes);
        codes.clear();
        // The filter's tail is no sound of the server's.
        let finished = self.down.finish(&mut codes);
        let _ = self.playback.sound(Some(place), is_protected, (&codes, 0), self.now);
        self.codes = codes;
        if let Err(error) = finished {
            self.fail(format!("the signal path failed: {error}"));
        }
    }

    fn on_words(&mut self, place: &Place, words: &str, are_all: bool) {
        if self.is_void(place) {
            return;
        }
        if let Some(timing) = &mut self.timing {
            timing.first_token.get_or_insert(self.now);
        }
        let protected = !self.script.turn.interruptible
            || self.response.as_ref().and_then(|response| response.ask.as_ref()).is_some_and(|ask| ask.protected);
        let now = self.now;
        match self.playback.known(place) {
            Some(item) => Playback::words(item, words, are_all),
            // Words that come after all was heard were told by then.
            None if are_all => {}
            None => Playback::words(self.playback.item(Some(place), protected, now), words, are_all),
        }
    }

    fn on_done(&mut self, done: Done) {
        self.playback.end(&done.response);
        let is_it = |response: &&mut Response| response.id.as_ref().is_none_or(|id| *id == done.response);
        if self.response.as_mut().filter(is_it).is_none() {
            return;
        }
        let Some(response) = self.response.take() else { return };
        if response.is_void || self.void.contains(&done.response) {
            return;
        }
        if let Some(failure) = &done.failure {
            self.on_no_response(failure);
            return;
        }
        if !done.is_cancelled {
            (self.faults, self.failures) = (0, 0);
            self.out.push_back(Output::Served);
            self.results.clear();
            if let Link::Open { has_answered, .. } = &mut self.link {
                *has_answered = true;
            }
            if !response.has_sound && done.calls.is_empty() {
                self.fault(Fault::Empty, "a response without sound", false);
            }
            self.ending = response.ask.and_then(|ask| ask.then).or(self.ending.take());
        }
        self.is_wordless = !response.has_sound;
        for call in done.calls {
            self.calls.push(call.id.clone());
            self.out.push_back(Output::Call(call));
        }
        if !self.playback.is_speaking() && self.calls.is_empty() && self.asks.is_empty() && self.ending.is_none() {
            self.timing = None;
            self.floor(turn_taking::Input::Unanswered);
        }
    }

    fn on_failure(&mut self, failure: &Failure) {
        let is_ours = |response: &&mut Response| !failure.about.is_empty() && response.event == failure.about;
        let has_failed = self.response.as_mut().filter(is_ours).is_some();
        let detail = failure.told();
        match failure.code.as_str() {
            // It had ended by itself.
            "response_cancel_not_active" => {
                self.response = self.response.take().filter(|response| !response.is_void);
            }
            // The server began one of its own accord: ours waits.
            "conversation_already_has_active_response" if has_failed => {
                let ask = self.response.as_mut().and_then(|response| response.ask.take());
                self.asks.extend(ask);
                self.asks.rotate_right(1);
            }
            "session_expired" => self.is_expired = true,
            _ if failure.is_denied() || failure.about == wire::SESSION => {
                let kind = if failure.is_denied() { Fault::Denied } else { Fault::Rejected };
                self.fault(kind, &detail, true);
                self.out.push_back(Output::Ill(ProviderError { kind, detail: detail.clone() }));
                self.give_up(detail);
            }
            _ if has_failed || (failure.is_servers() && self.response.is_some()) => {
                let response = self.response.take();
                if has_failed && response.as_ref().is_some_and(|response| response.id.is_none()) {
                    self.tell_cost(End::Failed, None, false);
                }
                if response.is_some_and(|response| !response.is_void) {
                    self.on_no_response(failure);
                }
            }
            _ => self.fault(failure.fault(), &detail, false),
        }
    }

    /// A response failed.
    fn on_no_response(&mut self, failure: &Failure) {
        let detail = failure.told();
        self.timing = None;
        self.fault(failure.fault(), &detail, true);
        if failure.is_denied() || self.faults > self.script.max_faults {
            self.out.push_back(Output::Ill(ProviderError { kind: failure.fault(), detail: detail.clone() }));
            self.give_up(detail);
        } else {
            self.apologise();
        }
    }

    fn fault(&mut self, fault: Fault, detail: &str, counts: bool) {
        self.faults += u32::from(counts);
        self.report(Report::Fault { stage: Stage::Realtime, fault, detail: detail.to_owned() });
    }

    /// The server makes no sense: it is left.
    fn on_broken(&mut self, what: &str) {
        self.out.push_back(Output::Close);
        self.on_lost(&ProviderError { kind: Fault::Malformed, detail: what.to_owned() });
    }

    /// The server says nothing where it should.
    pub(super) fn on_silent_server(&mut self) {
        self.out.push_back(Output::Close);
        let detail = format!("nothing for {} ms", self.script.patience.as_millis());
        self.on_lost(&ProviderError { kind: Fault::Timeout, detail });
    }

    /// Nobody asks it now, since it failed others before.
    pub(super) fn on_left_alone(&mut self) {
        if self.link == Link::Opening {
            self.fault(Fault::Unreachable, LEFT_ALONE, false);
            self.give_up(LEFT_ALONE.to_owned());
        }
    }

    pub(super) fn on_lost(&mut self, error: &ProviderError) {
        let is_good = match self.link {
            Link::Down | Link::Waiting(_) => return,
            Link::Opening => false,
            Link::Open { since, has_answered, .. } => has_answered || self.now >= since + LASTED,
        };
        let is_expired = std::mem::take(&mut self.is_expired);
        if !is_expired {
            self.fault(error.kind, &error.detail, false);
            self.out.push_back(Output::Ill(error.clone()));
        }
        self.end_open(if is_expired { End::GivenUp } else { End::Failed });
        // What came of the session is said to its end, and belongs to the next one's history from then on.
        self.link = Link::Waiting(self.now);
        self.playback.orphan();
        if self.cut.as_ref().is_some_and(|cut| cut.is_confirmed) {
            self.settle();
        }
        self.is_unworded |= self.turns.is_heard_elsewhere();
        self.is_owed |= self.turns.lost();
        if let Some(response) = self.response.take().filter(|response| !response.is_void) {
            match response.ask {
                Some(ask) if !response.has_sound => self.asks.push_front(ask),
                Some(ask) if ask.what != What::Answer => self.ending = ask.then.or(self.ending.take()),
                Some(_) | None => self.is_owed = true,
            }
        }
        // Functions that still work are told of when they are done, and the model answers then.
        self.is_owed &= self.calls.is_empty();
        self.calls.clear();
        self.void.clear();
        if matches!(error.kind, Fault::Denied | Fault::Rejected) && !is_expired {
            self.give_up(error.detail.clone());
        } else if is_expired || (is_good && error.kind != Fault::Malformed) {
            self.failures = 0;
        } else {
            self.failures += 1;
            self.link = Link::Waiting(self.now + RETRY_AFTER);
            if self.failures >= MAX_FAILURES {
                self.give_up(error.detail.clone());
            }
        }
    }
}
