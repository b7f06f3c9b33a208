//! A user's webhook for call events: takes them, answers as a test says, and checks their signatures as the README tells
//! a user to.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{HeaderMap, Response, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::Sha256;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// How long what must come may take: the second try of an event comes after five seconds at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest body of an event.
const BODY_LIMIT: usize = 64 << 10;
/// How old a signature may be, in seconds.
const MAX_AGE_S: u64 = 300;

/// An event as it came, once for each try.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as it is signed.
    pub body: Bytes,
    /// The body.
    pub event: Value,
    /// When it came.
    pub at: Instant,
}

impl Delivery {
    /// A header; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// What happened, such as `call.ended`.
    pub fn kind(&self) -> &str {
        self.event["type"].as_str().unwrap_or_default()
    }

    /// The event's id.
    pub fn id(&self) -> &str {
        self.event["id"].as_str().unwrap_or_default()
    }

    /// Twilio's id of its call.
    pub fn call_sid(&self) -> &str {
        self.event["call"]["call_sid"].as_str().unwrap_or_default()
    }

    /// Whether it is signed with `secret`, and lately.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        is_signed(self.header("tandem-signature"), &self.body, secret)
    }
}

/// `Tandem-Signature: t=…,v1=…` is the hex HMAC-SHA256 by the secret over `t.body`.
pub fn is_signed(signature: &str, body: &[u8], secret: &str) -> bool {
    let Some((seconds, given)) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")) else {
        return false;
    };
    let is_fresh = seconds.parse().is_ok_and(|at| unix_seconds().abs_diff(at) <= MAX_AGE_S);
    is_fresh && computed(seconds, body, secret) == given
}

fn computed(seconds: &str, body: &[u8], secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("keys of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the webhook answers.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self { status, retry_after: None }
    }
}

type Rule = Arc<dyn Fn(&Delivery, usize) -> Answer + Send + Sync>;

/// A running webhook; gone when dropped.
pub struct Receiver {
    address: SocketAddr,
    rule: Rule,
    seen: watch::Sender<Vec<Delivery>>,
    /// Bound and not yet listening.
    closed: Option<TcpSocket>,
    serving: Option<AbortOnDropHandle<()>>,
}

impl Receiver {
    /// A webhook that takes everything.
    pub fn start() -> Self {
        Self::answering(|_, _| 204.into())
    }

    /// A webhook that answers by `rule`, which is told how often it saw the event before.
    pub fn answering(rule: impl Fn(&Delivery, usize) -> Answer + Send + Sync + 'static) -> Self {
        let mut receiver = Self { rule: Arc::new(rule), ..Self::closed() };
        receiver.open();
        receiver
    }

    /// A webhook that takes everything, once it is open; until then connections are refused.
    pub fn closed() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        Self {
            address: socket.local_addr().expect("an address"),
            rule: Arc::new(|_, _| 204.into()),
            seen: watch::channel(Vec::new()).0,
            closed: Some(socket),
            serving: None,
        }
    }

    /// Begins to take connections.
    pub fn open(&mut self) {
        let listener = self.closed.take().expect("closed until now").listen(64).expect("a listener");
        let (rule, seen) = (Arc::clone(&self.rule), self.seen.clone());
        self.serving = Some(AbortOnDropHandle::new(tokio::spawn(serve(listener, rule, seen))));
    }

    /// Its address with this path and query.
    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Delivery> {
        self.seen.borrow().clone()
    }

    /// What came, once it is as wanted. Panics when that does not happen.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&[Delivery]) -> bool) -> Vec<Delivery> {
        let mut changes = self.seen.subscribe();
        let found =
            timeout(PATIENCE, changes.wait_for(|seen| wanted(seen))).await.map(|seen| seen.expect("kept").clone());
        found.unwrap_or_else(|_| {
            let kinds: Vec<String> =
                self.seen().iter().map(|seen| format!("{} {}", seen.call_sid(), seen.kind())).collect();
            panic!("{what} does not come; what did: {kinds:?}")
        })
    }

    /// What came of the call, once its `call.ended` did.
    pub async fn until_ended(&self, call_sid: &str) -> Vec<Delivery> {
        let of = |seen: &Delivery| seen.call_sid() == call_sid;
        let seen = self
            .wait_for("the end of a call", |seen| seen.iter().any(|seen| of(seen) && seen.kind() == "call.ended"))
            .await;
        seen.into_iter().filter(of).collect()
    }
}

async fn serve(listener: TcpListener, rule: Rule, seen: watch::Sender<Vec<Delivery>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (rule, seen) = (Arc::clone(&rule), seen.clone());
        connections.spawn(async move {
            let service = service_fn(|request| take(&rule, &seen, request));
            // A client that leaves is no concern of the webhook's.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn take(
    rule: &Rule,
    seen: &watch::Sender<Vec<Delivery>>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_LIMIT).collect().await.expect("a whole event").to_bytes();
    let event = serde_json::from_slice(&body).expect("an event in JSON");
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let delivery = Delivery { target, headers: head.headers, body, event, at: now() };
    let mut answer = Answer::from(500);
    seen.send_modify(|seen| {
        let before = seen.iter().filter(|earlier| earlier.id() == delivery.id()).count();
        answer = rule(&delivery, before);
        seen.push(delivery);
    });
    let mut response = Response::builder().status(answer.status);
    if let Some(seconds) = answer.retry_after {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    Ok(response.body(Full::default()).expect("a response"))
}

#[expect(clippy::disallowed_methods, reason = "the pauses between tries are measured")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a signature has an age")]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_secret_its_body_and_its_time() {
        let (body, secret) = (br#"{"type":"call.ended"}"#, "whsec_test");
        // Python: hmac.new(b"whsec_test", b'1800000000.{"type":"call.ended"}', "sha256").hexdigest()
        let known = "1707e18b78eb679443830d6be3c28acc3cddf69ef0918ee0873123db2e7d001c";
        assert_eq!(computed("1800000000", body, secret), known);
        let at = |seconds: u64| format!("t={seconds},v1={}", computed(&seconds.to_string(), body, secret));
        let now = unix_seconds();
        assert!(is_signed(&at(now), body, secret));
        for wrong in [at(now - 2 * MAX_AGE_S), at(now).replace("v1", "v0"), format!("{}0", at(now)), String::new()] {
            assert!(!is_signed(&wrong, body, secret), "{wrong}");
        }
        assert!(!is_signed(&at(now), b"{}", secret) && !is_signed(&at(now), body, "another"));
    }
}
