//! Bad lines, before the gateway and behind it: what arrives is in order, queues keep their bounds, and the call either
//! recovers or ends with the right reason.
//!
//! A Media Streams call needs about 170 kbit/s each way: 20 ms are 160 bytes, in base64 and JSON some 420.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]
#![expect(clippy::disallowed_methods, reason = "what a bad line costs is time")]

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use audio_worker::{
    agent::{Act, Agent, Agents, Heard},
    dsp::SampleRate,
};
use serde_json::Value;
use telemetry::log::Format;
use tests::{
    line::{Line, is_fallback},
    log::Log,
    sim::{CallPlan, Caller, Ended, Incoming, Route, Said, decode_mulaw, judge},
    stack::{Stack, StackPlan},
    throttle::{LanePlan, LinePlan, Stall, Throttle},
};
use tokio::time::{Instant, sleep_until};

/// A third of what a call needs, in bits per second.
const SLOW: u64 = 64_000;

/// Most that waits for Twilio in a session, ms.
const DOWNLINK_MS: u64 = 5000;

/// Most that waits for the worker there, ms.
const UPLINK_MS: u64 = 1000;

#[tokio::test]
async fn delay_and_jitter_are_not_heard() {
    let stack = start(None).await;
    let lane = LanePlan { delay: ms(150), jitter: ms(100), ..LanePlan::default() };
    let line = Throttle::start(stack.gateway_address(), LinePlan::both_ways(&lane));
    let (mut call, plan) = (dial(&line, &stack).await, throttled(&line, &stack));
    // Four seconds of numbered frames, by a caller who also speaks.
    let heard = converse(&mut call, '4', 4).await;
    assert_eq!(numbers(&heard), (0..200).collect::<Vec<_>>());
    call.hang_up().await;
    let ended = ended(call.call_sid()).await;
    assert_eq!((text(&ended, "reason"), number(&ended, "dropped_caller_ms")), ("caller_hangup", 0), "{ended}");
    assert_in_order(&said_of(call.call_sid()));
    // In the ear: nothing is lost. That there is no gap either is up to the machine as well, so it is reported only.
    let digits = vec![(ms(500), '3')];
    let report =
        Caller::new(CallPlan { speech: [].into(), digits, hangup_after: Some(ms(5000)), ..plan }).place().await;
    assert!(report.is_ok(), "{report}");
    let stream = &report.streams[0];
    assert_eq!((stream.ended, stream.playout.played), (Ended::CallerHungUp, 24_000), "{report}");
    stack.stop().await;
}

#[tokio::test]
async fn a_line_that_is_too_slow_for_the_agent_ends_the_call_as_stalled_and_until_then_all_is_in_order() {
    let stack = start(None).await;
    let plan = LinePlan {
        down: LanePlan { bits_per_second: Some(SLOW), ..LanePlan::default() },
        kernel_bytes: Some(8 << 10),
        ..LinePlan::default()
    };
    let line = Throttle::start(stack.gateway_address(), plan);
    let mut call = dial(&line, &stack).await;
    let call_sid = call.call_sid().to_owned();
    let (heard, lasted) = listen_to_the_end(&mut call).await;
    let ended = ended(&call_sid).await;
    assert_eq!(text(&ended, "reason"), "caller_stalled", "{ended}");
    // Kernels hold some ten seconds of sound, the session five.
    assert!((ms(5000)..ms(32_000)).contains(&lasted), "{lasted:?}");
    assert!(number(&ended, "agent_queue_peak_ms") <= DOWNLINK_MS, "{ended}");
    let numbers = numbers(&heard);
    assert!(numbers.len() > 50, "{} frames", numbers.len());
    assert!(numbers.iter().enumerate().all(|(at, number)| at == *number), "{numbers:?}");
    drop((call, line));
    stack.stop().await;
}

#[tokio::test]
async fn a_line_that_is_too_slow_for_the_caller_delays_the_words_and_mixes_none() {
    let stack = start(None).await;
    let plan = LinePlan {
        up: LanePlan { bits_per_second: Some(SLOW), ..LanePlan::default() },
        kernel_bytes: Some(8 << 10),
        ..LinePlan::default()
    };
    let line = Throttle::start(stack.gateway_address(), plan);
    let speech: Vec<i16> = (0..6 * 50).flat_map(|frame| [level(frame / 5); 160]).collect();
    let plan = CallPlan { speech: speech.into(), hangup_after: Some(ms(6000)), ..throttled(&line, &stack) };
    let report = Caller::new(plan).place().await;
    let ended = ended(&report.call_sid).await;
    assert_eq!((text(&ended, "reason"), number(&ended, "caller_frames")), ("caller_hangup", 300), "{ended}");
    assert_eq!((number(&ended, "dropped_caller_ms"), number(&ended, "repeated_chunks")), (0, 0), "{ended}");
    // Six seconds of speech need fifteen, and the log says how late the words were.
    assert!((6000..12_000).contains(&number(&ended, "caller_lag_peak_ms")), "{ended}");
    let said = said_of(&report.call_sid);
    assert_in_order(&said);
    assert!(said.len() >= 298, "{}", said.len());
    stack.stop().await;
}

#[tokio::test]
async fn after_a_stall_of_three_seconds_the_call_goes_on_with_every_word_of_the_agent() {
    let stack = start(None).await;
    let stall = Stall { from: ms(2000), length: Some(ms(3000)) };
    let lane = LanePlan { stalls: vec![stall], ..LanePlan::default() };
    let line = Throttle::start(stack.gateway_address(), LinePlan::both_ways(&lane));
    let mut call = dial(&line, &stack).await;
    let heard = converse(&mut call, '8', 9).await;
    assert_eq!(numbers(&heard), (0..400).collect::<Vec<_>>());
    call.hang_up().await;
    let ended = ended(call.call_sid()).await;
    assert_eq!(text(&ended, "reason"), "caller_hangup", "{ended}");
    assert!(number(&ended, "agent_queue_peak_ms") <= DOWNLINK_MS, "{ended}");
    assert!(number(&ended, "caller_queue_peak_ms") <= UPLINK_MS, "{ended}");
    // The caller's words came three seconds late and in a burst; the worker had room for them.
    assert_eq!(number(&ended, "dropped_caller_ms"), 0, "{ended}");
    assert!((2500..4000).contains(&number(&ended, "caller_lag_peak_ms")), "{ended}");
    assert_in_order(&said_of(call.call_sid()));
    stack.stop().await;
}

#[tokio::test]
async fn a_stall_for_good_ends_the_call_as_stalled() {
    let stack = start(None).await;
    let lane = LanePlan { stalls: vec![Stall { from: ms(2000), length: None }], ..LanePlan::default() };
    let line = Throttle::start(stack.gateway_address(), LinePlan::both_ways(&lane));
    let mut call = dial(&line, &stack).await;
    let call_sid = call.call_sid().to_owned();
    let (heard, lasted) = listen_to_the_end(&mut call).await;
    let ended = ended(&call_sid).await;
    assert_eq!(text(&ended, "reason"), "caller_stalled", "{ended}");
    assert!((ms(4000)..ms(25_000)).contains(&lasted), "{lasted:?}");
    assert!(number(&ended, "agent_queue_peak_ms") <= DOWNLINK_MS, "{ended}");
    let numbers = numbers(&heard);
    assert!(numbers.iter().enumerate().all(|(at, number)| at == *number), "{numbers:?}");
    // What comes after it is asked over a line that works.
    assert!(is_fallback(&tests::line::after(&stack.call_plan(), &call_sid).await));
    stack.stop().await;
}

#[tokio::test]
async fn a_line_that_is_cut_ends_the_call_as_lost() {
    let stack = start(None).await;
    let line = Throttle::start(stack.gateway_address(), LinePlan { cut: Some(ms(1500)), ..LinePlan::default() });
    let mut call = dial(&line, &stack).await;
    let call_sid = call.call_sid().to_owned();
    listen_to_the_end(&mut call).await;
    assert_eq!(text(&ended(&call_sid).await, "reason"), "caller_lost");
    stack.stop().await;
}

#[tokio::test]
async fn a_slow_line_to_the_worker_drops_the_oldest_words_of_the_caller_and_none_of_the_agents() {
    // mu-law in gRPC needs 76 kbit/s; HTTP/2 lets 64 KiB be under way, which a slower line fills sooner.
    let lane = LanePlan { bits_per_second: Some(SLOW / 2), ..LanePlan::default() };
    let stack = start(Some(LinePlan::both_ways(&lane))).await;
    let mut call = Line::dial(&stack.call_plan()).await;
    let heard = converse(&mut call, '4', 20).await;
    let numbers = numbers(&heard);
    assert!(numbers.len() > 100 && numbers.iter().enumerate().all(|(at, number)| at == *number), "{numbers:?}");
    call.hang_up().await;
    let ended = ended(call.call_sid()).await;
    assert_eq!(text(&ended, "reason"), "caller_hangup", "{ended}");
    assert!(number(&ended, "dropped_caller_ms") > 1000, "{ended}");
    assert!(number(&ended, "caller_queue_peak_ms") <= UPLINK_MS + 20, "{ended}");
    assert_in_order(&said_of(call.call_sid()));
    stack.stop().await;
}

async fn start(wire: Option<LinePlan>) -> Stack {
    log();
    let plan = StackPlan::default().agents(Agents::default().with("numbers", |opening| {
        Box::new(Numbers { call_id: opening.call_id.clone(), acts: VecDeque::new(), samples: Vec::new() })
    }));
    let plan = plan.gateway("DEFAULT_AGENT", "numbers");
    Stack::start(match wire {
        Some(line) => plan.with_bad_wire(line),
        None => plan,
    })
    .await
}

fn throttled(line: &Throttle, stack: &Stack) -> CallPlan {
    CallPlan { route: Route::Tcp(line.address()), ..stack.call_plan() }
}

async fn dial(line: &Throttle, stack: &Stack) -> Line {
    Line::dial(&throttled(line, stack)).await
}

/// Asks for so many seconds of numbers, speaks in steps for `seconds`, and listens; what was heard, frame by frame.
async fn converse(line: &mut Line, key: char, seconds: usize) -> Vec<Vec<u8>> {
    line.press(key).await;
    let steps: Vec<u8> = (0..seconds * 50).flat_map(|frame| [step(frame / 5); 160]).collect();
    let heard = line.converse(&steps, &[160], 0).await;
    let more = line.listen_until(|more| heard.mulaw.len() + more.mulaw.len() >= expected(key)).await;
    [heard.mulaw, more.mulaw].concat().chunks(160).map(<[u8]>::to_vec).collect()
}

fn expected(key: char) -> usize {
    key.to_digit(10).unwrap_or_default() as usize * 8000
}

/// Has the agent talk on until the line is gone or the gateway ended the call.
async fn listen_to_the_end(line: &mut Line) -> (Vec<Vec<u8>>, Duration) {
    line.press('C').await;
    let (began, mut frames, mut due) = (Instant::now(), Vec::new(), Instant::now());
    let (call_sid, stream_sid) = (line.call_sid().to_owned(), line.stream_sid().to_owned());
    let mut playout = VecDeque::new();
    while !has_ended(&call_sid) {
        assert!(began.elapsed() < ms(40_000), "the call goes on");
        due += ms(20);
        line.speak(&[0xff; 160]).await;
        while let Some(wait) = due.checked_duration_since(Instant::now()) {
            match line.socket.next(wait).await {
                Incoming::Text(message) => match judge(&message, &stream_sid).unwrap() {
                    Said::Media(mulaw) => frames.push(mulaw),
                    Said::Mark(name) => playout.push_back(name),
                    Said::Clear => panic!("nobody interrupts"),
                },
                Incoming::Silence => break,
                Incoming::Binary(_)
                | Incoming::Ping
                | Incoming::Pong
                | Incoming::Closed(_)
                | Incoming::Lost(_)
                | Incoming::Violation(_) => {
                    sleep_until(due).await;
                    break;
                }
            }
        }
        // Marks come back as fast as they come: it is the line that is slow, not the caller's ear.
        while let Some(name) = playout.pop_front() {
            let mark = line.writer.mark(&name);
            line.say(mark).await;
        }
    }
    (frames, began.elapsed())
}

/// mu-law that says a number: digits to the base 100, all above the code 0x80, which every codec keeps.
fn numbered(number: usize) -> [u8; 160] {
    let digit = |digit: usize| 0x80 + u8::try_from(digit % 100).unwrap();
    let mut frame = [digit(number); 160];
    frame[0] = digit(number / 100);
    frame
}

/// The numbers of what was heard. Panics when a frame is none that the agent said.
fn numbers(heard: &[Vec<u8>]) -> Vec<usize> {
    let number = |frame: &Vec<u8>| {
        let number = usize::from(frame[0] - 0x80) * 100 + usize::from(frame[1] - 0x80);
        assert_eq!(frame[..], numbered(number), "not what the agent said");
        number
    };
    heard.iter().map(number).collect()
}

/// The caller's speech is a stair: 100 ms at each level, ever louder. Level, and its mu-law code.
fn level(at: usize) -> i16 {
    decode_mulaw(&[step(at)])[0]
}

fn step(at: usize) -> u8 {
    // 0xf0 is quiet, 0x80 the loudest.
    0xf0 - u8::try_from(at.min(0x6f)).unwrap()
}

/// Panics when what the agent heard goes down a step: the caller never does.
fn assert_in_order(said: &[i16]) {
    assert!(said.len() > 20, "{said:?}");
    // Filters ring at each step, by a few per cent of it.
    let falls = said.windows(2).position(|pair| i32::from(pair[1]) < i32::from(pair[0]) * 9 / 10 - 30);
    assert_eq!(falls, None, "{said:?}");
}

/// An agent that says numbers and notes the level of what it hears, once a frame.
struct Numbers {
    call_id: String,
    acts: VecDeque<(Act, Vec<i16>)>,
    samples: Vec<i16>,
}

/// What agents heard: call and level.
static HEARD: Mutex<Vec<(String, i16)>> = Mutex::new(Vec::new());

fn said_of(call_sid: &str) -> Vec<i16> {
    let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    heard.iter().filter(|(call, _)| call == call_sid).map(|(_, level)| *level).collect()
}

impl Agent for Numbers {
    fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Audio(pcm) => {
                self.samples.extend_from_slice(pcm);
                while self.samples.len() >= 320 {
                    let sum: i32 = self.samples.drain(..320).map(i32::from).sum();
                    let level = i16::try_from(sum / 320).unwrap();
                    HEARD.lock().unwrap_or_else(PoisonError::into_inner).push((self.call_id.clone(), level));
                }
            }
            Heard::Dtmf(key) => {
                let seconds = key.to_digit(10).map_or(59, |seconds| seconds as usize);
                let mulaw: Vec<u8> = (0..seconds * 50).flat_map(numbered).collect();
                self.acts.push_back((Act::Speak(SampleRate::Hz8000), decode_mulaw(&mulaw)));
                self.acts.push_back((Act::EndUtterance, Vec::new()));
            }
            Heard::Mulaw(_) | Heard::Gap(_) | Heard::Played { .. } | Heard::Notice(..) | Heard::Held(_) => {}
        }
    }

    fn poll_act(&mut self, _: &mut Context<'_>, pcm: &mut Vec<i16>) -> Poll<Act> {
        let Some((act, mut samples)) = self.acts.pop_front() else { return Poll::Pending };
        pcm.append(&mut samples);
        Poll::Ready(act)
    }
}

/// The gateway's last word on a call.
async fn ended(call_sid: &str) -> Value {
    serde_json::from_str(&log().wait_for(&[r#""message":"call ended""#, call_sid]).await).unwrap()
}

fn has_ended(call_sid: &str) -> bool {
    log().find(&[r#""message":"call ended""#, call_sid]).is_some()
}

fn text<'a>(fields: &'a Value, name: &str) -> &'a str {
    fields[name].as_str().unwrap()
}

fn number(fields: &Value, name: &str) -> u64 {
    fields[name].as_u64().unwrap_or_else(|| panic!("no {name}: {fields}"))
}

/// What the gateways of all tests logged.
fn log() -> &'static Log {
    Log::of_process(Format::Json, "gateway=info")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
