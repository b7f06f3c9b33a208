//! Pure: what callers say, cut from the corpus so that its first and last sample are speech.

use crate::{
    corpus::{RATE, Speech},
    sim::encode_mulaw,
};

/// Shorter pieces are half a word.
const SHORTEST: usize = RATE * 2 / 5;

/// Mu-law that begins and ends with speech.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// The sound, 8000 samples a second.
    pub mulaw: Vec<u8>,
}

impl Clip {
    /// A clip of PCM at 8 kHz.
    pub fn new(pcm: &[i16]) -> Self {
        Self { mulaw: encode_mulaw(pcm) }
    }

    /// Its length in milliseconds.
    pub fn ms(&self) -> u64 {
        self.mulaw.len() as u64 / 8
    }
}

/// What can be said on its own.
pub fn clips(speech: &Speech) -> Vec<Clip> {
    let spans = speech.spans.iter().filter(|span| span.len() >= SHORTEST);
    spans.map(|span| Clip::new(&speech.pcm[span.clone()])).collect()
}

/// Two of `clips`, the one at `index` and the one after it, as one utterance with so long a pause in it.
pub fn paused(clips: &[Clip], index: usize, pause_ms: u64) -> Clip {
    let of = |index: usize| &clips[index % clips.len()].mulaw[..];
    let pause = vec![crate::sim::SILENCE; usize::try_from(pause_ms * 8).unwrap_or_default()];
    Clip { mulaw: [of(index), &pause, of(index + 1)].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lies_between_two_clips() {
        let clips = clips(&Speech::bundled());
        assert!(clips.len() > 25, "{}", clips.len());
        assert!(clips.iter().all(|clip| clip.ms() >= 400));
        let both = paused(&clips, clips.len() - 1, 250);
        assert_eq!(both.ms(), clips[clips.len() - 1].ms() + 250 + clips[0].ms());
    }
}
