//! HTTP in front of the account: requests are logged, checked for credentials, met by faults, carried out, answered.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{
    io::DuplexStream,
    net::TcpListener,
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use url::form_urlencoded;

use super::{
    super::{Io, caller::sid},
    Mishap, RestError,
    account::{Account, Asked},
    api::{self, Request},
};

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// Longest body of a request, in bytes: `Twiml` takes 4000 characters, each up to twelve bytes in a form.
const BODY_LIMIT: usize = 128 * 1024;
/// How long the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait before the next accept when there are no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connection ends without an answer.
#[derive(Debug, Error)]
#[error("the answer is lost, as planned")]
struct Lost;

type Answer = Response<Full<Bytes>>;

/// Serves connections of both kinds until the exchange stops.
pub(super) async fn serve(account: Arc<Account>, listener: TcpListener, mut inside: mpsc::Receiver<DuplexStream>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream: Box<dyn Io> = tokio::select! {
            () = account.stopping.cancelled() => return,
            Some(stream) = inside.recv() => Box::new(stream),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => Box::new(stream),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let served = Arc::clone(&account);
        account.spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&served), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            if let Err(error) = connection {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
}

async fn handle(account: Arc<Account>, request: hyper::Request<Incoming>) -> Result<Answer, Lost> {
    let (head, body) = request.into_parts();
    let body = timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Ok(refusal(&RestError::new(413, 20001, "The request is too long"))),
        Err(_) => return Err(Lost),
    };
    let request = Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect(),
        fields: if is_form(&head.headers) { form_urlencoded::parse(&body).into_owned().collect() } else { Vec::new() },
    };
    let target = request.target();
    let (noted, mishap) = account.with(|state| {
        let asked = Asked {
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            fields: request.fields.clone(),
            unknown: request.unknown(),
            at: account.elapsed(),
            answered: None,
        };
        (state.note(asked), state.faults.take(target, account.elapsed()))
    });
    let carry_out = || {
        if !is_authorized(&account, &request, &head.headers) {
            return refusal(&RestError::credentials());
        }
        match api::answer(&account, &request) {
            Ok((status, body)) => answer(status, body.map(|body| body.to_string())),
            Err(refused) => refusal(&refused),
        }
    };
    let answer = match mishap {
        None => carry_out(),
        Some(Mishap::Delay(time)) => {
            let answer = carry_out();
            sleep(time).await;
            answer
        }
        Some(Mishap::LostAnswer { carried_out }) => {
            if carried_out {
                carry_out();
            }
            return Err(Lost);
        }
        Some(Mishap::NoAnswer { carried_out }) => {
            if carried_out {
                carry_out();
            }
            std::future::pending::<Infallible>().await;
            return Err(Lost);
        }
        Some(Mishap::TooMany { retry_after }) => {
            let mut answer = refusal(&RestError::too_many());
            if let Some(time) = retry_after {
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(time.as_secs()));
            }
            answer
        }
        Some(Mishap::Refused(refused)) => refusal(&refused),
        Some(Mishap::Page { status }) => page(status),
    };
    if let Some(at) = noted {
        account.with(|state| {
            if let Some(asked) = state.log.get_mut(at) {
                asked.answered = Some(answer.status().as_u16());
            }
        });
    }
    Ok(answer)
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim().starts_with("application/x-www-form-urlencoded"))
}

/// Basic authentication with the account's SID and token, or with a key and its secret; the path must name the account.
fn is_authorized(account: &Account, request: &Request, headers: &HeaderMap) -> bool {
    let plan = &account.plan;
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Basic ")).and_then(|text| BASE64_STANDARD.decode(text).ok());
    let given = given.and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((user, secret)) = given.as_deref().and_then(|text| text.split_once(':')) else {
        return false;
    };
    let is_account = user == plan.account_sid && secret == plan.auth_token;
    let is_key = plan.api_keys.iter().any(|(key, password)| user == key && secret == password);
    (is_account || is_key) && request.account_sid().is_none_or(|sid| sid == plan.account_sid)
}

fn refusal(refused: &RestError) -> Answer {
    let mut refusal = answer(refused.status, Some(refused.body().to_string()));
    if refused.status == 401 {
        let challenge = HeaderValue::from_static("Basic realm=\"Twilio API\"");
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    refusal
}

fn answer(status: u16, body: Option<String>) -> Answer {
    let mut answer = Response::new(Full::from(body.unwrap_or_default()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json;charset=utf-8"));
    if let Ok(id) = HeaderValue::from_str(&sid("RQ")) {
        headers.insert("twilio-request-id", id);
    }
    headers.insert("twilio-concurrent-requests", HeaderValue::from_static("1"));
    answer
}

fn page(status: u16) -> Answer {
    let mut page = answer(status, Some(format!("<html><head><title>{status}</title></head><body>Oh no</body></html>")));
    page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    page
}
