//! Turns of a caller, by loudness. Pure.

use crate::sim::decode_mulaw;

/// Samples of a window: 20 ms.
const WINDOW: usize = 160;
/// Mean amplitude from which on a window is voice.
const VOICE: u32 = 600;
/// Voice that begins a turn, in windows.
const BEGINS: u32 = 3;

/// What is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The caller began, so many ms after the session's first sound.
    Began(u64),
    /// The caller has finished.
    Ended(u64),
}

/// Ears that know one session.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    waiting: Vec<i16>,
    heard_ms: u64,
    voiced: u32,
    silent: u32,
    speaks: bool,
}

impl Hearing {
    /// Takes mu-law; silence of `silence_ms` ends a turn.
    pub(super) fn hear(&mut self, codes: &[u8], silence_ms: u64) -> Vec<Turn> {
        self.waiting.extend(decode_mulaw(codes));
        let mut turns = Vec::new();
        while self.waiting.len() >= WINDOW {
            let window: Vec<i16> = self.waiting.drain(..WINDOW).collect();
            let loudness = window.iter().map(|sample| u32::from(sample.unsigned_abs())).sum::<u32>() / WINDOW as u32;
            self.heard_ms += 20;
            if loudness >= VOICE {
                (self.voiced, self.silent) = (self.voiced + 1, 0);
            } else {
                (self.voiced, self.silent) = (0, self.silent + 1);
            }
            if !self.speaks && self.voiced >= BEGINS {
                self.speaks = true;
                turns.push(Turn::Began(self.heard_ms));
            } else if self.speaks && u64::from(self.silent) * 20 >= silence_ms {
                self.speaks = false;
                turns.push(Turn::Ended(self.heard_ms));
            }
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_begins_with_voice_and_ends_after_silence() {
        let mut hearing = Hearing::default();
        assert!(hearing.hear(&[0xFF; 1600], 500).is_empty());
        assert_eq!(hearing.hear(&[0x10; 1600], 500), [Turn::Began(260)]);
        assert_eq!(hearing.hear(&[0xFF; 8000], 500), [Turn::Ended(900)]);
    }
}
