//! What is wanted of the server, one response after the other; functions that it wants called; and words of our own.

use super::{Link, Output, Session, costs::End, wire};
use crate::{
    agent::{Act, Report, Stage, realtime::codec::PER_MS, realtime::playback::Playback},
    provider::{ProviderError, Role, Sound},
    turn_taking,
};

/// Responses that may be wanted at once; the orders among them have a bound of their own.
const MAX_ASKS: usize = 32;

/// Results of functions that are kept for a session that did not call them; the oldest are dropped.
const MAX_RESULTS: usize = 8;

/// How a model is brought to say certain words.
const EXACTLY: &str = "Say exactly the following words to the caller, in the language that they are written in, and \
                       nothing else:\n\n";

/// After a session was lost together with what the caller said in it.
const AGAIN: &str = "The line failed for a moment, and the caller's last words were lost. Apologise in one short \
                     sentence, in the language of the conversation, and ask the caller to say it again.";

/// A response that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) what: What,
    /// It must not be interrupted.
    pub(super) protected: bool,
    /// It was ordered from outside.
    pub(super) is_ordered: bool,
    /// What is done once it was heard.
    pub(super) then: Option<Act>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// An answer to what was said or told.
    Answer,
    /// These words.
    Say(String),
    /// These words while a function takes its time.
    Fill(String),
    /// That the caller says the last words again.
    Again,
}

impl Ask {
    pub(super) const fn of(what: What) -> Self {
        Self { what, protected: false, is_ordered: false, then: None }
    }
}

/// The response that is being made.
#[derive(Debug)]
pub(super) struct Response {
    /// Not known before the server has begun.
    pub(super) id: Option<String>,
    /// Our event that asked for it.
    pub(super) event: String,
    /// What it is for; none for an answer of the server's own accord.
    pub(super) ask: Option<Ask>,
    /// Nothing of it is wanted any more.
    pub(super) is_void: bool,
    pub(super) has_sound: bool,
}

/// Words of our own that are being said.
#[derive(Debug)]
pub(super) struct OwnWords {
    /// The call ends after them.
    pub(super) is_last: bool,
    pub(super) has_sound: bool,
}

impl Session {
    pub(super) fn want(&mut self, ask: Ask) {
        if ask.what == What::Answer {
            self.drop_answers();
        }
        if self.asks.len() < MAX_ASKS {
            self.asks.push_back(ask);
        }
    }

    /// One answer is one to all that was said and told.
    pub(super) fn drop_answers(&mut self) {
        self.asks.retain(|ask| ask.what != What::Answer);
    }

    /// Asks for what is wanted next, when the server is free.
    pub(super) fn create_next(&mut self) {
        let is_busy = self.response.is_some() || self.cut.is_some() || self.own_words.is_some();
        if !self.is_open() || is_busy || self.is_held || self.is_closing || self.turns.is_taken() {
            return;
        }
        let Some(ask) = self.asks.pop_front() else { return };
        if !self.turns.awaits_answer() && !self.playback.is_speaking() {
            self.floor(turn_taking::Input::Preparing);
        }
        self.asked += 1;
        let event = format!("response-{}", self.asked);
        let instructions = match &ask.what {
            What::Answer => None,
            What::Say(words) | What::Fill(words) => Some(format!("{EXACTLY}{words}")),
            What::Again => Some(AGAIN.to_owned()),
        };
        self.send(wire::create(&event, instructions.as_deref()));
        self.response = Some(Response { id: None, event, ask: Some(ask), is_void: false, has_sound: false });
        self.mark = self.now;
    }

    /// A silent caller is prompted for the `nth` time in a row.
    pub(super) fn prompt(&mut self, nth: u32) {
        let prompt = usize::try_from(nth).ok().and_then(|nth| self.script.silence_prompts.get(nth.checked_sub(1)?));
        match prompt {
            Some(prompt) => self.want(Ask::of(What::Say(prompt.clone()))),
            None => {
                let reason = "the caller says nothing any more".to_owned();
                self.take_leave(Act::Hangup { reason, after_playback: true });
            }
        }
    }

    /// The call ends after the goodbye.
    fn take_leave(&mut self, ending: Act) {
        if self.script.goodbye.is_empty() {
            self.ending = Some(ending);
        } else {
            self.want(Ask { then: Some(ending), ..Ask::of(What::Say(self.script.goodbye.clone())) });
        }
    }

    fn takes_leave(&self) -> bool {
        let being_made = self.response.iter().filter(|response| !response.is_void);
        let mut asks = self.asks.iter().chain(being_made.filter_map(|response| response.ask.as_ref()));
        self.ending.is_some() || asks.any(|ask| ask.then.is_some())
    }

    /// A function takes its time.
    pub(super) fn on_filler(&mut self, text: String) {
        if !self.calls.is_empty() && std::mem::take(&mut self.is_wordless) {
            self.want(Ask::of(What::Fill(text)));
        }
    }

    /// A function has answered, and perhaps something is to be done.
    pub(super) fn on_called(&mut self, call: &str, name: &str, answer: &str, deed: Option<Act>) {
        let known = self.calls.iter().position(|waiting| waiting == call);
        if let Some(at) = known {
            self.calls.remove(at);
            self.send(wire::called(call, answer));
        } else if self.link != Link::Down {
            // Another session than the one that called.
            let result = format!("The function {name}, called before, answered: {answer}");
            self.send(wire::message(Role::System, &result));
            self.keep_result(result);
        }
        match deed {
            Some(ending @ Act::Hangup { .. }) if std::mem::take(&mut self.is_wordless) => {
                self.asks.clear();
                self.take_leave(ending);
            }
            Some(ending @ (Act::Hangup { .. } | Act::Transfer { .. } | Act::Fail { .. })) => {
                self.asks.clear();
                self.ending = Some(ending);
            }
            Some(act) => self.act(act),
            None => {}
        }
        if self.calls.is_empty() && !self.takes_leave() {
            self.asks.retain(|ask| !matches!(ask.what, What::Fill(_)));
            self.want(Ask::of(What::Answer));
        }
    }

    /// Kept until a response was made that knows of it: the session may be lost before.
    fn keep_result(&mut self, result: String) {
        if self.results.len() == MAX_RESULTS {
            tracing::warn!(MAX_RESULTS, "the oldest result of a function that a lost session called is dropped");
            self.results.pop_front();
        }
        self.results.push_back(result);
    }

    /// What went wrong is apologised for, by a voice of our own or by the model.
    pub(super) fn apologise(&mut self) {
        if self.script.apology.is_empty() {
            self.floor(turn_taking::Input::Unanswered);
        } else if self.script.has_voice {
            self.speak(self.script.apology.clone(), false);
        } else {
            self.asks.push_front(Ask::of(What::Say(self.script.apology.clone())));
        }
    }

    /// It cannot go on: it takes its leave in a voice of its own, or has whoever carries the call do so.
    pub(super) fn give_up(&mut self, reason: String) {
        if self.is_closing || self.is_over {
            return;
        }
        if !self.script.has_voice || self.script.give_up.is_empty() {
            self.fail(reason);
            return;
        }
        self.floor(turn_taking::Input::Preparing);
        self.drop_everything();
        self.is_closing = true;
        self.speak(self.script.give_up.clone(), true);
        self.ending = Some(Act::Hangup { reason, after_playback: true });
    }

    /// It cannot go on, and has nothing to say either.
    pub(super) fn fail(&mut self, reason: String) {
        self.drop_everything();
        self.ending = Some(Act::Fail { reason });
        self.end();
    }

    /// Nothing more comes of the server, and of what came nothing more is heard.
    fn drop_everything(&mut self) {
        if self.playback.is_speaking() {
            self.act(Act::Interrupt);
            self.playback.stop(self.now);
        }
        self.link = Link::Down;
        self.settle();
        self.hush();
        self.end_open(End::GivenUp);
        self.out.push_back(Output::Close);
        self.asks.clear();
        self.calls.clear();
        (self.response, self.keys_by, self.timing) = (None, None, None);
    }

    fn speak(&mut self, text: String, is_last: bool) {
        let item = self.playback.item(None, is_last, self.now);
        Playback::words(item, &text, true);
        self.own_words = Some(OwnWords { is_last, has_sound: false });
        self.out.push_back(Output::Speak(text));
    }

    /// More of the voice of our own words.
    pub(super) fn on_voice(&mut self, sound: Option<Result<Sound, ProviderError>>) {
        let Some(OwnWords { is_last, has_sound }) = self.own_words else { return };
        let mut codes = std::mem::take(&mut self.codes);
        codes.clear();
        let (is_end, error) = match &sound {
            Some(Ok(_)) => (false, None),
            Some(Err(error)) => (true, Some(error.clone())),
            None => (true, None),
        };
        let converted = match sound {
            Some(Ok(sound)) => self.own_down.voice(sound, &mut codes),
            Some(Err(_)) | None => self.own_down.finish(&mut codes),
        };
        let has_sound = has_sound || !codes.is_empty();
        self.own_words = Some(OwnWords { is_last, has_sound });
        let ms = (codes.len() / PER_MS) as u64;
        // A voice that never ends is cut; what it had to say was said by then.
        let is_flood = self.playback.sound(None, is_last, (&codes, ms), self.now).is_err();
        self.codes = codes;
        if let Err(error) = converted {
            self.fail(format!("the signal path failed: {error}"));
        } else if is_end || is_flood {
            self.hush();
            if let Some(ProviderError { kind, detail }) = error {
                self.report(Report::Fault { stage: Stage::TextToSpeech, fault: kind, detail });
            }
            if !has_sound && is_last {
                self.fail("no voice for the last words".to_owned());
            } else if !has_sound {
                self.floor(turn_taking::Input::Unanswered);
            }
        }
    }

    /// Words of our own have ended, or are not wanted any more.
    pub(super) fn hush(&mut self) {
        if self.own_words.take().is_some() {
            self.playback.end_own();
            self.out.push_back(Output::Hush);
        }
    }
}
