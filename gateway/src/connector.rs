//! How a worker is reached: TCP, and TLS with both sides' certificates where the settings say so.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use telemetry::tls::Identity;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tower_service::Service;

use crate::config::Config;

/// Who we are to workers, and who they must be.
#[derive(Debug, Clone)]
pub(crate) struct WorkerTls {
    identity: Identity,
    /// The host of `WORKER_URL`, at whichever of its addresses.
    name: ServerName<'static>,
}

impl WorkerTls {
    /// What the settings say; `None` when workers are spoken to without TLS.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        Some(Self { identity: config.tls.clone()?, name: config.workers.server_name.clone()? })
    }

    /// How often the certificates were replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.identity.current().generation
    }

    /// A connection to a worker that is who it should be. What the worker thinks of us, the first read tells.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(self.identity.current().client).connect(self.name.clone(), stream).await
    }
}

/// An endpoint for a worker at `address`, to be refined and given to [`channel`].
pub(crate) fn endpoint(address: SocketAddr, tls: Option<&WorkerTls>) -> Result<Endpoint, Status> {
    let malformed = |error: &dyn Error| Status::internal(error.to_string());
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| malformed(&error))?;
    // Tonic is left in the belief that there is no TLS, which its own would have to do otherwise.
    Ok(match tls {
        Some(_) => endpoint.origin(format!("https://{address}").parse().map_err(|error| malformed(&error))?),
        None => endpoint.tcp_nodelay(true),
    })
}

/// Connects to `address` when first asked, and anew whenever the connection is lost.
pub(crate) fn channel(endpoint: &Endpoint, address: SocketAddr, tls: Option<&WorkerTls>) -> Channel {
    match tls {
        Some(tls) => endpoint.connect_with_connector_lazy(Connector { tls: tls.clone(), address }),
        None => endpoint.connect_lazy(),
    }
}

/// What a worker's status comes down to when the connection failed and not the worker; `None` otherwise.
pub(crate) fn cause(status: &Status) -> Option<String> {
    let mut root = status.source()?;
    while let Some(source) = root.source() {
        root = source;
    }
    Some(root.to_string())
}

/// The error of TLS in an error of a connection, if it is one.
pub(crate) fn distrust(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Connects to one worker, with the certificates that are in use at that moment.
#[derive(Debug, Clone)]
struct Connector {
    tls: WorkerTls,
    address: SocketAddr,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { tls, address } = self.clone();
        Box::pin(async move { tls.connect(address).await.map(TokioIo::new) })
    }
}
