//! Tools through the whole system: a model that calls for something, the user's service that is asked, and what the caller
//! hears of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tests::{
    line::after,
    openai::{Call, Script, Stage},
    shop::Shop,
    signal,
    sim::{Verb, decode_mulaw},
    talk::{self, Clip, Desk, paused, recorded},
};

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which the caller takes an answer as over: longer than the shop takes.
const PAUSE: Duration = Duration::from_millis(1500);

/// An agent with tools.
async fn open(name: &str, shop: &Shop) -> Desk {
    let script = Script {
        think: Arc::new(|turns| {
            let last = turns.last().unwrap();
            let result: Value = serde_json::from_str(&last.text).unwrap_or_default();
            match (last.role.as_str(), last.text.as_str()) {
                ("tool", _) if result["state"].is_string() => {
                    format!("It was {}.", result["state"].as_str().unwrap())
                }
                ("tool", _) if !result["error"].is_null() => "No luck today, sorry.".to_owned(),
                ("tool", _) => "All is done.".to_owned(),
                (_, "Goodbye") => "So long, farewell.".to_owned(),
                (_, "Sales") => "Putting you through.".to_owned(),
                (_, "Menu") => "Pressing one.".to_owned(),
                (..) => String::new(),
            }
        }),
        want: Arc::new(|turns| {
            let last = turns.last().unwrap();
            match (last.role.as_str(), last.text.as_str()) {
                ("user", "Order") => vec![Call::new("order_status", &json!({"order_id": "A 7"}))],
                ("user", "Book") => vec![Call::new("book", &json!({"persons": 2}))],
                ("user", "Goodbye") => vec![Call::new("hang_up", &json!({"reason": "finished"}))],
                ("user", "Sales") => vec![Call::new("transfer", &json!({"to": "sales"}))],
                ("user", "Menu") => vec![Call::new("send_digits", &json!({"digits": "159#"}))],
                ("user", "Fraud") => vec![Call::new("transfer", &json!({"to": "+19005550100"}))],
                (..) => Vec::new(),
            }
        }),
        ..Script::default()
    };
    let file = format!(
        r#"
        [agent.desk]
        kind = "pipeline"
        instructions = "Be brief."
        greeting = "Hello there."
        tools = ["hang_up", "transfer", "send_digits", "order_status", "book"]
        transfer_to = {{ sales = "+15550123" }}
        [agent.desk.speech_to_text]
        model = "m"
        [agent.desk.chat]
        model = "m"
        [agent.desk.text_to_speech]
        model = "m"
        format = "wav"
        [tool.order_status]
        description = "Looks an order up."
        url = "http://127.0.0.1:{port}/orders/{{order_id}}"
        headers = {{ X-Kind = "test" }}
        share = ["call_id", "from"]
        filler = "One moment."
        safe = true
        parameters = '{{"type": "object", "properties": {{"order_id": {{"type": "string"}}}}, "required": ["order_id"]}}'
        [tool.book]
        description = "Books a table."
        url = "http://127.0.0.1:{port}/tables"
        method = "POST"
        parameters = '{{"type": "object", "properties": {{"persons": {{"type": "integer"}}}}}}'
        "#,
        port = shop.port()
    );
    Desk::open(&format!("tools-{name}"), &file, script, PAUSE).await
}

/// Where a text's pitch was heard first and last, in ms, and for how long.
fn heard(samples: &[i16], text: &str) -> (usize, usize, usize) {
    let found = talk::heard(samples, text);
    assert!(!found.is_empty(), "{text} was not heard");
    (found[0], found[found.len() - 1], found.len() * 20)
}

fn clip() -> Clip {
    recorded().remove(0)
}

#[tokio::test]
async fn a_function_is_asked_while_the_caller_hears_its_filler_and_then_the_answer() {
    let shop = Shop::open(200, r#"{"state": "sent"}"#, Duration::from_millis(1200)).await.unwrap();
    let desk = open("function", &shop).await;
    let mut phone = desk.greeted().await;
    let said = desk.say(&mut phone, &clip(), "Order").await;
    desk.answered(&mut phone, said).await;
    let asked = shop.asked();
    let last = asked.last().unwrap();
    assert_eq!(last.target, "GET /orders/A%207");
    assert_eq!(
        (&last.headers["x-kind"], &last.headers["tandem-call-id"]),
        (&"test".parse().unwrap(), &phone.call_sid().parse().unwrap())
    );
    assert!(last.headers["tandem-from"].to_str().unwrap().starts_with('+'));
    // The model was told what came of it, behind its own call.
    let prompt = desk.newest_prompt();
    let [.., user, call, result] = &prompt[..] else { panic!("{prompt:?}") };
    assert_eq!(user["content"], "Order");
    assert_eq!(call["tool_calls"][0]["function"]["name"], "order_status");
    assert_eq!((&result["role"], &result["content"]), (&json!("tool"), &json!(r#"{"state": "sent"}"#)));
    assert_eq!(result["tool_call_id"], call["tool_calls"][0]["id"]);
    // It stays in what the model is told later.
    let said = desk.say(&mut phone, &clip(), "Thanks").await;
    desk.server.change(|script| script.think = Arc::new(|_| "You are welcome.".to_owned()));
    desk.answered(&mut phone, said).await;
    let roles: Vec<Value> = desk.newest_prompt().iter().map(|message| message["role"].clone()).collect();
    assert_eq!(roles, ["system", "assistant", "user", "assistant", "tool", "assistant", "user"]);
    phone.hang_up().await;
    let lines = desk.transcript(phone.call_sid()).await;
    let tool = lines.iter().find(|line| line["event"] == "tool").unwrap();
    assert_eq!((&tool["tool"], &tool["outcome"]), (&json!("order_status"), &json!("done")));
    assert!(tool["took_ms"].as_u64().unwrap() >= 1200);
    let agent: Vec<_> = lines.iter().filter(|line| line["speaker"] == "agent").map(|line| &line["text"]).collect();
    assert_eq!(agent[1], "One moment. It was sent.");
    let metrics = desk.stack.worker_metrics().await;
    let done = metrics.of("tandem_worker_tool_calls_total{outcome=\"done\"}").unwrap();
    // The look-up may have been made for a guess as well.
    assert_eq!(done as usize, shop.asked().len());
    let samples = decode_mulaw(&phone.into_heard());
    let (filler, answer) = (heard(&samples, "One moment."), heard(&samples, "It was sent."));
    assert!(filler.1 < answer.0 && filler.2.abs_diff(11 * 60) <= 100, "{filler:?} {answer:?}");
    desk.close().await;
}

#[tokio::test]
async fn a_function_that_fails_is_told_to_the_model_and_the_call_goes_on() {
    let shop = Shop::open(500, r#"{"detail": "no table free"}"#, Duration::ZERO).await.unwrap();
    let desk = open("failure", &shop).await;
    let mut phone = desk.greeted().await;
    for (words, message) in [("Book", "no table free"), ("Fraud", "must be one of [\\\"sales\\\"]")] {
        let said = desk.say(&mut phone, &clip(), words).await;
        desk.answered(&mut phone, said).await;
        let prompt = desk.newest_prompt();
        let result = prompt.last().unwrap()["content"].as_str().unwrap();
        assert!(result.contains("\"error\"") && result.contains(message), "{result}");
    }
    phone.hang_up().await;
    let lines = desk.transcript(phone.call_sid()).await;
    let agent: Vec<_> = lines.iter().filter(|line| line["speaker"] == "agent").map(|line| &line["text"]).collect();
    assert_eq!(agent[1..], ["No luck today, sorry.", "No luck today, sorry."]);
    assert_eq!(shop.asked()[0].body, "{\"persons\":2}");
    let metrics = desk.stack.worker_metrics().await;
    assert_eq!(metrics.of("tandem_worker_tool_calls_total{outcome=\"failed\"}"), Some(1.0));
    assert_eq!(metrics.of("tandem_worker_tool_calls_total{outcome=\"invalid\"}"), Some(1.0));
    assert_eq!(metrics.of("tandem_worker_provider_errors_total{kind=\"failed\",stage=\"chat\"}"), Some(0.0));
    desk.close().await;
}

#[tokio::test]
async fn a_caller_who_pauses_has_nothing_done_twice() {
    let shop = Shop::open(200, r#"{"booked": true}"#, Duration::ZERO).await.unwrap();
    let desk = open("guess", &shop).await;
    let mut phone = desk.greeted().await;
    // Long enough for a guess, too short for the end of a turn.
    let said = desk.say(&mut phone, &paused(&recorded(), 0, 320), "Book").await;
    desk.answered(&mut phone, said).await;
    let asked = desk.server.asked_for(Stage::Chat);
    let wanted =
        asked.iter().filter(|asked| asked.fields["messages"].as_array().unwrap().last().unwrap()["content"] == "Book");
    assert!(wanted.count() >= 2, "nothing was guessed");
    assert_eq!(shop.asked().len(), 1);
    assert_eq!(shop.asked()[0].target, "POST /tables");
    phone.hang_up().await;
    desk.close().await;
}

#[tokio::test]
async fn a_model_hangs_up_after_its_words_were_heard() {
    let shop = Shop::open(200, "{}", Duration::ZERO).await.unwrap();
    let desk = open("hang-up", &shop).await;
    let mut phone = desk.greeted().await;
    desk.say(&mut phone, &clip(), "Goodbye").await;
    phone.until("the end", PATIENCE, |log| log.closed.is_some()).await.unwrap();
    assert_eq!(after(&desk.plan, phone.call_sid()).await, [Verb::Hangup]);
    let samples = decode_mulaw(&phone.into_heard());
    let (_, _, ms) = heard(&samples, "So long, farewell.");
    assert!(ms.abs_diff(18 * 60) <= 100, "{ms} ms were heard");
    desk.close().await;
}

#[tokio::test]
async fn a_model_transfers_by_name() {
    let shop = Shop::open(200, "{}", Duration::ZERO).await.unwrap();
    let desk = open("transfer", &shop).await;
    let mut phone = desk.greeted().await;
    desk.say(&mut phone, &clip(), "Sales").await;
    phone.until("the end", PATIENCE, |log| log.closed.is_some()).await.unwrap();
    let verbs = after(&desk.plan, phone.call_sid()).await;
    assert!(format!("{verbs:?}").contains("+15550123") && matches!(verbs[0], Verb::Dial(_)), "{verbs:?}");
    let samples = decode_mulaw(&phone.into_heard());
    assert!(heard(&samples, "Putting you through.").2.abs_diff(20 * 60) <= 100);
    desk.close().await;
}

#[tokio::test]
async fn a_model_presses_keys_between_its_words() {
    let shop = Shop::open(200, "{}", Duration::ZERO).await.unwrap();
    let desk = open("digits", &shop).await;
    let mut phone = desk.greeted().await;
    let said = desk.say(&mut phone, &clip(), "Menu").await;
    desk.answered(&mut phone, said).await;
    phone.hang_up().await;
    let samples = decode_mulaw(&phone.into_heard());
    let (before, then) = (heard(&samples, "Pressing one."), heard(&samples, "All is done."));
    let between = &samples[before.1 * 8 + 160..then.0 * 8];
    assert_eq!(signal::keys_in(between), "159#");
    desk.close().await;
}
