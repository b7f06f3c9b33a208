//! A stand-in for Deepgram on a port of this machine: a socket that listens, and recordings over HTTP.
//!
//! It hears when somebody speaks and understands what it was told to ([`Deepgram::says`]). [`Mishap`]s befall the sessions
//! that begin after they were asked for; every session is kept as [`Session`].

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use manner::Manner;

pub(crate) mod line;
pub(crate) mod manner;
mod recogniser;
mod server;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// From the order to make words final to the final words.
const FINALIZES_AFTER: Duration = Duration::from_millis(60);

/// What goes wrong with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The handshake is answered with this status.
    Refuse(u16),
    /// It is closed with this code and these words, once so many milliseconds of voice were heard.
    Close(u64, u16, String),
    /// Its connection breaks then.
    Break(u64),
    /// It says that it failed, then.
    Fail(u64),
    /// It takes what comes and says nothing.
    Deaf,
    /// It does not make words final when it is asked to.
    NeverFinalizes,
    /// It takes so long for that.
    FinalizesAfter(Duration),
    /// All that it sends comes byte by byte, with so much time between.
    ByteByByte(Duration),
    /// Each message comes in frames of one byte, with pings between.
    Fragments,
    /// Instead of each message this comes.
    Instead(String),
    /// Before each message this comes.
    Before(String),
}

/// A session as it was.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// What the address asks for.
    pub query: Vec<(String, String)>,
    /// The header of the key.
    pub authorization: Option<String>,
    /// Sound that came, in bytes.
    pub bytes: usize,
    /// The first of it.
    pub first: Vec<u8>,
    /// Signs of life.
    pub keep_alives: u32,
    /// Orders to make words final.
    pub finalizes: u32,
    /// The client said that it is over.
    pub said_goodbye: bool,
    /// The connection is no more.
    pub is_over: bool,
    /// It is a recording, not a session.
    pub is_recording: bool,
}

impl Session {
    /// The values of a parameter.
    pub fn asked(&self, name: &str) -> Vec<&str> {
        self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// A running stand-in; gone when dropped.
#[derive(Debug)]
pub struct Deepgram {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

impl Deepgram {
    /// Starts it on a free port of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> io::Result<Self> {
        Self::start_as(Manner::Deepgram).await
    }

    /// The same for another family's messages.
    pub(crate) async fn start_as(manner: Manner) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { manner, state: Mutex::default(), sessions: watch::channel(Vec::new()).0 });
        let serving = AbortOnDropHandle::new(tokio::spawn(server::serve(listener, Arc::clone(&shared))));
        Ok(Self { address, shared, _serving: serving })
    }

    /// What to give a client as its base URL.
    pub fn base(&self) -> Url {
        Url::parse(&format!("http://{}/v1", self.address)).expect("a URL")
    }

    /// What is understood of the next voice; once it has become final, nothing is.
    pub fn says(&self, words: &str) {
        words.clone_into(&mut self.shared.state().says);
    }

    /// What is understood of each recording.
    pub fn recorded(&self, answer: Result<&str, u16>) {
        self.shared.state().recorded = Some(answer.map(str::to_owned));
    }

    /// Lets this happen to the next session that begins; to several, one after the other.
    pub fn upset(&self, mishap: Mishap) {
        self.shared.state().mishaps.push_back(mishap);
    }

    /// The sessions and recordings so far.
    pub fn sessions(&self) -> Vec<Session> {
        self.shared.sessions.borrow().clone()
    }

    /// The sessions, once they are as wanted. Panics when that does not happen.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&[Session]) -> bool) -> Vec<Session> {
        let mut changes = self.shared.sessions.subscribe();
        let found = timeout(PATIENCE, changes.wait_for(|sessions| wanted(sessions))).await;
        found.map(|sessions| sessions.expect("kept").clone()).unwrap_or_else(|_| {
            let seen: Vec<_> = self.sessions().iter().map(|session| (session.bytes, session.is_over)).collect();
            panic!("{what} does not come; bytes and ends of sessions: {seen:?}")
        })
    }
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    manner: Manner,
    state: Mutex<State>,
    sessions: watch::Sender<Vec<Session>>,
}

#[derive(Debug, Default)]
struct State {
    says: String,
    recorded: Option<Result<String, u16>>,
    mishaps: VecDeque<Mishap>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, session: Session) -> usize {
        let mut at = 0;
        self.sessions.send_modify(|all| {
            at = all.len();
            all.push(session);
        });
        at
    }

    fn update(&self, at: usize, change: impl FnOnce(&mut Session)) {
        self.sessions.send_modify(|all| {
            if let Some(session) = all.get_mut(at) {
                change(session);
            }
        });
    }
}
