//! `bench`: starts a gateway and a worker of their own and measures what calls cost.
//!
//! Exit code 0 when every step is a valid measurement and no frame was lost.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use ::tests::{
    load::{BenchPlan, EdgePlan, EdgeReport, StepReport, edge_markdown, markdown, measure, measure_edge},
    pair::{PairProcesses, PairSettings},
};
use anyhow::Context as _;
use clap::Parser;
use serde::Serialize;
use tokio::time::sleep;

/// Calls that one thread of the load can carry with room to spare.
const CALLS_PER_THREAD: u32 = 150;
/// How long the pair may take to drain.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Opens the calls API of the gateway that is measured.
const API_TOKEN: &str = "token-of-the-bench";
/// Calls that may be announced and not ended at a time.
const MOST_ANNOUNCED: u32 = 20_000;
/// From the end of a step to the next, so that its calls are gone.
const PAUSE: Duration = Duration::from_secs(2);

/// Measures latency, CPU time and memory of a gateway and a worker under calls.
///
/// Each second every caller sends a tone that starts at the start of a frame. Latency is the time from
/// sending that frame to receiving the frame of which the tone fills a quarter; it includes the worker's
/// filters only where they move the tone into the next frame.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The gateway's program; `gateway` next to this one when left out.
    #[arg(long, value_name = "PATH")]
    gateway_bin: Option<PathBuf>,
    /// The worker's program; `audio-worker` next to this one when left out.
    #[arg(long, value_name = "PATH")]
    worker_bin: Option<PathBuf>,
    /// Concurrent calls, a step each.
    #[arg(long, value_delimiter = ',', default_value = "1,50,300")]
    calls: Vec<u32>,
    /// Length of each step's measuring window.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// After the steps, the last of them again for so many minutes, to see whether memory grows.
    #[arg(long, default_value_t = 0)]
    soak_minutes: u64,
    /// Instead of the steps: webhooks and the list of calls beside as many calls as the first step has.
    #[arg(long)]
    edge: bool,
    /// Webhooks a second of `--edge`.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Threads of the load; one per 150 calls when left out.
    #[arg(long)]
    load_threads: Option<u32>,
    /// Where the logs of both go; a new directory for temporary files when left out.
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
    /// Writes the results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the table.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Serialize)]
struct Results {
    /// Processors of the machine, which the load shares with the pair.
    processors: usize,
    steps: Vec<StepReport>,
    edge: Option<EdgeReport>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut settings = PairSettings::beside_current()?;
    if let Some(path) = &arguments.gateway_bin {
        settings.gateway.clone_from(path);
    }
    if let Some(path) = &arguments.worker_bin {
        settings.worker.clone_from(path);
    }
    if let Some(path) = &arguments.logs {
        settings.logs.clone_from(path);
    }
    let most = arguments.calls.iter().copied().max().unwrap_or(1);
    // An announced call counts until it ends, and a minute of webhooks is allowed for.
    let announced = if arguments.edge { MOST_ANNOUNCED } else { 0 };
    settings.max_calls = Some(most + 10 + announced);
    // The load comes as fast as it can be set up; that is not what is measured.
    let environment = [("MAX_CALLS_PER_SECOND", "0"), ("API_TOKENS", API_TOKEN), ("API_REQUESTS_PER_SECOND", "1000")];
    settings.environment.extend(environment.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let pair = PairProcesses::start(&settings).await?;
    let (steps, edge) = match arguments.edge {
        true => (Vec::new(), Some(run_edge(&arguments, &pair).await?)),
        false => (run(&arguments, &pair).await?, None),
    };
    pair.stop(STOP_LIMIT).await?;
    let results = Results { processors: std::thread::available_parallelism().map_or(1, usize::from), steps, edge };
    write(&arguments, &results)?;
    let good = |step: &StepReport| step.invalid.is_empty() && step.frames_lost == 0;
    let is_edge_good = |edge: &EdgeReport| edge.invalid.is_empty() && edge.frames_lost == 0;
    let is_good = results.steps.iter().all(good) && results.edge.as_ref().is_none_or(is_edge_good);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_edge(arguments: &Arguments, pair: &PairProcesses) -> anyhow::Result<EdgeReport> {
    let (call, calls) = (pair.call_plan()?, arguments.calls.first().copied().unwrap_or(1));
    progress(&format!("{} webhooks a second for {} s beside {calls} calls", arguments.rate, arguments.seconds));
    measure_edge(&EdgePlan {
        call: &call,
        gateway: pair.addresses().gateway,
        api_token: API_TOKEN,
        calls,
        threads: arguments.load_threads.unwrap_or(calls.div_ceil(CALLS_PER_THREAD)),
        rate: arguments.rate,
        window: Duration::from_secs(arguments.seconds),
    })
    .await
}

async fn run(arguments: &Arguments, pair: &PairProcesses) -> anyhow::Result<Vec<StepReport>> {
    let call = pair.call_plan()?;
    let watched = pair.watched();
    let plan = |calls: u32, window: Duration| BenchPlan {
        call: &call,
        watched: &watched,
        calls,
        window,
        threads: arguments.load_threads.unwrap_or(calls.div_ceil(CALLS_PER_THREAD)),
    };
    // One call first: what it leaves behind is not a cost of the calls that follow.
    progress("warming up");
    let warm = measure(&plan(1, Duration::from_secs(1)), &[]).await?;
    anyhow::ensure!(warm.tones + warm.frames_received > 0, "the first call got nothing back: {:?}", warm.invalid);
    sleep(PAUSE).await;
    let idle: Vec<u64> = warm_memory(&watched)?;
    let mut steps = Vec::new();
    for &calls in &arguments.calls {
        progress(&format!("{calls} calls for {} s", arguments.seconds));
        let window = Duration::from_secs(arguments.seconds);
        steps.push(measure(&plan(calls, window), &idle).await?);
        sleep(PAUSE).await;
    }
    if let (Some(&calls), 1..) = (arguments.calls.last(), arguments.soak_minutes) {
        progress(&format!("{calls} calls for {} min", arguments.soak_minutes));
        let window = Duration::from_secs(60 * arguments.soak_minutes);
        steps.push(measure(&plan(calls, window), &idle).await?);
    }
    Ok(steps)
}

fn warm_memory(watched: &[tests::pair::Watched]) -> anyhow::Result<Vec<u64>> {
    let all: std::io::Result<Vec<u64>> = watched.iter().map(|watched| tests::load::resident_kib(watched.pid)).collect();
    all.context("cannot read the memory of the pair")
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn write(arguments: &Arguments, results: &Results) -> anyhow::Result<()> {
    let table = results.edge.as_ref().map_or_else(|| markdown(&results.steps), edge_markdown);
    let json = serde_json::to_string_pretty(results)?;
    println!("{table}");
    match &arguments.json {
        Some(path) => {
            std::fs::write(path, json).with_context(|| path.display().to_string())?;
        }
        None => println!("{json}"),
    }
    if let Some(path) = &arguments.markdown {
        std::fs::write(path, table).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "progress goes to standard error")]
fn progress(line: &str) {
    eprintln!("{line}");
}
