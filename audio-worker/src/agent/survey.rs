//! A survey: asks its questions, takes answers by voice and by key, and reports what came of it.

mod plan;

pub use plan::{Choice, Condition, Kind, Plan, Question, Rule, Value, Wanted, Words, outcome};
