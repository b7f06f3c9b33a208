//! Scribe's realtime models: `wss {base}/speech-to-text/realtime`, while the caller speaks; recordings over HTTP.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use url::Url;

use crate::provider::{
    Pending, Speech, SpeechToText,
    endpoint::{Endpoint, Server, SettingsError},
    language,
    listening::{
        Listening,
        socket::{self, OPEN_LIMIT},
    },
    websocket,
};
use segments::Segments;

mod message;
mod segments;

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://api.elevenlabs.io/v1`. Parameters in the address are kept and sent with each request.
    pub server: Server,
    /// Such as `scribe_v2_realtime`.
    pub model: String,
    /// Silence after which the server takes a stretch as final and the speech as over, 300 ms to 3 s; where there is none,
    /// it does neither by itself.
    pub ends_after: Option<Duration>,
    /// Words that are likely, at most 50 of 20 characters each.
    pub keyterms: Vec<String>,
    /// Randomness for recordings, 0 to 1; the model's own when it is not given.
    pub temperature: Option<f64>,
}

/// Whether a model is one that listens while somebody speaks. Such a one takes no recordings.
pub fn is_realtime(model: &str) -> bool {
    model.ends_with("_realtime")
}

/// One that listens, and another for what it misses.
pub(super) struct Realtime {
    endpoint: Endpoint,
    /// Without the language, which belongs to the call.
    url: Url,
    ends: bool,
    recordings: Arc<dyn SpeechToText>,
}

impl Realtime {
    /// `recordings` puts whole turns into words.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub(super) fn new(
        endpoint: Endpoint,
        settings: &Settings,
        recordings: Arc<dyn SpeechToText>,
    ) -> Result<Self, SettingsError> {
        if settings.model.is_empty() {
            return Err(SettingsError::Model);
        }
        let mut url = settings.server.base.clone();
        url.set_path(&format!("{}/speech-to-text/realtime", url.path().trim_end_matches('/')));
        url.set_fragment(None);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("model_id", &settings.model);
            query.append_pair("audio_format", "ulaw_8000").append_pair("include_timestamps", "true");
            match settings.ends_after {
                Some(silence) => {
                    let seconds = format!("{:.3}", silence.as_secs_f64());
                    query.append_pair("commit_strategy", "vad").append_pair("vad_silence_threshold_secs", &seconds)
                }
                None => query.append_pair("commit_strategy", "manual"),
            };
            for term in &settings.keyterms {
                query.append_pair("keyterms", term);
            }
        }
        let realtime = Self { endpoint, url, ends: settings.ends_after.is_some(), recordings };
        realtime.request("").ok_or(SettingsError::Address)?;
        Ok(realtime)
    }

    /// For a session in `language`; without one the server finds out itself.
    fn request(&self, language: &str) -> Option<Request<()>> {
        let mut url = self.url.clone();
        if let Some(language) = language::two_letters(language) {
            url.query_pairs_mut().append_pair("language_code", &language);
        }
        let mut request = Request::get(websocket::address(&url)?);
        if let Some((name, value)) = self.endpoint.credential() {
            request = request.header(name, value);
        }
        request.body(()).ok()
    }
}

impl SpeechToText for Realtime {
    fn transcribe(&self, speech: Speech) -> Pending<String> {
        self.recordings.transcribe(speech)
    }

    fn listen(&self, language: &str, earlier: Bytes) -> Option<Box<dyn Listening>> {
        // An address that HTTP cannot carry was found when the agent was made.
        let request = self.request(language)?;
        let limit = self.endpoint.limits.first.min(OPEN_LIMIT);
        Some(socket::begin(self.endpoint.client.clone(), request, limit, earlier, Segments::new(self.ends)))
    }
}

impl fmt::Debug for Realtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realtime").field("host", &self.url.host_str().unwrap_or_default()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::provider::{elevenlabs, http::Client};

    fn changed(change: impl FnOnce(&mut Settings)) -> Settings {
        let base = "https://api.eu.elevenlabs.io/v1/?enable_logging=false".parse().unwrap();
        let mut settings = Settings {
            server: Server { base, key: Some("a-key\n".to_owned().into()), ..Server::default() },
            model: "scribe_v2_realtime".to_owned(),
            ends_after: None,
            keyterms: Vec::new(),
            temperature: None,
        };
        change(&mut settings);
        settings
    }

    fn realtime(change: impl FnOnce(&mut Settings)) -> Result<Realtime, SettingsError> {
        elevenlabs::realtime(&client(), &changed(change))
    }

    fn client() -> Client {
        Client::new(Handle::current()).unwrap()
    }

    #[tokio::test]
    async fn sessions_say_what_is_wanted() {
        let plain = realtime(|_| {}).unwrap();
        let request = plain.request("de-CH").unwrap();
        let expected = "wss://api.eu.elevenlabs.io/v1/speech-to-text/realtime?enable_logging=false&model_id=scribe_v2_realtime\
            &audio_format=ulaw_8000&include_timestamps=true&commit_strategy=manual";
        assert_eq!(request.uri().to_string(), format!("{expected}&language_code=de"));
        assert_eq!(request.headers()["xi-api-key"], "a-key");
        assert!(request.headers()["xi-api-key"].is_sensitive());
        assert_eq!(plain.request("multi").unwrap().uri().to_string(), expected);
        let full = realtime(|settings| {
            settings.ends_after = Some(Duration::from_millis(550));
            settings.keyterms = vec!["Tandem exchange".to_owned(), "mu-law".to_owned()];
        });
        let full = full.unwrap();
        let query = full.request("").unwrap().uri().query().unwrap().to_owned();
        let ends = "&commit_strategy=vad&vad_silence_threshold_secs=0.550&keyterms=Tandem+exchange&keyterms=mu-law";
        assert!(query.ends_with(ends), "{query}");
        assert_eq!(format!("{full:?}"), "Realtime { host: \"api.eu.elevenlabs.io\", .. }");
    }

    #[tokio::test]
    async fn settings_that_cannot_work_are_refused() {
        assert_eq!(realtime(|settings| settings.model.clear()).err(), Some(SettingsError::Model));
        let base = |base: &'static str| move |settings: &mut Settings| settings.server.base = base.parse().unwrap();
        assert_eq!(realtime(base("ftp://x/")).err(), Some(SettingsError::Scheme));
        assert_eq!(realtime(base("https://me:pass@x/")).err(), Some(SettingsError::Userinfo));
        let key = |settings: &mut Settings| settings.server.key = Some("a\nb".to_owned().into());
        assert_eq!(realtime(key).err(), Some(SettingsError::Key));
    }

    #[test]
    fn models_tell_by_their_name_whether_they_listen() {
        assert!(is_realtime("scribe_v2_realtime"));
        assert!(!is_realtime("scribe_v2") && !is_realtime("scribe_v1") && !is_realtime(""));
    }
}
