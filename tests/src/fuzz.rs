//! What the fuzzers run, as ordinary functions: compiled with every build, replayed on the committed corpus by
//! `tests/tests/fuzz_corpus.rs`, and driven by the targets in `tests/fuzz`. A broken promise panics.

use std::time::{Duration, Instant};

use audio_worker::{
    dsp::SampleRate,
    pipeline::{Downlink, HEARING_RATE, Uplink},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use gateway::{
    session::{Command, FromWorker, Input, Instruction, NoWorker, Order, Session, ToWorker},
    ticket,
    twilio::{
        message::{Event, Inbound, MAX_PAYLOAD_BYTES, Malformed, Mark, Media, Outbound, Start},
        signature::{self, Body},
    },
};
use telemetry::Sensitive;

use crate::sim::{Said, judge};

/// Any text as a message from Twilio, and what it says as a message back.
pub fn twilio_message(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(Inbound { event, .. }) = Inbound::parse(text) else { return };
    match event {
        Event::Media(media) => {
            assert!((1..=MAX_PAYLOAD_BYTES + 2).contains(&media.mulaw.len()));
            let mulaw = media.mulaw.to_vec();
            // Nothing is lost on the way back, and Twilio would take it.
            assert_eq!(judge(&Outbound::Media(media.mulaw).write("MZ1"), "MZ1"), Ok(Said::Media(mulaw)));
        }
        Event::Start(start) => {
            for sid in [&start.call_sid, &start.stream_sid] {
                assert!((1..=64).contains(&sid.len()) && sid.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            }
            let clear = Outbound::Clear.write(&start.stream_sid);
            assert_eq!(judge(&clear, &start.stream_sid), Ok(Said::Clear));
            assert!(!format!("{start:?}").contains("parameters"));
        }
        Event::Dtmf(key) => assert!("0123456789*#ABCD".contains(key)),
        Event::Mark(name) => {
            if let Some(mark) = Mark::parse(&name) {
                assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
                assert_eq!(judge(&Outbound::Mark(mark).write("MZ1"), "MZ1"), Ok(Said::Mark(mark.to_string())));
            }
        }
        Event::Connected | Event::Stop | Event::Unknown => {}
    }
}

/// Operations on a call's core, four bytes each: pause (two), kind, number. The promises are those of the core's own
/// tests.
pub fn session_ops(bytes: &[u8]) {
    let (start, mut at) = (now(), Duration::ZERO);
    let mut session = Session::new(start, Duration::from_secs(3600));
    let mut seen = Seen::default();
    for step in bytes.chunks_exact(4) {
        let &[high, low, kind, n] = step else { return };
        at += Duration::from_millis(u64::from(u16::from_be_bytes([high, low])));
        let input = input(kind, u64::from(n));
        seen.has_worker |= seen.opened == 1 && matches!(input, Input::WorkerOpen);
        // Before a worker is there, nobody can interrupt.
        if let Input::Worker(FromWorker::Interrupt(utterance)) = &input
            && seen.has_worker
        {
            seen.killed = seen.killed.max(*utterance);
        }
        let was_over = seen.finished > 0;
        session.handle(input, start + at);
        // A socket or a worker that takes nothing is played by not polling.
        seen.check(&mut session, was_over, (kind & 0x80 == 0, kind & 0x40 == 0));
        match session.poll_timeout() {
            Some(deadline) => assert!(deadline > start + at && seen.finished == 0),
            None => assert_eq!(seen.finished, 1),
        }
    }
}

/// What came out of a session so far.
#[derive(Default)]
struct Seen {
    finished: u32,
    opened: u32,
    has_worker: bool,
    farewells: u32,
    killed: u64,
    seq: u64,
}

impl Seen {
    fn check(&mut self, session: &mut Session, was_over: bool, (caller_takes, worker_takes): (bool, bool)) {
        while let Some(command) = session.poll_command() {
            assert!(!was_over, "nothing after the end");
            assert_eq!(self.finished, 0, "Finished is the last");
            self.finished += u32::from(matches!(command, Command::Finished(_)));
            self.opened += u32::from(matches!(command, Command::OpenWorker(_)));
        }
        assert!(self.opened <= 1);
        let mut queued = 0;
        while caller_takes && let Some((stream_sid, message, _)) = session.poll_caller() {
            assert!(!was_over && stream_sid == "MZ1");
            match message {
                Outbound::Media(mulaw) => queued += mulaw.len(),
                Outbound::Mark(mark) => assert!(mark.utterance > self.killed, "a mark of a dead utterance"),
                Outbound::Clear => {}
            }
        }
        assert!(queued <= 5 * 8000, "{queued} samples for the caller");
        let mut queued = 0;
        while worker_takes && let Some(message) = session.poll_worker() {
            assert_eq!((self.opened, self.farewells), (1, 0), "between a worker's begin and its farewell");
            match message {
                ToWorker::Audio { seq, mulaw, .. } => {
                    assert!(seq > self.seq);
                    self.seq = seq;
                    queued += mulaw.len();
                }
                ToWorker::Close(_) => self.farewells += 1,
                ToWorker::Dtmf(_) | ToWorker::Played { .. } | ToWorker::Instruct(..) | ToWorker::Notice(..) => {}
            }
        }
        assert!(queued <= 8000, "{queued} samples for the worker");
    }
}

fn input(kind: u8, n: u64) -> Input {
    let ours = |event| Input::Caller(Inbound { stream_sid: Some("MZ1".into()), event });
    match kind & 0x1f {
        0 => ours(Event::Start(Start {
            call_sid: "CA1".into(),
            stream_sid: "MZ1".into(),
            is_mulaw_8000: n != 9,
            parameters: [].into(),
        })),
        1 => Input::Authorized(if n == 9 { Err(ticket::Refused::Forged) } else { Ok(()) }),
        2 => Input::WorkerOpen,
        3 => Input::WorkerGone,
        4 => Input::NoWorker(NoWorker::Full),
        5..=8 => ours(Event::Media(Media {
            is_inbound: n % 16 != 15,
            chunk: (kind & 0x1f != 7).then_some(n * 3),
            timestamp_ms: (kind & 0x1f != 8).then_some(if n == 200 { u64::MAX } else { n * 50 }),
            mulaw: vec![0xff; 1 + n as usize * 31].into(),
        })),
        9..=13 => Input::Worker(FromWorker::Audio {
            utterance: n % 8,
            mulaw: Bytes::from(vec![0xff; n as usize * 31 * usize::from(kind & 3)]),
        }),
        14 => Input::Worker(FromWorker::UtteranceEnd(n % 8)),
        15 => Input::Worker(FromWorker::Interrupt(n % 8)),
        16 => Input::Worker(FromWorker::Hangup { after_playback: n > 1 }),
        17 => Input::Worker(FromWorker::Transfer { to: "+15550111".into(), after_playback: n > 1 }),
        18 | 19 => ours(Event::Mark(format!("u{}:{}", n % 8, n / 8 * 200))),
        20 => ours(Event::Dtmf('1')),
        21 => ours(Event::Stop),
        22 => ours(Event::Unknown),
        23 => Input::CallerAlive,
        24 => Input::CallerGone,
        25 => Input::CallerBroken,
        26 if n.is_multiple_of(2) => Input::CallerBinary,
        26 => Input::Order(match n % 5 {
            0 => Order::Hangup,
            1 => Order::Transfer("+15550111".into()),
            2 => Order::CarrierSay("hello".into()),
            3 => Order::Notice("answered_by", "human".into()),
            _ => Order::Instruct(u64::from(kind), Instruction::Hold),
        }),
        27 => Input::CallerMalformed(Malformed::Json),
        28 => Input::WriteBlocked,
        29 => Input::WriteDone,
        30 if n == 0 => Input::Drain,
        _ => Input::Tick,
    }
}

/// Pieces of audio through both ways of sound: the first byte chooses the agent's rate; then, for each piece, its length
/// and its samples.
pub fn pipeline(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let rate = SampleRate::ALL[usize::from(first) % SampleRate::ALL.len()];
    let mut uplink = Uplink::new().expect("a fixed ratio");
    let mut downlink = Downlink::default();
    let (mut said, mut heard, mut codes) = (0, 0, Vec::new());
    while let Some((&length, tail)) = rest.split_first() {
        let (piece, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        said += piece.len();
        let wide = uplink.push(piece, u64::from(length) * 7).expect("any bytes are mu-law").pcm;
        heard += wide.len();
        let echoed = wide.to_vec();
        downlink.push(&echoed, HEARING_RATE, &mut codes).expect("any samples can be resampled");
        let samples: Vec<i16> =
            piece.chunks(2).map(|pair| i16::from_le_bytes([pair[0], *pair.last().unwrap_or(&0)])).collect();
        if length % 5 == 0 {
            codes.clear();
            downlink.reset();
            downlink.push(&samples, rate, &mut codes).expect("any samples can be resampled");
            downlink.finish(&mut codes).expect("the tail can be had");
            let exact = samples.len() * 8000 / rate.hz();
            assert!(
                (exact..=exact + 320).contains(&codes.len()) && (!samples.is_empty() || codes.is_empty()),
                "{} codes of {exact}",
                codes.len()
            );
            codes.clear();
        }
        assert!(codes.len() <= said, "more came out than went in");
    }
    // A block may still be waiting for its rest, and the filter has its delay.
    assert!(heard <= 2 * said && heard + 2 * 320 >= 2 * said, "{heard} samples of {said}");
}

/// A token, a URL, a signature and a body, split by newlines: whatever they are, only what was signed is believed.
pub fn signature(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n').map(|part| String::from_utf8_lossy(part).into_owned());
    let mut next = || parts.next().unwrap_or_default();
    let (token, url, given, body) = (Sensitive::new(next()), next(), next(), next());
    let tokens = [token.clone()];
    let fields: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let good = signature::sign(&token, &url, &fields);
    assert!(signature::is_valid(&tokens, &url, Body::Form(&fields), &good));
    if signature::is_valid(&tokens, &url, Body::Form(&fields), &given) {
        // Another form of the same URL may have been signed; the bytes of the MAC are whole in any case.
        assert_eq!(BASE64_STANDARD.decode(&given).map(|mac| mac.len()), Ok(20));
    }
    assert!(!signature::is_valid(&[], &url, Body::Form(&fields), &good));
    let others = [Sensitive::new(format!("{}x", token.expose()))];
    assert!(!signature::is_valid(&others, &url, Body::Form(&fields), &good));
    let mut changed = fields.clone();
    changed.push(("Digits".into(), body.clone() + "1"));
    assert!(!signature::is_valid(&tokens, &url, Body::Form(&changed), &good));
    let _ = signature::is_valid(&tokens, &url, Body::Raw(body.as_bytes()), &given);
    let _ = signature::is_valid(&tokens, &url, Body::Empty, &given);
}

#[expect(clippy::disallowed_methods, reason = "the core wants a moment to begin with; it never matters which")]
fn now() -> Instant {
    Instant::now()
}
