//! A stand-in for OpenAI and those who speak like it: speech-to-text, chat and text-to-speech on a port of this machine.
//!
//! [`Script`] says what it answers and how fast; [`Mishap`]s are switched on and off stage by stage while it runs; every
//! request is kept as [`Asked`]. A real recogniser or synthesizer goes behind it as a closure. It is as strict as the
//! published description: what does not fit is refused with 400.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

mod answer;
mod form;
mod mishap;
mod script;
mod server;

pub use mishap::{Extent, Mishap};
pub use script::{Call, Hear, Heard, RATE_HZ, Say, Script, Think, Turn, Want, in_turn, tone};

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that are kept; later ones are answered all the same.
const MAX_ASKED: usize = 100_000;
/// Recordings that are kept, the latest ones: each is some hundred KiB.
const MAX_FILES: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `POST /v1/audio/transcriptions`.
    Transcription,
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/audio/speech`.
    Speech,
    /// `GET /v1/models`: who opens a connection ahead asks for it.
    Models,
}

/// A request as it came, and what became of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What for.
    pub stage: Stage,
    /// When it was there as a whole.
    pub at: Instant,
    /// The bearer token.
    pub key: Option<String>,
    /// The fields; those of a form are text.
    pub fields: Value,
    /// The file of a form; emptied once 64 later requests came.
    pub file: Vec<u8>,
    /// When the first piece of the answer went out.
    pub answered: Option<Instant>,
    /// Pieces of the answer that went out: tokens, or stretches of a voice.
    pub pieces: usize,
    /// How it ended.
    pub end: Option<End>,
}

impl Asked {
    /// A field that is text; empty when it is missing.
    pub fn text(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With all of its answer, or with what a mishap made of it.
    Answered,
    /// The client gave it up.
    GivenUp,
}

/// A running stand-in; gone when dropped.
#[derive(Debug)]
pub struct OpenAi {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

impl OpenAi {
    /// Starts it on a free port of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = State { script, mishaps: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), asked: watch::channel(Vec::new()).0 });
        let serving = AbortOnDropHandle::new(tokio::spawn(server::serve(listener, Arc::clone(&shared))));
        Ok(Self { address, shared, _serving: serving })
    }

    /// What to give a client as its base URL.
    pub fn base(&self) -> Url {
        Url::parse(&format!("http://{}/v1", self.address)).expect("a URL")
    }

    /// Changes what it answers from the next request on.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.state().script);
    }

    /// Lets something go wrong from the next request for `stage` on; instead of what went wrong there before.
    pub fn upset(&self, stage: Stage, mishap: Mishap, extent: Extent) {
        self.mend(stage);
        self.shared.state().mishaps.push((stage, mishap, extent));
    }

    /// Lets nothing go wrong there any more.
    pub fn mend(&self, stage: Stage) {
        self.shared.state().mishaps.retain(|(upset, ..)| *upset != stage);
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.borrow().clone()
    }

    /// What was asked for `stage` so far.
    pub fn asked_for(&self, stage: Stage) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.stage == stage).collect()
    }

    /// What was asked, once it is as wanted. Panics when that does not happen.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&[Asked]) -> bool) -> Vec<Asked> {
        let mut changes = self.shared.asked.subscribe();
        let found = timeout(PATIENCE, changes.wait_for(|asked| wanted(asked))).await;
        found.map(|asked| asked.expect("kept").clone()).unwrap_or_else(|_| {
            let seen: Vec<_> = self.asked().iter().map(|asked| (asked.stage, asked.end)).collect();
            panic!("{what} does not come; what did: {seen:?}")
        })
    }
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    asked: watch::Sender<Vec<Asked>>,
}

#[derive(Debug)]
struct State {
    script: Script,
    mishaps: Vec<(Stage, Mishap, Extent)>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script of now, and what goes wrong with a request for `stage`.
    fn next(&self, stage: Stage) -> (Script, Option<Mishap>) {
        let mut state = self.state();
        let at = state.mishaps.iter().position(|(upset, ..)| *upset == stage);
        let mishap = at.map(|at| {
            let (_, mishap, extent) = &mut state.mishaps[at];
            let (mishap, is_last) = (mishap.clone(), extent.is_last());
            if is_last {
                state.mishaps.remove(at);
            }
            mishap
        });
        (state.script.clone(), mishap)
    }

    /// Keeps a request while there is room; gives its place.
    fn note(&self, asked: Asked) -> usize {
        let mut at = 0;
        self.asked.send_modify(|all| {
            at = all.len();
            if at < MAX_ASKED {
                all.push(asked);
            } else {
                at = usize::MAX;
            }
            if let Some(old) = all.len().checked_sub(MAX_FILES + 1).and_then(|old| all.get_mut(old)) {
                old.file = Vec::new();
            }
        });
        at
    }

    fn update(&self, at: usize, change: impl FnOnce(&mut Asked)) {
        self.asked.send_modify(|all| {
            if let Some(asked) = all.get_mut(at) {
                change(asked);
            }
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "delays are fixed in real time, or in a test's virtual time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_forgotten_and_requests_kept() {
        let state = Mutex::new(State { script: Script::default(), mishaps: Vec::new() });
        let shared = Shared { state, asked: watch::channel(Vec::new()).0 };
        let stage = Stage::Transcription;
        let asked = Asked {
            stage,
            at: now(),
            key: None,
            fields: Value::Null,
            file: vec![1],
            answered: None,
            pieces: 0,
            end: None,
        };
        assert!((0..MAX_FILES + 3).all(|at| shared.note(asked.clone()) == at));
        let kept = shared.asked.borrow();
        assert_eq!(kept.len(), MAX_FILES + 3);
        assert!(kept.iter().enumerate().all(|(at, asked)| asked.file.is_empty() == (at < 3)));
    }
}
