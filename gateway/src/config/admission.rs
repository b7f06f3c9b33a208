//! Settings of admission: how much there is room for, and what a caller gets who finds none.

use telemetry::{
    Sensitive,
    settings::{Reader, Setting},
};

use super::is_dialable;
use crate::admission::{Limits, MAX_RATE};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "MAX_CALLS",
        default: Some("1000"),
        help: "Calls at a time, those that were just answered included; more get OVERLOAD",
    },
    Setting {
        name: "MAX_CALLS_PER_SECOND",
        default: Some("50"),
        help: "New calls a second, a second's worth at once; more get OVERLOAD; 0: any number",
    },
    Setting {
        name: "MAX_PENDING_SOCKETS",
        default: Some("64"),
        help: "Media sockets at a time that have not shown their ticket; more get 503",
    },
    Setting {
        name: "OVERLOAD",
        default: Some("busy"),
        help: "What a call too many gets: busy, say:WORDS, queue:NAME, or dial:NUMBER (also a SIP address)",
    },
];

/// Longest text of a `<Say>` (twilio.com/docs/voice/twiml/say: 4096), in characters.
const MAX_WORDS_CHARS: usize = 4096;

/// Longest name of a queue (twilio.com/docs/voice/api/queue-resource, FriendlyName: 64), in characters.
const MAX_QUEUE_CHARS: usize = 64;

/// What a caller gets who finds no room. Nothing of it needs a media socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overload {
    /// A busy tone; the call is not answered.
    Busy,
    /// These words, then the end.
    Say(String),
    /// A place in the queue of this name.
    Queue(String),
    /// This number or SIP address.
    Dial(Sensitive<String>),
}

pub(super) fn read(reader: &mut Reader<'_>, tickets: bool) -> (Limits, Overload) {
    let mut limit = |name, range| u32::try_from(reader.number(name, range)).unwrap_or(u32::MAX);
    let calls = limit("MAX_CALLS", 1..=100_000);
    let calls_per_second = Some(limit("MAX_CALLS_PER_SECOND", 0..=MAX_RATE.into())).filter(|rate| *rate > 0);
    let pending_sockets = limit("MAX_PENDING_SOCKETS", 1..=100_000);
    let overload = match overload(reader.text("OVERLOAD").unwrap_or_default()) {
        Ok(overload) => overload,
        Err(mistake) => {
            reader.mistake("OVERLOAD", mistake);
            Overload::Busy
        }
    };
    (Limits { calls, pending_sockets, calls_per_second, tickets }, overload)
}

fn overload(text: &str) -> Result<Overload, &'static str> {
    let is_text = |text: &str, longest| {
        !text.is_empty() && text.chars().count() <= longest && !text.chars().any(char::is_control)
    };
    match text.split_once(':').map(|(kind, rest)| (kind, rest.trim())) {
        None if text == "busy" => Ok(Overload::Busy),
        Some(("say", words)) if is_text(words, MAX_WORDS_CHARS) => Ok(Overload::Say(words.to_owned())),
        Some(("say", _)) => Err("say: needs words, 4096 characters at most"),
        Some(("queue", name)) if is_text(name, MAX_QUEUE_CHARS) => Ok(Overload::Queue(name.to_owned())),
        Some(("queue", _)) => Err("queue: needs the name of a queue, 64 characters at most"),
        Some(("dial", to)) if is_dialable(to) => Ok(Overload::Dial(Sensitive::new(to.to_owned()))),
        Some(("dial", _)) => {
            Err("dial: needs a number such as +15550100 or a SIP address such as sip:desk@example.com")
        }
        _ => Err("must be busy, say:WORDS, queue:NAME or dial:NUMBER"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overload_has_four_forms() {
        assert_eq!(overload("busy"), Ok(Overload::Busy));
        assert_eq!(overload("say: All lines: busy. "), Ok(Overload::Say("All lines: busy.".into())));
        assert_eq!(overload("queue:support"), Ok(Overload::Queue("support".into())));
        assert_eq!(overload("dial:+15550100"), Ok(Overload::Dial("+15550100".to_owned().into())));
        assert_eq!(overload("dial:sip:a@b.example"), Ok(Overload::Dial("sip:a@b.example".to_owned().into())));
        for bad in ["", "Busy", "busy:", "say", "say:", "say: \u{7}", "queue:", "dial:911", "dial:", "hang:up"] {
            assert!(overload(bad).is_err(), "{bad}");
        }
        assert!(overload(&format!("queue:{}", "q".repeat(65))).is_err());
        assert!(overload(&format!("say:{}", "ü".repeat(4096))).is_ok());
        assert!(!format!("{:?}", overload("dial:+15550100")).contains("1555"));
    }
}
