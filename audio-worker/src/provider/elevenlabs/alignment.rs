//! When words are said, from the times of their characters. Pure.

use serde::Deserialize;

use crate::provider::Sound;

/// Times of characters as they come with a piece of sound.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Alignment {
    #[serde(default)]
    characters: Vec<String>,
    #[serde(default, rename = "character_start_times_seconds")]
    starts: Vec<f64>,
    #[serde(default, rename = "character_end_times_seconds")]
    ends: Vec<f64>,
}

/// Times that are further apart are no matter of rounding or of pieces that overlap.
const APART_MS: u64 = 500;

/// Joins characters to words, across pieces.
#[derive(Debug, Default)]
pub(super) struct Words {
    word: Option<Word>,
    /// Whether times begin anew with each piece, once that can be told.
    is_anew: Option<bool>,
    /// Where the last character ended.
    last_ms: u64,
}

#[derive(Debug)]
struct Word {
    text: String,
    from_ms: u64,
    to_ms: u64,
}

impl Words {
    /// Takes the characters of a piece of which `before_ms` of sound came before; gives the words that they complete.
    pub(super) fn push(&mut self, alignment: &Alignment, before_ms: u64) -> Vec<Sound> {
        let ms = |seconds: f64| (seconds.clamp(0.0, 3600.0) * 1000.0).round() as u64;
        let Some(begins_ms) = alignment.starts.first().map(|&start| ms(start)) else { return Vec::new() };
        // Times are counted from the first piece; from each piece where they begin anew.
        if self.is_anew.is_none() && self.last_ms > 0 {
            let is_back = begins_ms < APART_MS && begins_ms + APART_MS < self.last_ms;
            self.is_anew = if is_back || begins_ms >= APART_MS { Some(is_back) } else { None };
        }
        let offset_ms = if self.is_anew == Some(true) { before_ms } else { 0 };
        let mut words = Vec::new();
        let times = alignment.starts.iter().zip(&alignment.ends);
        for (text, (&start, &end)) in alignment.characters.iter().zip(times) {
            let (from_ms, to_ms) = (offset_ms + ms(start), offset_ms + ms(end).max(ms(start)));
            self.last_ms = self.last_ms.max(to_ms);
            if text.chars().all(char::is_whitespace) {
                words.extend(self.finish());
                continue;
            }
            if text.chars().any(stands_alone) {
                words.extend(self.finish());
            }
            match &mut self.word {
                Some(word) => {
                    word.text.push_str(text);
                    word.to_ms = word.to_ms.max(to_ms);
                }
                None => self.word = Some(Word { text: text.clone(), from_ms, to_ms }),
            }
        }
        words
    }

    /// The word that the end of the text completes.
    pub(super) fn finish(&mut self) -> Option<Sound> {
        self.word.take().map(|Word { text, from_ms, to_ms }| Sound::Word { text, from_ms, to_ms })
    }
}

/// Characters of scripts without spaces: each begins a word of its own.
fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{30fa}' | '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}' | '\u{0e01}'..='\u{0e2e}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters of 100 ms each.
    fn evenly(text: &str, from: f64) -> Alignment {
        let times = |shift: f64| (0..text.chars().count()).map(|at| from + shift + at as f64 / 10.0).collect();
        Alignment { characters: text.chars().map(String::from).collect(), starts: times(0.0), ends: times(0.1) }
    }

    fn word(text: &str, from_ms: u64, to_ms: u64) -> Sound {
        Sound::Word { text: text.to_owned(), from_ms, to_ms }
    }

    #[test]
    fn words_are_whole_wherever_pieces_are_cut() {
        let text = "Hi, you  two.";
        let expected = [word("Hi,", 0, 300), word("you", 400, 700), word("two.", 900, 1300)];
        for at in 0..=text.len() {
            for is_anew in [false, true] {
                // After so little they cannot be told apart.
                if is_anew && (1..=5).contains(&at) {
                    continue;
                }
                let mut words = Words::default();
                let mut told = words.push(&evenly(&text[..at], 0.0), 0);
                let before_ms = at as u64 * 100;
                let from = if is_anew { 0.0 } else { at as f64 / 10.0 };
                told.extend(words.push(&evenly(&text[at..], from), before_ms));
                told.extend(words.finish());
                assert_eq!(told, expected, "{at} {is_anew}");
            }
        }
    }

    #[test]
    fn scripts_without_spaces_have_words_of_a_character() {
        let mut words = Words::default();
        let mut told = words.push(&evenly("はい、車", 0.0), 0);
        told.extend(words.finish());
        assert_eq!(told, [word("は", 0, 100), word("い、", 100, 300), word("車", 300, 400)]);
    }

    #[test]
    fn pieces_that_overlap_do_not_begin_anew_and_those_that_do_go_on_so() {
        let mut words = Words::default();
        let mut told = words.push(&evenly("one two ", 0.0), 0);
        told.extend(words.push(&evenly("three ", 0.72), 900));
        told.extend(words.push(&evenly("four ", 0.2), 1500));
        assert_eq!(
            told,
            [word("one", 0, 300), word("two", 400, 700), word("three", 720, 1220), word("four", 200, 600)]
        );
        let mut words = Words::default();
        assert_eq!(words.push(&evenly("one ", 0.0), 0), [word("one", 0, 300)]);
        assert_eq!(words.push(&evenly("two ", 0.35), 900), [word("two", 350, 650)]);
        let mut words = Words::default();
        let mut told = words.push(&evenly("one two ", 0.0), 0);
        assert_eq!(words.push(&Alignment::default(), 800), []);
        told.extend(words.push(&evenly("three ", 0.0), 800));
        told.extend(words.push(&evenly("four ", 0.6), 1400));
        assert_eq!(told[2..], [word("three", 800, 1300), word("four", 2000, 2400)]);
    }

    #[test]
    fn a_word_does_not_end_before_it_begins() {
        let back =
            Alignment { characters: ["a", "b"].map(String::from).into(), starts: vec![1.0, 0.0], ends: vec![1.1, 0.1] };
        let mut words = Words::default();
        assert_eq!(words.push(&back, 0), []);
        assert_eq!(words.finish(), Some(word("ab", 1000, 1100)));
    }

    #[test]
    fn lists_of_different_length_and_strange_times_do_no_harm() {
        let strange = Alignment {
            characters: ["a", "b", "c"].map(String::from).into(),
            starts: vec![-1.0, f64::NAN],
            ends: vec![1e300, f64::NEG_INFINITY, 7.0],
        };
        let mut words = Words::default();
        assert_eq!(words.push(&strange, u64::MAX / 2), []);
        assert!(matches!(words.finish(), Some(Sound::Word { text, .. }) if text == "ab"));
        assert_eq!(words.push(&Alignment::default(), 0), []);
        assert_eq!(words.finish(), None);
    }
}
