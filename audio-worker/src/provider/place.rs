//! Places where providers are: a stage, a family, an address, an account there. Each has one breaker for all calls of the
//! worker, and for all agents files that it reads in its life.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use telemetry::Sensitive;
use url::Url;

use super::{
    Fault, ProviderError,
    breaker::{Breaker, Change, Pass},
};
use crate::agent::Stage;

/// Most places that Prometheus is told of, open ones first.
const MAX_TOLD: usize = 256;

/// The places of a worker; clones are the same. One that no agent has any more is forgotten.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<Mutex<Vec<Weak<Place>>>>);

/// A place.
pub struct Place {
    /// What is asked for there.
    pub stage: Stage,
    /// Whose protocol it speaks, as the agents file calls it.
    pub family: &'static str,
    /// Host, and port where the address has one.
    pub host: String,
    origin: String,
    /// Who is refused with one key may be served with another.
    key: Option<Sensitive<String>>,
    breaker: Mutex<Breaker>,
}

impl Places {
    /// The place for `stage` at `url` with this key; the same one as long as somebody has it.
    pub fn at(&self, stage: Stage, family: &'static str, url: &Url, key: Option<&Sensitive<String>>) -> Arc<Place> {
        let origin = url.origin().ascii_serialization();
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|place| place.strong_count() > 0);
        let is_it = |place: &Arc<Place>| {
            (place.stage, place.family, &place.origin, place.key.as_ref()) == (stage, family, &origin, key)
        };
        if let Some(place) = places.iter().filter_map(Weak::upgrade).find(is_it) {
            return place;
        }
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let key = key.cloned();
        let breaker = Mutex::new(match stage {
            Stage::SpeechToText | Stage::Chat | Stage::TextToSpeech => Breaker::default(),
            Stage::Realtime | Stage::Agent => Breaker::alone(),
        });
        let place = Arc::new(Place { stage, family, host, origin, key, breaker });
        places.push(Arc::downgrade(&place));
        place
    }

    /// Stage, family and host of each, and whether it is open: of several accounts at one host, whether any is.
    pub(crate) fn states(&self) -> Vec<(Stage, &'static str, String, bool)> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut states = BTreeMap::new();
        for place in places.iter().filter_map(Weak::upgrade) {
            let labels = (place.stage.label(), place.family, place.host.clone());
            let state = states.entry(labels).or_insert((place.stage, false));
            state.1 |= place.is_open();
        }
        let mut states: Vec<_> =
            states.into_iter().map(|((_, family, host), (stage, is_open))| (stage, family, host, is_open)).collect();
        states.sort_by_key(|(.., is_open)| !is_open);
        states.truncate(MAX_TOLD);
        states
    }
}

impl Place {
    /// A permission to ask; `None` while it is left alone.
    pub(crate) fn ask(self: &Arc<Self>, now: Instant) -> Option<Asking> {
        let mut breaker = self.breaker();
        let pass = breaker.ask(now)?;
        Some(Asking { place: Arc::clone(self), pass, progress: Progress::Asked, faults: breaker.faults() })
    }

    /// The same when there is nobody else to ask.
    pub(crate) fn insist(self: &Arc<Self>) -> Asking {
        let faults = self.breaker().faults();
        Asking { place: Arc::clone(self), pass: Pass::Usual, progress: Progress::Asked, faults }
    }

    /// True while it is left alone.
    pub(crate) fn is_open(&self) -> bool {
        self.breaker().is_open()
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Held for a few comparisons, a few times a request.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Option<Change>, error: Option<&ProviderError>) {
        let (stage, provider, host) = (self.stage.label(), self.family, &self.host);
        let error = error.map(tracing::field::display);
        match change {
            Some(Change::Opened(pause)) => {
                let pause_s = pause.as_secs();
                tracing::warn!(stage, provider, host, error, pause_s, "a provider is left alone for a while");
            }
            Some(Change::Closed) => tracing::info!(stage, provider, host, "a provider answers again"),
            None => {}
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("stage", &self.stage).field("family", &self.family).finish_non_exhaustive()
    }
}

/// A request that is under way. Dropped, it was given up.
#[derive(Debug)]
pub(crate) struct Asking {
    place: Arc<Place>,
    pass: Pass,
    progress: Progress,
    /// Faults at the place before it was asked.
    faults: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Asked,
    Answered,
    Settled,
}

impl Asking {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The first piece is there.
    pub(crate) fn answered(&mut self) {
        if self.progress == Progress::Asked {
            self.progress = Progress::Answered;
            let change = self.place.breaker().answered();
            self.place.tell(change, None);
        }
    }

    /// It does what it is there for and goes on: what comes of it later counts as well.
    pub(crate) fn served(&mut self) {
        if self.progress != Progress::Settled {
            self.progress = Progress::Answered;
            let mut breaker = self.place.breaker();
            let change = breaker.ended();
            self.faults = breaker.faults();
            drop(breaker);
            self.place.tell(change, None);
        }
    }

    /// All of it is there.
    pub(crate) fn ended(&mut self) {
        if std::mem::replace(&mut self.progress, Progress::Settled) != Progress::Settled {
            let change = self.place.breaker().ended();
            self.place.tell(change, None);
        }
    }

    /// It failed.
    pub(crate) fn failed(&mut self, error: &ProviderError, now: Instant) {
        if std::mem::replace(&mut self.progress, Progress::Settled) != Progress::Settled {
            let change = self.place.breaker().failed(self.pass, error.kind, now);
            self.place.tell(change, Some(error));
        }
    }

    /// Nobody needs it any more, and its first piece may be long ago: that it was well says something only when nothing
    /// has failed at the place meanwhile.
    pub(crate) fn released(&mut self) {
        if self.progress == Progress::Answered && self.place.breaker().faults() != self.faults {
            self.progress = Progress::Settled;
        }
    }

    /// Another one had a first piece while this one had none in its time.
    pub(super) fn outrun(&mut self, now: Instant) {
        let detail = "another was faster by more than fallback_after_ms".to_owned();
        self.failed(&ProviderError { kind: Fault::Timeout, detail }, now);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        match self.progress {
            Progress::Asked => self.place.breaker().given_up(self.pass, now()),
            // Whoever was interrupted was well.
            Progress::Answered => self.ended(),
            Progress::Settled => {}
        }
    }
}

/// The moment, for breakers.
#[expect(clippy::disallowed_methods, reason = "a driver: breakers open and close in real time")]
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_by_stage_family_address_and_account() {
        let places = Places::default();
        let url = |text: &str| Url::parse(text).unwrap();
        let (key, other) = (Sensitive::new("one".to_owned()), Sensitive::new("two".to_owned()));
        let at = |stage, family, place: &str, key| places.at(stage, family, &url(place), key);
        let first = at(Stage::Chat, "openai", "https://one.example/v1", Some(&key));
        let same = places.clone().at(Stage::Chat, "openai", &url("https://one.example/v2?x=1"), Some(&key));
        assert!(Arc::ptr_eq(&first, &same));
        for others in [
            at(Stage::Chat, "openai", "https://one.example/v1", Some(&other)),
            at(Stage::Chat, "openai", "https://one.example:8443/v1", Some(&key)),
            at(Stage::Chat, "google", "https://one.example/v1", Some(&key)),
            at(Stage::TextToSpeech, "openai", "https://one.example/v1", Some(&key)),
        ] {
            assert!(!Arc::ptr_eq(&first, &others));
        }
        let denied = ProviderError { kind: Fault::Denied, detail: String::new() };
        let refused = at(Stage::Chat, "openai", "https://one.example/v1", Some(&other));
        first.ask(now()).unwrap().ended();
        refused.ask(now()).unwrap().failed(&denied, now());
        // Those that nobody has any more are gone; of two accounts one is open.
        let states = places.states();
        assert_eq!(states, [(Stage::Chat, "openai", "one.example".to_owned(), true)]);
        drop(refused);
        assert!(!places.states()[0].3);
        assert!(!format!("{places:?}{first:?}").contains("example"));
    }
}
