//! The sessions that one call has at a place where nobody stands in, one after the other. Its breaker learns how they go; while
//! it is open, a call that was never well there is told so at once, and need not wait for what will not come.

use std::{fmt, sync::Arc, time::Instant};

use super::{
    Fault, ProviderError,
    place::{Asking, Place},
};

/// Why nothing was tried, in words for the log.
pub(crate) const LEFT_ALONE: &str = "it is left alone for a while, since it failed before";

/// The sessions of one call.
pub(crate) struct Visits {
    place: Arc<Place>,
    asking: Option<Asking>,
    was_well: bool,
}

impl Visits {
    /// None yet.
    pub(crate) const fn at(place: Arc<Place>) -> Self {
        Self { place, asking: None, was_well: false }
    }

    /// Another one begins; false when the place is left alone. A call that was well there has too much to lose, and tries.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        self.end();
        self.asking = if self.was_well { Some(self.place.insist()) } else { self.place.ask(now) };
        self.asking.is_some()
    }

    /// It is there.
    pub(crate) fn well(&mut self) {
        self.here().answered();
    }

    /// It does what it is there for: faults before that were chance.
    pub(crate) fn served(&mut self) {
        self.here().served();
    }

    /// Nobody looks at it for a while, as while a call is on hold. Unless it was well it is given up: another call may try.
    pub(crate) fn pause(&mut self) {
        if !self.was_well {
            self.asking = None;
        }
    }

    /// It failed. Who refuses, does so at once: that is no reason to leave it alone, and the next may be let in.
    pub(crate) fn failed(&mut self, error: &ProviderError, now: Instant) {
        let Some(asking) = &mut self.asking else { return };
        match error.kind {
            Fault::Denied | Fault::Rejected | Fault::Busy => asking.ended(),
            Fault::Unreachable | Fault::Timeout | Fault::Failed | Fault::Malformed | Fault::Empty => {
                asking.failed(error, now)
            }
        }
    }

    fn here(&mut self) -> &mut Asking {
        self.was_well = true;
        self.asking.get_or_insert_with(|| self.place.insist())
    }

    fn end(&mut self) {
        if let Some(mut asking) = self.asking.take() {
            asking.released();
        }
    }
}

impl Drop for Visits {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Visits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visits").field("place", &self.place).field("was_well", &self.was_well).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        agent::Stage,
        provider::place::{Places, now},
    };

    fn place() -> Arc<Place> {
        Places::default().at(Stage::Realtime, "openai", &"wss://one.example/v1".parse().unwrap(), None)
    }

    fn error(kind: Fault) -> ProviderError {
        ProviderError { kind, detail: String::new() }
    }

    #[test]
    fn after_three_faults_new_calls_are_told_at_once_and_one_call_tries_after_the_pause() {
        let (place, start) = (place(), now());
        let call = || Visits::at(Arc::clone(&place));
        let mut conversing = call();
        assert!(conversing.begin(start));
        conversing.well();
        for _ in 0..3 {
            let mut visits = call();
            assert!(visits.begin(start));
            visits.failed(&error(Fault::Timeout), start);
        }
        assert!(place.is_open() && !call().begin(start));
        // Who was well there goes on trying, and closes it for all.
        conversing.failed(&error(Fault::Unreachable), start);
        assert!(conversing.begin(start) && place.is_open());
        conversing.well();
        assert!(!place.is_open() && call().begin(start));

        for _ in 0..3 {
            let mut visits = call();
            assert!(visits.begin(start));
            visits.failed(&error(Fault::Malformed), start);
        }
        // It is never left alone for longer than 10 s; one that hangs up while it tries says nothing.
        let mut at = start;
        for pause in [5, 10, 10, 10] {
            at += Duration::from_secs(pause) - Duration::from_millis(1);
            assert!(!call().begin(at), "{pause}");
            at += Duration::from_millis(1);
            let mut gone = call();
            assert!(gone.begin(at) && !call().begin(at), "{pause}");
            drop(gone);
            let mut trial = call();
            // What is given up is so in real time.
            at = at.max(now());
            assert!(trial.begin(at), "{pause}");
            trial.failed(&error(Fault::Empty), at);
        }
    }

    #[test]
    fn faults_between_calls_that_are_served_open_nothing() {
        let (place, start) = (place(), now());
        let mut lasting = Vec::new();
        for fault in 0..9 {
            let mut visits = Visits::at(Arc::clone(&place));
            assert!(visits.begin(start), "{fault}");
            visits.failed(&error(Fault::Unreachable), start);
            let mut served = Visits::at(Arc::clone(&place));
            assert!(served.begin(start));
            served.well();
            served.served();
            // None of them ends meanwhile.
            lasting.push(served);
        }
        assert!(!place.is_open());
        // To be there is not enough: such a server may fail all the same.
        for _ in 0..3 {
            let mut visits = Visits::at(Arc::clone(&place));
            assert!(visits.begin(start));
            visits.well();
            visits.failed(&error(Fault::Failed), start);
        }
        assert!(place.is_open());
    }

    #[test]
    fn a_call_on_hold_is_no_trial() {
        let (place, start) = (place(), now());
        for _ in 0..3 {
            let mut visits = Visits::at(Arc::clone(&place));
            assert!(visits.begin(start));
            visits.failed(&error(Fault::Timeout), start);
        }
        let mut at = start + Duration::from_secs(5);
        let (mut held, mut next) = (Visits::at(Arc::clone(&place)), Visits::at(Arc::clone(&place)));
        assert!(held.begin(at) && !next.begin(at));
        held.pause();
        // What is given up is so in real time.
        at = at.max(now());
        assert!(next.begin(at));
        // It was there all the same.
        held.well();
        assert!(!place.is_open());
    }

    #[test]
    fn who_refuses_is_asked_all_the_same() {
        let (place, start) = (place(), now());
        for kind in
            [Fault::Denied, Fault::Rejected, Fault::Busy, Fault::Busy, Fault::Busy, Fault::Denied, Fault::Denied]
        {
            let mut visits = Visits::at(Arc::clone(&place));
            assert!(visits.begin(start));
            visits.failed(&error(kind), start);
        }
        assert!(!place.is_open());
    }
}
