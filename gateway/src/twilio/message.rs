//! Media Streams messages: JSON and base64, both ways (twilio.com/docs/voice/media-streams/websocket-messages).
//!
//! Lenient in what is read: numbers as strings or numbers, unknown events and fields. Strict in what is written:
//! only the documented fields. Past this file there is no JSON and no base64.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// Largest payload taken, in bytes of mu-law: one second.
pub const MAX_PAYLOAD_BYTES: usize = 8000;

/// One message from Twilio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The stream that it says it belongs to; `connected` has none.
    pub stream_sid: Option<String>,
    /// What it says.
    pub event: Event,
}

/// What a message from Twilio says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The socket is up; nothing more.
    Connected,
    /// The stream begins.
    Start(Start),
    /// The caller's voice.
    Media(Media),
    /// A key.
    Dtmf(char),
    /// One of our marks comes back.
    Mark(String),
    /// The stream is over.
    Stop,
    /// Something newer than this program.
    Unknown,
}

/// The beginning of a stream. Does not print its parameters: the ticket is one of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Start {
    /// The call.
    pub call_sid: String,
    /// The stream.
    pub stream_sid: String,
    /// `audio/x-mulaw`, 8000 Hz, one channel.
    pub is_mulaw_8000: bool,
    /// The `<Parameter>`s of our TwiML.
    pub parameters: BTreeMap<String, String>,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("call_sid", &self.call_sid)
            .field("stream_sid", &self.stream_sid)
            .finish_non_exhaustive()
    }
}

/// A piece of the caller's voice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// False for the outbound track, which a bidirectional stream does not send.
    pub is_inbound: bool,
    /// Number of the media message, from 1.
    pub chunk: Option<u64>,
    /// Milliseconds since the stream began.
    pub timestamp_ms: Option<u64>,
    /// mu-law, 1 to [`MAX_PAYLOAD_BYTES`] bytes.
    pub mulaw: Bytes,
}

/// A message that cannot be used. The call goes on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a JSON object of the documented shape.
    #[error("not a JSON object of the documented shape")]
    Json,
    /// No `event`.
    #[error("no event")]
    NoEvent,
    /// A field that the event needs is missing or wrong.
    #[error("field {0} is missing or wrong")]
    Field(&'static str),
    /// The payload is not base64.
    #[error("payload is not base64")]
    Payload,
    /// The payload is empty.
    #[error("payload is empty")]
    EmptyPayload,
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`].
    #[error("payload of more than one second")]
    LongPayload,
}

impl Inbound {
    /// Reads one text message.
    ///
    /// # Errors
    /// When nothing of it can be used.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let wire: Wire<'_> = serde_json::from_str(text).map_err(|_| Malformed::Json)?;
        let event = match wire.event.as_ref().map(Text::as_str) {
            None => return Err(Malformed::NoEvent),
            Some("media") => Event::Media(wire.media.ok_or(Malformed::Field("media"))?.read()?),
            Some("connected") => Event::Connected,
            Some("start") => Event::Start(wire.start.ok_or(Malformed::Field("start"))?.read()?),
            Some("dtmf") => Event::Dtmf(wire.dtmf.ok_or(Malformed::Field("dtmf"))?.read()?),
            Some("mark") => {
                let mark = wire.mark.ok_or(Malformed::Field("mark"))?;
                Event::Mark(mark.name.ok_or(Malformed::Field("mark.name"))?.into_string())
            }
            Some("stop") => Event::Stop,
            Some(_) => Event::Unknown,
        };
        Ok(Self { stream_sid: wire.stream_sid.map(Text::into_string), event })
    }
}

/// One message to Twilio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    /// Play this mu-law.
    Media(Bytes),
    /// Say when everything before it was played.
    Mark(Mark),
    /// Throw away what is not played yet.
    Clear,
}

impl Outbound {
    /// Writes the message for `stream_sid`, which [`Start`] has checked to need no escapes.
    pub fn write(&self, stream_sid: &str) -> String {
        match self {
            Self::Media(mulaw) => {
                let mut text = String::with_capacity(72 + stream_sid.len() + mulaw.len().div_ceil(3) * 4);
                text.push_str(r#"{"event":"media","streamSid":""#);
                text.push_str(stream_sid);
                text.push_str(r#"","media":{"payload":""#);
                STANDARD.encode_string(mulaw, &mut text);
                text.push_str(r#""}}"#);
                text
            }
            Self::Mark(mark) => format!(r#"{{"event":"mark","streamSid":"{stream_sid}","mark":{{"name":"{mark}"}}}}"#),
            Self::Clear => format!(r#"{{"event":"clear","streamSid":"{stream_sid}"}}"#),
        }
    }
}

/// A position in what the agent said; its text is the name of a mark, so that a mark that comes back says by itself
/// what was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The utterance.
    pub utterance: u64,
    /// Milliseconds from its start.
    pub ms: u64,
}

impl Mark {
    /// Reads a mark's name; `None` for a name that is not ours.
    pub fn parse(name: &str) -> Option<Self> {
        let (utterance, ms) = name.strip_prefix('u')?.split_once(':')?;
        Some(Self { utterance: utterance.parse().ok()?, ms: ms.parse().ok()? })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}:{}", self.utterance, self.ms)
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    event: Option<Text<'a>>,
    #[serde(borrow, rename = "streamSid")]
    stream_sid: Option<Text<'a>>,
    #[serde(borrow)]
    media: Option<WireMedia<'a>>,
    #[serde(borrow)]
    mark: Option<WireMark<'a>>,
    #[serde(borrow)]
    dtmf: Option<WireDtmf<'a>>,
    start: Option<Box<WireStart>>,
}

#[derive(Deserialize)]
struct WireMedia<'a> {
    #[serde(borrow)]
    track: Option<Text<'a>>,
    #[serde(default)]
    chunk: Number,
    #[serde(default)]
    timestamp: Number,
    #[serde(borrow)]
    payload: Option<Text<'a>>,
}

impl WireMedia<'_> {
    fn read(self) -> Result<Media, Malformed> {
        let payload = self.payload.ok_or(Malformed::Field("media.payload"))?;
        let payload = payload.as_str();
        if payload.is_empty() {
            return Err(Malformed::EmptyPayload);
        }
        if payload.len() > MAX_PAYLOAD_BYTES.div_ceil(3) * 4 {
            return Err(Malformed::LongPayload);
        }
        let mulaw = STANDARD.decode(payload).map_err(|_| Malformed::Payload)?;
        Ok(Media {
            is_inbound: self.track.is_none_or(|track| track.as_str() != "outbound"),
            chunk: self.chunk.0,
            timestamp_ms: self.timestamp.0,
            mulaw: mulaw.into(),
        })
    }
}

#[derive(Deserialize)]
struct WireMark<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WireDtmf<'a> {
    #[serde(borrow)]
    digit: Option<Text<'a>>,
}

impl WireDtmf<'_> {
    fn read(self) -> Result<char, Malformed> {
        let digit = self.digit.ok_or(Malformed::Field("dtmf.digit"))?;
        let mut keys = digit.as_str().chars();
        match (keys.next(), keys.next()) {
            (Some(key @ ('0'..='9' | '*' | '#' | 'A'..='D')), None) => Ok(key),
            _ => Err(Malformed::Field("dtmf.digit")),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStart {
    call_sid: Option<String>,
    stream_sid: Option<String>,
    media_format: Option<WireFormat>,
    #[serde(default)]
    custom_parameters: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireFormat {
    encoding: Option<String>,
    #[serde(default)]
    sample_rate: Number,
    #[serde(default)]
    channels: Number,
}

impl WireStart {
    fn read(self) -> Result<Start, Malformed> {
        let format = self.media_format.ok_or(Malformed::Field("start.mediaFormat"))?;
        let parameters = self.custom_parameters.unwrap_or_default().into_iter().map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                (name, other.to_string())
            }
        });
        Ok(Start {
            call_sid: sid(self.call_sid).ok_or(Malformed::Field("start.callSid"))?,
            stream_sid: sid(self.stream_sid).ok_or(Malformed::Field("start.streamSid"))?,
            is_mulaw_8000: format.encoding.as_deref() == Some("audio/x-mulaw")
                && format.sample_rate.0 == Some(8000)
                && format.channels.0 == Some(1),
            parameters: parameters.collect(),
        })
    }
}

/// Twilio's ids are letters and digits, 34 of them; ours to hold and to write back, so nothing else is taken.
fn sid(text: Option<String>) -> Option<String> {
    text.filter(|sid| (1..=64).contains(&sid.len()) && sid.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Text that is borrowed where the JSON has no escapes; serde's own `Cow` always copies.
struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    fn as_str(&self) -> &str {
        &self.0
    }

    fn into_string(self) -> String {
        self.0.into_owned()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A whole number that Twilio writes as a string, and others as a number. What is neither counts as absent.
#[derive(Debug, Default, Clone, Copy)]
struct Number(Option<u64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Number(Some(number)))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Number(None))
            }

            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be whole and in range"
            )]
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                let whole = number.fract() == 0.0 && (0.0..9e15).contains(&number);
                Ok(Number(whole.then_some(number as u64)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Number(text.trim().parse().ok()))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Number(None))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Number(None))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests;
