//! What the owner of a call is told of it: each event with the call as it is then.

use std::time::Duration;

use humantime::format_rfc3339_millis;
use serde_json::json;

use crate::{
    api::view,
    call::at,
    events::{Event, EventSink},
    registry::Record,
};

/// Tells owners of calls what happens to them.
#[derive(Debug, Clone)]
pub(crate) struct News(EventSink);

impl News {
    pub(crate) const fn new(sink: EventSink) -> Self {
        Self(sink)
    }

    /// Tells the owner of `record`, where it has one, that `kind` happened at `now`.
    pub(crate) fn tell(&self, kind: &'static str, record: &Record, now: Duration) {
        let Some(webhook) = &record.webhook else { return };
        let Ok(number) = getrandom::u64() else { return };
        let id = format!("evt_{number:016x}");
        let body = json!({
            "id": id,
            "type": kind,
            "created_at": format_rfc3339_millis(at(now)).to_string(),
            "call": view(record, None, now),
        });
        self.0.send(webhook.expose(), Event { id, call: record.id.clone(), kind, body });
    }
}
