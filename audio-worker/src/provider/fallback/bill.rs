//! What one request costs: paid to the call's meter when it is over, however it ends.

use crate::{
    agent::Stage,
    provider::meter::{Cost, Meter},
};

/// A request that is under way, as far as it costs.
#[derive(Debug)]
pub(super) struct Bill {
    pub(super) meter: Meter,
    /// Stage and family.
    pub(super) of: (Stage, &'static str),
    pub(super) cost: Cost,
    /// Whether answers of its kind tell tokens, and those that this one told.
    pub(super) has_usage: bool,
    pub(super) usage: Option<(u64, u64)>,
    pub(super) has_given: bool,
    pub(super) end: End,
}

impl Drop for Bill {
    fn drop(&mut self) {
        let failed_at_once = self.end == End::Failed && !self.has_given;
        let whole = if failed_at_once { Cost { requests: 1, ..Cost::default() } } else { self.cost };
        let (tokens_in, tokens_out) = self.usage.unwrap_or_default();
        let cost = Cost {
            failed: (self.end == End::Failed).into(),
            given_up: (self.end == End::GivenUp).into(),
            tokens_in,
            tokens_out,
            without_usage: (self.has_usage && self.usage.is_none() && !failed_at_once).into(),
            ..whole
        };
        let (stage, family) = self.of;
        self.meter.add(stage, family, &cost);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// So far.
    GivenUp,
    Failed,
    Ended,
}
