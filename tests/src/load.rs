//! The load: many cheap calls at once, and what the servers spend on them.
//!
//! `load/call.rs` is one call, `load/script.rs` what it says and how a tone is found in the reply,
//! `load/bench.rs` a measured step against a pair of processes, `load/edge.rs` webhooks and lists beside calls, `load/table.rs` its report,
//! `load/procfs.rs` what Linux says about a process, `load/scrape.rs` how long it takes to tell its metrics, `load/histogram.rs` a
//! bounded histogram. `load/compare.rs` is steps with and without something, traces say, for which there is `load/sink.rs`,
//! `load/certificates.rs` or `load/agent.rs`. The load measures itself too: a run in which it was the bottleneck is no measurement.

mod agent;
mod bench;
mod call;
mod certificates;
mod compare;
mod edge;
mod histogram;
mod procfs;
mod scrape;
mod script;
mod sink;
mod table;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

pub use agent::AgentProcess;
pub use bench::{BenchPlan, Latency, Memory, ProcessCost, Slope, StepReport, ThreadCost, measure};
pub use certificates::issue_certificates;
pub use compare::{Comparison, Ratio, Round};
pub use edge::{EdgePlan, EdgeReport, measure_edge};
pub use histogram::Histogram;
pub use procfs::{processor_seconds, resident_kib};
pub use scrape::ScrapeCost;
pub use script::{Script, holds_tone};
pub use sink::TraceSink;
pub use table::{edge_markdown, markdown};

use self::{
    call::{Call, TICK, now},
    script::FRAME,
};
use crate::sim::CallPlan;

/// Names of the load's threads begin so.
const THREAD_NAME: &str = "load-";
/// Calls are set up at this interval.
const SETUP_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Stopping,
}

/// Counters that all calls add to.
#[derive(Debug, Default)]
struct Shared {
    /// Only what happens while this is set is measured.
    measuring: AtomicBool,
    up: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    sent: AtomicU64,
    received_samples: AtomicU64,
    lost: AtomicU64,
    missed: AtomicU64,
    latency: Mutex<Histogram>,
    lateness: Mutex<Histogram>,
    setup: Mutex<Histogram>,
    /// What went wrong first.
    first_failure: Mutex<Option<String>>,
}

impl Shared {
    fn add_sent(&self, lateness: Duration) {
        if self.is_measuring() {
            self.sent.fetch_add(1, Ordering::Relaxed);
            add(&self.lateness, lateness);
        }
    }

    fn add_received(&self, samples: u64) {
        if self.is_measuring() {
            self.received_samples.fetch_add(samples, Ordering::Relaxed);
        }
    }

    fn add_latency(&self, latency: Duration) {
        if self.is_measuring() {
            add(&self.latency, latency);
        }
    }

    /// Measured or not: most calls are set up before the window begins.
    fn add_setup(&self, took: Duration) {
        add(&self.setup, took);
    }

    fn add_missed(&self) {
        if self.is_measuring() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn add_lost(&self, frames: u64) {
        self.lost.fetch_add(frames, Ordering::Relaxed);
    }

    fn add_dropped_call(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn add_failure(&self, error: &anyhow::Error) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| format!("{error:#}"));
    }

    fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }
}

fn add(histogram: &Mutex<Histogram>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    histogram.lock().unwrap_or_else(PoisonError::into_inner).add(micros);
}

/// What the calls saw while the load was measuring.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Calls that could not be set up.
    pub failed: u64,
    /// Why the first of them could not.
    pub first_failure: Option<String>,
    /// Calls that the server dropped.
    pub dropped: u64,
    /// Frames sent while measuring.
    pub sent: u64,
    /// Frames of 20 ms received while measuring.
    pub received: u64,
    /// Frames that never came back, over the whole run.
    pub lost: u64,
    /// Tones that did not come back before the next.
    pub missed: u64,
    /// From sending an onset to receiving it, in µs.
    pub latency: Histogram,
    /// From when a frame was due to when it was sent, in µs.
    pub lateness: Histogram,
    /// From TwiML to the first media back, over the whole run, in µs.
    pub setup: Histogram,
}

/// Calls that are running, on threads of their own.
pub struct Load {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<()>>,
    calls: u64,
}

impl Load {
    /// Starts `calls` calls as `plan` says, on `threads` threads; they are set up one after another.
    pub fn start(plan: &CallPlan, calls: u32, threads: u32) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let script = Arc::new(Script::default());
        let (phase, _) = watch::channel(Phase::Running);
        let threads = threads.clamp(1, calls.max(1));
        let base = now();
        let mut handles = Vec::new();
        for thread in 0..threads {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot build a runtime")?;
            let mine: Vec<u32> = (thread..calls).step_by(threads as usize).collect();
            let (plan, script) = (plan.clone(), Arc::clone(&script));
            let (shared, phase) = (Arc::clone(&shared), phase.subscribe());
            let run = move || {
                runtime.block_on(async {
                    let mut running = JoinSet::new();
                    for index in mine {
                        let call = (plan.clone(), Arc::clone(&script), Arc::clone(&shared));
                        let place = Place { base, index, calls };
                        running.spawn(place_call(call, place, phase.clone()));
                    }
                    running.join_all().await;
                });
            };
            let builder = thread::Builder::new().name(format!("{THREAD_NAME}{thread}"));
            handles.push(builder.spawn(run).context("cannot start a thread")?);
        }
        Ok(Self { shared, phase, threads: handles, calls: calls.into() })
    }

    /// Waits until every call is up or has failed; false when that takes longer than `limit`.
    pub async fn wait_up(&self, limit: Duration) -> bool {
        let deadline = now() + limit;
        loop {
            let settled = self.shared.up.load(Ordering::Relaxed) + self.shared.failed.load(Ordering::Relaxed);
            if settled >= self.calls {
                return true;
            }
            if now() >= deadline {
                return false;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// From here on, or from here on no longer, things are counted.
    pub fn set_measuring(&self, measuring: bool) {
        self.shared.measuring.store(measuring, Ordering::Relaxed);
    }

    /// Ends the calls and says what they saw.
    pub async fn finish(self) -> anyhow::Result<LoadReport> {
        self.phase.send_replace(Phase::Stopping);
        let threads = self.threads;
        tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| ())))
            .await?
            .map_err(|()| anyhow::anyhow!("a thread of the load panicked"))?;
        let shared = &self.shared;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let histogram = |histogram: &Mutex<Histogram>| {
            let histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
            histogram.clone()
        };
        let first_failure = shared.first_failure.lock();
        Ok(LoadReport {
            failed: load(&shared.failed),
            first_failure: first_failure.unwrap_or_else(PoisonError::into_inner).clone(),
            dropped: load(&shared.dropped),
            sent: load(&shared.sent),
            received: load(&shared.received_samples) / FRAME as u64,
            lost: load(&shared.lost),
            missed: load(&shared.missed),
            latency: histogram(&shared.latency),
            lateness: histogram(&shared.lateness),
            setup: histogram(&shared.setup),
        })
    }
}

/// Where a call lies among the others.
struct Place {
    /// When the load began; frames lie on its grid of 20 ms.
    base: Instant,
    index: u32,
    calls: u32,
}

/// Sets a call up at its time and lets it send at its phase of the 20 ms, so that arrivals are spread.
async fn place_call(
    (plan, script, shared): (CallPlan, Arc<Script>, Arc<Shared>),
    place: Place,
    phase: watch::Receiver<Phase>,
) {
    sleep_until(place.base + SETUP_INTERVAL * place.index).await;
    match Call::set_up(&plan, script, Arc::clone(&shared)).await {
        Ok(call) => {
            shared.up.fetch_add(1, Ordering::Relaxed);
            let phased = place.base + TICK * place.index / place.calls;
            let passed = now().saturating_duration_since(phased).as_nanos() / TICK.as_nanos();
            let next = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
            call.run(phased + TICK * next, phase).await;
        }
        Err(error) => shared.add_failure(&error),
    }
}
