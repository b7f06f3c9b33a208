//! The core of a conversation: who said what, what is sent when, what is worthless, and when it is over.
//!
//! Pure: inputs and `now` go in, messages and one deadline come out. It never sees a socket, a clock or a codec;
//! `conversation.rs` drives it. Contract: one [`Turn::handle`], then [`Turn::poll_gateway`] until it answers
//! `None`, before the next.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

pub mod reply;

use reply::{Due, Reply};

/// How long the gateway may take to carry out a hang-up or a transfer: the longest reply, and some.
pub const ENDING_LIMIT: Duration = Duration::from_secs(90);

/// What happens to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// The agent said something; mu-law of the utterance that is open, or of a new one.
    Say(&'a [u8]),
    /// The agent's utterance is complete.
    EndUtterance,
    /// What the agent said so far is worthless.
    Interrupt,
    /// The agent wants the call to end.
    Hangup {
        /// Why, for logs.
        reason: String,
        /// Only after what was said has been heard.
        after_playback: bool,
    },
    /// The agent wants the call to go to another number.
    Transfer {
        /// Where to.
        to: String,
        /// Only after what was said has been heard.
        after_playback: bool,
    },
    /// The gateway says that the call is over.
    Closed,
    /// The gateway is gone without a word.
    GatewayGone,
    /// This worker will stop after this time; the conversation goes on until then.
    Draining(Duration),
    /// That time is over.
    Drained,
    /// Time passed.
    Tick,
}

/// What the gateway is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToGateway {
    /// A piece of an utterance.
    Audio {
        /// Its number.
        utterance: u64,
        /// mu-law.
        mulaw: Bytes,
    },
    /// An utterance is complete.
    UtteranceEnd {
        /// Its number.
        utterance: u64,
    },
    /// All up to this utterance is worthless.
    Interrupt {
        /// The highest number.
        utterance: u64,
    },
    /// End the call.
    Hangup {
        /// Why.
        reason: String,
        /// Only after what was said has been heard.
        after_playback: bool,
    },
    /// Hand the call on.
    Transfer {
        /// Where to.
        to: String,
        /// Only after what was said has been heard.
        after_playback: bool,
    },
    /// This worker will stop after this time.
    Draining(Duration),
}

/// Why a conversation ended; the log line and the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The gateway closed it: the call is over.
    Closed,
    /// The gateway vanished.
    GatewayGone,
    /// The agent ended the call and the gateway did not close in time.
    GatewayStuck,
    /// The worker's drain deadline was reached.
    Drained,
    /// The agent or the signal path failed.
    Failed,
}

impl EndReason {
    /// The reason as a label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::GatewayGone => "gateway_gone",
            Self::GatewayStuck => "gateway_stuck",
            Self::Drained => "drained",
            Self::Failed => "failed",
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Utterances begun.
    pub utterances: u64,
    /// Samples handed out to the gateway, 8 kHz.
    pub sent_samples: u64,
    /// Samples that found no room in the reply queue.
    pub overflowed_samples: u64,
    /// Samples thrown away by interrupts.
    pub interrupted_samples: u64,
    /// Interrupts.
    pub interrupts: u64,
    /// Samples said after the agent had ended the call.
    pub late_samples: u64,
}

/// One conversation.
#[derive(Debug)]
pub struct Turn {
    now: Instant,
    state: State,
    reply: Reply,
    /// The newest utterance's number; 0 before the first.
    newest: u64,
    /// True while the newest utterance may still grow.
    open: bool,
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

impl Turn {
    /// A conversation that begins at `now` and keeps `lead` ahead of real time.
    pub const fn new(lead: Duration, now: Instant) -> Self {
        Self {
            now,
            state: State::Talking,
            reply: Reply::new(lead, now),
            newest: 0,
            open: false,
            urgent: VecDeque::new(),
            stats: Stats {
                utterances: 0,
                sent_samples: 0,
                overflowed_samples: 0,
                interrupted_samples: 0,
                interrupts: 0,
                late_samples: 0,
            },
        }
    }

    /// Takes one input at `now`. Time that goes backwards is ignored; after the end nothing happens.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        self.now = self.now.max(now);
        if matches!(self.state, State::Over(_)) {
            return;
        }
        match input {
            Input::Say(mulaw) => self.on_say(mulaw),
            Input::EndUtterance => self.on_end_utterance(),
            Input::Interrupt => self.on_interrupt(),
            Input::Hangup { reason, after_playback } => {
                self.on_ending(ToGateway::Hangup { reason, after_playback }, after_playback);
            }
            Input::Transfer { to, after_playback } => {
                self.on_ending(ToGateway::Transfer { to, after_playback }, after_playback);
            }
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
                    ToGateway::Audio { utterance, mulaw }
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

    /// What was counted so far.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn on_say(&mut self, mulaw: &[u8]) {
        if self.state != State::Talking {
            self.stats.late_samples += mulaw.len() as u64;
            return;
        }
        if mulaw.is_empty() {
            return;
        }
        if !self.open {
            self.newest += 1;
            self.open = true;
            self.stats.utterances += 1;
        }
        self.stats.overflowed_samples += self.reply.say(self.newest, mulaw) as u64;
    }

    fn on_end_utterance(&mut self) {
        if std::mem::take(&mut self.open) {
            self.reply.end(self.newest);
        }
    }

    fn on_interrupt(&mut self) {
        self.open = false;
        if self.newest == 0 {
            return;
        }
        self.stats.interrupts += 1;
        self.stats.interrupted_samples += self.reply.clear() as u64;
        // A newer interrupt says all that an older one says.
        self.urgent.retain(|message| !matches!(message, ToGateway::Interrupt { .. }));
        self.urgent.push_back(ToGateway::Interrupt { utterance: self.newest });
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
