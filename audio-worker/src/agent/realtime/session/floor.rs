//! What becomes of speech, turns and interruptions, whoever decides on them.

use std::time::{Duration, Instant};

use super::{Act, Ask, Session, Turns, What, wire};
use crate::{
    agent::Report,
    ears::VOICE,
    turn_taking::{self, Output, WINDOW},
};

/// How long the exact position is waited for at which playing was stopped; the gateway tells it within a round trip.
const POSITION_WAIT: Duration = Duration::from_millis(300);

/// Voice over the agent's that lasts so long is taken for words; what is shorter is a cough, or assent.
const WORDS: Duration = Duration::from_millis(240);

/// Responses of which nothing is wanted any more that are remembered.
const MAX_VOID: usize = 16;

/// What was given out was thrown away.
#[derive(Debug)]
pub(super) struct Cut {
    /// The position is waited for until then.
    pub(super) by: Instant,
    /// The exact position is known.
    pub(super) is_known: bool,
    /// It was an interruption: the rest will not be said.
    pub(super) is_confirmed: bool,
}

impl Cut {
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.is_confirmed && (self.is_known || self.by <= now)
    }
}

/// Where the time of the answer to the caller's last turn went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) last_voice: Instant,
    pub(super) endpoint: Instant,
    pub(super) words: Option<Instant>,
    pub(super) first_token: Option<Instant>,
    pub(super) first_audio: Option<Instant>,
}

impl Session {
    /// Tells our own turn-taking, where it decides.
    pub(super) fn floor(&mut self, input: turn_taking::Input<'_>) {
        if let Turns::Own(own) = &mut self.turns {
            own.floor.handle(input, self.now);
            self.carry_out();
        }
    }

    pub(super) fn on_window(&mut self, voice: f32, echo: bool) {
        if self.is_closing || self.is_held {
            return;
        }
        if voice >= VOICE && !echo {
            self.last_voice = Some(self.now);
            if let Turns::Own(own) = &mut self.turns {
                own.voiced += WINDOW;
            }
        }
        self.floor(turn_taking::Input::Window { voice, echo });
    }

    /// Does what our own turn-taking wants.
    fn carry_out(&mut self) {
        let mut words = None;
        while let Some(output) = self.next_wish() {
            match output {
                Output::Speech { began } => self.on_own_speech(began),
                Output::Guess { turn, probe } => words = Some((turn, probe)),
                Output::Forget { .. } => self.forget_sound(),
                Output::Answer { .. } => self.on_own_endpoint(),
                Output::Interrupt => self.interrupt(false),
                Output::GoOn => {
                    self.forget_sound();
                    if self.cut.take().is_some() {
                        self.playback.go_on();
                        self.act(Act::Continue);
                    }
                }
                Output::Prompt { nth } => self.prompt(nth),
            }
        }
        // No recogniser is asked whether an interruption has words: how long it lasts is what there is to go by.
        if let Some((turn, probe)) = words
            && let Some(cut) = &mut self.cut
            && !cut.is_confirmed
        {
            let Turns::Own(own) = &self.turns else { return };
            cut.is_confirmed = probe || own.voiced >= WORDS;
            let text = if cut.is_confirmed { "words" } else { "" };
            if cut.is_confirmed {
                self.ending = None;
                self.void_response();
            }
            self.floor(turn_taking::Input::Words { turn, text });
        }
    }

    fn next_wish(&mut self) -> Option<Output> {
        if let Turns::Own(own) = &mut self.turns { own.floor.poll() } else { None }
    }

    fn on_own_speech(&mut self, began: bool) {
        self.report(Report::Speech { began });
        let Turns::Own(own) = &mut self.turns else { return };
        own.is_streaming = began;
        if !began {
            return;
        }
        let before: Vec<u8> = own.before.drain(..).collect();
        own.is_uncommitted = true;
        if self.cut.is_none() {
            // The answer came too soon, and nobody has heard of it yet.
            self.void_response();
            self.timing = None;
            self.drop_answers();
        }
        if !before.is_empty() {
            self.send_sound(&before);
        }
    }

    /// What was sent of the caller's sound is no turn.
    fn forget_sound(&mut self) {
        if let Turns::Own(own) = &mut self.turns
            && !own.is_streaming
            && std::mem::take(&mut own.is_uncommitted)
        {
            self.unsent.truncate(self.unsent_turn);
            self.send(wire::clear());
        }
    }

    fn on_own_endpoint(&mut self) {
        let Turns::Own(own) = &mut self.turns else { return };
        own.is_uncommitted = false;
        let last_voice = own.floor.last_voice();
        if self.cut.is_some() {
            self.settle();
        }
        self.send(wire::commit());
        self.unsent_turn = self.unsent.len();
        self.begin_turn(last_voice.or(self.last_voice));
        self.drop_answers();
        self.asks.push_front(Ask::of(What::Answer));
    }

    /// The caller has finished.
    fn begin_turn(&mut self, last_voice: Option<Instant>) {
        self.is_unworded = true;
        self.timing = Some(Timing {
            last_voice: last_voice.unwrap_or(self.now),
            endpoint: self.now,
            words: None,
            first_token: None,
            first_audio: None,
        });
    }

    /// The server hears the caller speak.
    pub(super) fn on_speech_started(&mut self) {
        let is_protected = self.is_protected();
        let Turns::Server(server) = &mut self.turns else { return };
        if is_protected || self.is_closing || std::mem::replace(&mut server.is_speaking, true) {
            return;
        }
        server.is_awaited = false;
        server.stats.cut_off += u64::from(self.timing.is_some() && !self.playback.is_speaking());
        server.stats.barge_ins += u64::from(self.playback.is_speaking());
        self.turns.heard_of();
        self.timing = None;
        self.drop_answers();
        self.report(Report::Speech { began: true });
        if self.playback.is_speaking() && self.cut.is_none() {
            self.interrupt(true);
        }
        self.give_response_up(true);
    }

    /// The server takes the caller as finished.
    pub(super) fn on_speech_stopped(&mut self) {
        let Turns::Server(server) = &mut self.turns else { return };
        if !std::mem::take(&mut server.is_speaking) {
            return;
        }
        server.is_awaited = true;
        server.stats.turns += 1;
        // Its own answer is one to all that was told meanwhile.
        self.drop_answers();
        self.report(Report::Speech { began: false });
        self.begin_turn(self.last_voice);
    }

    /// Stops what is being said; the exact position comes back from the gateway.
    pub(super) fn interrupt(&mut self, is_confirmed: bool) {
        if !self.playback.is_speaking() || self.cut.is_some() {
            return;
        }
        self.act(Act::Interrupt);
        self.playback.stop(self.now);
        if is_confirmed {
            self.ending = None;
        }
        if let Turns::Own(own) = &mut self.turns {
            own.voiced = self.script.turn.barge_in;
        }
        self.cut = Some(Cut { by: self.now + POSITION_WAIT, is_known: false, is_confirmed });
    }

    /// Keys interrupt as words do.
    pub(super) fn interrupt_for_keys(&mut self) {
        if self.is_protected() || self.turns.caller_speaks() {
            return;
        }
        self.interrupt(true);
        self.floor(turn_taking::Input::Preparing);
        if let Some(cut) = &mut self.cut {
            cut.is_confirmed = true;
        }
        self.ending = None;
        self.void_response();
    }

    /// Of what is being made nothing is wanted any more.
    pub(super) fn void_response(&mut self) {
        self.give_response_up(false);
    }

    /// Of what is being made nothing is wanted any more. A server that hears the caller speak cancels by itself what it has
    /// begun (`by_server`).
    fn give_response_up(&mut self, by_server: bool) {
        self.hush();
        let Some(response) = self.response.as_mut().filter(|response| !response.is_void) else { return };
        response.is_void = true;
        let id = response.id.clone();
        if !by_server || id.is_none() {
            self.send(wire::cancel(id.as_deref()));
        }
        if let Some(id) = id {
            self.remember_void(id);
        }
    }

    pub(super) fn remember_void(&mut self, id: String) {
        if self.void.len() == MAX_VOID {
            self.void.pop_front();
        }
        self.void.push_back(id);
    }

    /// What was thrown away stays so: the server is told how much of it was heard.
    pub(super) fn settle(&mut self) {
        self.cut = None;
        for item in self.playback.take() {
            if let Some(place) = item.place.as_ref().filter(|_| !item.is_heard()) {
                if !self.void.contains(&place.response) {
                    self.remember_void(place.response.clone());
                }
                self.send(wire::truncate(place, item.heard_ms()));
            }
            self.tell_orphan(&item);
            self.said(item.heard_text(), !item.is_heard());
        }
    }

    pub(super) fn is_protected(&self) -> bool {
        let asked = self.response.as_ref().and_then(|response| response.ask.as_ref());
        let is_asked = asked.is_some_and(|ask| ask.protected) || self.asks.iter().any(|ask| ask.protected);
        is_asked || self.playback.is_protected()
    }

    /// Silence, and what time brings to our own turn-taking.
    pub(super) fn look_at_turns(&mut self) {
        if self.is_held || self.is_closing {
            return;
        }
        let is_busy = self.is_taken_up();
        match &mut self.turns {
            Turns::Own(own) => {
                if own.floor.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.floor(turn_taking::Input::Tick);
                }
            }
            Turns::Server(server) => {
                if is_busy || server.is_speaking || server.is_awaited {
                    server.quiet = None;
                    return;
                }
                let (since, silence) = *server.quiet.get_or_insert((self.now, self.script.turn.silence_prompt));
                if since + silence <= self.now {
                    server.quiet = None;
                    server.prompts += 1;
                    server.stats.prompts += 1;
                    let nth = server.prompts;
                    self.prompt(nth);
                }
            }
        }
    }

    /// Something is being said, made or wanted.
    fn is_taken_up(&self) -> bool {
        let is_speaking = self.playback.is_speaking() || self.own_words.is_some() || self.cut.is_some();
        let is_making = self.response.is_some() || !self.asks.is_empty() || !self.calls.is_empty();
        is_speaking || is_making || self.ending.is_some() || self.keys_by.is_some() || !self.is_open()
    }
}
