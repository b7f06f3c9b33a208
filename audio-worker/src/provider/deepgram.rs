//! Deepgram: speech-to-text over a socket while the caller speaks, and of whole recordings.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use telemetry::Sensitive;
use url::Url;

use super::{
    Fault, Limits, Pending, ProviderError, Speech, SpeechToText,
    fault::error,
    http::Client,
    listening::{
        Listening,
        socket::{self, OPEN_LIMIT},
    },
    openai::{Server, SettingsError},
    websocket,
};
use session::Session;

mod language;
mod message;
mod recording;
mod session;

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://api.deepgram.com/v1` and its key. Parameters in the address are kept and sent with each request.
    pub server: Server,
    /// `nova-3` by default.
    pub model: String,
    /// Silence after which the server takes a stretch as final, 10 ms or more; 300 ms by default.
    pub endpointing: Duration,
    /// Time without words after which the server takes the speech as over, 1 s (the least that it takes) by default.
    pub utterance_end: Duration,
    /// Words that are likely, to help with their spelling.
    pub keyterms: Vec<String>,
}

impl Default for Settings {
    /// Deepgram, without a key.
    fn default() -> Self {
        let base = Url::parse("https://api.deepgram.com/v1").expect("a URL");
        Self {
            server: Server { base, ..Server::default() },
            model: "nova-3".to_owned(),
            endpointing: Duration::from_millis(300),
            utterance_end: Duration::from_secs(1),
            keyterms: Vec::new(),
        }
    }
}

/// Speech-to-text of this server.
///
/// # Errors
/// When the settings cannot work.
pub fn speech_to_text(client: &Client, settings: &Settings) -> Result<Arc<dyn SpeechToText>, SettingsError> {
    Ok(Arc::new(Deepgram(Place::new(client, settings)?)))
}

struct Deepgram(Place);

impl SpeechToText for Deepgram {
    fn transcribe(&self, speech: Speech) -> Pending<String> {
        recording::transcribe(&self.0, &speech)
    }

    fn listen(&self, language: &str, earlier: Bytes) -> Option<Box<dyn Listening>> {
        // An address that HTTP cannot carry was found when the agent was made.
        let request = self.0.stream(language).ok()?;
        let limit = self.0.limits.first.min(OPEN_LIMIT);
        Some(socket::begin(self.0.client.clone(), request, limit, earlier, Session))
    }
}

impl fmt::Debug for Deepgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deepgram").field("host", &self.0.url.host_str().unwrap_or_default()).finish_non_exhaustive()
    }
}

/// Where requests go, and what each of them says.
struct Place {
    client: Client,
    /// Up to and with `/listen`, and what all requests ask for.
    url: Url,
    endpointing: Duration,
    utterance_end: Duration,
    key: Option<Sensitive<String>>,
    authorization: Option<HeaderValue>,
    limits: Limits,
}

impl Place {
    fn new(client: &Client, settings: &Settings) -> Result<Self, SettingsError> {
        let server = &settings.server;
        let mut url = server.base.clone();
        if !["http", "https"].contains(&url.scheme()) {
            return Err(SettingsError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SettingsError::Userinfo);
        }
        if server.limits.first.is_zero() || server.limits.whole.is_zero() {
            return Err(SettingsError::Limits);
        }
        if settings.model.is_empty() {
            return Err(SettingsError::Model);
        }
        url.set_path(&format!("{}/listen", url.path().trim_end_matches('/')));
        url.set_fragment(None);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("model", &settings.model).append_pair("punctuate", "true");
            for term in &settings.keyterms {
                query.append_pair("keyterm", term);
            }
        }
        // Files end with a line feed.
        let key = server.key.as_ref().map(|key| key.expose().trim()).filter(|key| !key.is_empty());
        let authorization = key.map(|key| HeaderValue::from_str(&format!("Token {key}"))).transpose();
        let mut authorization = authorization.map_err(|_| SettingsError::Key)?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let place = Self {
            client: client.clone(),
            url,
            endpointing: settings.endpointing,
            utterance_end: settings.utterance_end,
            key: key.map(|key| key.to_owned().into()),
            authorization,
            limits: server.limits,
        };
        place.stream("").map_err(|_| SettingsError::Address)?;
        Ok(place)
    }

    /// For a session: mu-law as it comes from the telephone.
    fn stream(&self, language: &str) -> Result<Request<()>, ProviderError> {
        let mut url = self.in_language(language);
        let ms = |duration: Duration| duration.as_millis().to_string();
        url.query_pairs_mut()
            .append_pair("encoding", "mulaw")
            .append_pair("sample_rate", "8000")
            .append_pair("channels", "1")
            .append_pair("interim_results", "true")
            .append_pair("vad_events", "true")
            .append_pair("endpointing", &ms(self.endpointing))
            .append_pair("utterance_end_ms", &ms(self.utterance_end));
        let address = websocket::address(&url).ok_or_else(uncarried)?;
        self.request(Request::get(address))
    }

    /// For a recording.
    fn recording(&self, language: &str) -> Result<Request<()>, ProviderError> {
        let address: Uri = self.in_language(language).as_str().parse().map_err(|_| uncarried())?;
        self.request(Request::post(address))
    }

    /// Without a language it takes its own.
    fn in_language(&self, language: &str) -> Url {
        let mut url = self.url.clone();
        if !language.is_empty() {
            url.query_pairs_mut().append_pair("language", &language::known(language));
        }
        url
    }

    fn request(&self, mut request: http::request::Builder) -> Result<Request<()>, ProviderError> {
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(()).map_err(|_| error(Fault::Rejected, "a request that HTTP cannot carry"))
    }
}

fn uncarried() -> ProviderError {
    error(Fault::Rejected, "an address that HTTP cannot carry")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Handle;

    fn client() -> Client {
        Client::new(Handle::current()).unwrap()
    }

    fn place(change: impl FnOnce(&mut Settings)) -> Result<Place, SettingsError> {
        let mut settings = Settings::default();
        settings.server.key = Some("a-key\n".to_owned().into());
        change(&mut settings);
        Place::new(&client(), &settings)
    }

    #[tokio::test]
    async fn requests_say_what_is_wanted() {
        let place = place(|settings| {
            settings.keyterms = vec!["Tandem exchange".to_owned()];
            settings.server.base = "https://api.eu.deepgram.com/v1/?mip_opt_out=true".parse().unwrap();
        });
        let place = place.unwrap();
        let stream = place.stream("de-CH").unwrap();
        assert_eq!(
            stream.uri().to_string(),
            "wss://api.eu.deepgram.com/v1/listen?mip_opt_out=true&model=nova-3&punctuate=true&keyterm=Tandem+exchange\
             &language=de-CH&encoding=mulaw&sample_rate=8000&channels=1&interim_results=true&vad_events=true\
             &endpointing=300&utterance_end_ms=1000"
        );
        assert_eq!(stream.headers()[header::AUTHORIZATION], "Token a-key");
        assert!(stream.headers()[header::AUTHORIZATION].is_sensitive());
        assert!(place.recording("nb-NO").unwrap().uri().query().unwrap().ends_with("&language=no"));
        let recording = place.recording("").unwrap();
        let expected = "https://api.eu.deepgram.com/v1/listen?mip_opt_out=true&model=nova-3&punctuate=true&keyterm=Tandem+exchange";
        assert_eq!(recording.uri().to_string(), expected);
        assert_eq!(format!("{:?}", Deepgram(place)), "Deepgram { host: \"api.eu.deepgram.com\", .. }");
    }

    #[tokio::test]
    async fn settings_that_cannot_work_are_refused() {
        let base = |base: &'static str| move |settings: &mut Settings| settings.server.base = base.parse().unwrap();
        assert_eq!(place(base("ftp://x/")).err(), Some(SettingsError::Scheme));
        assert_eq!(place(base("https://me:pass@x/")).err(), Some(SettingsError::Userinfo));
        assert_eq!(place(|settings| settings.model.clear()).err(), Some(SettingsError::Model));
        assert_eq!(place(|settings| settings.server.limits.first = Duration::ZERO).err(), Some(SettingsError::Limits));
        let key = |settings: &mut Settings| settings.server.key = Some("a\nb".to_owned().into());
        assert_eq!(place(key).err(), Some(SettingsError::Key));
    }
}
