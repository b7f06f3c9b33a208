//! `POST {base}/speech:recognize`: a stretch of the telephone's own sound, its words as JSON. Calls are listened to beside it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Access, language, streaming::Streaming};
use crate::provider::{
    Pending, Speech, SpeechToText,
    endpoint::{Endpoint, Server, SettingsError},
    listening::Listening,
    recording::{self, Reading},
};

/// Longest sound of one request, in seconds: Google takes a minute.
const MAX_SECONDS: usize = 59;
/// Most phrases that help, and their length in characters, as Google's quotas say.
const MAX_PHRASES: usize = 500;
const MAX_PHRASE_CHARS: usize = 100;

/// Of what was said in that time.
const READING: Reading = Reading { most: 256 << 10, words, missing: "no results in the answer" };

/// What is asked of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://speech.googleapis.com/v1`, or that of a region; its key may be the file of a service account.
    pub server: Server,
    /// Such as `latest_long` or `telephony`; empty to leave it to Google.
    pub model: String,
    /// Phrases that are likely, with commas or line breaks between.
    pub prompt: Option<String>,
    /// How calls are listened to while they go on; where they are not, whole turns are asked for.
    pub streaming: Option<Streams>,
}

/// How a call is listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// Google is asked when speech ends.
    pub ends: bool,
}

#[derive(Debug)]
pub(super) struct Recognizer {
    access: Access,
    model: String,
    phrases: Vec<String>,
    streaming: Option<Streaming>,
}

impl Recognizer {
    pub(super) fn new(access: Access, settings: Settings) -> Result<Self, SettingsError> {
        let base = &settings.server.base;
        let streaming = settings.streaming.map(|Streams { ends }| Streaming::new(access.clone(), base, ends));
        let prompt = settings.prompt.unwrap_or_default();
        let phrases = prompt.split([',', ';', '\n']).map(str::trim).filter(|phrase| !phrase.is_empty());
        let phrases = phrases.map(|phrase| phrase.chars().take(MAX_PHRASE_CHARS).collect()).take(MAX_PHRASES).collect();
        Ok(Self { access, model: settings.model, phrases, streaming: streaming.transpose()? })
    }

    fn request(&self, speech: &Speech) -> Value {
        let mut config = json!({
            "languageCode": language::to_hear(&speech.language),
            "enableAutomaticPunctuation": true,
            "profanityFilter": false,
        });
        if !self.model.is_empty() {
            config["model"] = self.model.as_str().into();
        }
        if !self.phrases.is_empty() {
            config["speechContexts"] = json!([{"phrases": self.phrases}]);
        }
        let (encoding, hz, content) = if speech.mulaw.is_empty() {
            let newest = &speech.pcm[speech.pcm.len().saturating_sub(MAX_SECONDS * 16_000)..];
            let bytes: Vec<u8> = newest.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            ("LINEAR16", 16_000, STANDARD.encode(bytes))
        } else {
            let newest = &speech.mulaw[speech.mulaw.len().saturating_sub(MAX_SECONDS * 8000)..];
            ("MULAW", 8000, STANDARD.encode(newest))
        };
        config["encoding"] = encoding.into();
        config["sampleRateHertz"] = hz.into();
        json!({"config": config, "audio": {"content": content}})
    }
}

impl SpeechToText for Recognizer {
    /// Of speech of a minute and more, the beginning is left out.
    fn transcribe(&self, speech: Speech) -> Pending<String> {
        let Endpoint { client, limits, .. } = &self.access.endpoint;
        recording::transcribe(client, *limits, self.access.question(&self.request(&speech), Vec::new()), READING)
    }

    fn wants_native(&self) -> bool {
        true
    }

    fn listen(&self, language: &str, earlier: Bytes) -> Option<Box<dyn Listening>> {
        let streaming = self.streaming.as_ref()?;
        Some(streaming.listen(language::to_hear(language), &self.model, &self.phrases, earlier))
    }

    fn warm(&self) {
        self.access.warm();
    }
}

/// The words in an answer: the likeliest of each stretch. Where nothing was said there are no results.
fn words(_content_type: &str, body: &[u8]) -> Option<String> {
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else { return None };
    if answer.contains_key("error") {
        return None;
    }
    let results = match answer.get("results") {
        None | Some(Value::Null) => return Some(String::new()),
        Some(results) => results.as_array()?,
    };
    let stretches = results.iter().map(|result| result["alternatives"][0]["transcript"].as_str().unwrap_or_default());
    Some(stretches.map(str::trim).filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_what_is_none() {
        for (body, found) in [
            (r#"{"results":[{"alternatives":[{"transcript":"hello","confidence":0.9}]}]}"#, Some("hello")),
            (
                r#"{"results":[{"alternatives":[{"transcript":"one"},{"transcript":"won"}]},{},
                    {"alternatives":[{"transcript":" two "}],"languageCode":"en-us"}],"totalBilledTime":"2s"}"#,
                Some("one two"),
            ),
            ("{}", Some("")),
            (r#"{"totalBilledTime":"1s","requestId":"7"}"#, Some("")),
            (r#"{"results":[]}"#, Some("")),
            (r#"{"results":[{"alternatives":[]}]}"#, Some("")),
            (r#"{"results":"x"}"#, None),
            (r#"{"error":{"code":3,"message":"x"}}"#, None),
            (r#"{"results":[{"alter"#, None),
            ("[]", None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(words("", body.as_bytes()).as_deref(), found, "{body}");
        }
    }
}
