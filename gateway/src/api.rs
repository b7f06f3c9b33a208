//! The calls API: place, list, look at, steer and end calls.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{sync::oneshot, time::timeout};
use warp::reply::Response;

use crate::{
    call::{Directive, Surroundings, since_epoch},
    calls::Phase,
    carrier::CarrierError,
    outbound::{Dialled, PATIENCE, QueueFull},
    problem::Problem,
    registry::{Direction, Fingerprint, Known, Record, Registry, Status, Stream},
    session::{Instructed, Instruction, Order, Stats},
    twilio::rest::End,
};

pub(crate) mod access;
mod field;
mod json;
mod request;
mod view;

pub(crate) use access::Access;
use request::{Change, Page, idempotency_key};
pub(crate) use request::{NewBrowserCall, NewCall};
pub(crate) use view::{cost, view};

/// The description of this API, OpenAPI 3.1.
pub(crate) const OPENAPI: &str = include_str!("../openapi.json");

/// How long the task of a call, and its worker, may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// One request to the API, not yet allowed.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// `POST /v1/calls`.
pub(crate) async fn create(around: Surroundings, asked: Asked) -> Result<Response, Problem> {
    let owner = enter(&around, &asked)?;
    let key = idempotency_key(&asked.headers)?;
    let call = NewCall::read(&asked.headers, &asked.body, &around.config)?;
    place(&around, owner, &asked, key, call).await
}

/// `POST /call/outbound?to_number=…&websocket_url=…`.
pub(crate) async fn create_by_query(around: Surroundings, asked: Asked) -> Result<Response, Problem> {
    let owner = enter(&around, &asked)?;
    let key = idempotency_key(&asked.headers)?;
    let call = NewCall::read_query(&asked.query, &around.config)?;
    place(&around, owner, &asked, key, call).await
}

/// `GET /v1/calls`.
pub(crate) fn list(around: &Surroundings, asked: &Asked) -> Result<Response, Problem> {
    enter(around, asked)?;
    let Page { which, limit, before } = Page::read(&asked.query)?;
    let (page, next) = around.registry.page(which, before, limit);
    let now = since_epoch();
    let calls: Vec<_> = page.iter().map(|record| view(record, None, now)).collect();
    let next = next.map(|number| number.to_string());
    Ok(answer(StatusCode::OK, &json!({"calls": calls, "next_cursor": next})))
}

/// `GET /v1/calls/{id}`.
pub(crate) async fn get(around: Surroundings, id: String, asked: Asked) -> Result<Response, Problem> {
    enter(&around, &asked)?;
    let (record, counters) = looked_up(&around, &id).await?;
    Ok(answer(StatusCode::OK, &view(&record, counters.as_ref(), since_epoch())))
}

/// `GET /v1/calls/{id}/debug`: all that is known of a call, for whoever looks for what went wrong.
pub(crate) async fn debug(around: Surroundings, id: String, asked: Asked) -> Result<Response, Problem> {
    enter(&around, &asked)?;
    let (record, counters) = looked_up(&around, &id).await?;
    Ok(answer(StatusCode::OK, &view::bundle(&record, counters.as_ref(), since_epoch())))
}

/// `PATCH /v1/calls/{id}`.
pub(crate) async fn change(around: Surroundings, id: String, asked: Asked) -> Result<Response, Problem> {
    enter(&around, &asked)?;
    let change = Change::read(&asked.headers, &asked.body, &around.config)?;
    let record = around.registry.get(&id).ok_or(Problem::CallUnknown)?;
    if record.is_over() {
        return Err(Problem::CallOver);
    }
    match change {
        Change::Transfer(_) if record.from_browser => return Err(Problem::BrowserCall),
        Change::Transfer(to) => order(&record, Order::Transfer(to))?,
        Change::Instruct(what) => instruct(&around, &record, what).await?,
    }
    shown(&around.registry, &record.id, StatusCode::OK)
}

/// `DELETE /v1/calls/{id}`: one that is gone already counts as ended.
pub(crate) async fn end(around: Surroundings, id: String, asked: Asked) -> Result<Response, Problem> {
    enter(&around, &asked)?;
    let wanted = around.registry.change(&id, |record, now| {
        record.unwanted = true;
        if record.status != Status::Waiting {
            return (record.clone(), None);
        }
        record.end_reason = Some("api_hangup");
        let event = record.enter(Status::Canceled, now);
        (record.clone(), event)
    });
    let record = wanted.ok_or(Problem::CallUnknown)?;
    let is_told = record.is_over() || order(&record, Order::Hangup).is_ok();
    if !is_told && record.from_browser {
        around.calls.forget(record.call_sid.as_deref().unwrap_or_default());
        around.registry.change(&id, |record, now| {
            record.end_reason.get_or_insert("api_hangup");
            ((), record.enter(Status::Canceled, now))
        });
    // While Twilio is asked to place it there is nothing to end yet; whoever asks ends it then.
    } else if !is_told && let Some(call_sid) = &record.call_sid {
        // Twilio may throttle for longer than anybody waits for an answer; it is asked on.
        let Ok(ended) = timeout(PATIENCE, around.outbound.end(call_sid, End::Completed)).await else {
            return shown(&around.registry, &id, StatusCode::ACCEPTED);
        };
        ended.map_err(not_ended)?;
        around.registry.change(&id, |record, _| {
            record.end_reason.get_or_insert("api_hangup");
            ((), None)
        });
        around.registry.settle(&id);
    }
    Ok(Response::new(Bytes::new().into())).map(|mut response| {
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    })
}

/// `GET /v1/openapi.json`, for everybody.
pub(crate) fn describe() -> Response {
    let mut response = Response::new(OPENAPI.into());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// A call, and what its task counted so far.
async fn looked_up(around: &Surroundings, id: &str) -> Result<(Record, Option<Stats>), Problem> {
    let record = around.registry.get(id).ok_or(Problem::CallUnknown)?;
    let (sender, counted) = oneshot::channel();
    let is_asked = record.line.as_ref().is_some_and(|line| line.try_send(Box::new(Directive::Count(sender))).is_ok());
    // A call that ends meanwhile leaves its counters in the record.
    let counters = if is_asked { timeout(ANSWER_LIMIT, counted).await.ok().and_then(Result::ok) } else { None };
    let record = if counters.is_some() { record } else { around.registry.get(id).unwrap_or(record) };
    Ok((record, counters))
}

async fn place(
    around: &Surroundings,
    owner: access::Owner,
    asked: &Asked,
    key: Option<String>,
    call: NewCall,
) -> Result<Response, Problem> {
    let key = key.map(|key| ((owner, key), fingerprint(asked)));
    if let Some((key, fingerprint)) = &key {
        match around.registry.known(key, fingerprint) {
            Known::Same(id) => return shown(&around.registry, &id, StatusCode::OK),
            Known::Other => return Err(Problem::KeyReused),
            Known::Nothing => {}
        }
    }
    if around.calls.phase() != Phase::Open {
        return Err(Problem::Draining);
    }
    around.outbound.ready()?;
    if call.stream_url.is_none() {
        check_agent(around, &call.agent).await?;
    }
    let record = record(around, &call)?;
    let id = record.id.clone();
    if let Some(same) = around.registry.place(record, key)? {
        return shown(&around.registry, &same, StatusCode::OK);
    }
    let is_first = around.outbound.backlog() == 0;
    let dialled = around.outbound.dial(id.clone(), call).map_err(|QueueFull| {
        around.registry.withdraw(&id);
        Problem::QueueFull
    })?;
    if !is_first {
        return shown(&around.registry, &id, StatusCode::ACCEPTED);
    }
    match timeout(PATIENCE, dialled).await {
        Ok(Ok(Dialled::Placed)) => shown(&around.registry, &id, StatusCode::CREATED),
        Ok(Ok(Dialled::Failed(error))) => Err(Problem::Carrier { error, call: Some(id) }),
        Ok(Ok(Dialled::CalledOff) | Err(_)) | Err(_) => shown(&around.registry, &id, StatusCode::ACCEPTED),
    }
}

fn record(around: &Surroundings, call: &NewCall) -> Result<Record, Problem> {
    let id = Registry::new_id().ok_or(Problem::Internal)?;
    let (from, to) = (call.from.expose().clone(), call.to.expose().clone());
    let mut record = Record::new(id, Direction::Outbound, from, to, since_epoch());
    record.agent.clone_from(&call.agent);
    record.language.clone_from(&call.language);
    record.parameters = call.parameters.clone();
    record.webhook = call.webhook.clone().or_else(|| around.config.events.url.clone());
    record.stream_url.clone_from(&call.stream_url);
    Ok(record)
}

/// Nobody is called for an agent that no worker has.
pub(crate) async fn check_agent(around: &Surroundings, agent: &str) -> Result<(), Problem> {
    let known = around.dialer.agents().await.map_err(|_| Problem::NoWorker)?;
    if known.iter().any(|name| name == agent) {
        return Ok(());
    }
    Err(Problem::AgentUnknown(format!("no worker has the agent {agent:?}; there are: {}", known.join(", "))))
}

async fn instruct(around: &Surroundings, record: &Record, what: Instruction) -> Result<(), Problem> {
    let line = record.line.as_ref().ok_or(Problem::NotLive)?;
    let (sender, answer) = oneshot::channel();
    line.try_send(Box::new(Directive::Instruct(what.clone(), sender))).map_err(|_| Problem::CallBusy)?;
    let outcome = timeout(ANSWER_LIMIT, answer).await.map_err(|_| Problem::AgentSilent)?;
    match (outcome.unwrap_or(Instructed::TooLate), what) {
        (Instructed::Done, what) => {
            around.registry.change(&record.id, |record, now| {
                record.timeline.note(now, "instruction", what.label());
                match what {
                    Instruction::ChangeAgent(agent) => record.agent = agent,
                    Instruction::Hold => record.held = true,
                    Instruction::Resume => record.held = false,
                    Instruction::Say(_) | Instruction::PlayDigits(_) => {}
                }
                ((), None)
            });
            Ok(())
        }
        (Instructed::Unsupported(what), Instruction::Say(_)) if record.from_browser => {
            Err(Problem::InstructionUnsupported(what))
        }
        // An agent without a voice: the carrier has one, at the price of a new stream.
        (Instructed::Unsupported(_), Instruction::Say(words)) => order(record, Order::CarrierSay(words)),
        (Instructed::Unsupported(what), _) => Err(Problem::InstructionUnsupported(what)),
        (Instructed::Invalid(what), _) => Err(Problem::InstructionInvalid(what)),
        (Instructed::UnknownAgent(why), _) => Err(Problem::AgentUnknown(why)),
        (Instructed::TooLate, _) => Err(Problem::NotLive),
    }
}

fn order(record: &Record, order: Order) -> Result<(), Problem> {
    if record.stream != Stream::Live {
        return Err(Problem::NotLive);
    }
    let line = record.line.as_ref().ok_or(Problem::NotLive)?;
    line.try_send(Box::new(Directive::Order(order))).map_err(|_| Problem::CallBusy)
}

fn not_ended(error: CarrierError) -> Problem {
    match error {
        CarrierError::Throttled { .. } | CarrierError::Unreachable { .. } | CarrierError::Unknown { .. } => {
            Problem::NotEnded(error)
        }
        CarrierError::NotConfigured(_)
        | CarrierError::Refused { .. }
        | CarrierError::Credentials { .. }
        | CarrierError::NotFound { .. } => error.into(),
    }
}

fn shown(registry: &Registry, id: &str, status: StatusCode) -> Result<Response, Problem> {
    let record = registry.get(id).ok_or(Problem::CallForgotten)?;
    Ok(answer(status, &view(&record, None, since_epoch())))
}

pub(crate) fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

pub(crate) fn enter(around: &Surroundings, asked: &Asked) -> Result<access::Owner, Problem> {
    around.access.enter(&asked.headers, now())
}

/// Of everything that makes one request for a call differ from another.
fn fingerprint(asked: &Asked) -> Fingerprint {
    Sha256::new().chain_update(&asked.query).chain_update([0]).chain_update(&asked.body).finalize().into()
}

#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
