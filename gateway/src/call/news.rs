//! What a live call counted that Prometheus was not told yet. It is told every few seconds, on a wake-up that the call has
//! anyway, so that a long call is seen while it lasts.

use std::time::{Duration, Instant};

use crate::{
    metrics::{Hops, Metrics},
    session::Stats,
};

/// How often Prometheus is told at most: a scrape comes every 15 s or so.
const TELL_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Uncounted {
    /// How long frames were here.
    pub(super) hops: Hops,
    /// What was told.
    told: Stats,
    told_at: Instant,
}

impl Uncounted {
    /// Nothing, of a call that begins `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { hops: Hops::default(), told: Stats::default(), told_at: now }
    }

    /// Tells `metrics` if it is time to.
    pub(super) fn tell_sometimes(&mut self, metrics: &Metrics, stats: &Stats, now: Instant) {
        if now - self.told_at >= TELL_EVERY {
            self.told_at = now;
            self.tell(metrics, stats);
        }
    }

    /// Tells `metrics` what is new in `stats`.
    pub(super) fn tell(&mut self, metrics: &Metrics, stats: &Stats) {
        metrics.call_counted(stats, &self.told, &mut self.hops);
        self.told = *stats;
    }
}
