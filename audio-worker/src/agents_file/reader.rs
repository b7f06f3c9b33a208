//! Reads values of a TOML tree that stands in layers, an agent's own before the defaults, and notes every mistake.

use std::{collections::HashSet, ops::Range, ops::RangeInclusive, time::Duration};

use telemetry::mistakes::Mistakes;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Secrets, tools::Functions};
use crate::agent::text::Text;

/// How alike a key and a misspelt one are (Jaro-Winkler, 1 is the same).
const ALIKE: f64 = 0.8;

/// Most entries of a list of words.
pub(super) const MAX_LISTED: usize = 200;

/// Longest word or phrase of such a list, in characters.
pub(super) const MAX_WORD_CHARS: usize = 100;

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// What reads a file.
pub(super) struct Reader<'a> {
    text: &'a str,
    pub(super) secrets: &'a dyn Secrets,
    /// Functions that the file declares.
    pub(super) functions: Functions,
    /// What is being read, for mistakes.
    pub(super) part: Option<String>,
    /// Values that belong to the defaults, whoever reads them.
    of_defaults: HashSet<(usize, usize)>,
    found: Vec<(Range<usize>, Option<String>, String)>,
}

/// A table and what stands for keys that it does not have.
#[derive(Clone)]
pub(super) struct Section<'t> {
    own: Option<&'t DeTable<'t>>,
    default: Option<&'t DeTable<'t>>,
    /// Where a mistake about the whole of it is.
    pub(super) place: Range<usize>,
}

impl<'t> Section<'t> {
    pub(super) const fn new(own: &'t DeTable<'t>, default: Option<&'t DeTable<'t>>, place: Range<usize>) -> Self {
        Self { own: Some(own), default, place }
    }

    /// The table's own value, or else the default one.
    pub(super) fn get(&self, key: &str) -> Option<&'t Value<'t>> {
        self.own(key).or_else(|| self.of_defaults(key))
    }

    /// The default value.
    pub(super) fn of_defaults(&self, key: &str) -> Option<&'t Value<'t>> {
        self.default.and_then(|table| table.get(key))
    }

    /// Without what stands for keys that it does not have.
    pub(super) fn alone(self) -> Self {
        Self { default: None, ..self }
    }

    /// The table's own value.
    pub(super) fn own(&self, key: &str) -> Option<&'t Value<'t>> {
        self.own.and_then(|table| table.get(key))
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, secrets: &'a dyn Secrets) -> Self {
        Self { text, secrets, functions: Functions::new(), part: None, of_defaults: HashSet::new(), found: Vec::new() }
    }

    pub(super) fn mistake(&mut self, place: Range<usize>, what: impl Into<String>) {
        let of_defaults = self.of_defaults.contains(&(place.start, place.end));
        let part = if of_defaults { Some("defaults".to_owned()) } else { self.part.clone() };
        let mistake = (place, part, what.into());
        // Several agents read the same defaults.
        if !self.found.contains(&mistake) {
            self.found.push(mistake);
        }
    }

    pub(super) const fn is_good(&self) -> bool {
        self.found.is_empty()
    }

    /// What was wrong, in the order of the file.
    pub(super) fn mistakes(mut self) -> Mistakes {
        self.found.sort_by_key(|(place, ..)| place.start);
        let mut mistakes = Mistakes::default();
        for (place, part, what) in self.found {
            mistakes.add(self.text, place, part, what);
        }
        mistakes
    }

    /// Remembers that a table's values are defaults.
    pub(super) fn mark_defaults(&mut self, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            self.of_defaults.extend([key.span(), value.span()].map(|span| (span.start, span.end)));
            if let Some(table) = value.get_ref().as_table() {
                self.mark_defaults(table);
            }
            for entry in value.get_ref().as_array().into_iter().flat_map(|array| array.iter()) {
                self.of_defaults.insert((entry.span().start, entry.span().end));
            }
        }
    }

    /// Notes keys of `table` that are none of `known`; `what` says whose keys they are.
    pub(super) fn check_keys(&mut self, table: &DeTable<'_>, known: &[&str], what: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let written = key.get_ref().to_ascii_lowercase().replace('-', "_");
            let score = |known: &&&str| (strsim::jaro_winkler(&written, known) * 1000.0) as u32;
            let nearest = known.iter().max_by_key(score);
            let hint = match nearest.filter(|nearest| score(nearest) >= (ALIKE * 1000.0) as u32) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => format!("its keys are {}", known.join(", ")),
            };
            self.mistake(key.span(), format!("{what} has an unknown key; {hint}"));
        }
    }

    /// As [`Self::check_keys`] for an agent of a kind, which has the keys `known` of `all`.
    pub(super) fn check_own_keys(&mut self, section: &Section<'_>, known: &[&str], all: &[&str]) {
        let Some(own) = section.own else { return };
        for key in own.keys().filter(|key| all.contains(&key.get_ref().as_ref())) {
            if !known.contains(&key.get_ref().as_ref()) {
                self.mistake(key.span(), format!("this kind of agent has no {}", key.get_ref()));
            }
        }
        self.check_keys(own, all, "an agent");
    }

    /// The table at `key` in both layers; its keys are `known`.
    pub(super) fn table<'t>(&mut self, section: &Section<'t>, key: &str, known: &[&str]) -> Section<'t> {
        let mut table = |value: Option<&'t Value<'t>>| {
            let value = value?;
            let table = value.get_ref().as_table();
            match table {
                Some(table) => self.check_keys(table, known, key),
                None => self.mistake(value.span(), format!("{key} must be a table")),
            }
            table
        };
        let (own, default) = (section.own(key), section.default.and_then(|table| table.get(key)));
        let place = own.map_or_else(|| section.place.clone(), Spanned::span);
        Section { own: table(own), default: table(default), place }
    }

    /// A text of 1 to `longest` characters; line breaks become spaces unless it may have `lines`.
    pub(super) fn string(&mut self, section: &Section<'_>, key: &str, longest: usize, lines: bool) -> Option<String> {
        let value = section.get(key)?;
        self.string_of(value, key, longest, lines)
    }

    pub(super) fn string_of(&mut self, value: &Value<'_>, key: &str, longest: usize, lines: bool) -> Option<String> {
        let text = value.get_ref().as_str().map(str::trim).unwrap_or_default();
        let is_break = |c: char| matches!(c, '\n' | '\r' | '\t');
        let is_good = (1..=longest).contains(&text.chars().count());
        if !is_good || text.chars().any(|c| c.is_control() && !is_break(c)) {
            let what =
                format!("{key} must be a text in quotes, of 1 to {longest} characters, without control characters");
            self.mistake(value.span(), what);
            return None;
        }
        Some(if lines { text.to_owned() } else { text.split_whitespace().collect::<Vec<_>>().join(" ") })
    }

    /// A text with places for parameters; it may be empty where that is said.
    pub(super) fn text(&mut self, section: &Section<'_>, key: &str, longest: usize, lines: bool) -> Option<Text> {
        let value = section.get(key)?;
        if value.get_ref().as_str().is_some_and(|text| text.trim().is_empty()) {
            return Some(Text::default());
        }
        self.text_of(value, key, longest, lines)
    }

    pub(super) fn text_of(&mut self, value: &Value<'_>, key: &str, longest: usize, lines: bool) -> Option<Text> {
        let text = self.string_of(value, key, longest, lines)?;
        match Text::parse(&text) {
            Ok(text) => Some(text),
            Err(what) => {
                self.mistake(value.span(), format!("{key} {what}"));
                None
            }
        }
    }

    /// A name of up to `longest` letters, digits, _ and -.
    pub(super) fn name(&mut self, value: &Value<'_>, key: &str, longest: usize) -> Option<String> {
        self.name_of(value.span(), value.get_ref().as_str().unwrap_or_default(), key, longest)
    }

    /// As [`Self::name`], of a text.
    pub(super) fn name_of(&mut self, place: Range<usize>, text: &str, key: &str, longest: usize) -> Option<String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if (1..=longest).contains(&text.len()) && text.chars().all(is_name) {
            return Some(text.to_owned());
        }
        self.mistake(place, format!("{key} must be 1 to {longest} letters, digits, _ and -"));
        None
    }

    /// The values of a list, at most `longest`.
    pub(super) fn list<'t>(&mut self, section: &Section<'t>, key: &str, longest: usize) -> Option<Vec<&'t Value<'t>>> {
        let value = section.get(key)?;
        match value.get_ref().as_array().filter(|list| list.len() <= longest) {
            Some(list) => Some(list.iter().collect()),
            None => {
                self.mistake(value.span(), format!("{key} must be a list in brackets, of at most {longest}"));
                None
            }
        }
    }

    /// A list of words or phrases.
    pub(super) fn words(&mut self, section: &Section<'_>, key: &str) -> Option<Vec<String>> {
        let list = self.list(section, key, MAX_LISTED)?;
        Some(list.into_iter().filter_map(|value| self.string_of(value, key, MAX_WORD_CHARS, false)).collect())
    }

    pub(super) fn whole(&mut self, section: &Section<'_>, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = section.get(key)?;
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|number| if number.radix() == 10 { number.as_str().parse().ok() } else { None });
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (from, to) = (range.start(), range.end());
            self.mistake(value.span(), format!("{key} must be a whole number from {from} to {to}"));
        }
        number
    }

    pub(super) fn millis(&mut self, section: &Section<'_>, key: &str, range: RangeInclusive<u64>) -> Option<Duration> {
        self.whole(section, key, range).map(Duration::from_millis)
    }

    pub(super) fn decimal(&mut self, section: &Section<'_>, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = section.get(key)?;
        let written = value.get_ref();
        let text = written.as_float().map(|number| number.as_str());
        let text = text.or_else(|| written.as_integer().map(|number| number.as_str()));
        let number = text.and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        if number.is_none() {
            let (from, to) = (range.start(), range.end());
            self.mistake(value.span(), format!("{key} must be a number from {from} to {to}"));
        }
        number
    }

    pub(super) fn flag(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        let value = section.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.mistake(value.span(), format!("{key} must be true or false, without quotes"));
        }
        flag
    }

    /// One of `choices`, by its word.
    pub(super) fn one_of<T: Copy>(&mut self, section: &Section<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = section.get(key)?;
        let word = value.get_ref().as_str();
        let chosen = choices.iter().find(|(name, _)| Some(*name) == word).map(|(_, choice)| *choice);
        if chosen.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.mistake(value.span(), format!("{key} must be one of {}", names.join(", ")));
        }
        chosen
    }
}
