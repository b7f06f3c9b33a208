//! The queue in virtual time: full and late batches, a collector that refuses or hangs, the end.

use std::{
    future::pending,
    sync::{Mutex, PoisonError},
};

use opentelemetry::{
    InstrumentationScope, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::{error::OTelSdkError, trace::SpanLinks};
use tokio::time::Instant;

use super::*;

/// A collector that answers as it is told, and notes when how many spans came.
#[derive(Debug)]
struct Collector {
    begun: Instant,
    batches: Mutex<Vec<(u64, usize)>>,
    answer: Answer,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Good,
    Refuses,
    Hangs,
}

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let after = u64::try_from(self.begun.elapsed().as_millis()).unwrap();
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push((after, batch.len()));
        match self.answer {
            Answer::Good => Ok(()),
            Answer::Refuses => Err(OTelSdkError::InternalFailure("refused".to_owned())),
            Answer::Hangs => pending().await,
        }
    }
}

const BATCHING: Batching =
    Batching { delay: Duration::from_millis(100), queue: 8, batch: 4, export_limit: Duration::from_millis(1000) };

fn span(flags: TraceFlags) -> SpanData {
    SpanData {
        span_context: SpanContext::new(TraceId::from(1), SpanId::from(1), flags, false, TraceState::NONE),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "span".into(),
        start_time: std::time::UNIX_EPOCH,
        end_time: std::time::UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

/// Puts spans in at their times (ms), ends at `end`, and answers what came when, and how many were dropped.
async fn run(answer: Answer, spans: &[(u64, usize)], end: u64) -> (Vec<(u64, usize)>, u64) {
    let (inlet, outlet) = queue(BATCHING);
    let begun = now();
    let collector = Collector { begun, batches: Mutex::default(), answer };
    let (stop, dropped) = (CancellationToken::new(), Arc::clone(&inlet.dropped));
    let feed = async {
        for (at, count) in spans {
            tokio::time::sleep_until(begun + Duration::from_millis(*at)).await;
            for _ in 0..*count {
                inlet.on_end(span(TraceFlags::SAMPLED));
                inlet.on_end(span(TraceFlags::default()));
            }
        }
        tokio::time::sleep_until(begun + Duration::from_millis(end)).await;
        stop.cancel();
    };
    tokio::join!(outlet.run(&collector, &stop), feed);
    (collector.batches.into_inner().unwrap(), dropped.load(Ordering::Relaxed))
}

#[expect(clippy::disallowed_methods, reason = "a paused clock")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn a_batch_leaves_when_it_is_full_or_late_and_the_rest_at_the_end() {
    let spans = [(0, 4), (10, 1), (60, 1), (200, 6), (250, 1)];
    let (batches, dropped) = run(Answer::Good, &spans, 260).await;
    assert_eq!((batches, dropped), (vec![(0, 4), (110, 2), (200, 4), (260, 3)], 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_collector_refuses_is_counted_and_the_next_is_tried() {
    let (batches, dropped) = run(Answer::Refuses, &[(0, 1), (500, 2)], 900).await;
    assert_eq!((batches, dropped), (vec![(100, 1), (600, 2)], 3));
}

#[tokio::test(start_paused = true)]
async fn behind_a_collector_that_hangs_the_queue_stays_bounded() {
    // Four are with the collector for a second, eight wait, and all others are dropped.
    let (batches, dropped) = run(Answer::Hangs, &[(0, 4), (10, 1000)], 500).await;
    assert_eq!(batches, [(0, 4), (1000, 4), (2000, 4)]);
    assert_eq!(dropped, 992 + 12);
}
