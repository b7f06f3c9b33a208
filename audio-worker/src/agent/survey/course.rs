//! How a survey goes on: from where it is and what came, to where it is then and what is said. Pure, and nothing is changed
//! in place, so that a step can be thrown away.

use super::{
    meaning::Meaning,
    numbers::MAX_DIGITS,
    plan::{Kind, Plan, Question, Value, outcome},
};
use crate::agent::{brain::Piece, text::Text};

/// Where a survey is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// The question that was asked last.
    question: usize,
    /// How often it was asked because it was not understood, the first time included.
    attempts: u32,
    /// Digits of a number so far.
    typed: String,
    /// One for each question that is over.
    pub(super) answers: Vec<Answer>,
    /// How it ended.
    pub(super) outcome: Option<String>,
    /// Whether it ended by its own rules.
    pub(super) is_completed: bool,
}

/// What a question was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) value: Value,
    pub(super) how: Option<How>,
    pub(super) attempts: u32,
}

/// How a caller answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Voice,
    Key,
}

/// What is said next, in order.
pub(super) type Said<'p> = Vec<Saying<'p>>;

/// Something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Saying<'p> {
    Text(&'p Text),
    Do(Piece),
}

impl Place {
    /// The greeting and the first question.
    pub(super) fn begin(plan: &Plan) -> (Self, Said<'_>) {
        let place = Self { attempts: 1, ..Self::default() };
        let mut said = Vec::new();
        if plan.greeting_protected {
            said.push(Saying::Do(Piece::Protect));
        }
        said.push(Saying::Text(&plan.greeting));
        match place.asked(plan) {
            Some(question) => {
                said.extend(ask(question));
                (place, said)
            }
            None => {
                let (place, rest) = place.end(plan, outcome::COMPLETED, true);
                said.extend(rest);
                (place, said)
            }
        }
    }

    /// The question that waits for an answer.
    pub(super) fn asked<'p>(&self, plan: &'p Plan) -> Option<&'p Question> {
        if self.outcome.is_some() { None } else { plan.questions.get(self.question) }
    }

    /// After something was said, or a whole answer was keyed.
    pub(super) fn after<'p>(&self, plan: &'p Plan, meaning: Meaning, how: How) -> (Self, Said<'p>) {
        let place = Self { typed: String::new(), ..self.clone() };
        let Some(question) = self.asked(plan) else { return (place, farewell(plan, None)) };
        match meaning {
            Meaning::Answer(value) => place.answered(plan, question, value, Some(how)),
            Meaning::Skip if question.skippable => place.answered(plan, question, Value::Skipped, Some(how)),
            Meaning::Repeat => (place, ask(question)),
            Meaning::Skip | Meaning::Unclear => place.not_understood(plan, question),
        }
    }

    /// After a key; `None` while it means nothing yet.
    pub(super) fn keyed<'p>(&self, plan: &'p Plan, key: char) -> Option<(Self, Said<'p>)> {
        let question = self.asked(plan)?;
        let value = match (&question.kind, key) {
            (_, '*') => return Some(self.after(plan, Meaning::Repeat, How::Key)),
            (Kind::Number(..), '#') if !self.typed.is_empty() => return self.typed_out(plan),
            (_, '#') => return Some(self.after(plan, Meaning::Skip, How::Key)),
            (Kind::YesNo, '1') => Some(Value::Yes),
            (Kind::YesNo, '2') => Some(Value::No),
            (Kind::Choice(choices), key) => choices.iter().position(|choice| choice.key == key).map(Value::Choice),
            (Kind::Number(_, to), '0'..='9') => {
                let mut place = self.clone();
                place.typed.push(key);
                // No further digit would fit.
                if place.typed.len() >= to.to_string().len().min(MAX_DIGITS) {
                    return place.typed_out(plan);
                }
                return Some((place, Vec::new()));
            }
            (Kind::YesNo | Kind::Number(..), _) => None,
        };
        let meaning = value.map_or(Meaning::Unclear, Meaning::Answer);
        Some(self.after(plan, meaning, How::Key))
    }

    /// After silence, for the `nth` time in a row from 1; `None` when that is enough.
    pub(super) fn silent<'p>(&self, plan: &'p Plan, nth: u32) -> Option<(Self, Said<'p>)> {
        if !self.typed.is_empty() {
            return self.typed_out(plan);
        }
        let prompt = plan.silence_prompts.get(usize::try_from(nth.checked_sub(1)?).ok()?)?;
        let question = self.asked(plan)?;
        let mut said = ask(question);
        said.insert(usize::from(question.protected), Saying::Text(prompt));
        Some((self.clone(), said))
    }

    /// Ends it for a reason that is none of its own.
    pub(super) fn break_off<'p>(&self, plan: &'p Plan, why: &str) -> (Self, Said<'p>) {
        if self.outcome.is_some() {
            return (self.clone(), farewell(plan, None));
        }
        self.clone().end(plan, why, false)
    }

    /// The digits that were keyed are all.
    fn typed_out<'p>(&self, plan: &'p Plan) -> Option<(Self, Said<'p>)> {
        let Kind::Number(from, to) = self.asked(plan)?.kind else { return None };
        let number = self.typed.parse().ok().filter(|number| (from..=to).contains(number));
        let meaning = number.map_or(Meaning::Unclear, |number| Meaning::Answer(Value::Number(number)));
        Some(self.after(plan, meaning, How::Key))
    }

    fn answered<'p>(
        mut self,
        plan: &'p Plan,
        question: &'p Question,
        value: Value,
        how: Option<How>,
    ) -> (Self, Said<'p>) {
        self.answers.push(Answer { value, how, attempts: self.attempts });
        if let Some((_, outcome)) = question.ends.iter().find(|(wanted, _)| wanted.is_met(value)) {
            return self.end(plan, outcome, true);
        }
        self.question += 1;
        self.attempts = 1;
        if let Some(next) = self.asked(plan) {
            return (self, ask(next));
        }
        let answer = |at: usize| self.answers.get(at).map(|answer| answer.value);
        let rule = plan.rules.iter().find(|rule| rule.holds(answer));
        let outcome = rule.map_or(outcome::COMPLETED, |rule| rule.outcome.as_str());
        self.end(plan, outcome, true)
    }

    fn not_understood<'p>(mut self, plan: &'p Plan, question: &'p Question) -> (Self, Said<'p>) {
        if self.attempts <= question.retries {
            self.attempts += 1;
            let mut said = protection(question);
            match &question.reprompt {
                Some(reprompt) => said.push(Saying::Text(reprompt)),
                None => said.extend([Saying::Text(&plan.reprompt), Saying::Text(&question.ask)]),
            }
            return (self, said);
        }
        let is_end = question.ends.iter().any(|(wanted, _)| wanted.is_met(Value::Unanswered));
        if question.required && !is_end {
            self.answers.push(Answer { value: Value::Unanswered, how: None, attempts: self.attempts });
            return self.end(plan, outcome::NOT_UNDERSTOOD, false);
        }
        self.answered(plan, question, Value::Unanswered, None)
    }

    fn end<'p>(mut self, plan: &'p Plan, outcome: &str, is_completed: bool) -> (Self, Said<'p>) {
        self.outcome = Some(outcome.to_owned());
        self.is_completed = is_completed;
        (self, farewell(plan, Some(outcome)))
    }
}

/// The question, in its own words.
fn ask(question: &Question) -> Said<'_> {
    let mut said = protection(question);
    said.push(Saying::Text(&question.ask));
    said
}

fn protection<'p>(question: &Question) -> Said<'p> {
    if question.protected { vec![Saying::Do(Piece::Protect)] } else { Vec::new() }
}

/// The last words after an outcome, or after they were said already.
fn farewell<'p>(plan: &'p Plan, outcome: Option<&str>) -> Said<'p> {
    let ending = outcome.and_then(|outcome| plan.endings.get(outcome)).map(Saying::Text);
    let last = if outcome == Some(outcome::FAILED) { &plan.give_up } else { &plan.goodbye };
    let reason =
        outcome.map_or_else(|| "the survey is over".to_owned(), |outcome| format!("the survey ended: {outcome}"));
    ending.into_iter().chain([Saying::Text(last), Saying::Do(Piece::Hangup { reason })]).collect()
}
