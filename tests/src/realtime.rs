//! A stand-in for a realtime server: one WebSocket a session, the published events of OpenAI's Realtime protocol.
//!
//! [`Script`] says what it answers and how fast, [`Mishap`] what goes wrong; every session is kept as [`Seen`]. It hears
//! turns by loudness, interrupts itself when the caller speaks, and is strict: what the protocol does not have is an error.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

mod connection;
mod hearing;
mod protocol;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is answered: to the words or the instructions of a request.
pub type Respond = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// What a response is asked for by.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Instructions of this response alone.
    pub instructions: Option<String>,
    /// Responses of the session before it.
    pub before: usize,
    /// Output of a function, when that is what came last.
    pub output: Option<String>,
}

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// What is said, in words.
    pub words: String,
    /// And in sound, as it is on the wire.
    pub sound: Vec<u8>,
    /// A function that is called, with its arguments.
    pub call: Option<(String, String)>,
}

/// How the server behaves.
#[derive(Clone)]
pub struct Script {
    /// Whoever has another key is refused.
    pub key: Option<String>,
    /// What it answers.
    pub respond: Respond,
    /// What it understands of each turn.
    pub words: String,
    /// From a request to its first sound.
    pub delay: Duration,
    /// Sound in one message, in bytes.
    pub piece: usize,
    /// Between two pieces.
    pub pace: Duration,
    /// Events have the names that they had in the beta.
    pub is_beta: bool,
    /// What goes wrong with the next sessions, the next one first.
    pub mishaps: Vec<Mishap>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            key: None,
            respond: Arc::new(|_| Answer::default()),
            words: "Hello.".to_owned(),
            delay: Duration::from_millis(50),
            piece: 1600,
            pace: Duration::ZERO,
            is_beta: false,
            mishaps: Vec::new(),
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("mishaps", &self.mishaps).finish_non_exhaustive()
    }
}

/// What goes wrong with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing.
    None,
    /// The handshake is answered with this status.
    Refused(u16),
    /// The handshake is taken; then an error says that the key is wrong, and the socket is closed with this code.
    Closed(u16),
    /// It never says anything.
    Mute,
    /// It talks HTML.
    Garbage,
    /// Each message comes in frames of this many bytes.
    Fragments(usize),
    /// Every response fails.
    Failing,
    /// A response never ends.
    Flood,
}

/// One session.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Path and query of its handshake.
    pub target: String,
    /// The bearer token.
    pub key: Option<String>,
    /// Every event that came, in order; of appended sound, without the sound.
    pub came: Vec<Value>,
    /// The sound that was appended.
    pub appended: Vec<u8>,
    /// Every event that was sent; of sound, without the sound.
    pub sent: Vec<Value>,
    /// Sound that was sent for each item, in bytes.
    pub items: Vec<(String, usize)>,
    /// What was not as it should be.
    pub violations: Vec<String>,
    /// It is over.
    pub is_over: bool,
}

impl Seen {
    /// The events of a type that came.
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.came.iter().filter(|event| event["type"] == kind).collect()
    }
}

/// A running stand-in; gone when dropped.
#[derive(Debug)]
pub struct RealtimeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    seen: watch::Sender<Vec<Seen>>,
    /// Counts how often all connections were dropped.
    drops: watch::Sender<u64>,
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, at: usize, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(|all| {
            if let Some(seen) = all.get_mut(at) {
                change(seen);
            }
        });
    }
}

impl RealtimeServer {
    /// Starts it on a free port of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (seen, drops) = (watch::channel(Vec::new()).0, watch::channel(0).0);
        let shared = Arc::new(Shared { script: Mutex::new(script), seen, drops });
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::clone(&shared))));
        Ok(Self { address, shared, _serving: serving })
    }

    /// What to give a client as its URL.
    pub fn url(&self) -> Url {
        Url::parse(&format!("ws://{}/v1/realtime", self.address)).expect("a URL")
    }

    /// Changes what it does from now on.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script());
    }

    /// Drops every connection without a word.
    pub fn drop_connections(&self) {
        self.shared.drops.send_modify(|drops| *drops += 1);
    }

    /// The sessions so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.borrow().clone()
    }

    /// The sessions, once they are as wanted. Panics when that does not happen.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut changes = self.shared.seen.subscribe();
        let found = timeout(PATIENCE, changes.wait_for(|seen| wanted(seen))).await;
        found.map(|seen| seen.expect("kept").clone()).unwrap_or_else(|_| {
            let kinds = |seen: &Seen| {
                let kinds: Vec<_> = seen.came.iter().map(|event| event["type"].to_string()).collect();
                (kinds, seen.violations.clone())
            };
            panic!("{what} does not come; what did: {:?}", self.seen().iter().map(kinds).collect::<Vec<_>>())
        })
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Pieces are small and must not wait for each other.
        let _ = stream.set_nodelay(true);
        connections.spawn(connection::serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}
