//! Call events for the user's own webhook: signed JSON, in order for each call, tried again, never in a call's way.
//!
//! The driver of [`telemetry::webhooks::outbox`], which decides. Neither an address beyond its host nor a body is ever logged.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Request, StatusCode, header};
use telemetry::{
    Sensitive,
    backoff::Backoff,
    webhooks::{
        outbox::{Limits, Outbox, Verdict},
        signature,
    },
};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use url::Url;

use crate::{
    client::{Answer, Client, Failure, Plain, Stage},
    config,
};

pub(crate) use telemetry::webhooks::outbox::Counts;

/// How long a receiver may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Largest body.
const MAX_BODY_BYTES: usize = 64 << 10;
/// 1000 events, 8 at a time; 5 tries over a minute, and over two when the receiver takes its time to fail.
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

/// Something that happened to a call.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Of this event alone: a receiver that sees it twice may ignore it.
    pub(crate) id: String,
    /// The call's id: events of one call arrive in order.
    pub(crate) call: String,
    /// Its name, for the log.
    pub(crate) kind: &'static str,
    /// What is sent.
    pub(crate) body: serde_json::Value,
}

/// Where events are left; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct EventSink(Arc<Sink>);

#[derive(Debug)]
struct Sink {
    settings: config::Events,
    shared: Arc<Shared>,
    driver: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    /// Held for a look-up, never across an await.
    outbox: Mutex<Outbox<Message>>,
    /// There is something new to do.
    wake: Notify,
    /// There is nothing left to do.
    empty: Notify,
    epoch: Instant,
}

#[derive(Debug, Clone)]
struct Message {
    url: Sensitive<Url>,
    plain: Plain,
    id: String,
    kind: &'static str,
    body: Sensitive<Bytes>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl EventSink {
    /// A sink whose events leave on the client's runtime.
    pub(crate) fn new(settings: &config::Events, client: Client) -> Self {
        Self::with_limits(settings, client, LIMITS)
    }

    fn with_limits(settings: &config::Events, client: Client, limits: Limits) -> Self {
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(limits)),
            wake: Notify::new(),
            empty: Notify::new(),
            epoch: now(),
        });
        let secret = settings.secret.clone().unwrap_or_default();
        let runtime = client.runtime().clone();
        let driver = runtime.spawn(drive(Arc::clone(&shared), client, secret)).abort_handle();
        Self(Arc::new(Sink { settings: settings.clone(), shared, driver }))
    }

    /// The webhook of calls that name none of their own.
    pub(crate) fn default_url(&self) -> Option<&str> {
        self.0.settings.url.as_ref().map(|url| url.expose().as_str())
    }

    /// Leaves an event for the webhook `url`. Never blocks and never fails: what cannot be sent is counted and logged.
    pub(crate) fn send(&self, url: &str, Event { id, call, kind, body }: Event) {
        let is_ours = self.default_url() == Some(url);
        let body = Bytes::from(body.to_string());
        let Ok(url) = url.parse::<Url>() else {
            tracing::error!(call, kind, "an event's webhook is no address");
            return;
        };
        if self.0.settings.secret.is_none() || body.len() > MAX_BODY_BYTES {
            tracing::error!(call, kind, bytes = body.len(), "an event is too large, or EVENTS_SECRET is not set");
            return;
        }
        let plain = if is_ours { Plain::AsConfigured } else { Plain::ToLoopback };
        let message = Message { url: Sensitive::new(url), plain, id, kind, body: Sensitive::new(body) };
        let shared = &self.0.shared;
        let (had_room, dropped) = {
            let mut outbox = shared.outbox();
            (outbox.push(call, message, shared.epoch.elapsed()), outbox.counts().dropped)
        };
        // Said at each power of two, so that a flood does not flood the log.
        if !had_room && dropped.is_power_of_two() {
            tracing::warn!(dropped, "events come faster than their webhook takes them; the oldest are dropped");
        }
        shared.wake.notify_one();
    }

    /// What became of events so far.
    pub(crate) fn counts(&self) -> Counts {
        self.0.shared.outbox().counts()
    }

    /// Waits until all events have left, `limit` at most.
    pub(crate) async fn flush(&self, limit: Duration) {
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
            tracing::warn!(waiting = self.counts().waiting, "not all events reached their webhook in time");
        }
    }
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox<Message>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drive(shared: Arc<Shared>, client: Client, secret: Sensitive<String>) {
    let mut deliveries = FuturesUnordered::new();
    loop {
        let next = {
            let mut outbox = shared.outbox();
            let now = shared.epoch.elapsed();
            while let Some((serial, message)) = outbox.poll_send(now) {
                let (client, secret) = (client.clone(), secret.clone());
                deliveries.push(async move { (serial, deliver(&client, &secret, &message).await) });
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

async fn deliver(client: &Client, secret: &Sensitive<String>, message: &Message) -> Verdict {
    let Message { url, plain, id, kind, body } = message;
    let request = Request::post(url.expose().as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header("Tandem-Event-Id", id)
        .header("Tandem-Signature", signature::sign(secret, unix_seconds(), body.expose()))
        .body(body.expose().clone());
    let Ok(request) = request else {
        tracing::error!(id, kind, "an event cannot be put into a request");
        return Verdict::Never;
    };
    let result = client.send(request, REQUEST_LIMIT, *plain).await;
    let verdict = verdict(&result);
    if verdict != Verdict::Delivered {
        let host = url.expose().host_str();
        match result {
            Ok(Answer { status, .. }) => tracing::warn!(id, kind, host, status = status.as_u16(), "event not taken"),
            Err(failure) => tracing::warn!(id, kind, host, %failure, "event not delivered"),
        }
    }
    verdict
}

fn verdict(result: &Result<Answer, Failure>) -> Verdict {
    let Answer { status, headers, .. } = match result {
        Ok(answer) => answer,
        Err(Failure::NotSent { stage: Stage::Address, .. }) => return Verdict::Never,
        Err(Failure::NotSent { .. } | Failure::Unknown { .. }) => return Verdict::Later(None),
    };
    match *status {
        status if status.is_success() => Verdict::Delivered,
        StatusCode::GONE => Verdict::Stop,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Verdict::Later(crate::client::retry_after(headers))
        }
        status if status.is_server_error() => Verdict::Later(crate::client::retry_after(headers)),
        _ => Verdict::Never,
    }
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
