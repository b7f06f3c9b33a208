//! Whole calls with the log wide open: no number, no ticket, no token and no sound of anybody's is in any line.
//!
//! Everything logs at `trace`, what is linked as well. (tungstenite prints whole messages at that level, but through the
//! `log` crate, to which the subscriber does not listen: `tracing-subscriber` has no feature `tracing-log` here.)

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::v1::{
    Close, ConverseRequest, Instruct, Open, PlayDigits, Say, converse_request::Message, instruct::Instruction,
};
use tests::{
    line::{Invitation, Line, signed},
    scripted::{Notes, TRANSFER_TO},
    sim::{CallPlan, Caller, encode_mulaw},
    stack::{AUTH_TOKEN, Stack, StackPlan, eventually},
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, prelude::*};

const FROM: &str = "+15550147";
const TO: &str = "+15550148";
const TICKET_SECRET: &str = "the-secret-of-the-tickets";
const FALLBACK: &str = "+15550149";
const PIN: &str = "8675309";
const WORDS: &str = "your balance is forty-two";
const FILTER: &str = "trace,tests=off";

#[tokio::test]
async fn no_line_of_the_log_tells_who_called_or_what_was_said() {
    let log = Log::default();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.clone());
    tracing_subscriber::registry().with(EnvFilter::new(FILTER)).with(layer).try_init().unwrap();

    let notes = Notes::default();
    let plan = StackPlan::default()
        .agents(notes.agents())
        .gateway("DEFAULT_AGENT", "scripted")
        .gateway("TICKET_KEY", TICKET_SECRET)
        .gateway("FALLBACK_DIAL", FALLBACK);
    let mut stack = Stack::start(plan.with_wire()).await;
    let plan = CallPlan { from: FROM.into(), to: TO.into(), ..stack.call_plan() };

    // A call that is put through, and one that hangs up after an interrupt.
    for keys in [vec![(200, '1'), (250, '0')], vec![(200, '2'), (700, '*'), (900, '#')]] {
        let digits = keys.into_iter().map(|(ms, key)| (Duration::from_millis(ms), key)).collect();
        let report = Caller::new(CallPlan { digits, ..plan.clone() }).place().await;
        assert!(report.is_ok(), "{report}");
    }
    order(&stack).await;
    // What goes wrong is told, without a word too many: a bad signature, a bad ticket, nonsense, a lost worker.
    let forged = CallPlan { auth_token: "another".into(), ..plan.clone() };
    assert_eq!(signed(&forged, "/voice/incoming", forged.parameters("CA1", "ringing")).await.status, 403);
    let invitation = Invitation::ask(&plan).await;
    let ticket = invitation.ticket().to_owned();
    let mut line = Line::open(&plan, invitation).await;
    let sound = encode_mulaw(&tests::sim::bundled_speech()[8000..8160]);
    line.start().await;
    line.speak(&sound).await;
    line.say(r#"{"event":"media","media":{"payload":"c2VjcmV0IHNvdW5k%"}}"#).await;
    line.press('A').await;
    assert_eq!(line.close_code().await, Some(1011));
    line.after().await;
    let mut reused = Line::open(&plan, Invitation::ask(&plan).await).await;
    reused.start_with(&[("ticket".into(), ticket.clone()), ("from".into(), FROM.into())]).await;
    assert_eq!(reused.close_code().await, Some(1008));
    let mut lost = Line::dial(&plan).await;
    lost.press('1').await;
    lost.listen_until(|heard| heard.mulaw.len() > 800).await;
    stack.cut_wire().await;
    assert_eq!(lost.close_code().await, Some(1011));
    lost.after().await;
    eventually("all is over", async || stack.live_calls().await == 0).await;
    stack.stop().await;

    let lines = log.text();
    // The log is really on, down to the finest level, and names calls by their ids.
    for expected in ["call ended", "conversation ended", lost.call_sid(), "DEBUG", "TRACE"] {
        assert!(lines.contains(expected), "{expected}");
    }
    let payload = BASE64_STANDARD.encode(&sound);
    let digits = |number: &'static str| &number[1..];
    let secrets = [
        digits(FROM),
        digits(TO),
        digits(TRANSFER_TO),
        digits(FALLBACK),
        AUTH_TOKEN,
        TICKET_SECRET,
        PIN,
        WORDS,
        &ticket,
        &ticket[20..60],
        &payload[..40],
        "c2VjcmV0IHNvdW5k",
    ];
    for secret in secrets {
        let leak = lines.lines().find(|line| line.contains(secret));
        assert_eq!(leak, None, "a secret of {} characters is in the log", secret.len());
    }
}

/// A conversation of the worker's with orders, good and bad, until it has ended.
async fn order(stack: &Stack) {
    let order = |instruction| Message::Instruct(Instruct { id: 1, instruction: Some(instruction) });
    let digits = |digits: String| order(Instruction::PlayDigits(PlayDigits { digits }));
    let say = |text: String| order(Instruction::Say(Say { text }));
    let open = Open { from: FROM.into(), to: TO.into(), agent: "scripted".into(), ..Open::default() };
    let messages = [
        Message::Open(Box::new(open)),
        digits(PIN.into()),
        digits(format!("{PIN}?")),
        say(WORDS.into()),
        say(format!("{WORDS}\n")),
        Message::Close(Close::default()),
    ];
    let requests = messages.map(|message| ConverseRequest { message: Some(message) });
    let mut answers = stack.voice().await.converse(tokio_stream::iter(requests)).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
}

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
