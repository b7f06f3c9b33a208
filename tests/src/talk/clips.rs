//! Pure: what callers say, cut from the corpus so that its first and last sample are speech.

use std::ops::Range;

use crate::{
    corpus::{RATE, Speech},
    sim::encode_mulaw,
};

/// Between two lines of the corpus there is at least so much silence, within one there is less: 0.4 s.
const BETWEEN_LINES: usize = RATE * 2 / 5;

/// Voices of the bundled speech take turns, line by line.
const VOICES: usize = 4;
/// No line is taken that is shorter, ms.
const A_WORD_MS: u64 = 400;

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

/// The lines of `speech`, each from its first word to its last.
pub fn clips(speech: &Speech) -> Vec<Clip> {
    let goes_on = |a: &Range<usize>, b: &Range<usize>| b.start - a.end < BETWEEN_LINES;
    let lines = speech.spans.chunk_by(goes_on);
    lines.filter_map(|line| Some(Clip::new(&speech.pcm[line.first()?.start..line.last()?.end]))).collect()
}

/// The lines of the bundled speech that voices made of recordings say, and that are longer than a word. The fourth voice is
/// a diphone voice, in which the worker's detector hears a human being late or not at all.
pub fn recorded() -> Vec<Clip> {
    let lines = clips(&Speech::bundled()).into_iter().enumerate();
    lines.filter(|(at, clip)| at % VOICES != VOICES - 1 && clip.ms() >= A_WORD_MS).map(|(_, clip)| clip).collect()
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
        assert_eq!((clips.len(), recorded().len()), (32, 23));
        let both = paused(&clips, clips.len() - 1, 250);
        assert_eq!(both.ms(), clips[clips.len() - 1].ms() + 250 + clips[0].ms());
    }
}
