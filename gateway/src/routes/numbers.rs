//! Numbers and beginnings of numbers, found by hash: the same few steps among one and among thousands.

use std::collections::HashMap;

use crate::config::is_dialable;

/// Longest number, plus sign included (E.164: 15 digits).
const MAX_NUMBER_BYTES: usize = 16;

/// What Twilio says for a caller without a number.
const WITHHELD: [&str; 2] = ["anonymous", "unknown"];

/// A number or a beginning of numbers.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// This number or address.
    Exact(Box<str>),
    /// All numbers that begin so.
    Prefix(Box<str>),
}

impl Pattern {
    /// Reads a number in E.164, its beginning with a star after it, or what Twilio gives in a number's place.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(prefix) = text.strip_suffix('*') {
            let digits = prefix.strip_prefix('+')?;
            let is_beginning = (1..MAX_NUMBER_BYTES).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && !digits.starts_with('0');
            return is_beginning.then(|| Self::Prefix(prefix.into()));
        }
        let is_client = text
            .strip_prefix("client:")
            .is_some_and(|name| (1..=248).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()));
        (is_dialable(text) || is_client || WITHHELD.contains(&text)).then(|| Self::Exact(text.into()))
    }
}

/// Something for each of many numbers and beginnings.
pub(super) struct Numbers<T> {
    exact: HashMap<Box<str>, T>,
    prefixes: HashMap<Box<str>, T>,
}

impl<T> Numbers<T> {
    /// What `number` and its beginnings stand for.
    pub(super) fn fitting<'a>(&'a self, number: &'a str) -> impl Iterator<Item = &'a T> {
        let longest = if self.prefixes.is_empty() { 0 } else { number.len().min(MAX_NUMBER_BYTES) };
        let beginnings = (2..=longest).filter_map(|length| self.prefixes.get(number.get(..length)?));
        self.exact.get(number).into_iter().chain(beginnings)
    }

    /// All of them.
    pub(super) fn patterns(&self) -> impl Iterator<Item = Pattern> {
        let exact = self.exact.keys().cloned().map(Pattern::Exact);
        exact.chain(self.prefixes.keys().cloned().map(Pattern::Prefix))
    }
}

impl<T: Default> Numbers<T> {
    /// The place of this one, made when it is new.
    pub(super) fn entry(&mut self, pattern: Pattern) -> &mut T {
        match pattern {
            Pattern::Exact(number) => self.exact.entry(number).or_default(),
            Pattern::Prefix(prefix) => self.prefixes.entry(prefix).or_default(),
        }
    }
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefixes: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Numbers, Pattern};

    #[test]
    fn only_numbers_their_beginnings_and_what_stands_for_one_are_patterns() {
        for good in ["+4930123456", "+49*", "+1*", "+491234567890123*", "sip:a@b.example", "client:joey", "anonymous"] {
            assert!(Pattern::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "*",
            "+*",
            "+0*",
            "49*",
            "+49**",
            "*49",
            "+4 9*",
            "030123456",
            "client:",
            "sip:a",
            "+4912345678901234*",
        ] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_number_is_found_with_all_its_beginnings() {
        let mut numbers = Numbers::<char>::default();
        for (pattern, name) in [("+4930123456", 'x'), ("+49*", 'p'), ("+4930*", 'q'), ("+1*", 'r')] {
            *numbers.entry(Pattern::parse(pattern).unwrap()) = name;
        }
        let found = |number| numbers.fitting(number).collect::<String>();
        assert_eq!(found("+4930123456"), "xpq");
        assert_eq!(found("+4940123456"), "p");
        for nobody in ["+4", "", "+", "+33123456", "ä", "+4ö9"] {
            assert_eq!(found(nobody), "", "{nobody}");
        }
    }
}
