//! The table `text_to_speech` of an agents file: how a voice sounds, and how it comes.

use super::{
    fallback::backed,
    family::Voices,
    reader::{Reader, Section},
    settings::{Defaults, Format, Provider, StageSettings, Voice},
    stage::{self, MAX_HINT_CHARS, MAX_NAME_CHARS, TEXT_TO_SPEECH_KEYS},
};
use crate::{agent::Stage, dsp::SampleRate};

/// What files call formats.
const FORMATS: [(&str, Format); 4] =
    [("pcm", Format::Pcm), ("wav", Format::Wav), ("mp3", Format::Mp3), ("ulaw", Format::Ulaw)];

/// Reads the table `text_to_speech`.
pub(super) fn text_to_speech(
    reader: &mut Reader<'_>,
    agent: &Section<'_>,
    defaults: &Defaults,
) -> Option<StageSettings<Voice>> {
    backed(reader, agent, ("text_to_speech", TEXT_TO_SPEECH_KEYS), |reader, section| voice(reader, section, defaults))
}

fn voice(reader: &mut Reader<'_>, section: Section<'_>, defaults: &Defaults) -> Option<StageSettings<Voice>> {
    let (provider, section) =
        stage::provided(reader, section, (Stage::TextToSpeech, Provider::OpenAi), TEXT_TO_SPEECH_KEYS)?;
    let voices = provider.family().voices()?;
    let (format, rate) = sound(reader, &section, provider, voices)?;
    let voice = reader.string(&section, "voice", MAX_NAME_CHARS, false);
    let options = Voice {
        voice: voice.unwrap_or_else(|| voices.voice.to_owned()),
        format,
        rate,
        speed: reader.decimal(&section, "speed", voices.speed.clone()),
        instructions: reader.string(&section, "instructions", MAX_HINT_CHARS, true),
        stability: reader.decimal(&section, "stability", 0.0..=1.0),
        similarity_boost: reader.decimal(&section, "similarity_boost", 0.0..=1.0),
        style: reader.decimal(&section, "style", 0.0..=1.0),
        word_times: reader.flag(&section, "word_times").unwrap_or(true),
        streams: reader.flag(&section, "streaming").unwrap_or(true),
    };
    stage::stage(reader, &section, (Stage::TextToSpeech, provider), defaults, options)
}

fn sound(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    provider: Provider,
    voices: &Voices,
) -> Option<(Format, SampleRate)> {
    let known: Vec<_> =
        FORMATS.into_iter().filter(|(_, format)| voices.formats.iter().any(|sends| sends.format == *format)).collect();
    let chosen = match section.get("format") {
        Some(_) => reader.one_of(section, "format", &known)?,
        None => voices.formats.first()?.format,
    };
    let sends = voices.formats.iter().find(|sends| sends.format == chosen)?;
    let Some(value) = section.get("rate") else { return Some((chosen, sends.usual)) };
    let hz = reader.whole(section, "rate", 1..=1_000_000)?;
    let rate = u32::try_from(hz).ok().and_then(SampleRate::from_hz).filter(|rate| sends.rates.contains(rate));
    if rate.is_none() {
        let what = if sends.rates == SampleRate::ALL {
            format!("rate must be {}", SampleRate::NAMES)
        } else {
            let rates: Vec<_> = sends.rates.iter().map(|rate| rate.hz().to_string()).collect();
            format!("rate must be one of {} for this format of {}", rates.join(", "), provider.name())
        };
        reader.mistake(value.span(), what);
    }
    Some((chosen, rate?))
}
