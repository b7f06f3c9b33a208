//! The two ends of a session that a task carries: whoever listens feeds one and asks it, the task works off the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Listening, Recognised};
use crate::provider::{Fault, ProviderError, fault::error};

/// Most sound that waits to be sent: 5 s of mu-law.
const MAX_QUEUED_BYTES: usize = 5 * 8000;
/// Most pieces of it: 20 ms each, and orders between them.
const MAX_ORDERS: usize = 512;
/// Messages that wait for whoever asked. When they are too many, the recogniser is not read.
const MAX_EVENTS: usize = 64;

/// What a task is to do.
#[derive(Debug)]
pub(in crate::provider) enum Order {
    /// To send this.
    Sound(Bytes),
    /// To know that somebody speaks in it.
    Voice,
    /// To ask for final words.
    Finalize,
}

/// Where a task tells what it finds; closed when nobody wants to know any more.
pub(in crate::provider) type Events = mpsc::Sender<Result<Recognised, ProviderError>>;

/// The listener's end.
pub(in crate::provider) struct Session {
    orders: mpsc::Sender<Order>,
    found: mpsc::Receiver<Result<Recognised, ProviderError>>,
    queued: Arc<AtomicUsize>,
    /// Too much waits to be sent.
    overflow: bool,
}

/// The task's end.
pub(in crate::provider) struct Feed {
    orders: mpsc::Receiver<Order>,
    queued: Arc<AtomicUsize>,
}

/// Both ends.
pub(in crate::provider) fn session() -> (Session, Feed, Events) {
    let (orders, taken) = mpsc::channel(MAX_ORDERS);
    let (events, found) = mpsc::channel(MAX_EVENTS);
    let queued = Arc::<AtomicUsize>::default();
    let feed = Feed { orders: taken, queued: Arc::clone(&queued) };
    (Session { orders, found, queued, overflow: false }, feed, events)
}

impl Session {
    pub(in crate::provider) fn order(&mut self, order: Order) {
        if matches!(self.orders.try_send(order), Err(mpsc::error::TrySendError::Full(_))) {
            self.overflow = true;
        }
    }
}

impl Listening for Session {
    fn feed(&mut self, codes: &[u8]) {
        // A message without sound would end the session.
        if codes.is_empty() || self.overflow {
            return;
        }
        if self.queued.fetch_add(codes.len(), Ordering::Relaxed) + codes.len() > MAX_QUEUED_BYTES {
            self.overflow = true;
            return;
        }
        self.order(Order::Sound(Bytes::copy_from_slice(codes)));
    }

    fn finalize(&mut self) {
        self.order(Order::Finalize);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Recognised, ProviderError>> {
        if self.overflow {
            return Poll::Ready(Err(error(Fault::Timeout, "5 s of sound could not be sent")));
        }
        let found = self.found.poll_recv(cx);
        found.map(|found| found.unwrap_or_else(|| Err(error(Fault::Unreachable, "the session was given up"))))
    }
}

impl Feed {
    /// What to do next; none when the session is over.
    pub(in crate::provider) async fn next(&mut self) -> Option<Order> {
        self.orders.recv().await
    }

    /// So much of the sound does not wait any more.
    pub(in crate::provider) fn sent(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}
