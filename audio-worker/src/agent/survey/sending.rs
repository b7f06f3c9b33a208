//! Sends results of surveys over the worker's HTTP client.

use std::sync::Arc;

use http::{Method, Request};
use http_body_util::Full;
use telemetry::https::retry_after;

use super::results::{Answered, Post, Send};
use crate::provider::{http::Client, openai::SettingsError};

/// Sends by `client`, on whose runtime this has to be called.
pub fn by(client: Client) -> Arc<Send> {
    Arc::new(move |post: Post| {
        let client = client.clone();
        Box::pin(async move {
            let url = post.url.expose();
            if !matches!(url.scheme(), "http" | "https") {
                return Err(SettingsError::Scheme.to_string());
            }
            let mut request = Request::builder().method(Method::POST).uri(url.as_str());
            for (name, value) in post.headers {
                request = request.header(name, value);
            }
            let request = request.body(Full::new(post.body.expose().clone())).map_err(|_| "no request".to_owned())?;
            let answer = client.send(request).await.map_err(|error| error.detail)?;
            Ok(Answered { status: answer.status().as_u16(), retry_after: retry_after(answer.headers()) })
        })
    })
}
