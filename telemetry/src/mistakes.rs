//! What is wrong in a file that an operator wrote: each mistake with its line and its cure. Pure.
//!
//! A mistake never quotes what the file says, which may be personal or secret.

use std::{fmt, ops::Range};

/// Most mistakes told; the rest is counted.
const MAX_TOLD: usize = 20;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// Line of the file, from 1.
    pub line: usize,
    /// The part of the file, such as `route 3`, where it is in one.
    pub part: Option<String>,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(part) = &self.part {
            write!(f, ", {part}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// The mistakes in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
pub struct Mistakes {
    /// The first ones, in the order in which they were found.
    pub told: Vec<Mistake>,
    /// How many more there are.
    pub untold: usize,
}

impl Mistakes {
    /// Adds a mistake at `place` of `text`.
    pub fn add(&mut self, text: &str, place: Range<usize>, part: Option<String>, what: String) {
        let before = text.as_bytes().get(..place.start).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        if self.told.len() == MAX_TOLD {
            self.untold += 1;
        } else {
            self.told.push(Mistake { line, part, what });
        }
    }

    /// True without any.
    pub const fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// One mistake a line.
    pub fn lines(&self) -> Vec<String> {
        let more = (self.untold > 0).then(|| format!("and {} more mistakes", self.untold));
        self.told.iter().map(ToString::to_string).chain(more).collect()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.told.iter().enumerate() {
            write!(f, "{}{mistake}", if at == 0 { "" } else { "; " })?;
        }
        if self.untold > 0 {
            write!(f, "; and {} more", self.untold)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one_and_the_rest_is_counted() {
        let mut mistakes = Mistakes::default();
        let text = "a\n".repeat(30);
        for line in 0..25 {
            mistakes.add(&text, line * 2..line * 2 + 1, None, "is wrong".to_owned());
        }
        assert_eq!(mistakes.told.len() + mistakes.untold, 25);
        let lines = mistakes.lines();
        assert_eq!((lines[0].as_str(), lines[19].as_str()), ("line 1: is wrong", "line 20: is wrong"));
        assert_eq!((lines.len(), lines[20].as_str()), (21, "and 5 more mistakes"));
    }
}
