//! Makes sound of a voice's bytes, cut anywhere: raw samples, WAV, MP3, mu-law; and tells text from all of them.

use std::mem;

use bytes::Bytes;

use super::{Fault, ProviderError, Sound, fault::error, mp3, wav};
use crate::dsp::SampleRate;

/// Longest voice taken, in seconds: OpenAI says 4096 characters at most in about five minutes.
const MAX_SECONDS: usize = 600;
/// So many bytes show whether they are text; 1.3 ms at 24 kHz, 8 ms of mu-law.
const SAMPLE_OF_TEXT: usize = 64;

/// How a voice comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// 16-bit little-endian mono samples of this rate.
    Pcm(SampleRate),
    /// The same in a WAV file, whose head tells the rate.
    Wav,
    /// MPEG layer 3, which tells its rate.
    Mp3,
    /// Mono mu-law at 8 kHz.
    Mulaw,
}

/// Why there is no sound, or no more of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSound {
    /// Not a single sample.
    Nothing,
    /// Text came, as far as it was held.
    Text(Vec<u8>),
    /// Something else.
    Other(String),
}

impl From<NoSound> for ProviderError {
    fn from(none: NoSound) -> Self {
        match none {
            NoSound::Nothing => error(Fault::Empty, "a voice without sound"),
            NoSound::Text(_) => error(Fault::Malformed, "text where sound belongs"),
            NoSound::Other(what) => error(Fault::Malformed, &what),
        }
    }
}

/// Reads one voice.
#[derive(Debug)]
pub(super) struct Intake {
    coding: Coding,
    /// The server calls it MPEG.
    is_called_mpeg: bool,
    /// The beginning, while it does not show what it is.
    held: Vec<u8>,
    reading: Option<Reading>,
    samples: usize,
}

#[derive(Debug)]
enum Reading {
    Linear { rate: SampleRate, left: Option<u64>, half: Option<u8> },
    Mulaw { left: Option<u64> },
    Mp3(Box<mp3::Decoder>),
}

impl Intake {
    /// For a voice that should come as `coding`, and that the server calls `content_type` (which may be empty).
    pub(super) fn new(coding: Coding, content_type: &str) -> Self {
        let is_called_mpeg = ["audio/mpeg", "audio/mp3", "audio/aac"].contains(&content_type);
        Self { coding, is_called_mpeg, held: Vec::new(), reading: None, samples: 0 }
    }

    /// Takes the next bytes and gives the sound that they make.
    ///
    /// # Errors
    /// When they are none that can be played. Nothing is to be pushed after that.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<Option<Sound>, NoSound> {
        if self.reading.is_some() {
            return self.read(bytes);
        }
        self.held.extend_from_slice(&bytes);
        self.begin(false)
    }

    /// Milliseconds of sound that were given.
    pub(super) fn given_ms(&self) -> u64 {
        let hz = self.reading.as_ref().and_then(Reading::rate).map_or(1, SampleRate::hz);
        (self.samples * 1000 / hz) as u64
    }

    /// The voice is over: what is left of it.
    ///
    /// # Errors
    /// As [`Self::push`], and when there was no sound at all.
    pub(super) fn finish(&mut self) -> Result<Option<Sound>, NoSound> {
        let mut sound = None;
        if self.reading.is_none() {
            sound = self.begin(true)?;
            if self.reading.is_none() {
                return Err(NoSound::Other("half the head of a WAV file".to_owned()));
            }
        }
        if let Some(Reading::Mp3(decoder)) = &mut self.reading {
            let mut pcm = match sound.take() {
                Some(Sound::Pcm(_, pcm)) => pcm,
                Some(Sound::Mulaw(_) | Sound::Word { .. }) | None => Vec::new(),
            };
            let before = pcm.len();
            decoder.finish(&mut pcm).map_err(|wrong| NoSound::Other(wrong.to_string()))?;
            self.samples += pcm.len() - before;
            sound = decoder.rate().filter(|_| !pcm.is_empty()).map(|rate| Sound::Pcm(rate, pcm));
        }
        if self.samples == 0 { Err(NoSound::Nothing) } else { Ok(sound) }
    }

    /// Finds out what the beginning is; nothing while more of it is needed.
    fn begin(&mut self, is_all: bool) -> Result<Option<Sound>, NoSound> {
        if self.held.is_empty() {
            return if is_all { Err(NoSound::Nothing) } else { Ok(None) };
        }
        if self.held.len() < SAMPLE_OF_TEXT && !is_all {
            return Ok(None);
        }
        let Some((reading, at)) = begin(self.coding, self.is_called_mpeg, &self.held)? else { return Ok(None) };
        let mut held = mem::take(&mut self.held);
        self.reading = Some(reading);
        self.read(held.split_off(at).into())
    }

    fn read(&mut self, mut bytes: Bytes) -> Result<Option<Sound>, NoSound> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        if let Reading::Linear { left: Some(left), .. } | Reading::Mulaw { left: Some(left) } = reading {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        let (count, sound) = match reading {
            Reading::Linear { rate, half, .. } => {
                let pcm = linear(half, &bytes);
                (pcm.len(), Sound::Pcm(*rate, pcm))
            }
            Reading::Mulaw { .. } => (bytes.len(), Sound::Mulaw(bytes)),
            Reading::Mp3(decoder) => {
                let mut pcm = Vec::new();
                decoder.push(&bytes, &mut pcm).map_err(|wrong| NoSound::Other(wrong.to_string()))?;
                (pcm.len(), Sound::Pcm(decoder.rate().unwrap_or(SampleRate::Hz8000), pcm))
            }
        };
        self.samples += count;
        if reading.rate().is_some_and(|rate| self.samples > MAX_SECONDS * rate.hz()) {
            return Err(NoSound::Other(format!("a voice of more than {} minutes", MAX_SECONDS / 60)));
        }
        Ok(Some(sound).filter(|_| count > 0))
    }
}

impl Reading {
    fn rate(&self) -> Option<SampleRate> {
        match self {
            Self::Linear { rate, .. } => Some(*rate),
            Self::Mulaw { .. } => Some(SampleRate::Hz8000),
            Self::Mp3(decoder) => decoder.rate(),
        }
    }
}

/// How to read a voice that begins with `held`, and where in it; none while more of it is needed.
fn begin(coding: Coding, is_called_mpeg: bool, held: &[u8]) -> Result<Option<(Reading, usize)>, NoSound> {
    let beginning = &held[..held.len().min(SAMPLE_OF_TEXT)];
    // A quiet beginning of mu-law is text by its bytes: `~~~~`. Errors begin otherwise.
    let may_be_text = coding != Coding::Mulaw || matches!(beginning.trim_ascii_start(), [b'{' | b'<' | b'[', ..]);
    if may_be_text && reads_as_text(beginning) {
        return Err(NoSound::Text(held.to_vec()));
    }
    let is_file = held.starts_with(b"RIFF");
    let others: &[&[u8]] = if coding == Coding::Mp3 { &[b"OggS", b"fLaC"] } else { &[b"OggS", b"fLaC", b"ID3"] };
    // The first bits of an MPEG frame may be a sample as well, unless it is called what it is.
    let is_mpeg = is_called_mpeg && matches!(held, [0xff, second, ..] if second & 0xe0 == 0xe0);
    if (is_mpeg && coding != Coding::Mp3) || others.iter().any(|magic| held.starts_with(magic)) {
        return Err(NoSound::Other("compressed sound where samples belong".to_owned()));
    }
    // A server that answers with a file whatever it is asked for tells the rate at least.
    if is_file || coding == Coding::Wav {
        return match wav::head(held) {
            Ok(head) => Ok(head.map(|head| {
                let reading = match head.is_mulaw {
                    true => Reading::Mulaw { left: head.length },
                    false => Reading::Linear { rate: head.rate, left: head.length, half: None },
                };
                (reading, head.at)
            })),
            Err(wrong) => Err(NoSound::Other(wrong.to_string())),
        };
    }
    Ok(Some(match coding {
        Coding::Pcm(rate) => (Reading::Linear { rate, left: None, half: None }, 0),
        Coding::Mulaw => (Reading::Mulaw { left: None }, 0),
        Coding::Mp3 | Coding::Wav => (Reading::Mp3(Box::new(mp3::Decoder::new())), 0),
    }))
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

fn linear(half: &mut Option<u8>, mut bytes: &[u8]) -> Vec<i16> {
    let mut pcm = Vec::with_capacity(bytes.len() / 2 + 1);
    if let Some((&second, rest)) = bytes.split_first()
        && let Some(first) = half.take()
    {
        pcm.push(i16::from_le_bytes([first, second]));
        bytes = rest;
    }
    let (pairs, rest) = bytes.as_chunks::<2>();
    pcm.extend(pairs.iter().map(|&pair| i16::from_le_bytes(pair)));
    if let [first] = rest {
        *half = Some(*first);
    }
    pcm
}

#[cfg(test)]
mod tests {
    use super::*;

    const PCM: &str = "audio/pcm";
    const HZ_24000: Coding = Coding::Pcm(SampleRate::Hz24000);

    /// Rate, samples, codes.
    type Taken = (Option<SampleRate>, Vec<i16>, Vec<u8>);

    /// All that comes of these pieces.
    fn take<'a>(
        coding: Coding,
        content_type: &str,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Taken, NoSound> {
        let mut intake = Intake::new(coding, content_type);
        let (mut rate, mut all, mut codes) = (None, Vec::new(), Vec::new());
        let mut note = |sound: Option<Sound>| match sound {
            Some(Sound::Pcm(hz, pcm)) => {
                assert!(!pcm.is_empty() && *rate.get_or_insert(hz) == hz);
                all.extend(pcm);
            }
            Some(Sound::Mulaw(bytes)) => codes.extend(bytes),
            Some(Sound::Word { .. }) => panic!("no words"),
            None => {}
        };
        for piece in pieces {
            note(intake.push(Bytes::copy_from_slice(piece))?);
        }
        note(intake.finish()?);
        Ok((rate, all, codes))
    }

    #[test]
    fn sound_is_the_same_wherever_the_bytes_are_cut() {
        let pcm: Vec<i16> = (0..50).map(|at| at * 600 - 9999).collect();
        let raw: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let file = wav::file(SampleRate::Hz16000, &pcm);
        let codes: Vec<u8> = (0..=255).rev().collect();
        let mut mulaw = wav::file(SampleRate::Hz8000, &[0; 128]);
        (mulaw[20], mulaw[34]) = (7, 8);
        mulaw.truncate(44);
        mulaw.extend(&codes);
        let hz = |rate| Some(rate);
        for (coding, bytes, expected) in [
            (HZ_24000, &raw, (hz(SampleRate::Hz24000), pcm.clone(), vec![])),
            (Coding::Wav, &file, (hz(SampleRate::Hz16000), pcm.clone(), vec![])),
            (Coding::Mulaw, &codes, (None, vec![], codes.clone())),
            (Coding::Mulaw, &mulaw, (None, vec![], codes.clone())),
            (Coding::Mp3, &file, (hz(SampleRate::Hz16000), pcm.clone(), vec![])),
        ] {
            assert_eq!(take(coding, "", bytes.chunks(1)).unwrap(), expected, "{coding:?}");
            for at in 0..=bytes.len() {
                assert_eq!(take(coding, "", [&bytes[..at], &bytes[at..]]).unwrap(), expected, "{coding:?} {at}");
            }
        }
    }

    #[test]
    fn what_follows_the_samples_of_a_file_is_not_played() {
        let file = [&wav::file(SampleRate::Hz24000, &[7; 30])[..], b"LIST\x04\0\0\0abcd"].concat();
        assert_eq!(take(Coding::Wav, PCM, file.chunks(9)).unwrap().1, [7; 30]);
    }

    #[test]
    fn a_voice_has_an_end() {
        let mut intake = Intake::new(Coding::Pcm(SampleRate::Hz8000), "");
        let second = Bytes::from(vec![0; 16_000]);
        assert!((0..600).all(|_| intake.push(second.clone()).is_ok()));
        assert_eq!(intake.given_ms(), 600_000);
        assert!(matches!(intake.push(second), Err(NoSound::Other(_))));
    }

    #[test]
    fn text_is_told_from_samples() {
        for text in ["Internal Server Error", "{\"error\": 1}", "<html>\r\n\t", "\u{9519}\u{8bef}\u{20ac}"] {
            assert!(reads_as_text(text.as_bytes()), "{text}");
            for coding in [HZ_24000, Coding::Wav, Coding::Mp3] {
                let told = take(coding, PCM, [text.as_bytes()]).unwrap_err();
                assert_eq!(told, NoSound::Text(text.as_bytes().to_vec()));
            }
        }
        // In the middle of a character.
        assert!(reads_as_text(&"\u{9519}\u{8bef}".as_bytes()[..4]));
        let tone: Vec<u8> = (0..64_i16).flat_map(|at| (at * 517).to_le_bytes()).collect();
        for sound in [&[0; 64][..], &[255; 64], &[b'a', 1], &tone] {
            assert!(!reads_as_text(sound), "{sound:?}");
        }
        // Mu-law of a faint hum, and an error.
        assert_eq!(take(Coding::Mulaw, "", [&b"~~}~"[..]]).unwrap().2, b"~~}~");
        assert!(matches!(take(Coding::Mulaw, "", [&b"{\"detail\": 1}"[..]]), Err(NoSound::Text(_))));
    }

    #[test]
    fn the_beginning_says_what_it_is() {
        let silence = [0; 64];
        assert_eq!(take(HZ_24000, PCM, [&silence[..10]]).unwrap().1, [0; 5]);
        for nothing in [&[][..], &[7]] {
            assert_eq!(take(HZ_24000, PCM, [nothing]), Err(NoSound::Nothing));
        }
        let other = |coding, kind: &str, bytes: &[u8]| matches!(take(coding, kind, [bytes]), Err(NoSound::Other(_)));
        assert!(other(Coding::Wav, PCM, &silence));
        assert!(other(Coding::Wav, PCM, &wav::file(SampleRate::Hz16000, &[0; 32])[..30]));
        for magic in [&b"ID3\x04"[..], b"OggS", b"fLaC"] {
            let bytes = [magic, &silence].concat();
            assert!(
                other(HZ_24000, PCM, &bytes) && other(Coding::Mulaw, PCM, &bytes) && other(Coding::Mp3, PCM, &bytes)
            );
        }
        let frame = [&[0xff, 0xf3][..], &silence].concat();
        assert!(other(HZ_24000, "audio/mpeg", &frame));
        for (kind, bytes) in [(PCM, &frame[..]), ("audio/mpeg", &silence)] {
            assert!(take(HZ_24000, kind, [bytes]).is_ok());
        }
    }
}
