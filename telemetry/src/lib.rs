//! What both services do alike before their first line of work.
//!
//! - [`files`]: how many sockets the process may hold.
//! - [`log`]: the subscriber and the panic hook.
//! - [`metrics`]: how Prometheus instruments are made and written.
//! - [`Sensitive`]: values that must never be printed.
//! - [`settings`]: flags, environment and `.env`, read once; every mistake reported together.
//! - [`shards`]: current-thread runtimes, one a core, fed by one accept loop.
//! - [`shutdown`]: the signals that end a service.
//! - [`tls`]: who the pair's halves are to each other.
//! - [`traces`]: spans of calls, for an OTLP collector.
//! - [`probe`]: the question that a container's health check asks.
//!
//! There are no domain words here, no instruments of its own and no routes. Whatever differs between the gateway and the
//! audio-worker belongs to them.

pub mod files;
pub mod log;
pub mod metrics;
pub mod probe;
mod sensitive;
pub mod settings;
pub mod shards;
pub mod shutdown;
pub mod tls;
pub mod traces;

pub use sensitive::Sensitive;
