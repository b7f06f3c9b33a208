//! Call events for the user's own webhook: signed JSON, in order for each call, tried again, never in a call's way.
//!
//! [`telemetry::webhooks::courier`] carries them. Neither an address beyond its host nor a body is ever logged.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, header};
use telemetry::{
    Sensitive,
    webhooks::{
        courier::Courier,
        outbox::{Limits, Verdict},
        signature,
    },
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
pub(crate) struct EventSink {
    settings: Arc<config::Events>,
    courier: Courier<Message>,
}

#[derive(Debug, Clone)]
struct Message {
    url: Sensitive<Url>,
    plain: Plain,
    id: String,
    kind: &'static str,
    body: Sensitive<Bytes>,
}

impl EventSink {
    /// A sink whose events leave on the client's runtime.
    pub(crate) fn new(settings: &config::Events, client: Client) -> Self {
        Self::with_limits(settings, client, Limits::USUAL)
    }

    fn with_limits(settings: &config::Events, client: Client, limits: Limits) -> Self {
        let secret = settings.secret.clone().unwrap_or_default();
        let runtime = client.runtime().clone();
        let courier = Courier::start(&runtime, "call events", limits, move |message| {
            let (client, secret) = (client.clone(), secret.clone());
            Box::pin(async move { deliver(&client, &secret, &message).await })
        });
        Self { settings: Arc::new(settings.clone()), courier }
    }

    /// The webhook of calls that name none of their own.
    pub(crate) fn default_url(&self) -> Option<&str> {
        self.settings.url.as_ref().map(|url| url.expose().as_str())
    }

    /// Leaves an event for the webhook `url`. Never blocks and never fails: what cannot be sent is counted and logged.
    pub(crate) fn send(&self, url: &str, Event { id, call, kind, body }: Event) {
        let is_ours = self.default_url() == Some(url);
        let body = Bytes::from(body.to_string());
        let Ok(url) = url.parse::<Url>() else {
            tracing::error!(call, kind, "an event's webhook is no address");
            return;
        };
        if self.settings.secret.is_none() || body.len() > MAX_BODY_BYTES {
            tracing::error!(call, kind, bytes = body.len(), "an event is too large, or EVENTS_SECRET is not set");
            return;
        }
        let plain = if is_ours { Plain::AsConfigured } else { Plain::ToLoopback };
        let message = Message { url: Sensitive::new(url), plain, id, kind, body: Sensitive::new(body) };
        self.courier.leave(call, message);
    }

    /// What became of events so far.
    pub(crate) fn counts(&self) -> Counts {
        self.courier.counts()
    }

    /// Waits until all events have left, `limit` at most.
    pub(crate) async fn flush(&self, limit: Duration) {
        self.courier.flush(limit).await;
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
    Verdict::of(status.as_u16(), telemetry::https::retry_after(headers))
}

#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
