//! Carries out what the core of turn-taking says.

use std::{
    task::Context,
    time::{Duration, Instant},
};

use super::{LiveWords, Prepared, Reply, Talk, reply::say};
use crate::{
    agent::{
        Act,
        brain::Farewell,
        report::{Report, Speaker, Turn},
    },
    provider::{Message, Role},
    traces::TurnSpans,
    turn_taking::{Input, Output},
};

/// Without a deadline the sleep is set as far away.
const FAR: Duration = Duration::from_secs(3600);

impl Talk {
    /// Does what the core wants done.
    pub(super) fn carry_out(&mut self, at: Instant) {
        while let Some(output) = self.floor.poll() {
            match output {
                Output::Speech { began } => self.acts.push_back(Act::Report(Report::Speech { began })),
                Output::Guess { turn, probe } => {
                    let words = self.look_for_words(probe, at);
                    let mut prepared = Prepared::guess(turn, probe, words, self.floor.last_voice());
                    if !probe && self.traceable > 0 {
                        prepared.spans = self.trace.map(TurnSpans::begin);
                        self.traceable -= u32::from(prepared.spans.is_some());
                    }
                    self.prepared = Some(prepared);
                }
                Output::Forget { .. } => {
                    let Some(forgotten) = self.prepared.take() else { continue };
                    self.wasted_tokens += forgotten.reply.map_or(0, |reply| reply.tokens());
                    if let Some(spans) = forgotten.spans {
                        spans.forgotten();
                    }
                }
                Output::Answer { .. } => {
                    self.end_interrupted(at);
                    if let Some(prepared) = &mut self.prepared {
                        prepared.released = true;
                        prepared.endpoint = Some(at);
                        if prepared.said.is_some() {
                            self.brain.commit();
                        }
                    }
                }
                Output::Interrupt => {
                    self.acts.push_back(Act::Interrupt);
                    self.playing.stop(at);
                }
                Output::GoOn => {
                    // Words that still come may say that it was an interruption after all.
                    self.prepared = self.prepared.take().filter(Prepared::awaits_words);
                    if let Some(prepared) = &mut self.prepared {
                        prepared.probe = false;
                    }
                    if let Some(reply) = &mut self.reply {
                        reply.rewind(self.playing.heard_ms(at));
                        self.acts.push_back(Act::Continue);
                    }
                }
                Output::Prompt { nth } => {
                    let answer = self.brain.silence(nth).unwrap_or_else(|| self.brain.farewell(Farewell::Silence));
                    self.prepared = Some(Prepared::own(Reply::new(answer)));
                }
            }
        }
    }

    /// The agent says something of its own accord: whatever went on is over.
    pub(super) fn take_floor(&mut self, prepared: Prepared, at: Instant) {
        self.floor.handle(Input::Preparing, at);
        self.carry_out(at);
        self.end_interrupted(at);
        self.prepared = Some(prepared);
    }

    /// What the caller said is known.
    pub(super) fn on_words(&mut self, turn: u64, text: String) {
        let Some(prepared) = self.prepared.as_mut().filter(|prepared| prepared.turn == turn) else { return };
        if prepared.probe || text.trim().is_empty() || !self.floor.keeps_speech() {
            // Of a turn without words nothing comes; one that counts is told by the core.
            if !prepared.released {
                self.prepared = self.prepared.take().filter(|prepared| prepared.probe && self.floor.keeps_speech());
            }
            return;
        }
        let mut history = self.history.messages().to_vec();
        if let Some(heard) = self.reply.as_ref().map(|reply| reply.heard(self.playing.heard_ms(super::now())))
            && !heard.is_empty()
        {
            history.push(Message::new(Role::Assistant, heard));
        }
        prepared.reply = Some(Reply::new(self.brain.answer(&text, &history)));
        prepared.said = Some(text.clone());
        if prepared.released {
            self.brain.commit();
        }
        self.tell_so_far(text);
    }

    /// Lets what was prepared be heard, when it is time and there is something.
    pub(super) fn release(&mut self, at: Instant) -> bool {
        let ready = self.prepared.as_ref().is_some_and(|prepared| {
            prepared.released && self.reply.is_none() && prepared.reply.as_ref().is_some_and(Reply::can_begin)
        });
        let Some(mut prepared) = (if ready { self.prepared.take() } else { None }) else { return false };
        let Some(reply) = prepared.reply.take() else { return false };
        if let Some(said) = prepared.said.take() {
            self.history.push(Role::User, &said);
            self.brain.settle(&said);
            let said = Report::Said { by: Speaker::Caller, text: said, is_final: true, interrupted: false };
            self.acts.push_back(Act::Report(said));
        }
        self.faults += prepared.faults();
        self.end_speech();
        if reply.made_ms() == 0 {
            // Nothing to say, or nobody who could; how the call goes on is said by the end of it.
            let mut reply = reply;
            self.acts.extend(reply.take_keys().map(|keys| Act::PlayDigits { keys }));
            self.reply = Some(reply);
            self.end_reply(None, at);
            return true;
        }
        if let Some(last_voice) = prepared.last_voice {
            let since = |moment: Option<Instant>| moment.map(|moment| moment.saturating_duration_since(last_voice));
            let (first_token, first_audio) = reply.firsts();
            let turn = Turn {
                endpoint: since(prepared.endpoint),
                speech_to_text: since(prepared.worded),
                first_token: since(first_token),
                first_audio: since(first_audio),
                first_sent: since(Some(at)),
            };
            self.spans = prepared.spans.take();
            if let Some(spans) = &mut self.spans {
                spans.answered(&turn);
            }
            self.acts.push_back(Act::Report(Report::Turn(turn)));
        }
        self.floor.handle(Input::Speaking { protected: reply.is_protected() }, at);
        self.carry_out(at);
        self.reply = Some(reply);
        true
    }

    /// Tells of tools that were called.
    pub(super) fn tell_called(&mut self) {
        let prepared = self.prepared.as_mut().map(|prepared| (prepared.reply.as_mut(), prepared.spans.as_ref()));
        let said = (self.reply.as_mut(), self.spans.as_ref());
        for (reply, spans) in prepared.into_iter().chain([said]) {
            for called in reply.map(Reply::take_called).into_iter().flatten() {
                if let Some(spans) = spans {
                    spans.called(&called);
                }
                self.acts.push_back(Act::Report(Report::Tool(called)));
            }
        }
    }

    /// What was said is over; `interrupted_at` is how much of it was heard, in ms, where that is not all.
    pub(super) fn end_reply(&mut self, interrupted_at: Option<u64>, at: Instant) {
        let Some(mut reply) = self.reply.take() else { return };
        let text = interrupted_at.map_or_else(|| reply.whole(), |ms| reply.heard(ms));
        let interrupted = interrupted_at.is_some();
        if let Some(spans) = self.spans.take() {
            spans.played(interrupted);
        }
        self.playing.end(at);
        if !text.is_empty() {
            self.history.push(Role::Assistant, &text);
            let said = Report::Said { by: Speaker::Agent, text, is_final: true, interrupted };
            self.acts.push_back(Act::Report(said));
        }
        if interrupted {
            return;
        }
        if let Some(ending) = reply.take_ending() {
            self.ending = true;
            self.acts.push_back(ending);
        }
        let input = if reply.made_ms() == 0 { Input::Unanswered } else { Input::Finished };
        self.floor.handle(input, at);
        self.carry_out(at);
    }

    /// What was interrupted will not go on.
    pub(super) fn end_interrupted(&mut self, at: Instant) {
        if self.reply.is_some() {
            let heard_ms = self.playing.heard_ms(at);
            self.end_reply(Some(heard_ms), at);
        }
    }

    pub(super) fn on_held(&mut self, held: bool, at: Instant) {
        self.held = held;
        if held {
            self.playing.stop(at);
            self.end_interrupted(at);
            // What it has to say of its own accord waits for the end of the hold.
            self.prepared = self.prepared.take().filter(|prepared| prepared.turn == 0);
        }
        self.end_speech();
        if let Some(live) = &mut self.live {
            live.forget();
        }
        self.floor.handle(Input::Held, at);
        if !held && self.prepared.is_some() {
            self.floor.handle(Input::Preparing, at);
        }
    }

    /// What is to be said by order is said when nobody speaks.
    pub(super) fn say_ordered(&mut self, at: Instant) -> bool {
        let is_free = self.prepared.is_none() && self.reply.is_none() && !self.floor.keeps_speech() && !self.ending;
        let Some(text) = (if is_free { self.ordered.pop_front() } else { None }) else { return false };
        self.take_floor(Prepared::own(Reply::new(say(text))), at);
        true
    }

    /// Sleeps until the next deadline; true when one has passed.
    pub(super) fn wait(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        let floor = if self.ending || self.held { None } else { self.floor.poll_timeout() };
        let live = self.live.as_ref().and_then(LiveWords::deadline);
        if live.is_some_and(|live| live <= at) {
            return true;
        }
        let next = [floor, self.playing.deadline(), live].into_iter().flatten().min();
        if next.is_some_and(|next| next <= at) {
            self.floor.handle(Input::Tick, at);
            self.carry_out(at);
            return true;
        }
        let deadline = next.unwrap_or(at + FAR).into();
        if self.sleep.deadline() != deadline && (next.is_some() || self.sleep.is_elapsed()) {
            self.sleep.as_mut().reset(deadline);
        }
        self.sleep.as_mut().poll(cx).is_ready()
    }
}
