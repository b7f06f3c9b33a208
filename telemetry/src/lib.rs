//! What both services do alike before their first line of work.
//!
//! - [`log`]: the subscriber and the panic hook.
//! - [`Sensitive`]: values that must never be printed.
//! - [`settings`]: flags, environment and `.env`, read once; every mistake reported together.
//! - [`shards`]: current-thread runtimes, one a core, fed by one accept loop.
//! - [`shutdown`]: the signals that end a service.
//!
//! There are no domain words here, no instruments and no HTTP. Whatever differs between the gateway and the
//! audio-worker belongs to them.

pub mod log;
mod sensitive;
pub mod settings;
pub mod shards;
pub mod shutdown;

pub use sensitive::Sensitive;
