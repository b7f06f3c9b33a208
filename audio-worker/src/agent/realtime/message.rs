//! What goes into the core of a realtime conversation and what comes out.

use std::time::Duration;

use serde_json::Value;

use super::wire::Call;
use crate::{
    agent::{Act, Stage},
    provider::{ProviderError, Sound, meter::Cost},
    turn_taking,
};

/// What happens.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// The socket is open.
    Opened,
    /// The server says something.
    Text(&'a str),
    /// The socket is gone, or could not be opened.
    Lost(&'a ProviderError),
    /// There will be no socket now: nobody asks the server for a while, since it failed others.
    LeftAlone,
    /// The caller's sound, as it came.
    Mulaw(&'a [u8]),
    /// So many ms were left out by the carrier.
    Gap(u64),
    /// A window of the caller's sound, judged.
    Window { voice: f32, echo: bool },
    /// The caller pressed a key.
    Key(char),
    /// How far an utterance was heard.
    Played { utterance: u64, ms: u64, cleared: bool },
    /// The call is on hold, or no longer.
    Held(bool),
    /// More of the voice of our own words; none at its end.
    Voice(Option<Result<Sound, ProviderError>>),
    /// A function takes its time: this is said meanwhile.
    Filler(String),
    /// A function has answered.
    Called { call: &'a str, name: &'a str, answer: &'a str, deed: Option<Act> },
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Open a socket.
    Open,
    /// Close it.
    Close,
    /// Send this.
    Send(String),
    /// The server is there.
    Well,
    /// The server gave a response.
    Served,
    /// The server failed.
    Ill(ProviderError),
    /// Act.
    Act(Act),
    /// Say this in a voice of our own.
    Speak(String),
    /// Stop that voice.
    Hush,
    /// Call a function.
    Call(Call),
    /// A response is over, or words were put into text, and cost this.
    Cost(Stage, Cost),
}

/// What an agent says and how it behaves, for one call.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) instructions: String,
    /// Empty to wait for the caller.
    pub(super) greeting: String,
    pub(super) greeting_protected: bool,
    pub(super) apology: String,
    pub(super) silence_prompts: Vec<String>,
    pub(super) goodbye: String,
    pub(super) give_up: String,
    /// BCP 47 tag, or empty.
    pub(super) language: String,
    /// Functions that the model may call, as the protocol describes them.
    pub(super) tools: Vec<Value>,
    pub(super) turn: turn_taking::Settings,
    pub(super) max_faults: u32,
    /// How long the server may be silent when something is expected of it.
    pub(super) patience: Duration,
    /// There is a voice for words of our own.
    pub(super) has_voice: bool,
}
