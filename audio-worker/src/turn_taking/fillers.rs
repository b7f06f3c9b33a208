//! Words that interrupt nobody.

use std::collections::HashSet;

/// Words by which a caller only says that they listen.
#[derive(Debug)]
pub(super) struct Fillers(HashSet<String>);

impl Fillers {
    /// From a list, whose case and punctuation do not matter.
    pub(super) fn new(words: &[String]) -> Self {
        Self(words.iter().map(|word| bare(word)).filter(|word| !word.is_empty()).collect())
    }

    /// True when there is nothing else in `text`.
    pub(super) fn is_filler(&self, text: &str) -> bool {
        let whole = bare(text);
        whole.is_empty()
            || self.0.contains(&whole)
            || text.split_whitespace().map(bare).all(|word| word.is_empty() || self.0.contains(&word))
    }
}

/// Letters and digits alone, in small letters.
fn bare(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_matter_and_one_real_word_is_enough() {
        let fillers = Fillers::new(&["mm-hmm".to_owned(), "uh huh".to_owned(), "Ah".to_owned()]);
        for text in ["", " ", "...", "Mm-hmm.", "mmhmm", "AH! ah", "Uh huh", "uh-huh"] {
            assert!(fillers.is_filler(text), "{text:?}");
        }
        for text in ["no", "ah, wait", "mm-hmm stop", "42"] {
            assert!(!fillers.is_filler(text), "{text:?}");
        }
    }
}
