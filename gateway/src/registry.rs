//! The calls of this gateway, live and lately ended, over all its shards. Locked when a call begins, changes or ends,
//! never for a frame.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use telemetry::traces::TraceContext;
use tokio::sync::mpsc;

use crate::{
    call::{Directive, since_epoch},
    news::News,
    outbound::guard::{Limits, Reached},
    session::{EndReason, Stats},
    worker::Cost,
};

pub(crate) mod book;
mod record;
mod timeline;

pub(crate) use book::{Book, Fingerprint, Key, Known, Which};
pub(crate) use record::{After, Direction, Fault, Record, Report, Status, Stream, after};
pub(crate) use timeline::Entry;

/// Directives that may wait for the task of a call; beyond it the API says that the call is busy.
const WAITING_DIRECTIVES: usize = 8;

/// How often calls of which nothing is heard are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Our ids begin so, and go on with hex digits.
const ID_PREFIX: &str = "call_";

/// Hex digits of an id: 128 random bits.
const ID_DIGITS: usize = 32;

/// The register of calls.
#[derive(Debug, Clone)]
pub(crate) struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    news: News,
}

/// What the task of a call gets when its stream begins.
#[derive(Debug)]
pub(crate) struct Attached {
    /// What it is told to do from outside.
    pub(crate) directives: mpsc::Receiver<Box<Directive>>,
    /// What answered, where that is known already.
    pub(crate) answered_by: Option<String>,
    /// Our id of the call, and who dialled.
    pub(crate) id: String,
    pub(crate) direction: Direction,
    /// When its TwiML was answered.
    pub(crate) invited: Option<Duration>,
    /// Its trace, where one has begun.
    pub(crate) trace: Option<TraceContext>,
}

/// Why a call is not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The spend guard.
    Limit(Reached),
    /// Its idempotency key came with another request.
    KeyReused,
}

impl Registry {
    pub(crate) fn new(limits: Limits, max_call: Duration, news: News) -> Self {
        Self(Arc::new(Shared { book: Mutex::new(Book::new(limits, max_call)), news }))
    }

    /// A new id for a call.
    pub(crate) fn new_id() -> Option<String> {
        let (high, low) = (getrandom::u64().ok()?, getrandom::u64().ok()?);
        Some(format!("{ID_PREFIX}{high:016x}{low:016x}"))
    }

    /// A call rings in; a webhook that Twilio repeats changes nothing.
    pub(crate) fn incoming(&self, call_sid: &str, from: &str, to: &str, route: impl FnOnce(&mut Record)) {
        let mut book = self.book();
        if book.find(call_sid).is_some() {
            return;
        }
        let Some(id) = Self::new_id() else { return };
        let mut record = Record::new(id, Direction::Inbound, from.to_owned(), to.to_owned(), since_epoch());
        record.call_sid = Some(call_sid.to_owned());
        route(&mut record);
        book.add(record);
    }

    /// A media stream of this call begins. A call that is not known was announced by another gateway, or by TwiML that
    /// somebody else serves.
    pub(crate) fn stream_began(&self, call_sid: &str, from: &str, to: &str) -> Attached {
        self.incoming(call_sid, from, to, |_| {});
        let (line, directives) = mpsc::channel(WAITING_DIRECTIVES);
        let known = self.change(call_sid, |record, now| {
            let known = (record.answered_by.clone(), record.id.clone(), record.direction, record.times.invited);
            ((known, record.trace), record.stream_began(line, now))
        });
        let unknown = || ((None, String::new(), Direction::Inbound, None), None);
        let ((answered_by, id, direction, invited), trace) = known.unwrap_or_else(unknown);
        Attached { directives, answered_by, id, direction, invited, trace }
    }

    /// The media stream of this call ended.
    pub(crate) fn stream_ended(&self, call_sid: &str, reason: &EndReason, stats: Stats) {
        self.change(call_sid, |record, now| ((), record.stream_ended(reason, stats, now)));
    }

    /// What providers cost in this call so far.
    pub(crate) fn cost(&self, call_sid: &str, costs: Vec<Cost>) {
        self.change(call_sid, |record, _| {
            record.costs = costs;
            ((), None)
        });
    }

    /// The trace of this call, where one has begun.
    pub(crate) fn trace(&self, id: &str) -> Option<TraceContext> {
        self.read(id, |record| record.trace).flatten()
    }

    /// Begins the trace of this call, unless it has one.
    pub(crate) fn begin_trace(&self, id: &str, trace: TraceContext) {
        self.change(id, |record, _| {
            record.trace.get_or_insert(trace);
            ((), None)
        });
    }

    /// What comes after the stream of this call. A call that we do not know was on a gateway that is gone.
    pub(crate) fn after(&self, call_sid: &str) -> After {
        self.read(call_sid, |record| record.after.clone()).unwrap_or(After::Fallback)
    }

    /// Twilio was told to end this call.
    pub(crate) fn settle(&self, id: &str) {
        self.change(id, |record, now| ((), record.enter(Status::Completed, now)));
    }

    /// Adds an outbound call that waits for its turn, unless its idempotency key stands for another one already, whose id
    /// is the answer then.
    ///
    /// # Errors
    /// What stands against it.
    pub(crate) fn place(&self, record: Record, key: Option<(Key, Fingerprint)>) -> Result<Option<String>, Refusal> {
        let (mut book, now) = (self.book(), since_epoch());
        if let Some((key, fingerprint)) = &key {
            match book.known(key, fingerprint, now) {
                Known::Same(id) => return Ok(Some(id)),
                Known::Other => return Err(Refusal::KeyReused),
                Known::Nothing => {}
            }
        }
        book.reserve(record.from.expose(), record.to.expose(), now).map_err(Refusal::Limit)?;
        if let Some((key, fingerprint)) = key {
            book.bind_key(key, fingerprint, &record.id, now);
        }
        book.add(record);
        Ok(None)
    }

    /// Takes over an outbound call that another gateway placed, or this one before it was started anew. False, and nothing
    /// is added, when `record` has no id of the right shape or is known already.
    pub(crate) fn adopt(&self, record: Record) -> bool {
        let hex = record.id.strip_prefix(ID_PREFIX).unwrap_or_default();
        let is_id = hex.len() == ID_DIGITS && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut book = self.book();
        let is_known = |id: &str| book.find(id).is_some();
        if !is_id || is_known(&record.id) || record.call_sid.as_deref().is_some_and(is_known) {
            return false;
        }
        book.adopt(record);
        true
    }

    /// Takes back a call that [`Registry::place`] added and that nobody will place.
    pub(crate) fn withdraw(&self, id: &str) {
        self.book().withdraw(id, since_epoch());
    }

    /// What is known of an idempotency key.
    pub(crate) fn known(&self, key: &Key, fingerprint: &Fingerprint) -> Known {
        self.book().known(key, fingerprint, since_epoch())
    }

    /// A copy of a call, by either of its ids.
    pub(crate) fn get(&self, id: &str) -> Option<Record> {
        self.book().find(id).cloned()
    }

    /// Reads of a call, by either of its ids.
    pub(crate) fn read<T>(&self, id: &str, read: impl FnOnce(&Record) -> T) -> Option<T> {
        self.book().find(id).map(read)
    }

    /// Changes a call, by either of its ids; the event that `change` answers is told to its owner.
    pub(crate) fn change<T>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Record, Duration) -> (T, Option<&'static str>),
    ) -> Option<T> {
        let now = since_epoch();
        self.book().change(id, now, |record| {
            let (answer, event) = change(record, now);
            // Under the lock, so that its events keep their order; nothing is waited for.
            if let Some(event) = event {
                self.0.news.tell(event, record, now);
            }
            answer
        })
    }

    /// A page of calls, newest first, and where the next one goes on.
    pub(crate) fn page(&self, which: Which, before: Option<u64>, limit: usize) -> (Vec<Record>, Option<u64>) {
        self.book().page(which, before, limit)
    }

    /// Gives up calls of which nothing is heard, for ever.
    pub(crate) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let silent = self.book().silent(since_epoch());
            for (id, why) in silent {
                self.change(&id, |record, now| {
                    record.end_reason.get_or_insert(why);
                    ((), record.enter(Status::Completed, now))
                });
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing under the lock panics half-way.
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
