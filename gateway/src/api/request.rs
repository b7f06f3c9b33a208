//! What the calls API is asked for: JSON and queries in, checked values out.

use std::collections::BTreeMap;

use http::{HeaderMap, header};
use serde::{Deserialize, de::DeserializeOwned};
use telemetry::Sensitive;
use url::{Url, form_urlencoded};

use crate::{
    config::{Config, is_dialable, is_number},
    problem::Problem,
    registry::Which,
    routes::{MAX_PARAMETERS, RESERVED_NAMES},
    session::Instruction,
    twilio::{
        rest::{DetectionMode, RecordingChannels},
        twiml::PARAMETER_CHARS,
    },
};

/// Longest text to say; the contract's limit.
const MAX_SAY_CHARS: usize = 4000;
/// Most keys to play; the contract's limit.
const MAX_DIGITS: usize = 64;
/// Calls on one page.
const MAX_PAGE: usize = 500;
const DEFAULT_PAGE: usize = 50;
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
    parameters: Option<BTreeMap<String, String>>,
    answering_machine: Option<AnsweringMachineBody>,
    recording: Option<RecordingBody>,
    ring_timeout_s: Option<u64>,
    time_limit_s: Option<u64>,
    status_webhook: Option<String>,
    websocket_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnsweringMachineBody {
    mode: ModeBody,
    timeout_s: Option<u64>,
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
        Self::check(json(headers, body)?, config)
    }

    /// Reads the query of `POST /call/outbound`.
    pub(crate) fn read_query(query: &str, config: &Config) -> Result<Self, Problem> {
        let mut body = NewCallBody::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
            match name.as_str() {
                "to_number" => body.to = value,
                "from_number" => body.from = Some(value),
                "websocket_url" => body.websocket_url = Some(value).filter(|url| !url.is_empty()),
                "agent" => body.agent = Some(value),
                "language" => body.language = Some(value),
                // Whatever else a client adds changes nothing.
                _ => {}
            }
        }
        if body.to.is_empty() {
            return Err(invalid("to_number", "is missing: the number to call, in E.164 form (a + is %2B in a query)"));
        }
        Self::check(body, config)
    }

    fn check(body: NewCallBody, config: &Config) -> Result<Self, Problem> {
        if !is_number(&body.to) {
            return Err(invalid("to", "must be a number in E.164 form, such as +15550100123"));
        }
        if !config.outbound.allows(&body.to) {
            return Err(Problem::Destination);
        }
        let from = match (body.from, &config.phone_number) {
            (Some(from), _) => Sensitive::new(from),
            (None, Some(ours)) => ours.clone(),
            (None, None) => return Err(invalid("from", "is missing, and TWILIO_PHONE_NUMBER is not set")),
        };
        if !is_number(from.expose()) {
            return Err(invalid("from", "must be a number of your account in E.164 form"));
        }
        let agent = body.agent.unwrap_or_else(|| config.default_agent.clone());
        check_agent(&agent)?;
        let language = body.language.unwrap_or_default();
        if !is_language(&language) {
            return Err(invalid("language", "must be a BCP 47 tag, such as en or ja-JP"));
        }
        let longest = config.max_call.as_secs().min(86_400);
        let time_limit_s = in_range("time_limit_s", body.time_limit_s, 1, longest)?.unwrap_or(longest);
        let ring_timeout_s = in_range("ring_timeout_s", body.ring_timeout_s, 5, 600)?;
        let answering_machine = match body.answering_machine {
            None => None,
            Some(AnsweringMachineBody { mode, timeout_s }) => {
                let timeout = in_range("answering_machine.timeout_s", timeout_s, 3, 59)?;
                let mode = match mode {
                    ModeBody::Detect => DetectionMode::Enable,
                    ModeBody::DetectMessageEnd => DetectionMode::DetectMessageEnd,
                };
                Some((mode, timeout.and_then(|s| u16::try_from(s).ok())))
            }
        };
        Ok(Self {
            to: body.to.into(),
            from,
            agent,
            language,
            parameters: check_parameters(body.parameters.unwrap_or_default())?.into(),
            answering_machine,
            recording: body.recording.map(|recording| match recording {
                RecordingBody::Mono => RecordingChannels::Mono,
                RecordingBody::Dual => RecordingChannels::Dual,
            }),
            ring_timeout_s: ring_timeout_s.and_then(|s| u16::try_from(s).ok()),
            time_limit_s: u32::try_from(time_limit_s).unwrap_or(u32::MAX),
            webhook: body.status_webhook.map(|url| check_webhook(url, config)).transpose()?,
            stream_url: body.websocket_url.map(|url| check_stream(&url, config)).transpose()?.flatten(),
        })
    }
}

/// What a call is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Instruct(Instruction),
    Transfer(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    say: Option<String>,
    play_digits: Option<String>,
    agent: Option<String>,
    transfer: Option<String>,
    hold: Option<bool>,
}

impl Change {
    /// Reads the body of `PATCH /v1/calls/{id}`: exactly one thing.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8], config: &Config) -> Result<Self, Problem> {
        Ok(match json(headers, body)? {
            ChangeBody { say: Some(text), play_digits: None, agent: None, transfer: None, hold: None } => {
                let is_good = (1..=MAX_SAY_CHARS).contains(&text.chars().count()) && is_text(&text);
                if !is_good {
                    return Err(invalid("say", "must be 1 to 4000 characters without control characters"));
                }
                Self::Instruct(Instruction::Say(text))
            }
            ChangeBody { say: None, play_digits: Some(digits), agent: None, transfer: None, hold: None } => {
                let is_key = |c: char| c.is_ascii_digit() || "*#ABCDwW".contains(c);
                if !(1..=MAX_DIGITS).contains(&digits.len()) || !digits.chars().all(is_key) {
                    return Err(invalid(
                        "play_digits",
                        "must be 1 to 64 of 0-9, *, #, A-D, w (half a second of pause) and W (a second)",
                    ));
                }
                Self::Instruct(Instruction::PlayDigits(digits))
            }
            ChangeBody { say: None, play_digits: None, agent: Some(agent), transfer: None, hold: None } => {
                check_agent(&agent)?;
                Self::Instruct(Instruction::ChangeAgent(agent))
            }
            ChangeBody { say: None, play_digits: None, agent: None, transfer: Some(to), hold: None } => {
                if !is_dialable(&to) {
                    return Err(invalid("transfer", "must be a number in E.164 form or a sip: address"));
                }
                if is_number(&to) && !config.outbound.allows(&to) {
                    return Err(Problem::Destination);
                }
                Self::Transfer(to)
            }
            ChangeBody { say: None, play_digits: None, agent: None, transfer: None, hold: Some(hold) } => {
                Self::Instruct(if hold { Instruction::Hold } else { Instruction::Resume })
            }
            ChangeBody { .. } => {
                return Err(Problem::Body(
                    "exactly one of say, play_digits, agent, transfer and hold must be there".into(),
                ));
            }
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
        let mut page = Self { which: Which::All, limit: DEFAULT_PAGE, before: None };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "state" => {
                    page.which = match value.as_ref() {
                        "all" => Which::All,
                        "live" => Which::Live,
                        "ended" => Which::Ended,
                        _ => return Err(invalid("state", "must be all, live or ended")),
                    }
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                    page.limit = limit.ok_or_else(|| invalid("limit", "must be a whole number from 1 to 500"))?;
                }
                "cursor" => {
                    let before = value.parse().map_err(|_| invalid("cursor", "must be the next_cursor of a page"))?;
                    page.before = Some(before);
                }
                _ => {}
            }
        }
        Ok(page)
    }
}

/// The idempotency key of a request, where it has one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().map(str::trim);
    let is_good = |key: &&str| (1..=MAX_KEY_CHARS).contains(&key.len());
    key.filter(is_good)
        .map(|key| Some(key.to_owned()))
        .ok_or_else(|| invalid("Idempotency-Key", "must be 1 to 255 visible characters"))
}

fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::MediaType);
    }
    serde_json::from_slice(body).map_err(|error| Problem::Body(error.to_string().into()))
}

fn check_agent(agent: &str) -> Result<(), Problem> {
    let is_good = (1..=64).contains(&agent.len())
        && agent.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if is_good { Ok(()) } else { Err(invalid("agent", "must be 1 to 64 letters, digits, dots, dashes, underscores")) }
}

fn check_parameters(parameters: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    if parameters.len() > MAX_PARAMETERS {
        return Err(invalid("parameters", "must be at most 32"));
    }
    for (name, value) in &parameters {
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !is_name {
            return Err(invalid("parameters", "names must be 1 to 64 letters, digits, dots, dashes, underscores"));
        }
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(invalid("parameters", "ticket, from, to, direction, agent and language are taken"));
        }
        if name.len() + value.chars().count() > PARAMETER_CHARS || !is_text(value) {
            return Err(invalid(
                "parameters",
                "name and value together must be below 500 characters, without control characters",
            ));
        }
    }
    Ok(parameters)
}

/// No control characters: XML 1.0 cannot carry them.
fn is_text(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

/// The subset of BCP 47 (RFC 5646) that is used for speech: language, and subtags of letters and digits.
fn is_language(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    tag.is_empty()
        || tag.len() <= 35
            && (2..=3).contains(&language.len())
            && language.bytes().all(|byte| byte.is_ascii_alphabetic())
            && parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn check_webhook(url: String, config: &Config) -> Result<Sensitive<String>, Problem> {
    match config.events.allowed(&url) {
        Ok(()) => Ok(url.into()),
        Err(what) => Err(invalid("status_webhook", what)),
    }
}

/// `None` for our own stream.
fn check_stream(text: &str, config: &Config) -> Result<Option<String>, Problem> {
    let url: Url = text.parse().map_err(|_| invalid("websocket_url", "must be an address such as wss://host/path"))?;
    if url.scheme() != "wss" || text.len() > 2000 || !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("websocket_url", "must begin with wss:// and carry no user name"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("websocket_url", "must have no query: Twilio drops it"));
    }
    let ours = ["/voice/stream", "/ws"].map(|path| config.origin.websocket(path));
    if ours.iter().any(|ours| ours == text) {
        return Ok(None);
    }
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    if !config.outbound.stream_hosts.contains(&host) {
        return Err(Problem::StreamHost);
    }
    Ok(Some(url.into()))
}

fn in_range(field: &'static str, value: Option<u64>, least: u64, most: u64) -> Result<Option<u64>, Problem> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(Problem::Invalid { field, what: format!("must be a whole number from {least} to {most}").into() })
        }
        value => Ok(value),
    }
}

fn invalid(field: &'static str, what: &'static str) -> Problem {
    Problem::Invalid { field, what: what.into() }
}

#[cfg(test)]
mod tests;
