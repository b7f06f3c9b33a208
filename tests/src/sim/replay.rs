//! Replay: plays Twilio's side of a captured call to a gateway, and compares what the gateway says now with what it
//! said then.
//!
//! The call is a new one: its webhook is asked, ids and parameters are its own, marks carry the names that the gateway
//! gives them now. Everything else is the captured caller's, message by message.

use std::{fmt, io, time::Duration};

use serde::Serialize;
use thiserror::Error;
use tokio::time::{Instant, timeout};

use super::{
    CallPlan, Connect, ConnectError, Document, HttpError, Identity, Incoming, MediaSocket, TwimlError, Verb, caller,
    stream,
};

mod compare;
mod script;
mod tape;
mod transcript;

pub use compare::{Difference, Tolerance, compare};
pub use script::{Fill, Pace};
use script::{Script, Step};
pub use tape::{CallerDid, GatewaySaid, Line, Sound, Tape, TapeError};
pub use transcript::Transcript;

/// How long the gateway may be silent while something is expected of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may be silent after it once was for [`PATIENCE`]: the rest of the call differs anyway.
const LESS_PATIENCE: Duration = Duration::from_millis(100);

/// How a capture is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// How fast.
    pub pace: Pace,
    /// What the caller says where the capture has no sound.
    pub fill: Fill,
    /// What counts as the same.
    pub tolerance: Tolerance,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// What the gateway said then.
    pub captured: Transcript,
    /// What it said now.
    pub now: Transcript,
    /// Where they differ, in the order of the call.
    pub differences: Vec<Difference>,
    /// The call's new id.
    pub call_sid: String,
}

/// Why a capture could not be played.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The webhook was not answered.
    #[error("webhook: {0}")]
    Webhook(#[from] HttpError),
    /// The answer is not TwiML.
    #[error("webhook: {0}")]
    Twiml(#[from] TwimlError),
    /// The answer leads to no stream.
    #[error("the webhook's answer ({status}) leads to no stream: {body}")]
    NoStream {
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        body: String,
    },
    /// There is no stream.
    #[error("media socket: {0}")]
    Connect(#[from] ConnectError),
}

impl Replay {
    /// Plays `tape` to the gateway of `plan`, whose speech, digits and times do not count.
    ///
    /// # Errors
    /// When the call does not get as far as its media socket.
    pub async fn play(self, tape: &Tape, plan: &CallPlan) -> Result<Replayed, ReplayError> {
        let identity = Identity::random(&plan.account_sid);
        let connect = invite(plan, &identity.call_sid).await?;
        let base = plan.webhook_url().map_err(|error| HttpError::Url(error.to_string()))?;
        let url = connect.stream.check(&base).map_err(|finding| ConnectError::Url(finding.to_string()))?;
        let socket = MediaSocket::connect(&plan.route, &url, &plan.auth_token, &plan.quirks).await?;
        let call_sid = identity.call_sid.clone();
        let script = Script::new(tape, identity, connect.stream.parameters, self.fill);
        let (began, moved) = (stream::now(), stream::now());
        let mut player = Player { socket, script, pace: self.pace, began, moved, patience: PATIENCE };
        player.run().await;
        let (captured, now) = (Transcript::of(tape), player.script.into_transcript());
        let differences = compare(&captured, &now, self.tolerance);
        Ok(Replayed { captured, now, differences, call_sid })
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.differences.first() {
            None => writeln!(f, "the gateway says the same")?,
            Some(first) => writeln!(f, "the gateway says something else, first: {first}")?,
        }
        for other in self.differences.iter().skip(1) {
            writeln!(f, "  then: {other}")?;
        }
        writeln!(f, "  then {}", self.captured)?;
        writeln!(f, "  now  {}", self.now)
    }
}

/// The driver: moves the clock and the socket into the script.
struct Player {
    socket: MediaSocket,
    script: Script,
    pace: Pace,
    began: Instant,
    /// When something was said last, by either side.
    moved: Instant,
    patience: Duration,
}

impl Player {
    async fn run(&mut self) {
        while let Some(planned) = self.script.due(self.pace) {
            // It waits for the gateway, but not for ever.
            let due = planned.map_or(self.moved + self.patience, |due| self.began + due);
            let wait = due.saturating_duration_since(stream::now());
            if !wait.is_zero() {
                if !self.listen(wait).await {
                    return;
                }
                continue;
            }
            if planned.is_none() {
                self.patience = LESS_PATIENCE;
            }
            let now = self.began.elapsed();
            let step = self.script.next(now);
            self.moved = stream::now();
            if !self.carry_out(step).await {
                return;
            }
        }
        // The last word is the gateway's.
        while self.listen(self.patience).await {
            if self.moved.elapsed() >= self.patience {
                return;
            }
        }
    }

    /// Takes one message if one comes in time; false when the socket is gone.
    async fn listen(&mut self, limit: Duration) -> bool {
        let incoming = self.socket.next(limit).await;
        match incoming {
            Incoming::Silence => return true,
            Incoming::Closed(code) => {
                self.script.hear(GatewaySaid::Close(code));
                // Lets our answer to it out.
                let _ = self.socket.next(PATIENCE).await;
                return false;
            }
            Incoming::Lost(_) => return false,
            Incoming::Violation(what) => {
                self.script.hear(GatewaySaid::Other(what));
                return false;
            }
            Incoming::Text(text) => self.script.hear_text(&text),
            Incoming::Binary(bytes) => self.script.hear(GatewaySaid::Other(format!("binary of {} bytes", bytes.len()))),
            Incoming::Ping | Incoming::Pong => return true,
        }
        self.moved = stream::now();
        true
    }

    /// Does what the caller did; false when the socket is gone.
    async fn carry_out(&mut self, step: Step) -> bool {
        let socket = &mut self.socket;
        let sent = async {
            match step {
                Step::Text(text) => socket.send_text(text).await,
                Step::Binary(bytes) => socket.send_binary(vec![0; bytes]).await,
                Step::Ping => socket.send_ping().await,
                Step::Close(code) => socket.close(code).await,
                // A frame with an opcode that no protocol has.
                Step::Violate => socket.send_raw(&[0x83, 0x80, 0, 0, 0, 0]).await,
                Step::Vanish => Err(io::ErrorKind::ConnectionAborted.into()),
                Step::Nothing => Ok(()),
            }
        };
        // What the gateway said before it closed is still to be heard.
        match timeout(PATIENCE, sent).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) if self.script.has_vanished() => false,
            Ok(Err(_)) | Err(_) => {
                while self.listen(PATIENCE).await && self.moved.elapsed() < PATIENCE {}
                false
            }
        }
    }
}

async fn invite(plan: &CallPlan, call_sid: &str) -> Result<Connect, ReplayError> {
    let reply = caller::webhook(plan, call_sid).await?;
    let verbs = if reply.status == 200 { Document::parse(&reply.body)?.verbs } else { Vec::new() };
    match verbs.into_iter().next() {
        Some(Verb::Connect(connect)) => Ok(connect),
        _ => Err(ReplayError::NoStream { status: reply.status, body: reply.body.chars().take(200).collect() }),
    }
}
