//! `POST {base}/audio/speech`: a text in, its sound as raw samples or a WAV file that is still being made.

use std::mem;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Endpoint, Server, SettingsError};
use crate::{
    dsp::SampleRate,
    provider::{
        Fault, ProviderError, Sound, Streaming, TextToSpeech,
        exchange::{self, Answer, Exchange, Outlet},
        fault::{self, Secrets, error},
        http::Client,
        wav,
    },
};

/// Longest voice taken, in seconds: OpenAI says 4096 characters at most in about five minutes.
const MAX_SECONDS: usize = 600;
/// Most that is read of a text that came instead of a voice.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// So many bytes show whether they are text; 1.3 ms at 24 kHz.
const SAMPLE_OF_TEXT: usize = 64;
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
    pub format: Format,
    /// 0.25 to 4; the server's own when it is not given.
    pub speed: Option<f64>,
    /// How to say it, for models that can be told; at most 4096 characters.
    pub instructions: Option<String>,
}

/// How a voice comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 16-bit little-endian mono samples of this rate.
    Pcm(SampleRate),
    /// The same in a WAV file, whose head tells the rate.
    Wav,
}

impl Default for Format {
    /// OpenAI's.
    fn default() -> Self {
        Self::Pcm(SampleRate::Hz24000)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: Server::default(),
            model: "gpt-4o-mini-tts".to_owned(),
            voice: "alloy".to_owned(),
            format: Format::default(),
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
            Format::Pcm(_) => "pcm",
            Format::Wav => "wav",
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
        let asked = Asked {
            endpoint: self.endpoint.clone(),
            body: self.request(text).to_string().into(),
            format: self.settings.format,
            secrets: self.endpoint.secrets(said),
        };
        exchange::stream(&self.endpoint.client, self.endpoint.limits, asked)
    }

    fn warm(&self) {
        self.endpoint.warm();
    }
}

struct Asked {
    endpoint: Endpoint,
    body: Bytes,
    format: Format,
    secrets: Secrets,
}

impl Exchange for Asked {
    type Piece = Sound;

    async fn attempt(&self, client: &Client, outlet: &mut Outlet<Sound>) -> Result<(), ProviderError> {
        let request = self.endpoint.post("application/json", self.body.clone())?;
        let mut answer = outlet.ask(client, request, &self.secrets).await?;
        let content_type = answer.content_type();
        if is_text(&content_type) {
            return Err(self.text_instead(Vec::new(), &mut answer, outlet).await);
        }
        if let (Format::Pcm(set), Some(told)) = (self.format, answer.rate())
            && SampleRate::from_hz(told) != Some(set)
        {
            let what = format!("sound of {told} Hz where {} Hz are set", set.hz());
            return Err(error(Fault::Malformed, &what));
        }
        let mut held = Vec::new();
        let mut samples = loop {
            let chunk = outlet.chunk(&mut answer).await?;
            held.extend_from_slice(chunk.as_deref().unwrap_or_default());
            match begin(self.format, &content_type, &held, chunk.is_none()) {
                Ok(Some(samples)) => break samples,
                Ok(None) if chunk.is_none() => return Err(error(Fault::Malformed, "half the head of a WAV file")),
                Ok(None) => {}
                Err(NoSound::Nothing) => return Err(error(Fault::Empty, "a voice without sound")),
                Err(NoSound::Text) => return Err(self.text_instead(held, &mut answer, outlet).await),
                Err(NoSound::Other(what)) => return Err(error(Fault::Malformed, &what)),
            }
        };
        let mut next = Some(Bytes::from(held.split_off(samples.at)));
        while let Some(bytes) = next {
            let pcm = samples.take(&bytes)?;
            if !pcm.is_empty() {
                outlet.give(Sound::Pcm(samples.rate, pcm)).await;
            }
            next = outlet.chunk(&mut answer).await?;
        }
        if samples.count == 0 { Err(error(Fault::Empty, "a voice without sound")) } else { Ok(()) }
    }
}

impl Asked {
    /// What came instead of a voice; a server may say why.
    async fn text_instead(&self, mut text: Vec<u8>, answer: &mut Answer, outlet: &Outlet<Sound>) -> ProviderError {
        text.extend(outlet.whole(answer, MAX_TEXT_BYTES).await.unwrap_or_default());
        let message = fault::message(&text, &self.secrets);
        let what = message.map_or_else(String::new, |message| format!(": {message}"));
        error(Fault::Malformed, &format!("text where sound belongs{what}"))
    }
}

/// Whether a content type is one of text.
fn is_text(content_type: &str) -> bool {
    content_type.starts_with("text/") || ["json", "xml", "html"].iter().any(|kind| content_type.ends_with(kind))
}

/// Why there are no samples.
#[derive(Debug, PartialEq, Eq)]
enum NoSound {
    Nothing,
    Text,
    Other(String),
}

/// How to read the answer that begins with `held`; none while more of it is needed.
fn begin(format: Format, content_type: &str, held: &[u8], is_all: bool) -> Result<Option<Samples>, NoSound> {
    if held.is_empty() {
        return if is_all { Err(NoSound::Nothing) } else { Ok(None) };
    }
    if held.len() < SAMPLE_OF_TEXT && !is_all {
        return Ok(None);
    }
    if reads_as_text(&held[..held.len().min(SAMPLE_OF_TEXT)]) {
        return Err(NoSound::Text);
    }
    let compressed = [&b"ID3"[..], b"OggS", b"fLaC"];
    // The first bits of an MPEG frame may be a sample as well, unless it is called what it is.
    let is_mpeg = ["audio/mpeg", "audio/mp3", "audio/aac"].contains(&content_type)
        && matches!(held, [0xff, second, ..] if second & 0xe0 == 0xe0);
    if is_mpeg || compressed.iter().any(|magic| held.starts_with(magic)) {
        return Err(NoSound::Other("compressed sound where samples belong".to_owned()));
    }
    match format {
        // A server that answers with a file whatever it is asked for tells the rate at least.
        Format::Pcm(rate) if !held.starts_with(b"RIFF") => Ok(Some(Samples::new(rate, 0, None))),
        Format::Pcm(_) | Format::Wav => match wav::head(held) {
            Ok(head) => Ok(head.map(|head| Samples::new(head.rate, head.at, head.length))),
            Err(wrong) => Err(NoSound::Other(wrong.to_string())),
        },
    }
}

/// Text has no control characters but those of lines; samples, of silence above all, have.
fn reads_as_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // Cut within a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || ['\n', '\r', '\t'].contains(&c))
}

/// Makes samples of bytes cut anywhere.
#[derive(Debug, PartialEq, Eq)]
struct Samples {
    rate: SampleRate,
    /// Where they begin in what was held.
    at: usize,
    /// Bytes that are still samples, where a head says so.
    left: Option<u64>,
    /// The first half of the next one.
    half: Option<u8>,
    count: usize,
}

impl Samples {
    const fn new(rate: SampleRate, at: usize, left: Option<u64>) -> Self {
        Self { rate, at, left, half: None, count: 0 }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<Vec<i16>, ProviderError> {
        if let Some(left) = &mut self.left {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            bytes = &bytes[..bytes.len().min(most)];
            *left -= u64::try_from(bytes.len()).unwrap_or_default();
        }
        let mut pcm = Vec::with_capacity(bytes.len() / 2 + 1);
        if let Some((&second, rest)) = bytes.split_first()
            && let Some(first) = mem::take(&mut self.half)
        {
            pcm.push(i16::from_le_bytes([first, second]));
            bytes = rest;
        }
        let (pairs, rest) = bytes.as_chunks::<2>();
        pcm.extend(pairs.iter().map(|&pair| i16::from_le_bytes(pair)));
        if let [half] = rest {
            self.half = Some(*half);
        }
        self.count += pcm.len();
        if self.count > MAX_SECONDS * self.rate.hz() {
            return Err(error(Fault::Malformed, "a voice of more than 10 minutes"));
        }
        Ok(pcm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PCM: &str = "audio/pcm";
    const HZ_24000: Format = Format::Pcm(SampleRate::Hz24000);

    #[test]
    fn samples_are_the_same_wherever_the_bytes_are_cut() {
        let pcm: Vec<i16> = (0..20).map(|at| at * 1000 - 9999).collect();
        let bytes: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut samples = Samples::new(SampleRate::Hz24000, 0, None);
                let mut take = |from: usize, to: usize| samples.take(&bytes[from..to]).unwrap();
                let taken = [take(0, first), take(first, second), take(second, bytes.len())].concat();
                assert_eq!(taken, pcm, "{first} {second}");
            }
        }
    }

    #[test]
    fn what_follows_the_samples_of_a_file_is_not_played() {
        let mut samples = Samples::new(SampleRate::Hz24000, 44, Some(5));
        assert_eq!(samples.take(&[1, 0, 2]).unwrap(), [1]);
        assert_eq!(samples.take(&[0, 3, b'L', b'I']).unwrap(), [2]);
        assert_eq!(samples.take(b"ST").unwrap(), [0_i16; 0]);
    }

    #[test]
    fn a_voice_has_an_end() {
        let mut samples = Samples::new(SampleRate::Hz8000, 0, None);
        let second = [0; 16_000];
        assert!((0..600).all(|_| samples.take(&second).is_ok()));
        assert_eq!(samples.take(&second).unwrap_err().kind, Fault::Malformed);
    }

    #[test]
    fn text_is_told_from_samples() {
        for text in ["Internal Server Error", "{\"error\": 1}", "<html>\r\n\t", "\u{9519}\u{8bef}\u{20ac}"] {
            assert!(reads_as_text(text.as_bytes()), "{text}");
            assert_eq!(begin(HZ_24000, PCM, text.as_bytes(), true), Err(NoSound::Text));
        }
        // In the middle of a character.
        assert!(reads_as_text(&"\u{9519}\u{8bef}".as_bytes()[..4]));
        let tone: Vec<u8> = (0..64_i16).flat_map(|at| (at * 517).to_le_bytes()).collect();
        for sound in [&[0; 64][..], &[255; 64], &[b'a', 1], &tone] {
            assert!(!reads_as_text(sound), "{sound:?}");
        }
    }

    #[test]
    fn the_beginning_says_what_it_is() {
        let silence = [0; 64];
        assert_eq!(begin(HZ_24000, PCM, &silence[..10], false), Ok(None));
        assert_eq!(begin(HZ_24000, PCM, &silence[..10], true), Ok(Some(Samples::new(SampleRate::Hz24000, 0, None))));
        assert_eq!(begin(HZ_24000, PCM, &[], true), Err(NoSound::Nothing));
        let file = wav::file(SampleRate::Hz16000, &[0; 32]);
        for format in [HZ_24000, Format::Wav] {
            assert_eq!(begin(format, PCM, &file, false), Ok(Some(Samples::new(SampleRate::Hz16000, 44, Some(64)))));
        }
        assert!(matches!(begin(Format::Wav, PCM, &silence, false), Err(NoSound::Other(_))));
        for magic in [&b"ID3\x04"[..], b"OggS", b"fLaC"] {
            assert!(matches!(begin(HZ_24000, PCM, &[magic, &silence].concat(), false), Err(NoSound::Other(_))));
        }
        let frame = [&[0xff, 0xf3][..], &silence].concat();
        assert!(matches!(begin(HZ_24000, "audio/mpeg", &frame, false), Err(NoSound::Other(_))));
        for (kind, bytes) in [(PCM, &frame[..]), ("audio/mpeg", &silence)] {
            assert!(matches!(begin(HZ_24000, kind, bytes, false), Ok(Some(_))));
        }
    }
}
