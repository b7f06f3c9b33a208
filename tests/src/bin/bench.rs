//! `bench`: starts a gateway and a worker of their own and measures what calls cost.
//!
//! Exit code 0 when every step is a valid measurement and no frame was lost; 75 when nothing is wrong but that the load could
//! not keep its pace, as on a busy machine.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use ::tests::{
    load::{
        AgentProcess, BenchPlan, Comparison, EdgePlan, EdgeReport, Round, StepReport, TraceSink, edge_markdown,
        issue_certificates, markdown, measure, measure_edge,
    },
    pair::{PairArguments, PairProcesses, PairSettings},
};
use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use tokio::time::sleep;

/// Calls that one thread of the load can carry with room to spare.
const CALLS_PER_THREAD: u32 = 150;
/// How long the pair may take to drain.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Exit code when only the load itself was disturbed (EX_TEMPFAIL of sysexits.h).
const DISTURBED: u8 = 75;
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
    #[command(flatten)]
    pair: PairArguments,
    /// The program of `--compare remote-agent`; the example `agent` below the worker's folder when left out.
    #[arg(long, value_name = "PATH")]
    agent_bin: Option<PathBuf>,
    /// Concurrent calls, a step each.
    #[arg(long, value_delimiter = ',', default_value = "1,50,300")]
    calls: Vec<u32>,
    /// Length of each step's measuring window.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// After the steps, the last of them again for so many minutes, to see whether memory grows.
    #[arg(long, default_value_t = 0)]
    soak_minutes: u64,
    /// More environment for both services, after what this program sets.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
    /// Asks both for `/metrics` every 5 s while they are measured.
    #[arg(long)]
    scrape: bool,
    /// The steps with and without this, in turn, with a pair started anew for each round.
    #[arg(long, conflicts_with_all = ["edge", "soak_minutes"])]
    compare: Option<Variation>,
    /// Rounds of `--compare`, each without and then with it.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Instead of the steps: webhooks and the list of calls beside as many calls as the first step has.
    #[arg(long)]
    edge: bool,
    /// Webhooks a second of `--edge`.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Threads of the load; one per 150 calls when left out.
    #[arg(long)]
    load_threads: Option<u32>,
}

/// What may be compared with a pair that has neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Variation {
    /// One trace in a hundred goes to a collector, and both are asked for their metrics.
    Telemetry,
    /// Mutual TLS between the pair.
    MutualTls,
    /// Calls go to an agent that is a process of its own, and echoes as the worker's own agent does.
    RemoteAgent,
}

#[derive(Serialize)]
struct Results {
    /// Processors of the machine, which the load shares with the pair.
    processors: usize,
    steps: Vec<StepReport>,
    edge: Option<EdgeReport>,
    comparison: Option<Comparison>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut settings = arguments.pair.settings()?;
    let most = arguments.calls.iter().copied().max().unwrap_or(1);
    // An announced call counts until it ends, and a minute of webhooks is allowed for.
    let announced = if arguments.edge { MOST_ANNOUNCED } else { 0 };
    settings.max_calls = Some(most + 10 + announced);
    // The load comes as fast as it can be set up; that is not what is measured.
    let environment = [("MAX_CALLS_PER_SECOND", "0"), ("API_TOKENS", API_TOKEN), ("API_REQUESTS_PER_SECOND", "1000")];
    settings.environment.extend(environment.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut results = Results { processors, steps: Vec::new(), edge: None, comparison: None };
    match arguments.compare {
        Some(variation) => results.comparison = Some(compare(&arguments, &settings, variation).await?),
        None => {
            settings.environment.extend_from_slice(&arguments.environment);
            let pair = PairProcesses::start(&settings).await?;
            match arguments.edge {
                true => results.edge = Some(run_edge(&arguments, &pair).await?),
                false => results.steps = run(&arguments, &pair, arguments.scrape).await?,
            }
            pair.stop(STOP_LIMIT).await?;
        }
    }
    write(&arguments, &results)?;
    let good = |step: &StepReport| step.invalid.is_empty() && step.frames_lost == 0;
    let is_edge_good = |edge: &EdgeReport| edge.invalid.is_empty() && edge.frames_lost == 0;
    let steps: Vec<_> = results.steps.iter().chain(results.comparison.iter().flat_map(Comparison::steps)).collect();
    let is_good = steps.iter().copied().all(good) && results.edge.as_ref().is_none_or(is_edge_good);
    let disturbed = steps.iter().any(|step| !step.disturbed.is_empty())
        || results.edge.as_ref().is_some_and(|edge| !edge.disturbed.is_empty());
    Ok(match (is_good, disturbed) {
        (true, false) => ExitCode::SUCCESS,
        (true, true) => ExitCode::from(DISTURBED),
        (false, _) => ExitCode::FAILURE,
    })
}

/// Rounds without and with `variation`.
async fn compare(arguments: &Arguments, settings: &PairSettings, variation: Variation) -> anyhow::Result<Comparison> {
    let sink = TraceSink::start().await.context("no port for traces")?;
    let mut agent = None;
    let of_name = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (what, varied) = match variation {
        Variation::Telemetry => (
            "telemetry",
            vec![
                of_name("OTEL_EXPORTER_OTLP_ENDPOINT", &sink.url()),
                of_name("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                of_name("OTEL_TRACES_SAMPLER_ARG", "0.01"),
            ],
        ),
        Variation::MutualTls => ("mutual TLS", issue_certificates(&settings.logs)?),
        Variation::RemoteAgent => {
            let program = match &arguments.agent_bin {
                Some(path) => path.clone(),
                None => settings.worker.with_file_name("examples").join("agent"),
            };
            let started = AgentProcess::start(&program).await?;
            let varied = started.settings(&settings.logs)?;
            agent = Some(started);
            ("remote agent", varied)
        }
    };
    let mut rounds = Vec::new();
    for round in 0..arguments.rounds.saturating_mul(2) {
        let is_varied = round % 2 == 1;
        progress(&format!("round {}: {}", round + 1, if is_varied { what } else { "base" }));
        let mut settings = settings.clone();
        if is_varied {
            settings.environment.extend_from_slice(&varied);
        }
        settings.environment.extend_from_slice(&arguments.environment);
        let pair = PairProcesses::start(&settings).await?;
        let scrape = arguments.scrape || (is_varied && variation == Variation::Telemetry);
        let steps = run(arguments, &pair, scrape).await?;
        pair.stop(STOP_LIMIT).await?;
        rounds.push(Round { is_varied, steps });
    }
    drop(agent);
    if variation == Variation::Telemetry {
        progress(&format!("{} spans came", sink.spans()));
    }
    Ok(Comparison::new(what.to_owned(), rounds))
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

async fn run(arguments: &Arguments, pair: &PairProcesses, scrape: bool) -> anyhow::Result<Vec<StepReport>> {
    let call = pair.call_plan()?;
    let watched = pair.watched();
    let plan = |calls: u32, window: Duration| BenchPlan {
        call: &call,
        watched: &watched,
        calls,
        window,
        threads: arguments.load_threads.unwrap_or(calls.div_ceil(CALLS_PER_THREAD)),
        scrape,
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
    let table = match (&results.edge, &results.comparison) {
        (Some(edge), _) => edge_markdown(edge),
        (None, Some(comparison)) => {
            let steps: Vec<_> = comparison.steps().cloned().collect();
            format!("{}\nAll rounds, in order:\n\n{}", comparison.markdown(), markdown(&steps))
        }
        (None, None) => markdown(&results.steps),
    };
    let json = serde_json::to_string_pretty(results)?;
    println!("{table}");
    if arguments.pair.json.is_none() {
        println!("{json}");
    }
    arguments.pair.write(&json, &table)
}

/// `NAME=VALUE`.
fn variable(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("must be NAME=VALUE"),
    }
}

#[expect(clippy::print_stderr, reason = "progress goes to standard error")]
fn progress(line: &str) {
    eprintln!("{line}");
}
