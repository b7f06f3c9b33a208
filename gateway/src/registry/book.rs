//! Every call that is live, waits or ended lately, by our id and by Twilio's. Pure; `now` is an argument.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use super::record::{Direction, Record, Status, Stream};
use crate::outbound::guard::{Guard, Limits, Reached};

/// Calls that are remembered after their end; the oldest are forgotten.
pub(super) const REMEMBERED_CALLS: usize = 10_000;

/// Idempotency keys that are remembered; beyond it the oldest are forgotten before their day is over.
const REMEMBERED_KEYS: usize = 100_000;

/// How long an idempotency key stands for its call.
const KEY_LIFETIME: Duration = Duration::from_secs(86_400);

/// A webhook was answered and no stream came for so long: the caller left while it rang.
const STREAM_LIMIT: Duration = Duration::from_secs(120);

/// A stream ended and Twilio did not ask what comes next.
const AFTER_LIMIT: Duration = Duration::from_secs(60);

/// Twilio says nothing of a call that we placed: its longest ring time is 10 minutes.
const SILENCE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The calls, in the order of their beginning.
#[derive(Debug)]
pub(crate) struct Book {
    calls: BTreeMap<u64, Record>,
    by_id: HashMap<String, u64>,
    by_sid: HashMap<String, u64>,
    next: u64,
    ended: VecDeque<u64>,
    guard: Guard,
    keys: HashMap<Key, (Fingerprint, String)>,
    key_order: VecDeque<(Duration, Key)>,
    /// Longest call; one that was handed on is given up after it.
    max_call: Duration,
}

/// An idempotency key, and whose it is.
pub(crate) type Key = (usize, String);

/// Digest of the request that came with a key.
pub(crate) type Fingerprint = [u8; 32];

/// What is known of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// It placed this call.
    Same(String),
    /// It came with another request.
    Other,
    /// Nothing.
    Nothing,
}

/// Which calls a page is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Which {
    #[default]
    All,
    Live,
    Ended,
}

impl Book {
    pub(crate) fn new(limits: Limits, max_call: Duration) -> Self {
        Self {
            calls: BTreeMap::new(),
            by_id: HashMap::new(),
            by_sid: HashMap::new(),
            next: 0,
            ended: VecDeque::new(),
            guard: Guard::new(limits),
            keys: HashMap::new(),
            key_order: VecDeque::new(),
            max_call,
        }
    }

    /// Adds a call. An outbound one must have a place from [`Book::reserve`].
    pub(crate) fn add(&mut self, record: Record) {
        let number = self.next;
        self.next += 1;
        self.by_id.insert(record.id.clone(), number);
        if let Some(sid) = &record.call_sid {
            self.by_sid.insert(sid.clone(), number);
        }
        self.calls.insert(number, record);
    }

    /// Counts an outbound call from `from` to `to`.
    ///
    /// # Errors
    /// The limit that stands against it.
    pub(crate) fn reserve(&mut self, from: &str, to: &str, now: Duration) -> Result<(), Reached> {
        let live = self.calls.values().filter(|call| call.direction == Direction::Outbound && !call.is_over());
        let talking_s = live.map(|call| call.talk_s(now)).sum();
        self.guard.reserve(from, to, talking_s, now)
    }

    /// Adds an outbound call that another gateway placed, whatever the limits say.
    pub(crate) fn adopt(&mut self, record: Record) {
        self.guard.adopt();
        self.add(record);
    }

    /// A call by either of its ids.
    pub(crate) fn find(&self, id: &str) -> Option<&Record> {
        self.calls.get(self.by_id.get(id).or_else(|| self.by_sid.get(id))?)
    }

    /// Changes a call by either of its ids; what ended by it is moved to the remembered ones.
    pub(crate) fn change<T>(&mut self, id: &str, now: Duration, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let number = *self.by_id.get(id).or_else(|| self.by_sid.get(id))?;
        let record = self.calls.get_mut(&number)?;
        let was_over = record.is_over();
        let answer = change(record);
        if let Some(sid) = &record.call_sid
            && !self.by_sid.contains_key(sid)
        {
            self.by_sid.insert(sid.clone(), number);
        }
        if record.is_over() && !was_over {
            if record.direction == Direction::Outbound {
                self.guard.release(record.talk_s(now), now);
            }
            self.ended.push_back(number);
            self.forget();
        }
        Some(answer)
    }

    /// At most `limit` calls that began before the call number `before`, newest first, and the number from which the next
    /// page goes on.
    pub(crate) fn page(&self, which: Which, before: Option<u64>, limit: usize) -> (Vec<Record>, Option<u64>) {
        let fits = |call: &Record| match which {
            Which::All => true,
            Which::Live => !call.is_over(),
            Which::Ended => call.is_over(),
        };
        let older = self.calls.range(..before.unwrap_or(u64::MAX)).rev();
        let mut found = older.filter(|(_, call)| fits(call)).take(limit.saturating_add(1));
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let next = if found.next().is_some() { page.last().map(|(number, _)| **number) } else { None };
        (page.into_iter().map(|(_, call)| call.clone()).collect(), next)
    }

    /// What is known of an idempotency key.
    pub(crate) fn known(&mut self, key: &Key, fingerprint: &Fingerprint, now: Duration) -> Known {
        while self.key_order.front().is_some_and(|(at, _)| *at + KEY_LIFETIME <= now)
            || self.key_order.len() > REMEMBERED_KEYS
        {
            if let Some((_, old)) = self.key_order.pop_front() {
                self.keys.remove(&old);
            }
        }
        match self.keys.get(key) {
            Some((same, id)) if same == fingerprint => Known::Same(id.clone()),
            Some(_) => Known::Other,
            None => Known::Nothing,
        }
    }

    /// From now on `key` stands for the call `id`.
    pub(crate) fn bind_key(&mut self, key: Key, fingerprint: Fingerprint, id: &str, now: Duration) {
        self.key_order.push_back((now, key.clone()));
        self.keys.insert(key, (fingerprint, id.to_owned()));
    }

    /// Forgets an outbound call, and its key, as if it had never been added.
    pub(crate) fn withdraw(&mut self, id: &str, now: Duration) {
        if let Some(number) = self.by_id.remove(id)
            && self.calls.remove(&number).is_some()
        {
            self.guard.release(0, now);
            self.keys.retain(|_, (_, of)| of != id);
        }
    }

    /// Ids of calls that must be taken for ended, since nothing was heard of them for too long.
    pub(crate) fn silent(&self, now: Duration) -> Vec<(String, &'static str)> {
        let overdue = |call: &Record| {
            let (limit, why) = match (call.stream, call.status) {
                (Stream::Live, _) | (_, Status::Waiting | Status::Dialling) => return None,
                _ if call.stream_url.is_some() => (self.max_call, "no_word"),
                (Stream::Awaited, _) if call.direction == Direction::Inbound => (STREAM_LIMIT, "never_streamed"),
                (Stream::Awaited, _) => (SILENCE_LIMIT, "no_word"),
                (Stream::Over, _) if matches!(call.after, super::After::Transfer(_)) => (self.max_call, "no_word"),
                (Stream::Over, _) => (AFTER_LIMIT, "no_word"),
            };
            (call.times.changed + limit <= now).then(|| (call.id.clone(), why))
        };
        self.calls.values().filter(|call| !call.is_over()).filter_map(overdue).collect()
    }

    fn forget(&mut self) {
        while self.ended.len() > REMEMBERED_CALLS
            && let Some(oldest) = self.ended.pop_front()
            && let Some(record) = self.calls.remove(&oldest)
        {
            self.by_id.remove(&record.id);
            if let Some(sid) = &record.call_sid {
                self.by_sid.remove(sid);
            }
        }
    }
}

#[cfg(test)]
mod tests;
