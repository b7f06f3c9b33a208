//! Who may come in: admission, tickets spent, and the drain. Locked only when a call begins.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::ticket::{Good, Nonce, Refused};

/// Sockets that may be open beyond the calls: those that have not shown a ticket yet.
const UNAUTHENTICATED_SOCKETS: u32 = 64;

/// The calls of one gateway, over all its shards.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max_calls: u32,
    live: watch::Sender<u32>,
    phase: watch::Sender<Phase>,
    ledger: Mutex<Ledger>,
}

/// How far the gateway is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Takes calls.
    Open,
    /// Takes no more; live ones go on.
    Draining,
    /// Live ones end now.
    Over,
}

#[derive(Debug, Default)]
struct Ledger {
    spent: HashSet<Nonce>,
    expiries: BTreeMap<u64, Vec<Nonce>>,
}

impl Calls {
    pub(crate) fn new(max_calls: u32) -> Self {
        Self(Arc::new(Shared {
            max_calls,
            live: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Open),
            ledger: Mutex::default(),
        }))
    }

    /// Takes a place for a socket; `None` when there is none.
    pub(crate) fn admit(&self) -> Option<Place> {
        let limit = self.0.max_calls.saturating_add(UNAUTHENTICATED_SOCKETS);
        let taken = self.phase() == Phase::Open
            && self.0.live.send_if_modified(|live| {
                let free = *live < limit;
                *live += u32::from(free);
                free
            });
        taken.then(|| Place(self.clone()))
    }

    /// True when a new call should hear a busy tone.
    pub(crate) fn is_full(&self) -> bool {
        self.live() >= self.0.max_calls
    }

    /// Live sockets.
    pub(crate) fn live(&self) -> u32 {
        *self.0.live.borrow()
    }

    /// Waits until no socket is live.
    pub(crate) async fn all_ended(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.0.live.subscribe().wait_for(|live| *live == 0).await;
    }

    /// Moves on to a later phase; live calls see it.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.phase.send_replace(phase);
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// To see the phase change.
    pub(crate) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Spends a good ticket at `now` (time since the Unix epoch).
    ///
    /// # Errors
    /// When it was spent before.
    pub(crate) fn spend(&self, Good { nonce, expiry }: Good, now: Duration) -> Result<(), Refused> {
        let mut ledger = self.ledger();
        let kept = ledger.expiries.split_off(&now.as_secs());
        for old in std::mem::replace(&mut ledger.expiries, kept).into_values().flatten() {
            ledger.spent.remove(&old);
        }
        if !ledger.spent.insert(nonce) {
            return Err(Refused::Reused);
        }
        // Bounded: each was minted by a signed webhook within the last minute, or it would not be good.
        ledger.expiries.entry(expiry).or_default().push(nonce);
        Ok(())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Nothing under the lock panics half-way.
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one socket; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Calls);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.live.send_modify(|live| *live -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn a_ticket_is_spent_once_and_forgotten_when_it_expired() {
        let calls = Calls::new(1);
        let ticket = Good { nonce: [1; 16], expiry: 1060 };
        assert_eq!(calls.spend(ticket, NOW), Ok(()));
        assert_eq!(calls.spend(ticket, NOW), Err(Refused::Reused));
        assert_eq!(calls.spend(ticket, Duration::from_secs(1060)), Err(Refused::Reused));
        calls.spend(Good { nonce: [2; 16], expiry: 2000 }, Duration::from_secs(1061)).unwrap();
        assert_eq!(calls.ledger().spent.len(), 1);
    }

    #[test]
    fn places_are_bounded_and_a_draining_gateway_has_none() {
        let calls = Calls::new(2);
        let places: Vec<_> = std::iter::from_fn(|| calls.admit()).collect();
        assert_eq!(places.len(), 66);
        assert!(calls.is_full());
        drop(places);
        assert_eq!(calls.live(), 0);
        calls.enter(Phase::Draining);
        assert!(calls.admit().is_none());
    }
}
