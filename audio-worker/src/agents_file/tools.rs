//! Tools in an agents file: functions of the user's, `[tool.NAME]`, and which tools an agent has.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Map, Value as Json};
use telemetry::Sensitive;
use toml::de::{DeTable, DeValue};

use super::{
    reader::{Reader, Section, Value},
    settings::ToolSettings,
    stage,
};
use crate::{
    agent::tools::{
        address::Address,
        function::{Function, Sends, Shared},
        schema,
    },
    provider::ToolSpec,
};

/// Most functions in a file, and most tools of an agent: models choose badly among many.
const MAX_FUNCTIONS: usize = 1000;
const MAX_TOOLS: usize = 32;

/// Longest name of a tool, in characters: what OpenAI allows.
const MAX_NAME_CHARS: usize = 64;

/// Longest description and filler, in characters.
const MAX_DESCRIPTION_CHARS: usize = 4000;
const MAX_FILLER_CHARS: usize = 500;

/// Longest address and header, in characters.
const MAX_URL_CHARS: usize = 2000;
const MAX_HEADER_CHARS: usize = 4000;

/// Most headers, secrets and parts of the call, and most people to transfer to.
const MAX_LISTED: usize = 32;
const MAX_PEOPLE: usize = 100;

/// How long a function may take, ms: a caller waits.
const LIMIT: std::ops::RangeInclusive<u64> = 100..=60_000;
const USUAL_LIMIT: Duration = Duration::from_secs(5);

/// Tools that the worker has itself.
const BUILT_IN: [&str; 3] = ["hang_up", "transfer", "send_digits"];

/// Headers that say how a request is put together, which is not the file's to say.
const FRAMING: [&str; 7] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te"];

pub(super) const FUNCTION: &[&str] = &[
    "description",
    "url",
    "method",
    "parameters",
    "body",
    "headers",
    "secrets",
    "share",
    "timeout_ms",
    "filler",
    "safe",
];

/// Functions by their names.
pub(super) type Functions = BTreeMap<String, Arc<Function>>;

/// Reads the tables `[tool.NAME]`.
pub(super) fn functions(reader: &mut Reader<'_>, document: &DeTable<'_>) -> Functions {
    let mut functions = Functions::new();
    let Some(value) = document.get("tool") else { return functions };
    let Some(tables) = value.get_ref().as_table().filter(|tables| tables.len() <= MAX_FUNCTIONS) else {
        reader.mistake(value.span(), format!("begin each tool with [tool.NAME]; there may be {MAX_FUNCTIONS}"));
        return functions;
    };
    for (key, value) in tables.iter() {
        let Some(name) = reader.name_of(key.span(), key.get_ref(), "the name of a tool", MAX_NAME_CHARS) else {
            continue;
        };
        reader.part = Some(format!("tool {name}"));
        if BUILT_IN.contains(&name.as_str()) {
            reader.mistake(key.span(), "is a tool that the worker has itself; give this one another name");
        }
        match value.get_ref().as_table() {
            Some(table) => {
                reader.check_keys(table, FUNCTION, "a tool");
                let function = function(reader, &name, &Section::new(table, None, key.span()));
                functions.extend(function.map(|function| (name, Arc::new(function))));
            }
            None => reader.mistake(value.span(), "must be a table that begins with [tool.NAME]"),
        }
    }
    reader.part = None;
    functions
}

/// The tools that an agent lists; every agent with a model may have some.
pub(super) fn tools(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<ToolSettings> {
    let people = people(reader, section);
    let mut tools: Vec<ToolSettings> = Vec::new();
    for value in reader.list(section, "tools", MAX_TOOLS).unwrap_or_default() {
        let name = value.get_ref().as_str().unwrap_or_default();
        let tool = match name {
            "hang_up" => Some(ToolSettings::HangUp),
            "send_digits" => Some(ToolSettings::SendDigits),
            "transfer" => Some(ToolSettings::Transfer(Sensitive::new(people.clone()))),
            name => reader.functions.get(name).cloned().map(ToolSettings::Function),
        };
        match tool {
            Some(ToolSettings::Transfer(people)) if people.expose().is_empty() => {
                reader.mistake(value.span(), "transfer needs to know to whom: transfer_to = { sales = \"+15550100\" }");
            }
            Some(tool) if !tools.contains(&tool) => tools.push(tool),
            Some(_) => reader.mistake(value.span(), "tools names the same tool twice"),
            None => {
                let what = "tools names one that there is not; hang_up, transfer and send_digits are built in, others begin \
                            with [tool.NAME]";
                reader.mistake(value.span(), what);
            }
        }
    }
    tools
}

/// Whom an agent may transfer calls to: a model chooses among names, never numbers.
fn people(reader: &mut Reader<'_>, section: &Section<'_>) -> BTreeMap<String, String> {
    let mut people = BTreeMap::new();
    let Some(value) = section.get("transfer_to") else { return people };
    let Some(table) = value.get_ref().as_table().filter(|table| (1..=MAX_PEOPLE).contains(&table.len())) else {
        let what = format!("transfer_to must be a table of 1 to {MAX_PEOPLE}, such as {{ sales = \"+15550100\" }}");
        reader.mistake(value.span(), what);
        return people;
    };
    for (key, value) in table.iter() {
        let name = reader.name_of(key.span(), key.get_ref(), "a name in transfer_to", MAX_NAME_CHARS);
        match value.get_ref().as_str().filter(|to| is_dialable(to)) {
            Some(to) => people.extend(name.map(|name| (name, to.to_owned()))),
            None => {
                let what = "transfer_to needs a number such as \"+15550100\", or a SIP address such as \
                            \"sip:desk@example.com\"";
                reader.mistake(value.span(), what);
            }
        }
    }
    people
}

/// What the gateway takes for a transfer: a number in E.164 (ITU-T), or a SIP address.
fn is_dialable(to: &str) -> bool {
    let is_number = |number: &str| {
        (7..=15).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0')
    };
    to.strip_prefix('+').is_some_and(is_number)
        || to.strip_prefix("sip:").is_some_and(|address| {
            let is_whole = address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
            is_whole && to.len() <= 255 && address.bytes().all(|byte| byte.is_ascii_graphic())
        })
}

fn function(reader: &mut Reader<'_>, name: &str, section: &Section<'_>) -> Option<Function> {
    let description = reader.string(section, "description", MAX_DESCRIPTION_CHARS, true);
    if section.get("description").is_none() {
        reader.mistake(section.place.clone(), "needs a description: what it does and when to call it, for the model");
    }
    let parameters = parameters(reader, section);
    let url = url(reader, section, parameters.as_ref());
    let methods = [
        ("GET", Method::GET),
        ("POST", Method::POST),
        ("PUT", Method::PUT),
        ("PATCH", Method::PATCH),
        ("DELETE", Method::DELETE),
    ];
    let choices: Vec<_> = methods.iter().map(|(name, method)| (*name, method)).collect();
    let method = reader.one_of(section, "method", &choices).cloned().unwrap_or(Method::GET);
    let sends = [("query", Sends::Query), ("json", Sends::Json), ("form", Sends::Form)];
    let has_body = matches!(method, Method::POST | Method::PUT | Method::PATCH);
    let body = reader.one_of(section, "body", &sends).unwrap_or(if has_body { Sends::Json } else { Sends::Query });
    if let Some(value) = section.get("body").filter(|_| body != Sends::Query && !has_body) {
        reader.mistake(value.span(), "body must be \"query\" for this method, which has no body");
    }
    let headers = headers(reader, section);
    let share = share(reader, section);
    let limit = reader.millis(section, "timeout_ms", LIMIT).unwrap_or(USUAL_LIMIT);
    let filler = reader.text(section, "filler", MAX_FILLER_CHARS, false).filter(|filler| !filler.is_empty());
    let safe = reader.flag(section, "safe").unwrap_or(false);
    let spec = ToolSpec { name: name.to_owned(), description: description?, parameters: parameters? };
    Some(Function { spec, url: url?, method, headers, body, share, limit, filler, safe })
}

/// A JSON Schema, as a table or as JSON in a text.
fn parameters(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Json> {
    let Some(value) = section.get("parameters") else {
        return Some(serde_json::json!({"type": "object", "properties": {}}));
    };
    let schema = match value.get_ref().as_str() {
        Some(text) => serde_json::from_str(text).map_err(|_| "must be a table, or JSON in quotes"),
        None => json(value.get_ref(), schema::MAX_NESTED).ok_or("must be a table of what JSON has, too"),
    };
    let found = schema.map_err(ToOwned::to_owned).and_then(|schema| schema::check(&schema).map(|()| schema));
    match found {
        Ok(schema) => Some(schema),
        Err(what) => {
            reader.mistake(value.span(), format!("parameters {what}"));
            None
        }
    }
}

fn json(value: &DeValue<'_>, depth: usize) -> Option<Json> {
    let depth = depth.checked_sub(1)?;
    Some(match value {
        DeValue::String(text) => Json::String(text.as_ref().to_owned()),
        DeValue::Integer(number) => {
            let number = if number.radix() == 10 { number.as_str().parse::<i64>().ok() } else { None };
            Json::from(number?)
        }
        DeValue::Float(number) => Json::from(number.as_str().parse::<f64>().ok().filter(|number| number.is_finite())?),
        DeValue::Boolean(flag) => Json::Bool(*flag),
        DeValue::Array(list) => {
            Json::Array(list.iter().map(|value| json(value.get_ref(), depth)).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&toml::Spanned<_>, &Value<'_>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Some((key.as_ref().to_owned(), json(value.get_ref(), depth)?))
            };
            Json::Object(table.iter().map(entry).collect::<Option<Map<_, _>>>()?)
        }
        DeValue::Datetime(_) => return None,
    })
}

fn url(reader: &mut Reader<'_>, section: &Section<'_>, parameters: Option<&Json>) -> Option<Address> {
    let Some(value) = section.get("url") else {
        reader.mistake(section.place.clone(), "needs a url, such as https://example.com/orders/{order_id}");
        return None;
    };
    let text = reader.string_of(value, "url", MAX_URL_CHARS, true)?;
    let address = Address::parse(&text).and_then(|url| stage::address(&url.example()).map(|_| url));
    let address = match address {
        Ok(address) => address,
        Err(what) => {
            reader.mistake(value.span(), format!("url {what}"));
            return None;
        }
    };
    let required: Vec<&str> = parameters
        .map(|schema| schema::names(schema).filter(|(_, needed)| *needed).map(|(name, _)| name).collect())
        .unwrap_or_default();
    if parameters.is_some() && address.names().any(|name| !required.contains(&name)) {
        reader.mistake(value.span(), "url has a place for an argument that the parameters do not have and require");
        return None;
    }
    Some(address)
}

/// Secrets under the names that headers use.
fn secrets(reader: &mut Reader<'_>, section: &Section<'_>) -> BTreeMap<String, Sensitive<String>> {
    let mut secrets = BTreeMap::new();
    let Some(value) = section.get("secrets") else { return secrets };
    let Some(table) = value.get_ref().as_table().filter(|table| table.len() <= MAX_LISTED) else {
        reader.mistake(value.span(), "secrets must be a table, such as { shop = \"SHOP_API_KEY\" }");
        return secrets;
    };
    for (key, value) in table.iter() {
        let Some(name) = reader.name_of(key.span(), key.get_ref(), "the name of a secret", MAX_NAME_CHARS) else {
            continue;
        };
        let place = value.get_ref().as_str().unwrap_or_default();
        let found = if place.starts_with('/') {
            reader.secrets.file(place).map_err(|what| format!("a secret's file {what}"))
        } else if stage::is_variable(place) {
            let found = reader.secrets.variable(place);
            found.ok_or_else(|| "secrets names an environment variable that is not set".to_owned())
        } else {
            Err("a secret must be the name of an environment variable, in capital letters, or a whole path of a file; the \
                 secret itself must not stand in this file"
                .to_owned())
        };
        match found {
            Ok(secret) => secrets.extend([(name, secret)]),
            Err(what) => {
                reader.mistake(value.span(), what);
                // What it is needed for is no second mistake.
                secrets.insert(name, Sensitive::default());
            }
        }
    }
    secrets
}

fn headers(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<(HeaderName, Sensitive<HeaderValue>)> {
    let secrets = secrets(reader, section);
    let mut headers = Vec::new();
    let Some(value) = section.get("headers") else { return headers };
    let Some(table) = value.get_ref().as_table().filter(|table| table.len() <= MAX_LISTED) else {
        let what = "headers must be a table, such as { Authorization = \"Bearer {secret.shop}\" }";
        reader.mistake(value.span(), what);
        return headers;
    };
    for (key, value) in table.iter() {
        let name = key.get_ref().parse::<HeaderName>().ok().filter(|name| !FRAMING.contains(&name.as_str()));
        let Some(name) = name else {
            reader.mistake(key.span(), "headers has a name that is none of a header, or of one that is set by itself");
            continue;
        };
        let Some(text) = reader.string_of(value, "a header", MAX_HEADER_CHARS, false) else { continue };
        match with_secrets(&text, &secrets) {
            Ok(mut filled) => {
                filled.set_sensitive(true);
                headers.push((name, Sensitive::new(filled)));
            }
            Err(what) => reader.mistake(value.span(), format!("a header {what}")),
        }
    }
    headers
}

fn with_secrets(text: &str, secrets: &BTreeMap<String, Sensitive<String>>) -> Result<HeaderValue, &'static str> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, inside)) = rest.split_once("{secret.") {
        let (name, after) = inside.split_once('}').ok_or("has a place without an end; write {secret.NAME}")?;
        let secret = secrets.get(name).ok_or("has a place for a secret that secrets does not name")?;
        filled.push_str(before);
        filled.push_str(secret.expose());
        rest = after;
    }
    filled.push_str(rest);
    HeaderValue::from_str(&filled).map_err(|_| "has characters that no header has")
}

fn share(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<Shared> {
    let list = reader.list(section, "share", MAX_LISTED).unwrap_or_default();
    let mut share = Vec::new();
    for value in list {
        let is_name = |name: &str| {
            let is_of = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(is_of)
        };
        match value.get_ref().as_str() {
            Some("call_id") => share.push(Shared::CallId),
            Some("from") => share.push(Shared::From),
            Some("to") => share.push(Shared::To),
            other => match other.and_then(|other| other.strip_prefix("parameters.")).filter(|name| is_name(name)) {
                Some(name) => share.push(Shared::Parameter(name.to_owned())),
                None => {
                    let what = "share must list any of \"call_id\", \"from\", \"to\", \"parameters.NAME\"";
                    reader.mistake(value.span(), what);
                }
            },
        }
    }
    share
}
