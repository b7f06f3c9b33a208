//! The connection, on which bytes can come one by one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// A connection that writes all at once, or a byte at a time.
pub(crate) struct Line {
    stream: TcpStream,
    /// Between bytes.
    pace: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Line {
    pub(crate) const fn new(stream: TcpStream, pace: Option<Duration>) -> Self {
        Self { stream, pace, sleep: None }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(pace) = self.pace else { return Pin::new(&mut self.stream).poll_write(cx, buf) };
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf.get(..1).unwrap_or(buf)));
        self.sleep = (!pace.is_zero()).then(|| Box::pin(sleep(pace)));
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
