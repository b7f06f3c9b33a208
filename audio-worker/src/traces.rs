//! The spans of the worker, with all their attributes: a conversation, and each utterance of the agent's and each turn
//! below it. None carries a number or a word of anybody.

use telemetry::traces::{TARGET, TRACEPARENT, TraceContext, count};
use tonic::metadata::MetadataMap;
use tracing::{Span, field::Empty, info_span};

use crate::{
    conversation::Seen,
    turn::{EndReason, Stats, ToGateway},
};

mod reported;
mod turns;

pub(crate) use reported::ReportedTurns;
pub(crate) use turns::{TurnSpans, TurnStage};

/// Utterances of one conversation that have a span; the others are only counted.
const MAX_UTTERANCES: u64 = 1000;

/// A conversation that begins, below the span that the gateway names in its request.
pub(crate) fn conversation(metadata: &MetadataMap) -> Span {
    let span = info_span!(
        target: TARGET,
        parent: None,
        "conversation",
        otel.kind = "server",
        otel.status_code = Empty,
        call_id = Empty,
        agent = Empty,
        end_reason = Empty,
        heard_ms = Empty,
        gap_ms = Empty,
        said_ms = Empty,
        utterances = Empty,
        interrupts = Empty,
        late_peak_ms = Empty,
    );
    // Whatever else it says is no trace to go on with.
    if let Some(parent) = metadata.get(TRACEPARENT).and_then(|text| text.to_str().ok()?.parse::<TraceContext>().ok()) {
        parent.adopt(&span);
    }
    span
}

/// What the conversation is about; both printable.
pub(crate) fn describe(span: &Span, call_id: &str, agent: &str) {
    span.record("call_id", call_id).record("agent", agent);
}

/// It does not come about.
pub(crate) fn refused(span: &Span) {
    span.record("end_reason", "refused").record("otel.status_code", "ERROR");
}

/// How the conversation ended.
pub(crate) fn ended(span: &Span, reason: EndReason, is_fault: bool, turn: &Stats, seen: &Seen) {
    if span.is_disabled() {
        return;
    }
    span.record("end_reason", reason.label());
    if is_fault {
        span.record("otel.status_code", "ERROR");
    }
    for (name, number) in [
        ("heard_ms", seen.heard_samples / 8),
        ("gap_ms", seen.gap_ms),
        ("said_ms", turn.sent_samples / 8),
        ("utterances", turn.utterances),
        ("interrupts", turn.interrupts),
    ] {
        count(span, name, number.into());
    }
    count(span, "late_peak_ms", turn.late_peak.as_millis());
}

/// The agent's utterances of one conversation, as they leave for the gateway: each from its first audio to its end, or to
/// the interrupt that ends it.
#[derive(Debug)]
pub(crate) struct Utterances {
    below: Option<TraceContext>,
    begun: u64,
    /// Boxed: nearly all conversations have none.
    open: Option<Box<Utterance>>,
}

#[derive(Debug)]
struct Utterance {
    number: u64,
    span: Span,
    samples: u64,
}

impl Utterances {
    /// Below the conversation, where that is kept.
    pub(crate) fn below(conversation: &Span) -> Self {
        let below = TraceContext::of(conversation).filter(|context| context.is_sampled());
        Self { below, begun: 0, open: None }
    }

    /// Looks at a message before it leaves.
    pub(crate) fn watch(&mut self, message: &ToGateway) {
        let Some(below) = self.below else { return };
        match message {
            ToGateway::Audio { utterance, mulaw, .. } => {
                if self.open.as_ref().is_none_or(|open| open.number != *utterance) {
                    self.begin(below, *utterance);
                }
                if let Some(open) = &mut self.open {
                    open.samples += mulaw.len() as u64;
                }
            }
            ToGateway::UtteranceEnd { utterance } => self.end(*utterance, false),
            ToGateway::Interrupt { utterance } => self.end(*utterance, true),
            ToGateway::Hangup { .. }
            | ToGateway::Transfer { .. }
            | ToGateway::Instructed { .. }
            | ToGateway::Report { .. }
            | ToGateway::Draining(_) => {}
        }
    }

    fn begin(&mut self, below: TraceContext, number: u64) {
        self.open = None;
        self.begun += 1;
        if self.begun > MAX_UTTERANCES {
            if self.begun == MAX_UTTERANCES + 1 {
                tracing::debug!(MAX_UTTERANCES, "further utterances of a conversation have no span");
            }
            return;
        }
        let span = info_span!(
            target: TARGET,
            parent: None,
            "utterance",
            number = i64::try_from(number).unwrap_or(i64::MAX),
            sent_ms = Empty,
            interrupted = Empty
        );
        below.adopt(&span);
        self.open = Some(Box::new(Utterance { number, span, samples: 0 }));
    }

    /// All up to this utterance are over.
    fn end(&mut self, number: u64, interrupted: bool) {
        if let Some(open) = self.open.take_if(|open| open.number <= number) {
            open.span.record("interrupted", interrupted);
        }
    }
}

impl Drop for Utterance {
    fn drop(&mut self) {
        count(&self.span, "sent_ms", u128::from(self.samples / 8));
    }
}

#[cfg(test)]
mod tests;
