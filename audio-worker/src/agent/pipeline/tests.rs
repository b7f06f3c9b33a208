//! The brain with a scripted model and scripted tools.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Map, Value, json};
use telemetry::Sensitive;

use super::*;
use crate::{
    agent::{
        Verdict,
        tools::{Deed, Outcome, Tool, Working},
    },
    agents_file::{Defaults, Kind, Secrets},
    provider::{Fault, ProviderError, Streaming, Token, ToolCall, ToolSpec},
};

struct NoSecrets;

impl Secrets for NoSecrets {
    fn variable(&self, _: &str) -> Option<Sensitive<String>> {
        None
    }

    fn file(&self, path: &str) -> Result<Sensitive<String>, String> {
        Err(path.to_owned())
    }
}

fn defaults() -> Defaults {
    Defaults { url: url::Url::parse("http://127.0.0.1:1").unwrap(), ..Defaults::default() }
}

/// Answers as scripted, request by request; then with "Well". It keeps what it was asked.
#[derive(Debug, Default)]
struct Model {
    answers: Mutex<VecDeque<Vec<Token>>>,
    prompts: Mutex<Vec<Vec<Message>>>,
    tools: Mutex<Vec<usize>>,
}

impl Model {
    fn script(&self, answers: impl IntoIterator<Item = Vec<Token>>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// The newest prompt, a line each.
    fn newest(&self) -> Vec<String> {
        let line = |message: &Message| {
            let calls: Vec<_> = message.calls.iter().map(|call| format!("{}({})", call.name, call.arguments)).collect();
            let of = if message.call_id.is_empty() { String::new() } else { format!(" to {}", message.call_id) };
            format!("{:?}{of}: {}{}", message.role, message.text, calls.join(" "))
        };
        self.prompts.lock().unwrap().last().unwrap().iter().map(line).collect()
    }
}

impl Chat for Model {
    fn answer(&self, prompt: Vec<Message>, tools: &[ToolSpec]) -> Streaming<Token> {
        self.prompts.lock().unwrap().push(prompt);
        self.tools.lock().unwrap().push(tools.len());
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| vec![text("Well"), Token::Usage { prompt: 1, completion: 2 }]);
        if answer.is_empty() {
            let empty = ProviderError { kind: Fault::Empty, detail: String::new() };
            return Box::pin(stream::iter([Err(empty)]));
        }
        Box::pin(stream::iter(answer.into_iter().map(Ok)))
    }
}

fn text(text: &str) -> Token {
    Token::Text(text.to_owned())
}

fn call(id: &str, name: &str, arguments: &str) -> Token {
    Token::Call(ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() })
}

/// Does what its name says, and counts.
#[derive(Debug, Clone)]
struct Scripted {
    name: &'static str,
    safe: bool,
    outcome: Outcome,
    filler: Option<&'static str>,
    begun: Arc<AtomicUsize>,
    /// It is at work until then.
    may_end: Arc<AtomicBool>,
}

impl Scripted {
    fn new(name: &'static str, outcome: Outcome) -> Self {
        let may_end = Arc::new(AtomicBool::new(true));
        Self { name, safe: false, outcome, filler: None, begun: Arc::default(), may_end }
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

impl Tool for Scripted {
    fn spec(&self) -> ToolSpec {
        let parameters = json!({"type": "object", "properties": {"id": {"type": "string"}}});
        ToolSpec { name: self.name.to_owned(), description: "x".to_owned(), parameters }
    }

    fn is_safe(&self) -> bool {
        self.safe
    }

    fn filler(&self, _: &About) -> Option<String> {
        self.filler.map(str::to_owned)
    }

    fn call(&self, _: Map<String, Value>, _: &About) -> Working {
        let scripted = self.clone();
        let mut has_begun = false;
        Box::pin(std::future::poll_fn(move |_| {
            if !std::mem::replace(&mut has_begun, true) {
                scripted.begun.fetch_add(1, Ordering::Relaxed);
            }
            if scripted.may_end.load(Ordering::Relaxed) {
                std::task::Poll::Ready(scripted.outcome.clone())
            } else {
                std::task::Poll::Pending
            }
        }))
    }
}

fn answering(told: &str) -> Outcome {
    Outcome::Answer(told.to_owned())
}

fn pipeline_with(tools: &[&Scripted]) -> (Arc<Model>, Pipeline) {
    let model = Arc::new(Model::default());
    let file = r#"
        [agent.desk]
        kind = "pipeline"
        instructions = "You serve {parameters.name}.{parameters.none}"
        greeting = "Hello {parameters.name}"
        silence_prompts = ["Hm?"]
        goodbye = "Bye."
        [agent.desk.speech_to_text]
        url = "http://127.0.0.1:1"
        model = "m"
        [agent.desk.chat]
        url = "http://127.0.0.1:1"
        model = "m"
        [agent.desk.text_to_speech]
        url = "http://127.0.0.1:1"
        model = "m"
        voice = "v"
        "#;
    let agents = crate::agents_file::parse(file, &defaults(), &NoSecrets).unwrap();
    let Kind::Pipeline(settings) = agents[0].kind.clone() else { unreachable!() };
    let tools = tools.iter().map(|tool| -> Box<dyn Tool> { Box::new((*tool).clone()) }).collect();
    let persona = Persona { chat: model.clone(), tools: Toolbox::new(tools), settings: *settings };
    let parameters: BTreeMap<_, _> = [("name".to_owned(), "Ada".to_owned())].into();
    let opening = Opening { parameters: Sensitive::new(parameters), ..Opening::default() };
    (model, Pipeline::new(Arc::new(persona), &opening))
}

fn pipeline() -> (Arc<Model>, Pipeline) {
    pipeline_with(&[])
}

/// What an answer says, without waiting: words, and names of the other pieces.
fn now_said(answer: &mut Answer) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(Some(piece)) = answer.next().now_or_never() {
        said.push(match piece.unwrap() {
            Piece::Say(text) => text,
            Piece::Pause => continue,
            Piece::Called(report) => format!("[{} {}]", report.name, report.verdict.label()),
            Piece::Hangup { reason } => format!("[hangup {reason}]"),
            Piece::Transfer { to } => format!("[transfer {to}]"),
            Piece::Digits(keys) => format!("[digits {keys}]"),
            Piece::Protect => "[protect]".to_owned(),
        });
    }
    said
}

fn said(role: Role, text: &str) -> Message {
    Message::new(role, text)
}

/// Asks, commits, settles and hears all of it.
fn answered(pipeline: &mut Pipeline, said: &str, history: &[Message]) -> Vec<String> {
    let mut answer = pipeline.answer(said, history);
    pipeline.commit();
    pipeline.settle(said);
    now_said(&mut answer)
}

fn all(answer: Answer) -> Vec<Piece> {
    answer.map(Result::unwrap).collect::<Vec<_>>().now_or_never().unwrap()
}

#[test]
fn the_model_is_told_who_it_is_what_was_heard_and_which_keys_were_pressed() {
    let (model, mut pipeline) = pipeline();
    assert_eq!(all(pipeline.greet()), [Piece::Say("Hello Ada".to_owned())]);
    let heard = said(Role::Assistant, "Hello");
    assert!(pipeline.key('4').is_none() && pipeline.key('#').is_none());
    for _ in 0..2 {
        assert_eq!(all(pipeline.answer("four", std::slice::from_ref(&heard))), [Piece::Say("Well".to_owned())]);
    }
    pipeline.settle("four");
    assert_eq!(model.newest(), ["System: You serve Ada.", "Assistant: Hello", "User: four [keys: 4#]"]);
    all(pipeline.answer("five", &[]));
    assert_eq!(model.newest(), ["System: You serve Ada.", "User: five"]);
}

#[test]
fn silence_is_prompted_as_often_as_there_are_prompts_and_leave_is_taken_with_words() {
    let (_, mut pipeline) = pipeline();
    assert!(pipeline.silence(1).is_some() && pipeline.silence(2).is_none());
    let leave = all(pipeline.farewell(Farewell::Silence));
    assert!(matches!(&leave[..], [Piece::Say(text), Piece::Protect, Piece::Hangup { .. }] if text == "Bye."));
}

#[test]
fn a_tool_is_called_its_filler_said_once_and_its_answer_told_to_the_model() {
    let look = Scripted { filler: Some("One moment."), ..Scripted::new("look", answering("{\"at\": 5}")) };
    let (model, mut pipeline) = pipeline_with(&[&look]);
    model.script([
        vec![call("c1", "look", "{\"id\": \"7\"}"), call("c2", "look", "")],
        vec![call("c3", "look", "{}")],
        vec![text("It is at five.")],
    ]);
    let answer = answered(&mut pipeline, "When?", &[]);
    assert_eq!(answer, ["One moment.", "[look done]", "[look done]", "[look done]", "It is at five."]);
    assert_eq!(look.begun(), 3);
    let prompt = model.newest();
    assert_eq!(
        prompt[1..],
        [
            "User: When?",
            "Assistant: look({\"id\": \"7\"}) look()",
            "Tool to c1: {\"at\": 5}",
            "Tool to c2: {\"at\": 5}",
            "Assistant: look({})",
            "Tool to c3: {\"at\": 5}",
        ]
    );
    // In the prompts that follow it stands where it belongs.
    let history = [
        said(Role::User, "When?"),
        said(Role::Assistant, "One moment. It is at five."),
        said(Role::User, "And where?"),
    ];
    model.script([vec![text("Let me see."), call("c4", "look", "{}")], vec![text("Here.")]]);
    let answer = answered(&mut pipeline, "Where is that?", &history);
    // Whoever has spoken needs no filler.
    assert_eq!(answer, ["Let me see.", "[look done]", "Here."]);
    let prompt = model.newest();
    assert_eq!(prompt[1..4], ["User: When?", "Assistant: look({\"id\": \"7\"}) look()", "Tool to c1: {\"at\": 5}"]);
    assert_eq!(
        prompt[7..11],
        [
            "Assistant: One moment. It is at five.",
            "User: And where?",
            "User: Where is that?",
            "Assistant: Let me see.look({})"
        ]
    );
}

#[test]
fn nothing_is_done_for_a_guess() {
    let book = Scripted::new("book", answering("booked"));
    let look = Scripted { safe: true, ..Scripted::new("look", answering("free")) };
    let (model, mut pipeline) = pipeline_with(&[&book, &look]);
    model.script([vec![call("c1", "look", "{}")], vec![text("Fine."), call("c2", "book", "{}")]]);
    let mut guess = pipeline.answer("Book", &[]);
    // It may look things up, and waits before it does something.
    assert_eq!(now_said(&mut guess), ["[look done]", "Fine."]);
    assert_eq!((look.begun(), book.begun()), (1, 0));
    drop(guess);
    let second = pipeline.answer("Book it", &[]);
    assert_eq!((book.begun(), model.newest()[1..].to_vec()), (0, vec!["User: Book it".to_owned()]));
    drop(second);
    // The same call, once the caller has finished.
    model.script([vec![call("c3", "book", "{}")], vec![text("Booked.")]]);
    let mut answer = pipeline.answer("Book it now", &[]);
    assert_eq!((now_said(&mut answer).len(), book.begun()), (0, 0));
    pipeline.commit();
    assert_eq!(now_said(&mut answer), ["[book done]", "Booked."]);
    assert_eq!(book.begun(), 1);
}

#[test]
fn what_was_done_for_words_that_go_on_is_told_to_the_model() {
    let book = Scripted::new("book", answering("booked"));
    let (model, mut pipeline) = pipeline_with(&[&book]);
    model.script([vec![call("c1", "book", "{}")]]);
    let mut answer = pipeline.answer("Book it", &[]);
    pipeline.commit();
    now_said(&mut answer);
    // The caller goes on before anything is heard.
    drop(answer);
    let history = [said(Role::Assistant, "Hello.")];
    let answer = answered(&mut pipeline, "for two, please", &history);
    assert_eq!(answer, ["Well"]);
    let done = ["User: Book it", "Assistant: book({})", "Tool to c1: booked"];
    assert_eq!(model.newest()[2..5], done);
    assert_eq!(model.newest()[5], "User: for two, please");
    // From then on it belongs to the words that were answered.
    let history = [said(Role::Assistant, "Hello."), said(Role::User, "for two, please"), said(Role::Assistant, "Well")];
    answered(&mut pipeline, "Thanks", &history);
    assert_eq!(model.newest()[2..5], ["User: for two, please", "Assistant: book({})", "Tool to c1: booked"]);
    // Forgotten with the words.
    answered(&mut pipeline, "Bye", &[said(Role::Assistant, "Well")]);
    assert_eq!(model.newest()[1..], ["Assistant: Well", "User: Bye"]);
}

#[test]
fn what_was_done_stands_behind_its_own_words_though_they_were_said_more_than_once() {
    let look = Scripted::new("look", answering("five"));
    let (model, mut pipeline) = pipeline_with(&[&look]);
    let greeting = said(Role::Assistant, "Hello.");
    let first = [greeting, said(Role::User, "yes"), said(Role::Assistant, "Well")];
    model.script([vec![call("c1", "look", "{}")]]);
    answered(&mut pipeline, "yes", &first);
    let then = [
        said(Role::User, "yes"),
        said(Role::Assistant, "Five"),
        said(Role::User, "yes, yesterday"),
        said(Role::Assistant, "So"),
    ];
    answered(&mut pipeline, "Thanks", &[&first[..], &then[..]].concat());
    let call = model.newest().iter().position(|line| line.starts_with("Assistant: look")).unwrap();
    assert_eq!(
        model.newest()[call - 1..call + 3],
        ["User: yes", "Assistant: look({})", "Tool to c1: five", "Assistant: Five"]
    );
    // Where the beginning was forgotten, as well.
    answered(&mut pipeline, "Bye", &then[..2]);
    assert_eq!(model.newest()[1..4], ["User: yes", "Assistant: look({})", "Tool to c1: five"]);
}

#[test]
fn an_interrupted_tool_goes_on_and_its_result_is_told_once_it_is_there() {
    let book = Scripted { filler: Some("One moment."), ..Scripted::new("book", answering("booked")) };
    book.may_end.store(false, Ordering::Relaxed);
    let (model, mut pipeline) = pipeline_with(&[&book]);
    model.script([vec![call("c1", "book", "{}")]]);
    let mut answer = pipeline.answer("Book it", &[]);
    pipeline.settle("Book it");
    assert_eq!((now_said(&mut answer), book.begun()), (vec!["One moment.".to_owned()], 1));
    drop(answer);
    let history = [said(Role::User, "Book it"), said(Role::Assistant, "One mom")];
    answered(&mut pipeline, "Wait", &history);
    assert!(model.newest()[3].contains("you were interrupted before this was done"), "{:?}", model.newest());
    book.may_end.store(true, Ordering::Relaxed);
    let answer = answered(&mut pipeline, "So?", &history);
    assert_eq!(model.newest()[1..4], ["User: Book it", "Assistant: book({})", "Tool to c1: booked"]);
    // It is counted, late.
    assert_eq!(answer, ["[book done]", "Well"]);
}

#[test]
fn a_model_that_calls_on_and_on_has_to_answer() {
    let look = Scripted::new("look", answering("free"));
    let (model, mut pipeline) = pipeline_with(&[&look]);
    model.script((0..7).map(|n| vec![call(&format!("c{n}"), "look", "{}")]));
    let answer = answered(&mut pipeline, "Go", &[]);
    assert_eq!((answer.len(), look.begun()), (5, 5));
    assert_eq!(*model.tools.lock().unwrap(), [1, 1, 1, 1, 1, 0]);
}

#[test]
fn deeds_are_done_after_what_was_said() {
    let hang_up = Scripted::new("hang_up", Outcome::Do(Deed::Hangup { reason: "done".to_owned() }, "ok".to_owned()));
    let transfer =
        Scripted::new("transfer", Outcome::Do(Deed::Transfer { to: "+15550100".to_owned() }, "ok".to_owned()));
    let keys = Scripted::new("keys", Outcome::Do(Deed::Digits("1#".to_owned()), "pressed".to_owned()));
    let (model, mut pipeline) = pipeline_with(&[&hang_up, &transfer, &keys]);
    model.script([vec![text("So long."), call("c1", "hang_up", "{}")]]);
    assert_eq!(answered(&mut pipeline, "Bye", &[]), ["So long.", "[hang_up done]", "[hangup done]"]);
    // Nobody hangs up without a word.
    model.script([vec![call("c1", "hang_up", "{}")]]);
    assert_eq!(answered(&mut pipeline, "Bye", &[]), ["[hang_up done]", "Bye.", "[hangup done]"]);
    model.script([vec![call("c1", "transfer", "{}"), call("c2", "hang_up", "{}")]]);
    let answer = answered(&mut pipeline, "Sales", &[]);
    assert_eq!(answer, ["[transfer done]", "[hang_up done]", "[transfer +15550100]"]);
    // After keys the model goes on; to have nothing to add is no fault.
    model.script([vec![call("c1", "keys", "{}")], vec![]]);
    assert_eq!(answered(&mut pipeline, "Type", &[]), ["[keys done]", "[digits 1#]"]);
}

#[test]
fn what_fails_is_told_to_the_model() {
    let failed = Outcome::Fail(Verdict::Failed, "{\"error\": \"it failed\"}".to_owned());
    let look = Scripted::new("look", failed);
    let (model, mut pipeline) = pipeline_with(&[&look]);
    model.script([vec![call("c1", "look", "{}"), call("c2", "lok", "{}"), call("c3", "look", "{\"id\": 5}")]]);
    let answer = answered(&mut pipeline, "Go", &[]);
    assert_eq!(answer, ["[look failed]", "[ invalid]", "[look invalid]", "Well"]);
    assert_eq!(
        model.newest()[3..],
        [
            "Tool to c1: {\"error\": \"it failed\"}",
            "Tool to c2: {\"error\":\"there is no such tool\"}",
            "Tool to c3: {\"error\":\"id must be of type \\\"string\\\"\"}",
        ]
    );
    assert_eq!(look.begun(), 1);
}

#[test]
fn results_are_bounded() {
    let look = Scripted::new("look", answering(&"x".repeat(30 << 10)));
    let (model, mut pipeline) = pipeline_with(&[&look]);
    model.script([(0..6).map(|n| call(&format!("c{n}"), "look", "{}")).collect()]);
    answered(&mut pipeline, "Go", &[]);
    let told: Vec<usize> = model.newest()[3..].iter().map(String::len).collect();
    assert!(told[3] > 30_000 && told[4] < 200 && told[5] < 200, "{told:?}");
    // Of what was so long only the calls are told later, and what came before is told as ever.
    answered(&mut pipeline, "On", &[said(Role::User, "Go")]);
    let newest = model.newest();
    assert_eq!((newest.len(), newest[1].as_str(), newest[9].as_str()), (10, "User: Go", "User: On"));
    assert!(newest[2].starts_with("Assistant: look({})"), "{newest:?}");
    assert!(newest[3..9].iter().all(|line| line.contains("too long to read")), "{newest:?}");
}

#[test]
fn one_long_result_does_not_make_what_was_done_before_forgotten() {
    let (look, read) =
        (Scripted::new("look", answering("five")), Scripted::new("read", answering(&"x".repeat(30 << 10))));
    let (model, mut pipeline) = pipeline_with(&[&look, &read]);
    model.script([vec![call("c1", "look", "{}")]]);
    let mut history = vec![];
    answered(&mut pipeline, "Look", &history);
    history.extend([said(Role::User, "Look"), said(Role::Assistant, "Five")]);
    model.script([(0..3).map(|n| call(&format!("r{n}"), "read", "{}")).collect()]);
    answered(&mut pipeline, "Read", &history);
    history.extend([said(Role::User, "Read"), said(Role::Assistant, "Well")]);
    answered(&mut pipeline, "On", &history);
    let newest = model.newest();
    assert_eq!(newest[1..5], ["User: Look", "Assistant: look({})", "Tool to c1: five", "Assistant: Five"]);
    assert!(newest[7..10].iter().all(|line| line.contains("too long to read")), "{newest:?}");
}
