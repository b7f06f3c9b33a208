//! Why a request is not answered as it hoped, in the words of problem details (RFC 9457). The only place that chooses an
//! HTTP status.

use std::convert::Infallible;

use http::{StatusCode, header};
use serde_json::json;
use warp::{
    Rejection, Reply,
    reject::{LengthRequired, MethodNotAllowed, PayloadTooLarge},
    reply::Response,
};

use crate::socket::BadHandshake;

/// Why a request is not answered as it hoped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error(
        "the request was not signed by the owner of TWILIO_AUTH_TOKEN for {url}; check the token and that the public address is the one in Twilio's console"
    )]
    Signature { url: String },
    #[error("the request is of another account than TWILIO_ACCOUNT_SID")]
    Account,
    #[error("field {0} is missing or not an id of Twilio's")]
    Field(&'static str),
    #[error("{0}")]
    Handshake(#[from] BadHandshake),
    #[error("this gateway holds as many media sockets as it takes, or is about to stop")]
    NoPlace,
    #[error("there is nothing here; voice webhooks go to /voice/incoming")]
    NotFound,
    #[error("this address does not take that method; configure the webhook as HTTP POST")]
    Method,
    #[error("Content-Length is needed")]
    Length,
    #[error("the request is too large")]
    TooLarge,
    #[error("the request did not come in time")]
    Late,
    #[error("the request could not be answered")]
    Internal,
}

impl Problem {
    const fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Signature { .. } => (StatusCode::FORBIDDEN, "signature_invalid"),
            Self::Account => (StatusCode::FORBIDDEN, "account_unknown"),
            Self::Field(_) => (StatusCode::BAD_REQUEST, "field_invalid"),
            Self::Handshake(BadHandshake::NotAnUpgrade) => (StatusCode::UPGRADE_REQUIRED, "websocket_expected"),
            Self::Handshake(_) => (StatusCode::BAD_REQUEST, "handshake_invalid"),
            Self::NoPlace => (StatusCode::SERVICE_UNAVAILABLE, "gateway_full"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Length => (StatusCode::LENGTH_REQUIRED, "length_required"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Late => (StatusCode::REQUEST_TIMEOUT, "request_late"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl Reply for Problem {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let body = json!({"type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "code": code, "detail": self.to_string()});
        let mut response = Response::new(body.to_string().into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        if let Self::Handshake(BadHandshake::NotAnUpgrade) = self {
            headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        }
        response
    }
}

/// Gives warp's own rejections the form of all others.
pub(crate) async fn recover(rejection: Rejection) -> Result<Problem, Infallible> {
    // A path that no route knows is rejected as such even when some route disliked the method.
    Ok(if rejection.is_not_found() {
        Problem::NotFound
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        Problem::Method
    } else if rejection.find::<LengthRequired>().is_some() {
        Problem::Length
    } else if rejection.find::<PayloadTooLarge>().is_some() {
        Problem::TooLarge
    } else {
        Problem::Internal
    })
}
