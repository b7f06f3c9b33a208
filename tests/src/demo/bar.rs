//! Pure: one line that shows how far a call is.

use std::time::Duration;

/// Width of the bar in characters.
const WIDTH: usize = 30;

/// `elapsed` of `total` as a bar, with the frames said and those that came back.
pub fn bar(elapsed: Duration, total: Duration, [said, back]: [u64; 2]) -> String {
    let share = (elapsed.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
    let full = (share * WIDTH as f64).round() as usize;
    let (full, empty) = ("#".repeat(full), ".".repeat(WIDTH - full));
    let (elapsed, total) = (elapsed.min(total).as_secs(), total.as_secs_f64().ceil());
    format!("  on the phone [{full}{empty}] {elapsed:>2} of {total} s, {said} frames said, {back} came back")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_grows_from_empty_to_full_and_no_further() {
        let total = Duration::from_millis(10_672);
        let at = |seconds| bar(Duration::from_secs(seconds), total, [0, 0]).matches('#').count();
        assert_eq!([at(0), at(5), at(10), at(11), at(60)], [0, 14, 28, WIDTH, WIDTH]);
        let line = bar(Duration::from_secs(60), total, [534, 532]);
        assert!(line.ends_with("10 of 11 s, 534 frames said, 532 came back"), "{line}");
    }
}
