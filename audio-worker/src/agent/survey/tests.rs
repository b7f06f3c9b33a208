//! Whole surveys, by voice and by key.

use std::sync::Mutex;

use futures_util::{FutureExt, StreamExt};
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    agent::text::Text,
    agents_file::{self, Defaults, Secrets},
    provider::meter::Meter,
};

const FILE: &str = r#"
[agent.poll]
kind = "survey"
language = "en-US"
greeting = "Hello {parameters.name|there}."
goodbye = "Bye."
silence_prompts = ["Still there?", "Hello?"]

[[agent.poll.question]]
id = "adult"
kind = "yes_no"
ask = "Adult?"
reprompt = "Yes or no?"
ends = { no = "too_young" }

[[agent.poll.question]]
id = "transport"
kind = "choice"
ask = "Car, bus or bike?"
options = ["car", "bus", { id = "bike", words = ["bicycle"], key = "9" }]
skippable = true
protected = true

[[agent.poll.question]]
id = "miles"
kind = "number"
ask = "How many miles?"
max = 500
retries = 1
required = false

[[agent.poll.rule]]
all = { transport = "car", miles = "100.." }
outcome = "too_far"

[[agent.poll.rule]]
any = { transport = "skipped", miles = "unanswered" }
outcome = "incomplete"

[agent.poll.outcome.completed]
say = "You can come."
[agent.poll.outcome.too_young]
say = "Too young."
[agent.poll.outcome.too_far]
say = "Too far."
[agent.poll.outcome.incomplete]
[agent.poll.outcome.no_answer]
say = "I cannot hear you."
"#;

struct NoKeys;

impl Secrets for NoKeys {
    fn variable(&self, _: &str) -> Option<Sensitive<String>> {
        None
    }

    fn file(&self, _: &str) -> Result<Sensitive<String>, String> {
        Err("cannot be read".to_owned())
    }
}

fn plan(text: &str) -> Plan {
    let defaults = Defaults { url: "http://localhost:1/v1".parse().unwrap(), ..Defaults::default() };
    let stages = "[defaults]\nspeech_to_text = { model = \"x\" }\ntext_to_speech = { model = \"x\" }\n";
    let agents = agents_file::parse(&format!("{stages}{text}"), &defaults, &NoKeys).unwrap();
    let agents_file::Kind::Survey(survey) = agents[0].kind.clone() else { panic!("no survey") };
    Arc::unwrap_or_clone(survey.plan)
}

/// A survey whose clock shows a second more each time, and what it reported.
struct Taken {
    survey: Survey,
    reports: Arc<Mutex<Vec<Json>>>,
}

fn take(plan: Plan, language: &str, include_numbers: bool) -> Taken {
    let opening = Opening {
        call_id: "CA1".to_owned(),
        from: Sensitive::new("+15550100".to_owned()),
        to: Sensitive::new("+15550101".to_owned()),
        language: language.to_owned(),
        parameters: Sensitive::new([("name".to_owned(), "Ann".to_owned())].into()),
        trace: None,
        taken_over_from: None,
        meter: Meter::default(),
    };
    let (reports, seconds) = (Arc::new(Mutex::new(Vec::new())), Mutex::new(0));
    let surroundings = Surroundings {
        elapsed: Box::new(move || {
            let mut seconds = seconds.lock().unwrap();
            *seconds += 1;
            Duration::from_secs(*seconds)
        }),
        report: Box::new({
            let reports = Arc::clone(&reports);
            move |report: Report| reports.lock().unwrap().push(report.body.expose().clone())
        }),
    };
    let survey = Survey::new(Arc::new(plan), ("poll", "en-US"), include_numbers, &opening, surroundings);
    Taken { survey, reports }
}

fn poll() -> Taken {
    let mut taken = take(plan(FILE), "", false);
    assert_eq!(taken.greet(), "Hello Ann. Adult?");
    taken
}

/// The pieces of an answer in one line; all of them are there at once.
fn heard(answer: Answer) -> String {
    let pieces: Vec<_> = answer.collect::<Vec<_>>().now_or_never().expect("an answer that is ready");
    let word = |piece: Result<Piece, _>| match piece.unwrap() {
        Piece::Say(text) => text,
        Piece::Protect => "<protect> ".to_owned(),
        Piece::Hangup { reason } => format!("<hang up: {reason}>"),
        Piece::Transfer { .. } => panic!("a survey transfers nobody"),
        Piece::Pause | Piece::Digits(_) | Piece::Called(_) => panic!("a survey calls no tools"),
    };
    pieces.into_iter().map(word).collect::<String>().trim_end().to_owned()
}

impl Taken {
    fn greet(&mut self) -> String {
        heard(self.survey.greet())
    }

    /// Says it, in one go.
    fn say(&mut self, said: &str) -> String {
        let answer = heard(self.survey.answer(said, &[]));
        self.survey.settle(said);
        answer
    }

    fn keys(&mut self, keys: &str) -> String {
        keys.chars().filter_map(|key| self.survey.key(key)).map(heard).collect()
    }

    /// The one report.
    fn report(&self) -> Json {
        let reports = self.reports.lock().unwrap();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports[0].clone()
    }

    fn outcome(&self) -> (String, bool) {
        let report = self.report();
        (report["outcome"].as_str().unwrap().to_owned(), report["completed"].as_bool().unwrap())
    }
}

fn ended(outcome: &str, completed: bool) -> (String, bool) {
    (outcome.to_owned(), completed)
}

#[test]
fn a_whole_survey_by_voice() {
    let mut poll = poll();
    assert_eq!(poll.say("yes please"), "<protect> Car, bus or bike?");
    assert_eq!(poll.say("By bicycle."), "How many miles?");
    assert!(poll.reports.lock().unwrap().is_empty());
    assert_eq!(poll.say("twenty five"), "You can come. Bye. <hang up: the survey ended: completed>");
    let answer = |question, value: Json| json!({"question": question, "value": value, "how": "voice", "attempts": 1, "skipped": false});
    let expected = json!({
        "version": 1, "call_id": "CA1", "agent": "poll", "language": "en-US", "outcome": "completed", "completed": true,
        "started_ms": 1000, "ended_ms": 2000,
        "answers": [answer("adult", json!("yes")), answer("transport", json!("bike")), answer("miles", json!(25))],
    });
    assert_eq!(poll.report(), expected);
    poll.survey.over();
    assert_eq!(poll.report(), expected, "it is told once");
}

#[test]
fn a_whole_survey_by_key() {
    let mut poll = poll();
    assert_eq!(poll.keys("1"), "<protect> Car, bus or bike?");
    assert_eq!(poll.keys("1"), "How many miles?");
    assert_eq!(poll.keys("12"), "", "the number is not complete");
    assert_eq!(poll.keys("0"), "Too far. Bye. <hang up: the survey ended: too_far>");
    assert_eq!(poll.outcome(), ended("too_far", true));
    assert_eq!(
        poll.report()["answers"][2],
        json!({"question": "miles", "value": 120, "how": "key", "attempts": 1, "skipped": false})
    );
    assert_eq!(poll.keys("1"), "", "it is over");
}

#[test]
fn a_hash_ends_a_number_and_so_does_silence() {
    let mut one = poll();
    assert_eq!(
        one.keys("1129#"),
        "<protect> Car, bus or bike?How many miles?You can come. Bye. <hang up: the survey ended: completed>"
    );
    assert_eq!(one.report()["answers"][2]["value"], 29);
    let mut other = poll();
    other.keys("117");
    assert_eq!(heard(other.survey.silence(1).unwrap()), "You can come. Bye. <hang up: the survey ended: completed>");
    assert_eq!(other.report()["answers"][2]["value"], 7);
    let mut third = poll();
    third.keys("117");
    assert_eq!(third.keys("*"), "How many miles?", "a star begins anew");
    assert_eq!(third.keys("9#"), "You can come. Bye. <hang up: the survey ended: completed>");
    assert_eq!(third.report()["answers"][2]["value"], 9);
}

#[test]
fn an_answer_can_end_it_at_once() {
    let mut poll = poll();
    assert_eq!(poll.say("no"), "Too young. Bye. <hang up: the survey ended: too_young>");
    assert_eq!(poll.outcome(), ended("too_young", true));
    assert_eq!(poll.report()["answers"].as_array().unwrap().len(), 1);
    assert_eq!(poll.say("yes yes"), "Bye. <hang up: the survey is over>");
    assert_eq!(poll.outcome(), ended("too_young", true));
}

#[test]
fn a_guess_that_is_thrown_away_changes_nothing() {
    let mut poll = poll();
    assert_eq!(heard(poll.survey.answer("no", &[])), "Too young. Bye. <hang up: the survey ended: too_young>");
    assert_eq!(heard(poll.survey.answer("no idea", &[])), "Yes or no?");
    assert!(poll.reports.lock().unwrap().is_empty());
    // What is settled counts, whatever was guessed last.
    poll.survey.settle("yes");
    assert_eq!(poll.say("skip"), "How many miles?");
    let _ = poll.survey.answer("ten", &[]);
    assert_eq!(poll.keys("5#"), "Bye. <hang up: the survey ended: incomplete>", "a key beats a guess");
    assert_eq!(poll.report()["answers"][0]["attempts"], 1);
    assert_eq!(poll.report()["answers"][2]["value"], 5);
}

#[test]
fn what_is_not_understood_is_asked_again_and_given_up() {
    let mut poll = poll();
    assert_eq!(poll.say("bananas"), "Yes or no?");
    assert_eq!(poll.say("again please"), "Adult?", "repeating is no attempt");
    assert_eq!(poll.keys("7"), "Yes or no?");
    assert_eq!(poll.say("bananas"), "Bye. <hang up: the survey ended: not_understood>");
    assert_eq!(poll.outcome(), ended("not_understood", false));
    assert_eq!(
        poll.report()["answers"],
        json!([{"question": "adult", "value": null, "how": null, "attempts": 3, "skipped": false}])
    );
}

#[test]
fn a_question_may_be_skipped_or_left() {
    let mut poll = poll();
    assert_eq!(poll.say("skip"), "Yes or no?", "this one may not");
    assert_eq!(poll.keys("#"), "Yes or no?");
    assert_eq!(poll.say("yes"), "<protect> Car, bus or bike?");
    assert_eq!(poll.say("I'd rather not say"), "How many miles?");
    assert_eq!(poll.say("many"), "Sorry, I did not understand that. How many miles?");
    assert_eq!(poll.say("very many"), "Bye. <hang up: the survey ended: incomplete>");
    assert_eq!(poll.outcome(), ended("incomplete", true));
    let report = poll.report();
    let skipped = |at: usize| (report["answers"][at]["value"].is_null(), report["answers"][at]["skipped"].clone());
    assert_eq!((skipped(1), skipped(2)), ((true, json!(true)), (true, json!(false))));
    assert_eq!(report["answers"][0]["attempts"], 3);
}

#[test]
fn silence_is_prompted_and_then_politely_given_up() {
    let mut poll = poll();
    assert_eq!(heard(poll.survey.silence(1).unwrap()), "Still there? Adult?");
    assert_eq!(heard(poll.survey.silence(2).unwrap()), "Hello? Adult?");
    assert!(poll.survey.silence(3).is_none());
    let farewell = heard(poll.survey.farewell(Farewell::Silence));
    assert_eq!(farewell, "I cannot hear you. Bye. <hang up: the survey ended: no_answer>");
    assert_eq!(poll.outcome(), ended("no_answer", false));
    let mut poll = self::poll();
    poll.say("yes");
    assert_eq!(heard(poll.survey.silence(1).unwrap()), "<protect> Still there? Car, bus or bike?");
}

#[test]
fn faults_and_hanging_up_have_their_outcomes() {
    let mut poll = poll();
    poll.say("yes");
    assert!(heard(poll.survey.farewell(Farewell::Faults)).ends_with("Goodbye. <hang up: the survey ended: failed>"));
    assert_eq!(poll.outcome(), ended("failed", false));
    let mut poll = self::poll();
    poll.say("yes");
    let _ = poll.survey.answer("car", &[]);
    poll.survey.over();
    assert_eq!(poll.outcome(), ended("hung_up", false));
    assert_eq!(poll.report()["answers"].as_array().unwrap().len(), 1, "what was not settled was not said");
    let never = take(plan(FILE), "", false);
    let mut survey = never.survey;
    survey.over();
    assert_eq!(never.reports.lock().unwrap()[0]["answers"], json!([]));
}

#[test]
fn numbers_are_told_only_where_the_file_says_so() {
    for include_numbers in [false, true] {
        let mut taken = take(plan(FILE), "", include_numbers);
        taken.greet();
        taken.survey.over();
        let report = taken.report();
        assert_eq!(report.get("from").is_some(), include_numbers);
        assert_eq!(report.get("to").is_some(), include_numbers);
        assert_eq!(report.to_string().contains("+1555"), include_numbers);
    }
}

#[test]
fn the_calls_language_goes_first() {
    let mut taken = take(plan(FILE), "de-DE", false);
    taken.greet();
    assert_eq!(taken.say("ja"), "<protect> Car, bus or bike?");
    taken.survey.over();
    assert_eq!(taken.report()["language"], "de-DE");
}

#[test]
fn a_protected_greeting_says_so_and_a_survey_without_questions_ends() {
    let greeting = Plan { greeting_protected: true, ..plan(FILE) };
    assert_eq!(take(greeting, "", false).greet(), "<protect> Hello Ann. Adult?");
    let empty = Plan { questions: Vec::new(), goodbye: Text::fixed("Bye."), ..Plan::default() };
    let mut taken = take(empty, "", false);
    assert_eq!(taken.greet(), "Bye. <hang up: the survey ended: completed>");
    assert_eq!(taken.outcome(), ended("completed", true));
}
