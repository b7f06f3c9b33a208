//! What the doctor found, for people and for machines.

use std::fmt;

use serde_json::{Value, json};

/// Longest text taken over from a peer, in characters.
const MAX_CHARS: usize = 600;

/// What no examination from here can find out.
const NOTE: &str =
    "All of this was asked from this machine: whether Twilio reaches the public address too, a call will tell.";

/// All findings, in the order of the examination.
#[derive(Debug, Clone)]
pub struct Report(Vec<Finding>);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its name.
    pub check: &'static str,
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do.
    pub cure: Option<String>,
    /// Under which numbers Twilio reports the same.
    pub codes: Vec<u32>,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Calls will suffer.
    Failed,
    /// It could not be looked at.
    Skipped,
}

impl Report {
    pub(super) const fn new(findings: Vec<Finding>) -> Self {
        Self(findings)
    }

    /// Whether nothing failed.
    pub fn is_healthy(&self) -> bool {
        self.0.iter().all(|finding| finding.outcome != Outcome::Failed)
    }

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }

    /// The same for machines.
    pub fn json(&self) -> Value {
        let finding = |Finding { check, outcome, found, cure, codes }: &Finding| {
            let outcome = outcome.name();
            json!({"check": check, "outcome": outcome, "found": found, "cure": cure, "twilio_codes": codes})
        };
        let findings: Vec<_> = self.0.iter().map(finding).collect();
        json!({"healthy": self.is_healthy(), "findings": findings, "note": NOTE})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { check, outcome, found, cure, codes } in &self.0 {
            let outcome = if *outcome == Outcome::Failed { "FAILED" } else { outcome.name() };
            writeln!(f, "{outcome:<8} {check:<15} {found}")?;
            if let Some(cure) = cure {
                writeln!(f, "{:24} what to do: {cure}", "")?;
            }
            if let Some(first) = codes.first() {
                let all: Vec<_> = codes.iter().map(u32::to_string).collect();
                let all = all.join(", ");
                writeln!(f, "{:24} at Twilio: {all} (https://www.twilio.com/docs/api/errors/{first})", "")?;
            }
        }
        writeln!(f, "\n{NOTE}")
    }
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, found: printable(&found.into()), cure: None, codes: Vec::new() }
    }

    pub(super) fn failed(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, cure: Some(printable(&cure.into())), ..Self::ok(check, found) }
    }

    pub(super) fn skipped(check: &'static str, found: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skipped, ..Self::ok(check, found) }
    }

    pub(super) fn with_codes(self, codes: &[u32]) -> Self {
        Self { codes: codes.to_vec(), ..self }
    }
}

/// `text` with all but the last two digits of what may be phone numbers hidden.
pub(super) fn masked(text: &str) -> String {
    /// What is shorter is no number.
    const SHORTEST: usize = 7;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        // Twilio also writes (555) 010-0000.
        let end =
            from.find(|c: char| !c.is_ascii_digit() && !matches!(c, ' ' | '-' | '(' | ')' | '.')).unwrap_or(from.len());
        let (run, after) = from.split_at(end);
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        out.push_str(before);
        let mut seen = 0;
        out.extend(run.chars().map(|c| {
            seen += usize::from(c.is_ascii_digit());
            if digits >= SHORTEST && c.is_ascii_digit() && seen + 2 <= digits { '*' } else { c }
        }));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// One line, whatever a peer wrote.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_two_digits() {
        for (text, expected) in [
            ("+15550100", "+******00"),
            ("The number +15550100 is not one", "The number +******00 is not one"),
            ("(555) 010-0123", "(***) ***-**23"),
            ("code 21211, 3 of 500", "code 21211, 3 of 500"),
            ("", ""),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn a_report_says_what_to_do_and_where_to_read_on() {
        let report = Report::new(vec![
            Finding::ok("settings", "they can be used"),
            Finding::failed("number", "its webhook is\n elsewhere", "set it").with_codes(&[11200, 12100]),
        ]);
        let text = report.to_string();
        assert!(text.contains("ok       settings"), "{text}");
        assert!(text.contains("FAILED   number          its webhook is  elsewhere\n"), "{text}");
        assert!(text.contains("what to do: set it\n"), "{text}");
        assert!(text.contains("11200, 12100 (https://www.twilio.com/docs/api/errors/11200)"), "{text}");
        assert!(text.contains("from this machine") && !report.is_healthy());
        assert_eq!(report.json()["findings"][1]["twilio_codes"], json!([11200, 12100]));
    }
}
