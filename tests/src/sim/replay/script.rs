//! Pure: what the captured caller does next, and what it waits for.

use std::{collections::VecDeque, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Value, json};

use super::{CallerDid, GatewaySaid, Line, Sound, Tape, Transcript};
use crate::sim::{Identity, Said, bundled_speech, encode_mulaw, judge, speech::SILENCE};

/// Where nothing has to be waited for, a fast replay goes so many times as fast as the call did: the worker must keep up.
const HASTE: u32 = 10;

/// Longest pause of a fast replay.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Samples that the gateway may owe before a word of the caller: a frame is under way.
const OWED_SAMPLES: usize = 160;

/// Longest malformed or binary message that is made up.
const MAX_MADE_UP: usize = 1 << 20;

/// How fast a capture is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Pace {
    /// As it was.
    RealTime,
    /// As fast as the gateway answers: each message waits for what came before it in the capture.
    Fast,
}

/// What the caller says where the capture has no sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Fill {
    /// Nothing.
    Silence,
    /// The bundled speech, then nothing.
    Speech,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Text(String),
    Binary(usize),
    Ping,
    Close(u16),
    /// Breaks the protocol.
    Violate,
    /// Lets the connection go.
    Vanish,
    Nothing,
}

/// The caller's side of a capture.
#[derive(Debug)]
pub(super) struct Script {
    steps: VecDeque<Planned>,
    identity: Identity,
    /// What the TwiML of the new call gave.
    parameters: Vec<(String, String)>,
    speech: Vec<u8>,
    /// Samples that were made up.
    position: usize,
    /// When the last step was carried out, in the capture and now.
    last: (Duration, Duration),
    now: Transcript,
    marks: Vec<String>,
    vanished: bool,
}

#[derive(Debug)]
struct Planned {
    at: Duration,
    did: CallerDid,
    /// What the gateway had said before.
    marks: usize,
    clears: usize,
    samples: usize,
    closed: bool,
    /// Which of the gateway's marks this one is.
    returns: Option<usize>,
}

impl Script {
    pub(super) fn new(tape: &Tape, identity: Identity, parameters: Vec<(String, String)>, fill: Fill) -> Self {
        let speech = match fill {
            Fill::Silence => Vec::new(),
            Fill::Speech => encode_mulaw(bundled_speech()),
        };
        Self {
            steps: plan(tape),
            identity,
            parameters,
            speech,
            position: 0,
            last: Default::default(),
            now: Transcript::default(),
            marks: Vec::new(),
            vanished: false,
        }
    }

    /// When the next step is due, from the beginning; `Some(None)` while it waits for the gateway, `None` after the last.
    pub(super) fn due(&self, pace: Pace) -> Option<Option<Duration>> {
        let next = self.steps.front()?;
        Some(match pace {
            Pace::RealTime => self.is_possible(next).then_some(next.at),
            Pace::Fast => {
                let pause = (next.at.saturating_sub(self.last.0) / HASTE).min(LONGEST_PAUSE);
                self.is_answered(next).then(|| self.last.1 + pause)
            }
        })
    }

    /// Takes the next step at `now`.
    pub(super) fn next(&mut self, now: Duration) -> Step {
        let Some(planned) = self.steps.pop_front() else { return Step::Nothing };
        self.last = (planned.at, now);
        self.now.hear_caller(&planned.did);
        match planned.did {
            CallerDid::Said(message) => {
                let renamed = planned.returns.and_then(|at| self.marks.get(at)).cloned();
                Step::Text(self.fill_in(message, renamed).to_string())
            }
            CallerDid::Malformed(mut text, bytes) => {
                // What was cut off was no part of a message either.
                let missing = bytes.min(MAX_MADE_UP).saturating_sub(text.len());
                text.extend(std::iter::repeat_n('x', missing));
                Step::Text(text)
            }
            CallerDid::Binary(bytes) => Step::Binary(bytes.min(MAX_MADE_UP)),
            CallerDid::Ping => Step::Ping,
            CallerDid::Pong => Step::Nothing,
            CallerDid::Close(code) => Step::Close(code.unwrap_or(1000)),
            CallerDid::Broken => Step::Violate,
            CallerDid::Lost => {
                self.vanished = true;
                Step::Vanish
            }
        }
    }

    /// Takes a text message of the gateway.
    pub(super) fn hear_text(&mut self, text: &str) {
        self.hear(match judge(text, &self.identity.stream_sid) {
            Ok(Said::Media(mulaw)) => GatewaySaid::Media(Sound::Mulaw(mulaw)),
            Ok(Said::Mark(name)) => GatewaySaid::Mark(name),
            Ok(Said::Clear) => GatewaySaid::Clear,
            Err(why) => GatewaySaid::Other(why.to_string()),
        });
    }

    /// Takes anything else of it.
    pub(super) fn hear(&mut self, said: GatewaySaid) {
        if let GatewaySaid::Mark(name) = &said {
            self.marks.push(name.clone());
        }
        self.now.hear(&said);
    }

    /// True once the caller let the connection go.
    pub(super) fn has_vanished(&self) -> bool {
        self.vanished
    }

    /// What the gateway said.
    pub(super) fn into_transcript(self) -> Transcript {
        self.now
    }

    /// A mark that was not said cannot come back, and the answer to a close frame comes after it.
    fn is_possible(&self, next: &Planned) -> bool {
        let answers_close = matches!(next.did, CallerDid::Close(_)) && next.closed;
        next.returns.is_none_or(|at| at < self.marks.len()) && (!answers_close || self.now.close().is_some())
    }

    fn is_answered(&self, next: &Planned) -> bool {
        let is_media = matches!(&next.did, CallerDid::Said(message) if message["event"] == "media");
        self.is_possible(next)
            && self.marks.len() >= next.marks
            && self.now.clears() >= next.clears
            && (is_media || self.now.samples() + OWED_SAMPLES >= next.samples)
    }

    /// Puts what is this call's own in the place of what was masked.
    fn fill_in(&mut self, mut message: Value, renamed: Option<String>) -> Value {
        if let Some(start) = message.get_mut("start") {
            let own: serde_json::Map<_, _> = self.parameters.iter().map(|(n, v)| (n.clone(), json!(v))).collect();
            start["customParameters"] = Value::Object(own);
        }
        if let Some(payload) = message.get_mut("media").and_then(|media| media.get_mut("payload")) {
            if let Some(characters) = payload["malformed"].as_u64() {
                *payload = json!("!".repeat(usize::try_from(characters).unwrap_or_default().min(MAX_MADE_UP)));
            } else if let Some(Sound::Length(samples)) = Sound::read(payload) {
                *payload = json!(BASE64_STANDARD.encode(self.make_up(samples)));
            }
        }
        if let Some(name) = renamed {
            message["mark"]["name"] = json!(name);
        }
        self.identify(&mut message);
        message
    }

    fn make_up(&mut self, samples: usize) -> Vec<u8> {
        let from = self.position.min(self.speech.len());
        let until = (self.position + samples).min(self.speech.len());
        self.position += samples;
        let mut mulaw = self.speech[from..until].to_vec();
        mulaw.resize(samples, SILENCE);
        mulaw
    }

    fn identify(&self, value: &mut Value) {
        let Value::Object(entries) = value else { return };
        for (name, value) in entries {
            // The first stream of the capture is this one; another stays another.
            let own = match (name.as_str(), value.as_str()) {
                ("accountSid", Some(sid)) if is_first(sid, "AC") => &self.identity.account_sid,
                ("callSid", Some(sid)) if is_first(sid, "CA") => &self.identity.call_sid,
                ("streamSid", Some(sid)) if is_first(sid, "MZ") => &self.identity.stream_sid,
                _ => {
                    self.identify(value);
                    continue;
                }
            };
            *value = json!(own);
        }
    }
}

/// True for the placeholder of the first id of a kind: zeros.
fn is_first(sid: &str, prefix: &str) -> bool {
    sid.strip_prefix(prefix).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte == b'0'))
}

/// The caller's lines, each with what the gateway had said before it.
fn plan(tape: &Tape) -> VecDeque<Planned> {
    let (mut said, mut marks, mut steps) = (Transcript::default(), Vec::new(), VecDeque::new());
    for line in &tape.lines {
        match line {
            Line::Gateway(message) => {
                if let GatewaySaid::Mark(name) = message {
                    marks.push(Some(name.clone()));
                }
                said.hear(message);
            }
            Line::Caller(at, did) => {
                let name = match did {
                    CallerDid::Said(message) => message["mark"]["name"].as_str(),
                    CallerDid::Malformed(..)
                    | CallerDid::Binary(_)
                    | CallerDid::Ping
                    | CallerDid::Pong
                    | CallerDid::Close(_)
                    | CallerDid::Lost
                    | CallerDid::Broken => None,
                };
                // Each mark comes back once.
                let returns = name.and_then(|name| marks.iter().position(|mark| mark.as_deref() == Some(name)));
                if let Some(mark) = returns.and_then(|at| marks.get_mut(at)) {
                    *mark = None;
                }
                steps.push_back(Planned {
                    at: *at,
                    did: did.clone(),
                    marks: marks.len(),
                    clears: said.clears(),
                    samples: said.samples(),
                    closed: said.close().is_some(),
                    returns,
                });
                said.hear_caller(did);
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAPE: &str = r#"{"tandem_capture":1,"audio":false}
{"us":100,"from":"twilio","text":{"event":"start","streamSid":"MZ00000000000000000000000000000000","start":{"accountSid":"AC00000000000000000000000000000000","callSid":"CA00000000000000000000000000000000","streamSid":"MZ00000000000000000000000000000000","customParameters":{"ticket":"<ticket>"}}}}
{"us":20000,"from":"twilio","text":{"event":"media","media":{"payload":{"bytes":3}}}}
{"us":30000,"from":"gateway","text":{"event":"media","media":{"payload":{"bytes":400}}}}
{"us":30000,"from":"gateway","text":{"event":"mark","mark":{"name":"u1:50"}}}
{"us":40000,"from":"twilio","text":{"event":"media","streamSid":"MZ00000000000000000000000000000001","media":{"payload":{"malformed":2}}}}
{"us":90000,"from":"twilio","text":{"event":"mark","mark":{"name":"u1:50"}}}
{"us":90000,"from":"twilio","lost":true}
"#;

    fn script() -> Script {
        let identity = Identity { account_sid: "AC1".into(), call_sid: "CA1".into(), stream_sid: "MZ1".into() };
        let parameters = vec![("ticket".to_owned(), "fresh".to_owned())];
        Script::new(&Tape::read(TAPE).unwrap(), identity, parameters, Fill::Silence)
    }

    fn text(step: Step) -> Value {
        let Step::Text(text) = step else { panic!("{step:?}") };
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_new_call_has_its_own_names_and_the_old_ones_words() {
        let (mut script, now) = (script(), Duration::ZERO);
        let start = text(script.next(now));
        assert_eq!((&start["streamSid"], &start["start"]["callSid"]), (&json!("MZ1"), &json!("CA1")));
        assert_eq!(start["start"]["customParameters"], json!({"ticket": "fresh"}));
        assert_eq!(text(script.next(now))["media"]["payload"], json!("////"));
        let foreign = text(script.next(now));
        assert_eq!(foreign["media"]["payload"], json!("!!"));
        assert_ne!(foreign["streamSid"], json!("MZ1"));
        script.hear_text(r#"{"event":"mark","streamSid":"MZ1","mark":{"name":"other"}}"#);
        assert_eq!(text(script.next(now))["mark"]["name"], json!("other"));
        assert_eq!((script.next(now), script.has_vanished()), (Step::Vanish, true));
        assert_eq!(script.due(Pace::Fast), None);
    }

    #[test]
    fn a_fast_caller_waits_for_the_words_before_its_own_and_a_real_one_for_its_marks() {
        let ms = Duration::from_millis;
        let mut fast = script();
        for _ in 0..2 {
            fast.next(ms(7));
        }
        assert_eq!(fast.due(Pace::Fast), Some(None), "a mark came before");
        assert_eq!(fast.due(Pace::RealTime), Some(Some(ms(40))));
        fast.hear(GatewaySaid::Mark("m".into()));
        assert_eq!(fast.due(Pace::Fast), Some(Some(ms(9))), "a tenth of 20 ms later");
        fast.next(ms(9));
        assert_eq!(fast.due(Pace::Fast), Some(None), "50 ms of sound came before");
        assert_eq!(fast.due(Pace::RealTime), Some(Some(ms(90))));
        fast.hear(GatewaySaid::Media(Sound::Length(240)));
        assert_eq!(fast.due(Pace::Fast), Some(Some(ms(14))));
    }
}
