//! `gateway doctor`: looks at a set-up as an operator would, and says for each thing that is wrong what to do.
//!
//! It asks the running gateway through its public address, Twilio about the account, and the workers; it changes
//! nothing and prints no secret.

use std::io;

use telemetry::settings::{Mistakes, Subcommand};
use tokio::{join, runtime::Handle};

use crate::{client::Client, config::Config};

mod account;
mod public;
mod report;
mod trust;
mod workers;

pub use report::{Finding, Outcome, Report};

/// How it is asked for.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "doctor",
    help: "Examines the set-up: account, number, public address, workers; 0 if all is well",
};

/// Examines the set-up that the settings describe.
///
/// # Errors
/// When TLS cannot be set up.
pub async fn examine(config: Result<Config, Mistakes>) -> io::Result<Report> {
    let config = match config {
        Ok(config) => config,
        Err(Mistakes(mistakes)) => {
            let finding = |mistake: telemetry::settings::Mistake| {
                Finding::failed("settings", format!("{} {}", mistake.name, mistake.what), "correct it and ask again")
            };
            return Ok(Report::new(mistakes.into_iter().map(finding).collect()));
        }
    };
    let client = Client::new(Handle::current())?;
    let mut findings = vec![Finding::ok("settings", "they can be used")];
    let (account, public, workers) =
        join!(account::examine(&config, &client), public::examine(&config, &client), workers::examine(&config));
    findings.extend([account, public, workers].concat());
    Ok(Report::new(findings))
}
