//! What both services do alike before their first line of work.
//!
//! - [`backoff`]: when to try again.
//! - [`files`]: how many sockets the process may hold.
//! - [`https`]: connections to servers elsewhere.
//! - [`language`]: the form of language tags.
//! - [`live_file`]: a file that is read again on SIGHUP.
//! - [`log`]: the subscriber and the panic hook.
//! - [`metrics`]: how Prometheus instruments are made and written.
//! - [`mistakes`]: what is wrong in a file, by line.
//! - [`Sensitive`]: values that must never be printed.
//! - [`settings`]: flags, environment and `.env`, read once; every mistake reported together.
//! - [`shards`]: current-thread runtimes, one a core, fed by one accept loop.
//! - [`shutdown`]: the signals that end a service.
//! - [`tls`]: who the pair's halves are to each other.
//! - [`traces`]: spans of calls, for an OTLP collector.
//! - [`webhooks`]: how what is told to a user's webhook is signed and tried again.
//! - [`probe`]: the question that a container's health check asks.
//!
//! There are no domain words here, no instruments of its own and no routes. Whatever differs between the gateway and the
//! audio-worker belongs to them.

pub mod backoff;
pub mod files;
pub mod https;
pub mod language;
pub mod live_file;
pub mod log;
pub mod metrics;
pub mod mistakes;
pub mod probe;
mod sensitive;
pub mod settings;
pub mod shards;
pub mod shutdown;
pub mod tls;
pub mod traces;
pub mod webhooks;

pub use sensitive::Sensitive;
