//! Pure: Media Streams JSON. [`Writer`] writes what Twilio sends; [`judge`] reads what the server
//! sends, as strictly as Twilio may (warning 31951).
//!
//! twilio.com/docs/voice/media-streams/websocket-messages

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::Quirks;

/// Who is speaking on which stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `AC…`
    pub account_sid: String,
    /// `CA…`
    pub call_sid: String,
    /// `MZ…`
    pub stream_sid: String,
}

/// Writes the messages of one stream; counts `sequenceNumber` and `chunk`.
#[derive(Clone, Debug)]
pub struct Writer {
    identity: Identity,
    numbers_as_strings: bool,
    extras: bool,
    sequence: u64,
    chunk: u64,
}

impl Writer {
    /// A writer for a new stream.
    pub fn new(identity: Identity, quirks: &Quirks) -> Self {
        Self { identity, numbers_as_strings: quirks.numbers_as_strings, extras: quirks.extras, sequence: 0, chunk: 0 }
    }

    /// The stream's identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The first message; it has neither `streamSid` nor `sequenceNumber`.
    pub fn connected(&self) -> String {
        json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}).to_string()
    }

    /// The second message, once per stream.
    pub fn start(&mut self, parameters: &[(String, String)]) -> String {
        let parameters: Map<String, Value> =
            parameters.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let body = json!({
            "accountSid": self.identity.account_sid,
            "callSid": self.identity.call_sid,
            "streamSid": self.identity.stream_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        });
        self.message("start", body)
    }

    /// Caller audio; `timestamp` in ms since the start of the stream.
    pub fn media(&mut self, timestamp: u64, mulaw: &[u8]) -> String {
        self.chunk += 1;
        let body = json!({
            "track": "inbound",
            "chunk": self.number(self.chunk),
            "timestamp": self.number(timestamp),
            "payload": BASE64_STANDARD.encode(mulaw),
        });
        self.message("media", body)
    }

    /// A key press.
    pub fn dtmf(&mut self, digit: char) -> String {
        let body = json!({"track": "inbound_track", "digit": digit.to_string()});
        self.message("dtmf", body)
    }

    /// A mark on its way back.
    pub fn mark(&mut self, name: &str) -> String {
        self.message("mark", json!({"name": name}))
    }

    /// The last message.
    pub fn stop(&mut self) -> String {
        let body = json!({
            "accountSid": self.identity.account_sid,
            "callSid": self.identity.call_sid,
        });
        self.message("stop", body)
    }

    /// A message with an event that no documentation knows.
    pub fn unknown(&mut self) -> String {
        self.message("weather", json!({"sky": ["clear", null, 3.5]}))
    }

    /// Lets `chunk` jump, as when it counts the server's media as well.
    pub fn skip_chunk(&mut self) {
        self.chunk += 1;
    }

    /// Takes the next `sequenceNumber`, for a message that is written elsewhere.
    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn message(&mut self, event: &str, body: Value) -> String {
        let sequence = self.next_sequence();
        let mut message = Map::new();
        message.insert("event".into(), json!(event));
        message.insert("sequenceNumber".into(), self.number(sequence));
        message.insert("streamSid".into(), json!(self.identity.stream_sid));
        message.insert(event.into(), body);
        if self.extras {
            message.insert("region".into(), json!({"name": "us1", "hops": [1, 2]}));
            if let Some(Value::Object(body)) = message.get_mut(event) {
                body.insert("quality".into(), json!(4.2));
            }
        }
        Value::Object(message).to_string()
    }

    fn number(&self, number: u64) -> Value {
        if self.numbers_as_strings { json!(number.to_string()) } else { json!(number) }
    }
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Audio to play, decoded.
    Media(Vec<u8>),
    /// A mark to send back.
    Mark(String),
    /// Stop playing.
    Clear,
}

/// Why a message is not one Twilio documents; the text of warning 31951.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Noncompliance {
    /// Not JSON, or not an object.
    #[error("not a JSON object")]
    NotJson,
    /// No `event`, or one that the server may not send.
    #[error("unknown event {0:?}")]
    UnknownEvent(String),
    /// A field that must be there is not, or has another type.
    #[error("field {0:?} is missing or not of the documented type")]
    Missing(&'static str),
    /// A field that is not documented for this message.
    #[error("field {0:?} is not documented")]
    Extra(String),
    /// Another stream's identifier.
    #[error("streamSid {0:?} is not this stream's")]
    WrongStream(String),
    /// The payload is not base64.
    #[error("the payload is not base64")]
    NotBase64,
}

/// Reads one text message from the server for the stream `stream_sid`.
pub fn judge(text: &str, stream_sid: &str) -> Result<Said, Noncompliance> {
    let Ok(Value::Object(mut message)) = serde_json::from_str(text) else {
        return Err(Noncompliance::NotJson);
    };
    let event = match message.remove("event") {
        Some(Value::String(event)) => event,
        Some(other) => return Err(Noncompliance::UnknownEvent(other.to_string())),
        None => return Err(Noncompliance::UnknownEvent(String::new())),
    };
    let said = match event.as_str() {
        "media" => {
            let payload = only_string(&mut message, "media", "payload")?;
            let Ok(mulaw) = BASE64_STANDARD.decode(payload) else {
                return Err(Noncompliance::NotBase64);
            };
            Said::Media(mulaw)
        }
        "mark" => Said::Mark(only_string(&mut message, "mark", "name")?),
        "clear" => Said::Clear,
        _ => return Err(Noncompliance::UnknownEvent(event)),
    };
    let stream = string(&mut message, "streamSid")?;
    if stream != stream_sid {
        return Err(Noncompliance::WrongStream(stream));
    }
    refuse_extra(message)?;
    Ok(said)
}

/// The one string in the one object of a message.
fn only_string(
    message: &mut Map<String, Value>,
    object: &'static str,
    field: &'static str,
) -> Result<String, Noncompliance> {
    let Some(Value::Object(mut body)) = message.remove(object) else {
        return Err(Noncompliance::Missing(object));
    };
    let value = string(&mut body, field)?;
    refuse_extra(body)?;
    Ok(value)
}

fn string(object: &mut Map<String, Value>, field: &'static str) -> Result<String, Noncompliance> {
    match object.remove(field) {
        Some(Value::String(value)) => Ok(value),
        _ => Err(Noncompliance::Missing(field)),
    }
}

fn refuse_extra(object: Map<String, Value>) -> Result<(), Noncompliance> {
    match object.into_iter().next() {
        Some((name, _)) => Err(Noncompliance::Extra(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(quirks: &Quirks) -> Writer {
        let identity = Identity { account_sid: "AC1".into(), call_sid: "CA1".into(), stream_sid: "MZ1".into() };
        Writer::new(identity, quirks)
    }

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn messages_look_like_the_documented_examples() {
        let mut writer = writer(&Quirks::default());
        assert_eq!(
            value(&writer.start(&[("Name".into(), "value".into())])),
            json!({
                "event": "start", "sequenceNumber": "1", "streamSid": "MZ1",
                "start": {
                    "accountSid": "AC1", "callSid": "CA1", "streamSid": "MZ1",
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                    "customParameters": {"Name": "value"},
                },
            })
        );
        assert_eq!(
            value(&writer.media(20, &[0xff, 0xff])),
            json!({
                "event": "media", "sequenceNumber": "2", "streamSid": "MZ1",
                "media": {"track": "inbound", "chunk": "1", "timestamp": "20", "payload": "//8="},
            })
        );
        assert_eq!(
            value(&writer.dtmf('5')),
            json!({
                "event": "dtmf", "sequenceNumber": "3", "streamSid": "MZ1",
                "dtmf": {"track": "inbound_track", "digit": "5"},
            })
        );
    }

    #[test]
    fn numbers_and_extras_follow_the_quirks() {
        let quirks = Quirks { numbers_as_strings: false, extras: true, ..Quirks::default() };
        let mut writer = writer(&quirks);
        writer.skip_chunk();
        let media = value(&writer.media(40, &[]));
        assert_eq!(media["sequenceNumber"], json!(1));
        assert_eq!(media["media"]["chunk"], json!(2));
        assert_eq!(media["media"]["timestamp"], json!(40));
        assert_eq!(media["region"]["name"], json!("us1"));
        assert_eq!(media["media"]["quality"], json!(4.2));
    }

    #[test]
    fn documented_messages_are_taken() {
        let media = r#"{"event":"media","streamSid":"MZ1","media":{"payload":"//8="}}"#;
        assert_eq!(judge(media, "MZ1"), Ok(Said::Media(vec![0xff, 0xff])));
        let mark = r#"{"event":"mark","streamSid":"MZ1","mark":{"name":"m"}}"#;
        assert_eq!(judge(mark, "MZ1"), Ok(Said::Mark("m".into())));
        let clear = r#"{"event":"clear","streamSid":"MZ1"}"#;
        assert_eq!(judge(clear, "MZ1"), Ok(Said::Clear));
    }

    #[test]
    fn everything_else_is_noncompliant() {
        use Noncompliance as N;
        let cases = [
            ("hello", N::NotJson),
            ("[]", N::NotJson),
            ("{}", N::UnknownEvent("".into())),
            (r#"{"event":"dtmf","streamSid":"MZ1"}"#, N::UnknownEvent("dtmf".into())),
            (r#"{"event":"clear"}"#, N::Missing("streamSid")),
            (r#"{"event":"clear","streamSid":"MZ2"}"#, N::WrongStream("MZ2".into())),
            (r#"{"event":"clear","streamSid":"MZ1","clear":{}}"#, N::Extra("clear".into())),
            (
                r#"{"event":"media","streamSid":"MZ1","media":{"payload":"","track":"inbound"}}"#,
                N::Extra("track".into()),
            ),
            (
                r#"{"event":"media","streamSid":"MZ1","sequenceNumber":"1","media":{"payload":""}}"#,
                N::Extra("sequenceNumber".into()),
            ),
            (r#"{"event":"media","streamSid":"MZ1","media":{"payload":"/"}}"#, N::NotBase64),
            (r#"{"event":"media","streamSid":"MZ1","media":{"payload":7}}"#, N::Missing("payload")),
            (r#"{"event":"mark","streamSid":"MZ1","mark":{}}"#, N::Missing("name")),
            (r#"{"event":"mark","streamSid":"MZ1"}"#, N::Missing("mark")),
        ];
        for (text, expected) in cases {
            assert_eq!(judge(text, "MZ1"), Err(expected), "{text}");
        }
    }
}
