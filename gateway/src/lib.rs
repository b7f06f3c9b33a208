//! The gateway: everything Twilio. It holds the connections and never decodes a sample.
//!
//! Read in this order: `server` takes connections and routes them; `webhook` answers Twilio's requests; `socket` is the
//! media socket; `call` is the driver, the one task that owns the call; [`session`] is the core that decides;
//! `worker` opens the call's stream at one of the workers that `fleet` knows, over what `connector` connects; `capture`
//! writes down what passed, `traces` names the spans. What the gateway asks of others goes
//! through `client`: `carrier` is Twilio's REST API, `events` the user's own webhook, [`doctor`] examines a set-up.
//!
//! Invariants:
//! - [`admission`], [`session`], [`routes`], [`ticket`] and [`twilio`] are pure: no clock, no socket, no runtime.
//! - The gateway never decodes audio and never paces it.
//! - JSON and base64 end in [`twilio::message`]; HTTP statuses are chosen in `problem` only.
//! - One task owns all the state of a call; no lock is taken per frame; what grows has a bound and a counter.
//! - A panic in one call ends that call.

use std::{io, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod admission;
mod api;
mod browser;
mod call;
mod callbacks;
mod calls;
mod capture;
mod carrier;
mod client;
pub mod config;
mod connector;
pub mod doctor;
mod events;
mod fleet;
mod metrics;
mod news;
mod outbound;
mod problem;
mod rate;
mod registry;
mod route_table;
mod router;
pub mod routes;
mod server;
pub mod session;
mod socket;
pub mod ticket;
mod traces;
pub mod twilio;
mod webhook;
mod worker;

pub use config::Config;
pub use route_table::RouteTable;

/// Runs a gateway on bound listeners until `shutdown`, then drains it.
///
/// # Errors
/// When its threads cannot be started.
pub async fn run(
    config: Config,
    listener: TcpListener,
    operations: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    server::serve(Arc::new(config), listener, operations, shutdown).await
}
