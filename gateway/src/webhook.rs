//! What Twilio asks over HTTP: verify, admit, answer TwiML.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use telemetry::shards::Seat;
use warp::{Reply, reply::Response};

use crate::{
    call::{self, Surroundings, since_epoch},
    calls::{After, Phase},
    config::{Fallback, is_dialable},
    problem::Problem,
    socket::{self, BadHandshake, Socket},
    ticket::{self, Nonce},
    twilio::{
        signature::{self, Body},
        twiml::{self, Twiml},
    },
};

/// Header of the signature.
const SIGNATURE: &str = "x-twilio-signature";

/// Twilio's limit for the value of a `<Parameter>`, in characters.
const PARAMETER_CHARS: usize = 499;

/// One request of Twilio's, not yet believed.
#[derive(Debug)]
pub(crate) struct Webhook {
    /// Path and query as they came.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The decoded fields of a request that Twilio signed.
struct Signed(Vec<(String, String)>);

impl Signed {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn call_sid(&self) -> Result<&str, Problem> {
        let is_sid = |sid: &&str| (1..=64).contains(&sid.len()) && sid.bytes().all(|byte| byte.is_ascii_alphanumeric());
        self.get("CallSid").filter(is_sid).ok_or(Problem::Field("CallSid"))
    }
}

/// A call comes in: the TwiML that connects it.
pub(crate) fn incoming(around: &Surroundings, webhook: &Webhook) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    let Surroundings { config, calls, .. } = around;
    if calls.phase() != Phase::Open {
        tracing::info!(call_sid, "call refused: draining");
        return Ok(fallback(&config.fallback));
    }
    if calls.is_full() {
        tracing::warn!(call_sid, "call refused: MAX_CALLS are live");
        return Ok(xml(&Twiml::Busy));
    }
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(|_| Problem::Internal)?;
    let ticket = around.ticket_key.mint(call_sid, since_epoch(), nonce);
    let is_voice = webhook.target.split('?').next().is_some_and(|path| path.trim_end_matches('/') == "/voice");
    let stream = if is_voice {
        // A label for logs and proxies, fresh for each call; the ticket is the secret.
        format!("/ws/twilio/{:016x}", getrandom::u64().map_err(|_| Problem::Internal)?)
    } else {
        "/voice/stream".to_owned()
    };
    let short = |name| signed.get(name).unwrap_or_default().chars().take(PARAMETER_CHARS).collect::<String>();
    let (from, to) = (short("From"), short("To"));
    let parameters = [(ticket::PARAMETER, ticket.as_str()), ("from", &from), ("to", &to)];
    calls.expect(call_sid);
    tracing::info!(call_sid, "call incoming");
    Ok(xml(&Twiml::Connect {
        stream: &config.origin.websocket(&stream),
        after: &config.origin.http("/voice/after"),
        status: &config.origin.http("/voice/stream-status"),
        parameters: &parameters,
    }))
}

/// A stream ended: what comes next.
pub(crate) fn after(around: &Surroundings, webhook: &Webhook) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    Ok(match around.calls.after(call_sid) {
        After::Hangup => xml(&Twiml::Hangup),
        After::Transfer(to) if is_dialable(&to) => xml(&Twiml::Dial(&to)),
        After::Transfer(_) => {
            tracing::warn!(call_sid, "the agent asked for a transfer to what is no number in E.164 and no SIP address");
            fallback(&around.config.fallback)
        }
        After::Fallback => {
            tracing::info!(call_sid, "caller gets the fallback");
            fallback(&around.config.fallback)
        }
    })
}

/// Twilio tells how a stream fares: the only sign of a handshake that never reached us.
pub(crate) fn stream_status(around: &Surroundings, webhook: &Webhook) -> Result<Response, Problem> {
    let signed = verify(around, webhook)?;
    let call_sid = signed.call_sid()?;
    match signed.get("StreamEvent") {
        Some("stream-error") => {
            let error: String =
                signed.get("StreamError").unwrap_or("not said").chars().filter(|c| !c.is_control()).take(200).collect();
            tracing::warn!(call_sid, error, "Twilio could not stream");
        }
        event => tracing::debug!(call_sid, event, "stream status"),
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Twilio opens the media socket.
pub(crate) fn stream(
    around: Surroundings,
    target: &str,
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
    seat: Arc<Seat>,
) -> Result<Response, Problem> {
    let answer = socket::handshake(headers)?;
    let upgrade = upgrade.ok_or(BadHandshake::NotAnUpgrade)?;
    check(&around, around.config.origin.websocket(target), headers, Body::Empty)?;
    let place = around.calls.admit().ok_or(Problem::NoPlace)?;
    tokio::spawn(async move {
        match Socket::accept(upgrade).await {
            Ok(socket) => call::run(socket, place, around).await,
            Err(error) => tracing::debug!(%error, "a handshake was not finished"),
        }
        // The call counted on its shard until here.
        drop(seat);
    });
    Ok(answer.map(|()| "").into_response())
}

/// The documented body, exactly, its order included.
pub(crate) fn health(around: &Surroundings) -> Response {
    let mut response =
        Response::new(format!(r#"{{"status":"healthy","active_connections":{}}}"#, around.calls.live()).into());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn verify(around: &Surroundings, Webhook { target, headers, body }: &Webhook) -> Result<Signed, Problem> {
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

fn fallback(fallback: &Fallback) -> Response {
    match fallback {
        Fallback::Say(words) if words.is_empty() => xml(&Twiml::Hangup),
        Fallback::Say(words) => xml(&Twiml::Say(words)),
        Fallback::Dial(to) => xml(&Twiml::Dial(to.expose())),
    }
}

fn xml(twiml: &Twiml<'_>) -> Response {
    let mut response = Response::new(twiml.write().into());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(twiml::CONTENT_TYPE));
    response
}
