//! The driver of [`super::outbox`]: messages leave on a task of their own, some at a time, never in the way of whoever
//! left them.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::outbox::{Counts, Limits, Outbox, Verdict};

/// One attempt to deliver a message.
pub type Delivery = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// Where messages are left; clones are the same. The last one takes what was not sent with it.
pub struct Courier<M>(Arc<Desk<M>>);

struct Desk<M> {
    shared: Arc<Shared<M>>,
    driver: AbortHandle,
    /// What the messages are, for the log.
    what: &'static str,
}

struct Shared<M> {
    /// Held for a look-up, never across an await.
    outbox: Mutex<Outbox<M>>,
    /// There is something new to do.
    wake: Notify,
    /// There is nothing left to do.
    empty: Notify,
    epoch: Instant,
}

impl<M: Clone + Send + 'static> Courier<M> {
    /// Delivers messages by `deliver`, on `runtime`. `what` they are, in the plural, is for the log.
    pub fn start(
        runtime: &Handle,
        what: &'static str,
        limits: Limits,
        deliver: impl Fn(M) -> Delivery + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(limits)),
            wake: Notify::new(),
            empty: Notify::new(),
            epoch: now(),
        });
        let driver = runtime.spawn(drive(Arc::clone(&shared), deliver)).abort_handle();
        Self(Arc::new(Desk { shared, driver, what }))
    }

    /// Leaves a message; those of one `key` arrive in order. Never blocks and never fails: what finds no room is counted
    /// and logged.
    pub fn leave(&self, key: String, message: M) {
        let Desk { shared, what, .. } = &*self.0;
        let (had_room, dropped) = {
            let mut outbox = shared.outbox();
            (outbox.push(key, message, shared.epoch.elapsed()), outbox.counts().dropped)
        };
        // Said at each power of two, so that a flood does not flood the log.
        if !had_room && dropped.is_power_of_two() {
            tracing::warn!(what, dropped, "they come faster than their webhook takes them; the oldest are dropped");
        }
        shared.wake.notify_one();
    }

    /// What became of messages so far.
    pub fn counts(&self) -> Counts {
        self.0.shared.outbox().counts()
    }

    /// Waits until all messages have left, `limit` at most.
    pub async fn flush(&self, limit: Duration) {
        let emptied = async {
            loop {
                let empty = self.0.shared.empty.notified();
                if self.0.shared.outbox().is_empty() {
                    return;
                }
                empty.await;
            }
        };
        if timeout(limit, emptied).await.is_err() {
            tracing::warn!(
                what = self.0.what,
                waiting = self.counts().waiting,
                "not all reached their webhook in time"
            );
        }
    }
}

impl<M> Clone for Courier<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Courier<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("what", &self.0.what).finish_non_exhaustive()
    }
}

impl<M> Drop for Desk<M> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl<M> Shared<M> {
    fn outbox(&self) -> MutexGuard<'_, Outbox<M>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drive<M: Clone>(shared: Arc<Shared<M>>, deliver: impl Fn(M) -> Delivery) {
    let mut deliveries = FuturesUnordered::new();
    loop {
        let next = {
            let mut outbox = shared.outbox();
            let now = shared.epoch.elapsed();
            while let Some((serial, message)) = outbox.poll_send(now) {
                let delivery = deliver(message);
                deliveries.push(async move { (serial, delivery.await) });
            }
            if outbox.is_empty() {
                shared.empty.notify_waiters();
            }
            outbox.poll_timeout().map(|at| at.saturating_sub(now))
        };
        tokio::select! {
            Some((serial, verdict)) = deliveries.next(), if !deliveries.is_empty() => {
                let chance = getrandom::u32().unwrap_or(u32::MAX);
                shared.outbox().tried(serial, verdict, shared.epoch.elapsed(), chance);
            }
            () = shared.wake.notified() => {}
            () = sleep(next.unwrap_or_default()), if next.is_some() => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
fn now() -> Instant {
    Instant::now()
}
