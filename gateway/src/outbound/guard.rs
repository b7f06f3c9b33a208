//! The spend guard: how much dialling out may happen, whoever asks for it. Pure; `now` is an argument.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use telemetry::Sensitive;

const HOUR: Duration = Duration::from_secs(3600);
const DAY_S: u64 = 86_400;

/// What a guard holds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Outbound calls that wait, ring or talk at a time.
    pub live: u32,
    /// Minutes of talk on one day (UTC).
    pub minutes_per_day: u64,
    /// Calls to one number within an hour.
    pub per_to_per_hour: u32,
    /// Calls from one number within an hour.
    pub per_from_per_hour: u32,
}

/// Which limit stands against a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reached {
    #[error("OUTBOUND_MAX_CALLS outbound calls are under way")]
    Live,
    #[error("the calls of today have used up OUTBOUND_MINUTES_PER_DAY")]
    Minutes,
    #[error("this number was called OUTBOUND_PER_TO_PER_HOUR times within the hour")]
    To,
    #[error("OUTBOUND_PER_FROM_PER_HOUR calls were made from this number within the hour")]
    From,
}

/// Who dials whom.
type Pair = (Sensitive<String>, Sensitive<String>);

/// Counts what was dialled.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: Limits,
    live: u32,
    /// The day that `spent_s` belongs to, since the Unix epoch.
    day: u64,
    spent_s: u64,
    /// The calls of the last hour, oldest first; as many as may be dialled in an hour.
    recent: VecDeque<(Duration, Pair)>,
    from: HashMap<Sensitive<String>, u32>,
    to: HashMap<Sensitive<String>, u32>,
}

impl Guard {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, live: 0, day: 0, spent_s: 0, recent: VecDeque::new(), from: HashMap::new(), to: HashMap::new() }
    }

    /// Counts a call from `from` to `to`, while those that talk now have talked for `talking_s` in all.
    ///
    /// # Errors
    /// The limit that is reached; nothing is counted then.
    pub(crate) fn reserve(&mut self, from: &str, to: &str, talking_s: u64, now: Duration) -> Result<(), Reached> {
        self.forget(now);
        let pair = (Sensitive::new(from.to_owned()), Sensitive::new(to.to_owned()));
        let count = |of: &HashMap<_, u32>, number| of.get(number).copied().unwrap_or(0);
        if self.live >= self.limits.live {
            return Err(Reached::Live);
        }
        if self.spent_s.saturating_add(talking_s) >= self.limits.minutes_per_day.saturating_mul(60) {
            return Err(Reached::Minutes);
        }
        if count(&self.to, &pair.1) >= self.limits.per_to_per_hour {
            return Err(Reached::To);
        }
        if count(&self.from, &pair.0) >= self.limits.per_from_per_hour {
            return Err(Reached::From);
        }
        self.live += 1;
        *self.from.entry(pair.0.clone()).or_default() += 1;
        *self.to.entry(pair.1.clone()).or_default() += 1;
        self.recent.push_back((now, pair));
        Ok(())
    }

    /// Counts a call that somebody else let through: it is under way already.
    pub(crate) fn adopt(&mut self) {
        self.live = self.live.saturating_add(1);
    }

    /// A call that was counted is over, after `talk_s` seconds of talk.
    pub(crate) fn release(&mut self, talk_s: u64, now: Duration) {
        self.forget(now);
        self.live = self.live.saturating_sub(1);
        // Carriers count minutes that were begun.
        self.spent_s = self.spent_s.saturating_add(talk_s.div_ceil(60) * 60);
    }

    fn forget(&mut self, now: Duration) {
        let day = now.as_secs() / DAY_S;
        if day != self.day {
            (self.day, self.spent_s) = (day, 0);
        }
        while self.recent.front().is_some_and(|(at, _)| *at + HOUR <= now)
            && let Some((_, (from, to))) = self.recent.pop_front()
        {
            for (counts, number) in [(&mut self.from, from), (&mut self.to, to)] {
                if let Some(count) = counts.get_mut(&number) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(&number);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(20_000 * DAY_S + 12 * 3600);
    const LIMITS: Limits = Limits { live: 2, minutes_per_day: 10, per_to_per_hour: 3, per_from_per_hour: 4 };

    #[test]
    fn so_many_at_a_time() {
        let mut guard = Guard::new(LIMITS);
        assert_eq!(guard.reserve("+1", "+2", 0, NOON), Ok(()));
        assert_eq!(guard.reserve("+1", "+3", 0, NOON), Ok(()));
        assert_eq!(guard.reserve("+1", "+4", 0, NOON), Err(Reached::Live));
        guard.release(0, NOON);
        assert_eq!(guard.reserve("+1", "+4", 0, NOON), Ok(()));
    }

    #[test]
    fn so_many_to_and_from_a_number_within_an_hour() {
        let mut guard = Guard::new(LIMITS);
        let mut call = |from, to, at| {
            let answer = guard.reserve(from, to, 0, NOON + Duration::from_secs(at));
            if answer.is_ok() {
                guard.release(0, NOON + Duration::from_secs(at));
            }
            answer
        };
        for at in [0, 1, 2] {
            assert_eq!(call("+1", "+2", at), Ok(()));
        }
        assert_eq!(call("+1", "+2", 3), Err(Reached::To));
        assert_eq!(call("+1", "+3", 3), Ok(()));
        assert_eq!(call("+1", "+4", 3), Err(Reached::From));
        assert_eq!(call("+5", "+4", 3), Ok(()));
        assert_eq!(call("+1", "+2", 3600), Ok(()), "the first is an hour ago");
        assert_eq!(call("+1", "+2", 3600), Err(Reached::To));
        assert_eq!(call("+1", "+9", 10_000), Ok(()));
        assert_eq!((guard.recent.len(), guard.from.len(), guard.to.len()), (1, 1, 1), "what is old is forgotten");
    }

    #[test]
    fn minutes_are_counted_as_they_are_billed_and_anew_each_day() {
        let mut guard = Guard::new(LIMITS);
        for _ in 0..5 {
            guard.reserve("+1", "+2", 0, NOON - HOUR).unwrap();
            guard.release(61, NOON - HOUR);
            guard.recent.clear();
            guard.to.clear();
            guard.from.clear();
        }
        assert_eq!(guard.reserve("+1", "+3", 0, NOON), Err(Reached::Minutes));
        assert_eq!(guard.reserve("+1", "+3", 0, NOON + HOUR * 12), Ok(()));
        guard.release(0, NOON + HOUR * 12);
        assert_eq!(guard.reserve("+1", "+3", 600, NOON + HOUR * 12), Err(Reached::Minutes), "talk that goes on counts");
    }
}
