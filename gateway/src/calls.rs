//! Who is live: admission, tickets spent, how calls ended, and the drain. Locked only when a call begins or ends.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    session::EndReason,
    ticket::{Good, Nonce, Refused},
};

/// Sockets that may be open beyond the calls: those that have not shown a ticket yet.
const UNAUTHENTICATED_SOCKETS: u32 = 64;

/// Calls whose end is remembered for `/voice/after`; the oldest are forgotten.
const REMEMBERED_CALLS: usize = 10_000;

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

/// What comes after a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum After {
    /// It ended as it should.
    Hangup,
    /// The agent handed the call on.
    Transfer(String),
    /// It ended for a fault, or never began.
    Fallback,
}

#[derive(Debug, Default)]
struct Ledger {
    after: HashMap<String, After>,
    order: VecDeque<String>,
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

    /// A webhook was answered with a stream: until one ends well, what comes after is the fallback.
    pub(crate) fn expect(&self, call_sid: &str) {
        self.remember(call_sid, After::Fallback);
    }

    /// A stream of this call ended.
    pub(crate) fn ended(&self, call_sid: &str, reason: &EndReason) {
        self.remember(call_sid, after(reason));
    }

    /// What comes after the stream of this call. A call that we do not know was on a gateway that is gone.
    pub(crate) fn after(&self, call_sid: &str) -> After {
        self.ledger().after.get(call_sid).cloned().unwrap_or(After::Fallback)
    }

    fn remember(&self, call_sid: &str, after: After) {
        let mut ledger = self.ledger();
        if ledger.after.insert(call_sid.to_owned(), after).is_none() {
            ledger.order.push_back(call_sid.to_owned());
        }
        if ledger.order.len() > REMEMBERED_CALLS
            && let Some(oldest) = ledger.order.pop_front()
        {
            ledger.after.remove(&oldest);
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Nothing under the lock panics half-way.
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn after(reason: &EndReason) -> After {
    match reason {
        EndReason::CallerHangup | EndReason::CallerLost | EndReason::AgentHangup | EndReason::MaxDuration => {
            After::Hangup
        }
        EndReason::AgentTransfer(to) => After::Transfer(to.clone()),
        EndReason::CallerSilent
        | EndReason::CallerStalled
        | EndReason::StartTimeout
        | EndReason::TicketRefused(_)
        | EndReason::UnsupportedMedia
        | EndReason::ProtocolError
        | EndReason::NoWorker(_)
        | EndReason::WorkerLost
        | EndReason::GatewayDrained
        | EndReason::Panicked => After::Fallback,
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

    #[test]
    fn what_comes_after_follows_from_how_it_ended() {
        let calls = Calls::new(1);
        calls.expect("CA1");
        assert_eq!(calls.after("CA1"), After::Fallback, "the stream never came");
        calls.ended("CA1", &EndReason::AgentHangup);
        assert_eq!(calls.after("CA1"), After::Hangup);
        calls.ended("CA1", &EndReason::WorkerLost);
        assert_eq!(calls.after("CA1"), After::Fallback);
        calls.ended("CA1", &EndReason::AgentTransfer("+15550100".into()));
        assert_eq!(calls.after("CA1"), After::Transfer("+15550100".into()));
        assert_eq!(calls.after("CA2"), After::Fallback);
    }

    #[test]
    fn only_so_many_ends_are_remembered() {
        let calls = Calls::new(1);
        for n in 0..=REMEMBERED_CALLS {
            calls.ended(&format!("CA{n}"), &EndReason::AgentHangup);
        }
        assert_eq!(calls.ledger().after.len(), REMEMBERED_CALLS);
        assert_eq!(calls.after("CA0"), After::Fallback);
    }
}
