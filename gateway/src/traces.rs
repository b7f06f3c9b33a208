//! The spans of the gateway, with all their attributes: a call's webhooks, its media stream, the requests to Twilio for it.
//! None carries a number, a ticket, or a word of anybody.

use std::time::Duration;

use http::Method;
use telemetry::traces::{TARGET, TraceContext, count};
use tracing::{Span, field::Empty, info_span};
use warp::reply::Response;

use crate::{
    outbound::Dialled,
    problem::{Problem, carrier_code},
    registry::{After, Direction, Record, after},
    session::{EndReason, Stats},
};

/// What `otel.status_code` says of a failure.
const ERROR: &str = "ERROR";

/// A webhook of Twilio's for a call, below what is known of it, if anything is: the first one begins the trace of a call
/// that comes in.
pub(crate) fn webhook(route: &'static str, call_sid: &str, known: impl FnOnce() -> Option<TraceContext>) -> Span {
    let span = info_span!(
        target: TARGET,
        parent: None,
        "webhook",
        otel.name = format!("POST {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = "POST",
        http.route = route,
        http.response.status_code = Empty,
        error.type = Empty,
        call_sid,
        call_id = Empty,
        agent = Empty,
        direction = Empty,
    );
    if !span.is_disabled()
        && let Some(known) = known()
    {
        known.adopt(&span);
    }
    span
}

/// What the webhook is about.
pub(crate) fn describe(span: &Span, record: &Record) {
    if !span.is_disabled() {
        span.record("call_id", &record.id).record("agent", &record.agent);
        span.record("direction", record.direction.label());
    }
}

/// How the webhook was answered.
pub(crate) fn answered(span: &Span, answer: &Result<Response, Problem>) {
    if span.is_disabled() {
        return;
    }
    let (status, why) = match answer {
        Ok(response) => (response.status(), None),
        Err(problem) => {
            let (status, code) = problem.status();
            (status, Some(code))
        }
    };
    span.record("http.response.status_code", i64::from(status.as_u16()));
    span.record("error.type", why);
    if status.is_server_error() {
        span.record("otel.status_code", ERROR);
    }
}

/// A call that is to be placed: from the request for it until Twilio has it. It begins the trace of the call.
pub(crate) fn placing(call_id: &str, agent: &str) -> Span {
    info_span!(
        target: TARGET,
        parent: None,
        "place call",
        otel.status_code = Empty,
        error.type = Empty,
        call_id,
        call_sid = Empty,
        agent,
        direction = Direction::Outbound.label(),
        outcome = Empty,
    )
}

/// The call waits for its turn.
pub(crate) fn waiting(placing: Option<TraceContext>) -> Span {
    let span = info_span!(target: TARGET, parent: None, "wait for turn");
    if let Some(placing) = placing {
        placing.adopt(&span);
    }
    span
}

/// What became of it.
pub(crate) fn placed(span: &Span, dialled: &Dialled, call_sid: Option<&str>) {
    span.record("call_sid", call_sid);
    match dialled {
        Dialled::Placed => span.record("outcome", "placed"),
        Dialled::CalledOff => span.record("outcome", "called_off"),
        Dialled::Failed(error) => {
            let outcome = if error.may_have_happened() { "unknown" } else { "refused" };
            span.record("outcome", outcome).record("error.type", carrier_code(error)).record("otel.status_code", ERROR)
        }
    };
}

/// As many calls wait as may.
pub(crate) fn not_placed(span: &Span) {
    span.record("outcome", "queue_full").record("otel.status_code", ERROR);
}

/// One request to Twilio's REST API for a call, the `made`th try. Without a trace there is none.
pub(crate) fn request(trace: Option<TraceContext>, method: &Method, path: &str, made: u32) -> Span {
    let Some(trace) = trace else { return Span::none() };
    let path = path.split('?').next().unwrap_or_default();
    let template = if path.starts_with("Calls/") { "Calls/{CallSid}.json" } else { path };
    let span = info_span!(
        target: TARGET,
        parent: None,
        "carrier request",
        otel.name = format!("{method} {template}"),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method.as_str(),
        url.template = format!("/2010-04-01/Accounts/{{AccountSid}}/{template}"),
        http.response.status_code = Empty,
        http.request.resend_count = i64::from(made.saturating_sub(1)),
        error.type = Empty,
    );
    trace.adopt(&span);
    span
}

/// Twilio answered.
pub(crate) fn responded(span: &Span, status: http::StatusCode) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
}

/// The request did not do what it should; why, as a stable word.
pub(crate) fn failed(span: &Span, why: &'static str) {
    span.record("error.type", why).record("otel.status_code", ERROR);
}

/// The media stream of a call, from its `start` to its end.
#[derive(Debug)]
pub(crate) struct Stream {
    span: Span,
    /// When the TwiML was answered that asked for it; since the Unix epoch.
    invited: Option<Duration>,
    awaits_media: bool,
}

impl Stream {
    /// One of which nothing is told.
    pub(crate) fn none() -> Self {
        Self { span: Span::none(), invited: None, awaits_media: false }
    }

    /// One that begins, below `parent`, where that is known.
    pub(crate) fn begin(
        parent: Option<TraceContext>,
        call_sid: &str,
        (call_id, direction): (&str, Direction),
        invited: Option<Duration>,
    ) -> Self {
        let span = info_span!(
            target: TARGET,
            parent: None,
            "stream",
            otel.kind = "server",
            otel.status_code = Empty,
            call_sid,
            call_id,
            agent = Empty,
            direction = direction.label(),
            end_reason = Empty,
            first_media_ms = Empty,
            worker_open_ms = Empty,
            caller_frames = Empty,
            agent_frames = Empty,
            gap_ms = Empty,
            dropped_caller_ms = Empty,
            caller_lag_peak_ms = Empty,
            caller_queue_peak_ms = Empty,
            agent_queue_peak_ms = Empty,
            clears = Empty,
        );
        if let Some(parent) = parent {
            parent.adopt(&span);
        }
        Self { awaits_media: !span.is_disabled(), span, invited }
    }

    /// Where others go on below it.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        TraceContext::of(&self.span)
    }

    /// The agent that a worker is asked for.
    pub(crate) fn agent(&self, agent: &str) {
        self.span.record("agent", agent);
    }

    /// To tell, from the task that asks, how long it took until a worker had the call.
    pub(crate) fn worker_clock(&self) -> impl FnOnce(Duration) + Send + 'static {
        let span = self.span.clone();
        move |took| count(&span, "worker_open_ms", took.as_millis())
    }

    /// Looks for the first frame of the caller's; asked at every turn of the call's loop.
    pub(crate) fn watch(&mut self, stats: &Stats, since_epoch: impl FnOnce() -> Duration) {
        if self.awaits_media && stats.caller_frames > 0 {
            self.awaits_media = false;
            if let Some(invited) = self.invited {
                count(&self.span, "first_media_ms", since_epoch().saturating_sub(invited).as_millis());
            }
        }
    }

    /// It ended.
    pub(crate) fn end(&mut self, reason: &EndReason, stats: &Stats) {
        let span = std::mem::replace(&mut self.span, Span::none());
        if span.is_disabled() {
            return;
        }
        span.record("end_reason", reason.label());
        if matches!(after(reason), After::Fallback) {
            span.record("otel.status_code", ERROR);
        }
        for (name, number) in [
            ("caller_frames", stats.caller_frames),
            ("agent_frames", stats.agent_frames),
            ("gap_ms", stats.gap_ms),
            ("dropped_caller_ms", stats.dropped_caller_samples / 8),
            ("caller_lag_peak_ms", stats.caller_lag_peak_ms),
            ("caller_queue_peak_ms", stats.caller_queue_peak_samples / 8),
            ("agent_queue_peak_ms", stats.agent_queue_peak_samples / 8),
            ("clears", stats.clears),
        ] {
            count(&span, name, number.into());
        }
    }
}
