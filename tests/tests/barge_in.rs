//! The agent is interrupted, hangs up, hands the call on: the caller hears exactly what was meant to be heard.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::time::Duration;

use tests::{
    scripted::{AMPLITUDE, Notes, TRANSFER_TO, Told, frequency},
    signal::{tone_onset, tone_share},
    sim::{CallPlan, CallReport, Caller, Ended, decode_mulaw},
    stack::{Stack, StackPlan, eventually},
};

/// What the worker keeps ahead of real time, and a frame.
const LEAD_MS: u64 = 220;

#[tokio::test]
async fn an_interrupt_silences_the_agent_at_once_and_tells_it_what_was_heard() {
    let (stack, notes) = start().await;
    // Five seconds of talk, cut after two; then something new.
    let report = call(&stack, &[(500, '5'), (2500, '*'), (3000, '1')], 5000).await;
    let stream = &report.streams[0];
    assert_eq!(stream.ended, Ended::CallerHungUp, "{report}");
    assert_eq!(stream.playout.clears, 1, "{report}");
    assert!(stream.playout.cleared > 0 && stream.playout.cleared <= LEAD_MS * 8, "{report}");
    assert!(stream.playout.marks_cleared > 0, "{report}");
    let heard = decode_mulaw(&stream.heard);
    let onset = tone_onset(&heard, frequency(5), AMPLITUDE).unwrap();
    let ended = last_of(&heard, frequency(5));
    let (lasted_ms, answer) = ((ended - onset) / 8, tone_onset(&heard, frequency(1), AMPLITUDE).unwrap());
    assert!((1700..=2300).contains(&lasted_ms), "the old utterance was heard for {lasted_ms} ms");
    assert!(answer > ended, "the new one begins after it");
    // Nothing of the old one afterwards, and all of the new one.
    assert!(tone_share(&heard[answer..answer + 8000], frequency(1)) > 0.98);
    assert!(heard[ended + 80..answer - 40].iter().all(|sample| sample.unsigned_abs() < 500));
    let told = notes.of(&report.call_sid);
    let cut = told.iter().position(|told| matches!(told, Told::Played { cleared: true, .. })).unwrap();
    let Told::Played { utterance: 1, ms, .. } = told[cut] else { panic!("{:?}", told[cut]) };
    assert!(ms <= lasted_ms as u64 + 20 && ms + 450 >= lasted_ms as u64, "told {ms} of {lasted_ms} ms");
    let later = &told[cut + 1..];
    assert!(!later.iter().any(|told| matches!(told, Told::Played { utterance: 1, .. })), "{later:?}");
    let whole = Told::Played { utterance: 2, ms: 1000, cleared: false };
    assert!(later.contains(&whole), "{later:?}");
    stack.stop().await;
}

#[tokio::test]
async fn marks_tell_the_agent_how_far_it_was_heard() {
    let (stack, notes) = start().await;
    let report = call(&stack, &[(300, '2')], 3500).await;
    let played: Vec<_> = notes
        .of(&report.call_sid)
        .into_iter()
        .filter_map(|told| {
            let Told::Played { utterance, ms, cleared } = told else { return None };
            Some((utterance, ms, cleared))
        })
        .collect();
    assert_eq!(played, (1..=10).map(|n| (1, n * 200, false)).collect::<Vec<_>>());
    assert_eq!(report.streams[0].playout.marks_cleared, 0, "{report}");
    stack.stop().await;
}

#[tokio::test]
async fn an_interrupt_with_nothing_to_interrupt_changes_nothing() {
    let (stack, _) = start().await;
    let report = call(&stack, &[(300, '*'), (500, '1'), (2500, '*'), (2700, '1')], 4500).await;
    assert_eq!(report.streams[0].playout.clears, 0, "{report}");
    assert_eq!(report.streams[0].playout.played, 2 * 8000, "{report}");
    stack.stop().await;
}

#[tokio::test]
async fn a_hang_up_after_playback_is_heard_to_the_end() {
    let (stack, _) = start().await;
    let report = call(&stack, &[(300, '2'), (350, '#')], 20_000).await;
    let stream = &report.streams[0];
    assert_eq!((stream.ended, stream.close_code), (Ended::ServerClosed, Some(1000)), "{report}");
    assert_eq!((stream.playout.played, stream.playout.gaps), (16_000, 0), "{report}");
    assert!(stream.lasted < Duration::from_secs(4), "{report}");
    assert_eq!(report.actions[0].verbs, ["Hangup"], "{report}");
    stack.stop().await;
}

#[tokio::test]
async fn a_hang_up_at_once_does_not_wait() {
    let (stack, _) = start().await;
    let report = call(&stack, &[(300, '5'), (1300, 'D')], 20_000).await;
    assert_eq!(report.streams[0].close_code, Some(1000), "{report}");
    assert!(report.streams[0].lasted < Duration::from_millis(2500), "{report}");
    assert_eq!(report.actions[0].verbs, ["Hangup"], "{report}");
    stack.stop().await;
}

#[tokio::test]
async fn a_transfer_after_playback_is_heard_to_the_end_and_dials() {
    let (stack, notes) = start().await;
    let report = call(&stack, &[(300, '1'), (350, '0')], 20_000).await;
    assert_eq!(report.streams[0].playout.played, 8000, "{report}");
    assert_eq!(report.dialled, [TRANSFER_TO], "{report}");
    eventually("its agent is gone", async || notes.of(&report.call_sid).contains(&Told::Gone)).await;
    eventually("the conversation has ended", async || stack.info().await.live == 0).await;
    stack.stop().await;
}

#[tokio::test]
async fn keys_reach_the_agent_in_order() {
    let (stack, notes) = start().await;
    let report = call(&stack, &[(200, '1'), (210, '*'), (220, '2'), (230, '*'), (240, '3')], 700).await;
    eventually("the call is over", async || notes.of(&report.call_sid).contains(&Told::Gone)).await;
    let keys: Vec<_> = notes.of(&report.call_sid).into_iter().filter(|told| matches!(told, Told::Key(_))).collect();
    assert_eq!(keys, ['1', '*', '2', '*', '3'].map(Told::Key));
    stack.stop().await;
}

async fn start() -> (Stack, Notes) {
    let notes = Notes::default();
    let plan = StackPlan::default().agents(notes.agents()).gateway("DEFAULT_AGENT", "scripted");
    (Stack::start(plan).await, notes)
}

/// A silent caller that presses keys (at ms) and hangs up in the end, if the agent does not.
async fn call(stack: &Stack, keys: &[(u64, char)], hangup_ms: u64) -> CallReport {
    let digits = keys.iter().map(|(ms, key)| (Duration::from_millis(*ms), *key)).collect();
    let hangup_after = Some(Duration::from_millis(hangup_ms));
    let plan = CallPlan { speech: [].into(), digits, hangup_after, ..stack.call_plan() };
    let report = Caller::new(plan).place().await;
    assert!(report.is_ok(), "{report}");
    report
}

/// Where the last 5 ms of a tone end.
fn last_of(heard: &[i16], frequency: f64) -> usize {
    let loud = |window: &[i16]| {
        tone_share(window, frequency) > 0.6 && window.iter().any(|sample| sample.unsigned_abs() > 2000)
    };
    (0..heard.len() - 80).rev().find(|at| loud(&heard[*at..at + 80])).unwrap() + 80
}
