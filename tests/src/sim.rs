//! The simulated Twilio: what the carrier does on a call with a bidirectional media stream, and the REST API that
//! makes and changes calls.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `caller.rs` | the call: webhook, TwiML, streams, action; [`Caller::place`] |
//! | `rest.rs`, `rest/` | the REST API over HTTP, its account, and calls made through it: [`rest::Exchange`] |
//! | `plan.rs` | what the caller is to do: [`CallPlan`] |
//! | `order.rs` | what the REST API orders of a live call |
//! | `events.rs` | a call's `StatusCallback`, in the background |
//! | `stream.rs` | driver of one media stream |
//! | `status.rs` | its `statusCallback`, in the background |
//! | `playout.rs` | pure: the playout buffer with marks and `clear` |
//! | `outgoing.rs` | pure: when which piece of the caller's speech is due |
//! | `dialogue.rs` | pure: a caller who waits for cues in what the agent says |
//! | `message.rs` | pure: Media Streams JSON, written as Twilio does, read as strictly as Twilio does |
//! | `calendar.rs` | pure: dates as Twilio writes them |
//! | `twiml.rs`, `twiml/` | pure: TwiML, read strictly |
//! | `sign.rs` | pure: `X-Twilio-Signature` |
//! | `quirks.rs` | what Twilio's documentation leaves open, one switch each |
//! | `findings.rs` | Twilio's error and warning codes |
//! | `speech.rs` | WAV and mu-law |
//! | `replay.rs` | a captured call, played again and compared |
//! | `http.rs`, `socket.rs`, `wire.rs` | signed requests, the signed WebSocket, the bytes below them |
//! | `report.rs` | what came of the call |
//!
//! Written from Twilio's documentation alone and sharing no code with the gateway, so that an error
//! in one is not hidden by the same error in the other.

mod calendar;
mod caller;
mod dialogue;
mod events;
mod findings;
mod http;
mod message;
mod order;
mod outgoing;
mod plan;
mod playout;
mod quirks;
mod replay;
mod report;
pub mod rest;
mod sign;
mod socket;
mod speech;
mod status;
mod stream;
mod twiml;
mod wire;

pub use caller::{Caller, webhook};
pub use dialogue::{Cue, Deed, Dialogue, Due, Turn};
pub use events::{CallEvent, Delivery};
pub use findings::{Code, Finding, Findings, Level};
pub use http::{HttpError, Reply, get, post_form};
pub use message::{Identity, Noncompliance, Said, Writer, judge};
pub use order::{Instructions, Order, Orders};
pub use outgoing::{FramePlan, OutFrame, Outgoing};
pub use plan::{CallPlan, Direction, Transfer};
pub use playout::{Echo, EchoReason, Gap, Playout, PlayoutStats};
pub use quirks::Quirks;
pub use replay::{
    CallerDid, Difference, Fill, GatewaySaid, Line, Pace, Replay, ReplayError, Replayed, Sound, Tape, TapeError,
    Tolerance, Transcript, compare,
};
pub use report::{ActionOutcome, CallReport, Echoed, Ended, Progress, StreamReport, Timing};
pub use sign::sign;
pub use socket::{ConnectError, Incoming, MediaSocket};
pub(crate) use speech::SILENCE;
pub use speech::{bundled_speech, decode_mulaw, encode_mulaw, read_wav, write_wav};
pub use twiml::{Connect, Dial, Document, Enqueue, Method, Redirect, StreamNoun, TwimlError, Verb};
pub(crate) use wire::Wire;
pub use wire::{Io, Route};
