//! Between the telephone's mu-law and the sound on a realtime server's wire. Pure.
//!
//! Mu-law goes straight through; 24 kHz PCM through the resamplers of the signal path.

use super::settings::WireFormat;
use crate::{
    dsp::{ResampleError, Resampler, SampleRate, mulaw},
    pipeline::Downlink,
    provider::Sound,
};

/// The rate of PCM on the wire.
const WIRE: SampleRate = SampleRate::Hz24000;

/// Bytes of 24 kHz PCM in a millisecond.
const PCM_PER_MS: usize = 48;

/// Bytes of mu-law in a millisecond.
pub(super) const PER_MS: usize = 8;

/// The caller's sound, on its way to the server.
#[derive(Debug)]
pub(super) struct Upwards {
    resampler: Option<Resampler>,
    narrow: Vec<i16>,
    wide: Vec<i16>,
}

impl Upwards {
    pub(super) fn new(format: WireFormat) -> Result<Self, ResampleError> {
        let resampler = match format {
            WireFormat::Ulaw => None,
            WireFormat::Pcm => Some(Resampler::new(SampleRate::Hz8000, WIRE)?),
        };
        Ok(Self { resampler, narrow: Vec::new(), wide: Vec::new() })
    }

    /// Appends what `codes` are on the wire.
    pub(super) fn convert(&mut self, codes: &[u8], wire: &mut Vec<u8>) -> Result<(), ResampleError> {
        let Some(resampler) = &mut self.resampler else {
            wire.extend_from_slice(codes);
            return Ok(());
        };
        self.narrow.clear();
        self.wide.clear();
        mulaw::decode(codes, &mut self.narrow);
        resampler.push(&self.narrow, &mut self.wide)?;
        wire.extend(self.wide.iter().flat_map(|sample| sample.to_le_bytes()));
        Ok(())
    }
}

/// The server's sound, on its way to the caller: one utterance after the other.
#[derive(Debug)]
pub(super) struct Downwards {
    format: WireFormat,
    downlink: Downlink,
    /// Half a sample.
    odd: Option<u8>,
    pcm: Vec<i16>,
}

impl Downwards {
    pub(super) fn new(format: WireFormat) -> Self {
        Self { format, downlink: Downlink::default(), odd: None, pcm: Vec::new() }
    }

    /// Appends what `wire` is in mu-law.
    pub(super) fn convert(&mut self, wire: &[u8], codes: &mut Vec<u8>) -> Result<(), ResampleError> {
        match self.format {
            WireFormat::Ulaw => {
                codes.extend_from_slice(wire);
                return Ok(());
            }
            WireFormat::Pcm => {}
        }
        self.pcm.clear();
        let mut bytes = self.odd.take().into_iter().chain(wire.iter().copied());
        while let Some(low) = bytes.next() {
            match bytes.next() {
                Some(high) => self.pcm.push(i16::from_le_bytes([low, high])),
                None => self.odd = Some(low),
            }
        }
        self.downlink.push(&self.pcm, WIRE, codes)
    }

    /// The same of a voice's sound.
    pub(super) fn voice(&mut self, sound: Sound, codes: &mut Vec<u8>) -> Result<(), ResampleError> {
        match sound {
            Sound::Pcm(rate, pcm) => self.downlink.push(&pcm, rate, codes),
            Sound::Mulaw(sound) => {
                codes.extend_from_slice(&sound);
                Ok(())
            }
            Sound::Word { .. } => Ok(()),
        }
    }

    /// Appends the end of the utterance.
    pub(super) fn finish(&mut self, codes: &mut Vec<u8>) -> Result<(), ResampleError> {
        self.odd = None;
        self.downlink.finish(codes)
    }

    /// Milliseconds of so many bytes on the wire, as the server counts them.
    pub(super) fn ms(format: WireFormat, bytes: usize) -> u64 {
        let per_ms = match format {
            WireFormat::Ulaw => PER_MS,
            WireFormat::Pcm => PCM_PER_MS,
        };
        (bytes / per_ms) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mu_law_is_passed_on_byte_for_byte_and_pcm_cut_anywhere_has_the_same_length() {
        let every: Vec<u8> = (0..=255).collect();
        let mut wire = Vec::new();
        Upwards::new(WireFormat::Ulaw).unwrap().convert(&every, &mut wire).unwrap();
        assert_eq!(wire, every);
        let mut codes = Vec::new();
        Downwards::new(WireFormat::Ulaw).convert(&every, &mut codes).unwrap();
        assert_eq!(codes, every);

        let mut up = Upwards::new(WireFormat::Pcm).unwrap();
        wire.clear();
        for piece in [mulaw::SILENCE; 1600].chunks(37) {
            up.convert(piece, &mut wire).unwrap();
        }
        assert_eq!(Downwards::ms(WireFormat::Pcm, wire.len()), 200);
        for cut in [1, 47, 960, 4801] {
            let mut down = Downwards::new(WireFormat::Pcm);
            codes.clear();
            wire.chunks(cut).for_each(|piece| down.convert(piece, &mut codes).unwrap());
            assert_eq!(codes, [mulaw::SILENCE; 1600], "cut at {cut}");
        }
    }
}
