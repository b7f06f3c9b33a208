//! What the worker counts, under its Prometheus names. Cores count in plain structs; what a conversation counted is added
//! here every few seconds and when it ends, so nothing is touched per frame.

use std::sync::Arc;

use prometheus::{Counter, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use telemetry::{
    metrics::{self, Register, Spread, SpreadTotal, raise},
    tls::Expiry,
    traces,
};

use crate::{
    agent::{AgentStats, Report},
    conversation::Seen,
    conversations::{Conversations, Phase},
    provider::{meter::Entry, place::Places},
    turn::{EndReason, Stats},
};

mod providers;
mod talk;

use providers::Providers;
use talk::Talk;

/// Lateness, in seconds: a frame is 20 ms, and what is sent leads by 200.
const LATE_SECONDS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.2, 1.0];

/// What `hop_seconds` is.
const HOP: &str =
    "Conversion of a frame: of the caller until the agent has heard it, of the agent until it may be sent";

/// Lengths of conversations, in seconds.
const CONVERSATION_SECONDS: [f64; 10] = [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// 8000 samples of mu-law a second.
const SAMPLES_PER_SECOND: f64 = 8000.0;

/// Everything that the worker tells Prometheus; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Instruments>);

#[derive(Debug)]
struct Instruments {
    register: Register,
    live: IntGauge,
    capacity: IntGauge,
    draining: IntGauge,
    opened: IntCounter,
    refused: IntCounter,
    ended: IntCounterVec,
    conversation_seconds: Histogram,
    heard_seconds: Counter,
    gap_seconds: Counter,
    missing_messages: IntCounter,
    held_seconds: Counter,
    said_seconds: Counter,
    overflowed_seconds: Counter,
    interrupted_seconds: Counter,
    utterances: IntCounter,
    interrupts: IntCounter,
    orders: IntCounterVec,
    late_seconds: Histogram,
    talk: Talk,
    providers: Providers,
    caller_hop: SpreadTotal,
    agent_hop: SpreadTotal,
    handshakes_failed: IntCounter,
    expiry: IntGaugeVec,
    dropped_spans: IntCounter,
}

/// How long frames of one conversation took.
#[derive(Debug, Default)]
pub(crate) struct Hops {
    /// From a caller's message to the agent's having heard it: decoded and resampled.
    pub(crate) caller: Spread,
    /// From the agent's audio to its place in the reply queue: resampled and encoded.
    pub(crate) agent: Spread,
}

impl Metrics {
    /// Everything at zero.
    ///
    /// # Errors
    /// When a name is used twice or is none.
    pub(crate) fn new() -> Result<Self, metrics::Error> {
        let names = Register::new("tandem_worker", env!("CARGO_PKG_VERSION"))?;
        let metrics = Self(Arc::new(Instruments {
            live: names.gauge("live_conversations", "Conversations under way")?,
            capacity: names.gauge("conversations_limit", "WORKER_MAX_CALLS")?,
            draining: names.gauge("draining", "1 while no new conversations are taken")?,
            opened: names.counter("conversations_opened_total", "Conversations taken")?,
            refused: names
                .counter("conversations_refused_total", "Conversations not taken: no room, draining, or a bad Open")?,
            ended: names.counters("conversations_total", "Conversations that ended, by why", &["reason"])?,
            conversation_seconds: names.histogram(
                "conversation_seconds",
                "Length of conversations",
                &CONVERSATION_SECONDS,
            )?,
            heard_seconds: names.seconds("heard_seconds_total", "Audio that came from callers")?,
            gap_seconds: names.seconds("gap_seconds_total", "Time for which no audio came")?,
            missing_messages: names.counter("missing_messages_total", "Messages of audio that gateways had to drop")?,
            held_seconds: names.seconds("held_seconds_total", "Audio of callers on hold, which no agent heard")?,
            said_seconds: names.seconds("said_seconds_total", "Audio that went to gateways")?,
            overflowed_seconds: names
                .seconds("overflowed_seconds_total", "Audio of agents that found no room in the reply queue")?,
            interrupted_seconds: names
                .seconds("interrupted_seconds_total", "Audio of agents thrown away by interruptions")?,
            utterances: names.counter("utterances_total", "Utterances that agents began")?,
            interrupts: names.counter("interrupts_total", "Interruptions: barge-in, hold, change of agent")?,
            orders: names.counters("orders_total", "Orders of the calls API", &["outcome"])?,
            late_seconds: names.histogram(
                "late_peak_seconds",
                "How late a conversation's audio was sent at worst",
                &LATE_SECONDS,
            )?,
            talk: Talk::new(&names)?,
            providers: Providers::new(&names)?,
            caller_hop: names.spread("hop_seconds", HOP, ("audio", "caller"))?,
            agent_hop: names.spread("hop_seconds", HOP, ("audio", "agent"))?,
            handshakes_failed: names.counter(
                "handshakes_failed_total",
                "Connections that did not show who they are: no TLS, or no trust",
            )?,
            expiry: names.gauges(
                "certificate_not_after_timestamp_seconds",
                "When the certificate between the pair, and its authority, expire, since the Unix epoch",
                &["of"],
            )?,
            dropped_spans: names.counter("dropped_spans_total", "Spans that no collector got")?,
            register: names,
        }));
        for reason in EndReason::ALL {
            metrics.0.ended.with_label_values(&[reason.label()]);
        }
        for outcome in ["taken", "refused"] {
            metrics.0.orders.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }

    /// A conversation counted `stats`, of which `told` was told before, and `hops`, which are taken.
    pub(crate) fn counted(&self, stats: &(Stats, Seen), told: &(Stats, Seen), hops: &mut Hops) {
        let at = &*self.0;
        let said = |of: fn(&Stats) -> u64| of(&stats.0).saturating_sub(of(&told.0));
        let heard = |of: fn(&Seen) -> u64| of(&stats.1).saturating_sub(of(&told.1));
        at.heard_seconds.inc_by(seconds(heard(|seen| seen.heard_samples)));
        at.gap_seconds.inc_by(heard(|seen| seen.gap_ms) as f64 / 1000.0);
        at.missing_messages.inc_by(heard(|seen| seen.missing_messages));
        at.held_seconds.inc_by(seconds(heard(|seen| seen.held_samples)));
        at.said_seconds.inc_by(seconds(said(|turn| turn.sent_samples)));
        at.overflowed_seconds.inc_by(seconds(said(|turn| turn.overflowed_samples)));
        at.interrupted_seconds.inc_by(seconds(said(|turn| turn.interrupted_samples)));
        at.utterances.inc_by(said(|turn| turn.utterances));
        at.interrupts.inc_by(said(|turn| turn.interrupts));
        at.orders.with_label_values(&["taken"]).inc_by(said(|turn| turn.orders));
        at.orders.with_label_values(&["refused"]).inc_by(said(|turn| turn.orders_refused));
        at.caller_hop.take(&mut hops.caller);
        at.agent_hop.take(&mut hops.agent);
    }

    /// The agent of a conversation counted `stats`, of which `told` was told before.
    pub(crate) fn agent_counted(&self, stats: &AgentStats, told: &AgentStats) {
        self.0.talk.counted(stats, told);
    }

    /// A conversation cost so much more.
    pub(crate) fn cost(&self, news: &[Entry]) {
        self.0.providers.counted(news);
    }

    /// An agent told something, at most a few times a second.
    pub(crate) fn agent_reported(&self, report: &Report) {
        self.0.talk.reported(report);
    }

    /// A conversation ended after so many seconds, and everything that it counted was told.
    pub(crate) fn ended(&self, reason: EndReason, lasted_s: f64, turn: &Stats) {
        let at = &*self.0;
        at.ended.with_label_values(&[reason.label()]).inc();
        at.conversation_seconds.observe(lasted_s);
        at.late_seconds.observe(turn.late_peak.as_secs_f64());
    }

    /// Where lines of transcripts that are dropped are counted.
    pub(crate) fn transcript_lines_dropped(&self) -> IntCounter {
        self.0.talk.transcript_lines_dropped.clone()
    }

    /// A peer failed its TLS handshake; how many did.
    pub(crate) fn handshake_failed(&self) -> u64 {
        self.0.handshakes_failed.inc();
        self.0.handshakes_failed.get()
    }

    /// The answer to Prometheus, in its text format.
    pub(crate) fn text(&self, conversations: &Conversations, places: &Places, expiry: Option<Expiry>) -> String {
        let at = &*self.0;
        at.live.set(conversations.live().into());
        at.capacity.set(conversations.capacity().into());
        at.draining.set((conversations.phase() != Phase::Open).into());
        raise(&at.opened, conversations.opened());
        raise(&at.refused, conversations.refused());
        raise(&at.dropped_spans, traces::dropped_spans());
        at.providers.look(places);
        metrics::tell_expiry(&at.expiry, expiry);
        at.register.text()
    }
}

fn seconds(samples: u64) -> f64 {
    samples as f64 / SAMPLES_PER_SECOND
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_conversations_counted_is_added_up() {
        let metrics = Metrics::new().unwrap();
        let turn = Stats {
            sent_samples: 4000,
            interrupts: 1,
            orders: 2,
            late_peak: Duration::from_millis(4),
            ..Stats::default()
        };
        let seen = Seen { heard_samples: 8000, gap_ms: 250, ..Seen::default() };
        let earlier = (Stats { sent_samples: 1000, ..Stats::default() }, Seen { gap_ms: 250, ..Seen::default() });
        for _ in 0..2 {
            let mut hops = Hops::default();
            hops.agent.note(Duration::from_micros(40));
            metrics.counted(&earlier, &Default::default(), &mut hops);
            metrics.counted(&(turn, seen), &earlier, &mut hops);
            metrics.ended(EndReason::Closed, 1.5, &turn);
        }
        let text = metrics.text(
            &Conversations::new(7),
            &Places::default(),
            Some(Expiry { certificate: None, authority: Some(4_102_444_800) }),
        );
        for line in [
            "tandem_worker_conversations_limit 7",
            "tandem_worker_live_conversations 0",
            "tandem_worker_conversations_total{reason=\"closed\"} 2",
            "tandem_worker_conversations_total{reason=\"failed\"} 0",
            "tandem_worker_heard_seconds_total 2",
            "tandem_worker_gap_seconds_total 0.5",
            "tandem_worker_said_seconds_total 1",
            "tandem_worker_interrupts_total 2",
            "tandem_worker_orders_total{outcome=\"taken\"} 4",
            "tandem_worker_dropped_spans_total 0",
            "tandem_worker_certificate_not_after_timestamp_seconds{of=\"authority\"} 4102444800",
            "tandem_worker_hop_seconds_count{audio=\"caller\"} 0",
            "tandem_worker_hop_seconds_bucket{audio=\"agent\",le=\"0.0001\"} 2",
            "tandem_worker_late_peak_seconds_bucket{le=\"0.0025\"} 0",
            "tandem_worker_late_peak_seconds_bucket{le=\"0.005\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
