//! A gateway's connections as tonic wants them: in TLS where the settings say so, each counted as open on its shard until
//! it is dropped.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use telemetry::{
    shards::{Arrivals, Seat},
    tls::Identity,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::metrics::Metrics;

/// How long a peer may take to show who it is.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// A connection that may carry calls.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Wire,
    _seat: Seat,
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// The connections that arrive, once they may carry calls. Handshakes go on beside each other, as many as there are seats:
/// a peer that says nothing keeps its own seat for a while and nobody else waiting.
pub(crate) fn connections(
    arrivals: Arrivals,
    identity: Option<Identity>,
    metrics: Metrics,
) -> impl Stream<Item = io::Result<Connection>> {
    let reception = Reception { arrivals, is_open: true, identity, handshakes: JoinSet::new(), metrics };
    futures_util::stream::unfold(reception, async |mut reception| {
        reception.next().await.map(|connection| (Ok(connection), reception))
    })
}

#[derive(Debug)]
struct Reception {
    arrivals: Arrivals,
    is_open: bool,
    identity: Option<Identity>,
    handshakes: JoinSet<io::Result<Connection>>,
    metrics: Metrics,
}

impl Reception {
    async fn next(&mut self) -> Option<Connection> {
        loop {
            tokio::select! {
                arrival = self.arrivals.next(), if self.is_open => match (arrival, &self.identity) {
                    (Some((stream, seat)), None) => return Some(Connection { stream: Wire::Plain(stream), _seat: seat }),
                    (Some((stream, seat)), Some(identity)) => {
                        let acceptor = TlsAcceptor::from(identity.current().server);
                        self.handshakes.spawn(secure(acceptor, stream, seat));
                    }
                    (None, _) => self.is_open = false,
                },
                Some(secured) = self.handshakes.join_next() => match secured {
                    Ok(Ok(connection)) => return Some(connection),
                    failed @ (Ok(Err(_)) | Err(_)) => self.tell(failed),
                },
                else => return None,
            }
        }
    }

    fn tell(&self, failed: Result<io::Result<Connection>, JoinError>) {
        let error = match failed {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error,
            Err(panicked) => io::Error::other(panicked),
        };
        let failed = self.metrics.handshake_failed();
        tracing::debug!(%error, "a peer is not one to talk to");
        // At each power of two, so that a flood does not flood the log.
        if failed.is_power_of_two() {
            tracing::warn!(%error, failed, "peers fail the TLS handshake; the last one's reason is told, see TLS_CA");
        }
    }
}

async fn secure(acceptor: TlsAcceptor, stream: TcpStream, seat: Seat) -> io::Result<Connection> {
    let accepted = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await;
    let stream = accepted.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in time")))?;
    Ok(Connection { stream: Wire::Secured(Box::new(stream)), _seat: seat })
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Secured(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Secured(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Secured(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Secured(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Wire::Secured(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Secured(stream) => stream.is_write_vectored(),
        }
    }
}
