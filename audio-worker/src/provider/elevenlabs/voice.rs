//! `POST {base}/text-to-speech/{voice}/stream`: a text in, its sound as it is made, with the times of its words or without.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::alignment::{Alignment, Words};
use crate::{
    dsp::SampleRate,
    provider::{
        Coding, Fault, ProviderError, Sound, Streaming, TextToSpeech,
        endpoint::{Endpoint, Server, SettingsError},
        exchange::{self, Exchange, Outlet},
        fault::{self, Secrets, error},
        http::Client,
        intake::Intake,
        json_stream::Parser,
        language,
        question::{Post, Question},
        voice_body,
    },
};

/// Longest name of a voice; theirs have 20 characters.
const MAX_VOICE_CHARS: usize = 100;

/// Most words whose times may come ahead of all sound; no text that is spoken at once has as many.
const MAX_HELD: usize = 4096;

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://api.elevenlabs.io/v1`, or that of a region.
    pub server: Server,
    /// Such as `eleven_flash_v2_5`.
    pub model: String,
    /// Id of the voice.
    pub voice: String,
    /// What to ask for: samples, MP3 or mu-law.
    pub format: Coding,
    /// The rate of MP3.
    pub rate: SampleRate,
    /// Whether to ask for the times of words as well.
    pub word_times: bool,
    /// 0.7 to 1.2.
    pub speed: Option<f64>,
    /// 0 to 1, as the next two; the voice's own when they are not given.
    pub stability: Option<f64>,
    /// Closeness to the voice's original.
    pub similarity_boost: Option<f64>,
    /// Manner.
    pub style: Option<f64>,
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.model.is_empty() {
            return Err(SettingsError::Model);
        }
        // It becomes a part of the address.
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !(1..=MAX_VOICE_CHARS).contains(&self.voice.len()) || !self.voice.chars().all(is_name) {
            return Err(SettingsError::Voice);
        }
        let is_usual = self.speed.is_none_or(|speed| (0.7..=1.2).contains(&speed));
        if is_usual { Ok(()) } else { Err(SettingsError::Speed) }
    }

    /// What ElevenLabs calls the format. Bit rates of MP3 are those that every plan has and speech needs.
    pub(super) fn output(&self) -> Result<String, SettingsError> {
        match (self.format, self.rate) {
            (Coding::Mulaw, _) => Ok("ulaw_8000".to_owned()),
            (Coding::Pcm(rate), _) => Ok(format!("pcm_{}", rate.hz())),
            (Coding::Mp3, SampleRate::Hz22050) => Ok("mp3_22050_32".to_owned()),
            (Coding::Mp3, SampleRate::Hz24000) => Ok("mp3_24000_48".to_owned()),
            (Coding::Mp3, SampleRate::Hz44100) => Ok("mp3_44100_64".to_owned()),
            (Coding::Mp3, SampleRate::Hz8000 | SampleRate::Hz16000 | SampleRate::Hz48000) | (Coding::Wav, _) => {
                Err(SettingsError::Format)
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Voice {
    endpoint: Endpoint,
    settings: Settings,
}

impl Voice {
    pub(super) const fn new(endpoint: Endpoint, settings: Settings) -> Self {
        Self { endpoint, settings }
    }

    fn request(&self, text: &str, language: &str) -> Value {
        let settings = &self.settings;
        let mut request = json!({"text": text, "model_id": settings.model});
        let own = [
            ("stability", settings.stability),
            ("similarity_boost", settings.similarity_boost),
            ("style", settings.style),
            ("speed", settings.speed),
        ];
        let own: Map<_, _> =
            own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
        if !own.is_empty() {
            request["voice_settings"] = own.into();
        }
        // Older models know many languages and refuse to be told which.
        let is_told = !["_v1", "_v2"].iter().any(|ending| settings.model.ends_with(ending));
        if let Some(language) = language::two_letters(language).filter(|_| is_told) {
            request["language_code"] = language.into();
        }
        request
    }
}

impl TextToSpeech for Voice {
    fn speak(&self, text: &str, language: &str) -> Streaming<Sound> {
        let Endpoint { client, limits, .. } = &self.endpoint;
        let question = Post::json(&self.endpoint, &self.request(text, language), vec![text.to_owned()]);
        let format = self.settings.format;
        if self.settings.word_times {
            exchange::stream(client, *limits, Timed { question, format })
        } else {
            voice_body::speak(client, *limits, question, format)
        }
    }

    fn warm(&self) {
        self.endpoint.warm();
    }
}

/// A voice with the times of its words.
struct Timed {
    question: Post,
    format: Coding,
}

impl Exchange for Timed {
    type Piece = Sound;

    async fn attempt(&self, client: &Client, outlet: &mut Outlet<Sound>) -> Result<(), ProviderError> {
        let (mut answer, secrets) = self.question.ask(client, outlet).await?;
        let (mut parser, mut words) = (Parser::default(), Words::default());
        let (mut intake, mut held) = (Intake::new(self.format, ""), Held::default());
        while let Some(bytes) = outlet.chunk(&mut answer).await? {
            let mut objects = Vec::new();
            let parsed = parser.push(&bytes, &mut objects);
            for object in objects {
                for sound in sounds(&object, &mut intake, &mut words, &secrets)? {
                    held.give(sound, outlet).await?;
                }
            }
            parsed.map_err(|no_object| error(Fault::Malformed, &no_object.to_string()))?;
        }
        if parser.is_inside() {
            return Err(error(Fault::Malformed, "half a JSON object at the end of a voice"));
        }
        let rest = intake.finish()?;
        for sound in words.finish().into_iter().chain(rest) {
            held.give(sound, outlet).await?;
        }
        Ok(())
    }
}

/// A piece of a voice with times.
#[derive(Deserialize)]
struct Piece {
    audio_base64: Option<String>,
    alignment: Option<Alignment>,
}

/// Words ahead of all sound: they are held, since an answer begins with its sound.
#[derive(Debug, Default)]
struct Held {
    words: Vec<Sound>,
    has_sound: bool,
}

impl Held {
    async fn give(&mut self, sound: Sound, outlet: &mut Outlet<Sound>) -> Result<(), ProviderError> {
        if !self.has_sound && matches!(sound, Sound::Word { .. }) {
            if self.words.len() == MAX_HELD {
                return Err(error(Fault::Malformed, "times of words without sound"));
            }
            self.words.push(sound);
            return Ok(());
        }
        self.has_sound = true;
        voice_body::give(sound, outlet).await;
        for word in self.words.drain(..) {
            outlet.give(word).await;
        }
        Ok(())
    }
}

/// What one piece of the answer holds, in the order in which it is to be given.
fn sounds(
    object: &[u8],
    intake: &mut Intake,
    words: &mut Words,
    secrets: &Secrets,
) -> Result<Vec<Sound>, ProviderError> {
    let malformed = |what: &str| error(Fault::Malformed, what);
    let piece: Piece = serde_json::from_slice(object).map_err(|_| malformed("a piece of a voice that is none"))?;
    if piece.audio_base64.is_none()
        && piece.alignment.is_none()
        && let Some(message) = fault::message(object, secrets)
    {
        return Err(error(Fault::Failed, &message));
    }
    let before_ms = intake.given_ms();
    let bytes = STANDARD.decode(piece.audio_base64.unwrap_or_default());
    let bytes = bytes.map_err(|_| malformed("a piece of a voice that is not base64"))?;
    let sound = if bytes.is_empty() { None } else { intake.push(bytes.into())? };
    let mut sounds = piece.alignment.map_or_else(Vec::new, |alignment| words.push(&alignment, before_ms));
    sounds.extend(sound);
    Ok(sounds)
}
