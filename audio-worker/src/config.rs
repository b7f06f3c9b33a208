//! Typed configuration: text in, meaning out, every mistake with its variable's name.

use std::{net::SocketAddr, time::Duration};

use telemetry::{
    log::Format,
    settings::{Mistakes, Reader, Setting, Values},
};

/// Every setting of the worker.
pub const SETTINGS: [Setting; 7] = [
    Setting { name: "WORKER_LISTEN", default: Some("0.0.0.0:50051"), help: "Address of the gRPC service" },
    Setting { name: "OPS_LISTEN", default: Some("0.0.0.0:9465"), help: "Address of /livez and /readyz" },
    Setting { name: "WORKER_MAX_CALLS", default: Some("500"), help: "Conversations at a time; more are refused" },
    Setting { name: "DRAIN_SECONDS", default: Some("30"), help: "How long live conversations may go on after SIGTERM" },
    Setting { name: "SHARDS", default: None, help: "Threads that carry conversations; one a core when not given" },
    Setting { name: "LOG_FORMAT", default: Some("text"), help: "text or json" },
    Setting { name: "RUST_LOG", default: Some("info"), help: "Log levels by target" },
];

/// What the worker runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// gRPC.
    pub listen: SocketAddr,
    /// `/livez` and `/readyz`.
    pub operations: SocketAddr,
    /// Conversations at a time.
    pub max_calls: u32,
    /// Time for live conversations after SIGTERM.
    pub drain: Duration,
    /// Threads that carry conversations.
    pub shards: usize,
    /// Form of the log.
    pub log_format: Format,
    /// Log levels.
    pub log_filter: String,
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
        let drain = Duration::from_secs(reader.number("DRAIN_SECONDS", 0..=86_400));
        let shards = match reader.text("SHARDS") {
            Some(_) => usize::try_from(reader.number("SHARDS", 1..=256)).unwrap_or(1),
            None => telemetry::shards::per_core(),
        };
        let log_format = reader.parsed("LOG_FORMAT");
        let log_filter = reader.text("RUST_LOG").unwrap_or("info").to_owned();
        let config = listen.zip(operations).zip(log_format).map(|((listen, operations), log_format)| Self {
            listen,
            operations,
            max_calls: u32::try_from(max_calls).unwrap_or(u32::MAX),
            drain,
            shards,
            log_format,
            log_filter,
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
