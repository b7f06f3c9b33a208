//! The beginning of a media stream: whether it may begin, and what the worker is told of it.

use std::collections::BTreeMap;

use proto::v1;
use telemetry::traces::{self, TRACEPARENT, TraceContext};

use super::{Surroundings, since_epoch};
use crate::{
    config::Config,
    registry::{Record, Registry},
    routes, ticket,
    twilio::message::Start,
};

/// Checks the ticket of a stream, and spends it.
pub(super) fn authorize(
    Surroundings { config, calls, ticket_key, registry, .. }: &Surroundings,
    kind: ticket::Kind,
    start: &Start,
) -> Result<(), ticket::Refused> {
    if kind == ticket::Kind::Phone && !config.require_ticket {
        return Ok(());
    }
    let shown = start.parameters.get(ticket::PARAMETER).ok_or(ticket::Refused::Missing)?;
    let good = ticket_key.check(kind, shown, &start.call_sid, since_epoch())?;
    // Nobody but us ends the call of a browser before it began, and then it does not begin any more.
    let is_over = || registry.read(&start.call_sid, Record::is_over).unwrap_or(true);
    if kind == ticket::Kind::Browser && is_over() {
        return Err(ticket::Refused::Expired);
    }
    calls.spend(good, since_epoch())
}

/// The beginning of a browser's stream as TwiML would have told it: what the page says of agent and parameters is
/// nothing, what it was given the ticket for is.
pub(super) fn of_browser(registry: &Registry, start: Start) -> Start {
    let told = registry.read(&start.call_sid, |record| {
        let mut parameters = record.parameters.expose().clone();
        for (name, value) in [
            ("from", record.from.expose()),
            ("to", record.to.expose()),
            (routes::AGENT, &record.agent),
            (routes::LANGUAGE, &record.language),
        ] {
            parameters.insert(name.to_owned(), value.clone());
        }
        parameters
    });
    Start { parameters: told.unwrap_or_default(), ..start }
}

/// The trace that the TwiML of this call says it is part of: believed where a ticket showed that the TwiML is ours.
pub(super) fn announced_trace(config: &Config, start: &Start) -> Option<TraceContext> {
    start.parameters.get(TRACEPARENT).filter(|_| config.require_ticket)?.parse().ok()
}

/// What the worker is told of the call, from the `<Parameter>`s of our TwiML.
pub(super) fn opening(start: Start, default_agent: &str, trace: Option<TraceContext>) -> v1::Open {
    let mut parameters: BTreeMap<_, _> = start.parameters;
    parameters.remove(ticket::PARAMETER);
    parameters.remove(TRACEPARENT);
    let mut take = |name| parameters.remove(name).unwrap_or_default();
    let (from, to, agent, language) = (take("from"), take("to"), take(routes::AGENT), take(routes::LANGUAGE));
    let direction = match take(routes::DIRECTION).as_str() {
        "outbound" => v1::Direction::Outbound,
        _ => v1::Direction::Inbound,
    };
    tracing::info!(
        call_sid = start.call_sid,
        stream_sid = start.stream_sid,
        trace_id = traces::logged(trace),
        "call began"
    );
    v1::Open {
        call_id: start.call_sid,
        stream_id: start.stream_sid,
        from,
        to,
        direction: direction.into(),
        codec: v1::Codec::Mulaw8000.into(),
        agent: if agent.is_empty() { default_agent.to_owned() } else { agent },
        language,
        parameters: parameters.into_iter().take(routes::MAX_PARAMETERS).collect(),
        checkpoint: None,
    }
}
