//! A limit on how often: so many a second, and a second's worth at once. Pure; `now` is an argument.

use std::time::{Duration, Instant};

/// A token bucket in one number: the time up to which what was let through has used up the rate (GCRA, ITU-T I.371).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    interval: Duration,
    burst: Duration,
    used_up_to: Option<Instant>,
}

impl Rate {
    /// `per_second` (at least one), of which a second's worth may come at once.
    pub(crate) fn per_second(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, burst: Duration::from_secs(1).saturating_sub(interval), used_up_to: None }
    }

    /// The same rate, evenly: nothing comes at once.
    pub(crate) fn evenly(per_second: u32) -> Self {
        Self { burst: Duration::ZERO, ..Self::per_second(per_second) }
    }

    /// Lets one through at `now`.
    ///
    /// # Errors
    /// How long to wait before the next may come; nothing is counted then.
    pub(crate) fn allow(&mut self, now: Instant) -> Result<(), Duration> {
        let used = self.used_up_to.map_or(now, |used| used.max(now));
        let wait = (used - now).saturating_sub(self.burst);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.used_up_to = Some(used + self.interval);
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_comes_at_once_and_then_the_rate_holds() {
        let (mut rate, start) = (Rate::per_second(5), Instant::now());
        assert_eq!((0..20).filter(|_| rate.allow(start).is_ok()).count(), 5);
        assert_eq!(rate.allow(start), Err(Duration::from_millis(200)));
        let let_through = (0..10_000_u64).filter(|ms| rate.allow(start + Duration::from_millis(*ms)).is_ok()).count();
        assert_eq!(let_through, 49, "one every 200 ms");
        let later = start + Duration::from_secs(100);
        assert_eq!((0..20).filter(|_| rate.allow(later).is_ok()).count(), 5, "what was not used is not saved up");
    }

    #[test]
    fn evenly_is_one_at_a_time() {
        let (mut rate, start) = (Rate::evenly(2), Instant::now());
        assert_eq!(rate.allow(start), Ok(()));
        assert_eq!(rate.allow(start), Err(Duration::from_millis(500)));
        assert_eq!(rate.allow(start + Duration::from_millis(500)), Ok(()));
    }
}
