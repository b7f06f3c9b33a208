//! Settings of the events that the user's own webhook gets.

use std::collections::BTreeSet;

use telemetry::{
    Sensitive,
    settings::{Reader, Setting},
};

pub(super) const SETTINGS: &[Setting] = &[];

/// Events to the user's own webhook.
#[derive(Debug, Clone)]
pub struct Events {
    /// Where events of calls go that name no webhook.
    pub url: Option<Sensitive<String>>,
    /// Signs them.
    pub secret: Option<Sensitive<String>>,
    /// Hosts that a call may name; none: any.
    pub hosts: BTreeSet<String>,
}

impl Events {
    pub(super) fn read(_: &mut Reader<'_>) -> Self {
        Self { url: None, secret: None, hosts: BTreeSet::new() }
    }

    /// Whether events may go there.
    pub fn allowed(&self, _: &str) -> Result<(), &'static str> {
        Ok(())
    }
}
