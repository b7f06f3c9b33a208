//! A stand-in for Google's speech-to-text on a port of this machine: streams over gRPC, recordings and tokens over HTTP.
//!
//! It hears when somebody speaks and understands what it was told to ([`Google::says`]). [`Mishap`]s befall the streams that
//! begin after they were asked for; every stream is kept as [`Session`].

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::google_speech::{StreamingRecognitionConfig, StreamingRecognizeResponse};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use url::Url;

mod recogniser;
mod rest;
mod server;

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// From the end of the sound to the final words.
const FINAL_AFTER: Duration = Duration::from_millis(60);

/// What goes wrong with a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Mishap {
    /// It is refused with this.
    Refuse(Code),
    /// It is refused as one with a wrong API key.
    WrongKey,
    /// It ends with this, once so many milliseconds of voice were heard.
    Fail(u64, Code),
    /// A message says that it failed with this, then.
    Tell(u64, Code),
    /// It ends then, as if all was well.
    Leave(u64),
    /// It takes what comes and says nothing, nor does it end.
    Deaf,
    /// It takes so long for final words.
    FinalAfter(Duration),
    /// It ends without words becoming final.
    NeverFinal,
    /// Before each message this comes.
    Before(StreamingRecognizeResponse),
    /// It tells the same words so many times at once.
    Flood(usize),
}

/// A stream, or a recording, as it was.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// What it asks for.
    pub config: Option<StreamingRecognitionConfig>,
    /// Its metadata, or the headers, but for those of every request.
    pub credentials: Vec<(String, String)>,
    /// Sound that came, in bytes.
    pub bytes: usize,
    /// The first of it.
    pub first: Vec<u8>,
    /// Most that came at once.
    pub largest: usize,
    /// The client said that nothing more comes.
    pub is_closed: bool,
    /// It is no more.
    pub is_over: bool,
    /// It is a recording.
    pub is_recording: bool,
}

impl Session {
    /// A value of metadata.
    pub fn credential(&self, name: &str) -> Option<&str> {
        self.credentials.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A running stand-in; gone when dropped.
#[derive(Debug)]
pub struct Google {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

impl Google {
    /// Starts it on a free port of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { state: Mutex::default(), sessions: watch::channel(Vec::new()).0 });
        let serving = AbortOnDropHandle::new(tokio::spawn(server::serve(listener, Arc::clone(&shared))));
        Ok(Self { address, shared, _serving: serving })
    }

    /// What to give a client as its base URL.
    pub fn base(&self) -> Url {
        Url::parse(&format!("http://{}/v1", self.address)).expect("a URL")
    }

    /// Where tokens are.
    pub fn token_uri(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// What is understood of the next voice; once it has become final, nothing is.
    pub fn says(&self, words: &str) {
        words.clone_into(&mut self.shared.state().says);
    }

    /// What is understood of each recording.
    pub fn recorded(&self, answer: Result<&str, u16>) {
        self.shared.state().recorded = Some(answer.map(str::to_owned));
    }

    /// Lets this happen to the next stream that begins; to several, one after the other.
    pub fn upset(&self, mishap: Mishap) {
        self.shared.state().mishaps.push_back(mishap);
    }

    /// All connections from now on write a byte at a time, with so much time between.
    pub fn drip(&self, pace: Duration) {
        self.shared.state().pace = Some(pace);
    }

    /// Tokens that were given out.
    pub fn tokens(&self) -> u32 {
        self.shared.state().tokens
    }

    /// The streams and recordings so far.
    pub fn sessions(&self) -> Vec<Session> {
        self.shared.sessions.borrow().clone()
    }

    /// The streams and recordings, once they are as wanted. Panics when that does not happen.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&[Session]) -> bool) -> Vec<Session> {
        let mut changes = self.shared.sessions.subscribe();
        let found = timeout(PATIENCE, changes.wait_for(|sessions| wanted(sessions))).await;
        found.map(|sessions| sessions.expect("kept").clone()).unwrap_or_else(|_| {
            let seen: Vec<_> = self.sessions().iter().map(|session| (session.bytes, session.is_over)).collect();
            panic!("{what} does not come; bytes and ends of streams: {seen:?}")
        })
    }
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    sessions: watch::Sender<Vec<Session>>,
}

#[derive(Debug, Default)]
struct State {
    says: String,
    recorded: Option<Result<String, u16>>,
    mishaps: VecDeque<Mishap>,
    pace: Option<Duration>,
    tokens: u32,
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
