//! Google Cloud: Speech-to-Text, given the telephone's own sound, and Text-to-Speech.
//!
//! By REST, one answer to one request; by gRPC, over which alone Google streams, what is understood while a caller speaks, and
//! those voices that stream.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;
use url::Url;

use super::{
    ProviderError, SpeechToText, TextToSpeech,
    endpoint::{Endpoint, Manner, Server, SettingsError},
    exchange::{Answer, Outlet},
    fault::Secrets,
    grpc::Way,
    http::Client,
    question::Question,
};

mod account;
mod language;
pub mod recognize;
mod streamed;
mod streaming;
pub mod synthesize;
mod token;

use account::ServiceAccount;
use token::{Token, Tokens};

/// Header of an API key.
const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// Longest wait for a connection of gRPC: sound, or a caller, waits meanwhile.
const OPEN_LIMIT: Duration = Duration::from_secs(4);

/// Speech-to-text.
///
/// # Errors
/// When the settings cannot work.
pub fn speech_to_text(client: &Client, settings: recognize::Settings) -> Result<Arc<dyn SpeechToText>, SettingsError> {
    let access = Access::new(client, &settings.server, "speech:recognize")?;
    Ok(Arc::new(recognize::Recognizer::new(access, settings)?))
}

/// Text-to-speech.
///
/// # Errors
/// When the settings cannot work.
pub fn text_to_speech(client: &Client, settings: synthesize::Settings) -> Result<Arc<dyn TextToSpeech>, SettingsError> {
    settings.check()?;
    let access = Access::new(client, &settings.server, "text:synthesize")?;
    if streamed::serves(&settings) {
        return Ok(Arc::new(streamed::Voice::new(access, settings)?));
    }
    Ok(Arc::new(synthesize::Voice::new(access, settings)))
}

/// Whether a key is an API key, or the file of a service account that can be used.
///
/// # Errors
/// When it is a file that cannot.
pub fn check_key(key: &str) -> Result<(), SettingsError> {
    if is_file(key) { ServiceAccount::parse(key).map(|_| ()) } else { Ok(()) }
}

fn is_file(key: &str) -> bool {
    key.trim_start().starts_with('{')
}

/// Where Google is, and as whom it is asked.
#[derive(Debug, Clone)]
struct Access {
    endpoint: Endpoint,
    /// Where no API key is given.
    tokens: Option<Arc<Tokens>>,
}

impl Access {
    fn new(client: &Client, server: &Server, path: &str) -> Result<Self, SettingsError> {
        let file = server.key.as_ref().filter(|key| is_file(key.expose()));
        let tokens = file.map(|file| ServiceAccount::parse(file.expose())).transpose()?.map(Tokens::new).map(Arc::new);
        let server = Server { key: server.key.clone().filter(|_| tokens.is_none()), ..server.clone() };
        // Whatever is said to that costs nothing.
        let endpoint = Endpoint::new(client, &server, Manner::with_header(path, "operations", API_KEY))?;
        Ok(Self { endpoint, tokens })
    }

    /// A question; `said` must not come back in an error's words.
    fn question(&self, body: &Value, said: Vec<String>) -> Asked {
        Asked { access: self.clone(), body: body.to_string().into(), said }
    }

    /// To the host of `base`, whose path is that of REST, for gRPC.
    fn way(&self, base: &Url) -> Result<Way, SettingsError> {
        let mut url = base.clone();
        url.set_path("");
        url.set_query(None);
        url.set_fragment(None);
        Way::new(&url, self.endpoint.limits.first.min(OPEN_LIMIT)).map_err(|_| SettingsError::Address)
    }

    /// What shows who asks, for requests that are not sent here.
    async fn credentials(&self) -> Result<Credentials, ProviderError> {
        let mut credentials = Credentials {
            headers: self.endpoint.credential().into_iter().collect(),
            token: None,
            secrets: self.endpoint.secrets(Vec::new()),
        };
        if let Some(tokens) = &self.tokens {
            let token = tokens.ahead(&self.endpoint).await?;
            credentials.headers.extend(token.headers());
            credentials.secrets.key = Some(token.secret());
            credentials.token = Some(token);
        }
        Ok(credentials)
    }

    /// The token is good for nothing.
    fn forget(&self, refused: &Token) {
        if let Some(tokens) = &self.tokens {
            tokens.forget(refused);
        }
    }

    fn warm(&self) {
        self.endpoint.warm();
        self.warm_token();
    }

    fn warm_token(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.warm(&self.endpoint);
        }
    }
}

/// A question to Google.
#[derive(Debug)]
struct Asked {
    access: Access,
    body: Bytes,
    said: Vec<String>,
}

impl Question for Asked {
    async fn ask<T: Send>(&self, client: &Client, outlet: &mut Outlet<T>) -> Result<(Answer, Secrets), ProviderError> {
        let Access { endpoint, tokens } = &self.access;
        let mut secrets = endpoint.secrets(self.said.clone());
        let request = || endpoint.post("application/json", self.body.clone());
        let Some(tokens) = tokens else {
            return Ok((outlet.ask(client, request()?, &secrets).await?, secrets));
        };
        let mut is_second = false;
        loop {
            let token = tokens.get(client, outlet).await?;
            let mut request = request()?;
            request.headers_mut().extend(token.headers());
            secrets.key = Some(token.secret());
            let answer = outlet.ask(client, request, &secrets).await;
            if outlet.status() != Some(StatusCode::UNAUTHORIZED) {
                return Ok((answer?, secrets));
            }
            // It was withdrawn, or ended early: that says nothing of the account yet.
            tokens.forget(&token);
            if std::mem::replace(&mut is_second, true) {
                return Ok((answer?, secrets));
            }
        }
    }
}

/// What shows who asks.
struct Credentials {
    headers: HeaderMap,
    /// Of an account.
    token: Option<Token>,
    /// What must not be told.
    secrets: Secrets,
}

#[cfg(test)]
mod tests;
