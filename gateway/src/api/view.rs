//! A call as the API and the events show it.

use std::time::Duration;

use humantime::format_rfc3339_millis;
use serde_json::{Value, json};
use telemetry::traces::TraceContext;

use crate::{
    call::at,
    registry::{Entry, Record, Stream},
    session::Stats,
    worker::Cost,
};

/// A call in JSON at `now`, with what was counted, where that is known.
pub(crate) fn view(record: &Record, counters: Option<&Stats>, now: Duration) -> Value {
    let time = |since_epoch: Option<Duration>| since_epoch.map(|time| format_rfc3339_millis(at(time)).to_string());
    let times = &record.times;
    let stream = match record.stream {
        Stream::Awaited => "awaited",
        Stream::Live if record.held => "held",
        Stream::Live => "live",
        Stream::Over => "over",
    };
    let error = record
        .fault
        .as_ref()
        .map(|fault| json!({"code": fault.code, "twilio_code": fault.twilio_code, "detail": fault.detail.expose()}));
    json!({
        "id": record.id,
        "call_sid": record.call_sid,
        "direction": record.direction.label(),
        "status": record.status.label(),
        "stream": stream,
        "from": record.from.expose(),
        "to": record.to.expose(),
        "agent": record.agent,
        "language": record.language,
        "parameters": record.parameters.expose(),
        "answered_by": record.answered_by,
        "created_at": time(Some(times.created)),
        "dialled_at": time(times.dialled),
        "answered_at": time(times.answered),
        "stream_began_at": time(times.stream_began),
        "stream_ended_at": time(times.stream_ended),
        "ended_at": time(times.ended),
        "talk_s": record.talk_s(now),
        "end_reason": record.end_reason,
        "error": error,
        "counters": counters.or(record.stats.as_deref()).map(count),
        "costs": record.costs.iter().map(cost).collect::<Vec<_>>(),
    })
}

/// What providers cost, for the API and for a page.
pub(crate) fn cost(Cost { stage, provider, counts }: &Cost) -> Value {
    let mut told = json!({ "stage": stage, "provider": provider });
    for (name, count) in counts {
        told[name] = (*count).into();
    }
    told
}

/// All that is known of a call, in JSON at `now`: no audio, no secrets, and no numbers, so that it can be shown around.
pub(crate) fn bundle(record: &Record, counters: Option<&Stats>, now: Duration) -> Value {
    let mut call = view(record, counters, now);
    if let Some(call) = call.as_object_mut() {
        for told_elsewhere in ["from", "to", "parameters", "counters"] {
            call.remove(told_elsewhere);
        }
        // Twilio's words may name the number called.
        if let Some(error) = call.get_mut("error").and_then(Value::as_object_mut) {
            error.remove("detail");
        }
    }
    let entry = |entry: &Entry| {
        let after = entry.at.saturating_sub(record.times.created);
        json!({
            "at": format_rfc3339_millis(at(entry.at)).to_string(),
            "after_ms": u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            "what": entry.what,
            "detail": entry.detail,
        })
    };
    json!({
        "gateway_version": env!("CARGO_PKG_VERSION"),
        "trace_id": record.trace.and_then(TraceContext::trace_id).map(|id| id.to_string()),
        "call": call,
        "timeline": record.timeline.entries().iter().map(entry).collect::<Vec<_>>(),
        "timeline_dropped": record.timeline.dropped(),
        "counters": counters.or(record.stats.as_deref()).map(count_all),
    })
}

/// Everything that a session counts.
fn count_all(stats: &Stats) -> Value {
    let mut counters = count(stats);
    let rest = json!({
        "agent_queue_peak_ms": stats.agent_queue_peak_samples / 8,
        "caller_lag_peak_ms": stats.caller_lag_peak_ms,
        "dropped_control": stats.dropped_control,
        "late_chunks": stats.late_chunks,
        "marks_foreign": stats.marks_foreign,
        "marks_sent": stats.marks_sent,
        "out_of_place": stats.out_of_place,
        "repeated_chunks": stats.repeated_chunks,
        "stale_ms": stats.stale_samples / 8,
        "unknown_events": stats.unknown_events,
        "wrong_stream": stats.wrong_stream,
    });
    if let (Some(counters), Value::Object(rest)) = (counters.as_object_mut(), rest) {
        counters.extend(rest);
    }
    counters
}

/// Samples are told as milliseconds.
fn count(stats: &Stats) -> Value {
    json!({
        "caller_frames": stats.caller_frames,
        "caller_ms": stats.caller_samples / 8,
        "caller_queue_peak_ms": stats.caller_queue_peak_samples / 8,
        "dropped_caller_ms": stats.dropped_caller_samples / 8,
        "gaps": stats.gaps,
        "gap_ms": stats.gap_ms,
        "missing_chunks": stats.missing_chunks,
        "malformed": stats.malformed,
        "agent_frames": stats.agent_frames,
        "agent_ms": stats.agent_samples / 8,
        "interrupted_ms": stats.interrupted_samples / 8,
        "clears": stats.clears,
        "marks_played": stats.marks_played,
        "marks_cleared": stats.marks_cleared,
    })
}
