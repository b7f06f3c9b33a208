//! The account's memory: calls, numbers, faults to come, and what was asked of it. One lock, never held over a wait.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{broadcast, mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use super::{
    super::{CallReport, Direction, Method, Order, Route, caller::sid, status::wall_clock, stream},
    CallStatus, Gateway, Line, OwnedNumber, PlacedCall, RestError, RestPlan,
    fault::Faults,
    record::Record,
};

/// Calls that are remembered; the oldest that are over make room.
const MAX_CALLS: usize = 20_000;
/// Calls whose report, with all that was said and heard, is kept.
const MAX_REPORTS: usize = 500;
/// Requests that are remembered; later ones are counted.
const MAX_LOG: usize = 50_000;
/// Calls over and done with that a listener may be behind; it is told how many it missed.
const MAX_SETTLED: usize = 1024;
/// Orders that may wait for whoever carries a call.
const MAX_ORDERS: usize = 4;

/// A request that was made to the REST API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, `POST`, …
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Parameters in the query.
    pub query: Vec<(String, String)>,
    /// Parameters in the body.
    pub fields: Vec<(String, String)>,
    /// Names among them that Twilio does not document for this request, and would ignore.
    pub unknown: Vec<String>,
    /// Since the exchange was started.
    pub at: Duration,
    /// Status of the answer; none while there is none, and when it was lost.
    pub answered: Option<u16>,
}

/// What the tasks of an exchange share.
pub(super) struct Account {
    pub(super) plan: RestPlan,
    pub(super) tasks: TaskTracker,
    pub(super) stopping: CancellationToken,
    /// Changes whenever a call does.
    pub(super) changed: watch::Sender<u64>,
    /// Calls that nothing more will happen on.
    pub(super) settled: broadcast::Sender<PlacedCall>,
    began: Instant,
    /// Since 1970, when it began.
    epoch: Duration,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) gateway: Option<Gateway>,
    pub(super) numbers: Vec<OwnedNumber>,
    pub(super) faults: Faults,
    pub(super) line: Line,
    pub(super) lines: Vec<(String, Line)>,
    pub(super) log: Vec<Asked>,
    /// Requests that no longer fitted into the log.
    pub(super) log_dropped: u64,
    /// Oldest first.
    calls: Vec<Record>,
    /// When the next call may be dialled, since 1970.
    next_dial: Duration,
}

/// A call about to begin.
pub(super) struct Beginning {
    pub(super) direction: Direction,
    pub(super) to: String,
    pub(super) from: String,
    pub(super) asked: Vec<(String, String)>,
    pub(super) status_callback: Option<(Method, Url)>,
    pub(super) time_limit: Duration,
}

/// What whoever carries a call has of it.
pub(super) struct Carried {
    pub(super) sid: String,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) time_limit: watch::Receiver<Duration>,
    /// Until its turn to be dialled.
    pub(super) wait: Duration,
}

impl Account {
    pub(super) fn new(plan: RestPlan) -> Self {
        let mut faults = Faults::default();
        for fault in &plan.faults {
            faults.add(fault.clone());
        }
        let state = State {
            gateway: plan.gateway.clone(),
            numbers: plan.numbers.clone(),
            faults,
            line: plan.line.clone(),
            lines: plan.lines.clone(),
            log: Vec::new(),
            log_dropped: 0,
            calls: Vec::new(),
            next_dial: Duration::ZERO,
        };
        Self {
            plan,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            changed: watch::Sender::new(0),
            settled: broadcast::Sender::new(MAX_SETTLED),
            began: stream::now(),
            epoch: wall_clock(),
            state: Mutex::new(state),
        }
    }

    /// Since 1970, by a clock that never jumps.
    pub(super) fn now(&self) -> Duration {
        self.epoch + self.began.elapsed()
    }

    /// When the account was made, since 1970.
    pub(super) fn epoch(&self) -> Duration {
        self.epoch
    }

    /// Since the exchange was started.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Changes the state, and wakes those who wait for a change.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|version| *version += 1);
        result
    }

    /// Looks at the state.
    pub(super) fn look<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `task` until the exchange stops.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move { stopping.run_until_cancelled(task).await });
    }

    /// Remembers a new call, which takes its turn to be dialled if it is outbound.
    pub(super) fn begin(&self, beginning: Beginning) -> Result<Carried, RestError> {
        let (now, rate) = (self.now(), self.plan.rate);
        let Beginning { direction, to, from, asked, status_callback, time_limit } = beginning;
        self.with(|state| {
            let mut wait = Duration::ZERO;
            if direction == Direction::OutboundApi {
                wait = state.next_dial.saturating_sub(now);
                if rate.refuses && !wait.is_zero() {
                    return Err(RestError::too_many());
                }
            }
            if state.calls.len() >= MAX_CALLS {
                let over = state.calls.iter().position(|record| record.call.status.is_final());
                state.calls.remove(over.ok_or_else(RestError::too_many)?);
            }
            if direction == Direction::OutboundApi {
                state.next_dial = now + wait + rate.interval();
            }
            let own = if direction == Direction::Inbound { &to } else { &from };
            let number_sid = state.numbers.iter().find(|number| &number.number == own).map(|n| n.sid.clone());
            let (orders, receiver) = mpsc::channel(MAX_ORDERS);
            let (limit, time_limit) = watch::channel(time_limit);
            let sid = sid("CA");
            state.calls.push(Record {
                call: PlacedCall {
                    sid: sid.clone(),
                    direction,
                    to,
                    from,
                    status: CallStatus::Queued,
                    asked,
                    queue_time: wait,
                    answered_by: None,
                    callbacks: Vec::new(),
                    detection_callback: None,
                    is_settled: false,
                    report: None,
                },
                number_sid,
                created: now,
                updated: now,
                started: None,
                answered: None,
                ended: None,
                status_callback,
                orders,
                time_limit: limit,
            });
            Ok(Carried { sid, orders: receiver, time_limit, wait })
        })
    }

    /// Looks at a call, or changes it.
    pub(super) fn call<R>(&self, sid: &str, change: impl FnOnce(&mut Record) -> R) -> Option<R> {
        self.with(|state| state.call(sid).map(change))
    }

    /// The call goes on to `status`.
    pub(super) fn enter(&self, sid: &str, status: CallStatus) {
        let now = self.now();
        self.call(sid, |record| record.enter(status, now));
    }

    /// Nothing more will happen on the call.
    pub(super) fn settle(&self, sid: &str, report: Option<CallReport>, callbacks: Vec<(String, Option<u16>)>) {
        self.with(|state| {
            if let Some(record) = state.call(sid) {
                record.call.report = report.map(Arc::new);
                record.call.callbacks = callbacks;
                record.call.is_settled = true;
                // There may be no listener.
                let _ = self.settled.send(record.call.clone());
            }
            let kept = state.calls.iter_mut().rev().filter(|record| record.call.report.is_some());
            for record in kept.skip(MAX_REPORTS) {
                record.call.report = None;
            }
        });
    }

    /// Where Twilio's own requests go; nowhere as long as nobody has said.
    pub(super) fn gateway(&self) -> Gateway {
        let told = self.look(|state| state.gateway.clone());
        told.unwrap_or_else(|| {
            // The other end is dropped at once: every connection is refused.
            let (nowhere, _) = mpsc::channel(1);
            let url = Url::parse("https://nowhere.invalid").unwrap_or_else(|_| unreachable!("a constant"));
            Gateway { route: Route::InProcess(nowhere), public_url: url }
        })
    }

    pub(super) fn line(&self, to: &str) -> Line {
        self.look(|state| {
            let particular = state.lines.iter().rev().find(|(number, _)| number == to);
            particular.map_or(&state.line, |(_, line)| line).clone()
        })
    }
}

impl State {
    pub(super) fn call(&mut self, sid: &str) -> Option<&mut Record> {
        // Those that are asked for are mostly new.
        self.calls.iter_mut().rev().find(|record| record.call.sid == sid)
    }

    /// Newest first.
    pub(super) fn calls(&self) -> impl Iterator<Item = &Record> {
        self.calls.iter().rev()
    }

    pub(super) fn forget(&mut self, sid: &str) {
        self.calls.retain(|record| record.call.sid != sid);
    }

    /// Remembers a request; where it is in the log.
    pub(super) fn note(&mut self, asked: Asked) -> Option<usize> {
        if self.log.len() >= MAX_LOG {
            self.log_dropped += 1;
            return None;
        }
        self.log.push(asked);
        Some(self.log.len() - 1)
    }
}
