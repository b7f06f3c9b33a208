//! What came of a survey, as a webhook is told. Pure.

use std::time::Duration;

use serde_json::{Value as Json, json};
use telemetry::Sensitive;

use super::{
    course::{Answer, How},
    plan::{Kind, Plan, Question, Value},
};

/// Version of the form of results.
const VERSION: u32 = 1;

/// What came of the survey of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The carrier's id of the call.
    pub call_id: String,
    /// How it ended.
    pub outcome: String,
    /// What is sent: answers, and numbers if they may be.
    pub body: Sensitive<Json>,
}

/// What a report tells beside the answers.
pub(super) struct Facts<'a> {
    pub(super) call_id: &'a str,
    pub(super) agent: &'a str,
    pub(super) language: &'a str,
    /// From and to, if they may be told.
    pub(super) numbers: Option<(&'a str, &'a str)>,
    pub(super) outcome: &'a str,
    pub(super) is_completed: bool,
    /// Since the start of the conversation.
    pub(super) started: Duration,
    pub(super) ended: Duration,
}

impl Report {
    pub(super) fn new(facts: &Facts<'_>, plan: &Plan, answers: &[Answer]) -> Self {
        let answers: Vec<_> =
            plan.questions.iter().zip(answers).map(|(question, answer)| told(question, *answer)).collect();
        let mut body = json!({
            "version": VERSION,
            "call_id": facts.call_id,
            "agent": facts.agent,
            "language": facts.language,
            "outcome": facts.outcome,
            "completed": facts.is_completed,
            "started_ms": ms(facts.started),
            "ended_ms": ms(facts.ended),
            "answers": answers,
        });
        if let (Some((from, to)), Some(body)) = (facts.numbers, body.as_object_mut()) {
            body.insert("from".to_owned(), from.into());
            body.insert("to".to_owned(), to.into());
        }
        Self { call_id: facts.call_id.to_owned(), outcome: facts.outcome.to_owned(), body: Sensitive::new(body) }
    }
}

fn told(question: &Question, Answer { value, how, attempts }: Answer) -> Json {
    let shown = match (value, &question.kind) {
        (Value::Yes, _) => json!("yes"),
        (Value::No, _) => json!("no"),
        (Value::Number(number), _) => json!(number),
        (Value::Choice(at), Kind::Choice(choices)) => json!(choices.get(at).map(|choice| choice.id.as_str())),
        (Value::Choice(_), Kind::YesNo | Kind::Number(..)) | (Value::Skipped | Value::Unanswered, _) => Json::Null,
    };
    let how = how.map(|how| match how {
        How::Voice => "voice",
        How::Key => "key",
    });
    json!({
        "question": question.id,
        "value": shown,
        "how": how,
        "attempts": attempts,
        "skipped": value == Value::Skipped,
    })
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
