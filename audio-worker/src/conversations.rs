//! Who is live: admission before work, the counts, and the drain.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

/// The conversations of one worker, over all its shards.
#[derive(Debug, Clone)]
pub(crate) struct Conversations(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    capacity: u32,
    live: watch::Sender<u32>,
    phase: watch::Sender<Phase>,
    opened: AtomicU64,
    refused: AtomicU64,
    worker_id: String,
}

/// How far the worker is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Takes conversations.
    Open,
    /// Takes no more; live ones may go on this long.
    Draining(Duration),
    /// Live ones end now.
    Over,
}

/// Why a conversation is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All places are taken.
    Full,
    /// The worker is about to stop.
    Draining,
}

impl Conversations {
    /// No conversation yet, at most `capacity` at a time.
    pub(crate) fn new(capacity: u32) -> Self {
        let id = getrandom::u32().unwrap_or_else(|_| std::process::id());
        Self(Arc::new(Shared {
            capacity,
            live: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Open),
            opened: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            worker_id: format!("worker-{id:08x}"),
        }))
    }

    /// Takes a place.
    ///
    /// # Errors
    /// When there is none; it is counted as refused.
    pub(crate) fn admit(&self) -> Result<Place, Refusal> {
        let refusal = if self.phase() == Phase::Open {
            let taken = self.0.live.send_if_modified(|live| {
                let free = *live < self.0.capacity;
                *live += u32::from(free);
                free
            });
            if taken {
                return Ok(Place(self.clone()));
            }
            Refusal::Full
        } else {
            Refusal::Draining
        };
        self.count_refused();
        Err(refusal)
    }

    /// Counts a conversation that was refused for another reason than its place.
    pub(crate) fn count_refused(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a conversation that was taken.
    pub(crate) fn count_opened(&self) {
        self.0.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Moves on to a later phase; live conversations see it.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.phase.send_replace(phase);
    }

    /// The phase now.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// To see the phase change.
    pub(crate) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Waits until no conversation is live.
    pub(crate) async fn all_ended(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.0.live.subscribe().wait_for(|live| *live == 0).await;
    }

    /// Live now.
    pub(crate) fn live(&self) -> u32 {
        *self.0.live.borrow()
    }

    /// At most.
    pub(crate) fn capacity(&self) -> u32 {
        self.0.capacity
    }

    /// Taken since the start.
    pub(crate) fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }

    /// Refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Who this worker is, while it runs.
    pub(crate) fn worker_id(&self) -> &str {
        &self.0.worker_id
    }
}

/// The place of one conversation; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Conversations);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.live.send_modify(|live| *live -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let conversations = Conversations::new(2);
        let (first, _second) = (conversations.admit().unwrap(), conversations.admit().unwrap());
        assert_eq!(conversations.admit().unwrap_err(), Refusal::Full);
        drop(first);
        assert!(conversations.admit().is_ok());
        assert_eq!((conversations.live(), conversations.refused()), (1, 1));
    }

    #[test]
    fn a_draining_worker_takes_nobody() {
        let conversations = Conversations::new(2);
        conversations.enter(Phase::Draining(Duration::from_secs(1)));
        assert_eq!(conversations.admit().unwrap_err(), Refusal::Draining);
    }
}
