//! Tokens of a service account: got when they are needed, kept until they are about to end, one request for one at a time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::Full;
use serde_json::Value;
use telemetry::Sensitive;
use tokio::time::Instant;

use super::account::ServiceAccount;
use crate::provider::{
    Fault, Pending, ProviderError,
    endpoint::Endpoint,
    exchange::{self, Exchange, Outlet},
    fault::{self, Secrets, error},
    http::Client,
};

/// A token is not used in its last minute.
const MARGIN: Duration = Duration::from_secs(60);
/// Largest answer with a token.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Who pays, where that is not the account's own project.
const USER_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");

/// The tokens of one account.
#[derive(Debug)]
pub(super) struct Tokens {
    account: ServiceAccount,
    /// Held for a look-up.
    kept: Mutex<Option<Token>>,
    /// Held by whoever asks for a new one.
    asking: tokio::sync::Mutex<()>,
}

/// What shows who asks.
#[derive(Debug, Clone)]
pub(super) struct Token {
    token: Sensitive<String>,
    authorization: HeaderValue,
    quota_project: Option<HeaderValue>,
    until: Instant,
}

impl Token {
    pub(super) fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let project = self.quota_project.clone().map(|project| (USER_PROJECT, project));
        [(header::AUTHORIZATION, self.authorization.clone())].into_iter().chain(project)
    }

    pub(super) fn secret(&self) -> Sensitive<String> {
        self.token.clone()
    }
}

impl Tokens {
    pub(super) fn new(account: ServiceAccount) -> Self {
        Self { account, kept: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// A token that is good for a while.
    ///
    /// # Errors
    /// When none is to be had in time.
    pub(super) async fn get<T>(&self, client: &Client, outlet: &mut Outlet<T>) -> Result<Token, ProviderError> {
        if let Some(token) = self.kept() {
            return Ok(token);
        }
        let _asking = outlet.within(self.asking.lock()).await?;
        // Somebody else may have got it meanwhile.
        if let Some(token) = self.kept() {
            return Ok(token);
        }
        let token = self.ask(client, outlet).await?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }

    /// `refused` is good for nothing; somebody else may have got another one meanwhile.
    pub(super) fn forget(&self, refused: &Token) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take_if(|token| token.token == refused.token);
    }

    /// Gets one ahead of the first request.
    pub(super) fn warm(self: &Arc<Self>, endpoint: &Endpoint) {
        if self.kept().is_some() {
            return;
        }
        let got = self.ahead(endpoint);
        endpoint.client.runtime().spawn(async move {
            if let Err(error) = got.await {
                tracing::debug!(%error, "no token ahead of a request");
            }
        });
    }

    /// A token for a request that is no [`Exchange`].
    pub(super) fn ahead(self: &Arc<Self>, endpoint: &Endpoint) -> Pending<Token> {
        match self.kept() {
            Some(token) => Box::pin(async { Ok(token) }),
            None => exchange::once(&endpoint.client, endpoint.limits, Ahead(Arc::clone(self))),
        }
    }

    fn kept(&self) -> Option<Token> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone().filter(|token| now() < token.until)
    }

    async fn ask<T>(&self, client: &Client, outlet: &mut Outlet<T>) -> Result<Token, ProviderError> {
        let assertion = self.account.assertion(unix_seconds());
        let assertion = assertion.ok_or_else(|| error(Fault::Denied, "the service account's key signs nothing"))?;
        let form = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        let request = Request::post(self.account.token_uri.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form)))
            .map_err(|_| error(Fault::Rejected, "a request that HTTP cannot carry"))?;
        let secrets = Secrets { key: Some(assertion.into()), ..Secrets::default() };
        let mut answer = outlet.ask(client, request, &secrets).await.map_err(|told| match told.kind {
            // A key that was withdrawn, or an account that is gone.
            Fault::Rejected => error(Fault::Denied, &format!("no token: {}", told.detail)),
            Fault::Unreachable
            | Fault::Timeout
            | Fault::Denied
            | Fault::Busy
            | Fault::Failed
            | Fault::Malformed
            | Fault::Empty => error(told.kind, &format!("no token: {}", told.detail)),
        })?;
        let asked = now();
        let body = outlet.whole(&mut answer, MAX_ANSWER_BYTES).await?;
        self.read(&body, asked).ok_or_else(|| match fault::message(&body, &secrets) {
            Some(message) => error(Fault::Failed, &format!("no token: {message}")),
            None => error(Fault::Malformed, "no token in the answer to the service account"),
        })
    }

    fn read(&self, body: &[u8], asked: Instant) -> Option<Token> {
        let answer: Value = serde_json::from_slice(body).ok()?;
        let token = answer["access_token"].as_str().filter(|token| !token.is_empty())?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        authorization.set_sensitive(true);
        let lasts = Duration::from_secs(answer["expires_in"].as_u64().unwrap_or_default().min(86_400));
        Some(Token {
            token: token.to_owned().into(),
            authorization,
            quota_project: self.account.quota_project.clone(),
            until: asked + lasts.saturating_sub(MARGIN),
        })
    }
}

/// A token by itself.
struct Ahead(Arc<Tokens>);

impl Exchange for Ahead {
    type Piece = Token;

    async fn attempt(&self, client: &Client, outlet: &mut Outlet<Token>) -> Result<(), ProviderError> {
        let token = self.0.get(client, outlet).await?;
        outlet.give(token).await;
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver: tokens end in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a driver: an assertion says when it was made")]
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_token_than_the_refused_one_is_kept() {
        let file = crate::provider::google::account::tests::file("https://example.com/token");
        let tokens = Tokens::new(ServiceAccount::parse(&file.to_string()).unwrap());
        let token = |name: &str| {
            let answer = format!(r#"{{"access_token": "{name}", "expires_in": 3599}}"#);
            tokens.read(answer.as_bytes(), now()).unwrap()
        };
        *tokens.kept.lock().unwrap() = Some(token("new"));
        tokens.forget(&token("old"));
        assert_eq!(tokens.kept().unwrap().secret().expose(), "new");
        tokens.forget(&token("new"));
        assert!(tokens.kept().is_none());
    }
}
