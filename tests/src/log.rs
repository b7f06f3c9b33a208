//! What the services of this process log, kept for a test to search and to wait for.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use telemetry::log::Format;
use tracing_subscriber::{
    EnvFilter,
    fmt::{self, MakeWriter},
    prelude::*,
};

use crate::stack::eventually;

/// The lines of the log; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// The log of this process, written as [`telemetry::log::init`] writes it, and kept from the first call on, which says
    /// how. `filter` is in the syntax of `RUST_LOG`.
    pub fn of_process(format: Format, filter: &str) -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let registry = tracing_subscriber::registry().with(EnvFilter::try_new(filter).expect("a filter"));
            let installed = match format {
                Format::Text => registry.with(fmt::layer().with_ansi(false).with_writer(log.clone())).try_init(),
                Format::Json => {
                    registry.with(fmt::layer().json().flatten_event(true).with_writer(log.clone())).try_init()
                }
            };
            installed.expect("no subscriber yet");
            log
        })
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        self.lines().clone()
    }

    /// The first line that has all `parts`.
    pub fn find(&self, parts: &[&str]) -> Option<String> {
        let lines = self.lines();
        lines.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(ToOwned::to_owned)
    }

    /// The same, as soon as it is there. Panics when it does not come.
    pub async fn wait_for(&self, parts: &[&str]) -> String {
        let mut found = None;
        eventually(&format!("a line with {parts:?}"), async || {
            found = self.find(parts);
            found.is_some()
        })
        .await;
        found.unwrap_or_default()
    }

    fn lines(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One line comes in one piece.
        self.lines().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
