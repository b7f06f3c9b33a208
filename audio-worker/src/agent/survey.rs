//! A survey: asks its questions, takes answers by voice and by key, and reports what came of it.
//!
//! `course` decides how it goes on, `meaning` understands what was said, `report` is the result, [`results`] delivers it.
//! All but the last are pure: the time comes from a closure.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures_util::stream;
use telemetry::Sensitive;

use super::{
    Opening,
    brain::{Answer, Brain, Farewell, Piece},
};
use crate::provider::Message;

mod course;
mod meaning;
mod numbers;
mod plan;
mod report;
pub mod results;
pub mod sending;
mod words;

use course::{How, Place, Said, Saying};
use meaning::Lexicon;
pub use plan::{Choice, Condition, Kind, Plan, Question, Rule, Value, Wanted, Words, outcome};
pub use report::Report;

/// What a survey has to do with the world.
pub struct Surroundings {
    /// Time since the conversation began.
    pub elapsed: Box<dyn Fn() -> Duration + Send>,
    /// Takes the result, once for each call. It must not wait.
    pub report: Box<dyn FnMut(Report) + Send>,
}

/// The survey of one call.
pub struct Survey {
    plan: Arc<Plan>,
    lexicon: Lexicon,
    surroundings: Surroundings,
    agent: String,
    call_id: String,
    language: String,
    numbers: Option<Sensitive<(String, String)>>,
    parameters: Sensitive<BTreeMap<String, String>>,
    place: Place,
    /// Where it would be after what may be all that the caller said.
    guess: Option<(String, Place)>,
    started: Option<Duration>,
    is_reported: bool,
}

impl Survey {
    /// The survey `plan` of the agent named `agent`, for a call. `language` is the agent's own, for a call without one;
    /// `include_numbers` says whether the result tells who called.
    pub fn new(
        plan: Arc<Plan>,
        (agent, language): (&str, &str),
        include_numbers: bool,
        opening: &Opening,
        surroundings: Surroundings,
    ) -> Self {
        let language = if opening.language.is_empty() { language } else { &opening.language };
        let numbers = || Sensitive::new((opening.from.expose().clone(), opening.to.expose().clone()));
        Self {
            lexicon: Lexicon::new(language, &plan.words),
            plan,
            surroundings,
            agent: agent.to_owned(),
            call_id: opening.call_id.clone(),
            language: language.to_owned(),
            numbers: include_numbers.then(numbers),
            parameters: opening.parameters.clone(),
            place: Place::default(),
            guess: None,
            started: None,
            is_reported: false,
        }
    }

    /// Where it is after what was said, and what it says then.
    fn after(&self, said: &str) -> (Place, Vec<Piece>) {
        let meaning = match self.place.asked(&self.plan) {
            Some(question) => self.lexicon.meaning(said, &question.kind),
            None => meaning::Meaning::Unclear,
        };
        let (place, next) = self.place.after(&self.plan, meaning, How::Voice);
        (place, self.worded(next))
    }

    fn worded(&self, said: Said<'_>) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(said.len());
        for saying in said {
            match saying {
                Saying::Text(text) if text.is_empty() => {}
                // Pieces follow each other without a space of their own.
                Saying::Text(text) => pieces.push(Piece::Say(text.fill(self.parameters.expose()) + " ")),
                Saying::Do(piece) => pieces.push(piece),
            }
        }
        pieces
    }

    fn go_to(&mut self, place: Place) {
        self.guess = None;
        self.place = place;
        if self.place.outcome.is_some() {
            self.report();
        }
    }

    fn report(&mut self) {
        if self.is_reported {
            return;
        }
        self.is_reported = true;
        let now = (self.surroundings.elapsed)();
        let numbers = self.numbers.as_ref().map(|numbers| numbers.expose());
        let facts = report::Facts {
            call_id: &self.call_id,
            agent: &self.agent,
            language: &self.language,
            numbers: numbers.map(|(from, to)| (from.as_str(), to.as_str())),
            outcome: self.place.outcome.as_deref().unwrap_or(outcome::HUNG_UP),
            is_completed: self.place.is_completed,
            started: self.started.unwrap_or(now),
            ended: now,
        };
        (self.surroundings.report)(Report::new(&facts, &self.plan, &self.place.answers));
    }
}

impl Brain for Survey {
    fn greet(&mut self) -> Answer {
        self.started = Some((self.surroundings.elapsed)());
        let plan = Arc::clone(&self.plan);
        let (place, said) = Place::begin(&plan);
        let pieces = self.worded(said);
        self.go_to(place);
        ready(pieces)
    }

    fn answer(&mut self, said: &str, _: &[Message]) -> Answer {
        let (place, pieces) = self.after(said);
        self.guess = Some((said.to_owned(), place));
        ready(pieces)
    }

    fn settle(&mut self, said: &str) {
        let place = match self.guess.take() {
            Some((guessed, place)) if guessed == said => place,
            Some(_) | None => self.after(said).0,
        };
        self.go_to(place);
    }

    fn key(&mut self, key: char) -> Option<Answer> {
        let plan = Arc::clone(&self.plan);
        let (place, said) = self.place.keyed(&plan, key)?;
        let pieces = self.worded(said);
        self.go_to(place);
        if pieces.is_empty() { None } else { Some(ready(pieces)) }
    }

    fn silence(&mut self, nth: u32) -> Option<Answer> {
        let plan = Arc::clone(&self.plan);
        let (place, said) = self.place.silent(&plan, nth)?;
        let pieces = self.worded(said);
        self.go_to(place);
        Some(ready(pieces))
    }

    fn farewell(&mut self, why: Farewell) -> Answer {
        let outcome = match why {
            Farewell::Silence => outcome::NO_ANSWER,
            Farewell::Faults => outcome::FAILED,
        };
        let plan = Arc::clone(&self.plan);
        let (place, said) = self.place.break_off(&plan, outcome);
        let pieces = self.worded(said);
        self.go_to(place);
        ready(pieces)
    }

    fn over(&mut self) {
        self.report();
    }
}

impl fmt::Debug for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survey").field("agent", &self.agent).finish_non_exhaustive()
    }
}

fn ready(pieces: Vec<Piece>) -> Answer {
    Box::pin(stream::iter(pieces.into_iter().map(Ok)))
}

#[cfg(test)]
mod tests;
