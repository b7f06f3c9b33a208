//! A bad line: a TCP proxy that has little bandwidth, is late, stalls or is cut, as planned (`throttle/lane.rs`).
//!
//! Helpers panic with what went wrong; a test that uses them fails there.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

mod lane;

use lane::{Lane, PIECE_BYTES};
pub use lane::{LanePlan, Stall};

/// Connections of a line at a time; one more waits.
const MAX_CONNECTIONS: usize = 64;

/// Connections that wait to be taken.
const BACKLOG: u32 = 64;

/// How a line behaves. Times count from the beginning of each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinePlan {
    /// From whoever connects.
    pub up: LanePlan,
    /// To whoever connected.
    pub down: LanePlan,
    /// When the connection is cut.
    pub cut: Option<Duration>,
    /// Size of each of the four kernel buffers beside the lanes. Left alone they grow for minutes, and hide for as long
    /// that a line is slow.
    pub kernel_bytes: Option<u32>,
}

impl LinePlan {
    /// The same in both directions, between small kernel buffers.
    pub fn both_ways(lane: &LanePlan) -> Self {
        Self { up: lane.clone(), down: lane.clone(), cut: None, kernel_bytes: Some(8 << 10) }
    }
}

/// A running proxy; it ends with the value.
#[derive(Debug)]
pub struct Throttle {
    address: SocketAddr,
    running: JoinHandle<()>,
}

impl Throttle {
    /// Starts a line to `to`.
    pub fn start(to: SocketAddr, plan: LinePlan) -> Self {
        let listener = listen(&plan).expect("a free port");
        let address = listener.local_addr().expect("an address");
        Self { address, running: tokio::spawn(serve(listener, to, plan)) }
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections; new ones are refused.
    pub async fn cut(mut self) {
        self.running.abort();
        // Done when it says that it was cancelled.
        let _ = (&mut self.running).await;
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn listen(plan: &LinePlan) -> io::Result<TcpListener> {
    let socket = narrow(plan)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    socket.listen(BACKLOG)
}

/// A socket whose kernel buffers have the planned size; a listening one hands it down.
fn narrow(plan: &LinePlan) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = plan.kernel_bytes {
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(socket)
}

async fn serve(listener: TcpListener, to: SocketAddr, plan: LinePlan) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let Ok((near, _)) = listener.accept().await else { return };
        connections.spawn(carry(near, to, plan.clone()));
    }
}

/// Carries one connection to its end, whoever ends it.
async fn carry(near: TcpStream, to: SocketAddr, plan: LinePlan) -> io::Result<()> {
    let began = now();
    let far = narrow(&plan)?.connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let cut = plan.cut.map(|cut| began + cut);
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let up = pass(near_in, far_out, Lane::new(plan.up, 1), began);
    let down = pass(far_in, near_out, Lane::new(plan.down, 2), began);
    let both = async { tokio::try_join!(up, down).map(|_| ()) };
    match cut {
        Some(cut) => timeout_at(cut, both).await.unwrap_or(Ok(())),
        None => both.await,
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut lane: Lane, began: Instant) -> io::Result<()> {
    let (mut buffer, mut at_end) = (vec![0; PIECE_BYTES], false);
    loop {
        // While the far side takes nothing, nothing is read.
        while let Some(bytes) = lane.poll(began.elapsed()) {
            to.write_all(&bytes).await?;
        }
        if at_end && lane.is_empty() {
            return to.shutdown().await;
        }
        let now = began.elapsed();
        let (room, wake) = (lane.room(now), lane.poll_timeout(now));
        tokio::select! {
            read = from.read(&mut buffer[..room]), if room > 0 && !at_end => match read? {
                0 => at_end = true,
                length => lane.push(buffer[..length].to_vec(), began.elapsed()),
            },
            () = sleep_until(began + wake.unwrap_or_default()), if wake.is_some() => {}
            // Stalled for good: until the connection is cut.
            else => std::future::pending().await,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a line lives in real time, or in tokio's paused one")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends `bytes` and then sends back what it gets.
    async fn server(bytes: usize) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            write.write_all(&vec![7; bytes]).await?;
            tokio::io::copy(&mut read, &mut write).await
        });
        address
    }

    #[tokio::test]
    async fn bytes_take_as_long_as_the_line_needs() {
        let down = LanePlan { bits_per_second: Some(160_000), delay: Duration::from_millis(50), ..LanePlan::default() };
        let plan = LinePlan { down, kernel_bytes: Some(8 << 10), ..LinePlan::default() };
        let line = Throttle::start(server(10_000).await, plan);
        let mut stream = TcpStream::connect(line.address()).await.unwrap();
        let began = now();
        let mut bytes = vec![0; 10_000];
        stream.read_exact(&mut bytes).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(540), "{:?}", began.elapsed());
        stream.write_all(b"echo").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"echo", "the end passes too");
    }

    #[tokio::test]
    async fn a_slow_line_pushes_back() {
        let down = LanePlan { bits_per_second: Some(8_000), ..LanePlan::default() };
        let plan = LinePlan { down, kernel_bytes: Some(8 << 10), ..LinePlan::default() };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let line = Throttle::start(listener.local_addr().unwrap(), plan);
        let _near = TcpStream::connect(line.address()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        socket2::SockRef::from(&far).set_send_buffer_size(8 << 10).unwrap();
        let write = far.write_all(&[0; 256 << 10]);
        assert!(tokio::time::timeout(Duration::from_millis(500), write).await.is_err(), "everything was taken");
    }

    #[tokio::test]
    async fn a_cut_ends_it() {
        let plan = LinePlan { cut: Some(Duration::from_millis(100)), ..LinePlan::default() };
        let line = Throttle::start(server(0).await, plan);
        let mut stream = TcpStream::connect(line.address()).await.unwrap();
        let ended = stream.read(&mut [0]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        line.cut().await;
    }
}
