//! A call as the API and the events show it.

use std::time::Duration;

use humantime::format_rfc3339_millis;
use serde_json::{Value, json};

use crate::{
    call::at,
    registry::{Record, Stream},
    session::Stats,
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
    })
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
