//! What a live conversation counted that Prometheus was not told yet. It is told every few seconds, on a wake-up that the
//! conversation has anyway, so that a long call is seen while it lasts.

use std::time::{Duration, Instant};

use super::Seen;
use crate::{
    agent::{AgentStats, Report},
    metrics::{Hops, Metrics},
    provider::meter::Costs,
    turn::Stats,
};

/// How often Prometheus is told at most: a scrape comes every 15 s or so.
const TELL_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Uncounted {
    metrics: Metrics,
    /// How long frames took.
    hops: Hops,
    /// What was told.
    told: (Stats, Seen),
    /// Of the agent that has the call.
    told_agent: AgentStats,
    told_costs: Costs,
    told_at: Instant,
    /// When a frame was done with last.
    now: Instant,
}

impl Uncounted {
    /// Nothing, of a conversation that begins `now`.
    pub(super) fn new(metrics: Metrics, now: Instant) -> Self {
        Self {
            metrics,
            hops: Hops::default(),
            told: <(Stats, Seen)>::default(),
            told_agent: AgentStats::default(),
            told_costs: Costs::default(),
            told_at: now,
            now,
        }
    }

    /// A frame of the caller that came at `came` was heard by `now`.
    pub(super) fn heard(&mut self, came: Instant, now: Instant) {
        self.hops.caller.note(now - came);
        self.now = now;
    }

    /// What the agent said at `came` was ready to be sent by `now`.
    pub(super) fn said(&mut self, came: Instant, now: Instant) {
        self.hops.agent.note(now - came);
        self.now = now;
    }

    /// True when it is time to tell.
    pub(super) fn is_due(&self) -> bool {
        self.now - self.told_at >= TELL_EVERY
    }

    /// True when Prometheus was not told all of `costs`.
    pub(super) fn is_new(&self, costs: &Costs) -> bool {
        *costs != self.told_costs
    }

    /// Tells what is new in `stats`, in those of the agent, and in what providers cost.
    pub(super) fn tell(&mut self, stats: (Stats, Seen), agent: AgentStats, costs: Costs) {
        self.metrics.counted(&stats, &self.told, &mut self.hops);
        self.metrics.agent_counted(&agent, &self.told_agent);
        self.metrics.cost(&costs.since(&self.told_costs));
        (self.told, self.told_agent, self.told_costs, self.told_at) = (stats, agent, costs, self.now);
    }

    /// Tells at once what the agent reports: there is little of it.
    pub(super) fn report(&self, report: &Report) {
        self.metrics.agent_reported(report);
    }

    /// Tells what is new in `stats` of an agent that goes; the next one begins to count anew.
    pub(super) fn dismiss(&mut self, stats: AgentStats) {
        self.metrics.agent_counted(&stats, &self.told_agent);
        self.told_agent = AgentStats::default();
    }
}
