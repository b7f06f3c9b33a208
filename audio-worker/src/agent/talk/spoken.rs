//! Which words of an answer were heard, by how much of its sound was played.
//!
//! Exact where the voice tells where its words are; by proportion of characters within a clause where it does not.

/// The words of one answer and where they sound, in milliseconds of all its sound.
#[derive(Debug, Default)]
pub(in crate::agent) struct Spoken {
    clauses: Vec<Clause>,
}

#[derive(Debug)]
struct Clause {
    text: String,
    from_ms: u64,
    /// Not known while its sound still comes.
    to_ms: Option<u64>,
    /// Ends of words: (bytes of the text up to the end of the word, ms from the clause's start where it begins, and ends).
    words: Vec<(usize, u64, u64)>,
}

impl Spoken {
    /// A clause begins whose sound starts at `from_ms`.
    pub(in crate::agent) fn begin(&mut self, text: String, from_ms: u64) {
        self.clauses.push(Clause { text, from_ms, to_ms: None, words: Vec::new() });
    }

    /// The voice says where the next word of the newest clause is, counted from the clause's start.
    pub(in crate::agent) fn word(&mut self, word: &str, from_ms: u64, to_ms: u64) {
        let Some(clause) = self.clauses.last_mut() else { return };
        let before = clause.words.last().map_or(0, |(end, ..)| *end);
        // A word that is not in the text, or not where it should be, is no landmark.
        if let Some(at) = clause.text[before..].find(word) {
            clause.words.push((before + at + word.len(), from_ms, to_ms));
        }
    }

    /// The newest clause is complete; its sound ends at `to_ms`.
    pub(in crate::agent) fn end(&mut self, to_ms: u64) {
        if let Some(clause) = self.clauses.last_mut() {
            clause.to_ms = Some(to_ms);
        }
    }

    /// All words that have sound.
    pub(in crate::agent) fn whole(&self) -> String {
        let with_sound = self.clauses.iter().filter(|clause| clause.to_ms.is_none_or(|to| to > clause.from_ms));
        join(with_sound.map(|clause| clause.text.as_str()))
    }

    /// The words of which more than half was heard, when `played_ms` of the sound were played and `sound_ms` are there.
    pub(in crate::agent) fn heard(&self, played_ms: u64, sound_ms: u64) -> String {
        join(self.clauses.iter().map(|clause| clause.heard(played_ms, sound_ms)))
    }

    /// Where to go on, in ms of all sound, so that no word is cut: the beginning of the one in which playing stopped.
    pub(in crate::agent) fn resume_at(&self, played_ms: u64, sound_ms: u64) -> u64 {
        let inside = self.clauses.iter().rfind(|clause| clause.from_ms <= played_ms);
        inside.map_or(played_ms, |clause| clause.word_begin(played_ms, sound_ms).min(played_ms))
    }
}

impl Clause {
    fn length_ms(&self, sound_ms: u64) -> u64 {
        self.to_ms.unwrap_or(sound_ms).saturating_sub(self.from_ms)
    }

    fn heard(&self, played_ms: u64, sound_ms: u64) -> &str {
        let (inside, length) = (played_ms.saturating_sub(self.from_ms), self.length_ms(sound_ms));
        if inside == 0 || length == 0 {
            return "";
        }
        if self.to_ms.is_some_and(|to| to <= played_ms) {
            return &self.text;
        }
        if let Some((last, ..)) = self.words.last() {
            let heard = self.words.iter().rfind(|(_, from, to)| inside >= from + to.saturating_sub(*from) / 2);
            let end = heard.map_or(0, |(end, ..)| if end == last && inside >= length { self.text.len() } else { *end });
            return self.text[..end].trim_end();
        }
        let ends = word_ends(&self.text);
        let heard = ends.iter().rfind(|(begin, end)| inside * 2 * self.chars() >= (begin + end) * length);
        let chars = heard.map_or(0, |(_, end)| usize::try_from(*end).unwrap_or(usize::MAX));
        let end = self.text.char_indices().nth(chars).map_or(self.text.len(), |(at, _)| at);
        self.text[..end].trim_end()
    }

    /// Where the word begins that sounds at `played_ms`.
    fn word_begin(&self, played_ms: u64, sound_ms: u64) -> u64 {
        let (inside, length) = (played_ms.saturating_sub(self.from_ms), self.length_ms(sound_ms));
        let begin = if self.words.is_empty() {
            let begins = word_ends(&self.text).into_iter().map(|(begin, _)| begin * length / self.chars().max(1));
            begins.filter(|begin| *begin <= inside).max()
        } else {
            self.words.iter().map(|(_, from, _)| *from).filter(|from| *from <= inside).max()
        };
        self.from_ms + begin.unwrap_or(inside)
    }

    fn chars(&self) -> u64 {
        self.text.chars().count() as u64
    }
}

/// Begin and end of each word, in characters.
fn word_ends(text: &str) -> Vec<(u64, u64)> {
    let (mut words, mut begin, mut at) = (Vec::new(), None, 0);
    for c in text.chars() {
        match (c.is_whitespace(), begin) {
            (false, None) => begin = Some(at),
            (true, Some(from)) => {
                words.push((from, at));
                begin = None;
            }
            (false, Some(_)) | (true, None) => {}
        }
        at += 1;
    }
    words.extend(begin.map(|from| (from, at)));
    words
}

fn join<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clauses of 1 s each, without landmarks.
    fn plain() -> Spoken {
        let mut spoken = Spoken::default();
        spoken.begin("aaaa bbbb".to_owned(), 0);
        spoken.end(1000);
        spoken.begin("cccc dddd".to_owned(), 1000);
        spoken.end(2000);
        spoken
    }

    #[test]
    fn without_landmarks_words_are_heard_by_proportion() {
        let spoken = plain();
        assert_eq!(spoken.heard(0, 2000), "");
        // Half of the first word is over after 222 ms.
        assert_eq!((spoken.heard(200, 2000), spoken.heard(300, 2000)), (String::new(), "aaaa".to_owned()));
        assert_eq!(spoken.heard(900, 2000), "aaaa bbbb");
        assert_eq!(spoken.heard(1500, 2000), "aaaa bbbb cccc");
        assert_eq!(spoken.heard(2000, 2000), spoken.whole());
    }

    #[test]
    fn with_landmarks_it_is_exact() {
        let mut spoken = Spoken::default();
        spoken.begin("a, looooong b.".to_owned(), 500);
        for (word, from, to) in [("a", 0, 700), ("looooong", 700, 800), ("b", 800, 1000)] {
            spoken.word(word, from, to);
        }
        spoken.word("unheard-of", 1000, 1200);
        spoken.end(1500);
        assert_eq!((spoken.heard(849, 1500), spoken.heard(850, 1500)), (String::new(), "a".to_owned()));
        assert_eq!(spoken.heard(1260, 1500), "a, looooong");
        assert_eq!(spoken.heard(1500, 1500), "a, looooong b.");
        assert_eq!((spoken.resume_at(1199, 1500), spoken.resume_at(1201, 1500)), (500, 1200));
    }

    #[test]
    fn a_landmark_that_ends_before_it_begins_is_one_moment() {
        let mut spoken = Spoken::default();
        spoken.begin("a b".to_owned(), 0);
        spoken.word("a", 700, 0);
        spoken.word("b", 800, 900);
        assert_eq!((spoken.heard(699, 1000), spoken.heard(700, 1000)), (String::new(), "a".to_owned()));
    }

    #[test]
    fn it_goes_on_at_the_word_in_which_it_stopped() {
        let spoken = plain();
        assert_eq!((spoken.resume_at(100, 2000), spoken.resume_at(700, 2000)), (0, 555));
        assert_eq!((spoken.resume_at(1020, 2000), spoken.resume_at(1700, 2000)), (1000, 1555));
    }

    #[test]
    fn a_clause_whose_sound_still_comes_is_measured_by_what_is_there() {
        let mut spoken = Spoken::default();
        spoken.begin("aaaa bbbb".to_owned(), 0);
        assert_eq!(spoken.heard(300, 1000), "aaaa");
        assert_eq!(Spoken::default().heard(100, 0), "");
    }
}
