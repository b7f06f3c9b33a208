//! Pure: reads a capture: JSON Lines, a head and one line a message.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// Version of the format that is read.
const FORMAT: u64 = 1;

/// One captured call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tape {
    /// What was said, in order.
    pub lines: Vec<Line>,
    /// Lines that the disk was too slow for; a replay can only be like a call that they were in.
    pub dropped: u64,
}

/// One message of either side.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The caller's, so long after the socket was accepted.
    Caller(Duration, CallerDid),
    /// The gateway's.
    Gateway(GatewaySaid),
}

/// What the caller's side did.
#[derive(Clone, Debug, PartialEq)]
pub enum CallerDid {
    /// A message, masked.
    Said(Value),
    /// Text that is no message, masked and perhaps cut, and its length in bytes.
    Malformed(String, usize),
    /// A binary message of so many bytes.
    Binary(usize),
    /// A ping.
    Ping,
    /// A pong, which answers the gateway's ping by itself.
    Pong,
    /// A close frame, with its code if it had one.
    Close(Option<u16>),
    /// The connection ended without one.
    Lost,
    /// The WebSocket protocol was broken.
    Broken,
}

/// What the gateway said.
#[derive(Clone, Debug, PartialEq)]
pub enum GatewaySaid {
    /// Sound for the caller.
    Media(Sound),
    /// A mark to send back.
    Mark(String),
    /// Stop playing.
    Clear,
    /// The end, with its code if it had one.
    Close(Option<u16>),
    /// Nothing that a replay compares.
    Ping,
    /// Anything else.
    Other(String),
}

/// Sound, or how much of it there was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sound {
    /// mu-law.
    Mulaw(Vec<u8>),
    /// So many samples.
    Length(usize),
}

/// Why a file is no capture.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TapeError {
    /// The first line is not a capture's.
    #[error("this is not a capture: its first line has no tandem_capture")]
    NotACapture,
    /// A version that is not known.
    #[error("a capture of version {0}; this program reads version {FORMAT}")]
    Version(u64),
    /// A line that cannot be read.
    #[error("line {0} cannot be read: {1}")]
    Line(usize, String),
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    us: u64,
    from: Option<String>,
    text: Option<Value>,
    malformed: Option<String>,
    #[serde(default)]
    bytes: usize,
    binary: Option<usize>,
    ping: Option<bool>,
    pong: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    close: Option<Option<u16>>,
    lost: Option<bool>,
    broken: Option<bool>,
    #[serde(default)]
    dropped: u64,
}

/// Tells `null` from nothing at all.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u16>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Tape {
    /// Reads a capture.
    ///
    /// # Errors
    /// When it is none, or of another version, or broken in the middle. A last line that was cut is left out.
    pub fn read(text: &str) -> Result<Self, TapeError> {
        let mut lines = text.lines();
        let head: Value = lines.next().and_then(|l| serde_json::from_str(l).ok()).ok_or(TapeError::NotACapture)?;
        match head["tandem_capture"].as_u64() {
            Some(FORMAT) => {}
            Some(other) => return Err(TapeError::Version(other)),
            None => return Err(TapeError::NotACapture),
        }
        let mut tape = Self { lines: Vec::new(), dropped: 0 };
        let count = text.lines().count();
        for (at, line) in lines.enumerate() {
            let number = at + 2;
            match serde_json::from_str::<Wire>(line) {
                Ok(wire) => {
                    tape.dropped += wire.dropped;
                    tape.lines.extend(wire.read().map_err(|what| TapeError::Line(number, what.to_owned()))?);
                }
                Err(_) if number == count && !text.ends_with('\n') => {}
                Err(error) => return Err(TapeError::Line(number, error.to_string())),
            }
        }
        Ok(tape)
    }
}

impl Wire {
    fn read(self) -> Result<Option<Line>, &'static str> {
        match self.from.as_deref() {
            Some("twilio") => {
                let at = Duration::from_micros(self.us);
                self.caller().map(|did| Some(Line::Caller(at, did))).ok_or("it says nothing")
            }
            Some("gateway") => self.gateway().map(|said| Some(Line::Gateway(said))).ok_or("it says nothing"),
            Some(_) => Err("it is from neither side"),
            // The end, or a count of what is missing.
            None => Ok(None),
        }
    }

    fn caller(self) -> Option<CallerDid> {
        let flag = |flag: Option<bool>, did| flag.map(|_| did);
        let text = self.text.map(CallerDid::Said);
        text.or(self.malformed.map(|text| CallerDid::Malformed(text, self.bytes)))
            .or(self.binary.map(CallerDid::Binary))
            .or(self.close.map(CallerDid::Close))
            .or(flag(self.ping, CallerDid::Ping))
            .or(flag(self.pong, CallerDid::Pong))
            .or(flag(self.lost, CallerDid::Lost))
            .or(flag(self.broken, CallerDid::Broken))
    }

    fn gateway(self) -> Option<GatewaySaid> {
        let Some(message) = self.text else {
            let close = self.close.map(GatewaySaid::Close);
            return close.or(self.ping.map(|_| GatewaySaid::Ping)).or(self.pong.map(|_| GatewaySaid::Ping));
        };
        Some(match message["event"].as_str() {
            Some("media") => match Sound::read(&message["media"]["payload"]) {
                Some(sound) => GatewaySaid::Media(sound),
                None => GatewaySaid::Other("media without a payload".to_owned()),
            },
            Some("mark") => GatewaySaid::Mark(message["mark"]["name"].as_str().unwrap_or_default().to_owned()),
            Some("clear") => GatewaySaid::Clear,
            other => GatewaySaid::Other(format!("event {other:?}")),
        })
    }
}

impl Sound {
    /// Reads a captured payload.
    pub(super) fn read(payload: &Value) -> Option<Self> {
        match payload.as_str() {
            Some(payload) => BASE64_STANDARD.decode(payload).ok().map(Self::Mulaw),
            None => Some(Self::Length(usize::try_from(payload["bytes"].as_u64()?).ok()?)),
        }
    }

    /// Samples at 8 kHz.
    pub fn samples(&self) -> usize {
        match self {
            Self::Mulaw(mulaw) => mulaw.len(),
            Self::Length(samples) => *samples,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"tandem_capture":1,"audio":false}"#;

    #[test]
    fn every_kind_of_line_is_read() {
        let text = [
            HEAD,
            r#"{"us":5,"from":"twilio","text":{"event":"connected"}}"#,
            r#"{"us":6,"from":"gateway","text":{"event":"media","media":{"payload":"//8="}}}"#,
            r#"{"us":7,"from":"gateway","text":{"event":"media","media":{"payload":{"bytes":160}}}}"#,
            r#"{"dropped":3}"#,
            r#"{"us":8,"from":"gateway","text":{"event":"mark","mark":{"name":"u1:20"}}}"#,
            r#"{"us":8,"from":"gateway","text":{"event":"clear"}}"#,
            r#"{"us":9,"from":"twilio","malformed":"xx","bytes":9}"#,
            r#"{"us":9,"from":"twilio","close":null}"#,
            r#"{"us":9,"from":"gateway","close":1000}"#,
            r#"{"us":9,"from":"twilio","lost":true}"#,
            r#"{"end":"call"}"#,
        ];
        let tape = Tape::read(&text.join("\n")).unwrap();
        assert_eq!(tape.dropped, 3);
        let us = Duration::from_micros;
        assert_eq!(
            tape.lines,
            [
                Line::Caller(us(5), CallerDid::Said(serde_json::json!({"event": "connected"}))),
                Line::Gateway(GatewaySaid::Media(Sound::Mulaw(vec![0xff, 0xff]))),
                Line::Gateway(GatewaySaid::Media(Sound::Length(160))),
                Line::Gateway(GatewaySaid::Mark("u1:20".into())),
                Line::Gateway(GatewaySaid::Clear),
                Line::Caller(us(9), CallerDid::Malformed("xx".into(), 9)),
                Line::Caller(us(9), CallerDid::Close(None)),
                Line::Gateway(GatewaySaid::Close(Some(1000))),
                Line::Caller(us(9), CallerDid::Lost),
            ]
        );
    }

    #[test]
    fn what_is_no_capture_is_said() {
        assert_eq!(Tape::read(""), Err(TapeError::NotACapture));
        assert_eq!(Tape::read("{}"), Err(TapeError::NotACapture));
        assert_eq!(Tape::read(r#"{"tandem_capture":2}"#), Err(TapeError::Version(2)));
        let broken = format!("{HEAD}\n{{\"us\":1\n{{\"end\":\"call\"}}\n");
        assert!(matches!(Tape::read(&broken), Err(TapeError::Line(2, _))));
        assert!(matches!(Tape::read(&format!("{HEAD}\n{{\"from\":\"me\"}}\n")), Err(TapeError::Line(2, _))));
        // A gateway that was killed leaves half a line.
        assert_eq!(Tape::read(&format!("{HEAD}\n{{\"us\":1,\"fr")).unwrap().lines, []);
    }
}
