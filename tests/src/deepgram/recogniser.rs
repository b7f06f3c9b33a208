//! Pure: when somebody speaks, by loudness, and the messages that a recogniser makes of it.

use std::collections::VecDeque;

use audio_codec_algorithms::decode_ulaw;
use serde_json::{Value, json};

/// What is judged at once: 20 ms.
const FRAME: usize = 160;
/// A frame with a louder sample holds voice.
const LOUD: u16 = 1500;
/// How often it tells what it has understood so far, in ms.
const INTERIM_MS: u64 = 300;

/// One session's ears.
#[derive(Debug)]
pub(super) struct Recogniser {
    endpointing_ms: u64,
    utterance_end_ms: u64,
    rest: VecDeque<u8>,
    at_ms: u64,
    final_to: u64,
    told_at: u64,
    /// The voice that is not final, from and to.
    voice: Option<(u64, u64)>,
    /// The last voice that was told of, until its end was.
    last_word: Option<u64>,
    /// Voice in all.
    pub(super) voice_ms: u64,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Interim,
    Final { speech_final: bool },
    UtteranceEnd { last_word_ms: u64 },
}

impl Recogniser {
    pub(super) const fn new(endpointing_ms: u64, utterance_end_ms: u64) -> Self {
        Self {
            endpointing_ms,
            utterance_end_ms,
            rest: VecDeque::new(),
            at_ms: 0,
            final_to: 0,
            told_at: 0,
            voice: None,
            last_word: None,
            voice_ms: 0,
        }
    }

    /// Takes mu-law, which [`Self::next`] goes through.
    pub(super) fn hear(&mut self, codes: &[u8]) {
        self.rest.extend(codes);
    }

    /// What is found next in what came; its message has to be made before the next is asked for.
    pub(super) fn next(&mut self) -> Option<Finding> {
        while self.rest.len() >= FRAME {
            let is_loud = self.rest.drain(..FRAME).any(|code| decode_ulaw(code).unsigned_abs() > LOUD);
            self.at_ms += 20;
            if is_loud {
                let from = self.voice.map_or(self.at_ms - 20, |(from, _)| from);
                (self.voice, self.last_word) = (Some((from, self.at_ms)), Some(self.at_ms));
                self.voice_ms += 20;
            }
            let found = self.finding();
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn finding(&mut self) -> Option<Finding> {
        if self.voice.is_some_and(|(_, to)| self.at_ms - to >= self.endpointing_ms) {
            return Some(Finding::Final { speech_final: true });
        }
        if let Some(last_word_ms) = self.last_word.filter(|last| self.at_ms - last >= self.utterance_end_ms) {
            self.last_word = None;
            return Some(Finding::UtteranceEnd { last_word_ms });
        }
        if self.at_ms - self.told_at >= INTERIM_MS {
            self.told_at = self.at_ms;
            return Some(Finding::Interim);
        }
        None
    }

    /// True when there is voice that is not final.
    pub(super) const fn has_voice(&self) -> bool {
        self.voice.is_some()
    }

    /// The message of a finding, in which `text` was understood.
    pub(super) fn message(&mut self, finding: Finding, text: &str, from_finalize: bool) -> Value {
        let (is_final, speech_final) = match finding {
            Finding::Interim => (false, false),
            // A flush ends the speech as well, by the server's own description.
            Finding::Final { speech_final } => (true, speech_final || from_finalize),
            Finding::UtteranceEnd { last_word_ms } => {
                let last_word_end = seconds(last_word_ms);
                return json!({ "type": "UtteranceEnd", "channel": [0, 1], "last_word_end": last_word_end });
            }
        };
        let words = self.words(text).map(|(word, from, to)| {
            json!({
                "word": word.to_lowercase(), "punctuated_word": word, "confidence": 0.99,
                "start": seconds(from), "end": seconds(to),
            })
        });
        let message = json!({
            "type": "Results", "channel_index": [0, 1], "is_final": is_final, "speech_final": speech_final,
            "from_finalize": from_finalize, "start": seconds(self.final_to), "duration": seconds(self.at_ms - self.final_to),
            "channel": { "alternatives": [{
                "transcript": text, "confidence": 0.99, "words": words.collect::<Vec<_>>(),
            }] },
            "metadata": {
                "request_id": "0", "model_uuid": "0", "model_info": { "name": "stand-in", "version": "1", "arch": "none" },
            },
        });
        if is_final {
            self.finish();
        }
        message
    }

    /// The words of `text`, from and to in ms: they fill the voice that is not final.
    pub(super) fn words<'t>(&self, text: &'t str) -> impl Iterator<Item = (&'t str, u64, u64)> + use<'t> {
        let (from, to) = self.voice.unwrap_or((self.at_ms, self.at_ms));
        let each = (to - from) / (text.split_whitespace().count() as u64).max(1);
        (0..).zip(text.split_whitespace()).map(move |(at, word)| (word, from + at * each, from + (at + 1) * each))
    }

    /// What was heard is final.
    pub(super) const fn finish(&mut self) {
        (self.final_to, self.told_at, self.voice) = (self.at_ms, self.at_ms, None);
    }

    /// Sound that is not final, in ms.
    pub(super) const fn open_ms(&self) -> u64 {
        self.at_ms - self.final_to
    }
}

pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
