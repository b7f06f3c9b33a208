//! What waits for the collector. Ended spans go into a bounded queue without waiting; what finds no room is dropped and
//! counted. One task sends them on in batches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Batching;

/// Makes a queue: where spans go in, and where they come out.
pub(super) fn queue(batching: Batching) -> (Inlet, Outlet) {
    let (sender, spans) = mpsc::channel(batching.queue);
    let dropped = Arc::new(AtomicU64::new(0));
    let inlet = Inlet { spans: sender, dropped: Arc::clone(&dropped) };
    (inlet, Outlet { spans, batching, dropped, told_dropped: 0, failed: 0 })
}

/// Where spans go in.
#[derive(Debug)]
pub(super) struct Inlet {
    spans: mpsc::Sender<SpanData>,
    dropped: Arc<AtomicU64>,
}

impl SpanProcessor for Inlet {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        // Counted here, told by the outlet: whoever ends a span has no time for a log.
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nothing waits here for longer than a batch takes; the last ones leave with [`super::Traces::finish`].
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Where spans come out.
#[derive(Debug)]
pub(super) struct Outlet {
    spans: mpsc::Receiver<SpanData>,
    batching: Batching,
    dropped: Arc<AtomicU64>,
    /// What was told of those dropped.
    told_dropped: u64,
    /// Batches that the collector did not take, one after the other.
    failed: u64,
}

impl Outlet {
    /// Where the spans are counted that nobody gets.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Sends batches until `stop`, and then what is left.
    pub(super) async fn run(mut self, exporter: &impl SpanExporter, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let batch = self.collect(stop).await;
            self.export(exporter, batch).await;
        }
        self.spans.close();
        loop {
            let mut batch = Vec::new();
            if self.spans.recv_many(&mut batch, self.batching.batch).await == 0 {
                return;
            }
            self.export(exporter, batch).await;
        }
    }

    /// A full batch, or what came within its time.
    async fn collect(&mut self, stop: &CancellationToken) -> Vec<SpanData> {
        let mut batch = Vec::new();
        tokio::select! {
            () = stop.cancelled() => return batch,
            _ = self.spans.recv_many(&mut batch, self.batching.batch) => {}
        }
        let enough = async {
            while batch.len() < self.batching.batch {
                let room = self.batching.batch - batch.len();
                if self.spans.recv_many(&mut batch, room).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = enough => {}
            () = stop.cancelled() => {}
            () = sleep(self.batching.delay) => {}
        }
        batch
    }

    async fn export(&mut self, exporter: &impl SpanExporter, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let spans = batch.len();
        let error = match timeout(self.batching.export_limit, exporter.export(batch)).await {
            Ok(Ok(())) => {
                self.failed = 0;
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", self.batching.export_limit.as_secs_f32())),
        };
        if let Some(error) = error {
            self.failed += 1;
            self.dropped.fetch_add(spans as u64, Ordering::Relaxed);
            // Said at each power of two, so that a collector that is away for days does not fill the log.
            if self.failed.is_power_of_two() {
                tracing::warn!(error, failed_batches = self.failed, "the collector does not take traces");
            }
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped.checked_ilog2() > self.told_dropped.checked_ilog2() {
            self.told_dropped = dropped;
            tracing::warn!(dropped, "spans are dropped: the collector is slow or away");
        }
    }
}

#[cfg(test)]
mod tests;
