//! Which event goes out when: in order for each call, so many at a time, again after a failure, and no more than fit.
//! Pure: `now` is an argument, the time since some moment of the caller's.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use crate::backoff::Backoff;

/// What bounds an outbox.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Events that wait or are on their way; the oldest waiting one makes room for a further one.
    pub events: usize,
    /// On their way at a time.
    pub at_a_time: usize,
    /// Tries of one event.
    pub tries: Backoff,
}

impl Limits {
    /// 1000 events, 8 at a time; 5 tries over a minute, and over two when the receiver takes its time to fail.
    pub const USUAL: Self = Self {
        events: 1000,
        at_a_time: 8,
        tries: Backoff {
            first: Duration::from_secs(4),
            longest: Duration::from_secs(32),
            attempts: 5,
            within: Duration::from_secs(130),
        },
    };
}

/// Events on their way; `M` is what there is to deliver.
#[derive(Debug)]
pub struct Outbox<M> {
    limits: Limits,
    /// In the order in which they came.
    entries: VecDeque<Entry<M>>,
    next_serial: u64,
    on_their_way: usize,
    /// Calls of which nobody wants to hear more, the oldest first; as many as there may be events.
    stopped: VecDeque<String>,
    counts: Counts,
}

#[derive(Debug)]
struct Entry<M> {
    serial: u64,
    /// Events of one call go one after the other.
    call: String,
    message: M,
    made: u32,
    first_try: Duration,
    not_before: Duration,
    on_its_way: bool,
}

/// What became of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken by their receiver.
    pub delivered: u64,
    /// Refused by it, or tried too often.
    pub given_up: u64,
    /// Never tried to the end: there was no room for them.
    pub dropped: u64,
    /// Still here.
    pub waiting: usize,
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It arrived.
    Delivered,
    /// It may arrive later; the receiver asked for this much patience.
    Later(Option<Duration>),
    /// It never will.
    Never,
    /// Nor will what this call has to say further.
    Stop,
}

impl Verdict {
    /// What an answer with this HTTP status means, which may ask for patience.
    pub const fn of(status: u16, patience: Option<Duration>) -> Self {
        match status {
            200..=299 => Self::Delivered,
            408 | 429 | 500..=599 => Self::Later(patience),
            410 => Self::Stop,
            _ => Self::Never,
        }
    }
}

impl<M: Clone> Outbox<M> {
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            next_serial: 0,
            on_their_way: 0,
            stopped: VecDeque::new(),
            counts: Counts { delivered: 0, given_up: 0, dropped: 0, waiting: 0 },
        }
    }

    /// Takes an event. False when there was no room: an older one, or this one, is gone.
    pub fn push(&mut self, call: String, message: M, now: Duration) -> bool {
        if self.stopped.contains(&call) {
            self.counts.given_up += 1;
            return true;
        }
        let mut had_room = true;
        if self.entries.len() >= self.limits.events {
            had_room = false;
            self.counts.dropped += 1;
            let Some(oldest) = self.entries.iter().position(|entry| !entry.on_its_way) else { return false };
            self.entries.remove(oldest);
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.entries.push_back(Entry {
            serial,
            call,
            message,
            made: 0,
            first_try: now,
            not_before: now,
            on_its_way: false,
        });
        had_room
    }

    /// The next event that goes out, to be told of by [`Outbox::tried`].
    pub fn poll_send(&mut self, now: Duration) -> Option<(u64, M)> {
        if self.on_their_way >= self.limits.at_a_time {
            return None;
        }
        let at = self.firsts().find(|at| self.entries[*at].not_before <= now)?;
        let entry = self.entries.get_mut(at)?;
        entry.on_its_way = true;
        entry.made += 1;
        if entry.made == 1 {
            entry.first_try = now;
        }
        self.on_their_way += 1;
        Some((entry.serial, entry.message.clone()))
    }

    /// When [`Outbox::poll_send`] is to be asked again, even though nothing happens until then.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.on_their_way >= self.limits.at_a_time {
            return None;
        }
        self.firsts().map(|at| self.entries[at].not_before).min()
    }

    /// What came of an event that was sent. `chance` is any number, evenly.
    pub fn tried(&mut self, serial: u64, verdict: Verdict, now: Duration, chance: u32) {
        let Some(at) = self.entries.iter().position(|entry| entry.serial == serial && entry.on_its_way) else { return };
        self.on_their_way = self.on_their_way.saturating_sub(1);
        if let Verdict::Later(asked) = verdict
            && let Some(entry) = self.entries.get_mut(at)
        {
            let elapsed = now.saturating_sub(entry.first_try);
            if let Some(wait) = self.limits.tries.wait(entry.made, elapsed, asked, chance) {
                entry.not_before = now + wait;
                entry.on_its_way = false;
                return;
            }
        }
        let Some(gone) = self.entries.remove(at) else { return };
        match verdict {
            Verdict::Delivered => self.counts.delivered += 1,
            Verdict::Later(_) | Verdict::Never => self.counts.given_up += 1,
            Verdict::Stop => {
                let before = self.entries.len();
                self.entries.retain(|entry| entry.call != gone.call);
                self.counts.given_up += 1 + u64::try_from(before - self.entries.len()).unwrap_or_default();
                if self.stopped.len() >= self.limits.events {
                    self.stopped.pop_front();
                }
                self.stopped.push_back(gone.call);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn counts(&self) -> Counts {
        Counts { waiting: self.entries.len(), ..self.counts }
    }

    /// The first event of each call, unless it is on its way.
    fn firsts(&self) -> impl Iterator<Item = usize> {
        let mut calls = HashSet::new();
        let entries = self.entries.iter().enumerate();
        entries.filter_map(move |(at, entry)| (calls.insert(entry.call.as_str()) && !entry.on_its_way).then_some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        events: 6,
        at_a_time: 2,
        tries: Backoff {
            first: Duration::from_secs(4),
            longest: Duration::from_secs(32),
            attempts: 5,
            within: Duration::from_secs(130),
        },
    };
    const MIDDLE: u32 = u32::MAX / 2;

    fn outbox(pushed: &[(&str, &'static str)]) -> Outbox<&'static str> {
        let mut outbox = Outbox::new(LIMITS);
        for (call, event) in pushed {
            assert!(outbox.push((*call).to_owned(), *event, Duration::ZERO));
        }
        outbox
    }

    fn sent(outbox: &mut Outbox<&'static str>, now: Duration) -> Vec<&'static str> {
        std::iter::from_fn(|| outbox.poll_send(now)).map(|(_, event)| event).collect()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_calls_events_go_one_after_the_other_and_calls_beside_each_other() {
        let mut outbox = outbox(&[("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1")]);
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["a1", "b1"]);
        assert_eq!(outbox.poll_timeout(), None, "all places are taken");
        outbox.tried(2, Verdict::Delivered, Duration::ZERO, MIDDLE);
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["c1"]);
        outbox.tried(0, Verdict::Delivered, Duration::ZERO, MIDDLE);
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["a2"]);
        outbox.tried(1, Verdict::Delivered, Duration::ZERO, MIDDLE);
        outbox.tried(3, Verdict::Delivered, Duration::ZERO, MIDDLE);
        assert!(outbox.is_empty());
        assert_eq!(outbox.counts(), Counts { delivered: 4, ..Counts::default() });
    }

    #[test]
    fn a_failed_event_holds_its_call_and_no_other() {
        let mut outbox = outbox(&[("a", "a1"), ("a", "a2"), ("b", "b1")]);
        let (mut now, mut tries) = (Duration::ZERO, Vec::new());
        loop {
            match outbox.poll_send(now) {
                Some((serial, "a1")) => {
                    tries.push(now.as_secs_f64().round());
                    // The receiver takes ten seconds not to answer.
                    now += seconds(10);
                    outbox.tried(serial, Verdict::Later(None), now, MIDDLE);
                }
                Some((serial, "b1")) => outbox.tried(serial, Verdict::Delivered, now, MIDDLE),
                Some((_, other)) => {
                    assert_eq!((other, tries.len()), ("a2", 5));
                    break;
                }
                None => now = outbox.poll_timeout().expect("it is tried again"),
            }
        }
        assert_eq!(tries, [0.0, 14.0, 32.0, 58.0, 100.0]);
        assert_eq!(outbox.counts(), Counts { delivered: 1, given_up: 1, dropped: 0, waiting: 1 });
    }

    #[test]
    fn a_receiver_may_ask_for_patience() {
        let mut outbox = outbox(&[("a", "a1")]);
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["a1"]);
        outbox.tried(0, Verdict::Later(Some(seconds(50))), seconds(1), MIDDLE);
        assert_eq!(outbox.poll_timeout(), Some(seconds(51)));
        assert!(sent(&mut outbox, seconds(50)).is_empty());
        assert_eq!(sent(&mut outbox, seconds(51)), ["a1"]);
        outbox.tried(0, Verdict::Later(Some(seconds(3600))), seconds(52), MIDDLE);
        assert_eq!(outbox.counts().given_up, 1);
    }

    #[test]
    fn a_refusal_is_final_and_a_stop_is_for_the_whole_call() {
        let mut outbox = outbox(&[("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")]);
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["a1", "b1"]);
        outbox.tried(2, Verdict::Never, Duration::ZERO, MIDDLE);
        outbox.tried(0, Verdict::Stop, Duration::ZERO, MIDDLE);
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["b2"]);
        assert_eq!(outbox.counts(), Counts { delivered: 0, given_up: 4, dropped: 0, waiting: 1 });
        assert!(outbox.push("a".to_owned(), "a4", Duration::ZERO));
        assert_eq!(outbox.counts(), Counts { delivered: 0, given_up: 5, dropped: 0, waiting: 1 });
        // Told twice, or of what never was.
        outbox.tried(0, Verdict::Delivered, Duration::ZERO, MIDDLE);
        outbox.tried(99, Verdict::Delivered, Duration::ZERO, MIDDLE);
        assert_eq!(outbox.counts().delivered, 0);
    }

    #[test]
    fn no_more_stopped_calls_are_remembered_than_there_may_be_events() {
        let mut outbox = outbox(&[]);
        for call in 0..=LIMITS.events {
            assert!(outbox.push(call.to_string(), "first", Duration::ZERO));
            let (serial, _) = outbox.poll_send(Duration::ZERO).unwrap();
            outbox.tried(serial, Verdict::Stop, Duration::ZERO, MIDDLE);
        }
        assert!(outbox.push("1".to_owned(), "still stopped", Duration::ZERO));
        assert!(outbox.is_empty());
        assert!(outbox.push("0".to_owned(), "forgotten", Duration::ZERO));
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["forgotten"]);
    }

    #[test]
    fn the_oldest_waiting_event_makes_room() {
        let mut outbox = outbox(&[("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1"), ("c", "c2"), ("c", "c3")]);
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["a1", "b1"]);
        assert!(!outbox.push("d".to_owned(), "d1", Duration::ZERO));
        outbox.tried(0, Verdict::Delivered, Duration::ZERO, MIDDLE);
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["c1"], "a2 is gone");
        assert_eq!(outbox.counts(), Counts { delivered: 1, given_up: 0, dropped: 1, waiting: 5 });
        let busy = Limits { events: 1, ..LIMITS };
        let mut outbox = Outbox::new(busy);
        assert!(outbox.push("a".to_owned(), "a1", Duration::ZERO));
        assert_eq!(sent(&mut outbox, Duration::ZERO), ["a1"]);
        assert!(!outbox.push("a".to_owned(), "a2", Duration::ZERO));
        assert_eq!(outbox.counts(), Counts { delivered: 0, given_up: 0, dropped: 1, waiting: 1 });
    }
}
