//! Words that callers answer with, by language. Pure data.
//!
//! Phrases are compared word by word, without case, punctuation and apostrophes. A phrase that begins with `=` counts only when
//! nothing else was said.

mod english;
mod french;
mod german;
mod japanese;
mod spanish;

/// The words of one language.
#[derive(Debug)]
pub(super) struct Language {
    pub(super) yes: &'static [&'static str],
    pub(super) no: &'static [&'static str],
    /// Neither yes nor no, whatever else is in it.
    pub(super) unsure: &'static [&'static str],
    pub(super) repeat: &'static [&'static str],
    pub(super) skip: &'static [&'static str],
    /// The first to the tenth.
    pub(super) ordinals: [&'static [&'static str]; 10],
    /// From 0 on, as far as there are words of their own.
    pub(super) numbers: &'static [&'static str],
    /// Other spellings of numbers, and numbers of several words.
    pub(super) spellings: &'static [(&'static str, u64)],
    /// 20, 30 to 90.
    pub(super) tens: &'static [(&'static str, u64)],
    /// What multiplies: hundred, thousand.
    pub(super) powers: &'static [(&'static str, u64)],
    /// What may stand within a number.
    pub(super) joints: &'static [&'static str],
}

/// Those of a BCP 47 tag; English where the language has none.
pub(super) fn of(language: &str) -> &'static Language {
    match language.split('-').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "de" => &german::WORDS,
        "es" => &spanish::WORDS,
        "fr" => &french::WORDS,
        "ja" => &japanese::WORDS,
        _ => &english::WORDS,
    }
}
