//! A call end to end: what the caller says comes back through both services, whole and clean, on every documented path.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{sync::Arc, time::Duration};

use tests::{
    line::{Heard, Invitation, Line, is_fallback, parameters},
    signal::{align, edge_error, fidelity},
    sim::{self, CallPlan, CallReport, Caller, Ended, Quirks, Route, bundled_speech, decode_mulaw, encode_mulaw},
    stack::{Stack, eventually},
};

/// Samples by which the two filters of the signal path delay: 10 ms.
const DELAY: usize = 80;

#[tokio::test]
async fn speech_comes_back_clean_and_late_by_the_same_80_samples_in_frames_of_any_length() {
    let stack = Stack::start_default().await;
    let (even, short, long) = tokio::join!(talk(&stack, &[160]), talk(&stack, &[100]), talk(&stack, &[250]));
    for heard in [&even, &short, &long] {
        assert_clean(heard);
        // A frame of 20 ms each, whatever the caller's were.
        assert!(heard.frames.iter().all(|length| *length == 160), "{:?}", heard.frames);
    }
    let common = [&even, &short, &long].map(|heard| heard.mulaw.len()).into_iter().min();
    let first = |heard: &Heard| heard.mulaw[..common.unwrap_or(0)].to_vec();
    assert!(first(&even) == first(&short) && first(&even) == first(&long), "frame lengths change the sound");
    stack.stop().await;
}

#[tokio::test]
async fn twelve_calls_at_once_do_not_touch_each_other() {
    let stack = Stack::start_default().await;
    let calls = (0..12).map(|n| {
        let mut speech = bundled_speech().to_vec();
        speech.rotate_left(5000 * n);
        speech.truncate(4 * 8000);
        let plan = CallPlan { speech: speech.into(), from: format!("+155501{n:02}"), ..stack.call_plan() };
        Caller::new(plan).place()
    });
    let reports = futures_util::future::join_all(calls).await;
    for (n, report) in reports.iter().enumerate() {
        let echo = assert_good(report);
        assert!(echo.snr_db > 30.0, "call {n}: {report}");
        // Nobody hears anybody else. (Their speeches are the same one, begun 5000 samples apart.)
        let neighbour = &reports[(n + 1) % reports.len()].sent_pcm();
        let found = align(neighbour, &report.heard_pcm(), 4000).map_or(0.0, |found| found.correlation);
        assert!(found < 0.5, "call {n} hears the next one: {found}");
    }
    assert_eq!(stack.info().await.opened_total, 12);
    stack.stop().await;
}

#[tokio::test]
async fn every_documented_path_carries_a_call() {
    let stack = Stack::start_default().await;
    let place = async |path: &str| {
        let plan = CallPlan { path: path.into(), ..short(stack.call_plan()) };
        Caller::new(plan).place().await
    };
    let (incoming, voice, twiml) = tokio::join!(place("/voice/incoming"), place("/voice"), place("/twiml"));
    for report in [&incoming, &voice, &twiml] {
        assert_good(report);
        let posted: Vec<_> = report.status_callbacks.iter().map(|(event, status)| (event.as_str(), *status)).collect();
        assert_eq!(posted, [("stream-started", Some(204)), ("stream-stopped", Some(204))], "{report}");
    }
    assert_eq!(incoming.streams[0].url, "wss://gateway.example/voice/stream");
    assert_eq!(twiml.streams[0].url, "wss://gateway.example/voice/stream");
    assert!(voice.streams[0].url.starts_with("wss://gateway.example/ws/twilio/"), "{voice}");
    for path in ["/ws", "/ws/twilio/session-1"] {
        let plan = stack.call_plan();
        let mut invitation = Invitation::ask(&plan).await;
        invitation.connect.stream.url = format!("wss://gateway.example{path}");
        let mut line = Line::open(&plan, invitation).await;
        line.start().await;
        line.assert_echoes().await;
        line.hang_up().await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn the_stream_is_told_who_calls_and_the_session_is_fresh_for_each_call() {
    let stack = Stack::start_default().await;
    let plan = CallPlan { path: "/voice".into(), ..stack.call_plan() };
    let (first, second) = (Invitation::ask(&plan).await, Invitation::ask(&plan).await);
    let given = parameters(&first.connect);
    assert_eq!((given["from"].as_str(), given["to"].as_str()), ("+15550100", "+15550199"));
    assert_ne!(first.connect.stream.url, second.connect.stream.url);
    assert_ne!(first.ticket(), second.ticket());
    stack.stop().await;
}

#[tokio::test]
async fn health_counts_the_live_calls_and_has_the_documented_body() {
    let stack = Stack::start_default().await;
    let plan = stack.call_plan();
    let url = "http://localhost/health".parse().unwrap();
    let route = Route::Tcp(stack.gateway_address());
    for live in 0..3 {
        let reply = sim::get(&route, &url).await.unwrap();
        assert_eq!((reply.status, reply.content_type.as_str()), (200, "application/json"));
        let documented = format!(r#"{{"status":"healthy","active_connections":{live}}}"#);
        let sorted = format!(r#"{{"active_connections":{live},"status":"healthy"}}"#);
        assert!(reply.body == documented || reply.body == sorted, "{}", reply.body);
        let mut line = Line::dial(&plan).await;
        line.assert_echoes().await;
        // The call is left open for the next round.
        std::mem::forget(line);
    }
}

#[tokio::test]
async fn a_call_that_ended_is_counted_no_more_and_its_afterword_is_the_end() {
    let stack = Stack::start_default().await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    assert_eq!(stack.live_calls().await, 1);
    line.hang_up().await;
    eventually("the call is counted no more", async || stack.live_calls().await == 0).await;
    eventually("the conversation has ended", async || stack.info().await.live == 0).await;
    let verbs = line.after().await;
    assert!(!is_fallback(&verbs) && verbs.len() == 1, "{verbs:?}");
    stack.stop().await;
}

#[tokio::test]
async fn what_twilio_leaves_open_may_be_either_way() {
    let stack = Stack::start_default().await;
    let default = Quirks::default;
    let quirks = [
        Quirks { numbers_as_strings: false, ..default() },
        Quirks { chunk_over_stream: true, ..default() },
        Quirks { sign_trailing_slash: true, ..default() },
        Quirks { extras: true, ..default() },
        Quirks { sends_stop: false, ..default() },
        Quirks { answers_pings: false, ..default() },
        Quirks { action_after_hangup: true, ..default() },
    ];
    let calls = quirks.into_iter().map(|quirks| async {
        let shown = format!("{quirks:?}");
        let report = Caller::new(CallPlan { quirks, ..short(stack.call_plan()) }).place().await;
        (shown, report)
    });
    for (quirks, report) in futures_util::future::join_all(calls).await {
        let echo = assert_good(&report);
        assert!(echo.snr_db > 30.0, "{quirks}: {report}");
        assert!(report.said.is_empty(), "{quirks}: {report}");
    }
    stack.stop().await;
}

/// Says all of the bundled speech in frames of `sizes`; what came back.
async fn talk(stack: &Stack, sizes: &[usize]) -> Heard {
    let mut line = Line::dial(&stack.call_plan()).await;
    let speech = encode_mulaw(bundled_speech());
    // Less than a block of the resampler may still be waiting for more.
    let heard = line.converse(&speech, sizes, speech.len() - 320).await;
    line.hang_up().await;
    heard
}

fn assert_clean(heard: &Heard) {
    let (said, heard) = (decode_mulaw(&encode_mulaw(bundled_speech())), decode_mulaw(&heard.mulaw));
    let found = align(&said, &heard, 8000).unwrap();
    assert_eq!(found.delay, DELAY, "{found:?}");
    let whole = fidelity(&said, &heard, DELAY).unwrap();
    assert!(whole.snr_db >= 36.0 && whole.gain_db.abs() < 0.1, "{whole:?}");
    // Constant to the sample: each second on its own lies where the whole lies.
    for second in (0..heard.len() / 8000).map(|n| n * 8000) {
        let part = &said[second..(second + 8000).min(said.len())];
        let found = align(part, &heard[second..(second + 8400).min(heard.len())], 300);
        assert!(found.is_none_or(|found| found.correlation < 0.9 || found.delay == DELAY), "{second}: {found:?}");
    }
    let edges = edge_error(&said, &heard, DELAY, (160, 8)).unwrap();
    assert!(edges.ratio_db < 1.0, "the seams of frames can be heard: {edges:?}");
}

fn short(plan: CallPlan) -> CallPlan {
    let speech: Arc<[i16]> = bundled_speech()[..3 * 8000].into();
    CallPlan { speech, hangup_after: Some(Duration::from_millis(3500)), ..plan }
}

fn assert_good(report: &CallReport) -> sim::Echoed {
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.streams[0].ended, Ended::CallerHungUp, "{report}");
    report.streams[0].echo.unwrap_or_else(|| panic!("no echo: {report}"))
}
