//! The two ways of sound through a conversation: fixed compositions of the signal path, each with its own state.
//!
//! [`Uplink`] takes the caller's mu-law frames to 16 kHz PCM; [`Downlink`] takes the agent's PCM back to mu-law.
//! Neither is `Clone`: state is never shared. Buffers live as long as the call, so nothing is allocated per frame.

use crate::dsp::{ResampleError, Resampler, SampleRate, mulaw};

/// Rate at which agents hear the caller.
pub const HEARING_RATE: SampleRate = SampleRate::Hz16000;

/// Time stamps are whole milliseconds and frames need not be; a jump below this is rounding, not a gap.
const GAP_TOLERANCE_MS: u64 = 20;

/// What came of one message of the caller's audio.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Milliseconds before this audio for which nothing was sent: loss, or silence that the carrier left out.
    pub gap_ms: u64,
    /// 16 kHz PCM: 320 samples for each full 20 ms; empty while a block is still being gathered.
    pub pcm: &'a [i16],
}

/// Caller to agent: mu-law at 8 kHz in, PCM at 16 kHz out.
#[derive(Debug)]
pub struct Uplink {
    resampler: Resampler,
    narrow: Vec<i16>,
    wide: Vec<i16>,
    next: Option<Expected>,
}

/// Where the next message should begin on the carrier's clock: `samples` after `anchor_ms`.
#[derive(Debug, Clone, Copy)]
struct Expected {
    anchor_ms: u64,
    samples: u64,
}

impl Uplink {
    /// A fresh uplink.
    ///
    /// # Errors
    /// When the resampler cannot be made.
    pub fn new() -> Result<Self, ResampleError> {
        let resampler = Resampler::new(SampleRate::Hz8000, HEARING_RATE)?;
        Ok(Self { resampler, narrow: Vec::new(), wide: Vec::new(), next: None })
    }

    /// Takes one message of mu-law, of any length, whose first sample was spoken at `media_time_ms`.
    ///
    /// # Errors
    /// When the resampler fails.
    pub fn push(&mut self, codes: &[u8], media_time_ms: u64) -> Result<Heard<'_>, ResampleError> {
        let gap_ms = self.follow(codes.len(), media_time_ms);
        self.narrow.clear();
        self.wide.clear();
        mulaw::decode(codes, &mut self.narrow);
        self.resampler.push(&self.narrow, &mut self.wide)?;
        Ok(Heard { gap_ms, pcm: &self.wide })
    }

    /// The carrier's clock after all that was taken, in ms.
    pub fn media_time_ms(&self) -> u64 {
        self.next.map_or(0, |next| next.anchor_ms.saturating_add(next.samples / 8))
    }

    /// Passes one message of `samples` over, which nobody is to hear, and answers the milliseconds before it for which
    /// nothing was sent. What comes next begins with a fresh filter.
    pub fn skip(&mut self, samples: usize, media_time_ms: u64) -> u64 {
        self.resampler.reset();
        self.follow(samples, media_time_ms)
    }

    /// Moves the clock on and says how much of it was left out.
    fn follow(&mut self, samples: usize, media_time_ms: u64) -> u64 {
        let Expected { anchor_ms, samples: before } =
            self.next.unwrap_or(Expected { anchor_ms: media_time_ms, samples: 0 });
        let due_ms = anchor_ms.saturating_add(before / 8);
        let gap_ms = media_time_ms.saturating_sub(due_ms);
        let samples = samples as u64;
        self.next = Some(if gap_ms >= GAP_TOLERANCE_MS {
            Expected { anchor_ms: media_time_ms, samples }
        } else {
            Expected { anchor_ms, samples: before + samples }
        });
        if gap_ms >= GAP_TOLERANCE_MS { gap_ms } else { 0 }
    }
}

/// Agent to caller: PCM at any known rate in, mu-law at 8 kHz out.
#[derive(Debug, Default)]
pub struct Downlink {
    resampler: Option<(SampleRate, Resampler)>,
    narrow: Vec<i16>,
    /// Something of this utterance may still be in the filter.
    unfinished: bool,
}

impl Downlink {
    /// Converts a piece of an utterance and appends its mu-law to `codes`. State is kept within the utterance; a
    /// change of rate begins with a fresh filter.
    ///
    /// # Errors
    /// When the resampler cannot be made or fails.
    pub fn push(&mut self, pcm: &[i16], rate: SampleRate, codes: &mut Vec<u8>) -> Result<(), ResampleError> {
        self.narrow.clear();
        self.unfinished |= !pcm.is_empty();
        match &mut self.resampler {
            Some((current, resampler)) if *current == rate => resampler.push(pcm, &mut self.narrow)?,
            other => {
                let (_, resampler) = other.insert((rate, Resampler::new(rate, SampleRate::Hz8000)?));
                resampler.push(pcm, &mut self.narrow)?;
            }
        }
        mulaw::encode(&self.narrow, codes);
        Ok(())
    }

    /// Ends the utterance: appends the filter's tail to `codes` and forgets everything, so that nothing of this
    /// utterance is heard in the next. Without an utterance there is nothing to end, not even silence.
    ///
    /// # Errors
    /// When the resampler fails.
    pub fn finish(&mut self, codes: &mut Vec<u8>) -> Result<(), ResampleError> {
        self.narrow.clear();
        if std::mem::take(&mut self.unfinished)
            && let Some((_, resampler)) = &mut self.resampler
        {
            resampler.flush(&mut self.narrow)?;
        }
        mulaw::encode(&self.narrow, codes);
        Ok(())
    }

    /// Throws away what is inside: the utterance was interrupted.
    pub fn reset(&mut self) {
        self.unfinished = false;
        if let Some((_, resampler)) = &mut self.resampler {
            resampler.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_stays_silence_and_counts_are_exact() {
        let (mut uplink, mut downlink, mut codes) = (Uplink::new().unwrap(), Downlink::default(), Vec::new());
        for frame in 0..10 {
            let heard = uplink.push(&[mulaw::SILENCE; 160], frame * 20).unwrap();
            assert_eq!((heard.gap_ms, heard.pcm.len()), (0, 320));
            downlink.push(heard.pcm, HEARING_RATE, &mut codes).unwrap();
        }
        assert_eq!(codes, vec![mulaw::SILENCE; 1600]);
    }

    #[test]
    fn a_jump_of_the_carriers_clock_is_a_gap_and_rounding_is_not() {
        let mut uplink = Uplink::new().unwrap();
        let mut gaps = Vec::new();
        // 100 samples are 12.5 ms, so stamps are rounded; then 400 ms are missing; then the clock goes on from there.
        for at in [0, 13, 25, 38, 450, 462, 475] {
            gaps.push(uplink.push(&[mulaw::SILENCE; 100], at).unwrap().gap_ms);
        }
        assert_eq!(gaps, [0, 0, 0, 0, 400, 0, 0]);
    }

    #[test]
    fn what_is_skipped_is_no_gap_and_nothing_of_before_is_heard_after() {
        let mut uplink = Uplink::new().unwrap();
        let loud = [0x80; 250];
        uplink.push(&loud, 0).unwrap();
        assert_eq!(uplink.skip(160, 31), 0);
        assert_eq!(uplink.skip(160, 151), 100);
        let heard = uplink.push(&[mulaw::SILENCE; 160], 171).unwrap();
        assert_eq!((heard.gap_ms, heard.pcm), (0, &[0; 320][..]));
    }

    #[test]
    fn nothing_of_an_utterance_is_heard_in_the_next() {
        let loud = vec![20_000; 320];
        let mut downlink = Downlink::default();
        for end in [Downlink::reset as fn(&mut Downlink), |d| d.finish(&mut Vec::new()).unwrap()] {
            downlink.push(&loud, HEARING_RATE, &mut Vec::new()).unwrap();
            end(&mut downlink);
            let mut codes = Vec::new();
            downlink.push(&[0; 320], HEARING_RATE, &mut codes).unwrap();
            assert_eq!(codes, vec![mulaw::SILENCE; 160]);
        }
    }

    #[test]
    fn an_end_without_an_utterance_is_silent() {
        let mut downlink = Downlink::default();
        let mut codes = Vec::new();
        downlink.push(&[1000; 320], HEARING_RATE, &mut codes).unwrap();
        downlink.finish(&mut codes).unwrap();
        let whole = codes.len();
        downlink.finish(&mut codes).unwrap();
        downlink.push(&[1000; 320], HEARING_RATE, &mut Vec::new()).unwrap();
        downlink.reset();
        downlink.finish(&mut codes).unwrap();
        assert_eq!(codes.len(), whole);
    }

    #[test]
    fn finish_brings_out_the_last_sample() {
        let mut downlink = Downlink::default();
        let mut codes = Vec::new();
        let mut utterance = vec![0; 330];
        utterance[329] = 30_000;
        downlink.push(&utterance, HEARING_RATE, &mut codes).unwrap();
        downlink.finish(&mut codes).unwrap();
        let mut pcm = Vec::new();
        mulaw::decode(&codes, &mut pcm);
        assert!(pcm[164..].iter().any(|sample| sample.unsigned_abs() > 5000));
    }
}
