//! Why a request is not answered as it hoped, in the words of problem details (RFC 9457). The only place that chooses an
//! HTTP status.

use std::{borrow::Cow, convert::Infallible, time::Duration};

use http::{StatusCode, header};
use serde_json::json;
use warp::{
    Rejection, Reply,
    reject::{LengthRequired, MethodNotAllowed, PayloadTooLarge},
    reply::Response,
};

use crate::{carrier::CarrierError, outbound::guard::Reached, registry::Refusal, socket::BadHandshake};

/// When a queue or a gateway that is full is worth another try.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

/// Why a request is not answered as it hoped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error(
        "the request was not signed by the owner of TWILIO_AUTH_TOKEN for {url}; check the token and that the public address is the one in Twilio's console"
    )]
    Signature { url: String },
    #[error("the request is of another account than TWILIO_ACCOUNT_SID")]
    Account,
    #[error("field {0} is missing or not what Twilio sends there")]
    Field(&'static str),
    #[error("{0}")]
    Handshake(#[from] BadHandshake),
    #[error("this gateway holds as many media sockets as it takes, or is about to stop")]
    NoPlace,
    #[error("there is no room for another call now ({0}); try again in a moment")]
    NoRoom(&'static str),
    #[error("this page is not the gateway's own: open it at {0}/call (TWILIO_VOICE_WEBHOOK_URL)")]
    ForeignOrigin(String),
    #[error("this is a call from a browser, which no carrier can hand to a number")]
    BrowserCall,
    #[error("this gateway never saw that call, or has forgotten it; ids are listed by GET /v1/calls")]
    CallUnknown,
    #[error("the calls API is off; set API_TOKENS to turn it on")]
    ApiOff,
    #[error("a token of API_TOKENS is needed, as `Authorization: Bearer TOKEN`")]
    Unauthorized,
    #[error("too many requests with this token (API_REQUESTS_PER_SECOND); come back in {} s", .wait.as_secs())]
    TooManyRequests { wait: Duration },
    #[error("the body must be sent as Content-Type: application/json")]
    MediaType,
    #[error("the body is not what this request takes: {0}")]
    Body(Cow<'static, str>),
    #[error("{field} {what}")]
    Invalid { field: &'static str, what: Cow<'static, str> },
    #[error("this number may not be called; OUTBOUND_ALLOW and OUTBOUND_DENY say which may")]
    Destination,
    #[error("status_webhook {0}")]
    Webhook(&'static str),
    #[error("calls are connected to media streams of this gateway and of the hosts in OUTBOUND_STREAM_HOSTS only")]
    StreamHost,
    #[error("{0}")]
    AgentUnknown(String),
    #[error("no audio-worker can be reached, so nobody would talk to whoever answers; see WORKER_URL")]
    NoWorker,
    #[error("{0}; the call was not placed")]
    Limit(Reached),
    #[error("OUTBOUND_QUEUE calls wait already; the call was not placed")]
    QueueFull,
    #[error("this gateway is about to stop; ask another")]
    Draining,
    #[error("this Idempotency-Key came with another request before; use a new key for a new call")]
    KeyReused,
    #[error("the call of this Idempotency-Key ended, and is forgotten; use a new key for a new call")]
    CallForgotten,
    #[error("the call is over, so nothing can be changed; GET /v1/calls/{{id}} tells how it ended")]
    CallOver,
    #[error("the call has no live media stream here (yet, or any more), so there is nobody to tell that")]
    NotLive,
    #[error("the call has more unanswered instructions than it takes; wait for some to be answered")]
    CallBusy,
    #[error("the agent did not answer in time; the instruction may still be carried out")]
    AgentSilent,
    #[error("the agent cannot do that: {0}")]
    InstructionUnsupported(String),
    #[error("the agent cannot take that: {0}")]
    InstructionInvalid(String),
    #[error("{}", carrier_detail(.error))]
    Carrier { error: CarrierError, call: Option<String> },
    #[error("Twilio could not be asked to end the call ({0}); it may go on, so ask again")]
    NotEnded(CarrierError),
    #[error(
        "there is nothing here; voice webhooks go to /voice/incoming, and /v1/openapi.json describes the calls API"
    )]
    NotFound,
    #[error("this address takes {allowed} only; Twilio's console must say so of a webhook")]
    Method { allowed: &'static str },
    #[error("Content-Length is needed; a body in chunks is not taken")]
    Length,
    #[error("the body is too large; at most 64 KiB of form and 128 KiB of JSON are taken")]
    TooLarge,
    #[error("the request did not come, or could not be answered, within 15 s; send it again")]
    Late,
    #[error("the gateway failed to answer for a reason of its own; send the request again")]
    Internal,
}

impl Problem {
    pub(crate) const fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Signature { .. } => (StatusCode::FORBIDDEN, "signature_invalid"),
            Self::Account => (StatusCode::FORBIDDEN, "account_unknown"),
            Self::Field(_) => (StatusCode::BAD_REQUEST, "field_invalid"),
            Self::Handshake(BadHandshake::NotAnUpgrade) => (StatusCode::UPGRADE_REQUIRED, "websocket_expected"),
            Self::Handshake(_) => (StatusCode::BAD_REQUEST, "handshake_invalid"),
            Self::NoPlace => (StatusCode::SERVICE_UNAVAILABLE, "gateway_full"),
            Self::NoRoom(_) => (StatusCode::SERVICE_UNAVAILABLE, "gateway_full"),
            Self::ForeignOrigin(_) => (StatusCode::FORBIDDEN, "origin_foreign"),
            Self::BrowserCall => (StatusCode::CONFLICT, "browser_call"),
            Self::CallUnknown => (StatusCode::NOT_FOUND, "call_unknown"),
            Self::ApiOff => (StatusCode::SERVICE_UNAVAILABLE, "api_off"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::TooManyRequests { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type"),
            Self::Body(_) => (StatusCode::BAD_REQUEST, "body_invalid"),
            Self::Invalid { .. } => (StatusCode::BAD_REQUEST, "field_invalid"),
            Self::Destination => (StatusCode::FORBIDDEN, "destination_not_allowed"),
            Self::Webhook(_) => (StatusCode::FORBIDDEN, "webhook_not_allowed"),
            Self::StreamHost => (StatusCode::FORBIDDEN, "stream_host_not_allowed"),
            Self::AgentUnknown(_) => (StatusCode::UNPROCESSABLE_ENTITY, "agent_unknown"),
            Self::NoWorker => (StatusCode::SERVICE_UNAVAILABLE, "no_worker"),
            Self::Limit(_) => (StatusCode::TOO_MANY_REQUESTS, "spend_limit"),
            Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "queue_full"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Self::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
            Self::CallForgotten => (StatusCode::GONE, "call_forgotten"),
            Self::CallOver => (StatusCode::CONFLICT, "call_over"),
            Self::NotLive => (StatusCode::CONFLICT, "call_not_live"),
            Self::CallBusy => (StatusCode::CONFLICT, "call_busy"),
            Self::AgentSilent => (StatusCode::GATEWAY_TIMEOUT, "agent_silent"),
            Self::InstructionUnsupported(_) => (StatusCode::CONFLICT, "instruction_unsupported"),
            Self::InstructionInvalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "instruction_invalid"),
            Self::Carrier { error, .. } => (carrier_status(error), carrier_code(error)),
            Self::NotEnded(_) => (StatusCode::BAD_GATEWAY, "not_ended"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::Method { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Length => (StatusCode::LENGTH_REQUIRED, "length_required"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Late => (StatusCode::REQUEST_TIMEOUT, "request_late"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl Problem {
    /// When it is worth asking again, where that is known.
    const fn retry_after(&self) -> Option<Duration> {
        if let Self::TooManyRequests { wait }
        | Self::Carrier { error: CarrierError::Throttled { retry_after: Some(wait) }, .. }
        | Self::NotEnded(CarrierError::Throttled { retry_after: Some(wait) }) = self
        {
            return Some(*wait);
        }
        if matches!(self, Self::QueueFull | Self::NoRoom(_)) { Some(QUEUE_WAIT) } else { None }
    }
}

impl From<CarrierError> for Problem {
    fn from(error: CarrierError) -> Self {
        Self::Carrier { error, call: None }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Limit(reached) => Self::Limit(reached),
            Refusal::KeyReused => Self::KeyReused,
        }
    }
}

const fn carrier_status(error: &CarrierError) -> StatusCode {
    match error {
        CarrierError::NotConfigured(_) | CarrierError::Throttled { .. } => StatusCode::SERVICE_UNAVAILABLE,
        CarrierError::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        CarrierError::NotFound { .. }
        | CarrierError::Credentials { .. }
        | CarrierError::Unreachable { .. }
        | CarrierError::Unknown { .. } => StatusCode::BAD_GATEWAY,
    }
}

/// The stable word for what went wrong between us and Twilio.
pub(crate) const fn carrier_code(error: &CarrierError) -> &'static str {
    match error {
        CarrierError::NotConfigured(_) => "twilio_not_configured",
        CarrierError::Throttled { .. } => "twilio_throttled",
        CarrierError::Refused { .. } => "twilio_refused",
        CarrierError::NotFound { .. } => "twilio_not_found",
        CarrierError::Credentials { .. } => "twilio_credentials",
        CarrierError::Unreachable { .. } => "twilio_unreachable",
        CarrierError::Unknown { .. } => "may_have_dialled",
    }
}

/// Twilio's number for it (twilio.com/docs/api/errors).
pub(crate) const fn twilio_code(error: &CarrierError) -> Option<u32> {
    match error {
        CarrierError::Refused { code, .. }
        | CarrierError::NotFound { code }
        | CarrierError::Credentials { code, .. } => *code,
        CarrierError::NotConfigured(_)
        | CarrierError::Throttled { .. }
        | CarrierError::Unreachable { .. }
        | CarrierError::Unknown { .. } => None,
    }
}

/// What went wrong and what to do, for whoever asked; Twilio's own words may name a number.
pub(crate) fn carrier_detail(error: &CarrierError) -> String {
    match error {
        CarrierError::NotConfigured(what) => format!("calls cannot be placed: {what} is not set"),
        CarrierError::Throttled { .. } => {
            "Twilio answered 429 for as long as was tried; the call was not placed. OUTBOUND_CALLS_PER_SECOND should \
             be your account's limit"
                .to_owned()
        }
        CarrierError::Refused { message, .. } => format!("Twilio refused: {}", message.expose()),
        CarrierError::NotFound { .. } => {
            "Twilio does not know that account or call; check TWILIO_ACCOUNT_SID and TWILIO_REGION".to_owned()
        }
        CarrierError::Credentials { message, .. } => format!(
            "Twilio did not accept the credentials ({}); check TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN, or \
             TWILIO_API_KEY with TWILIO_API_SECRET",
            message.expose()
        ),
        CarrierError::Unreachable { what } => format!("Twilio could not be reached ({what}); the call was not placed"),
        CarrierError::Unknown { what } => format!(
            "Twilio's answer was lost ({what}): the call may have been dialled. Do not simply try again: GET \
             /v1/calls/{{id}} shows it as soon as Twilio calls back, and Twilio's console lists it under Monitor, Logs, \
             Calls"
        ),
    }
}

impl Reply for Problem {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let mut body = json!({"type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "code": code, "detail": self.to_string()});
        if let Self::Carrier { error, call } = &self {
            body["call_id"] = json!(call);
            body["twilio_code"] = json!(twilio_code(error));
            if let CarrierError::Refused { more_info, .. } = error {
                body["more_info"] = json!(more_info);
            }
        }
        let mut response = Response::new(body.to_string().into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        if let Self::Handshake(BadHandshake::NotAnUpgrade) = self {
            headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        }
        if let Self::Method { allowed } = self {
            headers.insert(header::ALLOW, header::HeaderValue::from_static(allowed));
        }
        if let Self::Unauthorized = self {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}

/// Gives warp's own rejections the form of all others.
pub(crate) async fn recover(rejection: Rejection) -> Result<Problem, Infallible> {
    // Addresses that exist have answered for a wrong method; what is left of it is of routes that another address has.
    Ok(if rejection.find::<LengthRequired>().is_some() {
        Problem::Length
    } else if rejection.find::<PayloadTooLarge>().is_some() {
        Problem::TooLarge
    } else if rejection.is_not_found() || rejection.find::<MethodNotAllowed>().is_some() {
        Problem::NotFound
    } else {
        Problem::Internal
    })
}
