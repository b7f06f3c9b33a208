//! The simulated Twilio against a stand-in server, in virtual time.

#![expect(clippy::disallowed_methods, reason = "the virtual clock is read to see what was waited")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]
#![expect(clippy::wildcard_enum_match_arm, reason = "tests name the one arm they expect")]

#[path = "support/stand_in.rs"]
mod stand_in;

use std::{sync::Arc, sync::Mutex, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use stand_in::{CONNECT, Socket, StandIn, TOKEN};
use tests::sim::{self, CallPlan, CallReport, Caller, Code, Ended, FramePlan, Level, Quirks};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

/// What the server saw on the streams.
type Log = Arc<Mutex<Vec<Value>>>;

/// Reads until `start`; the stream's identifier.
async fn stream_sid(socket: &mut Socket) -> String {
    loop {
        let message = next(socket).await.expect("no start");
        if message["event"] == "start" {
            return message["streamSid"].as_str().unwrap().to_owned();
        }
    }
}

async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.next().await? {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

async fn send(socket: &mut Socket, value: Value) {
    // The caller may have hung up.
    let _ = socket.send(Message::text(value.to_string())).await;
}

async fn close(socket: &mut Socket, code: u16) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
    socket.close(Some(frame)).await.unwrap();
    while next(socket).await.is_some() {}
}

fn media(sid: &str, payload: &str) -> Value {
    json!({"event": "media", "streamSid": sid, "media": {"payload": payload}})
}

/// Sends back what comes and keeps a log.
async fn echo(mut socket: Socket, log: Log) {
    while let Some(message) = next(&mut socket).await {
        if message["event"] == "media" {
            let payload = message["media"]["payload"].as_str().unwrap();
            let sid = message["streamSid"].as_str().unwrap();
            send(&mut socket, media(sid, payload)).await;
        }
        log.lock().unwrap().push(message);
    }
}

fn echo_server() -> (StandIn, Log) {
    let log = Log::default();
    let kept = Arc::clone(&log);
    (StandIn::new(move |socket| echo(socket, Arc::clone(&kept))), log)
}

fn events<'a>(log: &'a [Value], event: &str) -> Vec<&'a Value> {
    log.iter().filter(|m| m["event"] == event).collect()
}

fn codes(report: &CallReport) -> Vec<Code> {
    report.all_findings().map(|f| f.code).collect()
}

fn with(plan: CallPlan, quirks: Quirks) -> CallPlan {
    CallPlan { quirks, ..plan }
}

fn short(plan: CallPlan) -> CallPlan {
    CallPlan { hangup_after: Some(Duration::from_secs(1)), ..plan }
}

async fn place(plan: CallPlan) -> CallReport {
    Caller::new(plan).place().await
}

#[tokio::test(start_paused = true)]
async fn a_call_to_an_echo_goes_through_and_is_measured() {
    let (server, log) = echo_server();
    let report = place(server.start()).await;
    assert!(report.is_ok(), "{report}");
    let stream = &report.streams[0];
    assert_eq!(stream.ended, Ended::CallerHungUp);
    // 10.67 s of 20 ms frames, every one of them back but for those on their way at the end.
    assert_eq!(stream.frames_sent, 533);
    assert!(stream.frames_received >= 531, "{report}");
    let echo = stream.echo.expect("an echo");
    // The caller hears a frame when it has spoken it to its end; the clock ticks in milliseconds.
    assert!(echo.delay_samples.abs_diff(160) <= 16, "{report}");
    assert!(echo.snr_db > 60.0 && echo.gain_db.abs() < 0.01, "{report}");
    assert_eq!(stream.playout.gaps, 0, "{report}");
    assert_eq!(report.heard_pcm().len(), stream.heard.len());
    let log = log.lock().unwrap();
    assert_eq!(log[0]["event"], "connected");
    assert_eq!(log[1]["start"]["customParameters"], json!({"ticket": "t1"}));
    assert_eq!(log.last().unwrap()["event"], "stop");
    assert_eq!(log.last().unwrap()["sequenceNumber"], "535");
    assert_eq!(
        report.status_callbacks,
        [("stream-started".to_owned(), Some(200)), ("stream-stopped".to_owned(), Some(200))]
    );
}

#[tokio::test(start_paused = true)]
async fn every_request_is_signed_with_the_public_url() {
    let (server, _) = echo_server();
    place(short(server.start())).await;
    let seen = server.seen.lock().unwrap();
    for request in seen.iter() {
        let upgrade = request.headers.contains_key("sec-websocket-key");
        let scheme = if upgrade { "wss" } else { "https" };
        let url = format!("{scheme}://demo.example{}", request.target);
        let expected = sim::sign(&url, &request.params, TOKEN);
        assert_eq!(request.headers["x-twilio-signature"], expected, "{url}");
        assert_eq!(request.headers["host"], "demo.example");
        assert!(!request.headers.contains_key("origin"));
        assert!(!request.headers.contains_key("sec-websocket-protocol"));
        assert!(!request.headers.contains_key("sec-websocket-extensions"));
    }
    let webhook = &seen[0];
    assert_eq!(webhook.method, "POST");
    for (name, value) in [("CallStatus", "ringing"), ("Direction", "inbound")] {
        assert!(webhook.params.contains(&(name.into(), value.into())));
    }
}

async fn marks_clear_and_close(mut socket: Socket) {
    let sid = stream_sid(&mut socket).await;
    let second = "/".repeat(10668); // 8001 bytes
    for name in ["a", "b"] {
        send(&mut socket, media(&sid, &second)).await;
        let mark = json!({"event": "mark", "streamSid": sid, "mark": {"name": name}});
        send(&mut socket, mark).await;
    }
    while let Some(message) = next(&mut socket).await {
        if message["mark"]["name"] == "a" {
            let clear = json!({"event": "clear", "streamSid": sid});
            send(&mut socket, clear).await;
        }
        if message["mark"]["name"] == "b" {
            return close(&mut socket, 1000).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn marks_come_back_and_the_action_follows_the_servers_close() {
    let report = place(StandIn::new(marks_clear_and_close).start()).await;
    let stream = &report.streams[0];
    assert_eq!(stream.marks, ["a", "b"]);
    let playout = &stream.playout;
    assert_eq!((playout.marks_played, playout.marks_cleared), (1, 1));
    assert!(playout.cleared > 7900, "{report}");
    assert_eq!(stream.ended, Ended::ServerClosed);
    assert_eq!(stream.close_code, Some(1000));
    assert_eq!(report.said, ["Good bye."]);
    assert_eq!(report.actions[0].verbs, ["Say", "Hangup"]);
}

#[tokio::test(start_paused = true)]
async fn normal_close_is_logged_or_not() {
    let server = StandIn::new(marks_clear_and_close);
    let logged = place(server.start()).await;
    assert_eq!(codes(&logged), [Code::StreamClosedByServer]);
    assert_eq!(logged.level(), Some(Level::Notice));
    let quirks = Quirks { logs_normal_close: false, ..Quirks::default() };
    let silent = place(with(server.start(), quirks)).await;
    assert_eq!(codes(&silent), []);
}

#[tokio::test(start_paused = true)]
async fn other_close_codes_are_errors() {
    let server = StandIn::new(|mut socket| async move { close(&mut socket, 1008).await });
    let report = place(server.start()).await;
    assert_eq!(codes(&report), [Code::StreamClosedByServer]);
    assert!(!report.is_ok());
}

#[tokio::test(start_paused = true)]
async fn action_after_a_lost_socket_is_asked_or_not() {
    let server = StandIn::new(|mut socket| async move {
        stream_sid(&mut socket).await;
    });
    for action_after_loss in [true, false] {
        let quirks = Quirks { action_after_loss, ..Quirks::default() };
        let report = place(with(server.start(), quirks)).await;
        assert_eq!(report.streams[0].ended, Ended::Lost);
        assert_eq!(codes(&report), [Code::StreamBrokenPipe]);
        assert_eq!(report.actions.len(), usize::from(action_after_loss));
        assert_eq!(report.status_callbacks[1].0, "stream-error");
    }
}

#[tokio::test(start_paused = true)]
async fn action_after_a_hangup_is_asked_or_not() {
    for action_after_hangup in [false, true] {
        let quirks = Quirks { action_after_hangup, ..Quirks::default() };
        let report = place(short(with(echo_server().0.start(), quirks))).await;
        assert_eq!(report.actions.len(), usize::from(action_after_hangup));
    }
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_or_not() {
    for answers_pings in [true, false] {
        let pongs = Arc::new(Mutex::new((0, 0)));
        let counted = Arc::clone(&pongs);
        let server = StandIn::new(move |mut socket: Socket| {
            let counted = Arc::clone(&counted);
            async move {
                socket.send(Message::Ping("p".into())).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    let mut counted = counted.lock().unwrap();
                    match message {
                        Message::Pong(_) => counted.0 += 1,
                        _ => counted.1 += 1,
                    }
                }
            }
        });
        let quirks = Quirks { answers_pings, ..Quirks::default() };
        place(short(with(server.start(), quirks))).await;
        let (pongs, others) = *pongs.lock().unwrap();
        assert_eq!(pongs, usize::from(answers_pings));
        // connected, start, 50 frames, stop, close
        assert_eq!(others, 54);
    }
}

#[tokio::test(start_paused = true)]
async fn refused_handshakes_have_twilios_codes() {
    for (handshake, code) in [(403, Code::StreamHandshake), (0, Code::StreamConnectTimeout)] {
        let server = StandIn { handshake, ..echo_server().0 };
        let started = tokio::time::Instant::now();
        let report = place(server.start()).await;
        assert_eq!(codes(&report), [code]);
        assert!(!report.is_ok());
        assert_eq!(report.status_callbacks[0].0, "stream-error");
        assert_eq!(report.actions.len(), 1);
        let waited = started.elapsed() >= Quirks::default().handshake_timeout;
        assert_eq!(waited, handshake == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn handshake_timeout_is_a_quirk() {
    let server = StandIn { handshake: 0, ..echo_server().0 };
    let quirks = Quirks { handshake_timeout: Duration::from_secs(1), ..Quirks::default() };
    let started = tokio::time::Instant::now();
    place(with(server.start(), quirks)).await;
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn largest_message_is_a_quirk() {
    let server = StandIn::new(|mut socket| async move {
        let sid = stream_sid(&mut socket).await;
        send(&mut socket, media(&sid, &"/".repeat(40_000))).await;
        while next(&mut socket).await.is_some() {}
    });
    let default = place(short(server.start())).await;
    assert_eq!(codes(&default), []);
    let quirks = Quirks { max_message_bytes: 32 * 1024, ..Quirks::default() };
    let small = place(short(with(server.start(), quirks))).await;
    assert_eq!(codes(&small), [Code::StreamProtocol]);
}

#[tokio::test(start_paused = true)]
async fn chunk_is_counted_per_track_or_over_the_stream() {
    for chunk_over_stream in [false, true] {
        let (server, log) = echo_server();
        let quirks = Quirks { chunk_over_stream, ..Quirks::default() };
        place(short(with(server.start(), quirks))).await;
        let log = log.lock().unwrap();
        let media = events(&log, "media");
        let last = media.last().unwrap()["media"]["chunk"].as_str().unwrap();
        // Each echoed frame counts as well, but for the last.
        let expected = if chunk_over_stream { "99" } else { "50" };
        assert_eq!((media.len(), last), (50, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn upgrade_may_be_signed_with_a_trailing_slash() {
    for sign_trailing_slash in [false, true] {
        let (server, _) = echo_server();
        let quirks = Quirks { sign_trailing_slash, ..Quirks::default() };
        place(short(with(server.start(), quirks))).await;
        let slash = if sign_trailing_slash { "/" } else { "" };
        let signed = sim::sign(&format!("wss://demo.example/media{slash}"), &[], TOKEN);
        let upgrade = &server.seen("/media")[0];
        assert_eq!(upgrade.headers["x-twilio-signature"], signed);
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_are_strings_or_numbers() {
    for numbers_as_strings in [true, false] {
        let (server, log) = echo_server();
        let quirks = Quirks { numbers_as_strings, ..Quirks::default() };
        place(short(with(server.start(), quirks))).await;
        let log = log.lock().unwrap();
        let second = events(&log, "media")[1];
        for number in [&second["sequenceNumber"], &second["media"]["chunk"], &second["media"]["timestamp"]] {
            assert_eq!(number.is_string(), numbers_as_strings);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_events_and_fields_are_mixed_in_or_not() {
    for extras in [false, true] {
        let (server, log) = echo_server();
        let quirks = Quirks { extras, ..Quirks::default() };
        place(short(with(server.start(), quirks))).await;
        let log = log.lock().unwrap();
        assert_eq!(events(&log, "weather").is_empty(), !extras);
        assert_eq!(events(&log, "media")[0].get("region").is_some(), extras);
    }
}

#[tokio::test(start_paused = true)]
async fn call_ends_with_stop_or_vanishes() {
    for sends_stop in [true, false] {
        let (server, log) = echo_server();
        let quirks = Quirks { sends_stop, ..Quirks::default() };
        place(short(with(server.start(), quirks))).await;
        tokio::task::yield_now().await;
        let log = log.lock().unwrap();
        assert_eq!(events(&log, "stop").len(), usize::from(sends_stop));
    }
}

#[tokio::test(start_paused = true)]
async fn what_twilio_warns_about_is_found_once_and_the_call_goes_on() {
    let server = StandIn::new(|mut socket| async move {
        let sid = stream_sid(&mut socket).await;
        for _ in 0..3 {
            socket.send(Message::binary(vec![1])).await.unwrap();
            socket.send(Message::text("nonsense")).await.unwrap();
            send(&mut socket, json!({"event": "hello", "streamSid": sid})).await;
        }
        let ten_minutes = "/".repeat(960_000); // 90 s each
        for _ in 0..8 {
            send(&mut socket, media(&sid, &ten_minutes)).await;
        }
        while next(&mut socket).await.is_some() {}
    });
    let report = place(short(server.start())).await;
    assert_eq!(codes(&report), [Code::StreamUndecodable, Code::StreamNoncompliant, Code::StreamBufferFull]);
    assert_eq!(report.level(), Some(Level::Warning));
    assert!(report.is_ok());
    assert_eq!(report.streams[0].frames_sent, 50);
}

#[tokio::test(start_paused = true)]
async fn protocol_violations_end_the_stream() {
    // A text frame with a reserved bit (as compression sets it); a ping without FIN.
    for frame in [&[0xc1, 1, b'x'][..], &[0x09, 0]] {
        let server = StandIn::new(move |mut socket: Socket| async move {
            stream_sid(&mut socket).await;
            socket.get_mut().write_all(frame).await.unwrap();
            while next(&mut socket).await.is_some() {}
        });
        let report = place(server.start()).await;
        assert_eq!(codes(&report), [Code::StreamProtocol]);
        assert_eq!(report.streams[0].ended, Ended::Violation);
    }
}

#[tokio::test(start_paused = true)]
async fn server_that_does_not_read_loses_caller_audio() {
    let server = StandIn::new(|socket| async move {
        std::future::pending::<()>().await;
        drop(socket);
    });
    let plan = CallPlan { hangup_after: Some(Duration::from_secs(15)), ..server.start() };
    let report = place(plan).await;
    assert_eq!(codes(&report), [Code::StreamNotDrained]);
    assert!(report.streams[0].frames_dropped > 100, "{report}");
}

#[tokio::test(start_paused = true)]
async fn digits_and_silence_suppression_come_through() {
    let (server, log) = echo_server();
    let mut plan = short(server.start());
    plan.digits = vec![(Duration::from_millis(500), '5'), (Duration::from_millis(100), '#')];
    plan.frames = FramePlan { sizes: vec![240], suppress_silence: true };
    plan.speech = [vec![0; 4000], vec![5000; 1000]].concat().into();
    place(plan).await;
    let log = log.lock().unwrap();
    let digits: Vec<&Value> = events(&log, "dtmf");
    assert_eq!(digits[0]["dtmf"], json!({"track": "inbound_track", "digit": "#"}));
    assert_eq!(digits[1]["dtmf"]["digit"], "5");
    let media = events(&log, "media");
    // Speech from 500 to 625 ms lies in the frames from 480 to 630 ms.
    assert_eq!(media.len(), 5);
    assert_eq!(media[0]["media"]["timestamp"], "480");
}

#[tokio::test(start_paused = true)]
async fn webhook_failures_have_twilios_codes() {
    let cases = [
        (500, CONNECT, Code::HttpRetrievalFailure),
        (200, "busy", Code::DocumentParseFailure),
        (200, "<Response><Sing/></Response>", Code::SchemaValidation),
    ];
    for (status, body, code) in cases {
        let server = echo_server().0.page("/voice/incoming", status, body);
        let report = place(server.start()).await;
        assert_eq!(codes(&report), [code]);
        assert!(!report.is_ok() && report.streams.is_empty());
    }
    let nobody = {
        let (route, _) = tokio::sync::mpsc::channel(1);
        CallPlan { route: sim::Route::InProcess(route), ..echo_server().0.start() }
    };
    assert_eq!(codes(&place(nobody).await), [Code::HttpConnectionFailure]);
}

#[tokio::test(start_paused = true)]
async fn busy_and_transfer_are_reported() {
    let busy = "<Response><Reject reason='busy'/></Response>";
    let report = place(echo_server().0.page("/voice/incoming", 200, busy).start()).await;
    assert_eq!(report.rejected.as_deref(), Some("busy"));
    let transfer = "<Response><Dial>+15550123</Dial></Response>";
    let server = StandIn::new(|mut socket| async move { close(&mut socket, 1000).await });
    let report = place(server.page("/voice/ended", 200, transfer).start()).await;
    assert_eq!(report.dialled, ["+15550123"]);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_always_connects_again_is_left_after_three_streams() {
    let server = StandIn::new(|mut socket| async move { close(&mut socket, 1000).await });
    let report = place(server.page("/voice/ended", 200, CONNECT).start()).await;
    assert_eq!(report.streams.len(), 3);
    assert!(!report.is_ok());
}

#[tokio::test(start_paused = true)]
async fn lower_level_pieces_send_what_twilio_never_would() {
    let (server, log) = echo_server();
    let plan = server.start();
    let reply = sim::webhook(&plan, "CA1").await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, CONNECT));
    let url = "wss://demo.example/media";
    let mut socket = sim::MediaSocket::connect(&plan.route, url, TOKEN, &plan.quirks).await.unwrap();
    let event = json!({"event": "media", "streamSid": "MZ1", "media": {"payload": "AA=="}});
    socket.send_json(&event).await.unwrap();
    let back = socket.next(Duration::from_secs(1)).await;
    assert!(matches!(back, sim::Incoming::Text(_)), "{back:?}");
    let nothing = socket.next(Duration::from_secs(1)).await;
    assert_eq!(nothing, sim::Incoming::Silence);
    // Not masked, which ends the connection.
    socket.send_raw(&[0x81, 1, b'x']).await.unwrap();
    let end = socket.next(Duration::from_secs(1)).await;
    assert!(!matches!(end, sim::Incoming::Text(_)), "{end:?}");
    assert_eq!(log.lock().unwrap().len(), 1);
}
