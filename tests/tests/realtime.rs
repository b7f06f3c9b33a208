//! Calls to a model that hears and speaks by itself, through the whole system: what the caller and the server hear byte for
//! byte, what an interruption cuts, how a lost session goes on, and what is heard when there is no model.
//!
//! Every event of every session is held against OpenAI's published description.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use json_schema::Document;
use serde_json::{Value, json};
use tests::{
    line::{after, is_fallback},
    openai::{self, OpenAi},
    realtime::{Answer, Mishap, RealtimeServer, Request, Script, Seen},
    shop::Shop,
    signal,
    sim::{CallPlan, Verb, decode_mulaw},
    stack::{Stack, StackPlan, eventually},
    talk::{Clip, Phone, Transcripts, recorded, staff},
};
use url::Url;

#[path = "support/json_schema.rs"]
mod json_schema;

/// How long an answer may take to come and to be heard.
const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which the caller takes an answer as over.
const PAUSE: Duration = Duration::from_millis(600);

/// An agent, its model and a caller's way to it.
struct Desk {
    stack: Stack,
    server: RealtimeServer,
    plan: CallPlan,
    transcripts: Transcripts,
}

impl Desk {
    async fn open(name: &str, more: &str, script: Script) -> Self {
        let nowhere = Url::parse("http://127.0.0.1:9/v1").unwrap();
        Self::with_voice(name, more, script, &nowhere).await
    }

    async fn with_voice(name: &str, more: &str, script: Script, base: &Url) -> Self {
        let server = RealtimeServer::start(script).await.unwrap();
        let transcripts = Transcripts::of_test(&format!("realtime-{name}"));
        let file = format!(
            "[agent.desk]\nkind = \"realtime\"\nurl = \"{}\"\nmodel = \"m\"\ntranscribe = \"t\"\n\
             instructions = \"Be brief.\"\ngreeting = \"Hello there.\"\n{more}",
            server.url()
        );
        let plan = StackPlan::default().agents(staff(&file, base)).gateway("DEFAULT_AGENT", "desk");
        let stack = Stack::start(transcripts.kept_by(plan)).await;
        let plan = stack.call_plan();
        Self { stack, server, plan, transcripts }
    }

    /// A caller who has heard the greeting.
    async fn greeted(&self) -> Phone {
        let mut phone = Phone::dial(&self.plan).await.unwrap();
        let began = phone.began();
        phone.until("the greeting", PATIENCE, |log| log.has_answered(began, PAUSE)).await.unwrap();
        phone
    }

    /// A caller whose call ends by itself; what comes after it.
    async fn ended(&self) -> (Phone, Vec<Verb>) {
        let mut phone = Phone::dial(&self.plan).await.unwrap();
        phone.until("the end", PATIENCE, |log| log.closed.is_some()).await.unwrap();
        let verbs = after(&self.plan, phone.call_sid()).await;
        (phone, verbs)
    }

    async fn say(&self, phone: &mut Phone, clip: &Clip) {
        let said = phone.say_all(clip).await.unwrap().ended.unwrap();
        phone.until("an answer", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
    }

    /// What was said, by whom, and whether it was interrupted.
    async fn transcript(&self, call_sid: &str) -> Vec<(String, String, bool)> {
        let lines = self.lines(call_sid).await;
        let said = lines.iter().filter(|line| line["event"] == "said");
        let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        said.map(|line| (text(line, "speaker"), text(line, "text"), line["interrupted"] == true)).collect()
    }

    /// What it cost, by stage and family.
    async fn costs(&self, call_sid: &str) -> Value {
        self.lines(call_sid).await.last().unwrap()["costs"].clone()
    }

    async fn lines(&self, call_sid: &str) -> Vec<Value> {
        self.transcripts.of_call(call_sid).await
    }

    /// Ends it all; every session was as published.
    async fn close(self) -> Vec<Seen> {
        let seen = self.server.wait_for("the end of all sessions", |seen| seen.iter().all(|seen| seen.is_over)).await;
        for session in &seen {
            assert!(session.violations.is_empty(), "{:?}", session.violations);
            is_published("RealtimeClientEvent", &session.came);
            is_published("RealtimeServerEvent", &session.sent);
        }
        self.stack.stop().await;
        seen
    }
}

/// Holds events against OpenAI's published description (`tests/specs`, MIT).
fn is_published(family: &str, events: &[Value]) {
    let document = Document(serde_json::from_str(include_str!("../specs/openai-realtime.json")).unwrap());
    let schemas = document.0["components"]["schemas"].as_object().unwrap();
    for event in events {
        let is_of = |name: &&String| {
            let schema = &schemas[*name];
            name.starts_with(family) && schema["properties"]["type"]["enum"][0] == event["type"]
        };
        let name = schemas.keys().find(is_of).unwrap_or_else(|| panic!("not published: {event}"));
        let faults = document.faults(&schemas[name], event);
        assert!(faults.is_empty(), "{name}: {faults:#?}\n{event:#}");
        for field in event.as_object().unwrap().keys() {
            assert!(schemas[name]["properties"].get(field).is_some(), "{name} has no field {field}");
        }
    }
}

/// Every code but that of silence, in an order in which no stretch comes twice.
fn codes(seconds: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 24) as u8).min(0xFE)
    };
    (0..seconds * 8000).map(next).collect()
}

/// Says `words` with this sound, and greets with a second of something else.
fn saying(words: &str, sound: Vec<u8>) -> Script {
    let words = words.to_owned();
    let respond = move |request: &Request| match &request.instructions {
        Some(greeting) if greeting.ends_with("Hello there.") => {
            Answer { words: "Hello there.".to_owned(), sound: vec![0x2A; 8000], call: None }
        }
        _ => Answer { words: words.clone(), sound: sound.clone(), call: None },
    };
    Script { respond: Arc::new(respond), ..Script::default() }
}

/// How many bytes of `said`, from its beginning, are in `heard`, one after the other. Silence is what a busy machine puts
/// in between.
fn prefix(heard: &[u8], said: &[u8]) -> usize {
    let heard: Vec<u8> = heard.iter().copied().filter(|code| *code != 0xFF).collect();
    let at = heard.windows(64).position(|window| *window == said[..64]).expect("the beginning is heard");
    heard[at..].iter().zip(said).take_while(|(heard, said)| heard == said).count()
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn mu_law_passes_byte_for_byte_both_ways() {
    let said = codes(2);
    let desk = Desk::open("exact", "", saying("One two three four.", said.clone())).await;
    let (clips, mut phone) = (recorded(), desk.greeted().await);
    for clip in &clips[..2] {
        desk.say(&mut phone, clip).await;
    }
    phone.hang_up().await;
    let transcript = desk.transcript(phone.call_sid()).await;
    let metrics = desk.stack.worker_metrics().await;
    assert_eq!(metrics.of("tandem_worker_turns_total"), Some(2.0));
    assert_eq!(metrics.of("tandem_worker_response_seconds_count"), Some(2.0));
    let heard = phone.into_heard();
    assert_eq!(prefix(&heard, &said), said.len());
    assert!(contains(&heard, &[0x2A; 8000]), "the greeting as well");
    let seen = desk.close().await;
    let [session] = &seen[..] else { panic!("{} sessions", seen.len()) };
    assert!(session.target.ends_with("/v1/realtime?model=m"), "{}", session.target);
    for clip in &clips[..2] {
        assert!(contains(&session.appended, &clip.mulaw), "what the caller said came as it was said");
    }
    let line = |speaker: &str, text: &str| (speaker.to_owned(), text.to_owned(), false);
    let turn = [line("caller", "Hello."), line("agent", "One two three four.")];
    assert_eq!(transcript, [&[line("agent", "Hello there.")], &turn[..], &turn[..]].concat());
}

#[tokio::test]
async fn messages_in_frames_drips_and_the_betas_names_are_understood() {
    let said = codes(1);
    for (name, more) in [
        ("frames", Script { mishaps: vec![Mishap::Fragments(7)], ..Script::default() }),
        ("drips", Script { piece: 160, pace: Duration::from_millis(15), is_beta: true, ..Script::default() }),
    ] {
        let script = Script { respond: saying("One two.", said.clone()).respond, ..more };
        let desk = Desk::open(name, "", script).await;
        let mut phone = desk.greeted().await;
        desk.say(&mut phone, &recorded()[0]).await;
        phone.hang_up().await;
        assert_eq!(prefix(&phone.into_heard(), &said), said.len(), "{name}");
        desk.close().await;
    }
}

/// Interrupts a long answer; what the server was told of it, what the caller heard of it, and the transcript.
async fn interrupted(name: &str, more: &str) -> (u64, u64, Vec<(String, String, bool)>, Vec<Seen>) {
    let said = codes(8);
    let words = "aaa bbb ccc ddd eee fff ggg hhh iii jjj";
    let desk = Desk::open(name, more, saying(words, said.clone())).await;
    let (clips, mut phone) = (recorded(), desk.greeted().await);
    let asked = phone.say_all(&clips[0]).await.unwrap().ended.unwrap();
    phone.until("the answer", PATIENCE, |log| log.media_after(asked).is_some()).await.unwrap();
    phone.wait(Duration::from_millis(2300)).await.unwrap();
    desk.server.change(|script| script.respond = saying("Pardon?", vec![0x33; 4000]).respond);
    let long = clips.iter().find(|clip| clip.ms() > 1500).unwrap();
    desk.say(&mut phone, long).await;
    assert_eq!(phone.playout().clears, 1);
    phone.hang_up().await;
    let transcript = desk.transcript(phone.call_sid()).await;
    let heard_ms = (prefix(&phone.into_heard(), &said) / 8) as u64;
    let seen = desk.close().await;
    let cut = seen[0].of("conversation.item.truncate");
    assert_eq!(cut.len(), 1, "{cut:?}");
    (cut[0]["audio_end_ms"].as_u64().unwrap(), heard_ms, transcript, seen)
}

#[tokio::test]
async fn an_interruption_heard_by_the_server_is_cut_where_the_caller_heard_it() {
    let (told, heard, transcript, seen) = interrupted("cut", "").await;
    assert!(told.abs_diff(heard) <= 200, "told {told} of {heard} ms");
    assert!(seen[0].of("response.cancel").is_empty(), "the server gave it up by itself");
    let (_, text, interrupted) = &transcript[2];
    let words = text.split(' ').count();
    assert!(*interrupted && (2..=5).contains(&words), "{text}");
    assert_eq!(transcript.last().unwrap().1, "Pardon?");
}

#[tokio::test]
async fn an_interruption_heard_by_our_own_ears_is_cut_there_too() {
    let (told, heard, transcript, seen) = interrupted("own", "turn_detection = \"own\"\n").await;
    assert!(told.abs_diff(heard) <= 200, "told {told} of {heard} ms");
    let order: Vec<&str> = seen[0].came.iter().filter_map(|event| event["type"].as_str()).collect();
    let last = |kind: &str| order.iter().rposition(|came| *came == kind).unwrap();
    assert!(last("conversation.item.truncate") < last("input_audio_buffer.commit"));
    assert!(last("input_audio_buffer.commit") < last("response.create"));
    assert_eq!(seen[0].came[0]["session"]["audio"]["input"]["turn_detection"], Value::Null);
    assert!(transcript[2].2, "{transcript:?}");
    // Silence is nothing that anybody has to pay for.
    assert!(seen[0].appended.len() < 8 * 8000, "{} bytes", seen[0].appended.len());
}

#[tokio::test]
async fn a_lost_session_goes_on_with_what_was_said() {
    let desk = Desk::open("lost", "", saying("One two.", vec![0x33; 4000])).await;
    let (clips, mut phone) = (recorded(), desk.greeted().await);
    desk.say(&mut phone, &clips[0]).await;
    desk.server.drop_connections();
    desk.server.wait_for("another session", |seen| seen.len() == 2).await;
    desk.say(&mut phone, &clips[1]).await;
    phone.hang_up().await;
    let seen = desk.close().await;
    let told: Vec<_> = seen[1].of("conversation.item.create").iter().map(|event| event["item"].clone()).collect();
    let message = |role: &str, kind: &str, text: &str| json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]});
    let expected = [
        message("assistant", "output_text", "Hello there."),
        message("user", "input_text", "Hello."),
        message("assistant", "output_text", "One two."),
    ];
    assert_eq!(told, expected);
    assert_eq!(seen[0].of("session.update")[0]["session"], seen[1].of("session.update")[0]["session"]);
    assert!(contains(&seen[1].appended, &clips[1].mulaw));
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again() {
    let desk = Desk::open("owed", "", saying("One two.", vec![0x33; 4000])).await;
    let (clips, mut phone) = (recorded(), desk.greeted().await);
    desk.server.change(|script| script.delay = Duration::from_secs(20));
    let said = phone.say_all(&clips[0]).await.unwrap().ended.unwrap();
    let is_begun = |seen: &[Seen]| seen[0].sent.iter().filter(|event| event["type"] == "response.created").count() == 2;
    let begun = desk.server.wait_for("the answer begins", is_begun);
    let (_, waited) = tokio::join!(begun, phone.wait(Duration::from_secs(1)));
    waited.unwrap();
    desk.server.change(|script| script.delay = Duration::ZERO);
    desk.server.drop_connections();
    phone.until("an answer", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
    phone.hang_up().await;
    let seen = desk.close().await;
    assert_eq!((seen.len(), seen[1].of("response.create").len()), (2, 1));
}

#[tokio::test]
async fn who_has_no_model_hears_so() {
    let cases = [
        ("refused", Mishap::Refused(401), 1),
        ("closed", Mishap::Closed(3000), 1),
        ("busy", Mishap::Refused(503), 2),
        ("mute", Mishap::Mute, 2),
        ("garbage", Mishap::Garbage, 2),
        ("html", Mishap::Refused(599), 0),
    ];
    let calls = cases.map(async |(name, mishap, sessions)| {
        let script = Script { mishaps: vec![mishap; 2], ..saying("", Vec::new()) };
        let desk = Desk::open(name, "timeout_first_ms = 1500\n", script).await;
        let (phone, verbs) = desk.ended().await;
        assert!(is_fallback(&verbs), "{name}: {verbs:?}");
        assert!(phone.log().media.is_empty(), "{name}");
        let seen = desk.close().await;
        assert_eq!(seen.len(), sessions, "{name}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn a_server_that_is_dead_is_left_alone_and_callers_need_not_wait_for_it() {
    let script = Script { mishaps: vec![Mishap::Mute; 3], ..saying("", Vec::new()) };
    let desk = Desk::open("dead", "timeout_first_ms = 1000\n", script).await;
    let place = desk.server.url();
    let place = format!("{}:{}", place.host_str().unwrap(), place.port().unwrap());
    let open = format!("tandem_worker_provider_open{{host=\"{place}\",provider=\"openai\",stage=\"realtime\"}}");
    assert_eq!(desk.stack.worker_metrics().await.of(&open), Some(0.0));
    // Two tries of the first call and one of the second; its other one is spared.
    for _ in 0..2 {
        let (_, verbs) = desk.ended().await;
        assert!(is_fallback(&verbs), "{verbs:?}");
    }
    let metrics = desk.stack.worker_metrics().await;
    assert_eq!((metrics.of(&open), desk.server.seen().len()), (Some(1.0), 3));
    let (_, verbs) = desk.ended().await;
    assert!(is_fallback(&verbs), "{verbs:?}");
    assert_eq!(desk.server.seen().len(), 3, "it is not asked");
    // One call tries it after the pause, and finds it well.
    let answered = async || {
        let mut phone = Phone::dial(&desk.plan).await.unwrap();
        let began = phone.began();
        phone
            .until("words or the end", PATIENCE, |log| log.closed.is_some() || log.has_answered(began, PAUSE))
            .await
            .unwrap();
        let is_heard = phone.log().closed.is_none();
        phone.hang_up().await;
        is_heard
    };
    eventually("it is tried", answered).await;
    assert_eq!(desk.stack.worker_metrics().await.of(&open), Some(0.0));
    desk.close().await;
}

#[tokio::test]
async fn an_agent_with_a_voice_of_its_own_takes_its_leave() {
    let script = openai::Script {
        say: Arc::new(|_, _| openai::tone(700.0, Duration::from_secs(1))),
        ..openai::Script::default()
    };
    let voice = OpenAi::start(script).await.unwrap();
    // The first is not there; the other stands in for it.
    let more = "give_up = \"I am sorry. Goodbye.\"\n[agent.desk.text_to_speech]\nmodel = \"m\"\n\
                url = \"http://127.0.0.1:9/v1\"\n[agent.desk.text_to_speech.fallback]\nmodel = \"m\"\n";
    let script = Script { key: Some("another".to_owned()), ..saying("", Vec::new()) };
    let desk = Desk::with_voice("voice", more, script, &voice.base()).await;
    let (phone, verbs) = desk.ended().await;
    assert!(matches!(verbs[..], [Verb::Hangup]), "{verbs:?}");
    let call_sid = phone.call_sid().to_owned();
    let heard = decode_mulaw(&phone.into_heard());
    let tone = heard
        .chunks(160)
        .filter(|frame| signal::tone_share(frame, 700.0) > 0.6 && frame[0..80].iter().any(|s| *s > 2000));
    assert!((900..=1100).contains(&(tone.count() * 20)));
    assert_eq!(desk.transcript(&call_sid).await, [("agent".to_owned(), "I am sorry. Goodbye.".to_owned(), false)]);
    let voices = json!({
        "stage": "text_to_speech", "provider": "openai", "requests": 2, "failed": 1, "stood_in": 1, "characters": 20,
    });
    assert_eq!(desk.costs(&call_sid).await, json!([voices]));
    desk.close().await;
}

#[tokio::test]
async fn a_flood_ends_and_failing_responses_are_apologised_for() {
    let script =
        Script { mishaps: vec![Mishap::Flood, Mishap::None], piece: 8000, ..saying("Here.", vec![0x33; 4000]) };
    let desk = Desk::open("flood", "", script).await;
    let mut phone = Phone::dial(&desk.plan).await.unwrap();
    desk.server.wait_for("another session", |seen| seen.len() == 2).await;
    let now = phone.began() + phone.began().elapsed();
    phone
        .until("quiet after the flood", PATIENCE, |log| log.silent_since.is_some_and(|since| since > now))
        .await
        .unwrap();
    desk.say(&mut phone, &recorded()[0]).await;
    phone.hang_up().await;
    desk.close().await;

    let script = Script { mishaps: vec![Mishap::Failing; 2], ..saying("", Vec::new()) };
    let desk = Desk::open("failing", "max_faults = 2\n", script).await;
    let (_, verbs) = desk.ended().await;
    assert!(is_fallback(&verbs), "{verbs:?}");
    let seen = desk.close().await;
    assert_eq!(seen[0].of("response.create").len(), 3);
}

#[tokio::test]
async fn a_function_is_answered_and_the_answer_spoken_of() {
    let respond = |request: &Request| match (&request.output, request.before) {
        (Some(output), _) => {
            assert!(output.contains("no such tool"), "{output}");
            Answer { words: "I cannot.".to_owned(), sound: vec![0x33; 4000], call: None }
        }
        (None, 0) => Answer { words: "Hello there.".to_owned(), sound: vec![0x2A; 8000], call: None },
        (None, _) => Answer { call: Some(("weather".to_owned(), "{}".to_owned())), ..Answer::default() },
    };
    let desk = Desk::open("function", "", Script { respond: Arc::new(respond), ..Script::default() }).await;
    let mut phone = desk.greeted().await;
    desk.say(&mut phone, &recorded()[0]).await;
    phone.hang_up().await;
    let seen = desk.close().await;
    let came = seen[0].of("conversation.item.create");
    assert_eq!((came.len(), &came[0]["item"]["type"]), (1, &json!("function_call_output")));
}

/// Tells opening hours, which it has to look up, and then hangs up.
fn with_tools() -> Script {
    let say = |words: &str, code: u8| Answer { words: words.to_owned(), sound: vec![code; 8000], call: None };
    let respond = move |request: &Request| match (&request.instructions, &request.output, request.before) {
        (Some(words), ..) if words.ends_with("Hello there.") => say("Hello there.", 0x2A),
        (Some(words), ..) if words.ends_with("One moment.") => say("One moment.", 0x33),
        (Some(words), ..) => panic!("{words}"),
        (None, Some(output), _) => {
            assert_eq!(output, r#"{"open": "nine"}"#);
            say("At nine.", 0x44)
        }
        (None, None, 1) => {
            let arguments = r#"{"day": "to day"}"#.to_owned();
            Answer { call: Some(("hours".to_owned(), arguments)), ..Answer::default() }
        }
        (None, None, _) => {
            let arguments = r#"{"reason": "finished"}"#.to_owned();
            Answer { call: Some(("hang_up".to_owned(), arguments)), ..say("So long.", 0x55) }
        }
    };
    Script { respond: Arc::new(respond), ..Script::default() }
}

#[tokio::test]
async fn a_function_of_the_users_is_asked_and_the_model_hangs_up_when_all_was_heard() {
    // Longer than the filler, which is a second of sound.
    let shop = Shop::open(200, r#"{"open": "nine"}"#, Duration::from_millis(1200)).await.unwrap();
    let more = format!(
        r#"
        tools = ["hang_up", "hours"]
        [tool.hours]
        description = "Opening hours."
        url = "http://127.0.0.1:{}/hours/{{day}}"
        share = ["call_id"]
        filler = "One moment."
        parameters = '{{"type": "object", "properties": {{"day": {{"type": "string"}}}}, "required": ["day"]}}'
        "#,
        shop.port()
    );
    let desk = Desk::open("tools", &more, with_tools()).await;
    let (clips, mut phone) = (recorded(), desk.greeted().await);
    let said = phone.say_all(&clips[0]).await.unwrap().ended.unwrap();
    // The shop is slower than a caller's patience elsewhere.
    phone.until("the answer", PATIENCE, |log| log.has_answered(said, 3 * PAUSE)).await.unwrap();
    phone.say(&clips[1]);
    phone.until("the end", PATIENCE, |log| log.closed.is_some()).await.unwrap();
    assert_eq!(after(&desk.plan, phone.call_sid()).await, [Verb::Hangup]);
    let asked = shop.asked();
    assert_eq!((asked.len(), asked[0].target.as_str()), (1, "GET /hours/to%20day"));
    assert_eq!(asked[0].headers["tandem-call-id"], phone.call_sid());
    let spoken: Vec<_> = desk.transcript(phone.call_sid()).await;
    let agents: Vec<_> = spoken.iter().filter(|(speaker, ..)| speaker == "agent").map(|(_, text, _)| text).collect();
    assert_eq!(agents, ["Hello there.", "One moment.", "At nine.", "So long."]);
    let metrics = desk.stack.worker_metrics().await;
    assert_eq!(metrics.of("tandem_worker_tool_calls_total{outcome=\"done\"}"), Some(2.0));
    // Ten tokens in and twenty out for each of five responses.
    let all = json!({"stage": "realtime", "provider": "openai", "requests": 5, "tokens_in": 50, "tokens_out": 100});
    // And a second of sound for the words of each of two turns.
    let words = json!({"stage": "speech_to_text", "provider": "openai", "requests": 2, "audio_ms": 2000});
    assert_eq!(desk.costs(phone.call_sid()).await, json!([all, words]));
    let seconds = "tandem_worker_provider_seconds_total{provider=\"openai\",stage=\"speech_to_text\"}";
    assert_eq!(metrics.of(seconds), Some(2.0));
    let tokens = "tandem_worker_provider_tokens_total{direction=\"out\",provider=\"openai\",stage=\"realtime\"}";
    assert_eq!(metrics.of(tokens), Some(100.0));
    // All of each is heard, one after the other; a busy machine puts silence in between.
    let heard: Vec<u8> = phone.into_heard().into_iter().filter(|code| *code != 0xFF).collect();
    let expected: Vec<u8> = [0x2A, 0x33, 0x44, 0x55].into_iter().flat_map(|code| [code; 8000]).collect();
    assert!(heard == expected, "{} bytes were heard", heard.len());
    let seen = desk.close().await;
    let told = &seen[0].of("session.update")[0]["session"]["tools"];
    assert_eq!((&told[0]["name"], &told[1]["name"]), (&json!("hang_up"), &json!("hours")));
    let came = seen[0].of("conversation.item.create");
    assert!(came.iter().all(|event| event["item"]["type"] == "function_call_output"), "{came:?}");
    assert_eq!(came.len(), 2);
}

#[tokio::test]
async fn pcm_at_24_khz_goes_through_the_resamplers() {
    let wire: Vec<u8> =
        openai::tone(900.0, Duration::from_secs(2)).iter().flat_map(|s: &i16| s.to_le_bytes()).collect();
    assert_eq!(openai::RATE_HZ, 24_000);
    let greeting: Vec<u8> = vec![0; 48_000];
    let respond = move |request: &Request| {
        let sound = if request.before == 0 { greeting.clone() } else { wire.clone() };
        Answer { words: "One two.".to_owned(), sound, call: None }
    };
    // Cut within samples.
    let script = Script { respond: Arc::new(respond), piece: 4801, ..Script::default() };
    let desk = Desk::open("pcm", "format = \"pcm\"\nturn_detection = \"own\"\n", script).await;
    let (clips, mut phone) = (recorded(), desk.greeted().await);
    desk.say(&mut phone, &clips[0]).await;
    phone.hang_up().await;
    let heard = decode_mulaw(&phone.into_heard());
    let tone =
        heard.chunks(160).filter(|frame| signal::tone_share(frame, 900.0) > 0.9 && frame.iter().any(|s| *s > 2000));
    assert!((1900..=2060).contains(&(tone.count() * 20)));
    let seen = desk.close().await;
    let sent: Vec<i16> = seen[0].appended.chunks_exact(6).map(|six| i16::from_le_bytes([six[0], six[1]])).collect();
    let said = decode_mulaw(&clips[0].mulaw);
    let found = signal::align(&said, &sent, sent.len()).unwrap();
    assert!(found.correlation > 0.9, "{found:?}");
}
