//! One request to a provider, from asking to the last piece: its limits, its one retry, its task.
//!
//! It runs on the client's runtime and hands pieces over through a bounded channel. Dropping what it gave out ends it,
//! and with it the connection that the answer was coming over.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use telemetry::https::{retry_after, root};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Fault, Limits, Pending, ProviderError, Streaming,
    fault::{self, Secrets, error},
    http::Client,
};

/// Pieces that wait for whoever asked. When they are too many, the provider is not read.
const MAX_PIECES: usize = 8;
/// Longest wait that a busy provider may ask for before the second try; one that asks for more is not asked again.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Wait before the second try when the provider itself failed and asked for none.
const PAUSE: Duration = Duration::from_millis(100);
/// Most that is read of an answer that only tells of an error, in bytes and time.
const MAX_ERROR_BYTES: usize = 64 << 10;
const ERROR_LIMIT: Duration = Duration::from_secs(1);

/// What to ask, and how to read the answer.
pub(super) trait Exchange: Send + Sync + 'static {
    /// What the answer comes in.
    type Piece: Send + 'static;

    /// Asks once and gives the pieces of the answer to `outlet`.
    fn attempt(
        &self,
        client: &Client,
        outlet: &mut Outlet<Self::Piece>,
    ) -> impl Future<Output = Result<(), ProviderError>> + Send;
}

/// Begins an exchange that answers piece by piece.
pub(super) fn stream<E: Exchange>(client: &Client, limits: Limits, exchange: E) -> Streaming<E::Piece> {
    Box::pin(begin(client, limits, exchange))
}

/// Begins an exchange that answers with one piece.
pub(super) fn once<E: Exchange>(client: &Client, limits: Limits, exchange: E) -> Pending<E::Piece> {
    let mut answer = begin(client, limits, exchange);
    Box::pin(async move { answer.next().await.unwrap_or_else(|| Err(error(Fault::Empty, "no answer"))) })
}

fn begin<E: Exchange>(client: &Client, limits: Limits, exchange: E) -> Answering<E::Piece> {
    let (sender, pieces) = mpsc::channel(MAX_PIECES);
    let runtime = client.runtime().clone();
    let client = client.clone();
    let task = runtime.spawn(async move {
        let begun = now();
        let mut outlet = Outlet {
            pieces: sender,
            first: begun + limits.first,
            whole: begun + limits.whole,
            has_given: false,
            pause: PAUSE,
            status: None,
        };
        if let Err(error) = tries(&client, &exchange, &mut outlet).await {
            // Nobody listens when it cannot be sent.
            let _ = outlet.pieces.send(Err(error)).await;
        }
    });
    Answering { pieces, task: Some(AbortOnDropHandle::new(task)) }
}

async fn tries<E: Exchange>(client: &Client, exchange: &E, outlet: &mut Outlet<E::Piece>) -> Result<(), ProviderError> {
    let error = match exchange.attempt(client, outlet).await {
        Err(error) if error.kind.is_passing() && !outlet.has_given => error,
        result => return result,
    };
    let pause = match error.kind {
        // Mostly a kept connection that its server had closed.
        Fault::Unreachable => Duration::ZERO,
        Fault::Timeout
        | Fault::Denied
        | Fault::Busy
        | Fault::Rejected
        | Fault::Failed
        | Fault::Malformed
        | Fault::Empty => outlet.pause,
    };
    if pause > MAX_PAUSE || now() + pause >= outlet.limit() {
        return Err(error);
    }
    tracing::debug!(%error, "a provider is asked once more");
    sleep(pause).await;
    exchange.attempt(client, outlet).await
}

/// Where the pieces of an answer go, and how long it may take.
#[derive(Debug)]
pub(super) struct Outlet<T> {
    pieces: mpsc::Sender<Result<T, ProviderError>>,
    /// When the first piece has to be there, whatever the number of tries.
    first: Instant,
    /// When the last one has to be there.
    whole: Instant,
    has_given: bool,
    /// Wait before a second try.
    pause: Duration,
    /// Of the newest answer; none when there was no answer.
    status: Option<StatusCode>,
}

/// An answer of success, whose body is still to come.
#[derive(Debug)]
pub(super) struct Answer {
    headers: HeaderMap,
    body: Incoming,
}

impl Answer {
    /// `Content-Type` without its parameters, in lower case; empty when there is none.
    pub(super) fn content_type(&self) -> String {
        self.content_type_parts().next().unwrap_or_default()
    }

    /// The rate in Hz that `Content-Type` tells, as in `audio/pcm;rate=24000`.
    pub(super) fn rate(&self) -> Option<u32> {
        self.content_type_parts().find_map(|part| part.strip_prefix("rate=")?.parse().ok())
    }

    fn content_type_parts(&self) -> impl Iterator<Item = String> {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().split(';').map(|part| part.trim().to_ascii_lowercase())
    }
}

impl<T> Outlet<T> {
    /// Hands a piece over. Time in which nobody takes it is not the provider's.
    pub(super) async fn give(&mut self, piece: T) {
        self.has_given = true;
        let before = now();
        // Nobody listens when it cannot be sent: the task is being ended.
        let _ = self.pieces.send(Ok(piece)).await;
        self.whole += now().duration_since(before);
    }

    /// Sends `request`; gives an answer that says success.
    ///
    /// # Errors
    /// Without such an answer in time.
    pub(super) async fn ask(
        &mut self,
        client: &Client,
        request: Request<Full<Bytes>>,
        secrets: &Secrets,
    ) -> Result<Answer, ProviderError> {
        self.status = None;
        let (head, body) = self.within(client.send(request)).await??.into_parts();
        self.status = Some(head.status);
        let mut answer = Answer { headers: head.headers, body };
        let Some(kind) = fault::of_status(head.status) else { return Ok(answer) };
        self.pause = retry_after(&answer.headers).unwrap_or(PAUSE);
        let body = timeout(ERROR_LIMIT, self.whole(&mut answer, MAX_ERROR_BYTES)).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        let (kind, message) = (fault::of_body(kind, &body), fault::message(&body, secrets));
        let status = head.status.as_u16();
        Err(error(kind, &message.map_or_else(|| format!("HTTP {status}"), |told| format!("HTTP {status}: {told}"))))
    }

    /// The status of the newest answer; none when a request had no answer.
    pub(super) const fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// True once a piece was handed over.
    pub(super) const fn has_given(&self) -> bool {
        self.has_given
    }

    /// The next bytes of the answer; none after the last.
    ///
    /// # Errors
    /// When it breaks off or takes too long.
    pub(super) async fn chunk(&self, answer: &mut Answer) -> Result<Option<Bytes>, ProviderError> {
        loop {
            let Some(frame) = self.within(answer.body.frame()).await? else { return Ok(None) };
            let frame = frame.map_err(|broken| {
                let what = format!("the answer broke off: {}", root(&broken));
                error(Fault::Unreachable, &what)
            })?;
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                return Ok(Some(bytes));
            }
        }
    }

    /// All that is still to come of the answer, `most` bytes.
    ///
    /// # Errors
    /// As [`Self::chunk`], and when it is more.
    pub(super) async fn whole(&self, answer: &mut Answer, most: usize) -> Result<Vec<u8>, ProviderError> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.chunk(answer).await? {
            if whole.len() + bytes.len() > most {
                return Err(error(Fault::Malformed, &format!("an answer of more than {} KiB", most >> 10)));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }

    /// What `work` comes to, if that is in time.
    ///
    /// # Errors
    /// When it is not.
    pub(super) async fn within<F: Future>(&self, work: F) -> Result<F::Output, ProviderError> {
        let what = if self.has_given { "no end in time" } else { "no first piece in time" };
        timeout_at(self.limit(), work).await.map_err(|_| error(Fault::Timeout, what))
    }

    fn limit(&self) -> Instant {
        if self.has_given { self.whole } else { self.first.min(self.whole) }
    }
}

/// The other end of an outlet.
#[derive(Debug)]
struct Answering<T> {
    pieces: mpsc::Receiver<Result<T, ProviderError>>,
    /// Until it has ended.
    task: Option<AbortOnDropHandle<()>>,
}

impl<T> Stream for Answering<T> {
    type Item = Result<T, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(piece) = ready!(self.pieces.poll_recv(cx)) {
            return Poll::Ready(Some(piece));
        }
        // A task that died gave no last word.
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        let ended = ready!(Pin::new(task).poll(cx));
        self.task = None;
        Poll::Ready(ended.err().map(|_| Err(error(Fault::Unreachable, "the request was given up"))))
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver: requests have limits in real time")]
fn now() -> Instant {
    Instant::now()
}
