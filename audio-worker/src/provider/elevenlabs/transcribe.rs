//! `POST {base}/speech-to-text`: a stretch of speech as raw samples, its words as JSON.

use bytes::Bytes;
use serde_json::Value;

use crate::provider::{
    Pending, Speech, SpeechToText,
    endpoint::{Endpoint, Server, SettingsError},
    form::Form,
    language,
    question::Post,
    recording::{self, Reading},
};

/// Of each word of some minutes, with its times.
const READING: Reading = Reading { most: 1 << 20, words, missing: "no text in the answer" };

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
        let Endpoint { client, limits, .. } = &self.endpoint;
        recording::transcribe(client, *limits, Post::form(&self.endpoint, self.form(&speech)), READING)
    }

    fn warm(&self) {
        self.endpoint.warm();
    }
}

/// The words in an answer.
fn words(_content_type: &str, body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(answer.get("text")?.as_str()?.trim().to_owned())
}
