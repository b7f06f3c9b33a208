//! Dialling out: calls wait here for their turn, at the pace of the account, and are placed through Twilio's REST API.
//! One task places calls, another ends them; both run beside the shards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use telemetry::traces::TraceContext;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, sleep},
};
use tracing::Span;
use url::form_urlencoded;

use crate::{
    carrier::{Carrier, CarrierError},
    config::{self, Origin},
    metrics::{Metrics, Outcome},
    problem::{carrier_code, carrier_detail, twilio_code},
    rate::Rate,
    registry::{Fault, Registry, Status},
    routes, traces,
    twilio::rest::{AnsweringMachine, CallResource, CreateCall, End, Recording, RecordingTrack},
};

pub(crate) mod guard;

use crate::api::NewCall;

/// Requests to Twilio that may be under way at a time, for placing and for ending each.
const CONCURRENT: usize = 32;

/// Calls that may wait to be ended.
const WAITING_ENDS: usize = 1024;

/// The way to Twilio's REST API, for all shards.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    dials: mpsc::Sender<Dial>,
    ends: mpsc::Sender<Ending>,
    backlog: Arc<AtomicUsize>,
    registry: Registry,
    /// The setting without which no call can be placed, where it is missing.
    missing: Option<&'static str>,
}

/// A call that waits for its turn.
#[derive(Debug)]
struct Dial {
    id: String,
    call: NewCall,
    answer: oneshot::Sender<Dialled>,
    placing: Span,
    waiting: Span,
}

/// A call that is to end, by its CallSid.
#[derive(Debug)]
struct Ending {
    call_sid: String,
    how: End,
    answer: oneshot::Sender<Result<(), CarrierError>>,
}

/// What became of a call that was to be placed.
#[derive(Debug)]
pub(crate) enum Dialled {
    /// Twilio has it.
    Placed,
    /// It was called off before.
    CalledOff,
    /// It has it not, or may have it.
    Failed(CarrierError),
}

/// As many calls wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// What the two tasks work with.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) carrier: Carrier,
    pub(crate) registry: Registry,
    pub(crate) origin: Origin,
    metrics: Metrics,
    dials: mpsc::Receiver<Dial>,
    ends: mpsc::Receiver<Ending>,
    backlog: Arc<AtomicUsize>,
    rate: Rate,
}

impl Outbound {
    /// The way, and the desk that must run for it to lead anywhere.
    pub(crate) fn new(
        config: &config::Outbound,
        origin: Origin,
        carrier: Carrier,
        registry: Registry,
        metrics: Metrics,
    ) -> (Self, Desk) {
        let (dials, waiting_dials) = mpsc::channel(config.queue);
        let (ends, waiting_ends) = mpsc::channel(WAITING_ENDS);
        let (backlog, missing) = (Arc::new(AtomicUsize::new(0)), carrier.missing());
        let desk = Desk {
            carrier,
            registry: registry.clone(),
            origin,
            metrics,
            dials: waiting_dials,
            ends: waiting_ends,
            backlog: Arc::clone(&backlog),
            rate: Rate::evenly(config.calls_per_second),
        };
        (Self { dials, ends, backlog, registry, missing }, desk)
    }

    /// Whether calls can be placed at all.
    ///
    /// # Errors
    /// When Twilio's REST API is not configured.
    pub(crate) fn ready(&self) -> Result<(), CarrierError> {
        self.missing.map_or(Ok(()), |what| Err(CarrierError::NotConfigured(what)))
    }

    /// Calls that wait for their turn.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Queues the call `id`, which the registry knows.
    ///
    /// # Errors
    /// When too many wait.
    pub(crate) fn dial(&self, id: String, call: NewCall) -> Result<oneshot::Receiver<Dialled>, QueueFull> {
        let (answer, dialled) = oneshot::channel();
        let placing = traces::placing(&id, &call.agent);
        let trace = TraceContext::of(&placing);
        if let Some(trace) = trace {
            self.registry.begin_trace(&id, trace);
        }
        let waiting = traces::waiting(trace);
        self.backlog.fetch_add(1, Ordering::Relaxed);
        if let Err(full) = self.dials.try_send(Dial { id, call, answer, placing, waiting }) {
            self.backlog.fetch_sub(1, Ordering::Relaxed);
            traces::not_placed(&full.into_inner().placing);
            return Err(QueueFull);
        }
        Ok(dialled)
    }

    /// Ends a call at Twilio; one that is gone already counts as ended.
    ///
    /// # Errors
    /// When Twilio cannot be asked or refuses.
    pub(crate) async fn end(&self, call_sid: &str, how: End) -> Result<(), CarrierError> {
        let (answer, ended) = oneshot::channel();
        let gone = || CarrierError::Unreachable { what: "the gateway is about to stop".to_owned() };
        self.ends.send(Ending { call_sid: call_sid.to_owned(), how, answer }).await.map_err(|_| gone())?;
        ended.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Desk {
    /// Places and ends calls, for ever.
    pub(crate) async fn run(self) {
        let Self { carrier, registry, origin, metrics, mut dials, mut ends, backlog, mut rate } = self;
        let placing = async {
            let slots = Arc::new(Semaphore::new(CONCURRENT));
            while let Some(dial) = dials.recv().await {
                while let Err(wait) = rate.allow(now()) {
                    sleep(wait).await;
                }
                let slot = Arc::clone(&slots).acquire_owned().await;
                backlog.fetch_sub(1, Ordering::Relaxed);
                let (carrier, registry, origin) = (carrier.clone(), registry.clone(), origin.clone());
                let metrics = metrics.clone();
                tokio::spawn(async move {
                    let Dial { id, call, answer, placing, waiting } = dial;
                    drop(waiting);
                    // Whoever asked may not wait any more; the registry knows.
                    let carrier = carrier.below(TraceContext::of(&placing));
                    let dialled = place(&carrier, &registry, &origin, &id, &call).await;
                    let call_sid = registry.read(&id, |record| record.call_sid.clone()).flatten();
                    traces::placed(&placing, &dialled, call_sid.as_deref());
                    drop(placing);
                    metrics.dialled(match &dialled {
                        Dialled::Placed => Outcome::Placed,
                        Dialled::CalledOff => Outcome::CalledOff,
                        Dialled::Failed(error) if error.may_have_happened() => Outcome::Unknown,
                        Dialled::Failed(_) => Outcome::Refused,
                    });
                    let _ = answer.send(dialled);
                    drop(slot);
                });
            }
        };
        let ending = async {
            let slots = Arc::new(Semaphore::new(CONCURRENT));
            while let Some(Ending { call_sid, how, answer }) = ends.recv().await {
                let slot = Arc::clone(&slots).acquire_owned().await;
                let carrier = carrier.below(registry.trace(&call_sid));
                tokio::spawn(async move {
                    if let Err(Err(error)) = answer.send(carrier.end(&call_sid, how).await.map(drop)) {
                        tracing::warn!(call_sid, why = carrier_code(&error), "a call could not be ended");
                    }
                    drop(slot);
                });
            }
        };
        tokio::join!(placing, ending);
    }
}

async fn place(carrier: &Carrier, registry: &Registry, origin: &Origin, id: &str, call: &NewCall) -> Dialled {
    let is_wanted = registry.change(id, |record, now| {
        let is_wanted = record.status == Status::Waiting && !record.unwanted;
        if is_wanted {
            record.times.dialled = Some(now);
            record.enter(Status::Dialling, now);
        }
        (is_wanted, None)
    });
    if is_wanted != Some(true) {
        return Dialled::CalledOff;
    }
    let answer = carrier.create(&form(origin, id, call)).await;
    let unwanted = registry.change(id, |record, now| {
        let event = match &answer {
            Ok(CallResource { sid, status, .. }) => {
                record.call_sid.get_or_insert_with(|| sid.clone());
                // Its callbacks may have come before Twilio's answer.
                let is_news = record.status == Status::Dialling;
                let status = Status::parse(status).unwrap_or(Status::Queued);
                if is_news { record.enter(status, now) } else { None }
            }
            Err(error) => {
                record.fault = Some(fault(error));
                // A callback may have proved that Twilio has it all the same.
                let is_open = record.status == Status::Dialling;
                let status = if error.may_have_happened() { Status::Unknown } else { Status::Failed };
                if is_open { record.enter(status, now) } else { None }
            }
        };
        (record.unwanted.then(|| record.call_sid.clone()).flatten(), event)
    });
    match &answer {
        Ok(_) => tracing::info!(call = id, "call placed"),
        Err(error) => tracing::warn!(call = id, why = carrier_code(error), "call not placed"),
    }
    // Called off while Twilio was asked.
    if let Some(Some(call_sid)) = unwanted
        && let Err(error) = carrier.end(&call_sid, End::Completed).await
    {
        tracing::warn!(call = id, why = carrier_code(&error), "a call that was called off could not be ended");
    }
    match answer {
        Ok(_) => Dialled::Placed,
        Err(error) => Dialled::Failed(error),
    }
}

fn form(origin: &Origin, id: &str, call: &NewCall) -> CreateCall {
    CreateCall {
        to: call.to.clone(),
        from: call.from.clone(),
        url: answer_url(origin, id, call),
        status_callback: origin.http(&format!("/voice/status/{id}")),
        answering_machine: call.answering_machine.map(|(mode, timeout_s)| AnsweringMachine {
            mode,
            timeout_s,
            callback: origin.http(&format!("/voice/amd/{id}")),
        }),
        record: call.recording.map(|channels| Recording { channels, track: RecordingTrack::Both }),
        ring_timeout_s: call.ring_timeout_s,
        time_limit_s: Some(call.time_limit_s),
    }
}

/// Where Twilio asks what to do once somebody answers. Whoever is asked may be another gateway, or this one started anew, so
/// the address says who talks; it says no more, since Twilio shows it in its logs.
fn answer_url(origin: &Origin, id: &str, call: &NewCall) -> String {
    let path = format!("/voice/outbound/{id}");
    if call.stream_url.is_some() {
        return origin.http(&path);
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair(routes::AGENT, &call.agent);
    if !call.language.is_empty() {
        query.append_pair(routes::LANGUAGE, &call.language);
    }
    origin.http(&format!("{path}?{}", query.finish()))
}

fn fault(error: &CarrierError) -> Fault {
    Fault { code: carrier_code(error), twilio_code: twilio_code(error), detail: carrier_detail(error).into() }
}

#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// How long whoever asked for a call, or for its end, waits for Twilio's answer before hearing that it is on its way.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
