//! WAV files and mu-law: what the caller says and hears, at 8 kHz.

use std::{io, path::Path, sync::LazyLock};

use anyhow::{Context as _, ensure};
use audio_codec_algorithms::{decode_ulaw, encode_ulaw};

/// Samples per second on the phone line; one mu-law byte each.
pub(crate) const SAMPLE_RATE: u32 = 8000;
/// The mu-law byte for silence (positive zero).
pub(crate) const SILENCE: u8 = 0xff;

static BUNDLED: &[u8] = include_bytes!("../../speech/caller.wav");

/// The bundled speech: 8.67 s of PCM 16 bit at 8 kHz (source in `speech/README.md`).
pub fn bundled_speech() -> &'static [i16] {
    static SAMPLES: LazyLock<Vec<i16>> = LazyLock::new(|| {
        let reader = hound::WavReader::new(BUNDLED).expect("the bundled WAV is valid");
        reader.into_samples().map_while(Result::ok).collect()
    });
    &SAMPLES
}

/// Reads a WAV file, which must be PCM 16 bit, mono, 8 kHz.
pub fn read_wav(path: &Path) -> anyhow::Result<Vec<i16>> {
    let reader = hound::WavReader::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let spec = reader.spec();
    ensure!(
        spec.channels == 1
            && spec.sample_rate == SAMPLE_RATE
            && spec.bits_per_sample == 16
            && spec.sample_format == hound::SampleFormat::Int,
        "{} must be PCM 16 bit, mono, 8 kHz (`sox in.wav -r 8000 -b 16 -c 1 out.wav` makes it so)",
        path.display()
    );
    let samples: Result<Vec<i16>, hound::Error> = reader.into_samples().collect();
    samples.with_context(|| format!("{} is cut off", path.display()))
}

/// Writes PCM 16 bit, mono, 8 kHz.
pub fn write_wav(path: &Path, samples: &[i16]) -> io::Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let write = || -> Result<(), hound::Error> {
        let mut writer = hound::WavWriter::create(path, spec)?;
        for &sample in samples {
            writer.write_sample(sample)?;
        }
        writer.finalize()
    };
    write().map_err(|error| match error {
        hound::Error::IoError(error) => error,
        other @ (hound::Error::FormatError(_)
        | hound::Error::TooWide
        | hound::Error::UnfinishedSample
        | hound::Error::Unsupported
        | hound::Error::InvalidSampleFormat) => io::Error::other(other),
    })
}

/// PCM 16 bit to G.711 mu-law.
pub fn encode_mulaw(samples: &[i16]) -> Vec<u8> {
    samples.iter().map(|&sample| encode_ulaw(sample)).collect()
}

/// G.711 mu-law to PCM 16 bit.
pub fn decode_mulaw(codes: &[u8]) -> Vec<i16> {
    codes.iter().map(|&code| decode_ulaw(code)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_speech_is_eight_seconds_below_full_scale() {
        let speech = bundled_speech();
        assert!((8 * 8000..9 * 8000).contains(&speech.len()));
        let peak = speech.iter().map(|s| s.unsigned_abs()).max();
        assert!(peak > Some(20_000) && peak < Some(24_000), "{peak:?}");
    }

    #[test]
    fn silence_is_zero_and_mulaw_is_stable() {
        assert_eq!(encode_mulaw(&[0]), [SILENCE]);
        for code in 0..=255u8 {
            let pcm = decode_mulaw(&[code]);
            // 0x7f is negative zero; every other code comes back as itself.
            assert_eq!(encode_mulaw(&pcm)[0], if code == 0x7f { 0xff } else { code });
        }
    }

    #[test]
    fn wav_comes_back_as_written() {
        let path = std::env::temp_dir().join(format!("speech-{}.wav", std::process::id()));
        write_wav(&path, &[1, -2, 3]).unwrap();
        assert_eq!(read_wav(&path).unwrap(), [1, -2, 3]);
        std::fs::remove_file(path).unwrap();
    }
}
