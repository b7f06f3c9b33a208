//! Logs: one subscriber for the process, as text or JSON, and a panic hook that writes to it.

use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt,
    prelude::*,
    registry::LookupSpan,
};

use crate::traces::{TARGET, Traces};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: colours on a terminal.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json"),
        }
    }
}

/// Installs the subscriber and the panic hook. `filter` is in the syntax of `RUST_LOG`; spans go to `traces`, where there
/// are any. A later call of the same process changes nothing.
pub fn init(format: Format, filter: &str, traces: Option<&Traces>) {
    // Whatever the levels of the log, no line tells of the spans of a trace.
    let filtered = |levels: &str| EnvFilter::try_new(format!("{levels},{TARGET}=off"));
    let filter = filtered(filter).or_else(|_| filtered("info")).unwrap_or_default();
    let installed = match traces {
        // One filter for all is the cheaper one.
        None => Registry::default().with(filter).with(lines(format)).try_init(),
        Some(traces) => {
            let spans = tracing_opentelemetry::layer()
                .with_tracer(traces.tracer())
                .with_level(false)
                .with_location(false)
                .with_target(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                // Nothing is ever entered.
                .with_context_activation(false)
                .with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO));
            Registry::default().with(spans).with(lines(format).with_filter(filter)).try_init()
        }
    };
    if let (Ok(()), Some(traces)) = (&installed, traces) {
        traces.announce();
    }
    if installed.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            // The message is left out: it may carry what a caller said or sent.
            tracing::error!(place, "a task panicked");
        }));
    }
}

fn lines<S: Subscriber + for<'span> LookupSpan<'span>>(format: Format) -> Box<dyn Layer<S> + Send + Sync> {
    let lines = fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Text => lines.with_target(true).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    }
}
