//! What the gateway counts, under its Prometheus names. Cores count in plain structs; what a call counted is added here
//! every few seconds and when its stream ends, so nothing is touched per frame.

use std::{sync::Arc, time::Duration};

use prometheus::{Counter, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use telemetry::{
    metrics::{self, Register, Spread, SpreadTotal, raise},
    tls::Expiry,
};

use crate::{
    admission::Reason,
    calls::Room,
    events::Counts,
    session::{EndReason, Stats},
};

/// Times of requests, in seconds: Twilio gives up after 15.
const REQUEST_SECONDS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

/// Times of the hop to a worker, in seconds: 0.1 to 50 ms, and what is out of the question.
const HOP_SECONDS: [f64; 11] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.25, 1.0];

/// Peaks of queues and of lateness of a call, in seconds; five of unsent audio end it.
const QUEUE_SECONDS: [f64; 10] = [0.02, 0.04, 0.06, 0.1, 0.2, 0.4, 0.7, 1.0, 2.5, 5.0];

/// What `hop_seconds` is.
const HOP: &str = "From a frame's being read to its being handed on: of the caller to a worker, of the agent to Twilio";

/// Lengths of calls, in seconds.
const CALL_SECONDS: [f64; 10] = [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// 8000 samples of mu-law a second.
const SAMPLES_PER_SECOND: f64 = 8000.0;

/// Errors of Twilio's that have a label of their own (twilio.com/docs/api/errors); the rest is `other`.
const STREAM_ERRORS: [&str; 8] = ["31901", "31902", "31910", "31920", "31921", "31924", "31941", "other"];

/// What became of calls that were to be placed.
const OUTBOUND: [&str; 4] = ["placed", "refused", "unknown", "called_off"];

/// Everything that the gateway tells Prometheus; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Instruments>);

#[derive(Debug)]
struct Instruments {
    register: Register,
    live_calls: IntGauge,
    calls_limit: IntGauge,
    announced_calls: IntGauge,
    pending_sockets: IntGauge,
    workers: IntGauge,
    draining: IntGauge,
    outbound_waiting: IntGauge,
    events_waiting: IntGauge,
    calls: IntCounterVec,
    call_seconds: Histogram,
    refused: IntCounterVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    stream_errors: IntCounterVec,
    outbound: IntCounterVec,
    events: IntCounterVec,
    worker_open_seconds: Histogram,
    caller_audio_seconds: Counter,
    caller_dropped_seconds: Counter,
    caller_gap_seconds: Counter,
    agent_audio_seconds: Counter,
    agent_interrupted_seconds: Counter,
    clears: IntCounter,
    malformed: IntCounter,
    handshakes_failed: IntCounter,
    expiry: IntGaugeVec,
    dropped_spans: IntCounter,
    caller_hop: SpreadTotal,
    agent_hop: SpreadTotal,
    caller_lag_seconds: Histogram,
    caller_queue_seconds: Histogram,
    agent_queue_seconds: Histogram,
}

/// How long frames of one call were here: from their being read to their being handed on.
#[derive(Debug, Default)]
pub(crate) struct Hops {
    /// From the media socket to the worker's stream.
    pub(crate) caller: Spread,
    /// From the worker's stream to the media socket.
    pub(crate) agent: Spread,
}

/// What is looked up when Prometheus asks.
#[derive(Debug)]
pub(crate) struct Now {
    /// Media sockets, and how many calls there may be.
    pub(crate) live: u32,
    pub(crate) limit: u32,
    /// Before they are calls.
    pub(crate) room: Room,
    /// The gateway takes no more calls.
    pub(crate) is_draining: bool,
    /// Workers that DNS names.
    pub(crate) workers: usize,
    /// Outbound calls that wait for their turn.
    pub(crate) outbound_waiting: usize,
    /// Events for users' webhooks.
    pub(crate) events: Counts,
    /// Connections to workers on which one of the two did not trust the other.
    pub(crate) handshakes_failed: u64,
    /// When the certificates expire.
    pub(crate) expiry: Option<Expiry>,
    /// Spans that no collector got.
    pub(crate) dropped_spans: u64,
}

impl Metrics {
    /// Everything at zero.
    ///
    /// # Errors
    /// When a name is used twice or is none.
    pub(crate) fn new() -> Result<Self, metrics::Error> {
        let names = Register::new("tandem_gateway", env!("CARGO_PKG_VERSION"))?;
        let metrics = Self(Arc::new(Instruments {
            live_calls: names.gauge("live_calls", "Media sockets that are open")?,
            calls_limit: names.gauge("calls_limit", "MAX_CALLS")?,
            announced_calls: names
                .gauge("announced_calls", "Calls whose webhook was answered and whose stream did not come yet")?,
            pending_sockets: names.gauge("pending_sockets", "Media sockets that have shown no ticket")?,
            workers: names.gauge("workers", "Workers that WORKER_URL stands for")?,
            draining: names.gauge("draining", "1 while no new calls are taken")?,
            outbound_waiting: names.gauge("outbound_waiting_calls", "Outbound calls that wait for their turn")?,
            events_waiting: names.gauge("events_waiting", "Events that their webhook has not taken yet")?,
            calls: names.counters("calls_total", "Media streams that ended, by why", &["reason"])?,
            call_seconds: names.histogram("call_seconds", "Length of media streams", &CALL_SECONDS)?,
            refused: names.counters("refused_total", "Calls and sockets for which there was no room", &["reason"])?,
            requests: names.counters("http_requests_total", "Requests answered", &["route", "status"])?,
            request_seconds: names.histograms(
                "http_request_seconds",
                "From a request's head to its answer",
                &REQUEST_SECONDS,
                "route",
            )?,
            stream_errors: names.counters(
                "stream_errors_total",
                "Streams that Twilio could not open or keep",
                &["code"],
            )?,
            outbound: names.counters("outbound_calls_total", "Calls that were to be placed", &["outcome"])?,
            events: names.counters("events_total", "Events for users' webhooks", &["outcome"])?,
            worker_open_seconds: names.histogram(
                "worker_open_seconds",
                "From asking for a worker to its being ready",
                &HOP_SECONDS,
            )?,
            caller_audio_seconds: names.seconds("caller_audio_seconds_total", "Audio that came from callers")?,
            caller_dropped_seconds: names
                .seconds("caller_dropped_seconds_total", "Audio of callers that no worker took in time")?,
            caller_gap_seconds: names.seconds("caller_gap_seconds_total", "Time for which Twilio sent no audio")?,
            agent_audio_seconds: names.seconds("agent_audio_seconds_total", "Audio that went to callers")?,
            agent_interrupted_seconds: names
                .seconds("agent_interrupted_seconds_total", "Audio of agents dropped by interruptions")?,
            clears: names.counter("clears_total", "Interruptions: audio that Twilio was told to throw away")?,
            malformed: names.counter("malformed_messages_total", "Messages on media sockets that make no sense")?,
            handshakes_failed: names.counter(
                "worker_handshakes_failed_total",
                "Connections to workers on which one of the two did not trust the other",
            )?,
            expiry: names.gauges(
                "certificate_not_after_timestamp_seconds",
                "When the certificate between the pair, and its authority, expire, since the Unix epoch",
                &["of"],
            )?,
            dropped_spans: names.counter("dropped_spans_total", "Spans that no collector got")?,
            caller_hop: names.spread("hop_seconds", HOP, ("audio", "caller"))?,
            agent_hop: names.spread("hop_seconds", HOP, ("audio", "agent"))?,
            caller_lag_seconds: names.histogram(
                "caller_lag_peak_seconds",
                "How late a call's audio came at worst",
                &QUEUE_SECONDS,
            )?,
            caller_queue_seconds: names.histogram(
                "caller_queue_peak_seconds",
                "Longest queue of a call to its worker",
                &QUEUE_SECONDS,
            )?,
            agent_queue_seconds: names.histogram(
                "agent_queue_peak_seconds",
                "Longest queue of a call to Twilio",
                &QUEUE_SECONDS,
            )?,
            register: names,
        }));
        metrics.0.begin();
        Ok(metrics)
    }

    /// A call counted `stats`, of which `told` was told before, and `hops`, which are taken.
    pub(crate) fn call_counted(&self, stats: &Stats, told: &Stats, hops: &mut Hops) {
        let at = &*self.0;
        let new = |of: fn(&Stats) -> u64| of(stats).saturating_sub(of(told));
        at.caller_audio_seconds.inc_by(seconds(new(|stats| stats.caller_samples)));
        at.caller_dropped_seconds.inc_by(seconds(new(|stats| stats.dropped_caller_samples)));
        at.caller_gap_seconds.inc_by(Duration::from_millis(new(|stats| stats.gap_ms)).as_secs_f64());
        at.agent_audio_seconds.inc_by(seconds(new(|stats| stats.agent_samples)));
        at.agent_interrupted_seconds.inc_by(seconds(new(|stats| stats.interrupted_samples)));
        at.clears.inc_by(new(|stats| stats.clears));
        at.malformed.inc_by(new(|stats| stats.malformed));
        at.caller_hop.take(&mut hops.caller);
        at.agent_hop.take(&mut hops.agent);
    }

    /// A media stream ended, and everything that it counted was told.
    pub(crate) fn call_ended(&self, reason: &'static str, lasted: Duration, stats: &Stats) {
        let at = &*self.0;
        at.calls.with_label_values(&[reason]).inc();
        at.call_seconds.observe(lasted.as_secs_f64());
        if stats.caller_frames > 0 {
            at.caller_lag_seconds.observe(Duration::from_millis(stats.caller_lag_peak_ms).as_secs_f64());
            at.caller_queue_seconds.observe(seconds(stats.caller_queue_peak_samples));
            at.agent_queue_seconds.observe(seconds(stats.agent_queue_peak_samples));
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, path: &str, status: u16, took: Duration) {
        let route = route(path);
        self.0.requests.with_label_values(&[route, status_label(status)]).inc();
        self.0.request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// A worker took a call.
    pub(crate) fn worker_opened(&self, took: Duration) {
        self.0.worker_open_seconds.observe(took.as_secs_f64());
    }

    /// Twilio told of a stream's error, in its own words, which name a code where Twilio has one.
    pub(crate) fn stream_error(&self, words: &str) {
        let code = STREAM_ERRORS.into_iter().find(|code| words.contains(code)).unwrap_or("other");
        self.0.stream_errors.with_label_values(&[code]).inc();
    }

    /// An outbound call was placed, or was not.
    pub(crate) fn dialled(&self, outcome: Outcome) {
        self.0.outbound.with_label_values(&[outcome.label()]).inc();
    }

    /// The answer to Prometheus, in its text format.
    pub(crate) fn text(&self, now: &Now) -> String {
        let at = &*self.0;
        at.live_calls.set(now.live.into());
        at.calls_limit.set(now.limit.into());
        at.announced_calls.set(now.room.announced.into());
        at.pending_sockets.set(now.room.pending_sockets.into());
        at.draining.set(now.is_draining.into());
        at.workers.set(count(now.workers));
        at.outbound_waiting.set(count(now.outbound_waiting));
        at.events_waiting.set(count(now.events.waiting));
        raise(&at.handshakes_failed, now.handshakes_failed);
        raise(&at.dropped_spans, now.dropped_spans);
        metrics::tell_expiry(&at.expiry, now.expiry);
        for (reason, total) in &now.room.refused {
            raise(&at.refused.with_label_values(&[reason]), *total);
        }
        let events =
            [("delivered", now.events.delivered), ("given_up", now.events.given_up), ("dropped", now.events.dropped)];
        for (outcome, total) in events {
            raise(&at.events.with_label_values(&[outcome]), total);
        }
        at.register.text()
    }
}

/// What became of an outbound call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Placed,
    Refused,
    /// It may have been placed.
    Unknown,
    CalledOff,
}

impl Outcome {
    const fn label(self) -> &'static str {
        let [placed, refused, unknown, called_off] = OUTBOUND;
        match self {
            Self::Placed => placed,
            Self::Refused => refused,
            Self::Unknown => unknown,
            Self::CalledOff => called_off,
        }
    }
}

impl Instruments {
    /// Series whose labels are known begin at zero, so that the first of their kind is an increase.
    fn begin(&self) {
        for reason in Reason::ALL {
            self.refused.with_label_values(&[reason.label()]);
        }
        for reason in EndReason::LABELS {
            self.calls.with_label_values(&[reason]);
        }
        for code in STREAM_ERRORS {
            self.stream_errors.with_label_values(&[code]);
        }
        for outcome in OUTBOUND {
            self.outbound.with_label_values(&[outcome]);
        }
    }
}

/// The route of a path as a label: a few words, whatever is asked for.
fn route(path: &str) -> &'static str {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next(), parts.next()) {
        (Some("voice"), None) | (Some("twiml"), None) | (Some("voice"), Some("incoming")) => "/voice/incoming",
        (Some("voice"), Some("after")) => "/voice/after",
        (Some("voice"), Some("dialled")) => "/voice/dialled",
        (Some("voice"), Some("outbound")) => "/voice/outbound",
        (Some("voice"), Some("status")) => "/voice/status",
        (Some("voice"), Some("amd")) => "/voice/amd",
        (Some("voice"), Some("stream-status")) => "/voice/stream-status",
        (Some("voice"), Some("stream")) | (Some("ws"), _) => "/voice/stream",
        (Some("v1"), Some("calls")) | (Some("call"), Some("outbound")) => "/v1/calls",
        (Some("health"), None) => "/health",
        _ => "other",
    }
}

/// A status as a label.
fn status_label(status: u16) -> &'static str {
    match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        429 => "429",
        402..500 => "4xx",
        503 => "503",
        _ => "5xx",
    }
}

fn seconds(samples: u64) -> f64 {
    samples as f64 / SAMPLES_PER_SECOND
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Now {
        let room = Room { announced: 2, pending_sockets: 3, refused: [("max_calls", 4)].into() };
        let events = Counts { delivered: 5, given_up: 6, dropped: 7, waiting: 8 };
        let expiry = Some(Expiry { certificate: Some(4_102_444_800), authority: None });
        let (live, limit, workers, handshakes_failed, dropped_spans) = (1, 9, 2, 10, 11);
        Now {
            live,
            limit,
            room,
            is_draining: false,
            workers,
            outbound_waiting: 0,
            events,
            handshakes_failed,
            expiry,
            dropped_spans,
        }
    }

    #[test]
    fn what_happened_is_told_once_however_often_it_is_asked_for() {
        let metrics = Metrics::new().unwrap();
        let stats = Stats {
            caller_frames: 1,
            caller_samples: 12_000,
            dropped_caller_samples: 800,
            clears: 2,
            ..Stats::default()
        };
        let mut hops = Hops::default();
        hops.caller.note(Duration::from_micros(300));
        let earlier = Stats { caller_samples: 4000, clears: 2, ..Stats::default() };
        metrics.call_counted(&earlier, &Stats::default(), &mut hops);
        hops.caller.note(Duration::from_millis(2));
        metrics.call_counted(&stats, &earlier, &mut hops);
        metrics.call_ended("caller_hangup", Duration::from_secs(2), &stats);
        metrics.answered("/voice/incoming", 200, Duration::from_micros(300));
        metrics.answered("/voice/status/call_1", 404, Duration::from_micros(300));
        metrics.answered("/wp-login.php", 404, Duration::from_micros(300));
        metrics.stream_error("31920 - WebSocket - Handshake Error");
        metrics.stream_error("who knows");
        metrics.dialled(Outcome::Unknown);
        metrics.worker_opened(Duration::from_micros(700));
        metrics.text(&now());
        let text = metrics.text(&now());
        for line in [
            "tandem_gateway_live_calls 1",
            "tandem_gateway_calls_limit 9",
            "tandem_gateway_announced_calls 2",
            "tandem_gateway_calls_total{reason=\"caller_hangup\"} 1",
            "tandem_gateway_caller_audio_seconds_total 1.5",
            "tandem_gateway_caller_dropped_seconds_total 0.1",
            "tandem_gateway_clears_total 2",
            "tandem_gateway_refused_total{reason=\"max_calls\"} 4",
            "tandem_gateway_events_total{outcome=\"given_up\"} 6",
            "tandem_gateway_http_requests_total{route=\"/voice/incoming\",status=\"2xx\"} 1",
            "tandem_gateway_http_requests_total{route=\"/voice/status\",status=\"404\"} 1",
            "tandem_gateway_http_requests_total{route=\"other\",status=\"404\"} 1",
            "tandem_gateway_stream_errors_total{code=\"31920\"} 1",
            "tandem_gateway_stream_errors_total{code=\"other\"} 1",
            "tandem_gateway_stream_errors_total{code=\"31910\"} 0",
            "tandem_gateway_outbound_calls_total{outcome=\"unknown\"} 1",
            "tandem_gateway_worker_handshakes_failed_total 10",
            "tandem_gateway_dropped_spans_total 11",
            "tandem_gateway_certificate_not_after_timestamp_seconds{of=\"certificate\"} 4102444800",
            "tandem_gateway_hop_seconds_bucket{audio=\"caller\",le=\"0.0005\"} 1",
            "tandem_gateway_hop_seconds_count{audio=\"caller\"} 2",
            "tandem_gateway_hop_seconds_count{audio=\"agent\"} 0",
            "tandem_gateway_worker_open_seconds_bucket{le=\"0.001\"} 1",
            "tandem_gateway_worker_open_seconds_bucket{le=\"0.0005\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
