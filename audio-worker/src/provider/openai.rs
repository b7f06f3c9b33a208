//! Providers that speak as OpenAI does: OpenAI itself, and vLLM, Ollama, Kokoro, CSM, faster-whisper servers and others.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use telemetry::Sensitive;
use tokio::time::{sleep, timeout};
use url::Url;

use super::{
    Chat, Fault, Limits, ProviderError, SpeechToText, TextToSpeech,
    fault::{Secrets, error},
    http::Client,
};

mod calls;
pub mod chat;
pub mod speech;
pub mod transcriptions;

/// How long opening a connection ahead may take, its one small request included.
const WARM_LIMIT: Duration = Duration::from_secs(10);
/// No connection is opened ahead so soon after the last one.
const WARM_PAUSE: Duration = Duration::from_secs(5);
/// Most that is read of the answer that nobody needs; OpenAI's list of models has some 20 KiB.
const MAX_WARM_BYTES: usize = 256 << 10;

/// Speech-to-text of this server.
///
/// # Errors
/// When the settings cannot work.
pub fn speech_to_text(
    client: &Client,
    settings: transcriptions::Settings,
) -> Result<Arc<dyn SpeechToText>, SettingsError> {
    settings.check()?;
    Ok(Arc::new(transcriptions::Transcriptions::new(
        Endpoint::new(client, &settings.server, "audio/transcriptions")?,
        settings,
    )))
}

/// The chat model of this server.
///
/// # Errors
/// When the settings cannot work.
pub fn chat(client: &Client, settings: chat::Settings) -> Result<Arc<dyn Chat>, SettingsError> {
    settings.check()?;
    Ok(Arc::new(chat::Completions::new(Endpoint::new(client, &settings.server, "chat/completions")?, settings)))
}

/// Text-to-speech of this server.
///
/// # Errors
/// When the settings cannot work.
pub fn text_to_speech(client: &Client, settings: speech::Settings) -> Result<Arc<dyn TextToSpeech>, SettingsError> {
    settings.check()?;
    Ok(Arc::new(speech::Voice::new(Endpoint::new(client, &settings.server, "audio/speech")?, settings)))
}

/// What a stage asks, and how long it waits.
#[derive(Clone)]
pub struct Server {
    /// `http://` or `https://`, up to and with the version: `https://api.openai.com/v1`. A query is kept.
    pub base: Url,
    /// Sent as a bearer token; servers of one's own often need none.
    pub key: Option<Sensitive<String>>,
    /// 10 s to the first piece and 120 s in all by default, second tries included.
    pub limits: Limits,
}

impl Default for Server {
    /// OpenAI, without a key.
    fn default() -> Self {
        let base = Url::parse("https://api.openai.com/v1").expect("a URL");
        Self { base, key: None, limits: Limits::default() }
    }
}

impl fmt::Debug for Server {
    /// Without what an address can hold beside its host: somebody's password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Server");
        shown.field("host", &self.base.host_str().unwrap_or_default());
        shown.field("key", &self.key).field("limits", &self.limits).finish()
    }
}

/// Why settings cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Another scheme.
    #[error("the address has to begin with http:// or https://")]
    Scheme,
    /// A name or a password before the host.
    #[error("the address must not hold a name or password; keys have a setting of their own")]
    Userinfo,
    /// Something that an HTTP request cannot carry.
    #[error("the address cannot be used")]
    Address,
    /// Not what a header can hold.
    #[error("the key has characters that keys do not have")]
    Key,
    /// No time at all.
    #[error("a limit of no time")]
    Limits,
    /// No model.
    #[error("the model has no name")]
    Model,
    /// No voice.
    #[error("the voice has no name")]
    Voice,
    /// Outside 0 to 2.
    #[error("the temperature has to be from 0 to 2")]
    Temperature,
    /// No token at all.
    #[error("an answer needs at least one token")]
    Tokens,
    /// Outside 0.25 to 4.
    #[error("the speed has to be from 0.25 to 4")]
    Speed,
    /// A family, or a format of it, that this version does not speak.
    #[error("this version does not speak the protocol of this provider")]
    Unserved,
    /// More than 4096 characters.
    #[error("instructions have at most 4096 characters")]
    Instructions,
}

/// Where one stage's requests go.
#[derive(Debug, Clone)]
struct Endpoint {
    client: Client,
    uri: Uri,
    /// Answers without doing any work.
    models: Uri,
    key: Option<Sensitive<String>>,
    authorization: Option<HeaderValue>,
    limits: Limits,
    is_warming: Arc<AtomicBool>,
}

impl Endpoint {
    fn new(client: &Client, server: &Server, path: &str) -> Result<Self, SettingsError> {
        let base = &server.base;
        if !["http", "https"].contains(&base.scheme()) {
            return Err(SettingsError::Scheme);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(SettingsError::Userinfo);
        }
        if server.limits.first.is_zero() || server.limits.whole.is_zero() {
            return Err(SettingsError::Limits);
        }
        let uri = |path: &str| {
            let mut url = base.clone();
            url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
            url.set_fragment(None);
            url.as_str().parse::<Uri>().map_err(|_| SettingsError::Address)
        };
        // Files end with a line feed.
        let key = server.key.as_ref().map(|key| key.expose().trim()).filter(|key| !key.is_empty());
        let authorization = key.map(|key| HeaderValue::from_str(&format!("Bearer {key}"))).transpose();
        let mut authorization = authorization.map_err(|_| SettingsError::Key)?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self {
            client: client.clone(),
            uri: uri(path)?,
            models: uri("models")?,
            key: key.map(|key| key.to_owned().into()),
            authorization,
            limits: server.limits,
            is_warming: Arc::default(),
        })
    }

    fn post(&self, content_type: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ProviderError> {
        let request = Request::post(self.uri.clone()).header(header::CONTENT_TYPE, content_type);
        self.finish(request, body)
    }

    fn finish(&self, mut request: http::request::Builder, body: Bytes) -> Result<Request<Full<Bytes>>, ProviderError> {
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Full::new(body)).map_err(|_| error(Fault::Rejected, "a request that HTTP cannot carry"))
    }

    fn secrets(&self, said: Vec<String>) -> Secrets {
        Secrets { key: self.key.clone(), said: said.into() }
    }

    /// Opens a connection unless one is being opened, or was a moment ago. The answer is of no interest.
    fn warm(&self) {
        let request = Request::builder().method(Method::GET).uri(self.models.clone());
        let Ok(request) = self.finish(request, Bytes::new()) else { return };
        if self.is_warming.swap(true, Ordering::AcqRel) {
            return;
        }
        let (client, is_warming) = (self.client.clone(), Arc::clone(&self.is_warming));
        self.client.runtime().spawn(async move {
            let exchange = async {
                let answer = client.send(request).await?;
                // Read to its end, the connection can be used again.
                let read = Limited::new(answer.into_body(), MAX_WARM_BYTES).collect().await;
                read.map_err(|_| error(Fault::Malformed, "too long an answer, or half of one"))
            };
            match timeout(WARM_LIMIT, exchange).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "no connection ahead of a request"),
                Err(_) => tracing::debug!("no connection ahead of a request in time"),
            }
            sleep(WARM_PAUSE).await;
            is_warming.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
mod tests;
