//! `POST {base}/audio/speech`: a text in, its sound as raw samples, or as a WAV or MP3 file that is still being made.

use serde_json::{Map, Value};

use super::{Endpoint, Server, SettingsError};
use crate::{
    dsp::SampleRate,
    provider::{Coding, Sound, Streaming, TextToSpeech, question::Post, voice_body},
};

/// Most characters of instructions, as OpenAI describes them.
const MAX_INSTRUCTIONS: usize = 4096;

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub server: Server,
    /// `gpt-4o-mini-tts` by default.
    pub model: String,
    /// `alloy` by default.
    pub voice: String,
    /// What to ask for; OpenAI's PCM of 24 kHz by default.
    pub format: Coding,
    /// 0.25 to 4; the server's own when it is not given.
    pub speed: Option<f64>,
    /// How to say it, for models that can be told; at most 4096 characters.
    pub instructions: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: Server::default(),
            model: "gpt-4o-mini-tts".to_owned(),
            voice: "alloy".to_owned(),
            format: Coding::Pcm(SampleRate::Hz24000),
            speed: None,
            instructions: None,
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.model.is_empty() {
            return Err(SettingsError::Model);
        }
        if self.voice.is_empty() {
            return Err(SettingsError::Voice);
        }
        if self.format == Coding::Mulaw {
            return Err(SettingsError::Format);
        }
        if self.speed.is_some_and(|value| !(0.25..=4.0).contains(&value)) {
            return Err(SettingsError::Speed);
        }
        let is_long = |text: &String| text.chars().count() > MAX_INSTRUCTIONS;
        if self.instructions.as_ref().is_some_and(is_long) { Err(SettingsError::Instructions) } else { Ok(()) }
    }
}

#[derive(Debug)]
pub(super) struct Voice {
    endpoint: Endpoint,
    settings: Settings,
}

impl Voice {
    pub(super) fn new(endpoint: Endpoint, settings: Settings) -> Self {
        Self { endpoint, settings }
    }

    fn request(&self, text: &str) -> Value {
        let settings = &self.settings;
        let format = match settings.format {
            Coding::Pcm(_) => "pcm",
            // OpenAI has no other; see `Settings::check`.
            Coding::Wav | Coding::Mulaw => "wav",
            Coding::Mp3 => "mp3",
        };
        let mut request = Map::new();
        let words = [("model", settings.model.as_str()), ("voice", &settings.voice), ("input", text)];
        for (name, value) in words.into_iter().chain([("response_format", format)]) {
            request.insert(name.to_owned(), value.into());
        }
        if let Some(speed) = settings.speed {
            request.insert("speed".to_owned(), speed.into());
        }
        if let Some(instructions) = &settings.instructions {
            request.insert("instructions".to_owned(), instructions.as_str().into());
        }
        request.into()
    }
}

impl TextToSpeech for Voice {
    /// The language is the text's own: the protocol has no field for it.
    fn speak(&self, text: &str, _language: &str) -> Streaming<Sound> {
        let said = [Some(text.to_owned()), self.settings.instructions.clone()].into_iter().flatten().collect();
        let question = Post::json(&self.endpoint, &self.request(text), said);
        let Endpoint { client, limits, .. } = &self.endpoint;
        voice_body::speak(client, *limits, question, self.settings.format)
    }

    fn warm(&self) {
        self.endpoint.warm();
    }
}
