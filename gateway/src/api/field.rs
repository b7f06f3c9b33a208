//! What one field of a request may hold.

use std::{borrow::Cow, collections::BTreeMap};

use telemetry::Sensitive;
use url::{Url, form_urlencoded};

use super::json::Whole;
use crate::{
    config::Config,
    problem::Problem,
    routes::{MAX_PARAMETERS, RESERVED_NAMES},
    twilio::twiml::PARAMETER_CHARS,
};

/// Longest address of a media stream; Twilio's limit for a URL is 4000 characters with everything in it.
const MAX_STREAM_URL_BYTES: usize = 2000;
/// Longest address of a webhook, as in the settings.
const MAX_WEBHOOK_BYTES: usize = 2048;

/// Longest name of an agent or a parameter.
const MAX_NAME_BYTES: usize = 64;
/// Longest value of a parameter: with the longest name it fits what TwiML carries.
const MAX_VALUE_CHARS: usize = PARAMETER_CHARS - MAX_NAME_BYTES;

/// The fields of a query that have one of these names, decoded; others change nothing.
///
/// # Errors
/// When one comes twice: nobody can tell which was meant.
pub(super) fn of_query<const N: usize>(query: &str, names: [&'static str; N]) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if let Some((field, known)) = values.iter_mut().zip(names).find(|(_, known)| *known == name)
            && field.replace(value.into_owned()).is_some()
        {
            return Err(invalid(known, "must come only once"));
        }
    }
    Ok(values)
}

/// A whole number in decimal digits and nothing else, below 10^19, the last power of ten in 64 bits.
pub(super) fn whole_number(text: &str) -> Option<u64> {
    let is_good = (1..=19).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_good { text.parse().ok() } else { None }
}

pub(super) fn check_agent(agent: &str) -> Result<(), Problem> {
    if is_name(agent) {
        Ok(())
    } else {
        Err(invalid("agent", "must be 1 to 64 letters, digits, dots, dashes, underscores"))
    }
}

pub(super) fn check_parameters(parameters: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    if parameters.len() > MAX_PARAMETERS {
        return Err(invalid("parameters", "must be at most 32"));
    }
    for (name, value) in &parameters {
        if !is_name(name) {
            return Err(invalid("parameters", "names must be 1 to 64 letters, digits, dots, dashes, underscores"));
        }
        if RESERVED_NAMES.contains(&name.as_str()) {
            return Err(invalid(
                "parameters",
                "ticket, from, to, direction, agent, language and traceparent are taken",
            ));
        }
        if value.chars().count() > MAX_VALUE_CHARS || !is_text(value) {
            return Err(invalid("parameters", "values must be at most 435 characters, without control characters"));
        }
    }
    Ok(parameters)
}

/// No control characters: XML 1.0 cannot carry them.
pub(super) fn is_text(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

/// A BCP 47 tag, or none.
pub(super) fn is_language(tag: &str) -> bool {
    tag.is_empty() || telemetry::language::is_tag(tag)
}

/// Whether it looks like the address of a webhook; [`allow_webhook`] says whether it may be told.
pub(super) fn check_webhook(url: &str) -> Result<(), Problem> {
    let is_address = ["https://", "http://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
    if is_address && url.len() <= MAX_WEBHOOK_BYTES && url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(invalid("status_webhook", "must be an address such as https://example.com/calls, of at most 2048 bytes"))
}

pub(super) fn allow_webhook(url: String, config: &Config) -> Result<Sensitive<String>, Problem> {
    match config.events.allowed(&url) {
        Ok(()) => Ok(url.into()),
        Err(what) => Err(Problem::Webhook(what)),
    }
}

/// Whether it looks like the address of a media stream; [`allow_stream`] says whether calls may go there.
pub(super) fn check_stream(url: &str, config: &Config) -> Result<(), Problem> {
    let rest = url.strip_prefix("wss://").filter(|_| url.len() <= MAX_STREAM_URL_BYTES).unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // Neither a user name, nor what a parser may take for the end of the host.
    let is_authority = |byte| is_of_path(byte) && byte != b'@' && byte != b'\\';
    let is_address = !authority.is_empty() && authority.bytes().all(is_authority) && path.bytes().all(is_of_path);
    if is_address || is_ours(url, config) {
        return Ok(());
    }
    Err(invalid(
        "websocket_url",
        "must be an address such as wss://host/path, without a user name, and without a query: Twilio drops it",
    ))
}

/// `None` for our own stream.
pub(super) fn allow_stream(url: &str, config: &Config) -> Result<Option<String>, Problem> {
    if is_ours(url, config) {
        return Ok(None);
    }
    // What is no host is on no list.
    let url: Url = url.parse().map_err(|_| Problem::StreamHost)?;
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    if config.outbound.stream_hosts.contains(&host) { Ok(Some(url.into())) } else { Err(Problem::StreamHost) }
}

pub(super) fn in_range(
    field: &'static str,
    value: Option<Whole>,
    least: u64,
    most: u64,
) -> Result<Option<u64>, Problem> {
    match value {
        Some(Whole(value)) if !(least..=most).contains(&value) => {
            Err(Problem::Invalid { field, what: format!("must be a whole number from {least} to {most}").into() })
        }
        value => Ok(value.map(|Whole(value)| value)),
    }
}

pub(super) const fn invalid(field: &'static str, what: &'static str) -> Problem {
    Problem::Invalid { field, what: Cow::Borrowed(what) }
}

fn is_ours(url: &str, config: &Config) -> bool {
    ["/voice/stream", "/ws"].iter().any(|path| config.origin.websocket(path) == url)
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

const fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'?' && byte != b'#'
}
