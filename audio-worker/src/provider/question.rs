//! What a provider is asked: a request that each try of an exchange sends anew.

use bytes::Bytes;
use serde_json::Value;

use super::{
    ProviderError,
    endpoint::Endpoint,
    exchange::{Answer, Outlet},
    fault::Secrets,
    http::Client,
};

/// A request to a provider.
pub(super) trait Question: Send + Sync + 'static {
    /// Sends it once: an answer that says success, and what must not be told of it.
    fn ask<T: Send>(
        &self,
        client: &Client,
        outlet: &mut Outlet<T>,
    ) -> impl Future<Output = Result<(Answer, Secrets), ProviderError>> + Send;
}

/// `POST` to an endpoint.
#[derive(Debug)]
pub(super) struct Post {
    endpoint: Endpoint,
    content_type: String,
    body: Bytes,
    secrets: Secrets,
}

impl Post {
    /// A form, with its content type.
    pub(super) fn form(endpoint: &Endpoint, (content_type, body): (String, Bytes)) -> Self {
        Self { endpoint: endpoint.clone(), content_type, body, secrets: endpoint.secrets(Vec::new()) }
    }

    /// JSON; `said` must not come back in an error's words.
    pub(super) fn json(endpoint: &Endpoint, body: &Value, said: Vec<String>) -> Self {
        let (content_type, body) = ("application/json".to_owned(), body.to_string().into());
        Self { endpoint: endpoint.clone(), content_type, body, secrets: endpoint.secrets(said) }
    }
}

impl Question for Post {
    async fn ask<T: Send>(&self, client: &Client, outlet: &mut Outlet<T>) -> Result<(Answer, Secrets), ProviderError> {
        let request = self.endpoint.post(&self.content_type, self.body.clone())?;
        Ok((outlet.ask(client, request, &self.secrets).await?, self.secrets.clone()))
    }
}
