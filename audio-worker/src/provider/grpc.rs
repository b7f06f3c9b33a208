//! gRPC to servers of somebody else: how they are reached, TLS where the address says so, and what their statuses mean.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use telemetry::https::{ConnectError, Stream, root};
use tokio::time::timeout;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tower_service::Service;
use url::Url;

use super::{Fault, ProviderError, fault::error};

/// HTTP/2 flow control for a stream, and for all of a connection, as between the pair.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The way to one server.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    endpoint: Endpoint,
    connector: Connector,
}

impl Way {
    /// To the server at `url`, whose connections are made within `limit`.
    ///
    /// # Errors
    /// What is wrong with the address, or with TLS here.
    pub(crate) fn new(url: &Url, limit: Duration) -> Result<Self, String> {
        use telemetry::https::Connector;

        let connector = if url.scheme() == "https" { Connector::http2() } else { Connector::http2_without_tls() };
        Self::through(connector.map_err(|error| error.to_string())?, url, limit)
    }

    /// The same, trusting whom `connector` trusts.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub(crate) fn through(connector: telemetry::https::Connector, url: &Url, limit: Duration) -> Result<Self, String> {
        let place: Uri = url.as_str().parse().map_err(|_| "the url is no address".to_owned())?;
        let mut plain = place.clone().into_parts();
        plain.scheme = Some(Scheme::HTTP);
        // Tonic is left in the belief that there is no TLS, which its own would have to do otherwise.
        let endpoint = Uri::from_parts(plain).map_err(|_| "the url has no host".to_owned())?;
        let endpoint = Endpoint::from(endpoint)
            .origin(place.clone())
            .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| error.to_string())?
            .initial_stream_window_size(STREAM_WINDOW)
            // No pings of HTTP/2: many servers of gRPC take more than one in five minutes for an attack, and end all calls. That
            // nobody is there any more is seen by TCP.
            .initial_connection_window_size(CONNECTION_WINDOW);
        Ok(Self { endpoint, connector: Connector { connector, place, limit } })
    }

    /// Where it leads.
    pub(crate) const fn place(&self) -> &Uri {
        &self.connector.place
    }

    /// A connection that is opened with its first request, and anew when it was lost. It lives on the runtime that asks.
    pub(crate) fn channel(&self) -> Channel {
        self.endpoint.connect_with_connector_lazy(self.connector.clone())
    }

    /// The same, opened now.
    ///
    /// # Errors
    /// When there is none in time.
    pub(crate) async fn connect(&self) -> Result<Channel, ProviderError> {
        let connected = self.endpoint.connect_with_connector(self.connector.clone()).await;
        connected.map_err(|broken| error(Fault::Unreachable, &format!("no connection: {}", root(&broken))))
    }
}

/// What a status means that ended a stream.
pub(crate) const fn fault(code: Code) -> Fault {
    match code {
        Code::Unavailable => Fault::Unreachable,
        Code::DeadlineExceeded => Fault::Timeout,
        Code::Unauthenticated | Code::PermissionDenied => Fault::Denied,
        Code::ResourceExhausted => Fault::Busy,
        Code::OutOfRange | Code::DataLoss => Fault::Malformed,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Unimplemented => Fault::Rejected,
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Aborted | Code::Internal => Fault::Failed,
    }
}

/// What a status comes down to that a connection had, or this process; none for one that a server sent.
pub(crate) fn cause(status: &Status) -> Option<String> {
    status.source().map(root)
}

/// Connects to the server; tonic names its own idea of the address.
#[derive(Debug, Clone)]
struct Connector {
    connector: telemetry::https::Connector,
    place: Uri,
    limit: Duration,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { mut connector, place, limit } = self.clone();
        Box::pin(async move {
            match timeout(limit, connector.connect(place)).await {
                Ok(connected) => connected,
                Err(_) => Err(format!("not within {} ms", limit.as_millis()).into()),
            }
        })
    }
}
