//! The worker's side of a call, as far as it is there: nobody, a search, a stream.

use std::{future::Future, pin::Pin};

use crate::{
    session::{Input, NoWorker},
    worker::{Aside, Happened, Link},
};

/// What the driver has of the worker.
#[expect(clippy::large_enum_variant, reason = "there is one a call, and it is open for nearly all of it")]
pub(super) enum WorkerSide {
    /// Nothing.
    None,
    /// A search for one.
    Opening(Pin<Box<dyn Future<Output = Result<Link, NoWorker>> + Send>>),
    /// Its stream.
    Open(Link),
}

/// What comes from the worker's side.
pub(super) enum Came {
    /// Something for the session.
    Input(Input),
    /// Something beside it.
    Aside(Aside),
}

impl WorkerSide {
    /// What happens there next; with `wants_room`, also that it takes messages again.
    pub(super) async fn next(&mut self, wants_room: bool) -> Came {
        Came::Input(match self {
            Self::None => std::future::pending().await,
            Self::Opening(opening) => match opening.await {
                Ok(link) => {
                    *self = Self::Open(link);
                    Input::WorkerOpen
                }
                Err(why) => {
                    *self = Self::None;
                    Input::NoWorker(why)
                }
            },
            Self::Open(link) => match link.next(wants_room).await {
                Happened::Said(message) => Input::Worker(message),
                Happened::Told(aside) => return Came::Aside(aside),
                Happened::Room => Input::Tick,
                Happened::Gone => {
                    *self = Self::None;
                    Input::WorkerGone
                }
            },
        })
    }
}
