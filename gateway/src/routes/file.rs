//! The routes file: TOML in, routes out, every mistake with its line and its cure.
//!
//! No mistake quotes the file: numbers are in it, and mistakes go to the log.

use std::{collections::HashSet, ops::Range};

use telemetry::mistakes::Mistakes;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Condition, MAX_PARAMETERS, MAX_ROUTES, RESERVED_NAMES, Route, numbers::Numbers, numbers::Pattern};
use crate::twilio::twiml::PARAMETER_CHARS;

/// Most values in one list.
const MAX_LISTED: usize = 10_000;

/// Most conditions of one route.
const MAX_CONDITIONS: usize = 16;

/// Most different webhook parameters that the routes of a file look at: each is looked up once a call.
const MAX_CONDITION_NAMES: usize = 32;

/// Longest name of a parameter, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Longest name of an agent, and longest language tag (RFC 5646 4.4.1 advises to take 35), in characters.
const MAX_AGENT_CHARS: usize = 100;
const MAX_LANGUAGE_CHARS: usize = 35;

const ROUTE_KEYS: &str = "to, from, parameter, agent, language, parameters and forward";

/// Reads all routes of a file.
pub(super) fn read(text: &str) -> Result<Vec<Route>, Mistakes> {
    let mut reader = Reader { text, route: None, mistakes: Mistakes::default(), condition_names: HashSet::new() };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        reader.mistake(error.span().unwrap_or_default(), format!("is no TOML: {}", error.message()));
    }
    // What cannot be read is not judged as well.
    let routes = if reader.mistakes.is_empty() { reader.document(document.get_ref()) } else { Vec::new() };
    if reader.mistakes.is_empty() { Ok(routes) } else { Err(reader.mistakes) }
}

struct Reader<'a> {
    text: &'a str,
    /// The one being read, from 1.
    route: Option<usize>,
    mistakes: Mistakes,
    condition_names: HashSet<String>,
}

impl Reader<'_> {
    fn mistake(&mut self, place: Range<usize>, what: impl Into<String>) {
        let part = self.route.map(|route| format!("route {route}"));
        self.mistakes.add(self.text, place, part, what.into());
    }

    fn document(&mut self, document: &DeTable<'_>) -> Vec<Route> {
        let mut routes = Vec::new();
        for (key, value) in document.iter() {
            if key.get_ref() == "route" {
                routes = self.routes(value);
            } else {
                self.mistake(key.span(), "only [[route]] tables belong here; check the spelling");
            }
        }
        if document.get("route").is_none() {
            self.mistake(0..0, "there is no route; begin each with [[route]], or leave ROUTES_FILE empty for none");
        }
        routes
    }

    fn routes(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Route> {
        let Some(tables) = value.get_ref().as_array() else {
            self.mistake(value.span(), "begin each route with [[route]], two brackets");
            return Vec::new();
        };
        if tables.len() > MAX_ROUTES {
            let what = format!("there are {} routes, at most {MAX_ROUTES} are taken; use lists and +49*", tables.len());
            self.mistake(value.span(), what);
            return Vec::new();
        }
        let last = tables.len();
        let mut routes = Vec::with_capacity(last);
        for (at, table) in tables.iter().enumerate() {
            self.route = Some(at + 1);
            let before = self.mistakes.told.len();
            let Some(keys) = table.get_ref().as_table() else {
                self.mistake(table.span(), "must be a table that begins with [[route]]");
                continue;
            };
            let route = self.one(keys);
            if route.fits_all() && at + 1 < last && self.mistakes.told.len() == before {
                self.mistake(
                    table.span(),
                    "has neither to nor from nor parameter, so it takes every call and later routes none; put it last",
                );
            }
            routes.push(route);
        }
        self.route = None;
        routes
    }

    fn one(&mut self, table: &DeTable<'_>) -> Route {
        let mut route = Route::default();
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "to" => route.to = self.numbers("to", value),
                "from" => route.from = self.numbers("from", value),
                "parameter" => route.conditions = self.conditions(value),
                "agent" => route.agent = self.word("agent", value, MAX_AGENT_CHARS, "._-"),
                "language" => route.language = self.word("language", value, MAX_LANGUAGE_CHARS, "-"),
                "parameters" => route.parameters = self.parameters(value),
                "forward" => route.forward = self.forward(value),
                _ => self.mistake(key.span(), format!("has an unknown key; those of a route are {ROUTE_KEYS}")),
            }
        }
        let mut names = HashSet::new();
        let given = route.parameters.iter().map(|(name, _)| name).chain(&route.forward);
        let (mut count, mut is_twice) = (0, false);
        for name in given {
            count += 1;
            is_twice |= !names.insert(name);
        }
        let place = || table.get("parameters").or_else(|| table.get("forward")).map_or(0..0, Spanned::span);
        if is_twice {
            self.mistake(place(), "gives two values to one name; parameters and forward must differ");
        }
        if count > MAX_PARAMETERS {
            let what = format!("gives {count} parameters; at most {MAX_PARAMETERS} with those in forward are taken");
            self.mistake(place(), what);
        }
        route
    }

    fn numbers(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Numbers<()>> {
        let mut numbers = Numbers::default();
        for (place, text) in self.texts(key, value) {
            match Pattern::parse(text) {
                Some(pattern) => *numbers.entry(pattern) = (),
                None => self.mistake(
                    place,
                    format!(
                        "{key} must be a number such as \"+15550100\", the beginning of numbers such as \"+49*\", \
                         a \"sip:…\" or \"client:…\" address, or \"anonymous\""
                    ),
                ),
            }
        }
        Some(numbers)
    }

    /// One condition, or several in a list.
    fn conditions(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<Condition> {
        let list: Vec<_> = value.get_ref().as_array().map_or_else(|| vec![value], |list| list.iter().collect());
        if !(1..=MAX_CONDITIONS).contains(&list.len()) {
            self.mistake(value.span(), format!("parameter must have 1 to {MAX_CONDITIONS} entries"));
            return Vec::new();
        }
        let mut conditions = Vec::new();
        for condition in list {
            match condition.get_ref().as_table() {
                Some(table) => conditions.extend(self.condition(condition.span(), table)),
                None => self.mistake(
                    condition.span(),
                    "parameter must be written as parameter = { name = \"FromCountry\", is = \"DE\" }, or a list of such",
                ),
            }
        }
        conditions
    }

    fn condition(&mut self, place: Range<usize>, table: &DeTable<'_>) -> Option<Condition> {
        let (mut name, mut is) = (None, Vec::new());
        for (key, value) in table.iter() {
            match key.get_ref().as_ref() {
                "name" => name = value.get_ref().as_str().filter(|name| is_name(name)).map(ToOwned::to_owned),
                "is" => {
                    let texts = self.texts("is", value);
                    is = texts.into_iter().map(|(_, text)| text.to_owned()).collect();
                }
                _ => self.mistake(key.span(), "parameter has an unknown key; its keys are name and is"),
            }
        }
        let Some(name) = name.filter(|_| table.contains_key("is")) else {
            self.mistake(
                place,
                "parameter needs a name (letters, digits, _ and -) and, as is, a text or a list of texts",
            );
            return None;
        };
        if self.condition_names.insert(name.clone()) && self.condition_names.len() == MAX_CONDITION_NAMES + 1 {
            self.mistake(place, format!("the routes look at more than {MAX_CONDITION_NAMES} different parameters"));
        }
        Some(Condition { name, is })
    }

    fn parameters(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<(String, String)> {
        let Some(table) = value.get_ref().as_table() else {
            self.mistake(value.span(), "parameters must be written as parameters = { team = \"sales\" }");
            return Vec::new();
        };
        let mut parameters = Vec::new();
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            self.check_name(key.span(), name);
            match value.get_ref().as_str() {
                Some(text) if text.chars().any(char::is_control) => {
                    self.mistake(value.span(), "the value of a parameter must not have control characters");
                }
                Some(text) if name.chars().count() + text.chars().count() > PARAMETER_CHARS => self.mistake(
                    value.span(),
                    format!("name and value of a parameter may have {PARAMETER_CHARS} characters together"),
                ),
                Some(text) => parameters.push((name.to_owned(), text.to_owned())),
                None => self.mistake(value.span(), "the value of a parameter must be a text in quotes"),
            }
        }
        parameters
    }

    fn forward(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        let mut names = Vec::new();
        for (place, name) in self.texts("forward", value) {
            self.check_name(place, name);
            names.push(name.to_owned());
        }
        names
    }

    fn check_name(&mut self, place: Range<usize>, name: &str) {
        if !is_name(name) {
            let what = "the name of a parameter must be letters, digits, _ and -";
            self.mistake(place, format!("{what}, {MAX_NAME_CHARS} at most"));
        } else if RESERVED_NAMES.contains(&name) {
            self.mistake(place, format!("{} are names of the gateway's own; take another", RESERVED_NAMES.join(", ")));
        }
    }

    fn word(&mut self, key: &str, value: &Spanned<DeValue<'_>>, longest: usize, more: &str) -> Option<String> {
        let is_word = |text: &&str| {
            (1..=longest).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let word = value.get_ref().as_str().filter(is_word).map(ToOwned::to_owned);
        if word.is_none() {
            let what = format!("{key} must be 1 to {longest} letters, digits and any of {more} in quotes");
            self.mistake(value.span(), what);
        }
        word
    }

    /// A text, or the texts of a list, each with its place; none of them empty.
    fn texts<'v>(&mut self, key: &str, value: &'v Spanned<DeValue<'_>>) -> Vec<(Range<usize>, &'v str)> {
        let mut texts = Vec::new();
        let list: Vec<_> = value.get_ref().as_array().map_or_else(|| vec![value], |list| list.iter().collect());
        if !(1..=MAX_LISTED).contains(&list.len()) {
            self.mistake(value.span(), format!("{key} must have 1 to {MAX_LISTED} entries"));
            return texts;
        }
        for entry in list {
            match entry.get_ref().as_str() {
                Some(text) if !text.is_empty() => texts.push((entry.span(), text)),
                _ => self.mistake(entry.span(), format!("{key} must be a text in quotes that is not empty, or a list")),
            }
        }
        texts
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
