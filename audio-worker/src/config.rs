//! Typed configuration: text in, meaning out, every mistake with its variable's name.

use std::{net::SocketAddr, path::PathBuf, sync::LazyLock};

use telemetry::{
    live_file::LiveFile,
    settings::{DRAIN_SECONDS, LOG_FORMAT, Mistakes, Process, RUST_LOG, Reader, SHARDS, Setting, Values},
    tls::{Identity, TLS_CA, TLS_CERT, TLS_KEY},
    traces,
};

use crate::agents_file::AgentSettings;

mod agents;

/// Settings that only the worker has, or has otherwise.
const OWN_SETTINGS: [Setting; 11] = [
    Setting { name: "WORKER_LISTEN", default: Some("0.0.0.0:50051"), help: "Address of the gRPC service" },
    Setting { name: "OPS_LISTEN", default: Some("0.0.0.0:9465"), help: "Address of /livez, /readyz and /metrics" },
    Setting { name: "WORKER_MAX_CALLS", default: Some("500"), help: "Conversations at a time; more are refused" },
    Setting {
        name: "TRANSCRIPTS_DIR",
        default: None,
        help: "Folder for a transcript of each call, as JSON Lines; unset: none is kept",
    },
    TLS_CERT,
    TLS_KEY,
    TLS_CA,
    DRAIN_SECONDS,
    SHARDS,
    LOG_FORMAT,
    RUST_LOG,
];

/// Every setting of the worker.
pub static SETTINGS: LazyLock<Vec<Setting>> =
    LazyLock::new(|| [&OWN_SETTINGS[..], agents::SETTINGS, &traces::SETTINGS].concat());

/// What the worker runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// gRPC.
    pub listen: SocketAddr,
    /// `/livez` and `/readyz`.
    pub operations: SocketAddr,
    /// Conversations at a time.
    pub max_calls: u32,
    /// When given, only gateways of its authority are talked to.
    pub tls: Option<Identity>,
    /// What the agents file says; `None` without one.
    pub agents: Option<LiveFile<Vec<AgentSettings>>>,
    /// Where transcripts go; `None`: nowhere.
    pub transcripts: Option<PathBuf>,
    /// Drain, threads, logs.
    pub process: Process,
}

impl Config {
    /// Reads all settings.
    ///
    /// # Errors
    /// Every mistake, with its variable's name.
    pub fn read(values: &Values) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(values);
        let listen = reader.parsed("WORKER_LISTEN");
        let operations = reader.parsed("OPS_LISTEN");
        let max_calls = reader.number("WORKER_MAX_CALLS", 1..=100_000);
        let tls = Identity::read(&mut reader);
        let agents = agents::read(&mut reader);
        let transcripts = reader.text("TRANSCRIPTS_DIR").map(PathBuf::from);
        let process = reader.process();
        let config = listen.zip(operations).map(|(listen, operations)| Self {
            listen,
            operations,
            max_calls: u32::try_from(max_calls).unwrap_or(u32::MAX),
            tls,
            agents,
            transcripts,
            process,
        });
        reader.finish(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, Mistakes> {
        Config::read(&Values::from_lookup(&SETTINGS, |name| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        }))
    }

    #[test]
    fn nothing_given_is_a_working_configuration() {
        let config = read(&[]).unwrap();
        assert_eq!((config.listen.port(), config.operations.port(), config.max_calls), (50051, 9465, 500));
    }

    #[test]
    fn all_mistakes_come_together() {
        let mistakes =
            read(&[("WORKER_LISTEN", "here"), ("WORKER_MAX_CALLS", "0"), ("LOG_FORMAT", "xml"), ("SHARDS", "-1")]);
        let names: Vec<_> = mistakes.unwrap_err().0.into_iter().map(|mistake| mistake.name).collect();
        assert_eq!(names, ["WORKER_LISTEN", "WORKER_MAX_CALLS", "SHARDS", "LOG_FORMAT"]);
    }
}
