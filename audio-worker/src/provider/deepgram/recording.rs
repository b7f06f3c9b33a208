//! `POST {base}/listen`: a stretch of speech as a WAV file, its words as JSON.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use serde_json::Value;

use super::Place;
use crate::{
    dsp::SampleRate,
    provider::{
        Fault, Pending, ProviderError, Speech,
        exchange::{self, Exchange, Outlet},
        fault::{Secrets, error},
        http::Client,
        wav,
    },
};

/// Largest answer: words of some minutes, with all that the server tells about them.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Asks for the words of `speech`.
pub(super) fn transcribe(place: &Place, speech: &Speech) -> Pending<String> {
    let asked = match place.recording(&speech.language) {
        Ok(request) => request,
        Err(error) => return Box::pin(async move { Err(error) }),
    };
    let body = wav::file(SampleRate::Hz16000, &speech.pcm).into();
    let secrets = Secrets { key: place.key.clone(), ..Secrets::default() };
    exchange::once(&place.client, place.limits, Asked { request: asked, body, secrets })
}

struct Asked {
    request: Request<()>,
    body: Bytes,
    secrets: Secrets,
}

impl Exchange for Asked {
    type Piece = String;

    async fn attempt(&self, client: &Client, outlet: &mut Outlet<String>) -> Result<(), ProviderError> {
        let (mut head, ()) = self.request.clone().into_parts();
        head.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("audio/wav"));
        let request = Request::from_parts(head, Full::new(self.body.clone()));
        let mut answer = outlet.ask(client, request, &self.secrets).await?;
        let body = outlet.whole(&mut answer, MAX_ANSWER_BYTES).await?;
        let words = words(&body).ok_or_else(|| error(Fault::Malformed, "no transcript in the answer"))?;
        outlet.give(words).await;
        Ok(())
    }
}

/// The words in an answer; empty when nobody spoke.
fn words(body: &[u8]) -> Option<String> {
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
        assert_eq!(words(whole.as_bytes()).as_deref(), Some("hello"));
        for end in 0..whole.len() {
            assert_eq!(words(&whole.as_bytes()[..end]), None);
        }
        assert_eq!(words(br#"{"results": {"channels": []}}"#), None);
        assert_eq!(words(b"<html></html>"), None);
    }
}
