//! What Twilio's documentation leaves open, one switch each, so that a gateway can be tried both ways.
//!
//! Every default is what public reports and the examples suggest; none of them is promised.

use std::time::Duration;

use serde::Serialize;

/// Open questions about Media Streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quirks {
    /// Does `<Connect action>` fire after the socket was lost without a close frame? Default yes: the
    /// verb ends then too.
    pub action_after_loss: bool,
    /// Does `<Connect action>` fire when the caller hangs up? Default no; its TwiML could not run.
    pub action_after_hangup: bool,
    /// Is 31921 logged when the server closes with code 1000? Default yes ("a deliberate close is
    /// logged too").
    pub logs_normal_close: bool,
    /// Does Twilio answer a ping with a pong? Default yes, as RFC 6455 asks.
    pub answers_pings: bool,
    /// How long the connect and the handshake of the stream may take. Default 5 s, the default
    /// connect timeout of webhooks.
    pub handshake_timeout: Duration,
    /// Largest message taken from the server, in bytes. Default 1 MiB (two minutes of mu-law in
    /// base64 need more and must be cut).
    pub max_message_bytes: usize,
    /// Is `chunk` counted over the stream instead of per track, so that what the server sends
    /// advances it as well? Default no.
    pub chunk_over_stream: bool,
    /// Is the upgrade signed over the URL with a slash at the end? Default no.
    pub sign_trailing_slash: bool,
    /// Are `sequenceNumber`, `chunk` and `timestamp` JSON strings? Default yes, as in every example.
    pub numbers_as_strings: bool,
    /// Is `stop` sent when the call ends? When not, the socket just vanishes. Default yes.
    pub sends_stop: bool,
    /// Are unknown events and unknown fields mixed in? Default no; Twilio may add either any day.
    pub extras: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            action_after_loss: true,
            action_after_hangup: false,
            logs_normal_close: true,
            answers_pings: true,
            handshake_timeout: Duration::from_secs(5),
            max_message_bytes: 1024 * 1024,
            chunk_over_stream: false,
            sign_trailing_slash: false,
            numbers_as_strings: true,
            sends_stop: true,
            extras: false,
        }
    }
}
