//! `POST {base}/audio/transcriptions`: a stretch of speech as a WAV file, its words as JSON.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::Value;

use super::{Endpoint, Server, SettingsError};
use crate::{
    dsp::SampleRate,
    provider::{
        Fault, Pending, ProviderError, Speech, SpeechToText,
        exchange::{self, Exchange, Outlet},
        fault::{self, error},
        http::Client,
        wav,
    },
};

/// Largest answer: words of some minutes, with all that a server tells about them.
const MAX_ANSWER_BYTES: usize = 256 << 10;
/// What recognisers know under another name than the tag says: IANA's macro-languages and deprecated tags.
const OTHER_NAMES: [(&str, &str); 7] =
    [("cmn", "zh"), ("yue", "zh"), ("fil", "tl"), ("nb", "no"), ("iw", "he"), ("in", "id"), ("ji", "yi")];

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
        let (boundary, body) = self.form(&speech);
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let asked = Asked { endpoint: self.endpoint.clone(), content_type, body };
        exchange::once(&self.endpoint.client, self.endpoint.limits, asked)
    }

    fn warm(&self) {
        self.endpoint.warm();
    }
}

impl Transcriptions {
    /// The form and the boundary between its parts.
    fn form(&self, speech: &Speech) -> (String, Bytes) {
        // Without chance it is still a boundary, which no recording holds by accident.
        let mut chance = [0; 16];
        let _ = getrandom::fill(&mut chance);
        let boundary = format!("tandem-{:032x}", u128::from_ne_bytes(chance));
        let mut text = String::new();
        let mut field = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(text, "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        };
        field("model", &self.model);
        field("response_format", "json");
        field("temperature", &self.temperature.to_string());
        if let Some(prompt) = &self.prompt {
            field("prompt", prompt);
        }
        if let Some(language) = language(&speech.language) {
            field("language", &language);
        }
        let _ = write!(
            text,
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"speech.wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n"
        );
        let mut body = text.into_bytes();
        body.extend(wav::file(SampleRate::Hz16000, &speech.pcm));
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        (boundary, body.into())
    }
}

/// The two letters of ISO 639-1 for a BCP 47 tag; none where there are none, and the server finds out itself.
fn language(tag: &str) -> Option<String> {
    let primary = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let known = OTHER_NAMES.iter().find(|(tag, _)| *tag == primary);
    let name = known.map_or(primary.as_str(), |(_, name)| name);
    let is_short = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_lowercase());
    is_short.then(|| name.to_owned())
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
        let words = words(&answer.content_type(), &body).ok_or_else(|| match fault::message(&body, &secrets) {
            Some(message) => error(Fault::Failed, &message),
            None => error(Fault::Malformed, "no text in the answer"),
        })?;
        outlet.give(words).await;
        Ok(())
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
    fn languages_are_told_as_the_server_knows_them() {
        for (tag, told) in [
            ("en-GB", Some("en")),
            ("DE", Some("de")),
            ("zh-TW", Some("zh")),
            ("cmn-Hans-CN", Some("zh")),
            ("nb-NO", Some("no")),
            ("fil", Some("tl")),
            ("pt_BR", Some("pt")),
            ("", None),
            ("gsw-CH", None),
            ("x-\r\n", None),
            ("multi", None),
        ] {
            assert_eq!(language(tag).as_deref(), told, "{tag}");
        }
    }

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
