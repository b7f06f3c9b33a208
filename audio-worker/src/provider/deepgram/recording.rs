//! `POST {base}/listen`: a stretch of speech as a WAV file, its words as JSON.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use serde_json::Value;

use super::Place;
use crate::{
    dsp::SampleRate,
    provider::{
        Pending, ProviderError, Speech,
        exchange::{Answer, Outlet},
        fault::Secrets,
        http::Client,
        question::Question,
        recording::{self, Reading},
        wav,
    },
};

/// Of words of some minutes, with all that the server tells about them.
const READING: Reading = Reading { most: 1 << 20, words, missing: "no transcript in the answer" };

/// Asks for the words of `speech`.
pub(super) fn transcribe(place: &Place, speech: &Speech) -> Pending<String> {
    let asked = match place.recording(&speech.language) {
        Ok(request) => request,
        Err(error) => return Box::pin(async move { Err(error) }),
    };
    let body = wav::file(SampleRate::Hz16000, &speech.pcm).into();
    let secrets = Secrets { key: place.key.clone(), ..Secrets::default() };
    recording::transcribe(&place.client, place.limits, Asked { request: asked, body, secrets }, READING)
}

struct Asked {
    request: Request<()>,
    body: Bytes,
    secrets: Secrets,
}

impl Question for Asked {
    async fn ask<T: Send>(&self, client: &Client, outlet: &mut Outlet<T>) -> Result<(Answer, Secrets), ProviderError> {
        let (mut head, ()) = self.request.clone().into_parts();
        head.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("audio/wav"));
        let request = Request::from_parts(head, Full::new(self.body.clone()));
        Ok((outlet.ask(client, request, &self.secrets).await?, self.secrets.clone()))
    }
}

/// The words in an answer; empty when nobody spoke.
fn words(_content_type: &str, body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let text = answer["results"]["channels"][0]["alternatives"][0]["transcript"].as_str()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_what_is_none() {
        let whole = r#"{"metadata": {}, "results": {"channels": [{"alternatives": [{"transcript": " hello ", "words": []}]}]}}"#;
        assert_eq!(words("", whole.as_bytes()).as_deref(), Some("hello"));
        for end in 0..whole.len() {
            assert_eq!(words("", &whole.as_bytes()[..end]), None);
        }
        assert_eq!(words("", br#"{"results": {"channels": []}}"#), None);
        assert_eq!(words("", b"<html></html>"), None);
    }
}
