//! `google.cloud.speech.v1.Speech/StreamingRecognize`: the telephone's own sound while it is spoken, over gRPC.

use std::sync::Arc;

use bytes::Bytes;
use proto::google_speech::{
    RecognitionConfig, SpeechContext, StreamingRecognitionConfig, recognition_config::AudioEncoding,
};
use url::Url;

use super::Access;
use crate::provider::{endpoint::SettingsError, listening::Listening};
use session::{Service, Session};

mod course;
pub(super) mod message;
mod session;

/// What listens to calls.
#[derive(Debug)]
pub(super) struct Streaming(Arc<Service>);

impl Streaming {
    /// At the host of `base`, whose path is that of REST. `ends` is whether Google's ends of speech are told.
    pub(super) fn new(access: Access, base: &Url, ends: bool) -> Result<Self, SettingsError> {
        let way = access.way(base)?;
        Ok(Self(Arc::new(Service { access, way, ends })))
    }

    /// Begins to listen in `language`, as Google calls it.
    pub(super) fn listen(
        &self,
        language: String,
        model: &str,
        phrases: &[String],
        earlier: Bytes,
    ) -> Box<dyn Listening> {
        let contexts = (!phrases.is_empty()).then(|| SpeechContext { phrases: phrases.to_vec() });
        let config = RecognitionConfig {
            encoding: AudioEncoding::Mulaw.into(),
            sample_rate_hertz: 8000,
            language_code: language,
            speech_contexts: contexts.into_iter().collect(),
            enable_word_time_offsets: true,
            enable_automatic_punctuation: true,
            model: model.to_owned(),
        };
        let config = StreamingRecognitionConfig {
            config: Some(config),
            single_utterance: false,
            interim_results: true,
            enable_voice_activity_events: self.0.ends,
        };
        Box::new(Session::begin(Arc::clone(&self.0), config, earlier))
    }
}
