//! An agent that is a service of its own: where it is, what it is sent, and how long it may take.

use std::time::Duration;

use super::{
    agent,
    reader::{Reader, Section},
    settings::{Defaults, FIRST, InterruptBy, RemoteFormat, RemoteSettings},
    stage::{self, Named},
    voice,
};
use crate::dsp::SampleRate;

pub(super) const KEYS: &[&str] = &[
    "url",
    "token",
    "token_file",
    "format",
    "rate",
    "interrupt",
    "share_numbers",
    "connect_timeout_ms",
    "first_answer_ms",
    "apology",
    "turn",
    "speech_to_text",
    "text_to_speech",
];

/// Knobs of turn-taking that do nothing where only voice interrupts and nobody is prompted.
const NO_KNOBS: [&str; 3] = ["false_interruption_ms", "fillers", "silence_prompt_ms"];

/// How long a connection may take unless the file says: as for providers.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an agent may take to be ready for a call.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Voice that interrupts, unless the file says: longer than a cough, since there are no words to tell one from a word.
const BARGE_IN: Duration = Duration::from_millis(320);

/// Reads what only this kind has.
pub(super) fn remote(reader: &mut Reader<'_>, section: &Section<'_>, defaults: &Defaults) -> Option<RemoteSettings> {
    let url = match section.get("url") {
        None => {
            reader.mistake(section.place.clone(), "needs a url: where your service listens, such as http://agent:9000");
            None
        }
        Some(value) => {
            let found = stage::address(value.get_ref().as_str().unwrap_or_default());
            let found = found.and_then(|url| {
                let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
                if is_bare { Ok(url) } else { Err("must end with the host or the port: gRPC has paths of its own") }
            });
            found.map_err(|what| reader.mistake(value.span(), format!("url {what}"))).ok()
        }
    };
    let token = match stage::key(reader, section, "token", "token_file") {
        Named::Found(token) => Some(token),
        Named::Nothing | Named::Wrong => None,
    };
    let format = format(reader, section);
    let choices = [("worker", InterruptBy::Worker), ("agent", InterruptBy::Agent)];
    let interrupt = reader.one_of(section, "interrupt", &choices).unwrap_or(InterruptBy::Worker);
    let apology = reader.text(section, "apology", agent::MAX_SPOKEN_CHARS, false);
    // A stage costs money: it is there when the agent has the table itself, whatever the defaults hold.
    let has = |name| section.own(name).is_some();
    let speech_to_text = has("speech_to_text").then(|| stage::speech_to_text(reader, section, defaults)).flatten();
    let text_to_speech = has("text_to_speech").then(|| voice::text_to_speech(reader, section, defaults)).flatten();
    if let (Some(value), false) = (section.own("apology"), has("text_to_speech")) {
        reader.mistake(value.span(), "apology needs a voice that says it: add a text_to_speech table, or leave it out");
    }
    let mut turn = agent::turn(reader, section);
    let knobs = reader.table(section, "turn", agent::TURN);
    for knob in NO_KNOBS {
        if let Some(value) = knobs.own(knob) {
            reader.mistake(value.span(), format!("{knob} does nothing for this kind of agent; leave it out"));
        }
    }
    if knobs.get("barge_in_ms").is_none() {
        turn.barge_in = BARGE_IN;
    }
    Some(RemoteSettings {
        url: url?,
        token,
        format: format?,
        interrupt,
        share_numbers: reader.flag(section, "share_numbers").unwrap_or(false),
        connect_limit: reader.millis(section, "connect_timeout_ms", FIRST).unwrap_or(CONNECT),
        first_answer: reader.millis(section, "first_answer_ms", FIRST).unwrap_or(FIRST_ANSWER),
        apology: apology.filter(|_| text_to_speech.is_some()).unwrap_or_default(),
        turn,
        speech_to_text,
        text_to_speech,
    })
}

fn format(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<RemoteFormat> {
    let is_mulaw = reader.one_of(section, "format", &[("pcm", false), ("mulaw", true)]).unwrap_or(false);
    let rate = section.get("rate").map(|value| {
        let hz = reader.whole(section, "rate", 1..=1_000_000);
        (value, hz.and_then(|hz| u32::try_from(hz).ok()).and_then(SampleRate::from_hz))
    });
    match (is_mulaw, rate) {
        (true, None | Some((_, Some(SampleRate::Hz8000)))) => Some(RemoteFormat::Mulaw),
        (false, None) => Some(RemoteFormat::Pcm(SampleRate::Hz16000)),
        (false, Some((_, Some(rate @ (SampleRate::Hz8000 | SampleRate::Hz16000))))) => Some(RemoteFormat::Pcm(rate)),
        (true, Some((value, _))) => {
            reader.mistake(value.span(), "mu-law has a rate of 8000; leave rate out");
            None
        }
        (false, Some((value, _))) => {
            reader.mistake(value.span(), "rate must be 16000 or 8000: what a telephone line holds");
            None
        }
    }
}
