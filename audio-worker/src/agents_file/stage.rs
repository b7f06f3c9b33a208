//! The stages of a conversation in an agents file: who does the work, where, and by which key.

use telemetry::Sensitive;
use url::{Host, Url};

use super::{
    fallback::backed,
    family::{self, Service},
    listening,
    reader::{Reader, Section},
    settings::{DefaultKey, Defaults, FIRST, Hearing, Provider, StageSettings, Thinking, WHOLE, ms},
};
use crate::{
    agent::Stage,
    provider::{Limits, google},
};

/// Longest name of a model or a voice, in characters.
pub(super) const MAX_NAME_CHARS: usize = 200;

/// Longest hint for a recogniser or a voice, in characters.
pub(super) const MAX_HINT_CHARS: usize = 4000;

/// Keys that all stages have.
macro_rules! stage_keys {
    ($($own:literal),*) => {
        &["provider", "url", "model", "key", "key_file", "timeout_first_ms", "timeout_ms" $(, $own)*]
    };
}

const EVERY: &[&str] = stage_keys![];

pub(super) const SPEECH_TO_TEXT_KEYS: &[&str] = stage_keys![
    "prompt",
    "temperature",
    "streaming",
    "endpoint",
    "endpointing_ms",
    "utterance_end_ms",
    "finalize_wait_ms",
    "keyterms"
];
pub(super) const CHAT_KEYS: &[&str] = stage_keys!["temperature", "top_p", "max_tokens"];
pub(super) const TEXT_TO_SPEECH_KEYS: &[&str] = stage_keys![
    "voice",
    "format",
    "rate",
    "speed",
    "instructions",
    "stability",
    "similarity_boost",
    "style",
    "word_times",
    "streaming"
];

/// Reads the table `speech_to_text`.
pub(super) fn speech_to_text(
    reader: &mut Reader<'_>,
    agent: &Section<'_>,
    defaults: &Defaults,
) -> Option<StageSettings<Hearing>> {
    backed(reader, agent, ("speech_to_text", SPEECH_TO_TEXT_KEYS), |reader, section| hearing(reader, section, defaults))
}

fn hearing(reader: &mut Reader<'_>, section: Section<'_>, defaults: &Defaults) -> Option<StageSettings<Hearing>> {
    let usual = (Stage::SpeechToText, defaults.speech_to_text);
    let (provider, section) = provided(reader, section, usual, SPEECH_TO_TEXT_KEYS)?;
    let options = Hearing {
        prompt: reader.string(&section, "prompt", MAX_HINT_CHARS, false),
        temperature: reader.decimal(&section, "temperature", 0.0..=1.0),
        listens: reader.flag(&section, "streaming").unwrap_or(true),
        live: listening::live(reader, &section, provider),
        streaming: listening::streaming(reader, &section, provider),
    };
    stage(reader, &section, (Stage::SpeechToText, provider), defaults, options)
}

/// Reads the table `chat`.
pub(super) fn chat(
    reader: &mut Reader<'_>,
    agent: &Section<'_>,
    defaults: &Defaults,
) -> Option<StageSettings<Thinking>> {
    backed(reader, agent, ("chat", CHAT_KEYS), |reader, section| thinking(reader, section, defaults))
}

fn thinking(reader: &mut Reader<'_>, section: Section<'_>, defaults: &Defaults) -> Option<StageSettings<Thinking>> {
    let (provider, section) = provided(reader, section, (Stage::Chat, defaults.chat), CHAT_KEYS)?;
    let options = Thinking {
        temperature: reader.decimal(&section, "temperature", 0.0..=2.0),
        top_p: reader.decimal(&section, "top_p", 0.0..=1.0),
        max_tokens: reader.whole(&section, "max_tokens", 1..=100_000).and_then(|tokens| u32::try_from(tokens).ok()),
    };
    stage(reader, &section, (Stage::Chat, provider), defaults, options)
}

/// Who serves a stage, and what the file says to it; `usual` is for a file that names nobody. What the defaults say to
/// one family is nothing to another.
pub(super) fn provided<'t>(
    reader: &mut Reader<'_>,
    section: Section<'t>,
    (stage, usual): (Stage, Provider),
    keys: &[&str],
) -> Option<(Provider, Section<'t>)> {
    let named =
        |value: &super::reader::Value<'_>| family::provider(value.get_ref().as_str().unwrap_or_default(), stage);
    let of_defaults = section.of_defaults("provider").map_or(Ok(usual), named);
    let provider = match section.get("provider").map(|value| (value, named(value))) {
        None => usual,
        Some((_, Ok(provider))) => provider,
        Some((value, Err(what))) => {
            reader.mistake(value.span(), format!("provider {what}"));
            return None;
        }
    };
    let section = if of_defaults == Ok(provider) { section } else { section.alone() };
    let options = provider.family().service(stage)?.options;
    for key in keys.iter().filter(|key| !EVERY.contains(key) && !options.contains(key)) {
        if let Some(value) = section.get(key) {
            let (name, stage) = (provider.name(), stage.label());
            reader.mistake(
                value.span(),
                format!("{name} knows no {key}; its keys for {stage} are {}", options.join(", ")),
            );
        }
    }
    Some((provider, section))
}

/// What all stages have.
pub(super) fn stage<O>(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    (stage, provider): (Stage, Provider),
    defaults: &Defaults,
    options: O,
) -> Option<StageSettings<O>> {
    let name = stage.label();
    let service = provider.family().service(stage)?;
    let place = service.place(provider, defaults);
    let url = match section.get("url") {
        Some(value) => match address(value.get_ref().as_str().unwrap_or_default()) {
            Ok(url) => url,
            Err(what) => {
                reader.mistake(value.span(), format!("url {what}"));
                return None;
            }
        },
        None => place.clone(),
    };
    let is_default_place = url.origin() == place.origin();
    let model = reader.string(section, "model", MAX_NAME_CHARS, false);
    let needs_model = service.has_models_of_its_own && !is_public(service, &url);
    if model.is_none() && section.get("model").is_none() && needs_model {
        let place = section.get("url").map_or_else(|| section.place.clone(), |value| value.span());
        reader.mistake(place, format!("{name} needs a model: the name that the server at its url has for it"));
    }
    let limits = limits(reader, section);
    let key = match key(reader, section, "key", "key_file") {
        Named::Found(key) => Some(key),
        Named::Wrong => None,
        Named::Nothing => match defaults.keys.get(&provider).filter(|_| is_default_place) {
            Some(key) => default_key(reader, section, key),
            None => {
                if is_public(service, &url) {
                    needs_key(reader, section, name, provider, &url);
                }
                None
            }
        },
    };
    if let (Provider::Google, Some(key)) = (provider, &key)
        && let Err(wrong) = google::check_key(key.expose())
    {
        let place = section.get("key_file").or_else(|| section.get("key"));
        reader.mistake(place.map_or_else(|| section.place.clone(), |value| value.span()), wrong.to_string());
    }
    let model = model.unwrap_or_else(|| service.model.to_owned());
    Some(StageSettings { provider, url, model, key, limits, options, fallback: None })
}

/// What the key is that no agents file names.
pub(super) fn default_key(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &DefaultKey,
) -> Option<Sensitive<String>> {
    match key {
        DefaultKey::Value(key) => Some(key.clone()),
        DefaultKey::File(variable, path) => match reader.secrets.file(path) {
            Ok(key) => Some(key),
            Err(what) => {
                reader.mistake(section.place.clone(), format!("the file that {variable} names {what}"));
                None
            }
        },
    }
}

/// Says that there is no key.
pub(super) fn needs_key(reader: &mut Reader<'_>, section: &Section<'_>, stage: &str, provider: Provider, url: &Url) {
    let place = section.get("url").map_or_else(|| section.place.clone(), |value| value.span());
    let (variable, host) = (provider.key_variable(), url.host_str().unwrap_or_default());
    let what =
        format!("{stage} needs a key for {host}: set {variable}, or name a variable with key or a file with key_file");
    reader.mistake(place, what);
}

/// An address that audio, words and keys may be sent to.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the address's setting.
pub fn address(text: &str) -> Result<Url, &'static str> {
    let url: Url = text.parse().map_err(|_| "must be an address such as https://api.openai.com/v1")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password; name a key instead");
    }
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => Ok(url),
        ("http", Some(host)) if is_private(&host) => Ok(url),
        _ => Err("must begin with https:// (http:// only on this machine or a private network)"),
    }
}

/// True where nobody is served without a key.
fn is_public(service: &Service, url: &Url) -> bool {
    url.host_str().map(|host| host.trim_end_matches('.')) == service.public_place().host_str()
}

/// True at OpenAI itself, where nobody is served without a key.
pub(super) fn is_openai(url: &Url) -> bool {
    Provider::OpenAi.family().service(Stage::Chat).is_some_and(|service| is_public(service, url))
}

/// A host that no public network leads to.
fn is_private(host: &Host<&str>) -> bool {
    match host {
        // A name without a dot is of this machine or of its own network, such as a container's; the others are set aside
        // by RFC 6761, RFC 6762, RFC 8375, by ICANN for private use, and by Kubernetes.
        Host::Domain(name) => {
            let endings = [".localhost", ".local", ".home.arpa", ".internal", ".svc"];
            !name.contains('.') || endings.iter().any(|ending| name.ends_with(ending))
        }
        Host::Ipv4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        Host::Ipv6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

fn limits(reader: &mut Reader<'_>, section: &Section<'_>) -> Limits {
    let usual = Limits::default();
    let whole = reader.millis(section, "timeout_ms", WHOLE).unwrap_or(usual.whole);
    let first = reader.millis(section, "timeout_first_ms", FIRST);
    if let (Some(first), Some(value)) = (first, section.get("timeout_first_ms"))
        && first > whole
    {
        let what = format!("timeout_first_ms must be at most timeout_ms, which is {}", ms(whole));
        reader.mistake(value.span(), what);
    }
    Limits { first: first.unwrap_or(usual.first).min(whole), whole }
}

/// What became of the key that a table names.
pub(super) enum Named {
    /// It names none.
    Nothing,
    /// It is not to be had; that was told.
    Wrong,
    /// Here it is.
    Found(Sensitive<String>),
}

/// What the variable named at `key`, or the file named at `file`, holds. A default that stands beside another address is
/// not taken: it would be shown to whoever is there.
pub(super) fn key(reader: &mut Reader<'_>, section: &Section<'_>, key: &str, file: &str) -> Named {
    let has_own = ["url", key, file].iter().any(|name| section.own(name).is_some());
    let pick = |name| if has_own { section.own(name) } else { section.get(name) };
    let (place, found) = match (pick(key), pick(file)) {
        (None, None) => return Named::Nothing,
        (Some(_), Some(second)) => (second.span(), Err(format!("give either {key} or {file}, not both"))),
        (Some(named), None) => {
            let found = match named.get_ref().as_str().filter(|name| is_variable(name)) {
                Some(name) => reader.secrets.variable(name).ok_or("names an environment variable that is not set"),
                None => {
                    Err("must be the name of an environment variable, in capital letters, that holds the key; the key \
                             itself must not stand in this file")
                }
            };
            (named.span(), found.map_err(|what| format!("{key} {what}")))
        }
        (None, Some(named)) => {
            let path = named.get_ref().as_str().filter(|path| path.starts_with('/'));
            let path = path.ok_or_else(|| "must be a whole path, such as /run/secrets/openai".to_owned());
            let found = path.and_then(|path| reader.secrets.file(path));
            (named.span(), found.map_err(|what| format!("{file} {what}")))
        }
    };
    match found {
        Ok(found) => Named::Found(found),
        Err(what) => {
            reader.mistake(place, what);
            Named::Wrong
        }
    }
}

/// Keys have small letters or dashes in them; names of variables, as people write them, have neither.
pub(super) fn is_variable(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}
