//! The agents that a worker has now. A call takes those that there are when it begins; they may change while it lasts.

use std::sync::{Arc, PoisonError, RwLock};

use super::Agents;

/// The agents in use, shared by all shards; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<RwLock<Agents>>);

impl Roster {
    /// The agents for what begins now.
    pub fn current(&self) -> Agents {
        // Nothing under the lock panics.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in their place.
    pub fn replace(&self, agents: Agents) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = agents;
    }
}

impl From<Agents> for Roster {
    fn from(agents: Agents) -> Self {
        Self(Arc::new(RwLock::new(agents)))
    }
}
