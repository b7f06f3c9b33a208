//! Tones that were encoded elsewhere, whole, in pieces and broken.

use std::f64::consts::TAU;

use proptest::prelude::*;

use super::*;

const MONO_22050: &[u8] = include_bytes!("fixtures/tone-22050-mono.mp3");
const MONO_24000: &[u8] = include_bytes!("fixtures/tone-24000-mono.mp3");
const STEREO_44100: &[u8] = include_bytes!("fixtures/tone-44100-stereo.mp3");
const MONO_48000: &[u8] = include_bytes!("fixtures/tone-48000-mono.mp3");
const MONO_32000: &[u8] = include_bytes!("fixtures/tone-32000-mono.mp3");

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(SampleRate, Vec<i16>), Mp3Error> {
    let (mut decoder, mut pcm) = (Decoder::new(), Vec::new());
    for piece in pieces {
        decoder.push(piece, &mut pcm)?;
    }
    decoder.finish(&mut pcm)?;
    Ok((decoder.rate().unwrap(), pcm))
}

/// The level of 1 kHz, and of everything, in dB of full scale of a sine.
fn levels(rate: SampleRate, pcm: &[i16]) -> (f64, f64) {
    let (mut re, mut im, mut power) = (0.0, 0.0, 0.0);
    for (at, &sample) in pcm.iter().enumerate() {
        let (value, phase) = (f64::from(sample) / 32768.0, TAU * 1000.0 * at as f64 / rate.hz() as f64);
        re += value * phase.cos();
        im += value * phase.sin();
        power += value * value;
    }
    let count = pcm.len() as f64;
    let tone = 2.0 * re.hypot(im) / count;
    (20.0 * tone.log10(), 10.0 * (2.0 * power / count).log10())
}

#[test]
fn tones_come_out_as_they_went_in() {
    for (file, rate) in [
        (MONO_22050, SampleRate::Hz22050),
        (MONO_24000, SampleRate::Hz24000),
        (STEREO_44100, SampleRate::Hz44100),
        (MONO_48000, SampleRate::Hz48000),
    ] {
        let (found, pcm) = decode([file]).unwrap();
        assert_eq!(found, rate);
        // 0.4 s, and what the encoder adds before and behind.
        let ms = pcm.len() * 1000 / rate.hz();
        assert!((400..500).contains(&ms), "{rate:?}: {ms} ms");
        // The middle: whole periods of the tone.
        let middle = &pcm[rate.hz() / 5..rate.hz() * 3 / 10];
        let (tone, all) = levels(rate, middle);
        assert!((tone + 12.0).abs() < 0.6 && (all - tone).abs() < 0.1, "{rate:?}: {tone} of {all} dB");
    }
}

#[test]
fn samples_are_the_same_wherever_the_bytes_are_cut() {
    for file in [&MONO_22050[..900], &STEREO_44100[..1200]] {
        let whole = decode([file]).unwrap();
        assert_eq!(decode(file.chunks(1)), Ok(whole.clone()));
        for at in 0..file.len() {
            assert_eq!(decode([&file[..at], &file[at..]]), Ok(whole.clone()), "{at}");
        }
    }
}

#[test]
fn tags_and_junk_around_the_frames_are_passed() {
    let plain = decode([MONO_24000]).unwrap();
    let tag = |length: usize, flags: u8| {
        let size = [length >> 21, length >> 14 & 127, length >> 7 & 127, length & 127].map(|part| part as u8);
        [b"ID3\x04\0", &[flags][..], &size, &vec![0xff; length]].concat()
    };
    let cases = [
        [tag(0, 0), MONO_24000.to_vec()].concat(),
        // What is in a tag looks like heads.
        [tag(3000, 0), MONO_24000.to_vec()].concat(),
        [tag(20, 0x10), b"3DI\x04\0\x10\0\0\0\x14".to_vec(), MONO_24000.to_vec()].concat(),
        [b"\r\n\0\0junk\xff\xfb\x90".to_vec(), MONO_24000.to_vec()].concat(),
        [MONO_24000.to_vec(), b"TAG".to_vec(), vec![b'x'; 125]].concat(),
    ];
    for (nth, bytes) in cases.iter().enumerate() {
        for size in [1, 7, bytes.len()] {
            assert_eq!(decode(bytes.chunks(size)).unwrap(), plain, "{nth} {size}");
        }
    }
}

#[test]
fn a_frame_about_the_file_is_no_sound() {
    let head = Head::read(MONO_22050).unwrap();
    assert!(head.is_about_the_file(&MONO_22050[..head.length]));
    let without = decode([&MONO_22050[head.length..]]).unwrap();
    assert_eq!(decode([MONO_22050]).unwrap(), without);
}

#[test]
fn what_is_there_of_a_truncated_stream_is_played() {
    let (_, whole) = decode([MONO_24000]).unwrap();
    for length in [300, 500, 1000, MONO_24000.len() - 1] {
        let (_, pcm) = decode([&MONO_24000[..length]]).unwrap();
        assert!(!pcm.is_empty() && pcm.len() < whole.len() && whole.starts_with(&pcm), "{length}");
    }
}

#[test]
fn bytes_that_are_lost_cost_their_frames_alone() {
    let (_, whole) = decode([MONO_24000]).unwrap();
    let (_, pcm) = decode([&MONO_24000[..1000], &MONO_24000[1010..]]).unwrap();
    assert!(pcm.len() + 2 * 576 >= whole.len() && pcm.len() < whole.len());
}

#[test]
fn what_cannot_be_played_is_told() {
    assert_eq!(decode([MONO_32000]).unwrap_err(), Mp3Error::Rate(32_000));
    assert_eq!(decode([&[][..]]), Err(Mp3Error::NotMp3));
    assert_eq!(decode([&b"<html><body>no such voice</body></html>"[..]]), Err(Mp3Error::NotMp3));
    assert_eq!(decode([&b"{\"detail\": {\"status\": \"quota_exceeded\"}}"[..]]), Err(Mp3Error::NotMp3));
    let (mut decoder, mut pcm) = (Decoder::new(), Vec::new());
    let endless = (0..100).find_map(|_| decoder.push(&[0; 4096], &mut pcm).err());
    assert_eq!((endless, pcm.len()), (Some(Mp3Error::NotMp3), 0));
    assert!(decoder.held.len() <= MAX_JUNK + 4096);
    assert_eq!(decode([&b"ID3\x04\0\0\x7f\x7f\x7f\x7f"[..]]), Err(Mp3Error::Tag));
    assert_eq!(
        decode([&MONO_24000[..1008], MONO_48000]),
        Err(Mp3Error::RateChanges { from: SampleRate::Hz24000, to: 48_000 })
    );
}

#[test]
fn what_is_held_has_a_bound() {
    let (mut decoder, mut pcm) = (Decoder::new(), Vec::new());
    for byte in MONO_48000.iter().cycle().take(100_000) {
        decoder.push(&[*byte], &mut pcm).unwrap();
        assert!(decoder.held.len() < 2 * 1441 + 10);
    }
}

proptest! {
    #[test]
    fn anything_is_taken_without_panic(
        from in 0_usize..1500, flips in prop::collection::vec((0_usize..1500, any::<u8>()), 0..30), size in 1_usize..400,
    ) {
        let mut bytes = STEREO_44100[from.min(STEREO_44100.len())..].to_vec();
        for (at, byte) in flips {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        let _ = decode(bytes.chunks(size));
    }
}
