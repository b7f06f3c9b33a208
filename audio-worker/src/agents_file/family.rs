//! The families of providers, in one table: what each serves, where it is, and what it is called by. Pure.

use std::ops::RangeInclusive;

use url::Url;

use super::settings::{Defaults, Format, Provider};
use crate::{agent::Stage, dsp::SampleRate};

/// Whose protocol is spoken.
pub(super) struct Family {
    /// What files call it; the first name is its own.
    names: &'static [&'static str],
    /// The variable of the key for its default place.
    key: &'static str,
    speech_to_text: Option<Service>,
    chat: Option<Service>,
    text_to_speech: Option<(Service, Voices)>,
}

/// What a family does for one stage.
pub(super) struct Service {
    /// Where it is, up to and with the version; nobody is served there without a key.
    url: &'static str,
    /// What is asked for where the file says nothing; empty where nothing has to be.
    pub(super) model: &'static str,
    /// Whether other places have models of other names.
    pub(super) has_models_of_its_own: bool,
    /// Keys of the stage's own table that it knows.
    pub(super) options: &'static [&'static str],
}

/// What a family speaks with.
pub(super) struct Voices {
    /// Where the file names none; empty where the language is enough.
    pub(super) voice: &'static str,
    pub(super) speed: RangeInclusive<f64>,
    /// The first is the default.
    pub(super) formats: &'static [Sends],
}

/// A format and its rates.
pub(super) struct Sends {
    pub(super) format: Format,
    pub(super) usual: SampleRate,
    pub(super) rates: &'static [SampleRate],
}

const fn sends(format: Format, usual: SampleRate, rates: &'static [SampleRate]) -> Sends {
    Sends { format, usual, rates }
}

use SampleRate::{Hz8000, Hz22050, Hz24000, Hz44100};

/// <https://platform.openai.com/docs/api-reference/audio>; of WAV and MP3 the sound itself tells the rate.
const OPENAI: Family = Family {
    names: &["openai", "whisper"],
    key: "OPENAI_API_KEY",
    speech_to_text: Some(Service {
        url: OPENAI_URL,
        model: "whisper-1",
        has_models_of_its_own: true,
        options: &["prompt", "temperature"],
    }),
    chat: Some(Service {
        url: OPENAI_URL,
        model: "gpt-4o-mini",
        has_models_of_its_own: true,
        options: &["temperature", "top_p", "max_tokens"],
    }),
    text_to_speech: Some((
        Service {
            url: OPENAI_URL,
            model: "gpt-4o-mini-tts",
            has_models_of_its_own: true,
            options: &["voice", "format", "rate", "speed", "instructions"],
        },
        Voices {
            voice: "alloy",
            speed: 0.25..=4.0,
            formats: &[
                sends(Format::Pcm, Hz24000, &SampleRate::ALL),
                sends(Format::Wav, Hz24000, &SampleRate::ALL),
                sends(Format::Mp3, Hz24000, &SampleRate::ALL),
            ],
        },
    )),
};

const OPENAI_URL: &str = "https://api.openai.com/v1";

/// <https://cloud.google.com/speech-to-text/docs/reference/rest/v1/speech/recognize> and
/// <https://cloud.google.com/text-to-speech/docs/reference/rest/v1/text/synthesize>.
const GOOGLE: Family = Family {
    names: &["google"],
    key: "GOOGLE_API_KEY",
    speech_to_text: Some(Service {
        url: "https://speech.googleapis.com/v1",
        model: "latest_long",
        has_models_of_its_own: false,
        options: &["prompt", "streaming", "endpoint", "finalize_wait_ms"],
    }),
    chat: None,
    text_to_speech: Some((
        Service {
            url: "https://texttospeech.googleapis.com/v1",
            model: "",
            has_models_of_its_own: false,
            options: &["voice", "format", "rate", "speed", "instructions", "streaming"],
        },
        Voices {
            voice: "",
            speed: 0.25..=2.0,
            formats: &[
                sends(Format::Ulaw, Hz8000, &[Hz8000]),
                sends(Format::Pcm, Hz24000, &SampleRate::ALL),
                sends(Format::Mp3, Hz24000, &SampleRate::ALL),
            ],
        },
    )),
};

/// <https://elevenlabs.io/docs/api-reference>; the voice is the one of its own examples.
const ELEVENLABS: Family = Family {
    names: &["elevenlabs"],
    key: "ELEVENLABS_API_KEY",
    speech_to_text: Some(Service {
        url: ELEVENLABS_URL,
        model: "scribe_v2_realtime",
        has_models_of_its_own: false,
        options: &["temperature", "endpoint", "endpointing_ms", "finalize_wait_ms", "keyterms"],
    }),
    chat: None,
    text_to_speech: Some((
        Service {
            url: ELEVENLABS_URL,
            model: "eleven_flash_v2_5",
            has_models_of_its_own: false,
            options: &["voice", "format", "rate", "speed", "stability", "similarity_boost", "style", "word_times"],
        },
        Voices {
            voice: "JBFqnCBsd6RMkjVDRZzb",
            speed: 0.7..=1.2,
            formats: &[
                sends(Format::Ulaw, Hz8000, &[Hz8000]),
                sends(Format::Pcm, Hz24000, &SampleRate::ALL),
                sends(Format::Mp3, Hz22050, &[Hz22050, Hz24000, Hz44100]),
            ],
        },
    )),
};

const ELEVENLABS_URL: &str = "https://api.elevenlabs.io/v1";

/// <https://developers.deepgram.com/reference/speech-to-text-api/listen-streaming>.
const DEEPGRAM: Family = Family {
    names: &["deepgram"],
    key: "DEEPGRAM_API_KEY",
    speech_to_text: Some(Service {
        url: "https://api.deepgram.com/v1",
        model: "nova-3",
        has_models_of_its_own: false,
        options: &["endpoint", "endpointing_ms", "utterance_end_ms", "finalize_wait_ms", "keyterms"],
    }),
    chat: None,
    text_to_speech: None,
};

impl Provider {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Google, Self::ElevenLabs, Self::Deepgram];

    /// What files call it.
    pub const fn name(self) -> &'static str {
        self.family().names[0]
    }

    /// The variable of the key for its default place.
    pub const fn key_variable(self) -> &'static str {
        self.family().key
    }

    pub(super) const fn family(self) -> &'static Family {
        match self {
            Self::OpenAi => &OPENAI,
            Self::Google => &GOOGLE,
            Self::ElevenLabs => &ELEVENLABS,
            Self::Deepgram => &DEEPGRAM,
        }
    }
}

impl Family {
    pub(super) const fn service(&self, stage: Stage) -> Option<&Service> {
        match stage {
            Stage::SpeechToText => self.speech_to_text.as_ref(),
            Stage::Chat => self.chat.as_ref(),
            Stage::TextToSpeech => match &self.text_to_speech {
                Some((service, _)) => Some(service),
                None => None,
            },
            // Whole agents, with tables of their own.
            Stage::Realtime | Stage::Agent => None,
        }
    }

    pub(super) const fn voices(&self) -> Option<&Voices> {
        match &self.text_to_speech {
            Some((_, voices)) => Some(voices),
            None => None,
        }
    }
}

impl Service {
    /// Where it is in public.
    pub(super) fn public_place(&self) -> Url {
        self.url.parse().expect("an address")
    }

    /// Where it is for a file that names no url: that of OpenAI is a setting.
    pub(super) fn place(&self, provider: Provider, defaults: &Defaults) -> Url {
        match provider {
            Provider::OpenAi => defaults.url.clone(),
            Provider::Google | Provider::ElevenLabs | Provider::Deepgram => self.public_place(),
        }
    }
}

/// The family that a name means, if it serves the stage.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the name's setting.
pub fn provider(name: &str, stage: Stage) -> Result<Provider, String> {
    let serves = |provider: &Provider| provider.family().service(stage).is_some();
    let able: Vec<_> = Provider::ALL.into_iter().filter(serves).map(Provider::name).collect();
    let able = able.join(", ");
    match Provider::ALL.into_iter().find(|provider| provider.family().names.contains(&name)) {
        Some(provider) if serves(&provider) => Ok(provider),
        Some(_) => Err(format!("names {name}, which does not serve {} here; those that do: {able}", stage.label())),
        None => {
            Err(format!("must be one of {able}, in quotes; openai is for all servers that speak its protocol as well"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_by_stage() {
        use Stage::{Chat, SpeechToText, TextToSpeech};
        for (name, stage, found) in [
            ("openai", Chat, Some(Provider::OpenAi)),
            ("whisper", SpeechToText, Some(Provider::OpenAi)),
            ("google", SpeechToText, Some(Provider::Google)),
            ("google", TextToSpeech, Some(Provider::Google)),
            ("google", Chat, None),
            ("elevenlabs", TextToSpeech, Some(Provider::ElevenLabs)),
            ("elevenlabs", SpeechToText, Some(Provider::ElevenLabs)),
            ("deepgram", SpeechToText, Some(Provider::Deepgram)),
            ("deepgram", TextToSpeech, None),
            ("Google", SpeechToText, None),
            ("", SpeechToText, None),
        ] {
            assert_eq!(provider(name, stage).ok(), found, "{name} {stage:?}");
        }
        let told = provider("deepgram", TextToSpeech).unwrap_err();
        assert_eq!(
            told,
            "names deepgram, which does not serve text_to_speech here; those that do: openai, google, elevenlabs"
        );
    }

    #[test]
    fn the_table_is_whole() {
        for provider in Provider::ALL {
            let family = provider.family();
            for service in Stage::ALL.into_iter().filter_map(|stage| family.service(stage)) {
                assert_eq!(service.public_place().scheme(), "https");
            }
            for sends in family.voices().into_iter().flat_map(|voices| voices.formats) {
                assert!(sends.rates.contains(&sends.usual), "{provider:?}");
            }
        }
    }
}
