//! The core of a conversation: who said what, what is sent when, what is worthless, and when it is over.
//!
//! Pure: inputs and `now` go in, messages and one deadline come out. It sees no socket, no clock, and of sound only
//! mu-law; `conversation.rs` drives it. Contract: one [`Turn::handle`], then [`Turn::poll_gateway`] until it answers
//! `None`, before the next.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

mod ledger;
mod message;
pub mod reply;

pub use message::{EndReason, Input, Outcome, Stats, ToGateway};

use crate::{
    agent::{Report, Speaker},
    dsp::dtmf::Keys,
};
use ledger::Ledger;
use reply::{Due, KeysNow, Reply};

/// Answers to orders that may wait for the gateway; beyond it no order should be handed in.
const MAX_ANSWERS: usize = 32;

/// Orders of keys that may wait to be played.
pub const MAX_ROWS_OF_KEYS: usize = 8;

/// Messages that may wait for the gateway when a report of the agent is added; beyond it the report is dropped.
const MAX_WAITING: usize = 64;

/// How long the gateway may take to carry out a hang-up or a transfer: the longest reply, and some.
pub const ENDING_LIMIT: Duration = Duration::from_secs(90);

/// One conversation.
#[derive(Debug)]
pub struct Turn {
    now: Instant,
    state: State,
    reply: Reply,
    /// The newest utterance's number on the wire; 0 before the first.
    newest: u64,
    /// Utterances that this agent has begun.
    begun: u64,
    speaking: Speaking,
    ledger: Ledger,
    /// The agent's newest utterance on the wire; 0 before its first.
    newest_said: u64,
    /// What it says next goes on where its newest was cut short.
    continues: bool,
    /// This utterance goes on where that one was cut short, and has not been sent yet.
    continued: Option<(u64, u64)>,
    /// By order: the agent neither hears nor talks.
    held: bool,
    /// Waits for nothing: goes before audio.
    urgent: VecDeque<ToGateway>,
    stats: Stats,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Talking,
    /// The agent has ended the call; the message goes out once the reply queue is empty.
    Ending(ToGateway),
    /// It has gone out; the gateway carries it out and closes, by this deadline.
    Ended(Instant),
    Over(EndReason),
}

/// Whether the agent is in the middle of an utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaking {
    No,
    /// In the middle of the newest on the wire: `samples` of it are said, and `before` under an older number.
    Here {
        before: u64,
        samples: u64,
    },
    /// Keys came between: after `before` samples it goes on behind them, under a new number.
    Parted {
        before: u64,
    },
}

impl Turn {
    /// A conversation that begins at `now` and keeps `lead` ahead of real time.
    pub const fn new(lead: Duration, now: Instant) -> Self {
        Self {
            now,
            state: State::Talking,
            reply: Reply::new(lead, now),
            newest: 0,
            begun: 0,
            speaking: Speaking::No,
            ledger: Ledger::new(),
            newest_said: 0,
            continues: false,
            continued: None,
            held: false,
            urgent: VecDeque::new(),
            stats: Stats {
                utterances: 0,
                sent_samples: 0,
                overflowed_samples: 0,
                interrupted_samples: 0,
                interrupts: 0,
                late_samples: 0,
                orders: 0,
                orders_refused: 0,
                reports_dropped: 0,
                late_peak: Duration::ZERO,
            },
        }
    }

    /// Takes one input at `now`. Time that goes backwards is ignored; after the end nothing happens.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        let before = self.now;
        self.now = before.max(now);
        if let Some(due) = self.poll_timeout() {
            let late = self.now.saturating_duration_since(due.max(before));
            self.stats.late_peak = self.stats.late_peak.max(late);
        }
        if matches!(self.state, State::Over(_)) {
            return;
        }
        match input {
            Input::Say(mulaw) => self.on_say(mulaw),
            Input::EndUtterance => self.on_end_utterance(),
            Input::Interrupt => self.on_interrupt(),
            Input::Continue => self.continues = true,
            Input::Report(report) => self.on_report(report),
            Input::Hangup { reason, after_playback } => {
                self.on_ending(ToGateway::Hangup { reason, after_playback }, after_playback);
            }
            Input::Transfer { to, after_playback } => {
                self.on_ending(ToGateway::Transfer { to, after_playback }, after_playback);
            }
            Input::PlayDigits { id, keys } => self.on_order(id, |turn| turn.on_play_digits(keys)),
            Input::Hold { id } => self.on_order(id, |turn| {
                if !std::mem::replace(&mut turn.held, true) {
                    turn.on_interrupt();
                }
                Ok(())
            }),
            Input::Resume { id } => self.on_order(id, |turn| {
                turn.held = false;
                Ok(())
            }),
            Input::TakenOver { id } => self.on_order(id, |turn| {
                turn.on_interrupt();
                turn.begun = 0;
                turn.newest_said = 0;
                turn.continues = false;
                turn.ledger.take_over(turn.newest + 1);
                Ok(())
            }),
            Input::Answer { id, outcome, detail } => self.answer(id, outcome, detail),
            Input::Closed => self.state = State::Over(EndReason::Closed),
            Input::GatewayGone => self.state = State::Over(EndReason::GatewayGone),
            Input::Draining(left) => self.urgent.push_back(ToGateway::Draining(left)),
            Input::Drained => self.state = State::Over(EndReason::Drained),
            Input::Tick => {}
        }
        if matches!(self.state, State::Ended(deadline) if deadline <= self.now) {
            self.state = State::Over(EndReason::GatewayStuck);
        }
    }

    /// The next message for the gateway; pull when its stream has room.
    pub fn poll_gateway(&mut self) -> Option<ToGateway> {
        if matches!(self.state, State::Over(_)) {
            return None;
        }
        if let Some(message) = self.urgent.pop_front() {
            return Some(message);
        }
        if let Some(due) = self.reply.poll(self.now) {
            return Some(match due {
                Due::Audio { utterance, mulaw } => {
                    self.stats.sent_samples += mulaw.len() as u64;
                    let continued = self.continued.take_if(|(new, _)| *new <= utterance);
                    let continues = continued.filter(|(new, _)| *new == utterance).map(|(_, old)| old);
                    ToGateway::Audio { utterance, mulaw, continues }
                }
                Due::End { utterance } => ToGateway::UtteranceEnd { utterance },
            });
        }
        if self.reply.is_empty()
            && let State::Ending(_) = &self.state
            && let State::Ending(message) = std::mem::replace(&mut self.state, State::Ended(self.now + ENDING_LIMIT))
        {
            return Some(message);
        }
        None
    }

    /// When to call [`Turn::handle`] with [`Input::Tick`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Talking | State::Ending(_) => self.reply.deadline(),
            State::Ended(deadline) => Some(deadline),
            State::Over(_) => None,
        }
    }

    /// Why the conversation is over, once it is.
    pub const fn ended(&self) -> Option<EndReason> {
        match self.state {
            State::Over(reason) => Some(reason),
            State::Talking | State::Ending(_) | State::Ended(_) => None,
        }
    }

    /// True while the agent is on hold: it is told no audio and no keys, and not asked what it does.
    pub const fn is_held(&self) -> bool {
        self.held
    }

    /// Why no order can be carried out any more, if so.
    pub const fn refuses_orders(&self) -> Option<&'static str> {
        match self.state {
            State::Talking => None,
            State::Ending(_) | State::Ended(_) | State::Over(_) => Some("the agent has ended the call"),
        }
    }

    /// False while so many answers wait that no further order should be taken from the gateway.
    pub fn has_room_for_answers(&self) -> bool {
        self.urgent.len() < MAX_ANSWERS
    }

    /// The agent's own number, and position in ms, for an utterance that the gateway reports; `None` when it is none
    /// of this agent's.
    pub fn of_agent(&self, utterance: u64, ms: u64) -> Option<(u64, u64)> {
        self.ledger.of_agent(utterance, ms)
    }

    /// What was counted so far.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn on_say(&mut self, mulaw: &[u8]) {
        if self.state != State::Talking || self.held {
            self.stats.late_samples += mulaw.len() as u64;
            return;
        }
        // One of which the filter still keeps everything has begun as well: the agent counts it.
        match self.speaking {
            Speaking::Here { .. } => {}
            Speaking::Parted { before } => self.begin(before),
            Speaking::No => {
                self.begun += 1;
                self.stats.utterances += 1;
                self.begin(0);
            }
        }
        let refused = self.reply.say(self.newest, mulaw);
        self.stats.overflowed_samples += refused as u64;
        if let Speaking::Here { samples, .. } = &mut self.speaking {
            *samples += (mulaw.len() - refused) as u64;
        }
    }

    /// The agent's newest utterance begins on the wire, or goes on there after `before` samples.
    fn begin(&mut self, before: u64) {
        self.newest += 1;
        self.ledger.agent(self.newest, self.begun, before / 8);
        if std::mem::take(&mut self.continues) && self.newest_said > 0 {
            self.continued = Some((self.newest, self.newest_said));
        }
        self.newest_said = self.newest;
        self.speaking = Speaking::Here { before, samples: 0 };
    }

    /// Reports wait for nothing, and are the first to go when the gateway does not read.
    fn on_report(&mut self, report: Report) {
        if self.urgent.len() >= MAX_WAITING {
            self.stats.reports_dropped += 1;
            return;
        }
        let utterance = match &report {
            // What it says next is the answer.
            Report::Turn(_) => self.newest + 1,
            Report::Said { by: Speaker::Agent, .. } => self.newest_said,
            Report::Said { by: Speaker::Caller, .. }
            | Report::Speech { .. }
            | Report::Fault { .. }
            | Report::Tool(_) => 0,
        };
        self.urgent.push_back(ToGateway::Report { report, utterance });
    }

    fn on_end_utterance(&mut self) {
        if let Speaking::Here { .. } = std::mem::replace(&mut self.speaking, Speaking::No) {
            self.reply.end(self.newest);
        }
    }

    /// What the agent said so far is worthless. Keys are nobody's chatter: they are played to their end.
    fn on_interrupt(&mut self) {
        self.speaking = Speaking::No;
        (self.continues, self.continued) = (false, None);
        if self.newest == 0 {
            return;
        }
        self.stats.interrupts += 1;
        let (samples, keys) = self.reply.interrupt(self.now);
        self.stats.interrupted_samples += samples as u64;
        let utterance = match keys {
            // What was said before them has been heard, but for a few frames; to empty the caller's buffer would cut them.
            KeysNow::Sounding => return,
            KeysNow::Waiting { first } => first - 1,
            KeysNow::None => self.newest,
        };
        // A newer interrupt says all that an older one says.
        self.urgent.retain(|message| !matches!(message, ToGateway::Interrupt { .. }));
        if utterance > 0 {
            self.urgent.push_back(ToGateway::Interrupt { utterance });
        }
    }

    /// Keys are an utterance of their own: what was said before is heard before, what is said from now on waits.
    fn on_play_digits(&mut self, keys: Keys) -> Result<(), &'static str> {
        if self.reply.rows_of_keys() >= MAX_ROWS_OF_KEYS {
            return Err("too many orders of digits wait to be played; give this one again later");
        }
        if let Speaking::Here { before, samples } = self.speaking {
            self.reply.end(self.newest);
            self.speaking = Speaking::Parted { before: before + samples };
        }
        self.newest += 1;
        self.ledger.keys(self.newest);
        self.reply.keys(self.newest, keys);
        Ok(())
    }

    /// Carries an order out, unless the call is ending, and answers it.
    fn on_order(&mut self, id: u64, carry_out: impl FnOnce(&mut Self) -> Result<(), &'static str>) {
        match self.refuses_orders().map_or_else(|| carry_out(self), Err) {
            Ok(()) => self.answer(id, Outcome::Done, String::new()),
            Err(detail) => self.answer(id, Outcome::Unsupported, detail.to_owned()),
        }
    }

    fn answer(&mut self, id: u64, outcome: Outcome, detail: String) {
        let counter = if outcome == Outcome::Done { &mut self.stats.orders } else { &mut self.stats.orders_refused };
        *counter += 1;
        if id != 0 {
            self.urgent.push_back(ToGateway::Instructed { id, outcome, detail });
        }
    }

    fn on_ending(&mut self, message: ToGateway, after_playback: bool) {
        if self.state != State::Talking {
            return;
        }
        self.on_end_utterance();
        if !after_playback {
            self.reply.clear();
        }
        self.state = State::Ending(message);
    }
}

#[cfg(test)]
mod tests;
