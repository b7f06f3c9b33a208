//! The bytes below HTTP and WebSocket: where they go, and a filter that can swallow pongs.
//!
//! tungstenite answers every ping by itself; a Twilio that does not answer is played by dropping the
//! pong frames on their way out.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};

/// Opcode of a pong (RFC 6455, 5.2).
const PONG: u8 = 0xa;

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where connections go, whatever host the URL names.
#[derive(Clone, Debug)]
pub enum Route {
    /// A plain TCP address.
    Tcp(SocketAddr),
    /// A server in this process; what is sent is its end of the connection. With this route and
    /// tokio's paused clock a call runs in virtual time.
    InProcess(mpsc::Sender<DuplexStream>),
}

impl From<SocketAddr> for Route {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl Route {
    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Io>> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::InProcess(server) => {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                match server.send(theirs).await {
                    Ok(()) => Ok(Box::new(ours)),
                    Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
                }
            }
        }
    }
}

/// A connection that passes everything, or everything but pongs.
pub(crate) struct Wire {
    inner: Box<dyn Io>,
    filter: Option<PongFilter>,
    /// Filtered bytes on their way to `inner`.
    pending: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(inner: Box<dyn Io>) -> Self {
        Self { inner, filter: None, pending: Vec::new() }
    }

    /// From here on, pongs are dropped. To be called between frames, after the handshake.
    pub(crate) fn drop_pongs(&mut self) {
        self.filter = Some(PongFilter::default());
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_pending(cx))?;
        let Some(filter) = &mut this.filter else {
            return Pin::new(&mut this.inner).poll_write(cx, buf);
        };
        filter.pass(buf, &mut this.pending);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Pure: finds the frames in a client's byte stream, however it is cut, and leaves out pongs.
#[derive(Debug, Default)]
struct PongFilter {
    header: Vec<u8>,
    /// Payload bytes of the current frame still to come.
    payload: u64,
    dropping: bool,
}

impl PongFilter {
    fn pass(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.payload == 0 {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                if let Some(payload) = payload_length(&self.header) {
                    self.payload = payload;
                    self.dropping = self.header[0] & 0x0f == PONG;
                    if !self.dropping {
                        out.extend_from_slice(&self.header);
                    }
                    self.header.clear();
                }
                continue;
            }
            let here = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            if !self.dropping {
                out.extend_from_slice(&bytes[..here]);
            }
            self.payload -= here as u64;
            bytes = &bytes[here..];
        }
    }
}

/// Payload length of a frame once its header (with the mask) is complete.
fn payload_length(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if header.len() < 2 + extended + mask {
        return None;
    }
    if extended == 0 {
        return Some(u64::from(second & 0x7f));
    }
    let length = header[2..2 + extended].iter();
    Some(length.fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match length {
            0..=125 => frame.push(0x80 | length as u8),
            126..=65535 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend((0..length).map(|i| i as u8));
        frame
    }

    proptest! {
        #[test]
        fn only_pongs_are_dropped_however_the_bytes_are_cut(
            frames in prop::collection::vec(
                (prop_oneof![Just(1u8), Just(8), Just(9), Just(PONG)],
                 prop_oneof![0usize..130, Just(65_535usize), Just(65_536)]), 0..8),
            cut in 1usize..3000,
        ) {
            let all: Vec<u8> = frames.iter().flat_map(|&(op, n)| frame(op, n)).collect();
            let kept: Vec<u8> = frames.iter().filter(|f| f.0 != PONG)
                .flat_map(|&(op, n)| frame(op, n)).collect();
            let (mut filter, mut out) = (PongFilter::default(), Vec::new());
            for piece in all.chunks(cut) {
                filter.pass(piece, &mut out);
            }
            prop_assert!(out == kept);
        }
    }
}
