//! Words that an operator wrote for an agent, with places for parameters of the call. Pure.

use std::collections::BTreeMap;

/// What begins a place.
const OPENS: &str = "{parameters.";

/// What looks like a place and is none.
const MISSPELT: [&str; 3] = ["{parameter.", "{{parameters.", "{Parameters."];

/// A text in which `{parameters.NAME}` stands for a parameter of the call, and `{parameters.NAME|words}` for one that has
/// these words when the call has no such parameter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(String);

impl Text {
    /// Takes a text as it was written.
    ///
    /// # Errors
    /// What is wrong with its places, as the end of a sentence that begins with the text's name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if MISSPELT.iter().any(|misspelt| text.contains(misspelt)) {
            return Err("has a place for a parameter that is written wrongly; write {parameters.NAME}");
        }
        for (at, _) in text.match_indices(OPENS) {
            let is_good = place(&text[at + OPENS.len()..]).is_some_and(|(name, ..)| {
                (1..=64).contains(&name.len())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            });
            if !is_good {
                return Err(
                    "has a place without an end or with a bad name; write {parameters.NAME}, with letters, digits, \
                     _ and - as its name",
                );
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// A text of the program's own, without places.
    pub fn fixed(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text for a call with these parameters. What has no value and no words of its own is left out; control
    /// characters of a value become spaces.
    pub fn fill(&self, parameters: &BTreeMap<String, String>) -> String {
        let mut filled = String::with_capacity(self.0.len());
        let mut rest = self.0.as_str();
        while let Some((before, inside)) = rest.split_once(OPENS) {
            let Some((name, otherwise, after)) = place(inside) else { break };
            filled.push_str(before);
            match parameters.get(name).filter(|value| !value.trim().is_empty()) {
                Some(value) => filled.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c })),
                None => filled.push_str(otherwise),
            }
            rest = after;
        }
        filled.push_str(rest);
        filled
    }

    /// True when there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }
}

/// The name, the words without a value, and what follows the place.
fn place(inside: &str) -> Option<(&str, &str, &str)> {
    let (place, after) = inside.split_once('}')?;
    let (name, otherwise) = place.split_once('|').unwrap_or((place, ""));
    Some((name, otherwise, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let parameters = [("name", "Ann"), ("odd", "a\nb {parameters.name}"), ("empty", " ")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Text::parse(text).unwrap().fill(&parameters)
    }

    #[test]
    fn places_are_filled_once() {
        assert_eq!(filled("Hello {parameters.name}!"), "Hello Ann!");
        assert_eq!(filled("Hello {parameters.other|you} and {parameters.empty|you}"), "Hello you and you");
        assert_eq!(filled("{parameters.other}{parameters.odd}."), "a b {parameters.name}.");
        assert_eq!(filled(r#"Answer as {"text": "…"} {x}"#), r#"Answer as {"text": "…"} {x}"#);
    }

    #[test]
    fn bad_places_are_told() {
        for bad in ["{parameters.name", "{parameters.}", "{parameters.a b}", "{parameter.name}", "{{parameters.name}}"]
        {
            Text::parse(bad).unwrap_err();
        }
    }
}
