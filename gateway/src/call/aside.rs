//! What a worker tells beside the call: costs are kept, and a page is told all of it.

use super::Page;
use crate::{registry::Registry, worker::Aside};

/// Hands on what was told of the call `call_sid`.
pub(super) fn tell(aside: Aside, page: Option<&mut Page>, call_sid: Option<&str>, registry: &Registry) {
    if let (Aside::Costs(costs), Some(call_sid)) = (&aside, call_sid) {
        registry.cost(call_sid, costs.clone());
    }
    if let Some(page) = page {
        page.tell(aside);
    }
}
