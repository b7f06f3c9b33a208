//! Cuts a model's answer into pieces that can be spoken, while it is being written: the first as early as it sounds
//! natural, the others sentence by sentence.

/// Shortest first piece, in characters: a voice that starts with less sounds chopped.
const FIRST: usize = 12;

/// Shortest further piece: fewer requests, and better melody.
const FURTHER: usize = 40;

/// A piece that has no end of a sentence is cut at the next comma or blank beyond so many characters.
const LONG: usize = 160;

/// Words whose full stop ends no sentence.
const ABBREVIATIONS: [&str; 12] = ["mr", "mrs", "ms", "dr", "st", "no", "vs", "etc", "approx", "dept", "e.g", "i.e"];

/// Text on its way to a voice.
#[derive(Debug, Default)]
pub(super) struct Clauses {
    text: String,
    /// Bytes of `text` that have been looked at without finding a place to cut.
    seen: usize,
    first_is_out: bool,
}

impl Clauses {
    /// Appends what the model wrote.
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The next piece that can be spoken.
    pub(super) fn next(&mut self) -> Option<String> {
        while let Some(end) = self.cut() {
            let rest = self.text.split_off(end);
            let piece = std::mem::replace(&mut self.text, rest);
            self.seen = 0;
            if let Some(piece) = speakable(&piece) {
                self.first_is_out = true;
                return Some(piece);
            }
        }
        None
    }

    /// What is left, once the model has finished.
    pub(super) fn finish(&mut self) -> Option<String> {
        self.seen = 0;
        speakable(&std::mem::take(&mut self.text))
    }

    /// Where the text can be cut, in bytes.
    fn cut(&mut self) -> Option<usize> {
        let shortest = if self.first_is_out { FURTHER } else { FIRST };
        let mut length = self.text[..self.seen].chars().count();
        let mut chars = self.text[self.seen..].char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            length += 1;
            let (at, end) = (self.seen + at, self.seen + at + c.len_utf8());
            let is_long_enough = length >= shortest;
            match c {
                '。' | '！' | '？' | '\n' if is_long_enough => return Some(end),
                '、' if is_long_enough && (!self.first_is_out || length >= LONG) => return Some(end),
                '.' | '!' | '?' | '…' | ',' | ';' | ':' => {
                    // What follows tells a full stop from a decimal point; it may not be there yet.
                    let Some((_, next)) = chars.peek() else {
                        self.seen = at;
                        return None;
                    };
                    let is_end = matches!(c, '!' | '?' | '…') || (c == '.' && !ends_in_abbreviation(&self.text[..at]));
                    let is_pause = matches!(c, ',' | ';' | ':') && (!self.first_is_out || length >= LONG);
                    if next.is_whitespace() && is_long_enough && (is_end || is_pause) {
                        return Some(end);
                    }
                }
                _ if c.is_whitespace() && length >= 2 * LONG => return Some(end),
                _ => {}
            }
        }
        self.seen = self.text.len();
        None
    }
}

fn ends_in_abbreviation(text: &str) -> bool {
    let word = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    is_initial || ABBREVIATIONS.iter().any(|abbreviation| word.eq_ignore_ascii_case(abbreviation))
}

/// Without what a voice would stumble over; nothing when there is nothing to say.
fn speakable(piece: &str) -> Option<String> {
    let bare: String = piece.chars().filter(|c| !matches!(c, '*' | '_' | '`' | '#')).collect();
    let words = bare.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().any(char::is_alphanumeric).then_some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All pieces of a text that is written in these chunks.
    fn pieces<'a>(chunks: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let (mut clauses, mut pieces) = (Clauses::default(), Vec::new());
        for chunk in chunks {
            clauses.push(chunk);
            pieces.extend(std::iter::from_fn(|| clauses.next()));
        }
        pieces.extend(clauses.finish());
        pieces
    }

    #[test]
    fn the_first_clause_comes_early_and_the_others_by_sentence() {
        let text =
            "Of course, I can help you with that. Your table for 3.5 people, as Mr. Smith said, is booked. See you!";
        let expected = [
            "Of course, I can help you with that.",
            "Your table for 3.5 people, as Mr. Smith said, is booked.",
            "See you!",
        ];
        assert_eq!(pieces([text]), expected);
        assert_eq!(pieces(["Good morning to you, what can I do? It is open."])[0], "Good morning to you,");
    }

    #[test]
    fn a_full_stop_that_may_be_a_decimal_point_waits_for_what_follows() {
        let mut clauses = Clauses::default();
        clauses.push("That makes exactly 12.");
        assert_eq!(clauses.next(), None);
        clauses.push("50 dollars.");
        assert_eq!(clauses.next(), None);
        clauses.push(" Anything");
        assert_eq!(clauses.next().as_deref(), Some("That makes exactly 12.50 dollars."));
    }

    #[test]
    fn japanese_has_no_blanks() {
        assert_eq!(
            pieces(["はい、承知いたしました。明日の三時に予約をお取りします。"]),
            ["はい、承知いたしました。", "明日の三時に予約をお取りします。"]
        );
    }

    #[test]
    fn marks_are_not_read_out_and_nothing_is_no_piece() {
        assert_eq!(pieces(["**Sure**, here is `it`:\n\n- one\n"]), ["Sure, here is it:", "- one"]);
        assert!(pieces(["  ", "...", "\n"]).is_empty());
    }

    #[test]
    fn what_never_ends_is_cut_at_a_blank() {
        let text = "word ".repeat(200);
        let pieces = pieces([text.as_str()]);
        assert!(pieces.iter().all(|piece| piece.len() <= 2 * LONG));
        assert_eq!(pieces.join(" "), text.trim());
    }

    proptest! {
        /// However the text comes, the pieces are the same.
        #[test]
        fn chunks_do_not_matter(text in "[a-zé 。,.!?\n0-9]{0,400}", cuts in prop::collection::vec(1_usize..9, 0..200)) {
            let (mut rest, mut chunks) = (text.as_str(), Vec::new());
            for cut in cuts {
                let at = rest.char_indices().nth(cut).map_or(rest.len(), |(at, _)| at);
                let (chunk, after) = rest.split_at(at);
                chunks.push(chunk);
                rest = after;
            }
            chunks.push(rest);
            prop_assert_eq!(pieces(chunks), pieces([text.as_str()]));
        }
    }
}
