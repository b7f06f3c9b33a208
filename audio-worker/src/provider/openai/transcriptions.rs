//! `POST {base}/audio/transcriptions`: a stretch of speech as a WAV file, its words as JSON.

use bytes::Bytes;
use serde_json::Value;

use super::{Endpoint, Server, SettingsError};
use crate::{
    dsp::SampleRate,
    provider::{
        Pending, Speech, SpeechToText,
        form::Form,
        language,
        question::Post,
        recording::{self, Reading},
        wav,
    },
};

/// Of words of some minutes, with all that a server tells about them.
const READING: Reading = Reading { most: 256 << 10, words, missing: "no text in the answer" };

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub server: Server,
    /// `whisper-1` by default.
    pub model: String,
    /// Words that are likely, to help with their spelling.
    pub prompt: Option<String>,
    /// Randomness, 0 to 1; none by default.
    pub temperature: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { server: Server::default(), model: "whisper-1".to_owned(), prompt: None, temperature: None }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.model.is_empty() { Err(SettingsError::Model) } else { Ok(()) }
    }
}

#[derive(Debug)]
pub(super) struct Transcriptions {
    endpoint: Endpoint,
    model: String,
    prompt: Option<String>,
    temperature: f64,
}

impl Transcriptions {
    pub(super) fn new(endpoint: Endpoint, settings: Settings) -> Self {
        let Settings { model, prompt, temperature, .. } = settings;
        Self { endpoint, model, prompt, temperature: temperature.unwrap_or_default() }
    }
}

impl SpeechToText for Transcriptions {
    fn transcribe(&self, speech: Speech) -> Pending<String> {
        let Endpoint { client, limits, .. } = &self.endpoint;
        recording::transcribe(client, *limits, Post::form(&self.endpoint, self.form(&speech)), READING)
    }

    fn warm(&self) {
        self.endpoint.warm();
    }
}

impl Transcriptions {
    /// The form and its content type.
    fn form(&self, speech: &Speech) -> (String, Bytes) {
        let mut form = Form::new();
        form.field("model", &self.model);
        form.field("response_format", "json");
        form.field("temperature", &self.temperature.to_string());
        if let Some(prompt) = &self.prompt {
            form.field("prompt", prompt);
        }
        if let Some(language) = language::two_letters(&speech.language) {
            form.field("language", &language);
        }
        form.file("speech.wav", "audio/wav", &wav::file(SampleRate::Hz16000, &speech.pcm));
        form.finish()
    }
}

/// The words in an answer. One of plain text is taken by its name alone: HTML and half a JSON are text, too.
fn words(content_type: &str, body: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(answer)) => answer.get("text")?.as_str()?.to_owned(),
        Ok(_) | Err(_) => {
            let text = std::str::from_utf8(body).ok()?.trim();
            let is_plain = content_type == "text/plain" && !text.starts_with(['<', '{']);
            is_plain.then(|| text.to_owned())?
        }
    };
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_what_is_none() {
        for (kind, body, found) in [
            ("application/json", r#"{"text": " hello \n", "usage": {}}"#, Some("hello")),
            ("text/plain", r#"{"text": "hello"}"#, Some("hello")),
            ("text/plain", " hello\n", Some("hello")),
            ("text/plain", "42", Some("42")),
            ("application/json", r#"{"text": ""}"#, Some("")),
            ("text/plain", "", Some("")),
            ("application/json", "", None),
            ("application/json", r#"{"text": "hel"#, None),
            ("text/plain", r#"{"text": "hel"#, None),
            ("application/json", r#"{"text": null}"#, None),
            ("application/json", r#""hello""#, None),
            ("text/html", "<html>hello</html>", None),
            ("text/plain", "<html>hello</html>", None),
            ("", "hello", None),
        ] {
            assert_eq!(words(kind, body.as_bytes()).as_deref(), found, "{kind} {body}");
        }
        assert_eq!(words("text/plain", b"\xff"), None);
    }
}
