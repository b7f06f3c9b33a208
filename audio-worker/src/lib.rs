//! The audio-worker: everything sound and talk. It never heard of Twilio.
//!
//! Read in this order: [`server`](crate) takes connections and gives each call to `voice_service`, which admits it;
//! `conversation` is the driver, the one task that owns the call; [`turn`] is the core that decides;
//! [`pipeline`] and [`dsp`] are the signal path; [`ears`] tell speech from the rest; [`agent`] is the port to whoever
//! talks; `traces` names the spans.
//!
//! Invariants:
//! - `turn`, `pipeline`, `dsp` and `ears` are pure: no clock, no socket, no runtime.
//! - The reply queue in [`turn::reply`] is the only pacer in the system.
//! - One task owns all the state of a call; no lock is taken per frame; what grows has a bound and a counter.
//! - A panic in one conversation ends that conversation.

use std::io;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod agent;
pub mod agents_file;
mod audio_service;
pub mod config;
mod connection;
mod conversation;
mod conversations;
pub mod dsp;
pub mod ears;
mod metrics;
pub mod pipeline;
pub mod provider;
mod server;
mod status;
mod traces;
mod transcripts;
pub mod turn;
pub mod turn_taking;
mod voice_service;

pub use config::Config;

/// Runs a worker with `agents`, which may change while it runs, on bound listeners until `shutdown`, then drains it.
///
/// # Errors
/// When its threads cannot be started.
pub async fn run(
    config: &Config,
    agents: impl Into<agent::Roster>,
    listener: TcpListener,
    operations: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let conversations = conversations::Conversations::new(config.max_calls);
    let metrics = metrics::Metrics::new().map_err(io::Error::other)?;
    let transcripts = config.transcripts.as_deref();
    let transcripts = transcripts
        .map(|directory| {
            transcripts::Transcripts::new(directory, metrics.transcript_lines_dropped()).map_err(|error| {
                io::Error::new(error.kind(), format!("TRANSCRIPTS_DIR: {}: {error}", directory.display()))
            })
        })
        .transpose()?;
    let voice = voice_service::Voice { conversations, agents: agents.into(), metrics, transcripts };
    server::serve(config, voice, listener, operations, shutdown).await
}
