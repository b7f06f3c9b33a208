//! ElevenLabs: voices, with the times of their words, and speech-to-text, of whole turns and while they are said.

use std::sync::Arc;

use http::HeaderName;

use super::{
    SpeechToText, TextToSpeech,
    endpoint::{Endpoint, Manner, Server, SettingsError},
    http::Client,
};

mod alignment;
pub mod realtime;
pub mod transcribe;
pub mod voice;

/// Header of the key.
const API_KEY: HeaderName = HeaderName::from_static("xi-api-key");

/// What realtime models miss, and they alone, is put into words by this model.
const FOR_RECORDINGS: &str = "scribe_v2";

/// Speech-to-text.
///
/// # Errors
/// When the settings cannot work.
pub fn speech_to_text(client: &Client, settings: transcribe::Settings) -> Result<Arc<dyn SpeechToText>, SettingsError> {
    settings.check()?;
    let endpoint = endpoint(client, &settings.server, "speech-to-text")?;
    Ok(Arc::new(transcribe::Scribe::new(endpoint, settings)))
}

/// Speech-to-text by a realtime model, while the caller speaks.
///
/// # Errors
/// When the settings cannot work.
pub fn listening(client: &Client, settings: &realtime::Settings) -> Result<Arc<dyn SpeechToText>, SettingsError> {
    Ok(Arc::new(realtime(client, settings)?))
}

fn realtime(client: &Client, settings: &realtime::Settings) -> Result<realtime::Realtime, SettingsError> {
    let (server, temperature) = (settings.server.clone(), settings.temperature);
    let recordings = transcribe::Settings { server, model: FOR_RECORDINGS.to_owned(), temperature };
    let endpoint = endpoint(client, &settings.server, "speech-to-text")?;
    realtime::Realtime::new(endpoint, settings, speech_to_text(client, recordings)?)
}

/// Text-to-speech.
///
/// # Errors
/// When the settings cannot work.
pub fn text_to_speech(client: &Client, settings: voice::Settings) -> Result<Arc<dyn TextToSpeech>, SettingsError> {
    settings.check()?;
    let output = settings.output()?;
    let mut server = settings.server.clone();
    server.base.query_pairs_mut().append_pair("output_format", &output);
    let times = if settings.word_times { "/with-timestamps" } else { "" };
    let path = format!("text-to-speech/{}/stream{times}", settings.voice);
    Ok(Arc::new(voice::Voice::new(endpoint(client, &server, &path)?, settings)))
}

fn endpoint(client: &Client, server: &Server, path: &str) -> Result<Endpoint, SettingsError> {
    Endpoint::new(client, server, Manner::with_header(path, "models", API_KEY))
}

#[cfg(test)]
mod tests;
