//! What programs that measure a pair of their own are told on the command line: which pair, and where results go.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::PairSettings;

/// A group of arguments.
#[derive(Args, Clone, Debug)]
pub struct PairArguments {
    /// The gateway's program; `gateway` next to this one when left out.
    #[arg(long, value_name = "PATH")]
    pub gateway_bin: Option<PathBuf>,
    /// The worker's program; `audio-worker` next to this one when left out.
    #[arg(long, value_name = "PATH")]
    pub worker_bin: Option<PathBuf>,
    /// Where the logs of both go; a new directory for temporary files when left out.
    #[arg(long, value_name = "DIRECTORY")]
    pub logs: Option<PathBuf>,
    /// Writes the results as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes the tables.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

impl PairArguments {
    /// How to start that pair.
    ///
    /// # Errors
    /// When it cannot be told where this program is.
    pub fn settings(&self) -> anyhow::Result<PairSettings> {
        let mut settings = PairSettings::beside_current()?;
        let PairArguments { gateway_bin, worker_bin, logs, .. } = self.clone();
        settings.gateway = gateway_bin.unwrap_or(settings.gateway);
        settings.worker = worker_bin.unwrap_or(settings.worker);
        settings.logs = logs.unwrap_or(settings.logs);
        Ok(settings)
    }

    /// Writes the results where they are wanted.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, json: &str, table: &str) -> anyhow::Result<()> {
        for (path, text) in [(&self.json, json), (&self.markdown, table)] {
            if let Some(path) = path {
                fs::write(path, text).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }
}
