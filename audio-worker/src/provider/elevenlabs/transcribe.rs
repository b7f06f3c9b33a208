//! `POST {base}/speech-to-text`: a stretch of speech as raw samples, its words as JSON.

use bytes::Bytes;
use serde_json::Value;

use crate::provider::{
    Fault, Pending, ProviderError, Speech, SpeechToText,
    endpoint::{Endpoint, Server, SettingsError},
    exchange::{self, Exchange, Outlet},
    fault::{self, error},
    form::Form,
    http::Client,
    language,
};

/// Largest answer: each word of some minutes, with its times.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://api.elevenlabs.io/v1`.
    pub server: Server,
    /// Such as `scribe_v1`.
    pub model: String,
    /// Randomness, 0 to 2; the model's own when it is not given.
    pub temperature: Option<f64>,
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.model.is_empty() { Err(SettingsError::Model) } else { Ok(()) }
    }
}

#[derive(Debug)]
pub(super) struct Scribe {
    endpoint: Endpoint,
    settings: Settings,
}

impl Scribe {
    pub(super) const fn new(endpoint: Endpoint, settings: Settings) -> Self {
        Self { endpoint, settings }
    }

    fn form(&self, speech: &Speech) -> (String, Bytes) {
        let mut form = Form::new();
        form.field("model_id", &self.settings.model);
        // Samples of 16 kHz without a head are understood sooner than files.
        form.field("file_format", "pcm_s16le_16");
        form.field("tag_audio_events", "false");
        form.field("timestamps_granularity", "none");
        if let Some(temperature) = self.settings.temperature {
            form.field("temperature", &temperature.to_string());
        }
        if let Some(language) = language::two_letters(&speech.language) {
            form.field("language_code", &language);
        }
        let bytes: Vec<u8> = speech.pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        form.file("speech.pcm", "application/octet-stream", &bytes);
        form.finish()
    }
}

impl SpeechToText for Scribe {
    fn transcribe(&self, speech: Speech) -> Pending<String> {
        let (content_type, body) = self.form(&speech);
        let asked = Asked { endpoint: self.endpoint.clone(), content_type, body };
        exchange::once(&self.endpoint.client, self.endpoint.limits, asked)
    }

    fn warm(&self) {
        self.endpoint.warm();
    }
}

struct Asked {
    endpoint: Endpoint,
    content_type: String,
    body: Bytes,
}

impl Exchange for Asked {
    type Piece = String;

    async fn attempt(&self, client: &Client, outlet: &mut Outlet<String>) -> Result<(), ProviderError> {
        let request = self.endpoint.post(&self.content_type, self.body.clone())?;
        let secrets = self.endpoint.secrets(Vec::new());
        let mut answer = outlet.ask(client, request, &secrets).await?;
        let body = outlet.whole(&mut answer, MAX_ANSWER_BYTES).await?;
        let found: Option<Value> = serde_json::from_slice(&body).ok();
        let text = found.as_ref().and_then(|answer| answer.get("text")?.as_str());
        let words = text.ok_or_else(|| match fault::message(&body, &secrets) {
            Some(message) => error(Fault::Failed, &message),
            None => error(Fault::Malformed, "no text in the answer"),
        })?;
        outlet.give(words.trim().to_owned()).await;
        Ok(())
    }
}
