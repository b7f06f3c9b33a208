//! How a worker is reached: TCP, and TLS with both sides' certificates where the settings say so.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use telemetry::tls::{Expiry, Identity};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
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
    handshakes_failed: Arc<AtomicU64>,
}

impl WorkerTls {
    /// What the settings say; `None` when workers are spoken to without TLS.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let (identity, name) = (config.tls.clone()?, config.workers.server_name.clone()?);
        Some(Self { identity, name, handshakes_failed: Arc::default() })
    }

    /// How often the certificates were replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.identity.current().generation
    }

    /// When the certificates expire.
    pub(crate) fn expiry(&self) -> Expiry {
        self.identity.current().expiry
    }

    /// How many handshakes failed, on either side.
    pub(crate) fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Ordering::Relaxed)
    }

    /// A connection to a worker that is who it should be. What the worker thinks of us, the first read tells.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<Secured> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshakes_failed = Arc::clone(&self.handshakes_failed);
        let shaken = TlsConnector::from(self.identity.current().client).connect(self.name.clone(), stream).await;
        let stream = shaken.inspect_err(|_| _ = handshakes_failed.fetch_add(1, Ordering::Relaxed))?;
        Ok(Secured { stream, unproven: Some(handshakes_failed) })
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
    root(status).map(ToString::to_string)
}

/// Whether nobody listens there, as the machine itself says.
pub(crate) fn is_refused(status: &Status) -> bool {
    let error = root(status).and_then(|root| root.downcast_ref::<io::Error>());
    error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn root(status: &Status) -> Option<&(dyn Error + 'static)> {
    let mut root = status.source()?;
    while let Some(source) = root.source() {
        root = source;
    }
    Some(root)
}

/// The error of TLS in an error of a connection, if it is one.
pub(crate) fn distrust(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A connection in TLS. In TLS 1.3 our side of the handshake is over before the worker has looked at our certificate: that
/// it believes us is known when it says something. Otherwise an alert comes, or the end if that was faster.
#[derive(Debug)]
pub(crate) struct Secured {
    stream: TlsStream<TcpStream>,
    /// Until something came.
    unproven: Option<Arc<AtomicU64>>,
}

impl Secured {
    fn judge(&mut self, is_good: bool) {
        if let Some(failed) = self.unproven.take()
            && !is_good
        {
            failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.judge(buf.filled().len() > before);
        }
        read
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Err(_)) = written {
            self.judge(false);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Err(_)) = flushed {
            self.judge(false);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Err(_)) = written {
            self.judge(false);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Connects to one worker, with the certificates that are in use at that moment.
#[derive(Debug, Clone)]
struct Connector {
    tls: WorkerTls,
    address: SocketAddr,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Secured>;
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
