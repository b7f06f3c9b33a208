//! What goes into the core of a conversation and what comes out.

use std::time::Duration;

use bytes::Bytes;

use crate::{agent::Report, dsp::dtmf::Keys};

/// What happens to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// The agent said something; mu-law of the utterance that is open, or of a new one.
    Say(&'a [u8]),
    /// The agent's utterance is complete.
    EndUtterance,
    /// What the agent said so far is worthless.
    Interrupt,
    /// What the agent says next goes on where its newest utterance was cut short.
    Continue,
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
    /// Keys are to be played, by order `id`.
    PlayDigits {
        /// The order's id; 0 asks for no answer.
        id: u64,
        /// The keys.
        keys: Keys,
    },
    /// The agent is to be still, by order `id`: it was stopped, and what it had to say is worthless.
    Hold {
        /// As above.
        id: u64,
    },
    /// The agent is to go on, by order `id`.
    Resume {
        /// As above.
        id: u64,
    },
    /// Another agent has taken over, by order `id`: what the one before had to say is worthless.
    TakenOver {
        /// As above.
        id: u64,
    },
    /// An order was dealt with outside.
    Answer {
        /// As above.
        id: u64,
        /// What became of it.
        outcome: Outcome,
        /// Why not, in words.
        detail: String,
    },
    /// The agent tells something of the conversation.
    Report(Report),
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
        /// On the first audio of an utterance that goes on where an earlier one was cut short: that one's number.
        continues: Option<u64>,
    },
    /// Something that the agent tells of the conversation.
    Report {
        /// What.
        report: Report,
        /// The utterance that it is about; 0 for none.
        utterance: u64,
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
    /// What became of an order.
    Instructed {
        /// The order's id.
        id: u64,
        /// What became of it.
        outcome: Outcome,
        /// Why not, in words.
        detail: String,
    },
    /// This worker will stop after this time.
    Draining(Duration),
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Done,
    /// The order itself is wrong.
    Invalid,
    /// There is no such agent.
    UnknownAgent,
    /// It cannot be done, or not now.
    Unsupported,
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
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Closed, Self::GatewayGone, Self::GatewayStuck, Self::Drained, Self::Failed];

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
    /// Utterances begun by agents.
    pub utterances: u64,
    /// Samples handed out to the gateway, 8 kHz.
    pub sent_samples: u64,
    /// Samples that found no room in the reply queue.
    pub overflowed_samples: u64,
    /// Samples thrown away by interrupts, holds and changes of agent.
    pub interrupted_samples: u64,
    /// Interrupts, holds and changes of agent.
    pub interrupts: u64,
    /// Samples said after the agent had ended the call, or on hold.
    pub late_samples: u64,
    /// Orders taken.
    pub orders: u64,
    /// Orders refused.
    pub orders_refused: u64,
    /// Reports of the agent that were dropped, since the gateway does not read.
    pub reports_dropped: u64,
    /// How long after its deadline the core was woken, at worst.
    pub late_peak: Duration,
}
