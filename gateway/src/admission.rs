//! Whether there is room: for a call that a webhook announces, and for a socket that has shown no ticket yet.
//!
//! Pure: `now` is an argument. A call that was announced counts as if it were live until its socket shows the ticket,
//! or until that ticket is too old; so a burst of webhooks cannot pass the limit before their sockets come.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::{rate::Rate, ticket};

/// Most calls a second that can be configured; more than any gateway carries.
pub const MAX_RATE: u32 = 10_000;

/// How much there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls at a time, announced ones included.
    pub calls: u32,
    /// Sockets at a time that have not shown a ticket.
    pub pending_sockets: u32,
    /// Calls a second; `None` for any number.
    pub calls_per_second: Option<u32>,
    /// Sockets come from calls that were announced: without a good ticket none becomes a call.
    pub tickets: bool,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// [`Limits::calls`].
    Calls,
    /// [`Limits::calls_per_second`].
    Rate,
    /// [`Limits::pending_sockets`].
    PendingSockets,
    /// The gateway takes nobody any more.
    Draining,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Calls, Self::Rate, Self::PendingSockets, Self::Draining];

    /// The reason as a label: the setting that it comes from.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Calls => "max_calls",
            Self::Rate => "max_calls_per_second",
            Self::PendingSockets => "max_pending_sockets",
            Self::Draining => "draining",
        }
    }
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no room: {}", reason.label())]
pub struct Refused {
    /// Which limit was reached.
    pub reason: Reason,
    /// How often so far.
    pub count: u64,
}

impl Refused {
    /// True for the 1st, 2nd, 4th, 8th… time: often enough for a log, and a flood does not flood it.
    pub const fn is_worth_a_line(self) -> bool {
        self.count.is_power_of_two()
    }
}

/// Who was let in, and how often nobody was.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    rate: Option<Rate>,
    /// Sockets that showed a ticket.
    calls: u32,
    /// Sockets that did not yet.
    pending: u32,
    /// Announced calls without such a socket, and until when they count: at most as many as there may be calls, and
    /// those on the line already.
    announced: HashMap<String, Instant>,
    /// The same by time.
    deadlines: BTreeSet<(Instant, String)>,
    /// In the order of [`Reason::ALL`].
    refused: [u64; Reason::ALL.len()],
}

impl Admission {
    /// With nobody inside.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            rate: limits.calls_per_second.map(Rate::per_second),
            calls: 0,
            pending: 0,
            announced: HashMap::new(),
            deadlines: BTreeSet::new(),
            refused: [0; Reason::ALL.len()],
        }
    }

    /// A webhook announces a call at `now`. One that is announced again, as Twilio does when an answer is lost, has its
    /// room already.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn announce(&mut self, call_sid: &str, now: Instant) -> Result<(), Refused> {
        self.expire(now);
        let is_new = !self.announced.contains_key(call_sid);
        if is_new && self.calls.saturating_add(self.announced()) >= self.limits.calls {
            return Err(self.refuse(Reason::Calls));
        }
        if is_new && self.rate.as_mut().is_some_and(|rate| rate.allow(now).is_err()) {
            return Err(self.refuse(Reason::Rate));
        }
        self.hold(call_sid, now);
        Ok(())
    }

    /// Keeps room for a call that is on the line already, since we dialled it or since it comes back for another
    /// stream. It was let in before, perhaps still holds the place of its last stream, and is not turned away now.
    pub fn hold(&mut self, call_sid: &str, now: Instant) {
        self.forget(call_sid);
        // A ticket holds through the last of its seconds.
        let deadline = now + ticket::LIFETIME + Duration::from_secs(1);
        self.announced.insert(call_sid.to_owned(), deadline);
        self.deadlines.insert((deadline, call_sid.to_owned()));
    }

    /// Nothing more will come of the announced call.
    pub fn forget(&mut self, call_sid: &str) {
        if let Some(deadline) = self.announced.remove(call_sid) {
            self.deadlines.remove(&(deadline, call_sid.to_owned()));
        }
    }

    /// Sockets at a time, at most.
    pub fn max_sockets(&self) -> usize {
        usize::try_from(self.limits.calls.saturating_add(self.limits.pending_sockets)).unwrap_or(usize::MAX)
    }

    /// A socket wants to open.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn open(&mut self) -> Result<(), Refused> {
        if self.pending >= self.limits.pending_sockets {
            return Err(self.refuse(Reason::PendingSockets));
        }
        // Sockets that no webhook announced are bounded here or nowhere.
        if !self.limits.tickets && self.calls.saturating_add(self.pending) >= self.limits.calls {
            return Err(self.refuse(Reason::Calls));
        }
        self.pending += 1;
        Ok(())
    }

    /// A socket that is open turned out to be this call.
    pub fn begin(&mut self, call_sid: &str) {
        self.forget(call_sid);
        self.pending = self.pending.saturating_sub(1);
        self.calls += 1;
    }

    /// A socket is gone; `began` if it was a call.
    pub fn close(&mut self, began: bool) {
        let count = if began { &mut self.calls } else { &mut self.pending };
        *count = count.saturating_sub(1);
    }

    /// Counts a refusal.
    pub fn refuse(&mut self, reason: Reason) -> Refused {
        let count = &mut self.refused[reason as usize];
        *count += 1;
        Refused { reason, count: *count }
    }

    /// Announced calls whose socket did not come yet.
    pub fn announced(&self) -> u32 {
        u32::try_from(self.announced.len()).unwrap_or(u32::MAX)
    }

    /// Sockets that have shown no ticket yet.
    pub const fn pending(&self) -> u32 {
        self.pending
    }

    /// How often each limit was reached.
    pub fn refused(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.refused)
    }

    fn expire(&mut self, now: Instant) {
        while self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now)
            && let Some((_, call_sid)) = self.deadlines.pop_first()
        {
            self.announced.remove(&call_sid);
        }
    }
}

#[cfg(test)]
mod tests;
