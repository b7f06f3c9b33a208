//! What the owner of a call is told of it: each event with the call as it is then.

use std::time::Duration;

use crate::registry::Record;

/// Tells owners of calls what happens to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct News;

impl News {
    /// Tells the owner of `record` that `event` happened at `now`.
    pub(crate) fn tell(&self, event: &'static str, record: &Record, now: Duration) {
        tracing::debug!(event, call = record.id, at_s = now.as_secs(), "call event");
    }
}
