//! MPEG audio layer 3 as it comes: bytes cut anywhere in, mono samples out.
//!
//! Frames are found here, since a stream has no file around it; what is in them is decoded by symphonia.

use std::fmt;

use symphonia_bundle_mp3::MpaDecoder;
use symphonia_core::{
    codecs::audio::{AudioCodecParameters, AudioDecoder as _, AudioDecoderOptions, well_known::CODEC_ID_MP3},
    packet::PacketRef,
    units::{Duration, Timestamp},
};

use crate::dsp::SampleRate;

/// Most bytes that are no frame, before the first one or between two.
const MAX_JUNK: usize = 64 << 10;
/// Largest tag before the sound: pictures are in there.
const MAX_TAG: usize = 4 << 20;
/// Frames in a row that may be broken; each is silence of its length.
const MAX_BROKEN: u32 = 20;
/// Bytes of a frame's head.
const HEAD: usize = 4;

/// Why there is no sound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mp3Error {
    #[error("not MP3")]
    NotMp3,
    #[error("MP3 of {0} Hz, which is no rate that is known")]
    Rate(u32),
    #[error("MP3 whose rate changes from {} to {to} Hz", from.hz())]
    RateChanges { from: SampleRate, to: u32 },
    #[error("an MP3 tag of more than {} KiB", MAX_TAG >> 10)]
    Tag,
    #[error("MP3 with {MAX_BROKEN} broken frames in a row")]
    Broken,
}

/// Decodes one stream.
pub(super) struct Decoder {
    /// What came and is no whole frame yet: a frame and what follows it, or junk, at most.
    held: Vec<u8>,
    /// Bytes of a tag that are still to come.
    tag_left: usize,
    junk: usize,
    /// The frame before this place was whole: the next one begins here.
    in_step: bool,
    /// What the frames have in common, once there was one.
    stream: Option<Stream>,
    broken: u32,
    interleaved: Vec<i16>,
}

struct Stream {
    rate: SampleRate,
    channels: usize,
    frames: MpaDecoder,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            held: Vec::new(),
            tag_left: 0,
            junk: 0,
            in_step: false,
            stream: None,
            broken: 0,
            interleaved: Vec::new(),
        }
    }

    /// The rate, once a frame was decoded.
    pub(super) fn rate(&self) -> Option<SampleRate> {
        self.stream.as_ref().map(|stream| stream.rate)
    }

    /// Takes the next bytes and appends the samples of the frames that they complete.
    ///
    /// # Errors
    /// When this is no MP3 that can be played. Nothing is to be pushed after that.
    pub(super) fn push(&mut self, bytes: &[u8], pcm: &mut Vec<i16>) -> Result<(), Mp3Error> {
        self.held.extend_from_slice(bytes);
        self.advance(false, pcm)
    }

    /// The same at the end of the stream: the last frame has none after it. Half a frame is left out.
    ///
    /// # Errors
    /// As [`Self::push`], and when there was no frame at all.
    pub(super) fn finish(&mut self, pcm: &mut Vec<i16>) -> Result<(), Mp3Error> {
        self.advance(true, pcm)?;
        if self.stream.is_none() { Err(Mp3Error::NotMp3) } else { Ok(()) }
    }

    fn advance(&mut self, is_all: bool, pcm: &mut Vec<i16>) -> Result<(), Mp3Error> {
        let mut at = 0;
        loop {
            let skipped = self.tag_left.min(self.held.len() - at);
            self.tag_left -= skipped;
            at += skipped;
            let rest = &self.held[at..];
            if self.tag_left > 0 || rest.len() < HEAD {
                break;
            }
            match tag(rest, is_all) {
                Tag::None => {}
                Tag::Unsure => break,
                Tag::Of(length) if length > MAX_TAG => return Err(Mp3Error::Tag),
                Tag::Of(length) => {
                    self.tag_left = length;
                    continue;
                }
            }
            match self.frame(rest, is_all) {
                Found::Frame(head) => {
                    let frame = at..at + head.length;
                    at = frame.end;
                    self.decode(frame, head, pcm)?;
                }
                Found::Unsure => break,
                Found::Junk => {
                    at += 1;
                    self.in_step = false;
                    self.junk += 1;
                    if self.junk > MAX_JUNK {
                        return Err(Mp3Error::NotMp3);
                    }
                }
            }
        }
        self.held.drain(..at);
        Ok(())
    }

    /// Whether a frame begins here. Two bytes look like a head often enough: without a frame before it, one is believed
    /// when the next follows where it says.
    fn frame(&self, rest: &[u8], is_all: bool) -> Found {
        let Some(head) = Head::read(rest) else { return Found::Junk };
        if rest.len() < head.length {
            return if is_all { Found::Junk } else { Found::Unsure };
        }
        if self.in_step {
            return Found::Frame(head);
        }
        match rest.get(head.length..head.length + HEAD).map(Head::read) {
            Some(Some(next)) if next.hz == head.hz && next.is_first_version == head.is_first_version => {
                Found::Frame(head)
            }
            Some(_) => Found::Junk,
            None if is_all => Found::Frame(head),
            None => Found::Unsure,
        }
    }

    fn decode(&mut self, frame: std::ops::Range<usize>, head: Head, pcm: &mut Vec<i16>) -> Result<(), Mp3Error> {
        (self.in_step, self.junk) = (true, 0);
        let frame = &self.held[frame];
        if head.is_about_the_file(frame) {
            return Ok(());
        }
        let stream = match &mut self.stream {
            Some(stream) if stream.rate.hz() != head.hz as usize => {
                return Err(Mp3Error::RateChanges { from: stream.rate, to: head.hz });
            }
            Some(stream) if stream.channels == head.channels => stream,
            other => {
                let rate = SampleRate::from_hz(head.hz).ok_or(Mp3Error::Rate(head.hz))?;
                other.insert(Stream { rate, channels: head.channels, frames: frames()? })
            }
        };
        let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, frame);
        self.interleaved.clear();
        match stream.frames.decode_ref(&packet) {
            Ok(sound) => {
                sound.copy_to_vec_interleaved(&mut self.interleaved);
                self.broken = 0;
            }
            Err(_) => {
                self.broken += 1;
                if self.broken > MAX_BROKEN {
                    return Err(Mp3Error::Broken);
                }
                self.interleaved.resize(head.samples() * head.channels, 0);
            }
        }
        match head.channels {
            1 => pcm.extend_from_slice(&self.interleaved),
            _ => pcm.extend(self.interleaved.as_chunks::<2>().0.iter().map(|&[left, right]| left.midpoint(right))),
        }
        Ok(())
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("held", &self.held.len()).field("rate", &self.rate()).finish_non_exhaustive()
    }
}

fn frames() -> Result<MpaDecoder, Mp3Error> {
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(CODEC_ID_MP3);
    MpaDecoder::try_new(&parameters, &AudioDecoderOptions::default()).map_err(|_| Mp3Error::NotMp3)
}

enum Found {
    Frame(Head),
    Junk,
    /// More bytes are needed.
    Unsure,
}

enum Tag {
    None,
    /// More bytes are needed.
    Unsure,
    /// So many bytes.
    Of(usize),
}

/// An ID3 tag, before the sound (v2) or behind it (v1).
fn tag(rest: &[u8], is_all: bool) -> Tag {
    if rest.starts_with(b"TAG") {
        return Tag::Of(128);
    }
    if !rest.starts_with(b"ID3") {
        return Tag::None;
    }
    let Some(head) = rest.get(..10) else { return if is_all { Tag::None } else { Tag::Unsure } };
    if head[6..].iter().any(|byte| byte & 0x80 != 0) {
        return Tag::None;
    }
    let size = head[6..].iter().fold(0, |size, &byte| size << 7 | usize::from(byte));
    let footer = if head[5] & 0x10 == 0 { 0 } else { 10 };
    Tag::Of(10 + size + footer)
}

/// What a frame's head says; ISO/IEC 11172-3, 2.4.2.3, and 13818-3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    is_first_version: bool,
    has_checksum: bool,
    hz: u32,
    channels: usize,
    /// Of the whole frame, in bytes.
    length: usize,
}

/// Kilobits a second, by index.
const RATES_1: [usize; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const RATES_2: [usize; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

impl Head {
    /// The head at the beginning of `bytes`, if layer 3 of a rate of its own is there.
    fn read(bytes: &[u8]) -> Option<Self> {
        let &[first, second, third, fourth, ..] = bytes else { return None };
        if first != 0xff || second & 0xe0 != 0xe0 || second & 0x06 != 0x02 {
            return None;
        }
        let rates = [44_100, 48_000, 32_000];
        let hz = *rates.get(usize::from(third >> 2 & 3))?;
        let (is_first_version, hz) = match second >> 3 & 3 {
            3 => (true, hz),
            2 => (false, hz / 2),
            0 => (false, hz / 4),
            _ => return None,
        };
        let kbits = *if is_first_version { &RATES_1 } else { &RATES_2 }.get(usize::from(third >> 4))?;
        if kbits == 0 {
            return None;
        }
        let per_frame = if is_first_version { 144_000 } else { 72_000 };
        Some(Self {
            is_first_version,
            has_checksum: second & 1 == 0,
            hz,
            channels: if fourth >> 6 == 3 { 1 } else { 2 },
            length: per_frame * kbits / hz as usize + usize::from(third >> 1 & 1),
        })
    }

    /// Samples of each channel.
    const fn samples(self) -> usize {
        if self.is_first_version { 1152 } else { 576 }
    }

    /// A first frame may have no sound: encoders write there how long the file is.
    fn is_about_the_file(self, frame: &[u8]) -> bool {
        let side = match (self.is_first_version, self.channels) {
            (true, 1) | (false, 2) => 17,
            (true, _) => 32,
            (false, _) => 9,
        };
        let at = HEAD + if self.has_checksum { 2 } else { 0 } + side;
        let names = |at: usize, name: &[u8]| frame.get(at..at + 4) == Some(name);
        names(at, b"Xing") || names(at, b"Info") || names(36, b"VBRI")
    }
}

#[cfg(test)]
mod tests;
