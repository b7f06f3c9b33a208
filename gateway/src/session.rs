//! The core of a call: the one place that decides.
//!
//! Pure: inputs and `now` go in; messages, commands and one deadline come out. It never sees a socket, a clock or a
//! serializable type; `call.rs` drives it. Contract: one [`Session::handle`], then the `poll_*` methods until each
//! answers `None`, before the next.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    ticket,
    twilio::message::{Event, Inbound, Outbound, Start},
};

mod downlink;
mod message;
mod outcome;
mod uplink;

use downlink::{Downlink, Full, MarkBack};
pub use message::{Command, FromWorker, Input, Instructed, Instruction, NoWorker, Order, ToWorker};
pub use outcome::{CloseCode, EndReason, Stats};
use uplink::Uplink;

/// `start` must come within this time of the handshake.
pub const START_LIMIT: Duration = Duration::from_secs(5);
/// A worker must have taken the call within this time.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A socket from which nothing came for this long is asked with a ping…
pub const PING_AFTER: Duration = Duration::from_secs(20);
/// …and one from which nothing at all came for this long is dead.
pub const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// A write that makes no progress for this long ends the call.
pub const STALL_LIMIT: Duration = Duration::from_secs(10);
/// What was said may take this much longer to be heard than it lasts.
pub const FLUSH_SLACK: Duration = Duration::from_secs(3);
/// No flush takes longer than this.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// One call.
#[derive(Debug)]
pub struct Session {
    now: Instant,
    state: State,
    /// The call ends then, whatever happens.
    limit: Instant,
    /// Nothing came from the peer since.
    last_sign: Instant,
    pinged: bool,
    blocked_since: Option<Instant>,
    uplink: Uplink,
    downlink: Downlink,
    commands: VecDeque<Command>,
    stats: Stats,
}

#[derive(Debug)]
enum State {
    /// The handshake is done.
    AwaitingStart { deadline: Instant },
    /// The driver checks the ticket.
    Authorizing { start: Start },
    /// The driver looks for a worker; audio is kept meanwhile.
    Connecting { stream_sid: String, deadline: Instant },
    /// Audio flows.
    Live { stream_sid: String },
    /// The worker wanted the end; what it said is still being heard.
    Closing { stream_sid: String, reason: EndReason, deadline: Instant },
    /// Over. The worker is told if it had the call.
    Closed { farewell: Option<EndReason> },
}

impl State {
    /// Why the call ends when the caller leaves now: the worker had its say if it is closing, and the caller left
    /// during the rest of it.
    fn reason_or(&self, otherwise: EndReason) -> EndReason {
        if let Self::Closing { reason, .. } = self { reason.clone() } else { otherwise }
    }
}

impl Session {
    /// A call whose socket was accepted at `now` and that lasts at most `max_call`.
    pub fn new(now: Instant, max_call: Duration) -> Self {
        Self {
            now,
            state: State::AwaitingStart { deadline: now + START_LIMIT },
            limit: now + max_call,
            last_sign: now,
            pinged: false,
            blocked_since: None,
            uplink: Uplink::default(),
            downlink: Downlink::default(),
            commands: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Takes one input at `now`. Never fails; time that goes backwards is ignored; after the end nothing happens.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.now = self.now.max(now);
        if matches!(self.state, State::Closed { .. }) {
            return;
        }
        match input {
            Input::Caller(message) => self.on_caller(message),
            Input::CallerMalformed(_) | Input::CallerBinary => {
                self.on_sign();
                self.stats.malformed += 1;
            }
            Input::CallerAlive => self.on_sign(),
            Input::CallerGone => self.end(self.state.reason_or(EndReason::CallerLost)),
            Input::CallerBroken => self.end(EndReason::ProtocolError),
            Input::WriteBlocked => _ = self.blocked_since.get_or_insert(self.now),
            Input::WriteDone => self.blocked_since = None,
            Input::Authorized(answer) => self.on_authorized(answer),
            Input::WorkerOpen => self.on_worker_open(),
            Input::NoWorker(why) => self.end(EndReason::NoWorker(why)),
            Input::Worker(message) => self.on_worker(message),
            Input::WorkerGone => self.on_worker_gone(),
            Input::Order(order) => self.on_order(order),
            Input::Drain => self.end(EndReason::GatewayDrained),
            Input::Tick => {}
        }
        self.on_time();
    }

    /// The next message for Twilio, with the id of its stream and, of audio, when it came from the worker; pull when the
    /// socket takes it.
    pub fn poll_caller(&mut self) -> Option<(&str, Outbound, Option<Instant>)> {
        let (State::Live { stream_sid } | State::Closing { stream_sid, .. }) = &self.state else { return None };
        let (message, came) = self.downlink.pop(&mut self.stats)?;
        Some((stream_sid, message, came))
    }

    /// The next message for the worker; pull when its stream has room.
    pub fn poll_worker(&mut self) -> Option<ToWorker> {
        match &mut self.state {
            State::Live { .. } | State::Closing { .. } => self.uplink.pop(),
            State::Closed { farewell: Some(_) } if let Some(control) = self.uplink.pop_control() => Some(control),
            State::Closed { farewell } => farewell.take().map(ToWorker::Close),
            State::AwaitingStart { .. } | State::Authorizing { .. } | State::Connecting { .. } => None,
        }
    }

    /// The next thing for the driver to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Session::handle`] with [`Input::Tick`], if nothing else happens before; `None` after the end.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::AwaitingStart { deadline }
            | State::Connecting { deadline, .. }
            | State::Closing { deadline, .. } => Some(*deadline),
            State::Authorizing { .. } | State::Live { .. } => None,
            State::Closed { .. } => return None,
        };
        let sign = self.last_sign + if self.pinged { IDLE_LIMIT } else { PING_AFTER };
        let blocked = self.blocked_since.map(|since| since + STALL_LIMIT);
        [own, blocked, Some(sign), Some(self.limit)].into_iter().flatten().min()
    }

    /// What was counted so far.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    fn on_caller(&mut self, Inbound { stream_sid, event }: Inbound) {
        self.on_sign();
        let ours = match &self.state {
            State::Connecting { stream_sid, .. } | State::Live { stream_sid } | State::Closing { stream_sid, .. } => {
                Some(stream_sid)
            }
            State::AwaitingStart { .. } | State::Authorizing { .. } | State::Closed { .. } => None,
        };
        // A message that names no stream is taken for ours: the socket carries only one.
        let named_ours = match (&stream_sid, ours) {
            (Some(named), Some(ours)) => named == ours,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        match (event, ours.is_some()) {
            (Event::Connected, _) => {}
            (Event::Unknown, _) => self.stats.unknown_events += 1,
            (Event::Start(start), _) => self.on_start(start),
            // Nothing that comes before `start` belongs to a call.
            (_, false) => self.stats.out_of_place += 1,
            (_, true) if !named_ours => self.stats.wrong_stream += 1,
            (Event::Media(media), true) => {
                if media.is_inbound && !matches!(self.state, State::Closing { .. }) {
                    if let Some(timestamp_ms) = media.timestamp_ms {
                        self.uplink.note_lag(timestamp_ms, self.now, &mut self.stats);
                    }
                    self.uplink.push(media, self.now, &mut self.stats);
                }
            }
            (Event::Dtmf(key), true) => self.uplink.push_control(ToWorker::Dtmf(key), &mut self.stats),
            (Event::Mark(name), true) => self.on_mark(&name),
            (Event::Stop, true) => self.end(self.state.reason_or(EndReason::CallerHangup)),
        }
    }

    fn on_start(&mut self, start: Start) {
        if !matches!(self.state, State::AwaitingStart { .. }) {
            self.stats.out_of_place += 1;
            return;
        }
        if !start.is_mulaw_8000 {
            return self.end(EndReason::UnsupportedMedia);
        }
        self.commands.push_back(Command::Authorize(start.clone()));
        self.state = State::Authorizing { start };
    }

    fn on_authorized(&mut self, answer: Result<(), ticket::Refused>) {
        if let Err(refused) = answer {
            return self.end(EndReason::TicketRefused(refused));
        }
        let State::Authorizing { start } = &self.state else { return };
        let start = start.clone();
        self.state = State::Connecting { stream_sid: start.stream_sid.clone(), deadline: self.now + CONNECT_LIMIT };
        self.commands.push_back(Command::OpenWorker(start));
    }

    fn on_worker_open(&mut self) {
        if let State::Connecting { stream_sid, .. } = &mut self.state {
            self.state = State::Live { stream_sid: std::mem::take(stream_sid) };
        }
    }

    fn on_worker(&mut self, message: FromWorker) {
        if !matches!(self.state, State::Live { .. } | State::Closing { .. }) {
            return;
        }
        match message {
            FromWorker::Audio { utterance, mulaw } => {
                if self.downlink.push(utterance, mulaw, self.now, &mut self.stats) == Err(Full) {
                    self.end(EndReason::CallerStalled);
                }
            }
            FromWorker::UtteranceEnd(utterance) => self.downlink.end(utterance),
            FromWorker::Interrupt(utterance) => {
                let media_time_ms = self.uplink.media_time_ms();
                for mark in self.downlink.interrupt(utterance, &mut self.stats) {
                    let played =
                        ToWorker::Played { utterance: mark.utterance, ms: mark.ms, media_time_ms, cleared: true };
                    self.uplink.push_control(played, &mut self.stats);
                }
                self.finish_flush();
            }
            FromWorker::Hangup { after_playback } => self.on_ending(EndReason::AgentHangup, after_playback),
            FromWorker::Transfer { to, after_playback } => self.on_ending(EndReason::AgentTransfer(to), after_playback),
            FromWorker::Instructed(id, outcome) => self.commands.push_back(Command::Instructed(id, outcome)),
        }
    }

    fn on_order(&mut self, order: Order) {
        let is_on = matches!(self.state, State::Connecting { .. } | State::Live { .. });
        match order {
            Order::Hangup => self.end(EndReason::ApiHangup),
            Order::Transfer(to) if matches!(self.state, State::Live { .. }) => {
                self.on_ending(EndReason::ApiTransfer(to), true);
            }
            // Without an agent there is nothing to be heard before.
            Order::Transfer(to) => self.end(EndReason::ApiTransfer(to)),
            Order::CarrierSay(words) => self.end(EndReason::CarrierSay(words)),
            Order::Instruct(id, what) if is_on => {
                self.uplink.push_control(ToWorker::Instruct(id, what), &mut self.stats);
            }
            Order::Instruct(id, _) => self.commands.push_back(Command::Instructed(id, Instructed::TooLate)),
            Order::Notice(kind, value) if is_on => {
                self.uplink.push_control(ToWorker::Notice(kind, value), &mut self.stats);
            }
            Order::Notice(..) => {}
        }
    }

    fn on_ending(&mut self, reason: EndReason, after_playback: bool) {
        let State::Live { stream_sid } = &mut self.state else { return };
        if !after_playback {
            return self.end(reason);
        }
        self.downlink.mark();
        let patience = Duration::from_millis(self.downlink.unheard_ms()) + FLUSH_SLACK;
        let deadline = self.now + patience.min(FLUSH_LIMIT);
        self.state = State::Closing { stream_sid: std::mem::take(stream_sid), reason, deadline };
        self.finish_flush();
    }

    fn on_mark(&mut self, name: &str) {
        match self.downlink.on_mark(name) {
            MarkBack::Played(mark) => {
                self.stats.marks_played += 1;
                let media_time_ms = self.uplink.media_time_ms();
                let played = ToWorker::Played { utterance: mark.utterance, ms: mark.ms, media_time_ms, cleared: false };
                self.uplink.push_control(played, &mut self.stats);
                self.finish_flush();
            }
            MarkBack::Cleared => self.stats.marks_cleared += 1,
            MarkBack::Foreign => self.stats.marks_foreign += 1,
        }
    }

    fn on_worker_gone(&mut self) {
        match &self.state {
            // It said that it wants the end and left; what it said is still heard.
            State::Closing { .. } => {}
            State::AwaitingStart { .. }
            | State::Authorizing { .. }
            | State::Connecting { .. }
            | State::Live { .. }
            | State::Closed { .. } => {
                self.end(EndReason::WorkerLost);
            }
        }
    }

    fn on_sign(&mut self) {
        self.last_sign = self.now;
        self.pinged = false;
    }

    fn on_time(&mut self) {
        let due = |deadline: Instant| deadline <= self.now;
        match &self.state {
            State::Closed { .. } => {}
            _ if self.blocked_since.is_some_and(|since| due(since + STALL_LIMIT)) => self.end(EndReason::CallerStalled),
            _ if due(self.last_sign + IDLE_LIMIT) => self.end(EndReason::CallerSilent),
            State::AwaitingStart { deadline } if due(*deadline) => self.end(EndReason::StartTimeout),
            State::Connecting { deadline, .. } if due(*deadline) => {
                self.end(EndReason::NoWorker(NoWorker::Unreachable))
            }
            State::Closing { deadline, reason, .. } if due(*deadline) => self.end(reason.clone()),
            _ if due(self.limit) => self.end(EndReason::MaxDuration),
            _ if !self.pinged && due(self.last_sign + PING_AFTER) => {
                self.pinged = true;
                self.commands.push_back(Command::Ping);
            }
            State::AwaitingStart { .. }
            | State::Authorizing { .. }
            | State::Connecting { .. }
            | State::Live { .. }
            | State::Closing { .. } => {}
        }
    }

    /// Ends a call that waited only for its last words to be heard.
    fn finish_flush(&mut self) {
        if let State::Closing { reason, .. } = &self.state
            && !self.downlink.is_unheard()
        {
            self.end(reason.clone());
        }
    }

    fn end(&mut self, reason: EndReason) {
        let had_worker = matches!(self.state, State::Live { .. } | State::Closing { .. });
        self.state = State::Closed { farewell: had_worker.then(|| reason.clone()) };
        // What was asked for before the end is not wanted any more.
        self.commands.clear();
        self.commands.push_back(Command::CloseSocket(reason.close_code()));
        self.commands.push_back(Command::Finished(reason));
    }
}

#[cfg(test)]
mod tests;
