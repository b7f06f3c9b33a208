//! Twilio's error and warning codes, and the list of those that one call has earned.
//!
//! Codes as on twilio.com/docs/api/errors; only the ones this simulator can raise.

use std::fmt;

use serde::{Serialize, Serializer};

/// How grave Twilio's debugger takes it, with one step below for what was done on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Twilio logs it, though nothing went wrong: 31921 after a deliberate close.
    Notice,
    /// The call goes on; something that was sent had no effect.
    Warning,
    /// The call, the stream or a request failed.
    Error,
}

/// Twilio's code for what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// 11200: a webhook was answered with something other than 2xx, or not at all.
    HttpRetrievalFailure,
    /// 11205: no connection for a webhook.
    HttpConnectionFailure,
    /// 12100: the answer is not XML.
    DocumentParseFailure,
    /// 12200: XML that is not TwiML (unknown verb or attribute).
    SchemaValidation,
    /// 12300: the answer's content type is not XML.
    InvalidContentType,
    /// 31901: no answer to the WebSocket connect in time.
    StreamConnectTimeout,
    /// 31902: connection refused.
    StreamConnectionRefused,
    /// 31903: the socket died without a close frame.
    StreamBrokenPipe,
    /// 31920: the handshake was answered with something other than 101.
    StreamHandshake,
    /// 31921: the server closed the socket.
    StreamClosedByServer,
    /// 31922: the stream URL's scheme is not `wss`.
    StreamScheme,
    /// 31923: the stream URL is not a URL.
    StreamUrl,
    /// 31924: violation of the WebSocket protocol.
    StreamProtocol,
    /// 31930: the server does not read; caller audio is dropped.
    StreamNotDrained,
    /// 31931: more than ten minutes of audio queued; the excess is discarded.
    StreamBufferFull,
    /// 31941: the verb does not allow this `track`.
    StreamTrack,
    /// 31950: a message that cannot be decoded (binary frame).
    StreamUndecodable,
    /// 31951: a message that does not follow the protocol.
    StreamNoncompliant,
}

impl Code {
    /// The number on Twilio's error page.
    pub fn number(self) -> u16 {
        match self {
            Self::HttpRetrievalFailure => 11200,
            Self::HttpConnectionFailure => 11205,
            Self::DocumentParseFailure => 12100,
            Self::SchemaValidation => 12200,
            Self::InvalidContentType => 12300,
            Self::StreamConnectTimeout => 31901,
            Self::StreamConnectionRefused => 31902,
            Self::StreamBrokenPipe => 31903,
            Self::StreamHandshake => 31920,
            Self::StreamClosedByServer => 31921,
            Self::StreamScheme => 31922,
            Self::StreamUrl => 31923,
            Self::StreamProtocol => 31924,
            Self::StreamNotDrained => 31930,
            Self::StreamBufferFull => 31931,
            Self::StreamTrack => 31941,
            Self::StreamUndecodable => 31950,
            Self::StreamNoncompliant => 31951,
        }
    }

    fn level(self) -> Level {
        match self {
            Self::StreamNotDrained | Self::StreamBufferFull | Self::StreamUndecodable | Self::StreamNoncompliant => {
                Level::Warning
            }
            Self::HttpRetrievalFailure
            | Self::HttpConnectionFailure
            | Self::DocumentParseFailure
            | Self::SchemaValidation
            | Self::InvalidContentType
            | Self::StreamConnectTimeout
            | Self::StreamConnectionRefused
            | Self::StreamBrokenPipe
            | Self::StreamHandshake
            | Self::StreamClosedByServer
            | Self::StreamScheme
            | Self::StreamUrl
            | Self::StreamProtocol
            | Self::StreamTrack => Level::Error,
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.number())
    }
}

/// One entry as Twilio's debugger would show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How grave.
    pub level: Level,
    /// Which.
    pub code: Code,
    /// What exactly, for a person.
    pub text: String,
}

impl Finding {
    /// A finding at the level the code has at Twilio.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { level: code.level(), code, text: text.into() }
    }

    /// A finding that Twilio logs although nothing went wrong.
    pub fn notice(code: Code, text: impl Into<String>) -> Self {
        Self { level: Level::Notice, code, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        write!(f, "{level} {}: {}", self.code.number(), self.text)
    }
}

/// Findings of one stream: each code is kept once, the way Twilio reports it.
#[derive(Clone, Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Keeps the finding unless its code is there already; true when it was new.
    pub fn add_once(&mut self, finding: Finding) -> bool {
        let known = self.0.iter().any(|kept| kept.code == finding.code);
        if !known {
            self.0.push(finding);
        }
        !known
    }

    /// The findings in the order in which they came.
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}
