//! A conversation with a realtime server. Pure: what the caller, the carrier and the server do goes in with `now`; what is
//! to be done and one deadline come out.
//!
//! Contract: one [`Session::handle`], then [`Session::poll`] until it answers `None`, before the next. [`Session::give`]
//! has the sound for the caller.
//!
//! Responses are made one at a time. Those that we want are kept as [`asks::Ask`]s until the server is free; those that a
//! server makes by its own turn detection come as they come. A response that was interrupted is void: what still comes of
//! it is thrown away, and its items are cut at what the caller heard.

use std::{collections::VecDeque, time::Instant};

use super::{
    codec::{Downwards, PER_MS, Upwards},
    message::{Input, Output, Script},
    playback::{Given, Item, Playback},
    settings::{Detection, Model},
    wire,
};
use crate::{
    agent::{Act, AgentStats, CannotSay, Report, Speaker, ToolReport, Turn, history::History},
    dsp::ResampleError,
    provider::Role,
    turn_taking,
};

mod asks;
mod caller;
mod costs;
mod events;
mod failure;
mod floor;
mod turns;

use asks::{Ask, OwnWords, What};
use costs::{End, Open};
use events::Link;
use floor::Cut;
use turns::Turns;

/// Texts that may wait to be said by order.
const MAX_ORDERED: usize = 8;

/// One conversation.
#[derive(Debug)]
pub(super) struct Session {
    script: Script,
    model: Model,
    now: Instant,
    link: Link,
    /// Sessions in a row that came to nothing.
    failures: u32,
    /// Responses in a row that failed.
    faults: u32,
    /// The server was heard last, or something is expected of it since.
    mark: Instant,
    /// The server said that its session ends.
    is_expired: bool,
    /// The caller waits for an answer that was lost with a session.
    is_owed: bool,
    /// The caller's last turn is not known in words.
    is_unworded: bool,
    up: Upwards,
    down: Downwards,
    own_down: Downwards,
    wire: Vec<u8>,
    codes: Vec<u8>,
    /// Sound of the caller, as on the wire, that waits for a server.
    unsent: VecDeque<u8>,
    /// Of it, so much belongs to a turn that our own turn-taking ended.
    unsent_turn: usize,
    turns: Turns,
    cut: Option<Cut>,
    playback: Playback,
    response: Option<asks::Response>,
    open: Open,
    /// Responses of which nothing is wanted any more, the newest last.
    void: VecDeque<String>,
    asks: VecDeque<Ask>,
    /// Counts what we ask for.
    asked: u64,
    /// Calls of functions that the server waits for.
    calls: Vec<String>,
    /// The response that called them said nothing itself, and nothing was said for it since.
    is_wordless: bool,
    /// What functions answered that another session had called, until a response was made that knows of it.
    results: VecDeque<String>,
    own_words: Option<OwnWords>,
    keys: String,
    keys_by: Option<Instant>,
    history: History,
    last_voice: Option<Instant>,
    timing: Option<floor::Timing>,
    /// What is done once all was heard.
    ending: Option<Act>,
    /// It takes its leave: nobody is listened to.
    is_closing: bool,
    /// It ended the call.
    is_over: bool,
    is_held: bool,
    unsent_lost_ms: u64,
    out: VecDeque<Output>,
}

impl Session {
    /// A conversation that begins at `now`.
    pub(super) fn new(script: Script, model: Model, now: Instant) -> Result<Self, ResampleError> {
        let turns = match model.detection {
            Detection::Own => Turns::own(script.turn.clone(), now),
            Detection::Server { .. } | Detection::Semantic(_) => Turns::server(),
        };
        let asks = if script.greeting.is_empty() {
            VecDeque::new()
        } else {
            let protected = script.greeting_protected;
            [Ask { protected, ..Ask::of(What::Say(script.greeting.clone())) }].into()
        };
        Ok(Self {
            up: Upwards::new(model.format)?,
            down: Downwards::new(model.format),
            own_down: Downwards::new(model.format),
            script,
            model,
            now,
            link: Link::Opening,
            failures: 0,
            faults: 0,
            mark: now,
            is_expired: false,
            is_owed: false,
            is_unworded: false,
            wire: Vec::new(),
            codes: Vec::new(),
            unsent: VecDeque::new(),
            unsent_turn: 0,
            turns,
            cut: None,
            playback: Playback::default(),
            response: None,
            open: Open::new(),
            void: VecDeque::new(),
            asks,
            asked: 0,
            calls: Vec::new(),
            is_wordless: false,
            results: VecDeque::new(),
            own_words: None,
            keys: String::new(),
            keys_by: None,
            history: History::default(),
            last_voice: None,
            timing: None,
            ending: None,
            is_closing: false,
            is_over: false,
            is_held: false,
            unsent_lost_ms: 0,
            out: [Output::Open].into(),
        })
    }

    /// Takes one input at `now`. Time that goes backwards is ignored.
    pub(super) fn handle(&mut self, input: Input<'_>, now: Instant) {
        self.now = self.now.max(now);
        if self.is_over {
            return;
        }
        match input {
            Input::Opened => self.on_opened(),
            Input::Text(text) => self.on_text(text),
            Input::Lost(error) => self.on_lost(error),
            Input::LeftAlone => self.on_left_alone(),
            Input::Mulaw(codes) => self.on_mulaw(codes),
            Input::Gap(ms) => self.on_gap(ms),
            Input::Window { voice, echo } => self.on_window(voice, echo),
            Input::Key(key) => self.on_key(key),
            Input::Played { utterance, ms, cleared } => {
                let is_known = self.playback.report(utterance, ms, cleared, self.now);
                if let Some(cut) = &mut self.cut {
                    cut.is_known |= is_known;
                }
            }
            Input::Held(held) => self.on_held(held),
            Input::Voice(sound) => self.on_voice(sound),
            Input::Filler(text) => self.on_filler(text),
            Input::Called { call, name, answer, deed } => self.on_called(call, name, answer, deed),
            Input::Tick => {}
        }
        self.look();
    }

    /// What is to be done next.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Sound for the caller, when there is some and it is time.
    pub(super) fn give(&mut self, now: Instant) -> Option<Given> {
        self.now = self.now.max(now);
        if self.is_over || self.is_held {
            return None;
        }
        let given = self.playback.give(self.now)?;
        if let Given::Sound { begins: true, is_first, is_protected, .. } = given {
            self.floor(turn_taking::Input::Speaking { protected: is_protected });
            if is_first {
                self.tell_turn();
            }
        }
        Some(given)
    }

    /// So much of the utterance that is being played was heard, ms; `None` when none is.
    pub(super) fn heard_of_utterance(&self, now: Instant) -> Option<u64> {
        self.playback.heard_of_utterance(now)
    }

    /// When to call [`Session::handle`] with [`Input::Tick`], if nothing else happens before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        let retry = if let Link::Waiting(at) = self.link { Some(at) } else { None };
        let expected = self.expects().then(|| self.mark + self.script.patience);
        let turns = if self.is_held || self.is_closing { None } else { self.turns.poll_timeout() };
        let cut = self.cut.as_ref().filter(|cut| cut.is_confirmed).map(|cut| cut.by);
        let deadlines = [retry, expected, turns, cut, self.keys_by, self.playback.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Has `text` said by order.
    pub(super) fn say(&mut self, text: &str) -> Result<(), CannotSay> {
        let ordered = self.asks.iter().filter(|ask| ask.is_ordered).count();
        if ordered >= MAX_ORDERED {
            return Err(CannotSay::TooMuch);
        }
        if self.is_closing {
            return Err(CannotSay::NoVoice);
        }
        self.asks.push_back(Ask { is_ordered: true, ..Ask::of(What::Say(text.to_owned())) });
        self.look();
        Ok(())
    }

    /// The call is over: what was heard of what is being said. What it cost is still to be polled.
    pub(super) fn leave(&mut self, now: Instant) -> Vec<Report> {
        self.now = self.now.max(now);
        if self.cut.is_none() {
            self.playback.stop(self.now);
        }
        self.link = Link::Down;
        self.settle();
        self.end_open(End::GivenUp);
        let rest;
        (self.out, rest) = self.out.drain(..).partition(|output| matches!(output, Output::Cost(..)));
        rest.into_iter()
            .filter_map(|output| if let Output::Act(Act::Report(report)) = output { Some(report) } else { None })
            .collect()
    }

    /// What was counted.
    pub(super) fn stats(&self) -> AgentStats {
        AgentStats { floor: self.turns.stats(), ..AgentStats::default() }
    }

    /// Of the caller's sound, so much was lost because there was no server, ms.
    pub(super) const fn unsent_lost_ms(&self) -> u64 {
        self.unsent_lost_ms
    }

    /// True when [`Session::poll`] has something.
    pub(super) fn has_more(&self) -> bool {
        !self.out.is_empty()
    }

    /// A function was called, and is done.
    pub(super) fn report_tool(&mut self, tool: ToolReport) {
        self.report(Report::Tool(tool));
    }

    fn act(&mut self, act: Act) {
        self.out.push_back(Output::Act(act));
    }

    fn report(&mut self, report: Report) {
        self.act(Act::Report(report));
    }

    /// What time brings.
    fn look(&mut self) {
        if let Link::Waiting(at) = self.link
            && at <= self.now
        {
            self.link = Link::Opening;
            self.mark = self.now;
            self.out.push_back(Output::Open);
        }
        if self.expects() && self.mark + self.script.patience <= self.now {
            self.on_silent_server();
        }
        if self.keys_by.is_some_and(|at| at <= self.now) {
            self.tell_keys();
        }
        if self.cut.as_ref().is_some_and(|cut| cut.is_ready(self.now)) {
            self.settle();
        }
        while let Some(item) = self.playback.finished(self.now) {
            self.tell_orphan(&item);
            self.said(item.heard_text(), false);
            if !self.playback.is_speaking() {
                self.floor(turn_taking::Input::Finished);
            }
        }
        self.look_at_turns();
        self.create_next();
        if self.ending.is_some() && self.playback.is_empty() && self.response.is_none() && self.own_words.is_none() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(ending) = self.ending.take() {
            self.act(ending);
            self.is_over = true;
            self.link = Link::Down;
            self.out.push_back(Output::Close);
        }
    }

    fn on_held(&mut self, held: bool) {
        self.is_held = held;
        // Nothing was read meanwhile.
        self.mark = self.now;
        if held {
            if self.cut.is_none() {
                self.playback.stop(self.now);
            }
            self.void_response();
            self.settle();
            self.hush();
            // As after an interruption.
            if !self.is_closing {
                self.ending = None;
            }
            (self.timing, self.keys_by) = (None, None);
            self.keys.clear();
        }
        self.floor(turn_taking::Input::Held);
        self.turns.held();
    }

    /// What was heard of a lost session's item, the next one does not know.
    fn tell_orphan(&mut self, item: &Item) {
        let text = item.heard_text();
        if item.is_orphan && !text.is_empty() {
            self.send(wire::message(Role::Assistant, &text));
        }
    }

    fn said(&mut self, text: String, interrupted: bool) {
        if !text.is_empty() {
            self.history.push(Role::Assistant, &text);
            self.report(Report::Said { by: Speaker::Agent, text, is_final: true, interrupted });
        }
    }

    /// The answer to the caller's turn begins to be given out.
    fn tell_turn(&mut self) {
        let (Some(timing), now) = (self.timing.take(), self.now) else { return };
        let since = |moment: Option<Instant>| moment.map(|moment| moment.saturating_duration_since(timing.last_voice));
        self.report(Report::Turn(Turn {
            endpoint: since(Some(timing.endpoint)),
            speech_to_text: since(timing.words),
            first_token: since(timing.first_token),
            first_audio: since(timing.first_audio),
            first_sent: since(Some(now)),
        }));
    }
}

#[cfg(test)]
mod tests;
