//! One measured step: so many calls for so long against processes that are already up.

use std::{collections::BTreeMap, io, time::Duration};

use serde::Serialize;
use tokio::time::{sleep, sleep_until};

use super::{
    Histogram, Load, ScrapeCost, THREAD_NAME,
    call::now,
    procfs::{self, Cpu, ProcessCpu},
    scrape::scrape,
};
use crate::{pair::Watched, sim::CallPlan};

/// Frames later than this at the 99th percentile make a run invalid.
pub(super) const LATENESS_LIMIT: Duration = Duration::from_millis(5);
/// A thread of the load that is busy for more than this share makes a run invalid.
const BUSY_LIMIT: f64 = 0.85;
/// How long the calls may take to come up.
pub(super) const SETUP_LIMIT: Duration = Duration::from_secs(60);
/// From the last call being up to the beginning of the window.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// Memory is looked at this often.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// Memory in the first minute is start-up, not growth.
const WARM_UP_SECONDS: f64 = 60.0;

/// What to measure.
pub struct BenchPlan<'a> {
    /// How a call is placed.
    pub call: &'a CallPlan,
    /// The servers.
    pub watched: &'a [Watched],
    /// Concurrent calls.
    pub calls: u32,
    /// Length of the measuring window.
    pub window: Duration,
    /// Threads of the load.
    pub threads: u32,
    /// Ask the servers for their metrics in the window.
    pub scrape: bool,
}

/// How long something took, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50_ms: f64,
    /// 90 % are faster.
    pub p90_ms: f64,
    /// 99 % are faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// CPU time of the threads with one name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThreadCost {
    /// The name, as in `/proc`; numbers at its end are left out.
    pub name: String,
    /// How many there are.
    pub threads: usize,
    /// CPU time per 20 ms frame there and back, in µs.
    pub us_per_frame: f64,
}

/// CPU time of a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessCost {
    /// The service.
    pub name: String,
    /// In user space, per 20 ms frame there and back, in µs.
    pub user_us_per_frame: f64,
    /// In the kernel, likewise.
    pub system_us_per_frame: f64,
    /// Share of one processor.
    pub busy: f64,
    /// By thread name, the busiest first.
    pub threads: Vec<ThreadCost>,
}

/// Resident memory of a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// The service.
    pub name: String,
    /// After one call has come and gone.
    pub idle_kib: u64,
    /// At the end of the window.
    pub loaded_kib: u64,
    /// What each call adds.
    pub kib_per_call: f64,
    /// Seconds since the beginning of the window, and KiB.
    pub samples: Vec<(f64, u64)>,
    /// Growth after the first minute, where the window is long enough.
    pub slope: Option<Slope>,
}

/// Growth over time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slope {
    /// KiB per minute, by least squares.
    pub kib_per_minute: f64,
}

/// What one step measured.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// Concurrent calls.
    pub calls: u32,
    /// Length of the measuring window.
    pub seconds: f64,
    /// Frames sent in the window.
    pub frames_sent: u64,
    /// Frames received in the window.
    pub frames_received: u64,
    /// Frames of the whole run that never came back.
    pub frames_lost: u64,
    /// Tones timed.
    pub tones: u64,
    /// Tones that did not come back before the next.
    pub tones_missed: u64,
    /// From sending a tone's first frame to receiving it; none when no tone came back.
    pub latency: Option<Latency>,
    /// From TwiML to the first media back, of all calls of the step.
    pub setup: Option<Latency>,
    /// CPU time of all processes per 20 ms frame there and back, in µs.
    pub us_per_frame: f64,
    /// By process.
    pub cost: Vec<ProcessCost>,
    /// By process.
    pub memory: Vec<Memory>,
    /// By process; empty when nobody asked.
    pub scrapes: Vec<ScrapeCost>,
    /// 99th percentile of how late the load sent its frames, in ms.
    pub lateness_p99_ms: f64,
    /// Share of one processor that the busiest thread of the load used.
    pub load_busy: f64,
    /// Why this is no measurement; empty when it is one.
    pub invalid: Vec<String>,
    /// What kept the load itself from its pace: its times then say more of a busy machine than of the pair.
    pub disturbed: Vec<String>,
}

/// Places the calls, waits until they run, measures, and ends them.
pub async fn measure(plan: &BenchPlan<'_>, idle_kib: &[u64]) -> anyhow::Result<StepReport> {
    let load = Load::start(plan.call, plan.calls, plan.threads)?;
    let all_up = load.wait_up(SETUP_LIMIT).await;
    sleep(SETTLE).await;
    let before = snapshot(plan.watched)?;
    let begin = now();
    load.set_measuring(true);
    let mut samples = vec![Vec::new(); plan.watched.len()];
    let end = begin + plan.window;
    let scraped = if plan.scrape { plan.watched.to_vec() } else { Vec::new() };
    let scraping = tokio::spawn(scrape(scraped, end));
    loop {
        for (watched, samples) in plan.watched.iter().zip(&mut samples) {
            let kib = procfs::resident_kib(watched.pid)?;
            samples.push((begin.elapsed().as_secs_f64(), kib));
        }
        if now() >= end {
            break;
        }
        sleep_until(end.min(now() + SAMPLE_INTERVAL)).await;
    }
    load.set_measuring(false);
    let seconds = begin.elapsed().as_secs_f64();
    let after = snapshot(plan.watched)?;
    let scrapes = scraping.await?;
    let seen = load.finish().await?;
    let frames = seen.sent as f64;
    let cost = costs(plan.watched, (&before, &after), (frames, seconds));
    let lateness = seen.lateness.quantile(0.99).unwrap_or(0);
    let load_busy = busiest(&before.own, &after.own) / 1e6 / seconds;
    let (mut invalid, mut disturbed) = (Vec::new(), Vec::new());
    if !all_up {
        invalid.push(format!("not all calls were up after {SETUP_LIMIT:?}"));
    }
    if seen.failed > 0 {
        let why = seen.first_failure.unwrap_or_default();
        invalid.push(format!("{} calls failed to set up: {why}", seen.failed));
    }
    if seen.dropped > 0 {
        invalid.push(format!("{} calls were dropped", seen.dropped));
    }
    if Duration::from_micros(lateness) > LATENESS_LIMIT {
        let late = milliseconds(lateness);
        disturbed.push(format!("the load sent {late:.1} ms late (p99)"));
    }
    if load_busy > BUSY_LIMIT {
        let busy = load_busy * 100.0;
        disturbed.push(format!("a thread of the load was {busy:.0} % busy"));
    }
    let scrapes = scrapes.unwrap_or_else(|error| {
        invalid.push(format!("{error:#}"));
        Vec::new()
    });
    Ok(StepReport {
        calls: plan.calls,
        seconds,
        frames_sent: seen.sent,
        frames_received: seen.received,
        frames_lost: seen.lost,
        tones: seen.latency.len(),
        tones_missed: seen.missed,
        latency: latency(&seen.latency),
        setup: latency(&seen.setup),
        us_per_frame: cost.iter().map(|cost| cost.user_us_per_frame + cost.system_us_per_frame).sum(),
        cost,
        memory: memory(plan, idle_kib, samples),
        scrapes,
        lateness_p99_ms: milliseconds(lateness),
        load_busy,
        invalid,
        disturbed,
    })
}

struct Snapshot {
    servers: Vec<ProcessCpu>,
    own: ProcessCpu,
}

fn snapshot(watched: &[Watched]) -> io::Result<Snapshot> {
    let servers: io::Result<Vec<ProcessCpu>> = watched.iter().map(|w| procfs::cpu(w.pid)).collect();
    Ok(Snapshot { servers: servers?, own: procfs::cpu(std::process::id())? })
}

fn costs(
    watched: &[Watched],
    (before, after): (&Snapshot, &Snapshot),
    (frames, seconds): (f64, f64),
) -> Vec<ProcessCost> {
    let per_frame = |micros: u64| micros as f64 / frames.max(1.0);
    let pairs = before.servers.iter().zip(&after.servers);
    watched
        .iter()
        .zip(pairs)
        .map(|(watched, (before, after))| {
            let spent = after.process.since(before.process);
            let mut threads: Vec<ThreadCost> = by_name(before, after)
                .into_iter()
                .map(|(name, (threads, micros))| ThreadCost { name, threads, us_per_frame: per_frame(micros) })
                .collect();
            threads.sort_by(|a, b| b.us_per_frame.total_cmp(&a.us_per_frame));
            ProcessCost {
                name: watched.name.clone(),
                user_us_per_frame: per_frame(spent.user),
                system_us_per_frame: per_frame(spent.system),
                busy: spent.total() as f64 / 1e6 / seconds,
                threads,
            }
        })
        .collect()
}

/// Threads and their CPU time in µs, by name without a number at its end.
fn by_name(before: &ProcessCpu, after: &ProcessCpu) -> BTreeMap<String, (usize, u64)> {
    let mut names = BTreeMap::new();
    for (tid, (name, cpu)) in &after.threads {
        let earlier = before.threads.get(tid).map_or(Cpu::default(), |t| t.1);
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        let entry: &mut (usize, u64) = names.entry(name.to_owned()).or_default();
        entry.0 += 1;
        entry.1 += cpu.since(earlier).total();
    }
    names
}

/// CPU time in µs of the busiest thread of the load.
fn busiest(before: &ProcessCpu, after: &ProcessCpu) -> f64 {
    let threads = after.threads.iter();
    threads
        .filter(|(_, (name, _))| name.starts_with(THREAD_NAME))
        .map(|(tid, (_, cpu))| {
            let earlier = before.threads.get(tid).map_or(Cpu::default(), |t| t.1);
            cpu.since(earlier).total() as f64
        })
        .fold(0.0, f64::max)
}

fn memory(plan: &BenchPlan<'_>, idle_kib: &[u64], samples: Vec<Vec<(f64, u64)>>) -> Vec<Memory> {
    let idle = idle_kib.iter().copied().chain(std::iter::repeat(0));
    let all = plan.watched.iter().zip(idle).zip(samples);
    all.map(|((watched, idle_kib), samples)| {
        let loaded_kib = samples.last().map_or(0, |&(_, kib)| kib);
        Memory {
            name: watched.name.clone(),
            idle_kib,
            loaded_kib,
            kib_per_call: (loaded_kib as f64 - idle_kib as f64) / f64::from(plan.calls.max(1)),
            slope: slope(&samples),
            samples,
        }
    })
    .collect()
}

/// Growth after the first minute by least squares; none with fewer than three samples.
fn slope(samples: &[(f64, u64)]) -> Option<Slope> {
    let late: Vec<(f64, f64)> =
        samples.iter().filter(|(at, _)| *at >= WARM_UP_SECONDS).map(|&(at, kib)| (at / 60.0, kib as f64)).collect();
    if late.len() < 3 {
        return None;
    }
    let count = late.len() as f64;
    let mean_x = late.iter().map(|p| p.0).sum::<f64>() / count;
    let mean_y = late.iter().map(|p| p.1).sum::<f64>() / count;
    let covariance: f64 = late.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = late.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    Some(Slope { kib_per_minute: covariance / variance })
}

pub(super) fn latency(histogram: &Histogram) -> Option<Latency> {
    let at = |share| histogram.quantile(share).map(milliseconds);
    Some(Latency { p50_ms: at(0.5)?, p90_ms: at(0.9)?, p99_ms: at(0.99)?, max_ms: histogram.max().map(milliseconds)? })
}

pub(super) fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_leaves_out_the_first_minute() {
        let growing: Vec<(f64, u64)> =
            (0..30).map(|i| (f64::from(i) * 10.0, if i < 6 { 9000 } else { 1000 + i as u64 })).collect();
        let slope = slope(&growing).unwrap();
        assert!((slope.kib_per_minute - 6.0).abs() < 1e-6, "{slope:?}");
        assert_eq!(super::slope(&growing[..8]), None);
    }

    #[test]
    fn threads_are_added_up_by_name() {
        let thread = |name: &str, user| (name.to_owned(), Cpu { user, system: 1 });
        let before = ProcessCpu { threads: [(1, thread("rt-1", 10))].into(), ..ProcessCpu::default() };
        let after = ProcessCpu {
            threads: [(1, thread("rt-1", 15)), (2, thread("rt-2", 7)), (3, thread("load-0", 9))].into(),
            ..ProcessCpu::default()
        };
        let names = by_name(&before, &after);
        assert_eq!(names["rt"], (2, 13));
        assert_eq!(busiest(&before, &after), 10.0);
    }
}
