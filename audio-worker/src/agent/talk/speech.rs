//! What the caller says, kept for the recogniser: a little of what came before a turn, and the turn.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

/// Kept from before voice was found: detectors need a moment, and words begin softly. 320 ms at 16 kHz.
const BEFORE: usize = 16 * 320;

/// Samples in a millisecond.
const PER_MS: usize = 16;

/// Codes of mu-law in a millisecond.
const CODES_PER_MS: usize = 8;

/// Codes that may not be in a window yet: 32 ms, and what resampling holds back.
const CODES_AHEAD: usize = CODES_PER_MS * 50;

/// Mu-law of silence.
const SILENCE: u8 = 0xff;

/// The caller's sound, 16 kHz, and beside it as it came where somebody wants that.
#[derive(Debug)]
pub(in crate::agent) struct SpeechBuffer {
    pcm: VecDeque<i16>,
    /// Mu-law of the same time, and of what is in no window yet.
    codes: Option<VecDeque<u8>>,
    /// Most that is kept of a turn; of a longer one the beginning is lost.
    most: usize,
    lost: u64,
}

impl SpeechBuffer {
    /// For turns up to `longest`, and a little more; `native` where the sound is kept as it came as well.
    pub(in crate::agent) fn new(longest: Duration, native: bool) -> Self {
        let ms = usize::try_from(longest.as_millis()).unwrap_or(usize::MAX).saturating_add(2000);
        let codes = native.then(VecDeque::new);
        Self { pcm: VecDeque::new(), codes, most: ms.saturating_mul(PER_MS), lost: 0 }
    }

    /// Takes sound as it came.
    pub(in crate::agent) fn push_native(&mut self, codes: &[u8]) {
        if let Some(kept) = &mut self.codes {
            kept.extend(codes);
        }
    }

    /// Takes time without sound, which is silence.
    pub(in crate::agent) fn gap_native(&mut self, ms: u64) {
        if let Some(kept) = &mut self.codes {
            let ms = usize::try_from(ms).unwrap_or(usize::MAX).min(self.most / PER_MS);
            kept.extend(std::iter::repeat_n(SILENCE, ms * CODES_PER_MS));
        }
    }

    /// Takes a window; between turns only the newest sound is kept.
    pub(in crate::agent) fn push(&mut self, window: &[i16], in_turn: bool) {
        self.pcm.extend(window);
        let most = if in_turn { self.most } else { BEFORE };
        let over = self.pcm.len().saturating_sub(most);
        self.pcm.drain(..over);
        if in_turn {
            self.lost += over as u64;
        } else if self.pcm.capacity() > 8 * BEFORE {
            self.pcm.shrink_to(2 * BEFORE);
        }
        self.forget_native();
    }

    /// All that is kept.
    pub(in crate::agent) fn take(&mut self) -> Arc<[i16]> {
        Arc::from(&*self.pcm.make_contiguous())
    }

    /// The same as it came; empty where that is not kept.
    pub(in crate::agent) fn take_native(&mut self) -> Bytes {
        self.codes.as_mut().map_or_else(Bytes::new, |codes| Bytes::copy_from_slice(codes.make_contiguous()))
    }

    /// How much it is, in ms.
    pub(in crate::agent) fn ms(&self) -> u64 {
        (self.pcm.len() / PER_MS) as u64
    }

    /// The turn is over.
    pub(in crate::agent) fn end_turn(&mut self) {
        self.pcm.clear();
        self.forget_native();
    }

    /// What is older than the windows is of no use.
    fn forget_native(&mut self) {
        let Some(codes) = &mut self.codes else { return };
        let most = self.pcm.len() / PER_MS * CODES_PER_MS + CODES_AHEAD;
        codes.drain(..codes.len().saturating_sub(most));
        if codes.capacity() > 8 * most {
            codes.shrink_to(2 * most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_is_kept_between_turns_and_all_within_one_up_to_a_bound() {
        let mut speech = SpeechBuffer::new(Duration::from_secs(1), false);
        for _ in 0..100 {
            speech.push(&[1; 512], false);
        }
        assert_eq!(speech.take().len(), BEFORE);
        speech.push(&[2; 512], true);
        assert_eq!(speech.take().len(), BEFORE + 512);
        for _ in 0..200 {
            speech.push(&[3; 512], true);
        }
        assert_eq!((speech.take().len(), speech.lost > 0), (16 * 3000, true));
        speech.push(&[4; 512], false);
        assert!(speech.pcm.capacity() <= 4 * BEFORE);
        speech.end_turn();
        assert!(speech.take().is_empty());
    }

    #[test]
    fn sound_as_it_came_is_kept_for_the_same_time() {
        let mut speech = SpeechBuffer::new(Duration::from_secs(1), true);
        let window = |speech: &mut SpeechBuffer, code: u8, in_turn: bool| {
            speech.push_native(&[code; 256]);
            speech.push(&[i16::from(code); 512], in_turn);
        };
        for _ in 0..100 {
            window(&mut speech, 1, false);
        }
        assert_eq!(speech.take_native().len(), BEFORE / 2 + CODES_AHEAD);
        window(&mut speech, 2, true);
        let codes = speech.take_native();
        assert_eq!((codes.len(), &codes[codes.len() - 256..]), (BEFORE / 2 + 256 + CODES_AHEAD, &[2; 256][..]));
        // A gap is silence, and a long one no more than a turn.
        speech.gap_native(1);
        assert_eq!(speech.take_native()[codes.len()..], [SILENCE; 8]);
        speech.gap_native(u64::MAX);
        for _ in 0..200 {
            window(&mut speech, 3, true);
        }
        assert_eq!(speech.take_native().len(), 8 * 3000 + CODES_AHEAD);
        speech.end_turn();
        assert_eq!(speech.take_native().len(), CODES_AHEAD);
        assert!(SpeechBuffer::new(Duration::from_secs(1), false).take_native().is_empty());
    }
}
