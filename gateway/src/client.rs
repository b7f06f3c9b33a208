//! The gateway's one HTTPS client: Twilio's REST API, webhooks of the user's own, the doctor.
//!
//! What it adds to hyper: bounds on everything, no redirects, and an error that tells what certainly did not reach the
//! peer from what may have. Requests run on the runtime that the client was made for, whoever sends them: its
//! connections are shared and must not live on a shard.

use std::{error::Error, io, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use telemetry::https::{Connector, root};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::task::AbortOnDropHandle;

/// Largest answer taken; the largest that is of use, a page of numbers, has some 10 KiB.
const MAX_ANSWER_BYTES: usize = 256 << 10;
/// How long a connection is kept for the next request: well below the patience of common servers.
const KEEP_IDLE: Duration = Duration::from_secs(10);
/// Connections kept for one host.
const MAX_IDLE: usize = 8;

/// The client; clones share its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
    /// The same, without keeping connections.
    fresh: legacy::Client<Connector, Full<Bytes>>,
    runtime: Handle,
}

/// Whether a request may go out unencrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plain {
    /// Only to this machine: the address came from outside.
    ToLoopback,
    /// Wherever the operator's own settings say.
    AsConfigured,
}

/// A complete answer, whatever its status.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer. Neither says where the request went: an address may hold what must not be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The request certainly did not reach the peer.
    #[error("{stage}: {what}")]
    NotSent { stage: Stage, what: String },
    /// It went out, or a part of it; what the peer made of it is not known.
    #[error("{what}")]
    Unknown { what: String },
}

/// How far a request came that was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The address is not one that may be asked.
    Address,
    /// Its name is not known.
    Name,
    /// No connection.
    Connect,
    /// No trust.
    Tls,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::Name => "name not found",
            Self::Connect => "no connection",
            Self::Tls => "TLS",
        })
    }
}

impl Client {
    /// A client on `runtime` that trusts what this system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are heeded), or,
    /// where the system has no list, Mozilla's.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub(crate) fn new(runtime: Handle) -> io::Result<Self> {
        Ok(Self::connecting(runtime, Connector::new()?))
    }

    fn connecting(runtime: Handle, connector: Connector) -> Self {
        let keeping = |connections| {
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(KEEP_IDLE)
                .pool_max_idle_per_host(connections)
                .build(connector.clone())
        };
        Self { http: keeping(MAX_IDLE), fresh: keeping(0), runtime }
    }

    /// The same client with a new connection for each request: for those that are not to be repeated. One that meets a
    /// kept connection just as its peer closes it is one of which nobody knows what became.
    pub(crate) fn on_fresh_connections(&self) -> Self {
        Self { http: self.fresh.clone(), ..self.clone() }
    }

    /// The runtime that requests run on.
    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Sends `request` and waits for the whole answer, `limit` at most. Dropping the future gives the request up,
    /// wherever it is.
    ///
    /// # Errors
    /// When there is no complete answer.
    pub(crate) async fn send(
        &self,
        mut request: Request<Bytes>,
        limit: Duration,
        plain: Plain,
    ) -> Result<Answer, Failure> {
        check(request.uri(), plain)?;
        let agent = HeaderValue::from_static(concat!("tandem/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        let exchange = exchange(self.http.clone(), request.map(Full::new));
        match AbortOnDropHandle::new(self.runtime.spawn(timeout(limit, exchange))).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failure::Unknown { what: format!("no answer within {} s", limit.as_secs()) }),
            Err(_) => Err(Failure::Unknown { what: "the request was given up".to_owned() }),
        }
    }
}

async fn exchange(
    http: legacy::Client<Connector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Failure> {
    let (head, body) = http.request(request).await.map_err(|error| failure(&error))?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
        let what = if error.is::<LengthLimitError>() {
            format!("an answer of more than {} KiB", MAX_ANSWER_BYTES >> 10)
        } else {
            format!("the answer broke off: {}", root(error.as_ref()))
        };
        Failure::Unknown { what }
    })?;
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
}

fn check(uri: &Uri, plain: Plain) -> Result<(), Failure> {
    let refuse = |what: &str| Err(Failure::NotSent { stage: Stage::Address, what: what.to_owned() });
    let Some(host) = uri.host() else { return refuse("no host name") };
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(()),
        Some(scheme) if *scheme == Scheme::HTTP && (plain == Plain::AsConfigured || is_loopback(host)) => Ok(()),
        _ => refuse("it must begin with https://"),
    }
}

/// Whether `host` (an IPv6 address in brackets) is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn failure(error: &legacy::Error) -> Failure {
    let what = root(error);
    if !error.is_connect() {
        return Failure::Unknown { what: format!("no answer: {what}") };
    }
    let causes = || std::iter::successors(error.source(), |error| (*error).source());
    let stage = if causes().any(is_tls) {
        Stage::Tls
    } else if causes().any(|error| error.to_string().starts_with("dns error")) {
        Stage::Name
    } else {
        Stage::Connect
    };
    Failure::NotSent { stage, what }
}

/// An error of rustls, in however many of tokio's wrappings.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_tls(inner))
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
