//! Signed requests, as Twilio's webhook client makes them: one connection each, 15 s at most.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::time::timeout;
use url::{Url, form_urlencoded};

use super::{Code, Finding, Method, Route, sign};

/// Twilio's ceiling for a call-related webhook.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Twilio reads at most 64 KiB of TwiML.
const BODY_LIMIT: usize = 64 * 1024;

/// The server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, empty when missing.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The URL cannot be used.
    #[error("cannot use the URL {0}")]
    Url(String),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// Not answered within 15 s.
    #[error("no answer within 15 s")]
    Timeout,
    /// The answer is not HTTP, or broke off, or is too long.
    #[error("{0}")]
    Exchange(String),
}

impl HttpError {
    /// As Twilio's debugger would show it.
    pub fn finding(&self, url: &Url) -> Finding {
        let code = match self {
            Self::Connect(_) => Code::HttpConnectionFailure,
            Self::Url(_) | Self::Timeout | Self::Exchange(_) => Code::HttpRetrievalFailure,
        };
        Finding::new(code, format!("{url}: {self}"))
    }
}

/// Sends `params` to `url` over `route`, signed with `auth_token`: in the body of a POST, or in the
/// query of a GET.
pub(super) async fn request(
    route: &Route,
    method: Method,
    url: &Url,
    params: &[(String, String)],
    auth_token: &str,
) -> Result<Reply, HttpError> {
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    if method == Method::Get {
        let mut url = url.clone();
        url.query_pairs_mut().extend_pairs(params);
        let signature = sign(url.as_str(), &[], auth_token);
        return exchange(route, method, &url, Some(signature), String::new()).await;
    }
    let signature = sign(url.as_str(), params, auth_token);
    exchange(route, method, url, Some(signature), form).await
}

/// POSTs a form over `route` with any signature, or none: for requests that must be refused.
pub async fn post_form(
    route: &Route,
    url: &Url,
    params: &[(String, String)],
    signature: Option<String>,
) -> Result<Reply, HttpError> {
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    exchange(route, Method::Post, url, signature, form).await
}

/// An unsigned GET over `route`.
pub async fn get(route: &Route, url: &Url) -> Result<Reply, HttpError> {
    exchange(route, Method::Get, url, None, String::new()).await
}

async fn exchange(
    route: &Route,
    method: Method,
    url: &Url,
    signature: Option<String>,
    body: String,
) -> Result<Reply, HttpError> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::builder()
        .method(method.as_str())
        .uri(target)
        .header(header::HOST, authority(url)?)
        .header(header::USER_AGENT, "TwilioProxy/1.1")
        .header(header::ACCEPT, "*/*");
    if method == Method::Post {
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8");
    }
    if let Some(signature) = signature {
        request = request.header("x-twilio-signature", signature);
    }
    let request =
        request.body(Full::new(Bytes::from(body))).map_err(|error| HttpError::Url(format!("{url}: {error}")))?;
    match timeout(TIMEOUT, send(route, request)).await {
        Ok(reply) => reply,
        Err(_) => Err(HttpError::Timeout),
    }
}

async fn send(route: &Route, request: Request<Full<Bytes>>) -> Result<Reply, HttpError> {
    let stream = route.connect().await.map_err(HttpError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(exchange_error)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(exchange_error)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await;
        let body = body.map_err(|error| HttpError::Exchange(error.to_string()))?;
        let content_type = head.headers.get(header::CONTENT_TYPE);
        Ok(Reply {
            status: head.status.as_u16(),
            content_type: content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned(),
            body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    };
    tokio::pin!(exchange);
    tokio::select! {
        reply = &mut exchange => reply,
        // The connection may end first and leave the answer ready to be read.
        _ = connection => exchange.await,
    }
}

fn exchange_error(error: hyper::Error) -> HttpError {
    HttpError::Exchange(error.to_string())
}

/// Host and port of a URL as they go into `Host`.
pub(super) fn authority(url: &Url) -> Result<String, HttpError> {
    let Some(host) = url.host_str() else {
        return Err(HttpError::Url(url.to_string()));
    };
    Ok(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}
