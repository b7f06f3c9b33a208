//! Who may come in: admission, tickets spent, and the drain. Locked only when a call begins.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    admission::{Admission, Limits, Reason, Refused},
    ticket::{self, Good, Nonce},
};

/// The calls of one gateway, over all its shards.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
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

/// How much room there is, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    /// Calls whose socket did not come yet.
    pub(crate) announced: u32,
    /// Sockets without a ticket.
    pub(crate) pending_sockets: u32,
    /// How often there was none, by reason.
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Ledger {
    admission: Admission,
    spent: HashSet<Nonce>,
    expiries: BTreeMap<u64, Vec<Nonce>>,
}

impl Calls {
    pub(crate) fn new(limits: Limits) -> Self {
        let ledger = Ledger { admission: Admission::new(limits), spent: HashSet::new(), expiries: BTreeMap::new() };
        Self(Arc::new(Shared {
            live: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Open),
            ledger: Mutex::new(ledger),
        }))
    }

    /// Keeps room for the call of a webhook that came at `now`.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn announce(&self, call_sid: &str, now: Instant) -> Result<(), Refused> {
        let admission = &mut self.ledger().admission;
        if self.phase() != Phase::Open {
            return Err(admission.refuse(Reason::Draining));
        }
        admission.announce(call_sid, now)
    }

    /// Takes a place for a socket.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn admit(&self) -> Result<Place, Refused> {
        let admission = &mut self.ledger().admission;
        if self.phase() != Phase::Open {
            return Err(admission.refuse(Reason::Draining));
        }
        admission.open()?;
        self.0.live.send_modify(|live| *live += 1);
        Ok(Place { calls: self.clone(), began: false })
    }

    /// How much room there is.
    pub(crate) fn room(&self) -> Room {
        let admission = &self.ledger().admission;
        Room {
            announced: admission.announced(),
            pending_sockets: admission.pending(),
            refused: admission.refused().map(|(reason, count)| (reason.label(), count)).collect(),
        }
    }

    /// Sockets at a time, at most.
    pub(crate) fn max_sockets(&self) -> usize {
        self.ledger().admission.max_sockets()
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
    pub(crate) fn spend(&self, Good { nonce, expiry }: Good, now: Duration) -> Result<(), ticket::Refused> {
        let mut ledger = self.ledger();
        let kept = ledger.expiries.split_off(&now.as_secs());
        for old in std::mem::replace(&mut ledger.expiries, kept).into_values().flatten() {
            ledger.spent.remove(&old);
        }
        if !ledger.spent.insert(nonce) {
            return Err(ticket::Refused::Reused);
        }
        // Bounded: each was minted by a signed webhook within the last minute, or it would not be good.
        ledger.expiries.entry(expiry).or_default().push(nonce);
        Ok(())
    }

    /// Keeps room for a call that is on the line already; only the drain turns it away.
    ///
    /// # Errors
    /// When the gateway takes nobody any more.
    pub(crate) fn hold(&self, call_sid: &str, now: Instant) -> Result<(), Refused> {
        let admission = &mut self.ledger().admission;
        if self.phase() != Phase::Open {
            return Err(admission.refuse(Reason::Draining));
        }
        admission.hold(call_sid, now);
        Ok(())
    }

    /// Nothing more will come of an announced call.
    pub(crate) fn forget(&self, call_sid: &str) {
        self.ledger().admission.forget(call_sid);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Nothing under the lock panics half-way.
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one socket; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    calls: Calls,
    began: bool,
}

impl Place {
    /// The socket turned out to be this call.
    pub(crate) fn begin(&mut self, call_sid: &str) {
        if !std::mem::replace(&mut self.began, true) {
            self.calls.ledger().admission.begin(call_sid);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.calls.ledger().admission.close(self.began);
        self.calls.0.live.send_modify(|live| *live -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn calls() -> Calls {
        Calls::new(Limits { calls: 2, pending_sockets: 4, calls_per_second: None, tickets: true })
    }

    #[expect(clippy::disallowed_methods, reason = "some moment to count from")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_ticket_is_spent_once_and_forgotten_when_it_expired() {
        let calls = calls();
        let good = Good { nonce: [1; 16], expiry: 1060 };
        assert_eq!(calls.spend(good, NOW), Ok(()));
        let reused = Err(ticket::Refused::Reused);
        assert_eq!(calls.spend(good, NOW), reused);
        assert_eq!(calls.spend(good, Duration::from_secs(1060)), reused);
        calls.spend(Good { nonce: [2; 16], expiry: 2000 }, Duration::from_secs(1061)).unwrap();
        assert_eq!(calls.ledger().spent.len(), 1);
    }

    #[test]
    fn places_are_bounded_given_back_and_none_is_left_in_a_draining_gateway() {
        let calls = calls();
        let mut places: Vec<_> = std::iter::from_fn(|| calls.admit().ok()).collect();
        assert_eq!((places.len(), calls.live(), calls.room().pending_sockets), (4, 4, 4));
        // A call holds no place of those without a ticket.
        places[0].begin("CA1");
        places[0].begin("CA1");
        assert_eq!(calls.room().pending_sockets, 3);
        places.push(calls.admit().unwrap());
        drop(places);
        assert_eq!((calls.live(), calls.room().pending_sockets), (0, 0));
        calls.enter(Phase::Draining);
        assert_eq!(calls.admit().unwrap_err().reason, Reason::Draining);
        assert_eq!(calls.announce("CA2", now()).unwrap_err().reason, Reason::Draining);
        assert_eq!(calls.hold("CA2", now()).unwrap_err().reason, Reason::Draining);
        let refused = calls.room().refused;
        assert_eq!((refused["draining"], refused["max_pending_sockets"]), (3, 1));
    }

    #[test]
    fn what_comes_after_a_call_ends_its_announcement() {
        let calls = calls();
        calls.announce("CA1", now()).unwrap();
        assert_eq!(calls.room().announced, 1);
        calls.forget("CA1");
        assert_eq!(calls.room().announced, 0);
    }
}
