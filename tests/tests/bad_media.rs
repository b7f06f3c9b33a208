//! Media streams that are wrong in every way that was thought of: each ends as it should, or goes on as if nothing
//! had been, and a call beside it never notices.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]
#![expect(clippy::disallowed_methods, reason = "tickets are made with the wall clock")]

use std::time::{Duration, SystemTime};

use gateway::ticket::{Key, Kind};
use serde_json::json;
use telemetry::Sensitive;
use tests::{
    line::{Invitation, Line, after, is_fallback},
    scripted::{Notes, Told},
    sim::{CallPlan, Incoming, bundled_speech, encode_mulaw},
    stack::{AUTH_TOKEN, Stack, StackPlan, eventually},
};

/// Longest payload that is taken, and a longer one.
const SECOND: usize = 8000;

#[tokio::test]
async fn a_stream_without_a_good_ticket_is_closed_and_no_worker_hears_of_it() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    let mut beside = Line::dial(&plan).await;
    beside.assert_echoes().await;
    let key = Key::derive(&Sensitive::new(AUTH_TOKEN.to_owned()), "tandem ticket");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let ticket = |ticket: &str| vec![("ticket".to_owned(), ticket.to_owned())];
    let invitation = Invitation::ask(&plan).await;
    let call_sid = invitation.call_sid.clone();
    let of_another_call = Invitation::ask(&plan).await.ticket().to_owned();
    let of_another_key =
        Key::derive(&Sensitive::new("other".into()), "tandem ticket").mint(Kind::Phone, &call_sid, now, [1; 16]);
    let expired = key.mint(Kind::Phone, &call_sid, now - Duration::from_secs(62), [2; 16]);
    for (what, parameters) in [
        ("none", Vec::new()),
        ("empty", ticket("")),
        ("not a ticket", ticket("hello, world")),
        ("of another call", ticket(&of_another_call)),
        ("of another key", ticket(&of_another_key)),
        ("expired", ticket(&expired)),
    ] {
        let mut line = Line::open(&plan, invitation.clone()).await;
        line.start_with(&parameters).await;
        assert_eq!(line.close_code().await, Some(1008), "{what}");
        assert!(is_fallback(&line.after().await), "{what}");
    }
    // A fresh one that the key's owner made is good: the five above were refused for what they are.
    let mut line = Line::open(&plan, invitation).await;
    line.start_with(&ticket(&key.mint(Kind::Phone, &call_sid, now, [3; 16]))).await;
    line.assert_echoes().await;
    beside.assert_echoes().await;
    assert_eq!(stack.info().await.opened_total, 2);
    stack.stop().await;
}

#[tokio::test]
async fn a_ticket_is_good_once() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    let invitation = Invitation::ask(&plan).await;
    let mut first = Line::open(&plan, invitation.clone()).await;
    first.start().await;
    first.assert_echoes().await;
    let mut second = Line::open(&plan, invitation).await;
    second.start().await;
    assert_eq!(second.close_code().await, Some(1008));
    first.assert_echoes().await;
    assert_eq!(stack.info().await.opened_total, 1);
    stack.stop().await;
}

#[tokio::test]
async fn oddities_are_harmless() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    let mut beside = Line::dial(&plan).await;
    let mut line = Line::open(&plan, Invitation::ask(&plan).await).await;
    // Before `start` there is no call that it could belong to.
    line.speak(&[0xff; 160]).await;
    line.press('1').await;
    let (mark, stop) = (line.writer.mark("u1:200"), line.writer.stop());
    line.say(mark).await;
    line.say(stop).await;
    line.start().await;
    line.assert_echoes().await;
    let sid = line.stream_sid().to_owned();
    let media = |payload: &str| json!({"event": "media", "streamSid": sid, "media": {"payload": payload}}).to_string();
    let long = encode_base64(&[0xff; SECOND + 1]);
    let odd = [
        // A second start, of this call and of another.
        line.writer.start(&[]),
        json!({"event": "start", "streamSid": "MZ9", "start": {"callSid": "CA9", "streamSid": "MZ9"}}).to_string(),
        // No messages at all.
        "not JSON".into(),
        String::new(),
        "[]".into(),
        "null".into(),
        "{}".into(),
        "{\"event\":7}".into(),
        format!("{}1{}", "[".repeat(2000), "]".repeat(2000)),
        // Messages of nobody's.
        line.writer.unknown(),
        json!({"event": "media", "streamSid": sid}).to_string(),
        json!({"event": "media", "streamSid": sid, "media": {}}).to_string(),
        json!({"event": "dtmf", "streamSid": sid, "dtmf": {"digit": "55"}}).to_string(),
        json!({"event": "dtmf", "streamSid": sid, "dtmf": {"digit": "ä"}}).to_string(),
        json!({"event": "mark", "streamSid": sid, "mark": {"name": "u18446744073709551615:1"}}).to_string(),
        json!({"event": "mark", "streamSid": sid, "mark": {"name": "theirs"}}).to_string(),
        json!({"event": "clear", "streamSid": sid}).to_string(),
        // Payloads that are no audio.
        media("%%%%"),
        media(""),
        media("A"),
        media(&long),
        media(&encode_base64(&vec![0xff; 64 << 10])),
        // Another stream's audio.
        json!({"event": "media", "streamSid": "MZ9", "media": {"payload": "AAAA"}}).to_string(),
        json!({"event": "stop", "streamSid": "MZ9"}).to_string(),
    ];
    for text in odd {
        let shown: String = text.chars().take(60).collect();
        line.say(text).await;
        assert_eq!(stack.live_calls().await, 2, "{shown}");
    }
    line.socket.send_binary(vec![0; 160]).await.unwrap();
    line.socket.send_ping().await.unwrap();
    while line.socket.next(Duration::from_secs(5)).await != Incoming::Pong {
        assert_eq!(stack.live_calls().await, 2);
    }
    line.assert_echoes().await;
    beside.assert_echoes().await;
    assert_eq!(stack.info().await.opened_total, 2);
    line.hang_up().await;
    stack.stop().await;
}

#[tokio::test]
async fn frames_that_are_missing_repeated_or_late_cost_only_themselves() {
    let notes = Notes::default();
    let stack = Stack::start(StackPlan::default().agents(notes.agents()).gateway("DEFAULT_AGENT", "scripted")).await;
    let plan = stack.call_plan();
    let mut line = Line::dial(&plan).await;
    let frame = encode_mulaw(&bundled_speech()[8000..8160]);
    line.speak(&frame).await;
    // A hole of 200 ms.
    line.skip(1600);
    line.speak(&frame).await;
    // The same again, and one from before.
    let sid = line.stream_sid().to_owned();
    for (chunk, timestamp) in [("2", "220"), ("1", "0")] {
        let media =
            json!({"track": "inbound", "chunk": chunk, "timestamp": timestamp, "payload": encode_base64(&frame)});
        line.say(json!({"event": "media", "streamSid": sid, "media": media}).to_string()).await;
    }
    line.speak(&frame).await;
    line.press('5').await;
    eventually("the agent has heard all", async || notes.of(line.call_sid()).contains(&Told::Key('5'))).await;
    eventually("the agent knows of the hole", async || notes.of(line.call_sid()).contains(&Told::Gap(200))).await;
    let gaps = notes.of(line.call_sid()).iter().filter(|told| matches!(told, Told::Gap(_))).count();
    assert_eq!(gaps, 1);
    line.hang_up().await;
    stack.stop().await;
}

#[tokio::test]
async fn the_echo_is_whole_around_a_hole() {
    let stack = Stack::start_default().await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    line.skip(8000);
    line.assert_echoes().await;
    line.hang_up().await;
    stack.stop().await;
}

#[tokio::test]
async fn no_start_within_five_seconds_closes_the_socket() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    let mut silent = Line::open(&plan, Invitation::ask(&plan).await).await;
    let mut beside = Line::dial(&plan).await;
    beside.assert_echoes().await;
    assert_eq!(silent.close_code().await, Some(1008));
    assert!(is_fallback(&silent.after().await));
    beside.assert_echoes().await;
    assert_eq!(stack.info().await.opened_total, 1);
    stack.stop().await;
}

#[tokio::test]
async fn another_encoding_is_refused() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    for format in [
        json!({"encoding": "audio/l16", "sampleRate": 8000, "channels": 1}),
        json!({"encoding": "audio/x-mulaw", "sampleRate": 16000, "channels": 1}),
        json!({"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 2}),
        json!({}),
    ] {
        let mut line = Line::open(&plan, Invitation::ask(&plan).await).await;
        let start = line.writer.start(&[]);
        let mut start: serde_json::Value = serde_json::from_str(&start).unwrap();
        start["start"]["mediaFormat"] = format;
        line.say(start.to_string()).await;
        assert_eq!(line.close_code().await, Some(1003), "{start}");
        assert!(is_fallback(&line.after().await));
    }
    assert_eq!(stack.info().await.opened_total, 0);
    stack.stop().await;
}

#[tokio::test]
async fn a_message_over_the_size_limit_or_against_the_protocol_ends_only_its_call() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    let mut beside = Line::dial(&plan).await;
    let lines: [Breaking; 4] = [
        ("too long", frame(0x81, 200 << 10)),
        ("not UTF-8", [frame(0x81, 0)[..1].to_vec(), vec![0x84, 0, 0, 0, 0, 0xff, 0xfe, 0xff, 0xfe]].concat()),
        ("reserved opcode", frame(0x83, 10)),
        ("not masked", vec![0x81, 2, b'{', b'}']),
    ];
    for (what, bytes) in lines {
        let mut line = Line::dial(&plan).await;
        line.assert_echoes().await;
        // The gateway may have gone before it took all of it.
        let _ = line.socket.send_raw(&bytes).await;
        let code = line.close_code().await;
        assert!(matches!(code, None | Some(1002 | 1007 | 1008 | 1009)), "{what}: {code:?}");
        eventually("the broken call has ended", async || stack.live_calls().await == 1).await;
        assert!(is_fallback(&line.after().await), "{what}");
        beside.assert_echoes().await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn a_caller_that_vanishes_ends_its_call_and_no_other() {
    let notes = Notes::default();
    let stack = Stack::start(StackPlan::default().agents(notes.agents())).await;
    let plan = stack.call_plan();
    let mut beside = Line::dial(&plan).await;
    let mut gone = Line::dial(&plan).await;
    gone.assert_echoes().await;
    // Without a `stop`, without a close: the connection just ends.
    drop(gone);
    eventually("the call has ended", async || stack.live_calls().await == 1).await;
    eventually("the conversation has ended", async || stack.info().await.live == 1).await;
    beside.assert_echoes().await;
    stack.stop().await;
}

#[tokio::test]
async fn sockets_that_never_show_a_ticket_are_bounded() {
    let stack = Stack::start(StackPlan::default().gateway("MAX_CALLS", "1")).await;
    let plan: CallPlan = stack.call_plan();
    let invitation = Invitation::ask(&plan).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(Line::open(&plan, invitation.clone()).await);
    }
    let url = &invitation.connect.stream.url;
    let one_more = tests::sim::MediaSocket::connect(&plan.route, url, &plan.auth_token, &plan.quirks).await;
    assert!(matches!(one_more.err(), Some(tests::sim::ConnectError::Status { status: 503, .. })));
    drop(held);
    eventually("they are let go", async || stack.live_calls().await == 0).await;
    // The call that was to come is over, as Twilio tells: its room is free.
    after(&plan, &invitation.call_sid).await;
    Line::dial(&plan).await.assert_echoes().await;
}

/// What breaks the protocol, and its bytes.
type Breaking = (&'static str, Vec<u8>);

/// A masked frame of `length` spaces.
fn frame(first: u8, length: u32) -> Vec<u8> {
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
        _ => {
            frame.push(0x80 | 127);
            frame.extend(u64::from(length).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.resize(frame.len() + length as usize, b' ');
    frame
}

fn encode_base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes)
}
