//! Pure: what every caller of the load says, as ready base64 frames, and how a tone is recognised.
//!
//! One second is 34 frames of speech, 10 of silence, 4 of a 1 kHz tone that starts at the start of a
//! frame, and 2 of silence. The signal path of the worker delays audio by about 10 ms (its filters),
//! so the reply frame of the same index holds the tone in its second half. Rule: the onset is in the
//! first reply frame, after the tone was sent, of which the tone fills a quarter or more. Speech ends
//! 200 ms before the tone, so a reply up to that late cannot be mistaken.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    signal::{tone, tone_power, tone_share},
    sim::{bundled_speech, decode_mulaw, encode_mulaw},
};

/// Samples (and mu-law bytes) of a frame of 20 ms.
pub(super) const FRAME: usize = 160;
const SPEECH_FRAMES: usize = 34;
const SILENT_FRAMES: usize = 10;
const TONE_FRAMES: usize = 4;
const PERIOD: usize = 50;
const FREQUENCY: f64 = 1000.0;
const AMPLITUDE: i16 = 10_000;
/// Part of a reply frame that the tone must fill.
const FILLED: f64 = 0.25;

/// The frames that all callers send in a loop.
#[derive(Clone, Debug)]
pub struct Script {
    payloads: Vec<String>,
}

impl Default for Script {
    fn default() -> Self {
        let mut pcm = Vec::new();
        for piece in bundled_speech().chunks_exact(SPEECH_FRAMES * FRAME) {
            pcm.extend_from_slice(piece);
            pcm.resize(pcm.len() + SILENT_FRAMES * FRAME, 0);
            pcm.extend(tone(FREQUENCY, AMPLITUDE, TONE_FRAMES * FRAME));
            let rest = PERIOD - SPEECH_FRAMES - SILENT_FRAMES - TONE_FRAMES;
            pcm.resize(pcm.len() + rest * FRAME, 0);
        }
        let payloads = encode_mulaw(&pcm).chunks_exact(FRAME).map(|frame| BASE64_STANDARD.encode(frame)).collect();
        Self { payloads }
    }
}

impl Script {
    /// Base64 of frame `index`, counted from the start of the call.
    pub fn payload(&self, index: u64) -> &str {
        let index = usize::try_from(index).unwrap_or(0) % self.payloads.len();
        &self.payloads[index]
    }

    /// True when a tone starts at the start of frame `index`.
    pub fn is_onset(&self, index: u64) -> bool {
        index % PERIOD as u64 == (SPEECH_FRAMES + SILENT_FRAMES) as u64
    }
}

/// True when the tone fills a quarter or more of a reply frame.
pub fn holds_tone(mulaw: &[u8]) -> bool {
    let pcm = decode_mulaw(mulaw);
    let full = f64::from(AMPLITUDE).powi(2) / 2.0;
    // A tone in a part of the window has that part's square as power, and that part as share.
    tone_power(&pcm, FREQUENCY) >= full * FILLED.powi(2) * 0.9 && tone_share(&pcm, FREQUENCY) >= FILLED * 0.9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(delay: usize) -> Vec<Vec<u8>> {
        let script = Script::default();
        let mut all = vec![0xff; delay];
        for index in 0..script.payloads.len() as u64 {
            all.extend(BASE64_STANDARD.decode(script.payload(index)).unwrap());
        }
        all.chunks_exact(FRAME).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn onset_is_in_the_frame_that_holds_the_tone() {
        let script = Script::default();
        for delay in [0, 80, 119] {
            let frames = frames(delay);
            for index in (0..frames.len() as u64).filter(|&i| script.is_onset(i)) {
                let at = index as usize;
                // From the end of speech to the onset nothing is taken for the tone.
                for frame in &frames[at - SILENT_FRAMES + 1..at] {
                    assert!(!holds_tone(frame));
                }
                assert!(holds_tone(&frames[at]), "delay {delay}, frame {at}");
            }
        }
    }

    #[test]
    fn tone_comes_every_second() {
        let script = Script::default();
        assert_eq!(script.payloads.len() % PERIOD, 0);
        assert_eq!((0..500).filter(|&i| script.is_onset(i)).count(), 10);
        assert_eq!(script.payload(script.payloads.len() as u64), script.payload(0));
    }
}
