//! A server that does what it is told, byte by byte.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// What comes has to come in this time.
const PATIENCE: Duration = Duration::from_secs(600);

/// One thing that the server does about a request.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// Until the client goes.
    Hold,
    Close,
}

pub(crate) type Script = Vec<Step>;

/// A whole answer; the connection stays.
pub(crate) fn answer(status: u16, content_type: &str, headers: &str, body: impl AsRef<[u8]>) -> Script {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: {content_type}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    vec![Step::Send([head.as_bytes(), body].concat())]
}

/// An answer in chunks as given; the connection stays.
pub(crate) fn chunked<'a>(content_type: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Script {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut script = vec![Step::Send(head.into_bytes())];
    script.extend(chunks.into_iter().filter(|bytes| !bytes.is_empty()).map(chunk));
    script.push(Step::Send(b"0\r\n\r\n".to_vec()));
    script
}

pub(crate) fn chunk(bytes: &[u8]) -> Step {
    Step::Send([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    connections: usize,
    /// Connections that the client left while they were held.
    left: usize,
}

impl Peer {
    /// Meets each request with the next script; without one, the connection is closed.
    pub(crate) async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scripts = Arc::new(Mutex::new(scripts.into_iter().collect::<VecDeque<_>>()));
        let state = watch::channel(State::default()).0;
        let told = state.clone();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                told.send_modify(|state| state.connections += 1);
                connections.spawn(serve(stream, Arc::clone(&scripts), told.clone()));
            }
        });
        Self { address, state, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.borrow().seen.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.borrow().connections
    }

    /// Waits for so many requests.
    pub(crate) async fn until_seen(&self, count: usize) {
        self.until(|state| state.seen.len() >= count).await;
    }

    /// Waits until the client left so many held connections.
    pub(crate) async fn until_left(&self, count: usize) {
        self.until(|state| state.left >= count).await;
    }

    async fn until(&self, wanted: impl Fn(&State) -> bool) {
        let mut changes = self.state.subscribe();
        timeout(PATIENCE, changes.wait_for(|state| wanted(state))).await.expect("it happens").unwrap();
    }
}

async fn serve(mut stream: TcpStream, scripts: Arc<Mutex<VecDeque<Script>>>, state: watch::Sender<State>) {
    while let Some(seen) = request(&mut stream).await {
        state.send_modify(|state| state.seen.push(seen));
        let script = scripts.lock().unwrap().pop_front().unwrap_or(vec![Step::Close]);
        for step in script {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::Wait(time) => sleep(time).await,
                Step::Hold => {
                    let mut byte = [0];
                    let _ = stream.read(&mut byte).await;
                    state.send_modify(|state| state.left += 1);
                    return;
                }
                Step::Close => return,
            }
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let (at, length) = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
            let length =
                head.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            break (at, length);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let mut body = bytes.split_off(at + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { head, body })
}
