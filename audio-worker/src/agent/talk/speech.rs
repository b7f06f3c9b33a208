//! What the caller says, kept for the recogniser: a little of what came before a turn, and the turn.

use std::{collections::VecDeque, sync::Arc, time::Duration};

/// Kept from before voice was found: detectors need a moment, and words begin softly. 320 ms at 16 kHz.
const BEFORE: usize = 16 * 320;

/// Samples in a millisecond.
const PER_MS: usize = 16;

/// The caller's sound, 16 kHz.
#[derive(Debug)]
pub(super) struct SpeechBuffer {
    pcm: VecDeque<i16>,
    /// Most that is kept of a turn; of a longer one the beginning is lost.
    most: usize,
    lost: u64,
}

impl SpeechBuffer {
    /// For turns up to `longest`, and a little more.
    pub(super) fn new(longest: Duration) -> Self {
        let ms = usize::try_from(longest.as_millis()).unwrap_or(usize::MAX).saturating_add(2000);
        Self { pcm: VecDeque::new(), most: ms.saturating_mul(PER_MS), lost: 0 }
    }

    /// Takes a window; between turns only the newest sound is kept.
    pub(super) fn push(&mut self, window: &[i16], in_turn: bool) {
        self.pcm.extend(window);
        let most = if in_turn { self.most } else { BEFORE };
        let over = self.pcm.len().saturating_sub(most);
        self.pcm.drain(..over);
        if in_turn {
            self.lost += over as u64;
        } else if self.pcm.capacity() > 8 * BEFORE {
            self.pcm.shrink_to(2 * BEFORE);
        }
    }

    /// All that is kept.
    pub(super) fn take(&mut self) -> Arc<[i16]> {
        Arc::from(&*self.pcm.make_contiguous())
    }

    /// The turn is over.
    pub(super) fn end_turn(&mut self) {
        self.pcm.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_is_kept_between_turns_and_all_within_one_up_to_a_bound() {
        let mut speech = SpeechBuffer::new(Duration::from_secs(1));
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
}
