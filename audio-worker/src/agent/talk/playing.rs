//! How far an answer was heard: utterances of the agent, what the gateway reports of them, and the clock in between.

use std::time::{Duration, Instant};

/// Reports may be missing: sound that was given out so long ago, beyond its length, was heard.
const UNREPORTED: Duration = Duration::from_secs(5);

/// How long after its end an utterance may still come back as an echo.
const ECHO: Duration = Duration::from_millis(800);

/// A report this much short of the end is one of the end: codec and filters round.
const ROUNDING_MS: u64 = 40;

/// The utterances of one agent, of which one at most is being played.
#[derive(Debug, Default)]
pub(super) struct Playing {
    /// Utterances begun.
    begun: u64,
    now: Option<Utterance>,
    /// How much of the newest was heard when it ended or was stopped, and when that was.
    last: Option<(u64, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct Utterance {
    /// Where it begins in its answer, ms.
    base_ms: u64,
    /// When sound was last given out.
    given_at: Instant,
    given_ms: u64,
    /// Of the answer: what is reported, and when it was.
    heard_ms: u64,
    reported: Instant,
    /// All of it was given out.
    complete: bool,
    /// It was thrown away.
    stopped: bool,
}

impl Playing {
    /// Sound up to `given_ms` of the answer was given out; true when that begins an utterance at `base_ms`.
    pub(super) fn give(&mut self, base_ms: u64, given_ms: u64, now: Instant) -> bool {
        if let Some(utterance) = self.now.as_mut().filter(|utterance| !utterance.stopped) {
            (utterance.given_ms, utterance.given_at) = (given_ms, now);
            return false;
        }
        self.begun += 1;
        self.now = Some(Utterance {
            base_ms,
            given_at: now,
            given_ms,
            heard_ms: base_ms,
            reported: now,
            complete: false,
            stopped: false,
        });
        true
    }

    /// All of it was given out; true when that ends an utterance.
    pub(super) fn complete(&mut self) -> bool {
        let Some(utterance) = self.now.as_mut().filter(|utterance| !utterance.stopped) else { return false };
        !std::mem::replace(&mut utterance.complete, true)
    }

    /// It was thrown away; what is heard of it is what was heard so far.
    pub(super) fn stop(&mut self, now: Instant) {
        let heard_ms = self.heard_ms(now);
        self.last = self.heard_of_utterance(now).map(|ms| (ms, now)).or(self.last);
        if let Some(utterance) = &mut self.now {
            (utterance.stopped, utterance.heard_ms) = (true, heard_ms);
        }
    }

    /// The gateway reports `ms` of the agent's utterance `number`.
    pub(super) fn report(&mut self, number: u64, ms: u64, cleared: bool, now: Instant) {
        let Some(utterance) = self.now.as_mut().filter(|_| number == self.begun) else { return };
        let heard_ms = utterance.base_ms.saturating_add(ms).min(utterance.given_ms);
        if utterance.stopped && !cleared {
            // It is older than the stop, which knows better.
            return;
        }
        utterance.heard_ms = if cleared { heard_ms } else { heard_ms.max(utterance.heard_ms) };
        utterance.reported = now;
    }

    /// So much of the answer was heard by `now`, ms: what was reported, and the time since, but no more than a report's
    /// distance.
    pub(super) fn heard_ms(&self, now: Instant) -> u64 {
        let Some(utterance) = &self.now else { return 0 };
        if utterance.stopped {
            return utterance.heard_ms;
        }
        let since = now.saturating_duration_since(utterance.reported).min(Duration::from_millis(200));
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        utterance.heard_ms.saturating_add(since_ms).min(utterance.given_ms)
    }

    /// Of the utterance that is being played, so much was heard by `now`, ms; `None` when none is.
    pub(super) fn heard_of_utterance(&self, now: Instant) -> Option<u64> {
        let utterance = self.now.filter(|utterance| !utterance.stopped)?;
        Some(self.heard_ms(now).saturating_sub(utterance.base_ms))
    }

    /// True when nothing is being played, or all of an utterance that is complete was heard.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let Some(utterance) = self.now.filter(|utterance| !utterance.stopped) else { return true };
        if !utterance.complete {
            return false;
        }
        utterance.heard_ms + ROUNDING_MS >= utterance.given_ms || self.deadline().is_some_and(|at| at <= now)
    }

    /// When it counts as heard without a report.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let utterance = self.now.filter(|utterance| utterance.complete && !utterance.stopped)?;
        let left = utterance.given_ms.saturating_sub(utterance.heard_ms);
        Some(utterance.reported.max(utterance.given_at) + Duration::from_millis(left) + UNREPORTED)
    }

    /// So much of the answer was given out and not heard.
    pub(super) fn ahead_ms(&self, now: Instant) -> u64 {
        let playing = self.now.filter(|utterance| !utterance.stopped);
        playing.map_or(0, |utterance| utterance.given_ms.saturating_sub(self.heard_ms(now)))
    }

    /// Nothing is played any more.
    pub(super) fn end(&mut self, now: Instant) {
        self.last = self.heard_of_utterance(now).map(|ms| (ms, now)).or(self.last);
        self.now = None;
    }

    /// What may come back as an echo by `now`: so much of the newest utterance would have been heard, ms.
    pub(super) fn echoing(&self, now: Instant) -> Option<u64> {
        self.heard_of_utterance(now).or_else(|| {
            let (ms, since) = self.last.map(|(ms, at)| (ms, now.saturating_duration_since(at)))?;
            let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            (since <= ECHO).then(|| ms.saturating_add(since_ms))
        })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_reported_counts_and_the_clock_fills_in_between() {
        let (start, mut playing) = (Instant::now(), Playing::default());
        assert!(playing.give(0, 500, start));
        assert!(!playing.give(500, 1000, start));
        assert_eq!((playing.heard_ms(start + ms(150)), playing.heard_ms(start + ms(900))), (150, 200));
        playing.report(1, 400, false, start + ms(600));
        assert_eq!((playing.heard_ms(start + ms(700)), playing.ahead_ms(start + ms(700))), (500, 500));
        playing.complete();
        assert!(!playing.is_over(start + ms(700)));
        playing.report(1, 980, false, start + ms(1100));
        assert!(playing.is_over(start + ms(1100)));
    }

    #[test]
    fn after_a_stop_only_what_was_cleared_says_how_much_was_heard_and_it_goes_on_from_there() {
        let (start, mut playing) = (Instant::now(), Playing::default());
        playing.give(0, 3000, start);
        playing.report(1, 1000, false, start + ms(1200));
        playing.stop(start + ms(1300));
        // What was thrown away is not ahead of anything.
        assert_eq!(playing.ahead_ms(start + ms(1300)), 0);
        assert_eq!(playing.heard_ms(start + ms(2000)), 1100);
        playing.report(1, 1200, false, start + ms(1310));
        playing.report(1, 1060, true, start + ms(1320));
        assert_eq!(playing.heard_ms(start + ms(2000)), 1060);
        assert!(playing.give(1000, 3000, start + ms(2000)));
        playing.report(1, 2000, false, start + ms(2100));
        playing.report(2, 200, false, start + ms(2400));
        assert_eq!((playing.begun, playing.heard_ms(start + ms(2400))), (2, 1200));
    }

    #[test]
    fn without_any_report_it_is_over_some_time_after_its_end() {
        let (start, mut playing) = (Instant::now(), Playing::default());
        playing.give(0, 2000, start);
        assert_eq!(playing.deadline(), None);
        playing.complete();
        assert_eq!(playing.deadline(), Some(start + ms(7000)));
        assert!(!playing.is_over(start + ms(6999)) && playing.is_over(start + ms(7000)));
    }
}
