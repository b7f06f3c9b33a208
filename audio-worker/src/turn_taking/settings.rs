//! What an agent's turn-taking can be tuned by, with defaults that are good on phone lines.

use std::time::Duration;

/// When words are looked for in an interruption that goes on without a pause, after its beginning; each time that none are
/// found, once more after twice as long.
const PROBE: Duration = Duration::from_millis(400);

/// The knobs of turn-taking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Voice that is shorter is no speech: clicks, breath. `min_speech_ms`.
    pub min_speech: Duration,
    /// Silence after which the agent begins to prepare an answer that nobody hears yet. `guess_silence_ms`.
    pub guess_silence: Duration,
    /// Silence after which the caller has finished. Shorter answers sooner and cuts off more people who pause to think.
    /// `endpoint_silence_ms`.
    pub endpoint_silence: Duration,
    /// A turn of the caller is taken as finished when it has become this long. `max_utterance_ms`.
    pub max_utterance: Duration,
    /// Whether the caller may interrupt at all. `interruptible`.
    pub interruptible: bool,
    /// Voice for so long interrupts the agent. `barge_in_ms`.
    pub barge_in: Duration,
    /// An interruption in which no words were found by then was none, and the agent goes on. `false_interruption_ms`.
    pub false_interruption: Duration,
    /// Words that interrupt nobody: the agent goes on when nothing else was said. `fillers`, compared without case and
    /// punctuation.
    pub fillers: Vec<String>,
    /// Silence of the caller, after the agent finished, that is prompted. `silence_prompt_ms`.
    pub silence_prompt: Duration,
}

impl Settings {
    /// When words are looked for in an interruption, after its beginning, when they were looked for so often already;
    /// never when it counts as none before.
    pub(super) fn probe(&self, before: u32) -> Option<Duration> {
        let next = PROBE.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
        if before == 0 {
            Some(next.min(self.false_interruption))
        } else {
            Some(next).filter(|next| *next < self.false_interruption)
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let fillers = ["mhm", "mm", "mmm", "mm-hmm", "hm", "hmm", "uh", "uh-huh", "um", "er", "ah", "aha"];
        Self {
            min_speech: Duration::from_millis(96),
            guess_silence: Duration::from_millis(32),
            endpoint_silence: Duration::from_millis(448),
            max_utterance: Duration::from_secs(30),
            interruptible: true,
            barge_in: Duration::from_millis(64),
            false_interruption: Duration::from_millis(1000),
            fillers: fillers.map(str::to_owned).into(),
            silence_prompt: Duration::from_secs(8),
        }
    }
}
