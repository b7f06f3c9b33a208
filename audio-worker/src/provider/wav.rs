//! RIFF WAVE of mono samples, 16-bit or mu-law: a whole file to send, and the head of one that is still coming.

use crate::dsp::SampleRate;

/// Longest head: chunks before the samples are names and dates.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// `WAVE_FORMAT_PCM`.
const FORMAT_PCM: u16 = 1;
/// `WAVE_FORMAT_MULAW`.
const FORMAT_MULAW: u16 = 7;
/// `WAVE_FORMAT_EXTENSIBLE`: the format proper is in its GUID's first two bytes.
const FORMAT_EXTENSIBLE: u16 = 0xfffe;

/// A whole file.
pub(super) fn file(rate: SampleRate, pcm: &[i16]) -> Vec<u8> {
    let hz = u32::try_from(rate.hz()).unwrap_or(u32::MAX);
    let bytes = u32::try_from(pcm.len() * 2).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(44 + pcm.len() * 2);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&bytes.saturating_add(36).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16_u32.to_le_bytes());
    file.extend_from_slice(&FORMAT_PCM.to_le_bytes());
    file.extend_from_slice(&1_u16.to_le_bytes());
    file.extend_from_slice(&hz.to_le_bytes());
    file.extend_from_slice(&hz.saturating_mul(2).to_le_bytes());
    file.extend_from_slice(&2_u16.to_le_bytes());
    file.extend_from_slice(&16_u16.to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend_from_slice(&bytes.to_le_bytes());
    file.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// What stands before the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) rate: SampleRate,
    /// Mu-law of 8 kHz; else 16-bit samples.
    pub(super) is_mulaw: bool,
    /// Where the samples begin, in bytes.
    pub(super) at: usize,
    /// Bytes of samples; none when the file was begun before its length was known.
    pub(super) length: Option<u64>,
}

/// Why it is not a file that can be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WavError {
    #[error("not a WAV file")]
    NotWav,
    #[error("WAV samples of format {format}, {channels} channels, {bits} bits; 16-bit mono is taken, and mu-law")]
    Format { format: u16, channels: u16, bits: u16 },
    #[error("a WAV file of {0} Hz, which is no rate that is known")]
    Rate(u32),
    #[error("a WAV file without samples in its first {} KiB", MAX_HEAD_BYTES >> 10)]
    NoSamples,
}

/// The head of the file that begins with `bytes`, or none while more of them are needed.
///
/// # Errors
/// When it is nothing that can be played, however much more comes.
pub(super) fn head(bytes: &[u8]) -> Result<Option<Head>, WavError> {
    let is_wav =
        bytes.iter().zip(b"RIFF").all(|(a, b)| a == b) && bytes.iter().skip(8).zip(b"WAVE").all(|(a, b)| a == b);
    if !is_wav {
        return Err(WavError::NotWav);
    }
    let mut at: usize = 12;
    let mut format = None;
    loop {
        if at > MAX_HEAD_BYTES {
            return Err(WavError::NoSamples);
        }
        let (Some(name), Some(size)) = (bytes.get(at..at + 4), u32_at(bytes, at + 4)) else { return Ok(None) };
        let body = at + 8;
        match name {
            b"data" => {
                let (rate, is_mulaw) = format.ok_or(WavError::NotWav)?;
                // Who streams cannot know, and writes nothing, or as much as fits.
                let length = (size != 0 && size < 0x7fff_0000).then_some(u64::from(size));
                return Ok(Some(Head { rate, is_mulaw, at: body, length }));
            }
            b"fmt " => match samples(bytes, body, size)? {
                Some(found) => format = Some(found),
                None => return Ok(None),
            },
            _ => {}
        }
        let Ok(size) = usize::try_from(size) else { return Err(WavError::NoSamples) };
        // Chunks begin at even places.
        at = body.saturating_add(size).saturating_add(size % 2);
    }
}

/// The rate, and whether it is mu-law.
fn samples(bytes: &[u8], at: usize, size: u32) -> Result<Option<(SampleRate, bool)>, WavError> {
    let needed = if size >= 26 { 26 } else { 16 };
    if size < 16 {
        return Err(WavError::NotWav);
    }
    let Some(body) = bytes.get(at..at + needed) else { return Ok(None) };
    let word = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
    let (mut format, channels, bits) = (word(0), word(2), word(14));
    if format == FORMAT_EXTENSIBLE && needed == 26 {
        format = word(24);
    }
    let is_mulaw = (format, channels, bits) == (FORMAT_MULAW, 1, 8);
    if !is_mulaw && (format, channels, bits) != (FORMAT_PCM, 1, 16) {
        return Err(WavError::Format { format, channels, bits });
    }
    let hz = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
    let rate = SampleRate::from_hz(hz).filter(|rate| !is_mulaw || *rate == SampleRate::Hz8000);
    rate.map(|rate| Some((rate, is_mulaw))).ok_or(WavError::Rate(hz))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made() -> Vec<u8> {
        file(SampleRate::Hz24000, &[1, -2, 300])
    }

    #[test]
    fn what_is_written_is_read_as_soon_as_the_samples_begin() {
        for rate in SampleRate::ALL {
            let file = file(rate, &[1, -2, 300]);
            assert_eq!(head(&file), Ok(Some(Head { rate, is_mulaw: false, at: 44, length: Some(6) })));
            assert_eq!(file[44..], [1, 0, 254, 255, 44, 1]);
            for cut in 0..44 {
                assert_eq!(head(&file[..cut]), Ok(None), "{cut}");
            }
        }
    }

    #[test]
    fn other_chunks_and_longer_formats_are_passed() {
        let plain = made();
        // An odd chunk with its padding, and the extensible format.
        let mut other = plain[..12].to_vec();
        other.extend_from_slice(b"LIST\x03\0\0\0abc\0fmt \x28\0\0\0\xfe\xff");
        other.extend_from_slice(&plain[22..36]);
        other.extend_from_slice(&[22, 0, 16, 0, 4, 0, 0, 0, 1, 0]);
        other.extend_from_slice(&[0; 14]);
        other.extend_from_slice(b"data\xff\xff\xff\xff");
        let at = other.len();
        assert_eq!(head(&other), Ok(Some(Head { rate: SampleRate::Hz24000, is_mulaw: false, at, length: None })));
        for cut in 0..at {
            assert_eq!(head(&other[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn mu_law_is_known_at_the_rate_of_the_telephone() {
        let mut mulaw = file(SampleRate::Hz8000, &[0; 4]);
        (mulaw[20], mulaw[34]) = (7, 8);
        let head_of = |bytes: &[u8]| head(bytes);
        let expected = Head { rate: SampleRate::Hz8000, is_mulaw: true, at: 44, length: Some(8) };
        assert_eq!(head_of(&mulaw), Ok(Some(expected)));
        mulaw[24..28].copy_from_slice(&16_000_u32.to_le_bytes());
        assert_eq!(head_of(&mulaw), Err(WavError::Rate(16_000)));
    }

    #[test]
    fn what_cannot_be_played_is_told() {
        let with = |at: usize, value: &[u8]| {
            let mut file = made();
            file[at..at + value.len()].copy_from_slice(value);
            head(&file)
        };
        assert_eq!(with(0, b"RIFX"), Err(WavError::NotWav));
        assert_eq!(with(8, b"AVI "), Err(WavError::NotWav));
        assert_eq!(with(16, &[15]), Err(WavError::NotWav));
        assert_eq!(with(12, b"junk"), Err(WavError::NotWav));
        assert_eq!(with(20, &[3]), Err(WavError::Format { format: 3, channels: 1, bits: 16 }));
        assert_eq!(with(22, &[2]), Err(WavError::Format { format: 1, channels: 2, bits: 16 }));
        assert_eq!(with(34, &[8]), Err(WavError::Format { format: 1, channels: 1, bits: 8 }));
        assert_eq!(with(24, &11_025_u32.to_le_bytes()), Err(WavError::Rate(11_025)));
        assert_eq!(with(16, &u32::MAX.to_le_bytes()), Err(WavError::NoSamples));
        assert_eq!(head(b"ID3"), Err(WavError::NotWav));
    }

    proptest! {
        #[test]
        fn anything_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), from in 0_usize..44) {
            let mut file = made();
            file.truncate(from);
            file.extend(bytes);
            let _ = head(&file);
        }
    }
}
