//! What a survey asks, and what it makes of the answers. Pure.

use std::collections::BTreeMap;

use crate::agent::text::Text;

/// Outcomes that every survey can have.
pub mod outcome {
    /// All questions were asked, and no rule said otherwise.
    pub const COMPLETED: &str = "completed";
    /// The caller hung up, or the call went elsewhere.
    pub const HUNG_UP: &str = "hung_up";
    /// The caller said nothing any more.
    pub const NO_ANSWER: &str = "no_answer";
    /// A required question was not understood as often as it may be.
    pub const NOT_UNDERSTOOD: &str = "not_understood";
    /// Speech could not be understood or made.
    pub const FAILED: &str = "failed";

    /// All of them.
    pub const ALL: [&str; 5] = [COMPLETED, HUNG_UP, NO_ANSWER, NOT_UNDERSTOOD, FAILED];
}

/// A survey.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The first words.
    pub greeting: Text,
    /// Whether the greeting must not be interrupted.
    pub greeting_protected: bool,
    /// Said before a question is asked again that was not understood, unless the question has its own words.
    pub reprompt: Text,
    /// Said before the question is asked again to a caller who is silent: one a time, then no more.
    pub silence_prompts: Vec<Text>,
    /// The last words, after those of the outcome.
    pub goodbye: Text,
    /// The last words when providers fail again and again.
    pub give_up: Text,
    /// In the order in which they are asked.
    pub questions: Vec<Question>,
    /// Looked at after the last question, in this order; the first that holds decides.
    pub rules: Vec<Rule>,
    /// What is said at the end, by outcome.
    pub endings: BTreeMap<String, Text>,
    /// Words of the operator's own; a list that is not empty replaces that of the language.
    pub words: Words,
}

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Its name in the result.
    pub id: String,
    /// The question.
    pub ask: Text,
    /// Said instead of the question when it was not understood.
    pub reprompt: Option<Text>,
    /// How often it is asked again when it was not understood.
    pub retries: u32,
    /// Whether the caller may skip it.
    pub skippable: bool,
    /// Whether the survey ends when it was not understood too often.
    pub required: bool,
    /// Whether it must not be interrupted.
    pub protected: bool,
    /// What answers it.
    pub kind: Kind,
    /// Answers that end the survey at once, and how.
    pub ends: Vec<(Wanted, String)>,
}

/// What answers a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Yes, key 1, or no, key 2.
    YesNo,
    /// One of these.
    Choice(Vec<Choice>),
    /// A whole number, from and to.
    Number(u64, u64),
}

/// One of several answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name in the result.
    pub id: String,
    /// What callers say who mean it.
    pub words: Vec<String>,
    /// The key for it: 0 to 9.
    pub key: char,
}

/// What a question may have been answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Yes.
    Yes,
    /// No.
    No,
    /// The choice at this place.
    Choice(usize),
    /// A number.
    Number(u64),
    /// The caller would not say.
    Skipped,
    /// It was never understood.
    Unanswered,
}

/// A value that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// This one.
    Is(Value),
    /// A number, from and to.
    Within(u64, u64),
}

impl Wanted {
    /// Whether `value` is meant.
    pub fn is_met(self, value: Value) -> bool {
        match (self, value) {
            (Self::Is(wanted), value) => wanted == value,
            (Self::Within(from, to), Value::Number(number)) => (from..=to).contains(&number),
            (Self::Within(..), Value::Yes | Value::No | Value::Choice(_) | Value::Skipped | Value::Unanswered) => false,
        }
    }
}

/// What the answers amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All of these must hold.
    pub all: Vec<Condition>,
    /// One of these must hold, where there are any.
    pub any: Vec<Condition>,
    /// How the survey ends then.
    pub outcome: String,
}

/// The question at `question` was answered with one of `wanted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Place of the question.
    pub question: usize,
    /// One of these is enough.
    pub wanted: Vec<Wanted>,
}

impl Rule {
    /// Whether it holds for answers given by the place of their question.
    pub fn holds(&self, answer: impl Fn(usize) -> Option<Value>) -> bool {
        let is_met = |condition: &Condition| {
            answer(condition.question).is_some_and(|value| condition.wanted.iter().any(|wanted| wanted.is_met(value)))
        };
        self.all.iter().all(is_met) && (self.any.is_empty() || self.any.iter().any(is_met))
    }
}

/// What callers say, in lists of words or phrases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Words {
    /// Yes.
    pub yes: Vec<String>,
    /// No.
    pub no: Vec<String>,
    /// Ask me again.
    pub repeat: Vec<String>,
    /// I would rather not say.
    pub skip: Vec<String>,
}
