//! `agent-conformance`: plays the worker to a remote agent of yours and tells what is wrong with it.
//!
//! Exit code 0 when all checks passed, 1 when one did not.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use telemetry::Sensitive;
use tests::conformance::{CHECKS, Candidate, check};
use url::Url;

/// Dials a service of `tandem.agent.v1` as the audio-worker does, and checks how it behaves. Takes half a minute.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where it listens, such as http://localhost:9000.
    url: Url,
    /// Environment variable with the bearer token that it wants.
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// How long it may take to be ready for a call, in seconds.
    #[arg(long, default_value_t = 10)]
    ready_seconds: u64,
    /// How long it may take to answer a turn, in seconds.
    #[arg(long, default_value_t = 15)]
    answer_seconds: u64,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the verdicts are the output")]
#[expect(clippy::disallowed_methods, reason = "the command line names the variable")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let token = arguments.token_env.map(|name| std::env::var(&name).with_context(|| format!("{name} is not set")));
    let candidate = Candidate {
        token: token.transpose()?.map(Sensitive::new),
        ready_limit: Duration::from_secs(arguments.ready_seconds),
        answer_limit: Duration::from_secs(arguments.answer_seconds),
        ..Candidate::new(arguments.url)
    };
    let verdicts = check(&candidate).await;
    for verdict in &verdicts {
        match &verdict.wrong {
            None => println!("pass  {:<12} {}", verdict.name, verdict.about),
            Some(wrong) => println!("FAIL  {:<12} {}\n      {wrong}", verdict.name, verdict.about),
        }
    }
    let passed = verdicts.iter().filter(|verdict| verdict.wrong.is_none()).count();
    println!("{passed} of {} checks passed", CHECKS.len());
    Ok(if passed == CHECKS.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
