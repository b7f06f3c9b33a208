//! Pure: how a family is asked, and how it puts what its recogniser finds. The rest of a stand-in is alike.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::recogniser::{Finding, Recogniser, seconds};

/// Whose messages are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// <https://developers.deepgram.com/reference/speech-to-text/listen-streaming>.
    Deepgram,
    /// <https://elevenlabs.io/docs/api-reference/speech-to-text/v-1-speech-to-text-realtime>, with what others have seen
    /// of it: what was committed is told again as partial, and a commit of less than 0.3 s ends the session.
    ElevenLabs,
}

/// What a client wants.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) sound: Vec<u8>,
    pub(super) finalize: bool,
    pub(super) goodbye: bool,
}

/// One session's ears, and what it was asked for.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) recogniser: Recogniser,
    is_timed: bool,
    /// What was committed last, until it was told again.
    echo: Option<String>,
}

impl Manner {
    pub(super) fn serves(self, path: &str, is_post: bool) -> bool {
        match self {
            Self::Deepgram => path == "/v1/listen",
            Self::ElevenLabs => path == if is_post { "/v1/speech-to-text" } else { "/v1/speech-to-text/realtime" },
        }
    }

    pub(super) const fn key_header(self) -> &'static str {
        match self {
            Self::Deepgram => "authorization",
            Self::ElevenLabs => "xi-api-key",
        }
    }

    /// `asked` has the parameters of the address.
    pub(super) fn listener<'q>(self, asked: impl Fn(&str) -> Option<&'q str>) -> Heard {
        let number = |name: &str, usual: f64| asked(name).and_then(|value| value.parse().ok()).unwrap_or(usual);
        let recogniser = match self {
            Self::Deepgram => {
                Recogniser::new(number("endpointing", 1000.0) as u64, number("utterance_end_ms", 1000.0) as u64)
            }
            Self::ElevenLabs if asked("commit_strategy") == Some("vad") => {
                Recogniser::new((number("vad_silence_threshold_secs", 1.5) * 1000.0) as u64, u64::MAX)
            }
            Self::ElevenLabs => Recogniser::new(u64::MAX, u64::MAX),
        };
        Heard { recogniser, is_timed: asked("include_timestamps") == Some("true"), echo: None }
    }

    pub(super) fn greeting(self) -> Option<Value> {
        match self {
            Self::Deepgram => None,
            Self::ElevenLabs => Some(json!({
                "message_type": "session_started", "session_id": "0",
                "config": { "sample_rate": 8000, "audio_format": "ulaw_8000", "model_id": "scribe_v2_realtime" },
            })),
        }
    }

    /// None for what is no message of a client's.
    pub(super) fn read(self, message: &Message) -> Option<Order> {
        match self {
            Self::Deepgram => {
                if let Message::Binary(sound) = message {
                    return Some(Order { sound: sound.to_vec(), ..Order::default() });
                }
                let order: Value = serde_json::from_str(message.to_text().ok()?).ok()?;
                match order["type"].as_str()? {
                    "KeepAlive" => Some(Order::default()),
                    "Finalize" => Some(Order { finalize: true, ..Order::default() }),
                    "CloseStream" => Some(Order { goodbye: true, ..Order::default() }),
                    _ => None,
                }
            }
            Self::ElevenLabs => {
                let chunk: Value = serde_json::from_str(message.to_text().ok()?).ok()?;
                if chunk["message_type"] != "input_audio_chunk" || chunk["sample_rate"] != 8000 {
                    return None;
                }
                let sound = STANDARD.decode(chunk["audio_base_64"].as_str()?).ok()?;
                Some(Order { sound, finalize: chunk["commit"].as_bool()?, goodbye: false })
            }
        }
    }

    /// What a commit is refused with, where there is too little for one.
    pub(super) fn too_little(self, recogniser: &Recogniser) -> Option<Value> {
        match self {
            Self::Deepgram => None,
            Self::ElevenLabs => (recogniser.open_ms() < 300).then(|| {
                let error = "Commit request ignored: You need at least 0.3s of uncommitted audio before committing.";
                json!({ "message_type": "commit_throttled", "error": error })
            }),
        }
    }

    /// The messages of a finding, in which `text` was understood.
    pub(super) fn messages(self, heard: &mut Heard, finding: Finding, text: &str, from_finalize: bool) -> Vec<Value> {
        if self == Self::Deepgram {
            return vec![heard.recogniser.message(finding, text, from_finalize)];
        }
        let partial = |text: &str| json!({ "message_type": "partial_transcript", "text": text });
        match finding {
            Finding::Interim if heard.recogniser.has_voice() => vec![partial(text)],
            Finding::Interim => heard.echo.take().map(|text| partial(&text)).into_iter().collect(),
            Finding::UtteranceEnd { .. } => Vec::new(),
            Finding::Final { .. } => {
                let mut told = vec![partial(text), json!({ "message_type": "committed_transcript", "text": text })];
                if heard.is_timed {
                    let mut words = Vec::new();
                    for (word, from, to) in heard.recogniser.words(text) {
                        let (from, to) = (seconds(from), seconds(to));
                        words.push(json!({ "text": word, "start": from, "end": to, "type": "word", "logprob": -0.1 }));
                        words.push(json!({ "text": " ", "start": to, "end": to, "type": "spacing" }));
                    }
                    words.pop();
                    told.push(json!({
                        "message_type": "committed_transcript_with_timestamps", "text": text, "language_code": "en",
                        "words": words,
                    }));
                }
                heard.echo = (!text.is_empty()).then(|| text.to_owned());
                heard.recogniser.finish();
                told
            }
        }
    }

    pub(super) fn failed(self) -> Value {
        match self {
            Self::Deepgram => {
                json!({ "type": "Error", "variant": "NET-0000", "description": "what was said", "message": "" })
            }
            Self::ElevenLabs => json!({ "message_type": "transcriber_error", "error": "what was said" }),
        }
    }

    /// How it ends a session in which nothing comes.
    pub(super) const fn tired(self) -> (u16, &'static str) {
        match self {
            Self::Deepgram => (1011, "NET-0001"),
            Self::ElevenLabs => (1000, ""),
        }
    }

    /// Whether the end of the socket is all that a client has to say at the end.
    pub(super) const fn leaves_by_closing(self) -> bool {
        match self {
            Self::Deepgram => false,
            Self::ElevenLabs => true,
        }
    }

    /// The answer to a recording.
    pub(super) fn recorded(self, words: &str) -> Value {
        match self {
            Self::Deepgram => {
                let alternatives = json!([{ "transcript": words, "confidence": 0.9, "words": [] }]);
                json!({ "metadata": {}, "results": { "channels": [{ "alternatives": alternatives }] } })
            }
            Self::ElevenLabs => {
                json!({ "language_code": "en", "language_probability": 0.9, "text": words, "words": [] })
            }
        }
    }

    /// The body of a refusal.
    pub(super) fn refused(self, words: &str) -> Value {
        match self {
            Self::Deepgram => json!({ "err_code": "NO", "err_msg": words, "request_id": "0" }),
            Self::ElevenLabs => json!({ "detail": { "status": "no", "message": words } }),
        }
    }
}
