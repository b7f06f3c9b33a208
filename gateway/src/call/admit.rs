//! How a media socket gets in: the handshake, whoever may say no to it, and a place.

use std::sync::Arc;

use http::HeaderMap;
use hyper::upgrade::OnUpgrade;
use telemetry::shards::Seat;
use warp::{Reply, reply::Response};

use super::{Surroundings, page::Page, run};
use crate::{
    problem::Problem,
    socket::{self, BadHandshake, Socket},
};

/// A request for a media socket.
#[derive(Debug)]
pub(crate) struct Knock {
    pub(crate) headers: HeaderMap,
    pub(crate) upgrade: Option<OnUpgrade>,
    /// The call counts on its shard while this lasts.
    pub(crate) seat: Arc<Seat>,
}

/// Lets a socket in that `check` has nothing against, and runs its call. `page`: it is a browser's.
///
/// # Errors
/// When it is no handshake, `check` says no, or there is no place.
pub(crate) fn admit(
    around: Surroundings,
    Knock { headers, upgrade, seat }: Knock,
    page: Option<Page>,
    check: impl FnOnce(&Surroundings, &HeaderMap) -> Result<(), Problem>,
) -> Result<Response, Problem> {
    let answer = socket::handshake(&headers)?;
    let upgrade = upgrade.ok_or(BadHandshake::NotAnUpgrade)?;
    check(&around, &headers)?;
    let place = around.calls.admit().map_err(|refused| {
        if refused.is_worth_a_line() {
            tracing::warn!(reason = refused.reason.label(), count = refused.count, "media socket refused");
        }
        Problem::NoPlace
    })?;
    tokio::spawn(async move {
        match Socket::accept(upgrade).await {
            Ok(socket) => run(socket, place, around, page).await,
            Err(error) => tracing::debug!(%error, "a handshake was not finished"),
        }
        drop(seat);
    });
    Ok(answer.map(|()| "").into_response())
}
