//! `google.cloud.texttospeech.v1.TextToSpeech/StreamingSynthesize`: a text in, its sound as it is made.
//!
//! Google streams some voices alone; all others are asked for whole, in `synthesize.rs`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use proto::google_text_to_speech::{
    AudioEncoding, StreamingAudioConfig, StreamingSynthesisInput, StreamingSynthesizeConfig,
    StreamingSynthesizeRequest, StreamingSynthesizeResponse, VoiceSelectionParams,
    streaming_synthesis_input::InputSource, streaming_synthesize_request::StreamingRequest,
    text_to_speech_client::TextToSpeechClient,
};
use tokio::sync::OnceCell;
use tonic::{Extensions, Request, Status, metadata::MetadataMap, transport::Channel};

use super::{
    Access, Credentials, language,
    streaming::message::{self, End},
    synthesize::Settings,
};
use crate::{
    dsp::SampleRate,
    provider::{
        Coding, ProviderError, Sound, Streaming, TextToSpeech,
        endpoint::SettingsError,
        exchange::{self, Exchange, Outlet},
        grpc::Way,
        http::Client,
        intake::Intake,
        voice_body,
    },
};

/// Largest piece taken: two minutes of samples at 24 kHz.
const MAX_MESSAGE_BYTES: usize = 6 << 20;

/// Part of the names of voices that stream, and the beginning of the names of models whose voices do:
/// <https://cloud.google.com/text-to-speech/docs/create-audio-text-streaming>.
const VOICES: &str = "Chirp3-HD";
const MODELS: &str = "gemini-";

/// Whether Google streams such a voice: not each voice, and no MP3.
pub(super) fn serves(settings: &Settings) -> bool {
    let is_of_model = settings.model.starts_with(MODELS);
    let can = if settings.model.is_empty() { settings.voice.contains(VOICES) } else { is_of_model };
    settings.streams && can && matches!(settings.format, Coding::Pcm(_) | Coding::Mulaw)
}

/// A voice that is heard while it is made.
#[derive(Debug)]
pub(super) struct Voice {
    line: Arc<Line>,
    settings: Settings,
}

/// The way to Google, which all texts of an agent share.
#[derive(Debug)]
struct Line {
    access: Access,
    way: Way,
    /// Opened with the first text, or ahead of it; it finds its own way back when it was lost.
    channel: OnceCell<Channel>,
    is_warming: AtomicBool,
}

impl Line {
    async fn client(&self) -> Result<TextToSpeechClient<Channel>, ProviderError> {
        let channel = self.channel.get_or_try_init(|| self.way.connect()).await?;
        Ok(TextToSpeechClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }
}

impl Voice {
    pub(super) fn new(access: Access, settings: Settings) -> Result<Self, SettingsError> {
        let way = access.way(&settings.server.base)?;
        Ok(Self {
            line: Arc::new(Line { access, way, channel: OnceCell::new(), is_warming: AtomicBool::new(false) }),
            settings,
        })
    }

    fn config(&self, language: &str) -> StreamingSynthesizeConfig {
        let settings = &self.settings;
        let (encoding, rate) = match settings.format {
            Coding::Pcm(rate) => (AudioEncoding::Pcm, rate),
            // Nothing else is streamed; see `serves`.
            Coding::Mulaw | Coding::Mp3 | Coding::Wav => (AudioEncoding::Mulaw, SampleRate::Hz8000),
        };
        StreamingSynthesizeConfig {
            voice: Some(VoiceSelectionParams {
                language_code: language::to_speak(language, &settings.voice),
                name: settings.voice.clone(),
                model_name: settings.model.clone(),
            }),
            streaming_audio_config: Some(StreamingAudioConfig {
                audio_encoding: encoding.into(),
                sample_rate_hertz: i32::try_from(rate.hz()).unwrap_or_default(),
                speaking_rate: settings.speed.unwrap_or_default(),
            }),
        }
    }
}

impl TextToSpeech for Voice {
    fn speak(&self, text: &str, language: &str) -> Streaming<Sound> {
        let input = StreamingSynthesisInput {
            prompt: self.settings.instructions.clone(),
            input_source: Some(InputSource::Text(text.to_owned())),
        };
        let endpoint = &self.line.access.endpoint;
        let asked = Asked {
            line: Arc::clone(&self.line),
            said: [Some(text.to_owned()), self.settings.instructions.clone()].into_iter().flatten().collect(),
            requests: [StreamingRequest::StreamingConfig(self.config(language)), StreamingRequest::Input(input)],
            coding: self.settings.format,
        };
        exchange::stream(&endpoint.client, endpoint.limits, asked)
    }

    fn warm(&self) {
        let line = Arc::clone(&self.line);
        line.access.warm_token();
        if line.channel.initialized() || line.is_warming.swap(true, Ordering::AcqRel) {
            return;
        }
        self.line.access.endpoint.client.runtime().spawn(async move {
            if let Err(error) = line.client().await {
                tracing::debug!(%error, "no connection ahead of a voice");
            }
            line.is_warming.store(false, Ordering::Release);
        });
    }
}

struct Asked {
    line: Arc<Line>,
    requests: [StreamingRequest; 2],
    said: Vec<String>,
    coding: Coding,
}

impl Exchange for Asked {
    type Piece = Sound;

    async fn attempt(&self, _: &Client, outlet: &mut Outlet<Sound>) -> Result<(), ProviderError> {
        let mut client = outlet.within(self.line.client()).await??;
        let mut is_second = false;
        loop {
            let mut credentials = outlet.within(self.line.access.credentials()).await??;
            credentials.secrets.said = self.said.clone().into();
            match self.play(&mut client, outlet, &credentials).await {
                Err(End::Token(error)) => {
                    if let Some(token) = &credentials.token {
                        self.line.access.forget(token);
                    }
                    // It was withdrawn, or ended early: that says nothing of the account yet.
                    if outlet.has_given() || std::mem::replace(&mut is_second, true) {
                        return Err(error);
                    }
                }
                Err(End::Limit(error) | End::Fault(error)) => return Err(error),
                Ok(()) | Err(End::Done) => return Ok(()),
            }
        }
    }
}

impl Asked {
    async fn play(
        &self,
        client: &mut TextToSpeechClient<Channel>,
        outlet: &mut Outlet<Sound>,
        credentials: &Credentials,
    ) -> Result<(), End> {
        let told = |status: Status| message::ended(&status, credentials.token.is_some(), &credentials.secrets);
        let requests =
            self.requests.clone().map(|request| StreamingSynthesizeRequest { streaming_request: Some(request) });
        let metadata = MetadataMap::from_headers(credentials.headers.clone());
        let request = Request::from_parts(metadata, Extensions::default(), tokio_stream::iter(requests));
        let asked = outlet.within(client.streaming_synthesize(request)).await.map_err(End::Fault)?;
        let mut answers = asked.map_err(told)?.into_inner();
        let mut intake = Intake::new(self.coding, "");
        loop {
            let answer = outlet.within(answers.message()).await.map_err(End::Fault)?.map_err(told)?;
            let is_all = answer.is_none();
            let taken = match answer {
                Some(StreamingSynthesizeResponse { audio_content }) => intake.push(audio_content),
                None => intake.finish(),
            };
            if let Some(sound) = taken.map_err(|none| End::Fault(none.into()))? {
                voice_body::give(sound, outlet).await;
            }
            if is_all {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
