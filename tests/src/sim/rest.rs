//! The REST half of the simulated Twilio: an account whose calls are made, watched and changed over HTTP, and are then
//! carried by [`super::Caller`]. [`Exchange::start`] is the way in.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `plan.rs` | what the account is and what happens when it dials: [`RestPlan`], [`Line`] |
//! | `server.rs` | HTTP: log, credentials, faults |
//! | `api.rs` | routes, and what each does |
//! | `fields.rs` | pure: parameters of calls, checked as documented |
//! | `error.rs` | pure: the only table of codes |
//! | `record.rs`, `number.rs`, `listing.rs` | pure: the resources and their lists |
//! | `fault.rs` | pure: what goes wrong on request |
//! | `account.rs` | the account's memory |
//! | `carry.rs` | the life of one call |

mod account;
mod api;
mod carry;
mod error;
mod fault;
mod fields;
mod listing;
mod number;
mod plan;
mod record;
mod server;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

pub use account::Asked;
pub use error::RestError;
pub use fault::{Extent, Fault, Mishap, Target};
pub use fields::{CREATE, CREATE_NEWER, UPDATE};
pub use listing::{CALLS as LIST_CALLS, NUMBERS as LIST_NUMBERS};
pub use number::{Kind, SETTINGS};
pub use plan::{AnsweredBy, Gateway, Line, Outcome, OwnedNumber, Rate, RestPlan};
pub use record::{CallStatus, PlacedCall};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc},
    time::timeout,
};

use self::account::Account;
use super::Route;

/// Connections in this process that may wait to be served.
const INSIDE: usize = 64;
/// How long a call is waited for, in the exchange's own time: longer than any of a test's.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running account. Dropping it leaves its calls running until the runtime ends; [`Exchange::stop`] ends them.
pub struct Exchange {
    account: Arc<Account>,
    address: SocketAddr,
    inside: mpsc::Sender<tokio::io::DuplexStream>,
}

impl Exchange {
    /// Starts to listen.
    pub async fn start(plan: RestPlan) -> io::Result<Self> {
        let listener = TcpListener::bind(plan.listen).await?;
        let address = listener.local_addr()?;
        let account = Arc::new(Account::new(plan));
        let (inside, connections) = mpsc::channel(INSIDE);
        account.tasks.spawn(server::serve(Arc::clone(&account), listener, connections));
        Ok(Self { account, address, inside })
    }

    /// Where a client in another task finds the REST API: what it takes for `https://api.twilio.com`.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The same for a client in this process, in virtual time.
    pub fn route(&self) -> Route {
        Route::InProcess(self.inside.clone())
    }

    /// Says where Twilio's own requests go, for calls that are dialled from now on.
    pub fn set_gateway(&self, gateway: Gateway) {
        self.account.with(|state| state.gateway = Some(gateway));
    }

    /// Says what happens from now on when `to` is dialled, or, with none, any other number.
    pub fn set_line(&self, to: Option<&str>, line: Line) {
        self.account.with(|state| match to {
            Some(to) => {
                state.lines.retain(|(number, _)| number != to);
                state.lines.push((to.to_owned(), line));
            }
            None => state.line = line,
        });
    }

    /// Adds something that goes wrong, after what is planned already.
    pub fn add_fault(&self, fault: Fault) {
        self.account.with(|state| state.faults.add(fault));
    }

    /// Lets `from` call the account's number `to`, as `line` says; the call's SID.
    pub fn call_in(&self, from: &str, to: &str, line: Line) -> Result<String, RestError> {
        let number = self.account.look(|state| state.numbers.iter().find(|own| own.number == to).cloned());
        carry::call_in(&self.account, from, &number.ok_or_else(|| RestError::to(to))?, line)
    }

    /// All calls, oldest first.
    pub fn calls(&self) -> Vec<PlacedCall> {
        let newest_first: Vec<PlacedCall> =
            self.account.look(|state| state.calls().map(|record| record.call.clone()).collect());
        newest_first.into_iter().rev().collect()
    }

    /// One call.
    pub fn call(&self, sid: &str) -> Option<PlacedCall> {
        self.account.look(|state| state.calls().find(|record| record.call.sid == sid).map(|record| record.call.clone()))
    }

    /// The requests that came, oldest first.
    pub fn requests(&self) -> Vec<Asked> {
        self.account.look(|state| state.log.clone())
    }

    /// Requests that no longer fitted into the log.
    pub fn requests_not_kept(&self) -> u64 {
        self.account.look(|state| state.log_dropped)
    }

    /// Waits for a call that is as `wanted`, the newest of several; none after five minutes.
    pub async fn wait_for_call(&self, mut wanted: impl FnMut(&PlacedCall) -> bool) -> Option<PlacedCall> {
        let mut changed = self.account.changed.subscribe();
        let found = async {
            loop {
                changed.borrow_and_update();
                let newest = |state: &account::State| {
                    let mut fitting = state.calls().filter(|record| wanted(&record.call));
                    fitting.next().map(|record| record.call.clone())
                };
                if let Some(call) = self.account.look(newest) {
                    return call;
                }
                // The sender lives as long as the account.
                if changed.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        timeout(PATIENCE, found).await.ok()
    }

    /// The calls on which nothing more will happen, from now on.
    pub fn settled(&self) -> broadcast::Receiver<PlacedCall> {
        self.account.settled.subscribe()
    }

    /// Where the REST API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends everything at once: calls break off without a goodbye.
    pub async fn stop(self) {
        self.account.stopping.cancel();
        self.account.tasks.close();
        self.account.tasks.wait().await;
    }
}
