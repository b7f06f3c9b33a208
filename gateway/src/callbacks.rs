//! What Twilio tells of a call beside it: how it fares, who answered, how its stream fares. Each is signed like a webhook.

use http::StatusCode;
use warp::{Reply, reply::Response};

use crate::{
    call::{ANSWERED_BY, Directive, Surroundings},
    problem::Problem,
    registry::{Report, Status},
    session::Order,
    webhook::{Webhook, verify},
};

/// Longest word of Twilio's that is kept.
const MAX_WORD_CHARS: usize = 64;

/// How a call fares. Callbacks come in any order and more than once.
pub(crate) fn status(around: &Surroundings, id: Option<&str>, webhook: &Webhook) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    let status = signed.get("CallStatus").and_then(Status::parse).ok_or(Problem::Field("CallStatus"))?;
    let number = |name| signed.get(name).and_then(|text| text.parse().ok());
    let report =
        Report { status: Some(status), sequence: number("SequenceNumber"), duration_s: number("CallDuration") };
    known(around, id, call_sid)?;
    around.registry.change(call_sid, |record, now| ((), record.report(report, now)));
    if status.is_terminal() {
        // Whoever hung up before the stream came is not waited for.
        around.calls.forget(call_sid);
    }
    tracing::debug!(call_sid, status = status.label(), "call status");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Who answered: a person, a machine, a fax. The agent is told.
pub(crate) fn answering_machine(
    around: &Surroundings,
    id: Option<&str>,
    webhook: &Webhook,
) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    let is_word = |word: &&str| {
        (1..=MAX_WORD_CHARS).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let answered_by = signed.get("AnsweredBy").filter(is_word).ok_or(Problem::Field("AnsweredBy"))?;
    known(around, id, call_sid)?;
    let line = around.registry.change(call_sid, |record, now| {
        let is_news = record.answered_by.is_none();
        record.timeline.note(now, "answered_by", "");
        record.answered_by.get_or_insert_with(|| answered_by.to_owned());
        // Without a stream it waits in the record.
        (record.line.clone().filter(|_| is_news), is_news.then_some("call.answered_by"))
    });
    if let Some(Some(line)) = line {
        let notice = Directive::Order(Order::Notice(ANSWERED_BY, answered_by.to_owned()));
        if line.try_send(Box::new(notice)).is_err() {
            tracing::warn!(call_sid, "the agent could not be told who answered: the call is busy or over");
        }
    }
    tracing::info!(call_sid, answered_by, "answering machine detection");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Twilio tells how a stream fares: the only sign of a handshake that never reached us.
pub(crate) fn stream_status(around: &Surroundings, webhook: &Webhook) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    match signed.get("StreamEvent") {
        Some("stream-error") => {
            let error: String =
                signed.get("StreamError").unwrap_or("not said").chars().filter(|c| !c.is_control()).take(200).collect();
            around.metrics.stream_error(&error);
            around.registry.change(call_sid, |record, now| {
                record.timeline.note(now, "stream_error", "");
                ((), None)
            });
            tracing::warn!(call_sid, error, "Twilio could not stream");
        }
        event => tracing::debug!(call_sid, event, "stream status"),
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The call that a callback is about must be known: by the id in its address, or by its CallSid, which must then be the
/// same call.
fn known(around: &Surroundings, id: Option<&str>, call_sid: &str) -> Result<(), Problem> {
    let is_known = match id {
        Some(id) => around
            .registry
            .change(id, |record, _| (record.call_sid.get_or_insert_with(|| call_sid.to_owned()) == call_sid, None)),
        None => around.registry.read(call_sid, |_| true),
    };
    if is_known == Some(true) { Ok(()) } else { Err(Problem::CallUnknown) }
}
