//! The gateway's steps: settings, logs, listeners, run, exit code.

use std::process::ExitCode;

use anyhow::Context;
use gateway::{Config, config::SETTINGS, doctor};
use telemetry::{
    files, log, probe,
    settings::{BAD_SETTINGS, Mistakes, Task},
    shutdown,
    traces::Traces,
};
use tokio::net::TcpListener;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line answers on its streams")]
fn main() -> anyhow::Result<ExitCode> {
    let (task, values) = telemetry::settings::command_line(
        "gateway",
        env!("CARGO_PKG_VERSION"),
        "Everything Twilio: webhooks, TwiML, the media WebSocket, marks and clear",
        &SETTINGS,
        &[doctor::SUBCOMMAND],
    );
    if task == Task::Healthcheck {
        return probe::healthcheck(&values);
    }
    let config = Config::read(&values);
    if let Task::Own { json, .. } = task {
        return examine(config, json);
    }
    let config = match config {
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
        Task::Healthcheck | Task::Own { .. } | Task::Serve => serve(config),
    }
}

#[expect(clippy::print_stdout, reason = "the doctor answers on its standard output")]
#[tokio::main(flavor = "current_thread")]
async fn examine(config: Result<Config, Mistakes>, json: bool) -> anyhow::Result<ExitCode> {
    let report = doctor::examine(config).await.context("TLS cannot be set up")?;
    if json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
    }
    Ok(ExitCode::from(u8::from(!report.is_healthy())))
}

#[tokio::main(flavor = "current_thread")]
async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let plan = config.process.traces.as_ref();
    let traces = plan.map(|plan| Traces::start(plan, "tandem-gateway", env!("CARGO_PKG_VERSION"))).transpose()?;
    log::init(config.process.log_format, &config.process.log_filter, traces.as_ref());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), open_files = files::raise_limit(), "gateway");
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("SERVER_HOST and SERVER_PORT: {}", config.listen))?;
    let operations =
        TcpListener::bind(config.operations).await.with_context(|| format!("OPS_LISTEN: {}", config.operations))?;
    let shutdown = shutdown::on_signal()?;
    config.routes.reload_on_hangup()?;
    let ended = gateway::run(config, listener, operations, shutdown).await;
    if let Some(traces) = traces {
        traces.finish().await;
    }
    ended?;
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}
