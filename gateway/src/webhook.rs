//! What Twilio asks over HTTP: verify, admit, answer TwiML.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, header};
use telemetry::traces::{TRACEPARENT, TraceContext};
use tracing::Span;
use warp::reply::Response;

use crate::{
    admission::{Reason, Refused},
    call::{Knock, Surroundings, admit, now, since_epoch},
    config::{Config, Fallback, Overload, is_dialable},
    problem::Problem,
    registry::{After, Direction, Record, Status},
    routes::{self, Incoming},
    ticket::{self, Nonce},
    traces,
    twilio::{
        signature::{self, Body},
        twiml::{self, Twiml},
    },
};

/// Header of the signature.
const SIGNATURE: &str = "x-twilio-signature";

/// One request of Twilio's, not yet believed.
#[derive(Debug)]
pub(crate) struct Webhook {
    /// Path and query as they came.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The decoded fields of a request that Twilio signed.
pub(crate) struct Signed(Vec<(String, String)>);

impl Signed {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn call_sid(&self) -> Result<&str, Problem> {
        let is_sid = |sid: &&str| (1..=64).contains(&sid.len()) && sid.bytes().all(|byte| byte.is_ascii_alphanumeric());
        self.get("CallSid").filter(is_sid).ok_or(Problem::Field("CallSid"))
    }
}

/// A call comes in: the TwiML that connects it.
pub(crate) fn incoming(around: &Surroundings, webhook: &Webhook) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    traced(around, "/voice/incoming", call_sid, call_sid, |span| {
        announced(around, &signed, call_sid, &webhook.target, span)
    })
}

fn announced(
    around: &Surroundings,
    signed: &Signed,
    call_sid: &str,
    target: &str,
    span: &Span,
) -> Result<Response, Problem> {
    let Surroundings { config, calls, .. } = around;
    if let Err(refused) = calls.announce(call_sid, now()) {
        return Ok(turn_away(config, call_sid, refused));
    }
    let of = |name| twiml::fitting(name, signed.get(name).unwrap_or_default());
    let mut taken = None;
    around.registry.incoming(call_sid, &of("From"), &of("To"), |record| {
        record.trace = TraceContext::of(span);
        taken = route(around, signed, target, record);
    });
    let is_voice = target.split('?').next().is_some_and(|path| path.trim_end_matches('/') == "/voice");
    tracing::info!(call_sid, route = taken, "call incoming");
    connect(around, call_sid, is_voice, None, span)
}

/// Somebody answered a call that we placed: the TwiML that connects it.
pub(crate) fn outbound(around: &Surroundings, id: &str, webhook: &Webhook) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    traced(around, "/voice/outbound/{id}", call_sid, id, |span| {
        picked_up(around, id, call_sid, span, || adopt(around, id, call_sid, &signed, &queried(&webhook.target), span))
    })
}

/// `adopt` takes over a call that is not known, and says whether it could.
fn picked_up(
    around: &Surroundings,
    id: &str,
    call_sid: &str,
    span: &Span,
    adopt: impl Fn() -> bool,
) -> Result<Response, Problem> {
    let answered = around.registry.change(id, |record, now| {
        let is_ours = record.call_sid.get_or_insert_with(|| call_sid.to_owned()) == call_sid;
        let event = if is_ours { record.enter(Status::InProgress, now) } else { None };
        (is_ours.then(|| (record.stream_url.clone(), record.unwanted)), event)
    });
    match answered {
        Some(Some((_, true))) => Ok(xml(&Twiml::Hangup)),
        Some(Some((Some(elsewhere), false))) => Ok(xml(&Twiml::ConnectElsewhere(&elsewhere))),
        Some(Some((None, false))) => {
            if let Err(refused) = around.calls.hold(call_sid, now()) {
                return Ok(turn_away(&around.config, call_sid, refused));
            }
            tracing::info!(call_sid, call = id, "outbound call answered");
            connect(around, call_sid, false, None, span)
        }
        Some(None) => Err(Problem::CallUnknown),
        // Somebody is on the line whom this gateway did not call, or has forgotten.
        None => match adopt() {
            true => picked_up(around, id, call_sid, span, adopt),
            false => {
                tracing::warn!(call_sid, "an outbound call that this gateway does not know was answered");
                Ok(fallback(&around.config))
            }
        },
    }
}

/// Takes over an answered call whose address names the agent. False when it does not.
fn adopt(around: &Surroundings, id: &str, call_sid: &str, signed: &Signed, queried: &Signed, span: &Span) -> bool {
    let Some(agent) = queried.get(routes::AGENT) else { return false };
    let of = |name| twiml::fitting(name, signed.get(name).unwrap_or_default());
    let mut record = Record::new(id.to_owned(), Direction::Outbound, of("From"), of("To"), since_epoch());
    record.call_sid = Some(call_sid.to_owned());
    agent.clone_into(&mut record.agent);
    queried.get(routes::LANGUAGE).unwrap_or_default().clone_into(&mut record.language);
    record.webhook.clone_from(&around.config.events.url);
    record.trace = TraceContext::of(span);
    around.registry.adopt(record)
}

/// What a call gets for which there is no room.
fn turn_away(config: &Config, call_sid: &str, refused: Refused) -> Response {
    let Refused { reason, count } = refused;
    if refused.is_worth_a_line() {
        tracing::warn!(call_sid, reason = reason.label(), count, "call refused");
    }
    if reason == Reason::Draining {
        return fallback(config);
    }
    match &config.overload {
        Overload::Busy => xml(&Twiml::Busy),
        Overload::Say(words) => xml(&Twiml::Say(words)),
        Overload::Queue(name) => xml(&Twiml::Enqueue(name)),
        Overload::Dial(to) => xml(&Twiml::Dial { to: to.expose(), after: &config.origin.http("/voice/dialled") }),
    }
}

/// Writes down who takes the call, and answers the place of the route that says so.
fn route(around: &Surroundings, signed: &Signed, target: &str, record: &mut Record) -> Option<usize> {
    let queried = queried(target);
    // Twilio's own fields first: what is in the address cannot pass for them.
    let parameter = |name: &str| signed.get(name).or_else(|| queried.get(name));
    let (from, to) = (signed.get("From").unwrap_or_default(), signed.get("To").unwrap_or_default());
    let routes = around.routes.current();
    let choice = routes.choose(&Incoming { to, from, parameter: &parameter });
    choice.agent.unwrap_or(&around.config.default_agent).clone_into(&mut record.agent);
    choice.language.unwrap_or_default().clone_into(&mut record.language);
    let parameters = choice.parameters.into_iter().map(|(name, value)| (name.to_owned(), twiml::fitting(name, value)));
    record.parameters = parameters.collect::<BTreeMap<_, _>>().into();
    record.webhook.clone_from(&around.config.events.url);
    choice.route
}

/// The fields in the query of a webhook's address, which the signature covers as well.
fn queried(target: &str) -> Signed {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    Signed(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

/// A stream ended: what comes next.
pub(crate) fn after(around: &Surroundings, webhook: &Webhook) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    traced(around, "/voice/after", call_sid, call_sid, |span| next(around, call_sid, span))
}

fn next(around: &Surroundings, call_sid: &str, span: &Span) -> Result<Response, Problem> {
    let dialled = around.config.origin.http("/voice/dialled");
    around.calls.forget(call_sid);
    Ok(match around.registry.after(call_sid) {
        After::Hangup => {
            around.registry.settle(call_sid);
            xml(&Twiml::Hangup)
        }
        After::Transfer(to) if is_dialable(&to) => xml(&Twiml::Dial { to: &to, after: &dialled }),
        After::Transfer(_) => {
            tracing::warn!(call_sid, "the agent asked for a transfer to what is no number in E.164 and no SIP address");
            around.registry.settle(call_sid);
            fallback(&around.config)
        }
        After::Say(words) if around.calls.hold(call_sid, now()).is_ok() => {
            connect(around, call_sid, false, Some(&words), span)?
        }
        After::Say(words) => {
            around.registry.settle(call_sid);
            xml(&Twiml::Say(&words))
        }
        After::Fallback => {
            tracing::info!(call_sid, "caller gets the fallback");
            if matches!(around.config.fallback, Fallback::Say(_)) {
                around.registry.settle(call_sid);
            }
            fallback(&around.config)
        }
    })
}

/// The number to which a call was handed has hung up, or never answered.
pub(crate) fn dialled(around: &Surroundings, webhook: &Webhook) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    traced(around, "/voice/dialled", call_sid, call_sid, |_| Ok(handed_on(around, call_sid, &signed)))
}

fn handed_on(around: &Surroundings, call_sid: &str, signed: &Signed) -> Response {
    let outcome = signed.get("DialCallStatus").unwrap_or_default();
    let was_answered = matches!(outcome, "completed" | "answered");
    tracing::info!(call_sid, was_answered, "the call that was handed on has ended");
    around.registry.settle(call_sid);
    match &around.config.fallback {
        // A caller that nobody took is told so, unless the fallback was what nobody took.
        Fallback::Say(_) if !was_answered => fallback(&around.config),
        Fallback::Say(_) | Fallback::Dial(_) => xml(&Twiml::Hangup),
    }
}

/// Twilio opens the media socket.
pub(crate) fn stream(around: Surroundings, target: &str, knock: Knock) -> Result<Response, Problem> {
    admit(around, knock, None, |around, headers| {
        check(around, around.config.origin.websocket(target), headers, Body::Empty)
    })
}

/// The documented body, exactly, its order included.
pub(crate) fn health(around: &Surroundings) -> Response {
    let mut response =
        Response::new(format!(r#"{{"status":"healthy","active_connections":{}}}"#, around.calls.live()).into());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// `<Connect>` for a call that the registry knows, with a fresh ticket.
fn connect(
    around: &Surroundings,
    call_sid: &str,
    is_voice: bool,
    say: Option<&str>,
    span: &Span,
) -> Result<Response, Problem> {
    let record = around.registry.change(call_sid, |record, now| {
        record.times.invited = Some(now);
        (record.clone(), None)
    });
    let record = record.ok_or(Problem::Internal)?;
    traces::describe(span, &record);
    let trace = TraceContext::of(span).map(|trace| trace.to_string());
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(|_| Problem::Internal)?;
    let ticket = around.ticket_key.mint(ticket::Kind::Phone, call_sid, since_epoch(), nonce);
    let stream = if is_voice {
        // A label for logs and proxies, fresh for each call; the ticket is the secret.
        format!("/ws/twilio/{:016x}", getrandom::u64().map_err(|_| Problem::Internal)?)
    } else {
        "/voice/stream".to_owned()
    };
    let mut parameters = vec![
        (ticket::PARAMETER, ticket.as_str()),
        ("from", record.from.expose()),
        ("to", record.to.expose()),
        (routes::AGENT, &record.agent),
        (routes::DIRECTION, record.direction.label()),
    ];
    if !record.language.is_empty() {
        parameters.push((routes::LANGUAGE, &record.language));
    }
    if let Some(trace) = &trace {
        parameters.push((TRACEPARENT, trace));
    }
    parameters.extend(record.parameters.expose().iter().map(|(name, value)| (name.as_str(), value.as_str())));
    Ok(xml(&Twiml::Connect {
        stream: &around.config.origin.websocket(&stream),
        after: &around.config.origin.http("/voice/after"),
        status: &around.config.origin.http("/voice/stream-status"),
        parameters: &parameters,
        say: say.map(|words| (words, record.language.as_str())),
    }))
}

/// Answers a webhook under a span of its own, below the trace of the call `id`.
fn traced(
    around: &Surroundings,
    route: &'static str,
    call_sid: &str,
    id: &str,
    answer: impl FnOnce(&Span) -> Result<Response, Problem>,
) -> Result<Response, Problem> {
    let span = traces::webhook(route, call_sid, || around.registry.trace(id));
    let answer = answer(&span);
    traces::answered(&span, &answer);
    answer
}

pub(crate) fn verify(around: &Surroundings, Webhook { target, headers, body }: &Webhook) -> Result<Signed, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_form = content_type
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    let fields: Vec<_> = if is_form { url::form_urlencoded::parse(body).into_owned().collect() } else { Vec::new() };
    let url = around.config.origin.http(target);
    check(around, url, headers, if is_form || body.is_empty() { Body::Form(&fields) } else { Body::Raw(body) })?;
    let signed = Signed(fields);
    if let Some(ours) = &around.config.account_sid
        && signed.get("AccountSid").is_some_and(|theirs| theirs != ours)
    {
        return Err(Problem::Account);
    }
    Ok(signed)
}

fn check(around: &Surroundings, url: String, headers: &HeaderMap, body: Body<'_>) -> Result<(), Problem> {
    if around.config.skip_validation {
        return Ok(());
    }
    let signature = headers.get(SIGNATURE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if signature::is_valid(&around.config.auth_tokens, &url, body, signature) {
        return Ok(());
    }
    // Without the query: it may carry what must not be logged.
    let url = url.split('?').next().unwrap_or_default().to_owned();
    tracing::warn!(url, "403: the signature does not fit this address and the configured auth tokens");
    Err(Problem::Signature { url })
}

fn fallback(config: &Config) -> Response {
    match &config.fallback {
        Fallback::Say(words) if words.is_empty() => xml(&Twiml::Hangup),
        Fallback::Say(words) => xml(&Twiml::Say(words)),
        Fallback::Dial(to) => xml(&Twiml::Dial { to: to.expose(), after: &config.origin.http("/voice/dialled") }),
    }
}

fn xml(twiml: &Twiml<'_>) -> Response {
    let mut response = Response::new(twiml.write().into());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(twiml::CONTENT_TYPE));
    response
}
