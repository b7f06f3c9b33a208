//! What a recogniser has understood of a call so far, and which of it belongs to a turn.

use std::collections::VecDeque;

use crate::provider::listening::Stretch;

/// Final stretches that are kept: of a turn of half a minute there are a dozen.
const MAX_FINALS: usize = 256;

/// Final stretches, and what is understood behind them. Times are milliseconds of the call.
#[derive(Debug, Default)]
pub(super) struct Understood {
    finals: VecDeque<Stretch>,
    interim: Option<Stretch>,
    final_to: u64,
    newest_to: u64,
}

impl Understood {
    /// What may still change; instead of what was so before.
    pub(super) fn interim(&mut self, stretch: Stretch) {
        self.newest_to = self.newest_to.max(stretch.to_ms);
        self.interim = Some(stretch);
    }

    /// What will not.
    pub(super) fn finish(&mut self, stretch: Stretch) {
        self.newest_to = self.newest_to.max(stretch.to_ms);
        self.final_to = self.final_to.max(stretch.to_ms);
        self.interim = None;
        if !stretch.text.is_empty() {
            self.finals.push_back(stretch);
        }
        if self.finals.len() > MAX_FINALS {
            self.finals.pop_front();
        }
    }

    /// The words said from there on.
    pub(super) fn since(&self, place: u64) -> String {
        let from_ms = place / super::PER_MS;
        let all = self.finals.iter().chain(&self.interim);
        let texts = all.filter(|stretch| stretch.to_ms > from_ms).map(|stretch| of_stretch(stretch, from_ms));
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// What was said before that place is of no interest any more.
    pub(super) fn forget(&mut self, place: u64) {
        let ms = place / super::PER_MS;
        self.finals.retain(|stretch| stretch.to_ms > ms);
        self.interim = self.interim.take().filter(|stretch| stretch.to_ms > ms);
    }

    /// Up to where nothing will change.
    pub(super) const fn final_to(&self) -> u64 {
        self.final_to
    }

    /// Up to where anything is known.
    pub(super) const fn newest_to(&self) -> u64 {
        self.newest_to
    }
}

/// What was said in a stretch from there on.
fn of_stretch(stretch: &Stretch, from_ms: u64) -> String {
    // In whole, where it can be: not all languages have blanks between words.
    if stretch.words.first().is_none_or(|first| first.to_ms > from_ms) {
        return stretch.text.clone();
    }
    let words = stretch.words.iter().filter(|word| word.to_ms > from_ms).map(|word| word.text.as_str());
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::listening::TimedWord;

    fn stretch(from_ms: u64, to_ms: u64, text: &str) -> Stretch {
        let each = text.split(' ').count() as u64;
        let length = (to_ms - from_ms) / each;
        let word = |(at, text): (u64, &str)| TimedWord {
            text: text.to_owned(),
            from_ms: from_ms + at * length,
            to_ms: from_ms + (at + 1) * length,
        };
        let words = if text.is_empty() { Vec::new() } else { (0..).zip(text.split(' ')).map(word).collect() };
        Stretch { from_ms, to_ms, text: text.to_owned(), words }
    }

    fn since(understood: &Understood, ms: u64) -> String {
        understood.since(ms * super::super::PER_MS)
    }

    #[test]
    fn a_turn_has_the_final_words_since_its_begin_and_the_newest_interim() {
        let mut understood = Understood::default();
        understood.finish(stretch(0, 1000, "mhm"));
        understood.interim(stretch(1000, 2000, "I wood"));
        understood.interim(stretch(1000, 2500, "I would like"));
        assert_eq!(since(&understood, 1000), "I would like");
        understood.finish(stretch(1000, 2600, "I would like"));
        understood.interim(stretch(2600, 3000, "tea"));
        assert_eq!(since(&understood, 900), "mhm I would like tea");
        assert_eq!(since(&understood, 1000), "I would like tea");
        assert_eq!((understood.final_to(), understood.newest_to()), (2600, 3000));
        understood.finish(stretch(2600, 4000, ""));
        assert_eq!(since(&understood, 1000), "I would like");
    }

    #[test]
    fn of_a_stretch_that_began_before_the_turn_only_its_words_count() {
        let mut understood = Understood::default();
        understood.finish(stretch(0, 4000, "mhm mhm book a"));
        assert_eq!(since(&understood, 2100), "book a");
        let untimed = Stretch { words: Vec::new(), ..stretch(4000, 5000, "table") };
        understood.finish(untimed);
        assert_eq!(since(&understood, 4500), "table");
        assert_eq!(since(&understood, 5000), "");
    }

    #[test]
    fn what_is_forgotten_is_gone_and_there_is_a_bound() {
        let mut understood = Understood::default();
        understood.finish(stretch(0, 1000, "a"));
        understood.interim(stretch(1000, 2000, "b"));
        understood.forget(1500 * super::super::PER_MS);
        assert_eq!(since(&understood, 0), "b");
        understood.forget(2000 * super::super::PER_MS);
        assert_eq!(since(&understood, 0), "");
        for at in 0..2 * MAX_FINALS as u64 {
            understood.finish(stretch(at, at + 1, "a"));
        }
        assert_eq!(understood.finals.len(), MAX_FINALS);
    }
}
