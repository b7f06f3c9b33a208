//! Delivers what came of surveys: signed JSON, tried again, never in a call's way: [`telemetry::webhooks::courier`]
//! carries it. Neither an address beyond its host nor a body is ever logged.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use telemetry::{
    Sensitive,
    webhooks::{
        courier::Courier,
        outbox::{Counts, Limits, Verdict},
        signature,
    },
};
use tokio::{runtime::Handle, time::timeout};
use url::Url;

use super::Report;
use crate::agents_file::ResultsSettings;

/// How long a receiver may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

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
#[derive(Debug, Clone)]
pub struct Results(Courier<Letter>);

#[derive(Debug, Clone)]
struct Letter {
    id: String,
    to: ResultsSettings,
    body: Sensitive<Bytes>,
}

impl Results {
    /// Delivers by `send` on the runtime that this is called on.
    pub fn start(send: Arc<Send>) -> Self {
        Self::with_limits(send, Limits::USUAL)
    }

    fn with_limits(send: Arc<Send>, limits: Limits) -> Self {
        Self(Courier::start(&Handle::current(), "results of surveys", limits, move |letter| {
            let send = Arc::clone(&send);
            Box::pin(async move { deliver(&*send, letter).await })
        }))
    }

    /// Leaves a result for a webhook. Never blocks and never fails: what cannot be sent is counted and logged.
    pub fn leave(&self, to: &ResultsSettings, report: &Report) {
        let body = Sensitive::new(Bytes::from(report.body.expose().to_string()));
        let letter = Letter { id: id(), to: to.clone(), body };
        self.0.leave(letter.id.clone(), letter);
    }

    /// What became of results so far.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// Waits until all results have left, `limit` at most.
    pub async fn flush(&self, limit: Duration) {
        self.0.flush(limit).await;
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
        Ok(Answered { status, retry_after }) => {
            let verdict = Verdict::of(status, retry_after);
            if verdict != Verdict::Delivered {
                tracing::warn!(id, host, status, "a survey's result was not taken");
            }
            verdict
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
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
