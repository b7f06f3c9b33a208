//! The end of a call: what is said to the worker and to Twilio, counted and logged.

use std::{future::poll_fn, task::Poll, time::Duration};

use telemetry::traces::logged;
use tokio::time::timeout;

use super::{Call, Page, WorkerSide, aside, now, page};
use crate::session::{CloseCode, EndReason, Input};

/// How long the peer may take to answer our close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How long the worker's stream may take to accept the farewell.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

impl Call {
    /// Tells the worker why it is over; it may be stuck, so not for long.
    pub(super) async fn say_farewell(&mut self) {
        let WorkerSide::Open(link) = std::mem::replace(&mut self.side, WorkerSide::None) else { return };
        let (session, page, call_sid) = (&mut self.session, &mut self.page, self.call_sid.as_deref());
        let registry = &self.surroundings.registry;
        let said = async {
            while let Some(message) = session.poll_worker() {
                if !link.send(message).await {
                    return;
                }
            }
            link.finish(|aside| aside::tell(aside, page.as_mut(), call_sid, registry)).await;
        };
        let _ = timeout(FAREWELL_LIMIT, said).await;
    }

    /// Flushes the close and waits for the peer's.
    pub(super) async fn close(&mut self, reason: &EndReason) {
        self.side = WorkerSide::None;
        while let Some(text) = self.page.as_mut().and_then(Page::poll) {
            self.socket.send(text);
        }
        if let Some(page) = &self.page {
            self.socket.send(page::ended(reason));
            self.socket.close(page.closing.unwrap_or(CloseCode::Failed));
        } else if !self.closed {
            self.socket.close(CloseCode::Failed);
        }
        let gone = poll_fn(|cx| {
            loop {
                // Anything else comes after the end and is not read.
                if matches!(std::task::ready!(self.socket.poll(cx)), Input::CallerGone | Input::CallerBroken) {
                    return Poll::Ready(());
                }
            }
        });
        let _ = timeout(CLOSE_LIMIT, gone).await;
    }

    pub(super) fn note_end(&mut self, reason: &EndReason) {
        let trace_id = logged(self.trace.context());
        self.trace.end(reason, self.session.stats());
        let (stats, lasted) = (self.session.stats(), now() - self.began);
        self.news.tell(&self.surroundings.metrics, stats);
        self.surroundings.metrics.call_ended(reason.label(), lasted, stats);
        tracing::info!(
            call_sid = self.call_sid,
            trace_id,
            reason = reason.label(),
            seconds = lasted.as_secs_f32(),
            caller_frames = stats.caller_frames,
            agent_frames = stats.agent_frames,
            gaps = stats.gaps,
            gap_ms = stats.gap_ms,
            missing_chunks = stats.missing_chunks,
            repeated_chunks = stats.repeated_chunks,
            late_chunks = stats.late_chunks,
            dropped_caller_ms = stats.dropped_caller_samples / 8,
            caller_lag_peak_ms = stats.caller_lag_peak_ms,
            caller_queue_peak_ms = stats.caller_queue_peak_samples / 8,
            agent_queue_peak_ms = stats.agent_queue_peak_samples / 8,
            marks_played = stats.marks_played,
            marks_cleared = stats.marks_cleared,
            clears = stats.clears,
            malformed = stats.malformed,
            out_of_place = stats.out_of_place,
            wrong_stream = stats.wrong_stream,
            unknown_events = stats.unknown_events,
            "call ended"
        );
    }
}
