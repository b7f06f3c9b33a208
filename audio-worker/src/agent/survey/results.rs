//! Delivers what came of surveys: signed JSON, tried again, never in a call's way. The driver of
//! [`telemetry::webhooks::outbox`]; neither an address beyond its host nor a body is ever logged.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use telemetry::{
    Sensitive,
    backoff::Backoff,
    webhooks::{
        outbox::{Counts, Limits, Outbox, Verdict},
        signature,
    },
};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use url::Url;

use super::Report;
use crate::agents_file::ResultsSettings;

/// How long a receiver may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// 1000 results, 8 at a time; 5 tries over a minute, and over two when the receiver takes its time to fail.
const LIMITS: Limits = Limits {
    events: 1000,
    at_a_time: 8,
    tries: Backoff {
        first: Duration::from_secs(4),
        longest: Duration::from_secs(32),
        attempts: 5,
        within: Duration::from_secs(130),
    },
};

/// A request that is to be sent as it is.
#[derive(Debug, Clone)]
pub struct Post {
    /// Where to; its path may be a secret.
    pub url: Sensitive<Url>,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Sensitive<Bytes>,
}

/// What a receiver answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// Status.
    pub status: u16,
    /// The patience that it asked for (`Retry-After`).
    pub retry_after: Option<Duration>,
}

/// Sends a request without following redirects. The error says why there is no answer, without address and body.
pub type Send = dyn Fn(Post) -> Pin<Box<dyn Future<Output = Result<Answered, String>> + std::marker::Send>>
    + std::marker::Send
    + Sync;

/// Where results are left; clones are the same.
#[derive(Clone)]
pub struct Results(Arc<Desk>);

struct Desk {
    shared: Arc<Shared>,
    driver: AbortHandle,
}

struct Shared {
    /// Held for a look-up, never across an await.
    outbox: Mutex<Outbox<Letter>>,
    /// There is something new to do.
    wake: Notify,
    /// There is nothing left to do.
    empty: Notify,
    epoch: Instant,
}

#[derive(Debug, Clone)]
struct Letter {
    id: String,
    to: ResultsSettings,
    body: Sensitive<Bytes>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Results {
    /// Delivers by `send` on the runtime that this is called on.
    pub fn start(send: Arc<Send>) -> Self {
        Self::with_limits(send, LIMITS)
    }

    fn with_limits(send: Arc<Send>, limits: Limits) -> Self {
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(limits)),
            wake: Notify::new(),
            empty: Notify::new(),
            epoch: now(),
        });
        let driver = tokio::spawn(drive(Arc::clone(&shared), send)).abort_handle();
        Self(Arc::new(Desk { shared, driver }))
    }

    /// Leaves a result for a webhook. Never blocks and never fails: what cannot be sent is counted and logged.
    pub fn leave(&self, to: &ResultsSettings, report: &Report) {
        let shared = &self.0.shared;
        let body = Sensitive::new(Bytes::from(report.body.expose().to_string()));
        let letter = Letter { id: id(), to: to.clone(), body };
        let (had_room, dropped) = {
            let mut outbox = shared.outbox();
            (outbox.push(letter.id.clone(), letter, shared.epoch.elapsed()), outbox.counts().dropped)
        };
        // Said at each power of two, so that a flood does not flood the log.
        if !had_room && dropped.is_power_of_two() {
            tracing::warn!(
                dropped,
                "results of surveys come faster than their webhook takes them; the oldest are dropped"
            );
        }
        shared.wake.notify_one();
    }

    /// What became of results so far.
    pub fn counts(&self) -> Counts {
        self.0.shared.outbox().counts()
    }

    /// Waits until all results have left, `limit` at most.
    pub async fn flush(&self, limit: Duration) {
        let emptied = async {
            loop {
                let empty = self.0.shared.empty.notified();
                if self.0.shared.outbox().is_empty() {
                    return;
                }
                empty.await;
            }
        };
        if timeout(limit, emptied).await.is_err() {
            tracing::warn!(waiting = self.counts().waiting, "not all results of surveys reached their webhook in time");
        }
    }
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox<Letter>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drive(shared: Arc<Shared>, send: Arc<Send>) {
    let mut deliveries = FuturesUnordered::new();
    loop {
        let next = {
            let mut outbox = shared.outbox();
            let now = shared.epoch.elapsed();
            while let Some((serial, letter)) = outbox.poll_send(now) {
                let send = Arc::clone(&send);
                deliveries.push(async move { (serial, deliver(&*send, letter).await) });
            }
            if outbox.is_empty() {
                shared.empty.notify_waiters();
            }
            outbox.poll_timeout().map(|at| at.saturating_sub(now))
        };
        tokio::select! {
            Some((serial, verdict)) = deliveries.next(), if !deliveries.is_empty() => {
                let chance = getrandom::u32().unwrap_or(u32::MAX);
                shared.outbox().tried(serial, verdict, shared.epoch.elapsed(), chance);
            }
            () = shared.wake.notified() => {}
            () = sleep(next.unwrap_or_default()), if next.is_some() => {}
        }
    }
}

async fn deliver(send: &Send, Letter { id, to, body }: Letter) -> Verdict {
    let signature = signature::sign(&to.secret, unix_seconds(), body.expose());
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("tandem-event-id", id.clone()),
        ("tandem-signature", signature),
    ];
    let host = to.url.expose().host_str().unwrap_or_default().to_owned();
    let answered = timeout(REQUEST_LIMIT, send(Post { url: to.url, headers, body })).await;
    match answered.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
        Ok(Answered { status: 200..=299, .. }) => Verdict::Delivered,
        Ok(Answered { status, retry_after }) => {
            tracing::warn!(id, host, status, "a survey's result was not taken");
            match status {
                408 | 429 | 500..=599 => Verdict::Later(retry_after),
                _ => Verdict::Never,
            }
        }
        Err(why) => {
            tracing::warn!(id, host, why, "a survey's result was not delivered");
            Verdict::Later(None)
        }
    }
}

/// Of one result: a receiver that sees it twice may ignore it.
fn id() -> String {
    let random = || getrandom::u64().unwrap_or_default();
    format!("{:016x}{:016x}", random(), random())
}

#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
