//! Workers come and go under calls: a new one is used soon, nobody loses a call, and in the end all carry alike.

use std::time::Duration;

use tests::{
    line::Line,
    sim::Verb,
    stack::{Several, StackPlan, eventually},
};
use tokio::time::timeout;

/// Calls of each round.
const CALLS: usize = 100;
/// From when DNS shows a worker until it has its first call.
const USED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn after_one_came_and_one_went_under_calls_all_carry_alike() {
    let plan = StackPlan::default().worker("DRAIN_SECONDS", "60").gateway("MAX_CALLS_PER_SECOND", "0");
    let mut several = Several::start(plan, 3).await;
    let call = several.call_plan();
    let mut lines = Vec::new();
    for _ in 0..CALLS {
        lines.push(Line::dial(&call).await);
    }
    let loads = wait_for(&several, &[0, 1, 2], CALLS).await;
    assert_alike(&loads);

    several.add().await;
    // Half of the calls that there are end, one for each of the first that come.
    let (staying, mut ending) = (lines.split_off(CALLS / 2), lines);
    let mut further = Vec::new();
    let used = timeout(USED_WITHIN, async {
        while several.info(3).await.opened_total == 0 {
            further.push(Line::dial(&call).await);
            if let Some(mut line) = ending.pop() {
                line.hang_up().await;
            }
            // Three further ones a second: far fewer than there are to come.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    used.await.expect("the new worker has no call yet");

    several.shut_down(0);
    eventually("it takes nobody any more", async || several.info(0).await.draining).await;
    while further.len() < CALLS {
        further.push(Line::dial(&call).await);
        if let Some(mut line) = ending.pop() {
            line.hang_up().await;
        }
    }
    let loads = wait_for(&several, &[0, 1, 2, 3], staying.len() + CALLS).await;
    assert_alike(&loads[1..]);

    // Whoever was at the worker that goes is there still, and it goes when the last of them has hung up.
    assert!(loads[0] > 0, "{loads:?}");
    let mut one = further.pop().expect("many calls");
    for mut line in staying.into_iter().chain(further) {
        line.hang_up().await;
        assert_eq!(line.after().await, [Verb::Hangup], "it was no fallback");
    }
    one.assert_echoes().await;
    one.hang_up().await;
    eventually("it has ended", async || several.has_ended(0)).await;
    several.hide(0);
    several.wait_until_known(3).await;
    several.stop().await;
}

/// Waits until so many calls are live at these workers together; how many at each.
async fn wait_for(several: &Several, numbers: &[usize], live: usize) -> Vec<u32> {
    let mut loads = Vec::new();
    eventually(&format!("{live} calls are live"), async || {
        loads.clear();
        for &number in numbers {
            loads.push(several.info(number).await.live);
        }
        loads.iter().sum::<u32>() as usize == live
    })
    .await;
    loads
}

/// The largest difference is at most a fifth of the mean.
fn assert_alike(loads: &[u32]) {
    let (least, most) = (loads.iter().min(), loads.iter().max());
    let difference = most.zip(least).map_or(0, |(most, least)| most - least) as usize;
    let sum: u32 = loads.iter().sum();
    assert!(difference * loads.len() * 5 <= sum as usize, "{loads:?}");
}
