//! The circuit breaker of one place where a provider is: closed, it may be asked; open, it is left alone for a while; then
//! one request tries it. Pure: moments come in, permissions and changes come out.

use std::time::{Duration, Instant};

use super::Fault;

/// Faults in a row that open it: one is chance, and a second one is what the retry within a request is for.
const FAULTS: u32 = 3;

/// How long it stays open at first, and at most: it doubles with each trial that fails.
const PAUSE: Bounds = Bounds { first: Duration::from_secs(5), longest: Duration::from_secs(60) };

/// The same where nobody stands in: what is left alone there is refused to a caller, and may be well again by then.
const ALONE_PAUSE: Bounds = Bounds { first: Duration::from_secs(5), longest: Duration::from_secs(10) };

/// How long a trial may be under way without a word of how it went, before another may try: no request has nothing to tell
/// for so long, but one who listens to a silent caller has.
const TRIAL: Duration = Duration::from_secs(30);

/// The same for a key that is refused: that does not get better by itself.
const DENIED_PAUSE: Bounds = Bounds { first: Duration::from_secs(60), longest: Duration::from_secs(600) };

/// A circuit breaker. It is closed at first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Breaker {
    state: State,
    /// Trials so far, so that none is taken for another.
    trials: u64,
    /// Faults so far, whether they changed anything or not.
    faults: u64,
    /// Nobody stands in for what is there.
    is_alone: bool,
}

/// A permission to ask. What becomes of the request is told with it, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// One request of many.
    Usual,
    /// The one request that tries a place that failed.
    Trial(u64),
}

/// What is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened, and stays open for so long.
    Opened(Duration),
    /// It closed.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        /// In a row.
        faults: u32,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    Trying {
        trial: u64,
        /// Then another may try.
        until: Instant,
        /// What came before it.
        pause: Duration,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { faults: 0 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: Duration,
    longest: Duration,
}

impl Breaker {
    /// A breaker of a place where nobody stands in: it stays open for less long.
    pub fn alone() -> Self {
        Self { is_alone: true, ..Self::default() }
    }

    /// A permission to ask, unless it is open. After its pause there is one, and another when that tells nothing.
    pub fn ask(&mut self, now: Instant) -> Option<Pass> {
        match self.state {
            State::Closed { .. } => Some(Pass::Usual),
            State::Open { until, pause } | State::Trying { until, pause, .. } if until <= now => {
                self.trials += 1;
                self.state = State::Trying { trial: self.trials, until: now + TRIAL, pause };
                Some(Pass::Trial(self.trials))
            }
            State::Open { .. } | State::Trying { .. } => None,
        }
    }

    /// A request has the first piece of its answer: whoever was thought to be dead is alive.
    pub const fn answered(&mut self) -> Option<Change> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { .. } | State::Trying { .. } => {
                self.state = State::Closed { faults: 0 };
                Some(Change::Closed)
            }
        }
    }

    /// A request has come to a good end.
    pub const fn ended(&mut self) -> Option<Change> {
        let change = self.answered();
        self.state = State::Closed { faults: 0 };
        change
    }

    /// A request failed.
    pub fn failed(&mut self, pass: Pass, fault: Fault, now: Instant) -> Option<Change> {
        let bounds = match fault {
            // It understood what it was asked, and is well.
            Fault::Rejected => return if self.is_trial(pass) { self.answered() } else { None },
            Fault::Denied => DENIED_PAUSE,
            Fault::Unreachable | Fault::Timeout | Fault::Busy | Fault::Failed | Fault::Malformed | Fault::Empty => {
                if self.is_alone {
                    ALONE_PAUSE
                } else {
                    PAUSE
                }
            }
        };
        self.faults += 1;
        let pause = match self.state {
            State::Closed { faults } => {
                let faults = faults + 1;
                if faults < FAULTS && fault != Fault::Denied {
                    self.state = State::Closed { faults };
                    return None;
                }
                bounds.first
            }
            State::Trying { pause, .. } if self.is_trial(pass) => (pause * 2).clamp(bounds.first, bounds.longest),
            // It is known to be ill; this request was asked before, or since there was nobody else.
            State::Open { .. } | State::Trying { .. } => return None,
        };
        self.state = State::Open { until: now + pause, pause };
        Some(Change::Opened(pause))
    }

    /// Nobody waited for the answer; that says nothing of who was asked.
    pub fn given_up(&mut self, pass: Pass, now: Instant) {
        if let State::Trying { pause, .. } = self.state
            && self.is_trial(pass)
        {
            self.state = State::Open { until: now, pause };
        }
    }

    /// Faults since it was made.
    pub const fn faults(&self) -> u64 {
        self.faults
    }

    /// True unless it is closed.
    pub const fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    fn is_trial(&self, pass: Pass) -> bool {
        matches!((self.state, pass), (State::Trying { trial, .. }, Pass::Trial(of)) if trial == of)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
    fn start() -> Instant {
        Instant::now()
    }

    fn opened(fault: Fault, now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        while !breaker.is_open() {
            let pass = breaker.ask(now).unwrap();
            breaker.failed(pass, fault, now);
        }
        breaker
    }

    #[test]
    fn three_faults_in_a_row_open_it_and_a_good_end_between_them_does_not() {
        let (mut breaker, now) = (Breaker::default(), start());
        for fault in [Fault::Timeout, Fault::Malformed] {
            assert_eq!(breaker.failed(Pass::Usual, fault, now), None);
        }
        breaker.ended();
        for fault in [Fault::Unreachable, Fault::Busy, Fault::Rejected, Fault::Rejected] {
            assert_eq!(breaker.failed(Pass::Usual, fault, now), None);
        }
        assert_eq!(breaker.failed(Pass::Usual, Fault::Failed, now), Some(Change::Opened(SECOND * 5)));
        assert_eq!(breaker.ask(now + SECOND * 4), None);
    }

    #[test]
    fn one_request_at_a_time_tries_and_pauses_grow_to_a_minute() {
        let mut now = start();
        let mut breaker = opened(Fault::Unreachable, now);
        for pause in [5, 10, 20, 40, 60, 60] {
            now += SECOND * pause - Duration::from_millis(1);
            assert_eq!(breaker.ask(now), None);
            now += Duration::from_millis(1);
            let trial = breaker.ask(now).unwrap();
            assert_eq!(breaker.ask(now), None);
            // What was asked before it opened says nothing new.
            assert_eq!(breaker.failed(Pass::Usual, Fault::Unreachable, now), None);
            let next = (SECOND * pause * 2).min(SECOND * 60);
            assert_eq!(breaker.failed(trial, Fault::Timeout, now), Some(Change::Opened(next)));
        }
        now += SECOND * 60;
        let trial = breaker.ask(now).unwrap();
        breaker.given_up(trial, now);
        assert!(breaker.is_open());
        let trial = breaker.ask(now).unwrap();
        assert_eq!((breaker.answered(), breaker.is_open()), (Some(Change::Closed), false));
        // It begins anew.
        assert_eq!(breaker.failed(trial, Fault::Failed, now), None);
        assert_eq!(breaker.failed(Pass::Usual, Fault::Failed, now), None);
        assert_eq!(breaker.failed(Pass::Usual, Fault::Failed, now), Some(Change::Opened(SECOND * 5)));
    }

    #[test]
    fn a_wrong_key_opens_it_at_once_and_for_longer_and_a_wrong_request_never() {
        let mut now = start();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failed(Pass::Usual, Fault::Denied, now), Some(Change::Opened(SECOND * 60)));
        for pause in [60, 120, 240, 480] {
            now += SECOND * pause;
            let trial = breaker.ask(now).unwrap();
            let next = (SECOND * pause * 2).min(SECOND * 600);
            assert_eq!(breaker.failed(trial, Fault::Denied, now), Some(Change::Opened(next)));
        }
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            assert_eq!(breaker.failed(Pass::Usual, Fault::Rejected, now), None);
        }
        let mut breaker = opened(Fault::Timeout, now);
        let trial = breaker.ask(now + SECOND * 5).unwrap();
        assert_eq!(breaker.failed(trial, Fault::Rejected, now), Some(Change::Closed));
    }

    #[test]
    fn a_trial_that_tells_nothing_does_not_keep_others_from_trying() {
        let now = start();
        let mut breaker = opened(Fault::Unreachable, now);
        let silent = breaker.ask(now + SECOND * 5).unwrap();
        assert_eq!(breaker.ask(now + SECOND * 34), None);
        let next = breaker.ask(now + SECOND * 35).unwrap();
        assert_eq!(breaker.ask(now + SECOND * 35), None);
        // What becomes of the first one is not that of the trial.
        breaker.given_up(silent, now + SECOND * 36);
        assert_eq!(breaker.ask(now + SECOND * 36), None);
        assert_eq!(breaker.failed(next, Fault::Timeout, now + SECOND * 37), Some(Change::Opened(SECOND * 10)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wait(u64),
        Ask,
        Insist,
        Settle(usize, End),
    }

    #[derive(Debug, Clone, Copy)]
    enum End {
        Answered,
        Ended,
        Failed(Fault),
        GivenUp,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let fault = prop::sample::select(&Fault::ALL[..]).prop_map(End::Failed);
        let end = prop_oneof![1 => Just(End::Answered), 1 => Just(End::Ended), 8 => fault, 1 => Just(End::GivenUp)];
        let step = prop_oneof![
            3 => (0..90_000_u64).prop_map(Step::Wait),
            3 => Just(Step::Ask),
            1 => Just(Step::Insist),
            4 => (any::<usize>(), end).prop_map(|(which, end)| Step::Settle(which, end)),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        /// Whatever happens: at most one trial is out while it is open, it does not stay open for longer than it says, and
        /// it opens for faults alone.
        #[test]
        fn it_is_never_stuck_and_never_tried_twice(steps in steps()) {
            let (mut breaker, mut now) = (Breaker::default(), start());
            let mut out: Vec<Pass> = Vec::new();
            let (mut shut_until, mut trial_until) = (now, now);
            for step in steps {
                let was_open = breaker.is_open();
                match step {
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                    Step::Insist => out.push(Pass::Usual),
                    Step::Ask => {
                        let has_trial = out.iter().any(|pass| breaker.is_trial(*pass));
                        let pass = breaker.ask(now);
                        prop_assert_eq!(pass.is_some(), !was_open || (now >= shut_until && (!has_trial || now >= trial_until)));
                        prop_assert_eq!(matches!(pass, Some(Pass::Trial(_))), was_open && pass.is_some());
                        if matches!(pass, Some(Pass::Trial(_))) {
                            trial_until = now + TRIAL;
                        }
                        out.extend(pass);
                    }
                    Step::Settle(which, end) if !out.is_empty() => {
                        let pass = out.swap_remove(which % out.len());
                        let change = match end {
                            End::Answered => breaker.answered(),
                            End::Ended => breaker.ended(),
                            End::Failed(fault) => breaker.failed(pass, fault, now),
                            End::GivenUp => {
                                breaker.given_up(pass, now);
                                None
                            }
                        };
                        match change {
                            Some(Change::Opened(pause)) => {
                                prop_assert!(matches!(end, End::Failed(fault) if fault != Fault::Rejected));
                                prop_assert!(pause >= PAUSE.first && pause <= DENIED_PAUSE.longest);
                                prop_assert!(breaker.is_open());
                                shut_until = now + pause;
                            }
                            Some(Change::Closed) => prop_assert!(was_open && !breaker.is_open()),
                            None => prop_assert_eq!(breaker.is_open(), was_open),
                        }
                    }
                    Step::Settle(..) => {}
                }
            }
        }
    }
}
