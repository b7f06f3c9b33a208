//! What the account's owner orders of a live call through the REST API, and where a call's TwiML comes from.

use tokio::sync::mpsc;
use url::Url;

use super::Method;

/// Where the next document comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// It is fetched, with these parameters beside those of every request.
    Fetch {
        /// How.
        method: Method,
        /// Where.
        url: Url,
        /// Beside the usual ones.
        parameters: Vec<(String, String)>,
    },
    /// It was given as text.
    Twiml(String),
}

impl Instructions {
    /// To be fetched, with no more than the usual parameters.
    pub fn fetch(method: Method, url: Url) -> Self {
        Self::Fetch { method, url, parameters: Vec::new() }
    }
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End the call.
    HangUp,
    /// Stop what runs and do this instead.
    Replace(Instructions),
}

/// The orders for one call.
#[derive(Debug, Default)]
pub struct Orders(Option<mpsc::Receiver<Order>>);

impl Orders {
    /// Those that come through `receiver`.
    pub fn new(receiver: mpsc::Receiver<Order>) -> Self {
        Self(Some(receiver))
    }

    /// Waits for the next one, for ever when nobody is there to give any. Safe to be dropped.
    pub async fn next(&mut self) -> Order {
        if let Some(receiver) = &mut self.0
            && let Some(order) = receiver.recv().await
        {
            return order;
        }
        self.0 = None;
        std::future::pending().await
    }

    /// The next one, if it is there.
    pub fn try_next(&mut self) -> Option<Order> {
        self.0.as_mut().and_then(|receiver| receiver.try_recv().ok())
    }
}
