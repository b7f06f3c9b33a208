//! What goes into a session and what comes out of it: plain types, closed enums.

use std::time::Instant;

use bytes::Bytes;

use super::outcome::{CloseCode, EndReason};
use crate::{
    ticket,
    twilio::message::{Inbound, Malformed, Start},
};

/// What happens to a call.
#[derive(Debug)]
pub enum Input {
    /// Twilio said something.
    Caller(Inbound),
    /// Twilio said something that cannot be used.
    CallerMalformed(Malformed),
    /// Twilio sent a binary frame.
    CallerBinary,
    /// Twilio answered a ping, or sent one.
    CallerAlive,
    /// The socket is gone; `stop` did not come before.
    CallerGone,
    /// Twilio broke the WebSocket protocol or the size limit.
    CallerBroken,
    /// The socket does not take what is written.
    WriteBlocked,
    /// It does again.
    WriteDone,
    /// The answer to [`Command::Authorize`].
    Authorized(Result<(), ticket::Refused>),
    /// A worker has taken the call.
    WorkerOpen,
    /// No worker takes the call.
    NoWorker(NoWorker),
    /// The worker said something.
    Worker(FromWorker),
    /// The worker ended the stream, or it broke.
    WorkerGone,
    /// Somebody who may wants something of this call.
    Order(Order),
    /// This gateway stops; the call ends now.
    Drain,
    /// Time passed.
    Tick,
}

/// What the calls API, or Twilio by a callback, wants of a live call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// End it now.
    Hangup,
    /// Hand it to another number once what was said has been heard.
    Transfer(String),
    /// Let the carrier say this, then come back with a new stream.
    CarrierSay(String),
    /// For the agent; answered by [`Command::Instructed`] under this id.
    Instruct(u64, Instruction),
    /// Something that the agent may want to know: kind and value.
    Notice(&'static str, String),
}

/// What an agent is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Say this text.
    Say(String),
    /// Play these keys as in-band tones.
    PlayDigits(String),
    /// Hand the conversation to the agent of this name.
    ChangeAgent(String),
    /// Neither hear nor talk.
    Hold,
    /// Go on.
    Resume,
}

impl Instruction {
    /// Its kind as a label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Say(_) => "say",
            Self::PlayDigits(_) => "play_digits",
            Self::ChangeAgent(_) => "agent",
            Self::Hold => "hold",
            Self::Resume => "resume",
        }
    }
}

/// What became of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instructed {
    /// It was taken.
    Done,
    /// It is wrong; why, in words.
    Invalid(String),
    /// No such agent; why, in words.
    UnknownAgent(String),
    /// The agent cannot do that; why, in words.
    Unsupported(String),
    /// The call has no worker any more, or ends.
    TooLate,
}

/// Why no worker takes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWorker {
    /// None is known or can be reached.
    Unreachable,
    /// All that can be reached are full or drain.
    Full,
    /// The agent is unknown there.
    UnknownAgent,
    /// It answered with another error.
    Failed,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromWorker {
    /// The agent's voice.
    Audio {
        /// The utterance.
        utterance: u64,
        /// mu-law.
        mulaw: Bytes,
    },
    /// The utterance is complete.
    UtteranceEnd(u64),
    /// All up to this utterance is worthless.
    Interrupt(u64),
    /// End the call.
    Hangup {
        /// Only after what was said has been heard.
        after_playback: bool,
    },
    /// Hand the call to another number.
    Transfer {
        /// Where to.
        to: String,
        /// Only after what was said has been heard.
        after_playback: bool,
    },
    /// What became of an instruction, by its id.
    Instructed(u64, Instructed),
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToWorker {
    /// The caller's voice.
    Audio {
        /// Counts these messages from 1; a jump is audio that was dropped here.
        seq: u64,
        /// Twilio's clock at its first sample, ms.
        media_time_ms: u64,
        /// mu-law.
        mulaw: Bytes,
        /// When it came from the caller.
        came: Instant,
    },
    /// A key.
    Dtmf(char),
    /// How far the caller heard an utterance.
    Played {
        /// The utterance.
        utterance: u64,
        /// Milliseconds from its start.
        ms: u64,
        /// Twilio's clock now, ms.
        media_time_ms: u64,
        /// The rest was thrown away.
        cleared: bool,
    },
    /// An instruction and its id.
    Instruct(u64, Instruction),
    /// Something that the agent may want to know: kind and value.
    Notice(&'static str, String),
    /// The call is over.
    Close(EndReason),
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Check the ticket of this stream and answer with [`Input::Authorized`].
    Authorize(Start),
    /// Find a worker and answer with [`Input::WorkerOpen`] or [`Input::NoWorker`].
    OpenWorker(Start),
    /// Ask the peer for a sign of life.
    Ping,
    /// Close the socket with this code.
    CloseSocket(CloseCode),
    /// The answer to [`Order::Instruct`].
    Instructed(u64, Instructed),
    /// The call is over; nothing follows.
    Finished(EndReason),
}
