//! Slow (half a minute): a caller whose socket stays open and is never read, while the agent talks without end.

#![expect(clippy::disallowed_methods, reason = "the time until the call is given up is measured")]

use std::time::Duration;

use tests::{
    line::{Line, is_fallback},
    load::resident_kib,
    scripted::{Notes, Told},
    stack::{Stack, StackPlan},
};
use tokio::time::{Instant, sleep};

/// The kernel takes some 20 s of audio before anything blocks; then ten more are waited.
const LIMIT: Duration = Duration::from_secs(45);

#[tokio::test]
async fn a_caller_that_stops_reading_costs_no_memory_and_is_given_up() {
    let notes = Notes::default();
    let stack = Stack::start(StackPlan::default().agents(notes.agents()).gateway("DEFAULT_AGENT", "scripted")).await;
    let plan = stack.call_plan();
    let mut line = Line::dial(&plan).await;
    line.press('C').await;
    line.listen_until(|heard| heard.mulaw.len() > 8000).await;
    let (began, before) = (Instant::now(), resident_kib(std::process::id()).unwrap());
    let mut most = before;
    while !notes.of(line.call_sid()).contains(&Told::Gone) {
        assert!(began.elapsed() < LIMIT, "the call goes on");
        // It talks on, and reads nothing.
        line.speak(&[0xff; 160]).await;
        most = most.max(resident_kib(std::process::id()).unwrap());
        sleep(Duration::from_millis(20)).await;
    }
    assert!(most - before < 6 << 10, "{} KiB more", most - before);
    assert!(is_fallback(&line.after().await));
    stack.stop().await;
}
