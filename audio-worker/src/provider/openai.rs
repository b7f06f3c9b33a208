//! Providers that speak as OpenAI does: OpenAI itself, and vLLM, Ollama, Kokoro, CSM, faster-whisper servers and others.

use std::sync::Arc;

pub use super::endpoint::{Server, SettingsError};
use super::{
    Chat, SpeechToText, TextToSpeech,
    endpoint::{Endpoint, Manner},
    http::Client,
};

mod calls;
pub mod chat;
pub mod speech;
pub mod transcriptions;

/// Speech-to-text of this server.
///
/// # Errors
/// When the settings cannot work.
pub fn speech_to_text(
    client: &Client,
    settings: transcriptions::Settings,
) -> Result<Arc<dyn SpeechToText>, SettingsError> {
    settings.check()?;
    Ok(Arc::new(transcriptions::Transcriptions::new(
        endpoint(client, &settings.server, "audio/transcriptions")?,
        settings,
    )))
}

/// The chat model of this server.
///
/// # Errors
/// When the settings cannot work.
pub fn chat(client: &Client, settings: chat::Settings) -> Result<Arc<dyn Chat>, SettingsError> {
    settings.check()?;
    Ok(Arc::new(chat::Completions::new(endpoint(client, &settings.server, "chat/completions")?, settings)))
}

/// Text-to-speech of this server.
///
/// # Errors
/// When the settings cannot work.
pub fn text_to_speech(client: &Client, settings: speech::Settings) -> Result<Arc<dyn TextToSpeech>, SettingsError> {
    settings.check()?;
    Ok(Arc::new(speech::Voice::new(endpoint(client, &settings.server, "audio/speech")?, settings)))
}

fn endpoint(client: &Client, server: &Server, path: &str) -> Result<Endpoint, SettingsError> {
    Endpoint::new(client, server, Manner::bearer(path, "models"))
}

#[cfg(test)]
pub(super) mod tests;
