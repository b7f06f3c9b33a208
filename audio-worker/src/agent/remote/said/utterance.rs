//! One utterance: whose number is whose, how much of it was heard, and the words of that. Pure.

use crate::agent::{Report, Speaker};

/// A report this much short of the end is one of the end: codec and filters round. Microseconds.
pub(super) const ROUNDING_US: u64 = 40_000;

/// An utterance, from its first sound on until its end was heard.
#[derive(Debug)]
pub(super) struct Utterance {
    /// The agent's number; `None` for what was ordered.
    pub(super) theirs: Option<u64>,
    /// Ours, as the port counts; 0 before its first sound.
    pub(super) ours: u64,
    pub(super) given_us: u64,
    pub(super) heard_us: u64,
    pub(super) complete: bool,
    /// The rest was thrown away; it is told how much was heard.
    pub(super) cut: bool,
    pub(super) text: String,
}

impl Utterance {
    /// Given out, and still to be heard.
    pub(super) const fn ahead_us(&self) -> u64 {
        if self.cut { 0 } else { self.given_us - self.heard_us }
    }
}

/// The words of an utterance, as far as they were heard: by proportion, to the end of a word.
pub(super) fn transcript(utterance: &Utterance, interrupted: bool) -> Option<Report> {
    let (text, given) = (utterance.text.as_str(), utterance.given_us.max(1));
    let is_whole = utterance.heard_us + ROUNDING_US >= given || !interrupted;
    let chars = text.chars().count() as u64 * utterance.heard_us / given;
    let end = text.char_indices().nth(usize::try_from(chars).unwrap_or(usize::MAX)).map_or(text.len(), |(at, _)| at);
    let heard = if is_whole { text } else { text[..end].rsplit_once(' ').map_or("", |(heard, _)| heard) };
    let said = Report::Said { by: Speaker::Agent, text: heard.to_owned(), is_final: true, interrupted: !is_whole };
    (!heard.is_empty()).then_some(said)
}
