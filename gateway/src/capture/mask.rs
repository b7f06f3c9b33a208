//! Pure: what a captured message becomes before it reaches a file.
//!
//! Only what is known to be harmless stays: events, counters, formats, the names of our marks. Ids, numbers, tickets
//! and parameters become well-formed placeholders, so that a replay can put its own in their place; everything else
//! keeps its shape and loses its letters and digits.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{ticket, twilio::message::Mark};

/// What is kept of text that is no message, in bytes.
pub(super) const MALFORMED_BYTES: usize = 4 << 10;

/// What is kept of any other text that is not known, in characters.
const UNKNOWN_CHARS: usize = 64;

/// Longest counter that is kept, in digits: four hours of milliseconds need eight, and no phone number has so few.
const COUNTER_DIGITS: usize = 9;

/// Depth of unknown JSON that is kept.
const MAX_DEPTH: usize = 4;

/// Entries of unknown JSON that are kept.
const MAX_ENTRIES: usize = 32;

/// Streams of a socket that are told apart; there should be one.
const MAX_STREAMS: usize = 8;

/// Words that stay.
const VOCABULARY: [&str; 9] = [
    "inbound",
    "outbound",
    "inbound_track",
    "outbound_track",
    "audio/x-mulaw",
    "audio/x-alaw",
    "audio/l16",
    "Call",
    "1.0.0",
];

/// Masks the messages of one call.
#[derive(Debug)]
pub(super) struct Mask {
    /// Sound and keys stay.
    audio: bool,
    /// Stream ids in the order in which they were seen.
    streams: Vec<String>,
    /// The call's id, once `start` told it.
    call_sid: Option<String>,
}

/// A masked text message.
#[derive(Debug, PartialEq)]
pub(super) enum Masked {
    /// A JSON object.
    Message(Value),
    /// Something else.
    Malformed(String),
}

impl Mask {
    pub(super) const fn new(audio: bool) -> Self {
        Self { audio, streams: Vec::new(), call_sid: None }
    }

    /// Masks one text message.
    pub(super) fn text(&mut self, text: &str) -> Masked {
        match serde_json::from_str(text) {
            Ok(Value::Object(message)) => Masked::Message(self.message(message)),
            Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) | Err(_) => {
                Masked::Malformed(scramble(text, MALFORMED_BYTES))
            }
        }
    }

    /// The real id of the call, once; for the log alone.
    pub(super) fn take_call_sid(&mut self) -> Option<String> {
        self.call_sid.take()
    }

    fn message(&mut self, message: Map<String, Value>) -> Value {
        if let Some(sid) = message.get("start").and_then(|start| start["callSid"].as_str()).filter(|sid| is_sid(sid)) {
            self.call_sid = Some(sid.to_owned());
        }
        self.object(message, 0)
    }

    fn object(&mut self, object: Map<String, Value>, depth: usize) -> Value {
        let entries = object.into_iter().take(MAX_ENTRIES).map(|(name, value)| self.entry(name, value, depth));
        Value::Object(entries.collect())
    }

    fn entry(&mut self, name: String, value: Value, depth: usize) -> (String, Value) {
        let masked = match (name.as_str(), value) {
            ("event", Value::String(event)) if event.len() <= 24 && event.bytes().all(|b| b.is_ascii_alphabetic()) => {
                json!(event)
            }
            ("media" | "mark" | "dtmf" | "start" | "stop" | "mediaFormat", Value::Object(body)) => {
                self.object(body, depth + 1)
            }
            ("sequenceNumber" | "chunk" | "timestamp" | "sampleRate" | "channels", value) => counter(value),
            ("track" | "encoding" | "protocol" | "version", Value::String(word)) => known(word),
            ("tracks", Value::Array(tracks)) => tracks.into_iter().take(2).map(track).collect(),
            ("accountSid", Value::String(sid)) => placeholder(&sid, "AC", 0),
            ("callSid", Value::String(sid)) => placeholder(&sid, "CA", 0),
            ("streamSid", Value::String(sid)) => self.stream(sid),
            ("customParameters", Value::Object(parameters)) => {
                parameters.into_iter().take(MAX_ENTRIES).map(parameter).collect::<Map<_, _>>().into()
            }
            ("payload", Value::String(payload)) => self.payload(payload),
            ("digit", Value::String(digit)) => self.digit(digit),
            ("name", Value::String(mark)) if mark.len() <= 24 && Mark::parse(&mark).is_some() => json!(mark),
            (
                "event" | "media" | "mark" | "dtmf" | "start" | "stop" | "mediaFormat" | "track" | "tracks"
                | "encoding" | "protocol" | "version" | "accountSid" | "callSid" | "streamSid" | "customParameters"
                | "payload" | "digit" | "name",
                value,
            ) => unknown(value, depth),
            (_, value) => return (scramble(&name, UNKNOWN_CHARS), unknown(value, depth)),
        };
        (name, masked)
    }

    fn stream(&mut self, sid: String) -> Value {
        let at = self.streams.iter().position(|known| *known == sid).unwrap_or_else(|| {
            if is_sid(&sid) && self.streams.len() < MAX_STREAMS {
                self.streams.push(sid.clone());
                self.streams.len() - 1
            } else {
                MAX_STREAMS
            }
        });
        placeholder(&sid, "MZ", at)
    }

    /// Without audio, its length in samples keeps its place.
    fn payload(&self, payload: String) -> Value {
        match STANDARD.decode(&payload) {
            Ok(_) if self.audio => json!(payload),
            Ok(mulaw) => json!({ "bytes": mulaw.len() }),
            Err(_) => json!({ "malformed": payload.len() }),
        }
    }

    /// Keys may be the digits of a card.
    fn digit(&self, digit: String) -> Value {
        let is_key =
            digit.len() == 1 && digit.bytes().all(|key| matches!(key, b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D'));
        match (is_key, self.audio) {
            (true, true) => json!(digit),
            (true, false) => json!("0"),
            (false, _) => json!(scramble(&digit, UNKNOWN_CHARS)),
        }
    }
}

/// A well-formed id in the place of one; anything else in the place of what is none.
fn placeholder(sid: &str, prefix: &str, at: usize) -> Value {
    if is_sid(sid) { json!(format!("{prefix}{at:032}")) } else { json!(scramble(sid, UNKNOWN_CHARS)) }
}

fn is_sid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Names of parameters are the application's and stay; values never do.
fn parameter((name, _): (String, Value)) -> (String, Value) {
    let value = match name.as_str() {
        ticket::PARAMETER => "<ticket>",
        "from" => "+15550100",
        "to" => "+15550199",
        _ => "<parameter>",
    };
    (name.chars().take(UNKNOWN_CHARS).collect(), json!(value))
}

fn counter(value: Value) -> Value {
    let digits = match &value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    };
    let is_counter = (1..=COUNTER_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_counter { value } else { unknown(value, 0) }
}

fn known(word: String) -> Value {
    if VOCABULARY.contains(&word.as_str()) { json!(word) } else { json!(scramble(&word, UNKNOWN_CHARS)) }
}

fn track(value: Value) -> Value {
    if let Value::String(word) = value { known(word) } else { Value::Null }
}

/// The shape of JSON that nobody knows.
fn unknown(value: Value, depth: usize) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value,
        Value::Number(_) => json!(0),
        Value::String(text) => json!(scramble(&text, UNKNOWN_CHARS)),
        Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => Value::Null,
        Value::Array(items) => items.into_iter().take(MAX_ENTRIES).map(|item| unknown(item, depth + 1)).collect(),
        Value::Object(entries) => entries
            .into_iter()
            .take(MAX_ENTRIES)
            .map(|(name, value)| (scramble(&name, UNKNOWN_CHARS), unknown(value, depth + 1)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// Text without its letters and digits. What is malformed stays so: the marks between them are kept.
fn scramble(text: &str, most: usize) -> String {
    let masked = |c: char| match c {
        _ if c.is_alphabetic() => 'x',
        _ if c.is_numeric() => '0',
        _ if c.is_ascii() => c,
        _ => '?',
    };
    text.chars().take(most).map(masked).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::twilio::message::Inbound;

    fn mask(audio: bool, text: &str) -> Value {
        match Mask::new(audio).text(text) {
            Masked::Message(message) => message,
            Masked::Malformed(text) => panic!("{text}"),
        }
    }

    const START: &str = r#"{"event":"start","sequenceNumber":"1","streamSid":"MZ7","start":{"accountSid":"AC7",
        "callSid":"CA7","streamSid":"MZ7","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw",
        "sampleRate":8000,"channels":1},"customParameters":{"ticket":"s3cret","from":"+4915112345678","to":"+15557",
        "order":"4711"}}}"#;

    #[test]
    fn a_start_keeps_its_shape_and_loses_its_names() {
        let zeros = "0".repeat(32);
        assert_eq!(
            mask(true, START),
            json!({
                "event": "start", "sequenceNumber": "1", "streamSid": format!("MZ{zeros}"),
                "start": {
                    "accountSid": format!("AC{zeros}"), "callSid": format!("CA{zeros}"),
                    "streamSid": format!("MZ{zeros}"), "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                    "customParameters":
                        {"ticket": "<ticket>", "from": "+15550100", "to": "+15550199", "order": "<parameter>"},
                },
            })
        );
        assert!(Inbound::parse(&mask(false, START).to_string()).is_ok(), "a replay can parse it");
        let mut mask = Mask::new(false);
        mask.text(START);
        assert_eq!((mask.take_call_sid().as_deref(), mask.take_call_sid()), (Some("CA7"), None));
    }

    #[test]
    fn another_stream_stays_another_and_no_id_becomes_one() {
        let mut mask = Mask::new(false);
        let mut sid = |sid: &str| match mask.text(&json!({"event": "stop", "streamSid": sid}).to_string()) {
            Masked::Message(message) => message["streamSid"].as_str().unwrap().to_owned(),
            Masked::Malformed(text) => panic!("{text}"),
        };
        let (first, second) = (sid("MZ1"), sid("MZ2"));
        assert!(first != second && first == sid("MZ1") && is_sid(&second));
        assert_eq!(sid("not an id: 42"), "xxx xx xx: 00");
    }

    #[test]
    fn sound_and_keys_stay_only_when_asked_for() {
        let media = r#"{"event":"media","streamSid":"MZ1","media":{"track":"inbound","chunk":"2","timestamp":20,"payload":"/////w=="}}"#;
        let kept = mask(true, media);
        assert_eq!((&kept["media"]["payload"], &kept["media"]["timestamp"]), (&json!("/////w=="), &json!(20)));
        assert_eq!(mask(false, media)["media"]["payload"], json!({"bytes": 4}));
        assert_eq!(mask(true, &media.replace("/w", "%%"))["media"]["payload"], json!({"malformed": 8}));
        let dtmf = r#"{"event":"dtmf","streamSid":"MZ1","dtmf":{"track":"inbound_track","digit":"7"}}"#;
        assert_eq!(mask(true, dtmf)["dtmf"]["digit"], json!("7"));
        assert_eq!(mask(false, dtmf)["dtmf"]["digit"], json!("0"));
        assert_eq!(mask(true, &dtmf.replace("\"7\"", "\"77 z\""))["dtmf"]["digit"], json!("00 x"));
    }

    #[test]
    fn what_is_not_known_is_only_a_shape() {
        let text = r#"{"event":"mark","call-15551234":{"caller":["+15551234",{"deep":[[[[["x"]]]]]}],"ok":true},
            "sequenceNumber":"15551234567","mark":{"name":"u1:200","pin":1234}}"#;
        let masked = mask(true, text);
        assert_eq!(masked["mark"], json!({"name": "u1:200", "xxx": 0}));
        assert_eq!(masked["sequenceNumber"], json!("00000000000"));
        assert!(!masked.to_string().contains("1234"), "{masked}");
        assert_eq!(mask(true, r#"{"event":"mark","mark":{"name":"card 4711"}}"#)["mark"]["name"], "xxxx 0000");
    }

    #[test]
    fn malformed_text_is_cut_and_stays_malformed() {
        for text in ["hello +1555", r#"{"event":"media","media":{"payload":"abc"#, "[1,2]", "\"x\"", "17", "{\"a\":1x}"]
        {
            let Masked::Malformed(masked) = Mask::new(true).text(text) else { panic!("{text}") };
            assert!(Inbound::parse(&masked).is_err() && !masked.contains('1'), "{masked}");
        }
        let Masked::Malformed(masked) = Mask::new(true).text(&"ä".repeat(9000)) else { panic!() };
        assert_eq!(masked.len(), MALFORMED_BYTES);
    }

    proptest! {
        #[test]
        fn no_number_survives_wherever_it_stands(path in prop::collection::vec("[a-zA-Z]{1,12}", 1..5), audio: bool) {
            let secret = "4915112345678";
            let mut value = json!(secret);
            for name in &path {
                value = json!({ name: value, "customParameters": {"x": secret}, "name": secret, "digit": secret });
            }
            prop_assert!(!mask(audio, &value.to_string()).to_string().contains(secret));
            let Masked::Malformed(text) = Mask::new(audio).text(&format!("{path:?}{secret}")) else { panic!() };
            prop_assert!(!text.contains(secret));
        }
    }
}
