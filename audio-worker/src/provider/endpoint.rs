//! Where the requests of one stage go, whatever the family: address, key, patience, and a connection ahead of the first.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use telemetry::Sensitive;
use tokio::time::{sleep, timeout};
use url::Url;

use super::{
    Fault, Limits, ProviderError,
    fault::{Secrets, error},
    http::Client,
};

/// How long opening a connection ahead may take, its one small request included.
const WARM_LIMIT: Duration = Duration::from_secs(10);
/// No connection is opened ahead so soon after the last one.
pub(super) const WARM_PAUSE: Duration = Duration::from_secs(5);
/// Most that is read of the answer that nobody needs; OpenAI's list of models has some 20 KiB.
const MAX_WARM_BYTES: usize = 256 << 10;

/// What a stage asks, and how long it waits.
#[derive(Clone)]
pub struct Server {
    /// `http://` or `https://`, up to and with the version: `https://api.openai.com/v1`. A query is kept.
    pub base: Url,
    /// What it knows us by; servers of one's own often need none.
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
    /// Not what Google gives out for a service account.
    #[error("the file of the service account needs client_email, private_key and an https:// token_uri")]
    ServiceAccount,
    /// No time at all.
    #[error("a limit of no time")]
    Limits,
    /// No model.
    #[error("the model has no name")]
    Model,
    /// No voice.
    #[error("the voice has no name, or one that names do not have")]
    Voice,
    /// Outside 0 to 2.
    #[error("the temperature has to be from 0 to 2")]
    Temperature,
    /// No token at all.
    #[error("an answer needs at least one token")]
    Tokens,
    /// Outside of what the family takes.
    #[error("the speed is not one that the voice can have")]
    Speed,
    /// Not what the family sends.
    #[error("the voice does not come in this format or at this rate")]
    Format,
    /// More than 4096 characters.
    #[error("instructions have at most 4096 characters")]
    Instructions,
    /// A family that this version does not speak to for this stage.
    #[error("this version does not speak the protocol of this provider")]
    Unserved,
}

/// How a family is asked.
#[derive(Debug, Clone)]
pub(super) struct Manner<'a> {
    /// What is appended to the address.
    pub(super) path: &'a str,
    /// The same for a question that costs nothing.
    pub(super) idle: &'a str,
    /// The header of the key.
    pub(super) key: HeaderName,
    /// What stands before the key in there.
    pub(super) before_key: &'a str,
}

impl<'a> Manner<'a> {
    /// With the key as a bearer token.
    pub(super) const fn bearer(path: &'a str, idle: &'a str) -> Self {
        Self { path, idle, key: header::AUTHORIZATION, before_key: "Bearer " }
    }

    /// With a header of the family's own.
    pub(super) const fn with_header(path: &'a str, idle: &'a str, key: HeaderName) -> Self {
        Self { path, idle, key, before_key: "" }
    }
}

/// Where one stage's requests go.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) client: Client,
    pub(super) limits: Limits,
    uri: Uri,
    /// Answers without doing any work.
    idle: Uri,
    key: Option<Sensitive<String>>,
    header: Option<(HeaderName, HeaderValue)>,
    is_warming: Arc<AtomicBool>,
}

impl Endpoint {
    pub(super) fn new(client: &Client, server: &Server, manner: Manner<'_>) -> Result<Self, SettingsError> {
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
        let value = key.map(|key| HeaderValue::from_str(&format!("{}{key}", manner.before_key))).transpose();
        let header = value.map_err(|_| SettingsError::Key)?.map(|mut value| {
            value.set_sensitive(true);
            (manner.key, value)
        });
        Ok(Self {
            client: client.clone(),
            limits: server.limits,
            uri: uri(manner.path)?,
            idle: uri(manner.idle)?,
            key: key.map(|key| key.to_owned().into()),
            header,
            is_warming: Arc::default(),
        })
    }

    pub(super) fn post(&self, content_type: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ProviderError> {
        let request = Request::post(self.uri.clone()).header(header::CONTENT_TYPE, content_type);
        self.finish(request, body)
    }

    fn finish(&self, mut request: http::request::Builder, body: Bytes) -> Result<Request<Full<Bytes>>, ProviderError> {
        if let Some((name, value)) = &self.header {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).map_err(|_| error(Fault::Rejected, "a request that HTTP cannot carry"))
    }

    /// The header of the key.
    pub(super) fn credential(&self) -> Option<(HeaderName, HeaderValue)> {
        self.header.clone()
    }

    pub(super) fn secrets(&self, said: Vec<String>) -> Secrets {
        Secrets { key: self.key.clone(), said: said.into() }
    }

    /// Opens a connection unless one is being opened, or was a moment ago. The answer is of no interest.
    pub(super) fn warm(&self) {
        let request = Request::builder().method(Method::GET).uri(self.idle.clone());
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
