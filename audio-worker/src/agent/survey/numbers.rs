//! Numbers in words: `twenty five`, `two hundred and five`, `one two three`, `nineteen eighty four`, `25`. Pure.

use super::{meaning::split, words::Language};

/// Most digits of a number.
pub(super) const MAX_DIGITS: usize = 16;

/// A piece of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// As it was written.
    Digits(String),
    /// Less than ten, and up to where tens begin.
    Unit(u64),
    /// A multiple of ten that takes a unit.
    Ten(u64),
    /// What multiplies.
    Power(u64),
}

/// The one number in what was said; `None` when there is none, or more than one.
pub(super) fn number(said: &[String], language: &Language) -> Option<u64> {
    let (mut pieces, mut at, mut is_over) = (Vec::new(), 0, false);
    while at < said.len() {
        let rest = &said[at..];
        if let Some((piece, length)) = piece(rest, language) {
            if is_over {
                return None;
            }
            pieces.push(piece);
            at += length;
            continue;
        }
        let word = rest[0].as_str();
        let goes_on =
            language.joints.contains(&word) && rest.get(1..).is_some_and(|rest| piece(rest, language).is_some());
        let takes_more = matches!(pieces.last(), Some(Piece::Ten(_) | Piece::Power(_)));
        is_over |= !(pieces.is_empty() || goes_on && takes_more);
        // Less than nothing is no answer to any question.
        if matches!(word, "minus" | "negative" | "moins" | "menos") {
            return None;
        }
        at += 1;
    }
    value(&pieces)
}

/// The words of a small number.
pub(super) fn words(number: u64, language: &Language) -> Vec<&'static str> {
    let plain = usize::try_from(number).ok().and_then(|at| language.numbers.get(at).copied());
    let others = language.spellings.iter().filter(|(_, value)| *value == number).map(|(word, _)| *word);
    plain.into_iter().chain(others).collect()
}

/// The piece that `said` begins with, and how many words it has.
fn piece(said: &[String], language: &Language) -> Option<(Piece, usize)> {
    let first = said.first()?;
    if first.len() <= MAX_DIGITS && first.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some((Piece::Digits(first.clone()), 1));
    }
    let plain = language.numbers.iter().zip(0..).map(|(word, value)| (*word, Piece::Unit(value)));
    let spelt = language.spellings.iter().map(|(word, value)| (*word, Piece::Unit(*value)));
    let tens = language.tens.iter().map(|(word, value)| (*word, Piece::Ten(*value)));
    let powers = language.powers.iter().map(|(word, value)| (*word, Piece::Power(*value)));
    let all = plain.chain(spelt).chain(tens).chain(powers).map(|(word, piece)| (split(word), piece));
    let found = all.filter(|(words, _)| said.starts_with(words)).max_by_key(|(words, _)| words.len());
    found.map(|(words, piece)| (piece, words.len())).or_else(|| Some((compound(first, language)?, 1)))
}

/// A unit and a ten in one word: `fünfundzwanzig`.
fn compound(word: &str, language: &Language) -> Option<Piece> {
    language.joints.iter().find_map(|joint| {
        let (unit, ten) = word.split_once(joint)?;
        let (_, ten) = language.tens.iter().find(|(word, _)| *word == ten)?;
        let spelt = language.spellings.iter().find(|(word, _)| *word == unit).map(|(_, value)| *value);
        let plain = language.numbers.iter().zip(0..10).find(|(word, _)| **word == unit).map(|(_, value)| value);
        Some(Piece::Unit(ten + spelt.or(plain)?))
    })
}

fn value(pieces: &[Piece]) -> Option<u64> {
    if pieces.is_empty() {
        return None;
    }
    if pieces.iter().any(|piece| matches!(piece, Piece::Power(_))) { sum(pieces) } else { row(pieces) }
}

/// `two hundred and five`: what is before a power is multiplied by it.
fn sum(pieces: &[Piece]) -> Option<u64> {
    let (mut thousands, mut hundreds, mut pending) = (0_u64, 0_u64, 0_u64);
    for piece in pieces {
        match piece {
            Piece::Power(power) if *power >= 1000 => {
                thousands = thousands.checked_add((hundreds + pending).max(1).checked_mul(*power)?)?;
                (hundreds, pending) = (0, 0);
            }
            Piece::Power(power) => {
                hundreds = hundreds.checked_add(pending.max(1).checked_mul(*power)?)?;
                pending = 0;
            }
            Piece::Unit(value) | Piece::Ten(value) => pending = pending.checked_add(*value)?,
            Piece::Digits(digits) => pending = pending.checked_add(digits.parse().ok()?)?,
        }
    }
    thousands.checked_add(hundreds)?.checked_add(pending)
}

/// `one two three`, `nineteen eighty four`: digits in a row.
fn row(pieces: &[Piece]) -> Option<u64> {
    let (mut digits, mut at) = (String::new(), 0);
    while let Some(piece) = pieces.get(at) {
        at += 1;
        match (piece, pieces.get(at)) {
            (Piece::Ten(ten), Some(Piece::Unit(unit))) if (1..20).contains(unit) => {
                digits.push_str(&(ten + unit).to_string());
                at += 1;
            }
            (Piece::Ten(value) | Piece::Unit(value), _) => digits.push_str(&value.to_string()),
            (Piece::Digits(written), _) => digits.push_str(written),
            (Piece::Power(_), _) => return None,
        }
    }
    if digits.len() <= MAX_DIGITS { digits.parse().ok() } else { None }
}
