//! What a caller means who was understood word by word. Pure.

use super::{
    numbers,
    plan::{Choice, Kind, Value, Words},
    words::{self, Language},
};

/// What was said, as an answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// An answer.
    Answer(Value),
    /// Ask again.
    Repeat,
    /// No answer is to be had.
    Skip,
    /// Nothing that would be an answer, or several at once.
    Unclear,
}

/// The words of a survey in the language of its call.
#[derive(Debug)]
pub(super) struct Lexicon {
    language: &'static Language,
    yes: Vec<Phrase>,
    no: Vec<Phrase>,
    unsure: Vec<Phrase>,
    repeat: Vec<Phrase>,
    skip: Vec<Phrase>,
}

#[derive(Debug, Clone)]
struct Phrase {
    words: Vec<String>,
    /// Counts only when nothing else was said.
    is_whole: bool,
}

/// What a phrase stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    Option(usize),
    Unsure,
    Yes,
    No,
    Repeat,
    Skip,
}

impl Lexicon {
    /// The words of `language`, a BCP 47 tag, and instead of them those that the operator gave.
    pub(super) fn new(language: &str, own: &Words) -> Self {
        let language = words::of(language);
        let list = |own: &[String], usual: &[&str]| -> Vec<Phrase> {
            if own.is_empty() {
                usual.iter().map(|phrase| Phrase::new(phrase)).collect()
            } else {
                own.iter().map(|phrase| Phrase::new(phrase)).collect()
            }
        };
        Self {
            language,
            yes: list(&own.yes, language.yes),
            no: list(&own.no, language.no),
            unsure: list(&[], language.unsure),
            repeat: list(&own.repeat, language.repeat),
            skip: list(&own.skip, language.skip),
        }
    }

    /// What `said` means as an answer to a question of this kind.
    pub(super) fn meaning(&self, said: &str, kind: &Kind) -> Meaning {
        let said = split(said);
        match kind {
            Kind::YesNo => self.yes_or_no(&said),
            Kind::Choice(choices) => self.choice(&said, choices),
            Kind::Number(from, to) => self.number(&said, *from, *to),
        }
    }

    fn yes_or_no(&self, said: &[String]) -> Meaning {
        let senses = senses(said, &self.all(Vec::new()));
        let has = |sense| senses.contains(&sense);
        match (has(Sense::Yes), has(Sense::No)) {
            _ if has(Sense::Unsure) => Self::aside(&senses),
            // A polite refusal has a no in it.
            (false, _) if has(Sense::Skip) => Self::aside(&senses),
            (true, false) | (false, true) if has(Sense::Repeat) || has(Sense::Skip) => Meaning::Unclear,
            (true, false) => Meaning::Answer(Value::Yes),
            (false, true) => Meaning::Answer(Value::No),
            (true, true) | (false, false) => Self::aside(&senses),
        }
    }

    fn choice(&self, said: &[String], choices: &[Choice]) -> Meaning {
        let options = |(at, choice): (usize, &Choice)| {
            choice.words.iter().map(move |word| (Phrase::new(word), Sense::Option(at))).collect::<Vec<_>>()
        };
        let own: Vec<_> = choices.iter().enumerate().flat_map(options).collect();
        let found = senses(said, &self.all(own));
        let found = if found.iter().any(|sense| matches!(sense, Sense::Option(_))) {
            found
        } else {
            senses(said, &self.all(self.places(choices)))
        };
        let mut options = found.iter().filter_map(|sense| match sense {
            Sense::Option(at) => Some(*at),
            Sense::Unsure | Sense::Yes | Sense::No | Sense::Repeat | Sense::Skip => None,
        });
        let strays = [Sense::Unsure, Sense::No, Sense::Repeat, Sense::Skip];
        match (options.next(), options.next()) {
            (Some(at), None) if !strays.iter().any(|stray| found.contains(stray)) => Meaning::Answer(Value::Choice(at)),
            (Some(_), _) => Meaning::Unclear,
            (None, _) => Self::aside(&found),
        }
    }

    fn number(&self, said: &[String], from: u64, to: u64) -> Meaning {
        match numbers::number(said, self.language) {
            Some(number) if (from..=to).contains(&number) => Meaning::Answer(Value::Number(number)),
            Some(_) => Meaning::Unclear,
            None => Self::aside(&senses(said, &self.all(Vec::new()))),
        }
    }

    /// What was said instead of an answer.
    fn aside(senses: &[Sense]) -> Meaning {
        match (senses.contains(&Sense::Repeat), senses.contains(&Sense::Skip)) {
            (true, false) => Meaning::Repeat,
            (false, true) => Meaning::Skip,
            (true, true) | (false, false) => Meaning::Unclear,
        }
    }

    /// All phrases, those in front first where two are equally long.
    fn all(&self, mut phrases: Vec<(Phrase, Sense)>) -> Vec<(Phrase, Sense)> {
        for (list, sense) in [
            (&self.unsure, Sense::Unsure),
            (&self.skip, Sense::Skip),
            (&self.repeat, Sense::Repeat),
            (&self.no, Sense::No),
            (&self.yes, Sense::Yes),
        ] {
            phrases.extend(list.iter().map(|phrase| (phrase.clone(), sense)));
        }
        phrases.sort_by_key(|(phrase, _)| std::cmp::Reverse(phrase.words.len()));
        phrases
    }

    /// Options by their key and by their place.
    fn places(&self, choices: &[Choice]) -> Vec<(Phrase, Sense)> {
        let mut phrases = Vec::new();
        for (at, choice) in choices.iter().enumerate() {
            let sense = Sense::Option(at);
            let ordinals = self.language.ordinals.get(at).into_iter().flat_map(|words| words.iter());
            phrases.extend(ordinals.map(|word| (Phrase::new(word), sense)));
            // A number is a key; where no option has it, it is a place.
            let is_free = |number: usize| {
                char::from_digit(number as u32 % 10, 10).is_none_or(|key| choices.iter().all(|other| other.key != key))
            };
            let key = choice.key.to_digit(10).map(|digit| if digit == 0 && at == 9 { 10 } else { digit as usize });
            let place = Some(at + 1).filter(|place| is_free(*place));
            for number in key.into_iter().chain(place) {
                phrases.push((Phrase::new(&number.to_string()), sense));
                let words = numbers::words(number as u64, self.language);
                phrases.extend(words.into_iter().map(|word| (Phrase::new(word), sense)));
            }
        }
        phrases
    }
}

impl Phrase {
    fn new(text: &str) -> Self {
        let whole = text.strip_prefix('=');
        Self { words: split(whole.unwrap_or(text)), is_whole: whole.is_some() }
    }
}

/// The senses of what was said, each once: the longest phrases first, and no word for two of them.
fn senses(said: &[String], phrases: &[(Phrase, Sense)]) -> Vec<Sense> {
    let mut taken = vec![false; said.len()];
    let mut senses = Vec::new();
    for (Phrase { words, is_whole }, sense) in phrases {
        if words.is_empty() || (*is_whole && words != said) {
            continue;
        }
        for (at, window) in said.windows(words.len()).enumerate() {
            let places = at..at + words.len();
            if window == words && !taken[places.clone()].contains(&true) {
                taken[places].fill(true);
                if !senses.contains(sense) {
                    senses.push(*sense);
                }
            }
        }
    }
    senses
}

/// The words of a text, without case, punctuation and apostrophes. Scripts that are written without spaces have a word for
/// each character. A point or comma within a number is a word of its own unless it parts thousands.
pub(super) fn split(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.to_lowercase().chars().collect();
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut end = |word: &mut String| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    for (at, &c) in characters.iter().enumerate() {
        let digit = |at: usize| characters.get(at).is_some_and(char::is_ascii_digit);
        let is_within = at > 0 && digit(at - 1) && digit(at + 1);
        let thousands = is_within && (1..=3).all(|ahead| digit(at + ahead)) && !digit(at + 4);
        match c {
            '\'' | '’' => {}
            ',' | '.' if thousands => {}
            ',' | '.' | ':' | '/' if is_within => {
                end(&mut word);
                word.push(c);
                end(&mut word);
            }
            c if is_unspaced(c) => {
                end(&mut word);
                word.push(c);
                end(&mut word);
            }
            c if c.is_alphanumeric() => word.push(c),
            _ => end(&mut word),
        }
    }
    end(&mut word);
    words
}

/// Hiragana, katakana, and Chinese characters.
const fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ff66}'..='\u{ff9f}')
}

#[cfg(test)]
mod tests;
