//! `POST {base}/text:synthesize`: a text in, its sound in base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Access, Asked, language};
use crate::{
    dsp::SampleRate,
    provider::{
        Coding, Fault, ProviderError, Sound, Streaming, TextToSpeech,
        endpoint::{Server, SettingsError},
        exchange::{self, Exchange, Outlet},
        fault::{self, Secrets, error},
        http::Client,
        question::Question,
        voice_body,
    },
};

/// Largest answer: base64 of two minutes of samples at 24 kHz, and of longer than any text takes as mu-law.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://texttospeech.googleapis.com/v1`, or that of a region; its key may be the file of a service account.
    pub server: Server,
    /// For voices that are a model's, such as `gemini-2.5-flash-tts`; else empty.
    pub model: String,
    /// Such as `en-US-Neural2-C`; empty for any of the language.
    pub voice: String,
    /// What to ask for: samples, MP3 or mu-law.
    pub format: Coding,
    /// The rate of MP3.
    pub rate: SampleRate,
    /// 0.25 to 2.
    pub speed: Option<f64>,
    /// How to say it, for models that can be told.
    pub instructions: Option<String>,
    /// Whether voices that can are to stream; see `streamed.rs`.
    pub streams: bool,
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.format == Coding::Wav {
            return Err(SettingsError::Format);
        }
        let is_usual = self.speed.is_none_or(|speed| (0.25..=2.0).contains(&speed));
        if is_usual { Ok(()) } else { Err(SettingsError::Speed) }
    }
}

#[derive(Debug)]
pub(super) struct Voice {
    access: Access,
    settings: Settings,
}

impl Voice {
    pub(super) const fn new(access: Access, settings: Settings) -> Self {
        Self { access, settings }
    }

    fn request(&self, text: &str, language: &str) -> Value {
        let settings = &self.settings;
        let mut input = json!({"text": text});
        if let Some(instructions) = &settings.instructions {
            input["prompt"] = instructions.as_str().into();
        }
        let mut voice = json!({"languageCode": language::to_speak(language, &settings.voice)});
        for (name, value) in [("name", &settings.voice), ("modelName", &settings.model)] {
            if !value.is_empty() {
                voice[name] = value.as_str().into();
            }
        }
        let (encoding, rate) = match settings.format {
            Coding::Mulaw => ("MULAW", SampleRate::Hz8000),
            Coding::Mp3 => ("MP3", settings.rate),
            Coding::Pcm(rate) => ("LINEAR16", rate),
            // Not asked for; see `Settings::check`.
            Coding::Wav => ("LINEAR16", settings.rate),
        };
        let mut audio = json!({"audioEncoding": encoding, "sampleRateHertz": rate.hz()});
        if let Some(speed) = settings.speed {
            audio["speakingRate"] = speed.into();
        }
        json!({"input": input, "voice": voice, "audioConfig": audio})
    }
}

impl TextToSpeech for Voice {
    fn speak(&self, text: &str, language: &str) -> Streaming<Sound> {
        let said = [Some(text.to_owned()), self.settings.instructions.clone()].into_iter().flatten().collect();
        let voice = Spoken {
            question: self.access.question(&self.request(text, language), said),
            // Samples come with the head of a WAV file; so does mu-law.
            coding: match self.settings.format {
                Coding::Pcm(_) | Coding::Wav => Coding::Wav,
                Coding::Mp3 => Coding::Mp3,
                Coding::Mulaw => Coding::Mulaw,
            },
        };
        exchange::stream(&self.access.endpoint.client, self.access.endpoint.limits, voice)
    }

    fn warm(&self) {
        self.access.warm();
    }
}

struct Spoken {
    question: Asked,
    coding: Coding,
}

impl Exchange for Spoken {
    type Piece = Sound;

    async fn attempt(&self, client: &Client, outlet: &mut Outlet<Sound>) -> Result<(), ProviderError> {
        let (mut answer, secrets) = self.question.ask(client, outlet).await?;
        let body = outlet.whole(&mut answer, MAX_ANSWER_BYTES).await?;
        let sound = sound(&body, &secrets)?;
        drop(body);
        voice_body::play_whole(sound.into(), outlet, self.coding).await
    }
}

/// The bytes of the voice in an answer.
fn sound(body: &[u8], secrets: &Secrets) -> Result<Vec<u8>, ProviderError> {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        #[serde(rename = "audioContent", borrow)]
        content: std::borrow::Cow<'a, str>,
    }
    let Ok(Answer { content }) = serde_json::from_slice(body) else {
        return Err(match fault::message(body, secrets) {
            Some(message) => error(Fault::Failed, &message),
            None => error(Fault::Malformed, "no audioContent in the answer"),
        });
    };
    STANDARD.decode(content.as_bytes()).map_err(|_| error(Fault::Malformed, "audioContent that is not base64"))
}
