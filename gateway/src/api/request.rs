//! What the calls API is asked for: JSON and queries in, checked values out.

use std::collections::BTreeMap;

use http::HeaderMap;
use serde::Deserialize;
use telemetry::Sensitive;

use super::{
    field::{
        self, allow_stream, allow_webhook, check_agent, check_parameters, check_stream, check_webhook, in_range,
        invalid, is_language, is_text, whole_number,
    },
    json::{self, Distinct, Object, Whole},
};
use crate::{
    config::{Config, is_dialable, is_number},
    problem::Problem,
    registry::Which,
    session::Instruction,
    twilio::rest::{DetectionMode, RecordingChannels},
};

/// Longest text to say; the contract's limit.
const MAX_SAY_CHARS: usize = 4000;
/// Most keys to play; the contract's limit.
const MAX_DIGITS: usize = 64;
/// Calls on one page.
const MAX_PAGE: usize = 500;
const DEFAULT_PAGE: usize = 50;
/// Longest time limit that can be asked for, in seconds; the longest that can be set for all.
const DAY_S: u64 = 86_400;
/// Longest idempotency key.
const MAX_KEY_CHARS: usize = 255;

/// A call to be placed.
#[derive(Debug, Clone)]
pub(crate) struct NewCall {
    pub(crate) to: Sensitive<String>,
    pub(crate) from: Sensitive<String>,
    pub(crate) agent: String,
    pub(crate) language: String,
    pub(crate) parameters: Sensitive<BTreeMap<String, String>>,
    pub(crate) answering_machine: Option<(DetectionMode, Option<u16>)>,
    pub(crate) recording: Option<RecordingChannels>,
    pub(crate) ring_timeout_s: Option<u16>,
    pub(crate) time_limit_s: u32,
    pub(crate) webhook: Option<Sensitive<String>>,
    /// A media stream that is not ours.
    pub(crate) stream_url: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct NewCallBody {
    to: String,
    from: Option<String>,
    agent: Option<String>,
    language: Option<String>,
    parameters: Option<Distinct>,
    answering_machine: Option<Object<AnsweringMachineBody>>,
    recording: Option<RecordingBody>,
    ring_timeout_s: Option<Whole>,
    time_limit_s: Option<Whole>,
    status_webhook: Option<String>,
    websocket_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnsweringMachineBody {
    mode: ModeBody,
    timeout_s: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeBody {
    Detect,
    DetectMessageEnd,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecordingBody {
    Mono,
    Dual,
}

impl NewCall {
    /// Reads the body of `POST /v1/calls`.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8], config: &Config) -> Result<Self, Problem> {
        Self::check(json::read(headers, body)?, config)
    }

    /// Reads the query of `POST /call/outbound`.
    pub(crate) fn read_query(query: &str, config: &Config) -> Result<Self, Problem> {
        let names = ["to_number", "from_number", "websocket_url", "agent", "language"];
        let [to, from, websocket_url, agent, language] = field::of_query(query, names)?;
        let to = to.filter(|to| !to.is_empty());
        let to = to.ok_or_else(|| invalid("to_number", "is missing: the number to call, in E.164 form"))?;
        let (to, from) = (plus(to), from.map(plus));
        let websocket_url = websocket_url.filter(|url| !url.is_empty());
        let body = NewCallBody { to, from, websocket_url, agent, language, ..NewCallBody::default() };
        Self::check(body, config).map_err(|mut problem| {
            if let Problem::Invalid { field, .. } = &mut problem {
                *field = match *field {
                    "to" => "to_number",
                    "from" => "from_number",
                    other => other,
                };
            }
            problem
        })
    }

    fn check(body: NewCallBody, config: &Config) -> Result<Self, Problem> {
        if !is_number(&body.to) {
            return Err(invalid("to", "must be a number in E.164 form, such as +15550100123"));
        }
        let from = match (body.from, &config.phone_number) {
            (Some(from), _) => Sensitive::new(from),
            (None, Some(ours)) => ours.clone(),
            (None, None) => return Err(invalid("from", "is missing, and TWILIO_PHONE_NUMBER is not set")),
        };
        if !is_number(from.expose()) {
            return Err(invalid("from", "must be a number of your account in E.164 form"));
        }
        let (agent, language) = talker(body.agent, body.language, config)?;
        let longest = config.max_call.as_secs();
        let time_limit_s = in_range("time_limit_s", body.time_limit_s, 1, DAY_S)?.unwrap_or(longest).min(longest);
        let ring_timeout_s = in_range("ring_timeout_s", body.ring_timeout_s, 5, 600)?;
        let answering_machine = match body.answering_machine {
            None => None,
            Some(Object(AnsweringMachineBody { mode, timeout_s })) => {
                let timeout = in_range("answering_machine.timeout_s", timeout_s, 3, 59)?;
                let mode = match mode {
                    ModeBody::Detect => DetectionMode::Enable,
                    ModeBody::DetectMessageEnd => DetectionMode::DetectMessageEnd,
                };
                Some((mode, timeout.and_then(|s| u16::try_from(s).ok())))
            }
        };
        let parameters = check_parameters(body.parameters.unwrap_or_default().0)?;
        body.status_webhook.as_deref().map_or(Ok(()), check_webhook)?;
        body.websocket_url.as_deref().map_or(Ok(()), |url| check_stream(url, config))?;
        // What is wrong is said before what is not allowed.
        if !config.outbound.allows(&body.to) {
            return Err(Problem::Destination);
        }
        Ok(Self {
            to: body.to.into(),
            from,
            agent,
            language,
            parameters: parameters.into(),
            answering_machine,
            recording: body.recording.map(|recording| match recording {
                RecordingBody::Mono => RecordingChannels::Mono,
                RecordingBody::Dual => RecordingChannels::Dual,
            }),
            ring_timeout_s: ring_timeout_s.and_then(|s| u16::try_from(s).ok()),
            time_limit_s: u32::try_from(time_limit_s).unwrap_or(u32::MAX),
            webhook: body.status_webhook.map(|url| allow_webhook(url, config)).transpose()?,
            stream_url: body.websocket_url.map(|url| allow_stream(&url, config)).transpose()?.flatten(),
        })
    }
}

/// A call from a browser.
#[derive(Debug)]
pub(crate) struct NewBrowserCall {
    pub(crate) agent: String,
    pub(crate) language: String,
    pub(crate) parameters: Sensitive<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBrowserCallBody {
    agent: Option<String>,
    language: Option<String>,
    parameters: Option<Distinct>,
}

impl NewBrowserCall {
    /// Reads the body of `POST /v1/browser-calls`.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8], config: &Config) -> Result<Self, Problem> {
        let NewBrowserCallBody { agent, language, parameters } = json::read(headers, body)?;
        let (agent, language) = talker(agent, language, config)?;
        let parameters = check_parameters(parameters.unwrap_or_default().0)?.into();
        Ok(Self { agent, language, parameters })
    }
}

/// Who talks to whoever is called, and in which language.
fn talker(agent: Option<String>, language: Option<String>, config: &Config) -> Result<(String, String), Problem> {
    let agent = agent.unwrap_or_else(|| config.default_agent.clone());
    check_agent(&agent)?;
    let language = language.unwrap_or_default();
    if !is_language(&language) {
        return Err(invalid("language", "must be a BCP 47 tag, such as en or ja-JP"));
    }
    Ok((agent, language))
}

/// What a call is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Instruct(Instruction),
    Transfer(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ChangeBody {
    Say(String),
    PlayDigits(String),
    Agent(String),
    Transfer(String),
    Hold(bool),
}

impl Change {
    /// Reads the body of `PATCH /v1/calls/{id}`: exactly one thing.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8], config: &Config) -> Result<Self, Problem> {
        let body = json::read(headers, body).map_err(|problem| {
            if let Problem::Body(what) = problem {
                Problem::Body(format!("{what}; it must be one of say, play_digits, agent, transfer and hold").into())
            } else {
                problem
            }
        })?;
        Ok(match body {
            ChangeBody::Say(text) => {
                let is_good = (1..=MAX_SAY_CHARS).contains(&text.chars().count()) && is_text(&text);
                if !is_good {
                    return Err(invalid("say", "must be 1 to 4000 characters without control characters"));
                }
                Self::Instruct(Instruction::Say(text))
            }
            ChangeBody::PlayDigits(digits) => {
                let is_key = |c: char| c.is_ascii_digit() || "*#ABCDwW".contains(c);
                if !(1..=MAX_DIGITS).contains(&digits.len()) || !digits.chars().all(is_key) {
                    return Err(invalid(
                        "play_digits",
                        "must be 1 to 64 of 0-9, *, #, A-D, w (half a second of pause) and W (a second)",
                    ));
                }
                Self::Instruct(Instruction::PlayDigits(digits))
            }
            ChangeBody::Agent(agent) => {
                check_agent(&agent)?;
                Self::Instruct(Instruction::ChangeAgent(agent))
            }
            ChangeBody::Transfer(to) => {
                if !is_dialable(&to) {
                    return Err(invalid("transfer", "must be a number in E.164 form or a sip: address"));
                }
                if is_number(&to) && !config.outbound.allows(&to) {
                    return Err(Problem::Destination);
                }
                Self::Transfer(to)
            }
            ChangeBody::Hold(hold) => Self::Instruct(if hold { Instruction::Hold } else { Instruction::Resume }),
        })
    }
}

/// Which page of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) which: Which,
    pub(crate) limit: usize,
    pub(crate) before: Option<u64>,
}

impl Page {
    /// Reads the query of `GET /v1/calls`.
    pub(crate) fn read(query: &str) -> Result<Self, Problem> {
        let [state, limit, cursor] = field::of_query(query, ["state", "limit", "cursor"])?;
        let which = match state.as_deref() {
            None | Some("all") => Which::All,
            Some("live") => Which::Live,
            Some("ended") => Which::Ended,
            Some(_) => return Err(invalid("state", "must be all, live or ended")),
        };
        let limit = match limit {
            None => DEFAULT_PAGE,
            Some(limit) => whole_number(&limit)
                .and_then(|limit| usize::try_from(limit).ok())
                .filter(|limit| (1..=MAX_PAGE).contains(limit))
                .ok_or_else(|| invalid("limit", "must be a whole number from 1 to 500"))?,
        };
        let before = match cursor {
            None => None,
            Some(cursor) => {
                Some(whole_number(&cursor).ok_or_else(|| invalid("cursor", "must be the next_cursor of a page"))?)
            }
        };
        Ok(Self { which, limit, before })
    }
}

/// A number of a query in which `+` stood for itself, as in the documented `to_number=+1555…`; forms read it as a space.
fn plus(number: String) -> String {
    match number.strip_prefix(' ') {
        Some(digits) => format!("+{digits}"),
        None => number,
    }
}

/// The idempotency key of a request, where it has one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().map(str::trim);
    let is_good =
        |key: &&str| (1..=MAX_KEY_CHARS).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    key.filter(is_good)
        .map(|key| Some(key.to_owned()))
        .ok_or_else(|| invalid("Idempotency-Key", "must be 1 to 255 visible ASCII characters, without spaces"))
}

#[cfg(test)]
mod tests;
