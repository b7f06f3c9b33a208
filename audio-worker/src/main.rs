//! The audio-worker's steps: settings, logs, listeners, run, exit code.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use audio_worker::{
    Config,
    agent::{
        Agents, Roster,
        survey::{results::Results, sending},
    },
    config::SETTINGS,
    provider::http::Client,
};
use telemetry::{
    files, log, probe,
    settings::{BAD_SETTINGS, Task},
    shutdown,
    traces::Traces,
};
use tokio::{net::TcpListener, runtime::Handle};

/// How long results of surveys may take to leave once all calls are over.
const RESULTS_LIMIT: Duration = Duration::from_secs(5);

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line answers on its streams")]
fn main() -> anyhow::Result<ExitCode> {
    let (task, values) = telemetry::settings::command_line(
        "audio-worker",
        env!("CARGO_PKG_VERSION"),
        "Everything sound and talk: mu-law, resampling, turns, agents",
        &SETTINGS,
        &[],
    );
    if task == Task::Healthcheck {
        return probe::healthcheck(&values);
    }
    let config = match Config::read(&values) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Ok(ExitCode::from(BAD_SETTINGS));
        }
    };
    match task {
        Task::CheckConfig => {
            println!("the settings are good");
            Ok(ExitCode::SUCCESS)
        }
        Task::Healthcheck | Task::Serve => serve(&config),
        Task::Own { name, .. } => anyhow::bail!("{name} is no task of this service"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    let plan = config.process.traces.as_ref();
    let traces = plan.map(|plan| Traces::start(plan, "tandem-worker", env!("CARGO_PKG_VERSION"))).transpose()?;
    log::init(config.process.log_format, &config.process.log_filter, traces.as_ref());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), open_files = files::raise_limit(), "audio-worker");
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("WORKER_LISTEN: {}", config.listen))?;
    let operations =
        TcpListener::bind(config.operations).await.with_context(|| format!("OPS_LISTEN: {}", config.operations))?;
    let shutdown = shutdown::on_signal()?;
    let (roster, mut delivery) = (Roster::default(), None);
    if let Some(file) = &config.agents {
        // On this thread, which serves no calls itself and outlives them all.
        let client = Client::new(Handle::current()).context("cannot make a client of providers")?;
        let results = Results::start(sending::by(client.clone()));
        roster.replace(Agents::of_file(&file.current(), &client, &results));
        delivery = Some(results.clone());
        let roster = roster.clone();
        file.reload_on_hangup(move |agents| roster.replace(Agents::of_file(&agents, &client, &results)))?;
    }
    let ended = audio_worker::run(config, roster, listener, operations, shutdown).await;
    if let Some(results) = delivery {
        results.flush(RESULTS_LIMIT).await;
    }
    if let Some(traces) = traces {
        traces.finish().await;
    }
    ended?;
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}
