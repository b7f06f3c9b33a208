//! A survey in an agents file: questions, rules, outcomes, words, and who is told.

use std::{collections::BTreeMap, ops::Range};

use telemetry::Sensitive;

use super::{
    agent::MAX_SPOKEN_CHARS,
    phrases::Phrases,
    reader::{Reader, Section, Value as Written},
    settings::{ResultsSettings, SurveySettings, Talk},
    stage::{self, Named},
};
use crate::agent::{
    survey::{Choice, Condition, Kind, Plan, Question, Rule, Value, Wanted, Words, outcome},
    text::Text,
};

/// Keys of a survey that no other kind has.
pub(super) const KEYS: &[&str] = &["question", "reprompt", "rule", "outcome", "words", "results"];

pub(super) const QUESTION: &[&str] = &[
    "id",
    "kind",
    "ask",
    "reprompt",
    "retries",
    "skippable",
    "required",
    "protected",
    "options",
    "min",
    "max",
    "ends",
];

/// Most questions and rules of a survey.
const MAX_QUESTIONS: usize = 100;

/// Most conditions of one rule, or answers that end a question.
const MAX_CONDITIONS: usize = 50;

/// Longest name of a question, an option or an outcome, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The largest number that JSON carries exactly to everybody (RFC 8259, section 6).
const MAX_NUMBER: u64 = 9_007_199_254_740_991;

/// What is a survey's own.
pub(super) struct Survey {
    plan: Plan,
    results: Option<ResultsSettings>,
}

impl Survey {
    /// With what all agents have that talk.
    pub(super) fn settings(self, talk: Talk) -> SurveySettings {
        let plan = Plan {
            greeting: talk.greeting.clone(),
            greeting_protected: talk.greeting_protected,
            silence_prompts: talk.silence_prompts.clone(),
            goodbye: talk.goodbye.clone(),
            give_up: talk.give_up.clone(),
            ..self.plan
        };
        SurveySettings { talk, plan: plan.into(), results: self.results }
    }
}

/// Reads the keys of a survey.
pub(super) fn survey(reader: &mut Reader<'_>, section: &Section<'_>, own: &Phrases) -> Option<Survey> {
    let reprompt = reader.text(section, "reprompt", MAX_SPOKEN_CHARS, false);
    let endings = endings(reader, section);
    let words = words(reader, section);
    let results = results(reader, section);
    let mut questions: Vec<Question> = Vec::new();
    for table in tables(reader, section, "question", QUESTION) {
        let Some(question) = question(reader, &table, &endings) else { continue };
        if questions.iter().any(|other| other.id == question.id) {
            let place = table.get("id").map_or(table.place, |value| value.span());
            reader.mistake(place, "another question of this survey has the same id");
        }
        questions.push(question);
    }
    if section.get("question").is_none() {
        reader.mistake(section.place.clone(), "needs questions; begin each with [[agent.NAME.question]]");
    }
    let rules: Vec<_> = tables(reader, section, "rule", &["all", "any", "outcome"])
        .iter()
        .filter_map(|table| rule(reader, table, &questions, &endings))
        .collect();
    let reprompt = reprompt.unwrap_or_else(|| Text::fixed(own.not_understood));
    Some(Survey { plan: Plan { reprompt, questions, rules, endings, words, ..Plan::default() }, results })
}

/// The tables of a list of tables.
fn tables<'t>(reader: &mut Reader<'_>, section: &Section<'t>, key: &str, known: &[&str]) -> Vec<Section<'t>> {
    let mut tables = Vec::new();
    for value in reader.list(section, key, MAX_QUESTIONS).unwrap_or_default() {
        match value.get_ref().as_table() {
            Some(table) => {
                reader.check_keys(table, known, key);
                tables.push(Section::new(table, None, value.span()));
            }
            None => reader.mistake(value.span(), format!("begin each {key} with [[agent.NAME.{key}]], two brackets")),
        }
    }
    tables
}

fn endings(reader: &mut Reader<'_>, section: &Section<'_>) -> BTreeMap<String, Text> {
    let mut endings = BTreeMap::new();
    let Some(value) = section.get("outcome") else { return endings };
    let Some(table) = value.get_ref().as_table() else {
        reader.mistake(value.span(), "begin each outcome with [agent.NAME.outcome.NAME_OF_THE_OUTCOME]");
        return endings;
    };
    for (name, value) in table.iter() {
        let place = name.span();
        let Some(name) = reader.name_of(place.clone(), name.get_ref(), "the name of an outcome", MAX_NAME_CHARS) else {
            continue;
        };
        let Some(table) = value.get_ref().as_table() else {
            reader.mistake(value.span(), "an outcome must be a table with the key say");
            continue;
        };
        reader.check_keys(table, &["say"], "outcome");
        let said = reader.text(&Section::new(table, None, place), "say", MAX_SPOKEN_CHARS, false);
        endings.insert(name, said.unwrap_or_default());
    }
    endings
}

fn words(reader: &mut Reader<'_>, section: &Section<'_>) -> Words {
    let section = reader.table(section, "words", &["yes", "no", "repeat", "skip"]);
    let mut list = |key| reader.words(&section, key).unwrap_or_default();
    Words { yes: list("yes"), no: list("no"), repeat: list("repeat"), skip: list("skip") }
}

fn results(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<ResultsSettings> {
    section.get("results")?;
    let section = reader.table(section, "results", &["url", "secret", "secret_file", "include_numbers"]);
    let include_numbers = reader.flag(&section, "include_numbers").unwrap_or(false);
    let url =
        match section.get("url").map(|value| (value, stage::address(value.get_ref().as_str().unwrap_or_default()))) {
            Some((_, Ok(url))) => Some(Sensitive::new(url)),
            Some((value, Err(what))) => {
                reader.mistake(value.span(), format!("url {what}"));
                None
            }
            None => {
                reader.mistake(section.place.clone(), "results need a url: the webhook that is told");
                None
            }
        };
    let secret = match stage::key(reader, &section, "secret", "secret_file") {
        Named::Found(secret) => Some(secret),
        Named::Wrong => None,
        Named::Nothing => {
            let what = "results need a secret that signs them: name a variable with secret or a file with secret_file";
            reader.mistake(section.place.clone(), what);
            None
        }
    };
    let (url, secret) = url.zip(secret)?;
    Some(ResultsSettings { url, secret, include_numbers })
}

fn question(reader: &mut Reader<'_>, table: &Section<'_>, endings: &BTreeMap<String, Text>) -> Option<Question> {
    let id = match table.get("id") {
        Some(value) => reader.name(value, "id", MAX_NAME_CHARS),
        None => {
            reader.mistake(table.place.clone(), "a question needs an id: its name in the result");
            None
        }
    };
    let ask = reader.text(table, "ask", MAX_SPOKEN_CHARS, false);
    if ask.as_ref().is_none_or(Text::is_empty) {
        reader.mistake(table.place.clone(), "a question needs the words to ask");
    }
    let kind = kind(reader, table);
    let mut ends = Vec::new();
    for (place, answers, outcome) in pairs(reader, table, "ends") {
        let Some(kind) = &kind else { continue };
        let name = outcome.get_ref().as_str().unwrap_or_default();
        let outcome = known_outcome(reader, outcome.span(), name, endings);
        let wanted = wanted(reader, place, answers, kind);
        ends.extend(wanted.zip(outcome));
    }
    let retries = reader.whole(table, "retries", 0..=20).unwrap_or(2);
    let question = Question {
        id: id?,
        ask: ask?,
        reprompt: reader.text(table, "reprompt", MAX_SPOKEN_CHARS, false),
        retries: u32::try_from(retries).unwrap_or(u32::MAX),
        skippable: reader.flag(table, "skippable").unwrap_or(false),
        required: reader.flag(table, "required").unwrap_or(true),
        protected: reader.flag(table, "protected").unwrap_or(false),
        kind: kind?,
        ends,
    };
    Some(question)
}

fn kind(reader: &mut Reader<'_>, table: &Section<'_>) -> Option<Kind> {
    let Some(value) = table.get("kind") else {
        reader.mistake(table.place.clone(), "a question needs a kind: \"yes_no\", \"choice\" or \"number\"");
        return None;
    };
    let kind = match value.get_ref().as_str() {
        Some("yes_no") => Kind::YesNo,
        Some("choice") => Kind::Choice(options(reader, table)?),
        Some("number") => {
            let from = reader.whole(table, "min", 0..=MAX_NUMBER).unwrap_or(0);
            let to = reader.whole(table, "max", 0..=MAX_NUMBER).unwrap_or(999_999_999);
            if from > to {
                reader.mistake(value.span(), "min must be at most max");
            }
            Kind::Number(from, to)
        }
        _ => {
            reader.mistake(value.span(), "kind of a question must be one of \"yes_no\", \"choice\", \"number\"");
            return None;
        }
    };
    let strange: &[&str] = match kind {
        Kind::YesNo => &["options", "min", "max"],
        Kind::Choice(_) => &["min", "max"],
        Kind::Number(..) => &["options"],
    };
    for key in strange {
        if let Some(value) = table.get(key) {
            reader.mistake(value.span(), format!("this kind of question has no {key}"));
        }
    }
    Some(kind)
}

fn options(reader: &mut Reader<'_>, table: &Section<'_>) -> Option<Vec<Choice>> {
    let listed = reader.list(table, "options", 10);
    let listed = listed.filter(|options| options.len() >= 2);
    let Some(listed) = listed else {
        let what = "a choice needs 2 to 10 options, such as options = [\"red\", { id = \"blue\", words = [\"navy\"], key = \"5\" }]";
        reader.mistake(table.get("options").map_or_else(|| table.place.clone(), |value| value.span()), what);
        return None;
    };
    let mut choices: Vec<Choice> = Vec::new();
    for (at, value) in listed.iter().enumerate() {
        // Keys as people count, and 0 for the tenth.
        let usual = char::from_digit((at as u32 + 1) % 10, 10).unwrap_or('0');
        let Some(choice) = option(reader, value, usual) else { continue };
        if choices.iter().any(|other| other.key == choice.key || other.id == choice.id) {
            reader.mistake(value.span(), "another option has the same id or the same key");
        }
        choices.push(choice);
    }
    (choices.len() == listed.len()).then_some(choices)
}

fn option(reader: &mut Reader<'_>, value: &Written<'_>, usual: char) -> Option<Choice> {
    let Some(table) = value.get_ref().as_table() else {
        let words = reader.string_of(value, "an option", MAX_NAME_CHARS, false)?;
        return Some(Choice { id: words.clone(), words: vec![words], key: usual });
    };
    reader.check_keys(table, &["id", "words", "key"], "an option");
    let section = Section::new(table, None, value.span());
    let id = reader.string(&section, "id", MAX_NAME_CHARS, false);
    if section.get("id").is_none() {
        reader.mistake(value.span(), "an option needs an id: its name in the result");
    }
    let id = id?;
    let mut words = reader.words(&section, "words").unwrap_or_default();
    words.push(id.replace(['_', '-'], " "));
    let key = section.get("key").map(|value| {
        let key = value.get_ref().as_str().and_then(|key| key.parse::<char>().ok()).filter(char::is_ascii_digit);
        (key, value.span())
    });
    match key {
        None => Some(Choice { id, words, key: usual }),
        Some((Some(key), _)) => Some(Choice { id, words, key }),
        Some((None, place)) => {
            reader.mistake(place, "key must be a digit in quotes, \"0\" to \"9\"; * and # have meanings of their own");
            None
        }
    }
}

fn rule(
    reader: &mut Reader<'_>,
    table: &Section<'_>,
    questions: &[Question],
    endings: &BTreeMap<String, Text>,
) -> Option<Rule> {
    let mut conditions = |key| {
        let mut conditions = Vec::new();
        for (place, id, answers) in pairs(reader, table, key) {
            let Some(question) = questions.iter().position(|question| question.id == id) else {
                reader.mistake(place, format!("{key} names a question that this survey does not have"));
                continue;
            };
            let listed = answers.get_ref().as_array().map_or_else(|| vec![answers], |list| list.iter().collect());
            let kind = &questions[question].kind;
            let mut found = Vec::new();
            for answer in listed {
                match answer.get_ref().as_str() {
                    Some(text) => found.extend(wanted(reader, answer.span(), text, kind)),
                    None => reader.mistake(answer.span(), "an answer must be a text in quotes, or a list of such"),
                }
            }
            conditions.push(Condition { question, wanted: found });
        }
        conditions
    };
    let (all, any) = (conditions("all"), conditions("any"));
    if table.get("all").is_none() && table.get("any").is_none() {
        reader.mistake(table.place.clone(), "a rule needs all or any, such as all = { adult = \"yes\" }");
    }
    let Some(value) = table.get("outcome") else {
        reader.mistake(table.place.clone(), "a rule needs an outcome: how the survey ends when it holds");
        return None;
    };
    let outcome = known_outcome(reader, value.span(), value.get_ref().as_str().unwrap_or_default(), endings)?;
    Some(Rule { all, any, outcome })
}

/// The keys and values of a small table.
fn pairs<'t>(reader: &mut Reader<'_>, table: &Section<'t>, key: &str) -> Vec<(Range<usize>, &'t str, &'t Written<'t>)> {
    let Some(value) = table.get(key) else { return Vec::new() };
    match value.get_ref().as_table().filter(|pairs| (1..=MAX_CONDITIONS).contains(&pairs.len())) {
        Some(pairs) => pairs.iter().map(|(key, value)| (key.span(), key.get_ref().as_ref(), value)).collect(),
        None => {
            let what =
                format!("{key} must be a table with 1 to {MAX_CONDITIONS} entries, such as {{ adult = \"no\" }}");
            reader.mistake(value.span(), what);
            Vec::new()
        }
    }
}

/// What an answer is written as in rules.
fn wanted(reader: &mut Reader<'_>, place: Range<usize>, answer: &str, kind: &Kind) -> Option<Wanted> {
    let found = match (answer, kind) {
        ("skipped", _) => Some(Wanted::Is(Value::Skipped)),
        ("unanswered", _) => Some(Wanted::Is(Value::Unanswered)),
        ("yes", Kind::YesNo) => Some(Wanted::Is(Value::Yes)),
        ("no", Kind::YesNo) => Some(Wanted::Is(Value::No)),
        (_, Kind::YesNo) => None,
        (id, Kind::Choice(choices)) => {
            choices.iter().position(|choice| choice.id == id).map(|at| Wanted::Is(Value::Choice(at)))
        }
        (range, Kind::Number(..)) => {
            let (from, to) = range.split_once("..").unwrap_or((range, range));
            let number = |text: &str, open: u64| if text.is_empty() { Ok(open) } else { text.parse::<u64>() };
            let both = if range.is_empty() { None } else { number(from, 0).ok().zip(number(to, u64::MAX).ok()) };
            both.map(|(from, to)| Wanted::Within(from, to))
        }
    };
    if found.is_none() {
        let what = match kind {
            Kind::YesNo => "must be yes or no",
            Kind::Choice(_) => "must be the id of an option",
            Kind::Number(..) => "must be a number or a range such as 18..65, 18.. or ..17",
        };
        reader.mistake(place, format!("the answer to this question {what}; or skipped, or unanswered"));
    }
    found
}

/// An outcome that the file or the program knows.
fn known_outcome(
    reader: &mut Reader<'_>,
    place: Range<usize>,
    name: &str,
    endings: &BTreeMap<String, Text>,
) -> Option<String> {
    if endings.contains_key(name) || outcome::ALL.contains(&name) {
        return Some(name.to_owned());
    }
    reader.mistake(place, "there is no outcome of this name; write it as [agent.NAME.outcome.NAME_OF_THE_OUTCOME]");
    None
}
