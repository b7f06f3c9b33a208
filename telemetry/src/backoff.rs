//! When to try again: exponential, with jitter, bounded in number and in time. Pure: time and chance are arguments.

use std::time::Duration;

/// A plan of attempts.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Wait after the first attempt; each further one is twice as long.
    pub first: Duration,
    /// Longest wait of the plan's own; the peer may ask for a longer one.
    pub longest: Duration,
    /// Attempts in all.
    pub attempts: u32,
    /// No attempt begins later than this after the first one.
    pub within: Duration,
}

impl Backoff {
    /// How long to wait after `made` attempts, `elapsed` since the first began; `None` is the end. The peer asked for
    /// `asked` at least; `chance`, evenly from all numbers, spreads the wait over a quarter more or less.
    pub fn wait(&self, made: u32, elapsed: Duration, asked: Option<Duration>, chance: u32) -> Option<Duration> {
        if made >= self.attempts {
            return None;
        }
        let doubled = self.first.saturating_mul(1_u32.checked_shl(made.saturating_sub(1)).unwrap_or(u32::MAX));
        let own = doubled.min(self.longest);
        let spread = own.mul_f64(0.75 + 0.5 * f64::from(chance) / f64::from(u32::MAX));
        let wait = spread.max(asked.unwrap_or_default());
        (elapsed.saturating_add(wait) <= self.within).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Backoff = Backoff {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(10),
        attempts: 5,
        within: Duration::from_secs(60),
    };
    const MIDDLE: u32 = u32::MAX / 2;

    fn ms(plan: &Backoff, asked: Option<u64>, chance: u32) -> Vec<u128> {
        let (mut elapsed, mut waits) = (Duration::ZERO, Vec::new());
        while let Some(wait) =
            plan.wait(u32::try_from(waits.len()).unwrap() + 1, elapsed, asked.map(Duration::from_secs), chance)
        {
            elapsed += wait;
            waits.push((wait.as_secs_f64() * 100.0).round() as u128 * 10);
        }
        waits
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        assert_eq!(ms(&PLAN, None, MIDDLE), [1000, 2000, 4000, 8000]);
        assert_eq!(ms(&PLAN, None, 0), [750, 1500, 3000, 6000]);
        assert_eq!(ms(&PLAN, None, u32::MAX), [1250, 2500, 5000, 10_000]);
        let many = Backoff { attempts: 100, ..PLAN };
        assert_eq!(ms(&many, None, MIDDLE), [1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000]);
    }

    #[test]
    fn the_peer_may_ask_for_more_but_not_for_ever() {
        assert_eq!(ms(&PLAN, Some(5), MIDDLE), [5000, 5000, 5000, 8000]);
        assert_eq!(ms(&PLAN, Some(25), MIDDLE), [25_000, 25_000]);
        assert!(ms(&PLAN, Some(3600), MIDDLE).is_empty());
        assert!(ms(&PLAN, Some(u64::MAX), MIDDLE).is_empty());
    }
}
