//! Shards: current-thread runtimes, one a core, fed by one accept loop.
//!
//! The price of a call is wake-ups and system calls. On a current-thread runtime the frames of many calls leave
//! in one pass of one loop; so a connection, and with it its calls, lives and dies on one shard.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

/// Connections that may wait for a busy shard; beyond it the accept loop waits, and the kernel's backlog after it.
const WAITING_CONNECTIONS: usize = 128;

/// How long the accept loop rests after an error such as "too many open files".
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A set of shards. Dropping it lets each end once its main future returns.
#[derive(Debug)]
pub struct Shards {
    inboxes: Vec<Inbox>,
    ended: Vec<oneshot::Receiver<()>>,
}

#[derive(Debug)]
struct Inbox {
    connections: mpsc::Sender<std::net::TcpStream>,
    open: Arc<AtomicUsize>,
}

/// Where a shard takes its connections from.
#[derive(Debug)]
pub struct Arrivals {
    connections: mpsc::Receiver<std::net::TcpStream>,
    open: Arc<AtomicUsize>,
}

/// How many shards suit this machine: one a core.
pub fn per_core() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

impl Shards {
    /// Starts `count` shards (at least one), each a thread with its own runtime that runs `main(index, arrivals)`.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start<M, F>(count: usize, name: &str, main: M) -> io::Result<Self>
    where
        M: Fn(usize, Arrivals) -> F + Clone + Send + 'static,
        F: Future<Output = ()>,
    {
        let mut shards = Self { inboxes: Vec::new(), ended: Vec::new() };
        for index in 0..count.max(1) {
            let (connections, receiver) = mpsc::channel(WAITING_CONNECTIONS);
            let open = Arc::new(AtomicUsize::new(0));
            let arrivals = Arrivals { connections: receiver, open: Arc::clone(&open) };
            let (done, ended) = oneshot::channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let main = main.clone();
            thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                runtime.block_on(main(index, arrivals));
                // Tasks that were left behind end here, before anybody is told.
                drop(runtime);
                let _ = done.send(());
            })?;
            shards.inboxes.push(Inbox { connections, open });
            shards.ended.push(ended);
        }
        Ok(shards)
    }

    /// Accepts until `stop` and gives each connection to the shard with the fewest open ones. Beyond `max_open`
    /// connections a further one is closed at once.
    pub async fn accept(&self, listener: &TcpListener, max_open: usize, stop: &CancellationToken) {
        let mut refused: u64 = 0;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let prepared = accepted.and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                // A dead peer is found even where nobody pings.
                socket2::SockRef::from(&stream)
                    .set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
                stream.into_std()
            });
            match prepared {
                Ok(_) if self.open() >= max_open => {
                    // Said at each power of two, so that a flood does not flood the log.
                    refused += 1;
                    if refused.is_power_of_two() {
                        tracing::warn!(max_open, refused, "too many connections; closing new ones");
                    }
                }
                Ok(stream) => self.place(stream).await,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// Tells the shards that no more connections come, and waits until each has ended.
    pub async fn finish(self) {
        drop(self.inboxes);
        for ended in self.ended {
            let _ = ended.await;
        }
    }

    fn open(&self) -> usize {
        self.inboxes.iter().map(|inbox| inbox.open.load(Ordering::Relaxed)).sum()
    }

    async fn place(&self, stream: std::net::TcpStream) {
        if let Some(inbox) = self.inboxes.iter().min_by_key(|inbox| inbox.open.load(Ordering::Relaxed)) {
            inbox.open.fetch_add(1, Ordering::Relaxed);
            if inbox.connections.send(stream).await.is_err() {
                tracing::error!("a shard has ended before its service; connection closed");
            }
        }
    }
}

impl Arrivals {
    /// The next connection; `None` once the service stops accepting.
    pub async fn next(&mut self) -> Option<(TcpStream, Seat)> {
        loop {
            let stream = self.connections.recv().await?;
            let seat = Seat(Arc::clone(&self.open));
            match TcpStream::from_std(stream) {
                Ok(stream) => return Some((stream, seat)),
                Err(error) => tracing::warn!(%error, "a connection could not be registered"),
            }
        }
    }
}

/// A connection counts as open on its shard until its seat is dropped.
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn connections_spread_over_the_shards_and_stay_there() {
        let shards = Shards::start(2, "test", |index, mut arrivals| async move {
            while let Some((mut connection, seat)) = arrivals.next().await {
                tokio::spawn(async move {
                    let _ = connection.write_u8(u8::try_from(index).unwrap()).await;
                    // Open until the peer closes.
                    let _ = connection.read_u8().await;
                    drop(seat);
                });
            }
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let ask = async {
            let (mut streams, mut seen) = (Vec::new(), [0_u32; 2]);
            for _ in 0..6 {
                let mut stream = TcpStream::connect(address).await.unwrap();
                seen[usize::from(stream.read_u8().await.unwrap())] += 1;
                streams.push(stream);
            }
            // One too many is closed at once.
            let mut refused = TcpStream::connect(address).await.unwrap();
            assert!(refused.read_u8().await.is_err());
            stop.cancel();
            seen
        };
        let ((), seen) = tokio::join!(shards.accept(&listener, 6, &stop), ask);
        assert_eq!(seen, [3, 3]);
        shards.finish().await;
    }
}
