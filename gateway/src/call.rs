//! The driver of one call: the one task that awaits. It moves what comes from the socket and the worker into the
//! session, and what the session says to either; it decides nothing itself.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::sleep_until,
};

use crate::{
    api::Access,
    calls::{Calls, Phase, Place},
    capture::Recorder,
    config::Config,
    metrics::Metrics,
    outbound::Outbound,
    registry::{Attached, Registry},
    route_table::RouteTable,
    session::{Command, EndReason, Input, Instructed, Instruction, Order, Session, Stats, ToWorker},
    socket::Socket,
    ticket, traces,
    twilio::message::Start,
    worker::{Dialer, to_wire},
};

mod admit;
mod aside;
mod begin;
mod end;
mod news;
mod page;
mod side;

pub(crate) use admit::{Knock, admit};
use begin::{announced_trace, authorize, of_browser, opening};
use news::Uncounted;
pub(crate) use page::Page;
use side::{Came, WorkerSide};

/// Caller audio that waits for the worker and is worth a warning: 70 % of the queue's second.
const CALLER_QUEUE_WARNING_SAMPLES: u64 = 5600;

/// What every call of a shard shares.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) config: Arc<Config>,
    pub(crate) ticket_key: ticket::Key,
    pub(crate) calls: Calls,
    pub(crate) registry: Registry,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) outbound: Outbound,
    pub(crate) access: Access,
    pub(crate) routes: RouteTable,
    pub(crate) metrics: Metrics,
    /// Where calls are captured.
    pub(crate) recorder: Option<Recorder>,
}

/// What the task of a call is told from outside, by the calls API or a callback.
#[derive(Debug)]
pub(crate) enum Directive {
    /// Something that needs no answer.
    Order(Order),
    /// Something for the agent; what became of it is the answer.
    Instruct(Instruction, oneshot::Sender<Instructed>),
    /// What was counted so far?
    Count(oneshot::Sender<Stats>),
}

/// Kind of the notice that tells what answered: a person, or a machine.
pub(crate) const ANSWERED_BY: &str = "answered_by";

/// Instructions of one call that may be unanswered; one more is refused.
const OPEN_INSTRUCTIONS: usize = 8;

/// Runs one call to its end. Its panic ends here.
async fn run(mut socket: Socket, place: Place, surroundings: Surroundings, page: Option<Page>) {
    socket.record(surroundings.recorder.as_ref().and_then(Recorder::tape));
    let registry = surroundings.registry.clone();
    // Boxed: a task is as large as its largest moment, and holds what it moves twice.
    let mut call = Box::new(Call::new(socket, place, surroundings, page));
    let reason = match AssertUnwindSafe(call.run()).catch_unwind().await {
        Ok(reason) => reason,
        Err(_) => EndReason::Panicked,
    };
    // First of all: Twilio may ask `/voice/after` before the farewells are said.
    if call.directives.is_some()
        && let Some(call_sid) = &call.call_sid
    {
        registry.stream_ended(call_sid, &reason, *call.session.stats());
    }
    call.note_end(&reason);
    call.say_farewell().await;
    call.close(&reason).await;
    drop(call);
}

struct Call {
    session: Session,
    socket: Socket,
    side: WorkerSide,
    place: Place,
    surroundings: Surroundings,
    began: Instant,
    news: Uncounted,
    call_sid: Option<String>,
    directives: Option<mpsc::Receiver<Box<Directive>>>,
    /// Whoever waits for what becomes of an instruction, by its id.
    asked: Vec<(u64, oneshot::Sender<Instructed>)>,
    last_instruction: u64,
    trace: traces::Stream,
    /// Of a browser; a phone has none.
    page: Option<Page>,
    closed: bool,
    warned: bool,
}

impl Call {
    fn new(socket: Socket, place: Place, surroundings: Surroundings, page: Option<Page>) -> Self {
        let began = now();
        Self {
            session: Session::new(began, surroundings.config.max_call),
            socket,
            side: WorkerSide::None,
            place,
            surroundings,
            began,
            news: Uncounted::new(began),
            call_sid: None,
            directives: None,
            asked: Vec::new(),
            last_instruction: 0,
            trace: traces::Stream::none(),
            page,
            closed: false,
            warned: false,
        }
    }

    async fn run(&mut self) -> EndReason {
        let sleep = sleep_until(self.began.into());
        // Made once, not with every frame.
        let mut phase = self.surroundings.calls.watch_phase();
        let drained = phase.wait_for(|phase| *phase == Phase::Over);
        tokio::pin!(sleep, drained);
        loop {
            if let Some(reason) = self.obey() {
                return reason;
            }
            self.write();
            let wants_room = !self.forward();
            if wants_room {
                self.watch_queue();
                // After a stall, seconds of speech lie ready in the socket: without a turn of its own the worker's stream
                // would take nothing of them, and the queue overflow.
                yield_now().await;
            }
            // The deadline moves with every frame; the sleep only when it fires too early.
            let deadline = self.session.poll_timeout().unwrap_or(self.began).into();
            if deadline < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(deadline);
            }
            let input = tokio::select! {
                biased;
                input = poll_fn(|cx| self.socket.poll(cx)) => input,
                came = self.side.next(wants_room) => match came {
                    Came::Input(input) => input,
                    Came::Aside(aside) => {
                        aside::tell(aside, self.page.as_mut(), self.call_sid.as_deref(), &self.surroundings.registry);
                        continue;
                    }
                },
                Some(directive) = next(&mut self.directives) => {
                    self.direct(*directive);
                    continue;
                }
                _ = &mut drained => Input::Drain,
                () = &mut sleep => Input::Tick,
            };
            let now = now();
            self.session.handle(input, now);
            self.news.tell_sometimes(&self.surroundings.metrics, self.session.stats(), now);
            self.trace.watch(self.session.stats(), since_epoch);
        }
    }

    /// Carries out what the session wants done; the reason, once it wants the end.
    fn obey(&mut self) -> Option<EndReason> {
        while let Some(command) = self.session.poll_command() {
            match command {
                Command::Authorize(start) => {
                    self.call_sid = Some(start.call_sid.clone());
                    let kind = if self.page.is_some() { ticket::Kind::Browser } else { ticket::Kind::Phone };
                    let answer = authorize(&self.surroundings, kind, &start);
                    match &answer {
                        Ok(()) => self.place.begin(&start.call_sid),
                        Err(refused) => {
                            tracing::warn!(call_sid = start.call_sid, error = %refused, "media stream refused");
                        }
                    }
                    let is_good = answer.is_ok();
                    self.session.handle(Input::Authorized(answer), now());
                    if is_good {
                        self.attach(&start);
                    }
                }
                Command::OpenWorker(start) => {
                    let dialer = Arc::clone(&self.surroundings.dialer);
                    let trace = self.trace.context();
                    let is_browser = self.page.is_some();
                    let start = if is_browser { of_browser(&self.surroundings.registry, start) } else { start };
                    let open = opening(start, &self.surroundings.config.default_agent, trace);
                    self.trace.agent(&open.agent);
                    let (metrics, tell, asked) = (self.surroundings.metrics.clone(), self.trace.worker_clock(), now());
                    self.side = WorkerSide::Opening(Box::pin(async move {
                        let link = dialer.open(open, trace).await?;
                        metrics.worker_opened(now() - asked);
                        tell(now() - asked);
                        Ok(link)
                    }));
                }
                Command::Ping => self.socket.ping(),
                Command::Instructed(id, outcome) => {
                    if let Some(at) = self.asked.iter().position(|(asked, _)| *asked == id) {
                        // Whoever asked may have gone.
                        let _ = self.asked.swap_remove(at).1.send(outcome);
                    }
                }
                Command::CloseSocket(code) => match &mut self.page {
                    // A page hears first what the worker still tells, and why it is over.
                    Some(page) => page.closing = Some(code),
                    None => {
                        self.socket.close(code);
                        self.closed = true;
                    }
                },
                Command::Finished(reason) => return Some(reason),
            }
        }
        None
    }

    /// The stream is what it says: from now on the call can be found and told things.
    fn attach(&mut self, start: &Start) {
        let of = |name: &str| start.parameters.get(name).map_or("", String::as_str);
        let Surroundings { registry, config, .. } = &self.surroundings;
        let Attached { directives, answered_by, id, direction, invited, trace } =
            registry.stream_began(&start.call_sid, of("from"), of("to"));
        self.directives = Some(directives);
        // What the TwiML says is nearer than what the register says, and comes from other gateways too.
        let told = if self.page.is_some() { None } else { announced_trace(config, start) };
        let parent = told.or(trace);
        self.trace = traces::Stream::begin(parent, &start.call_sid, (&id, direction), invited);
        if trace.is_none()
            && let Some(trace) = parent.or_else(|| self.trace.context())
        {
            registry.begin_trace(&start.call_sid, trace);
        }
        if let Some(answered_by) = answered_by {
            self.session.handle(Input::Order(Order::Notice(ANSWERED_BY, answered_by)), now());
        }
    }

    /// Carries out what came from outside.
    fn direct(&mut self, directive: Directive) {
        match directive {
            Directive::Order(order) => self.session.handle(Input::Order(order), now()),
            Directive::Count(answer) => {
                let _ = answer.send(*self.session.stats());
            }
            Directive::Instruct(_, answer) if self.asked.len() >= OPEN_INSTRUCTIONS => {
                let _ = answer.send(Instructed::TooLate);
            }
            Directive::Instruct(what, answer) => {
                self.last_instruction += 1;
                self.asked.push((self.last_instruction, answer));
                self.session.handle(Input::Order(Order::Instruct(self.last_instruction, what)), now());
            }
        }
    }

    /// Writes what the session has for Twilio, as far as Twilio takes it.
    fn write(&mut self) {
        while self.socket.is_writable()
            && let Some((stream_sid, message, came)) = self.session.poll_caller()
        {
            let text = message.write(stream_sid);
            self.socket.send(text);
            if let Some(came) = came {
                self.news.hops.agent.note(now() - came);
            }
        }
        while self.socket.is_writable()
            && let Some(text) = self.page.as_mut().and_then(Page::poll)
        {
            self.socket.send(text);
        }
    }

    /// Hands on what the session has for the worker; false when its stream took no more.
    fn forward(&mut self) -> bool {
        let WorkerSide::Open(link) = &self.side else { return true };
        loop {
            let Some(permit) = link.try_reserve() else { return false };
            match self.session.poll_worker() {
                Some(message) => {
                    let came = if let ToWorker::Audio { came, .. } = &message { Some(*came) } else { None };
                    permit.send(to_wire(message));
                    if let Some(came) = came {
                        self.news.hops.caller.note(now() - came);
                    }
                }
                None => return true,
            }
        }
    }

    /// Warns once when the caller's audio begins to pile up.
    fn watch_queue(&mut self) {
        let waiting = self.session.stats().caller_queue_peak_samples;
        if !self.warned && waiting > CALLER_QUEUE_WARNING_SAMPLES {
            self.warned = true;
            tracing::warn!(
                call_sid = self.call_sid,
                waiting_ms = waiting / 8,
                "the worker falls behind; the oldest audio is dropped beyond one second"
            );
        }
    }
}

/// The next directive; never, while nobody can give one.
async fn next(directives: &mut Option<mpsc::Receiver<Box<Directive>>>) -> Option<Box<Directive>> {
    match directives {
        Some(directives) => directives.recv().await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver is the one that asks the clock")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A moment `since_epoch` after the Unix epoch.
pub(crate) fn at(since_epoch: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + since_epoch
}

/// Wall-clock time, for what other machines must agree on.
#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
