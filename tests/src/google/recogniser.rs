//! Pure: when somebody speaks in a stream, by loudness, and the messages that a recogniser makes of it.

use std::{collections::VecDeque, time::Duration};

use audio_codec_algorithms::decode_ulaw;
use proto::google_speech::{
    SpeechRecognitionAlternative, StreamingRecognitionResult, StreamingRecognizeResponse, WordInfo,
    streaming_recognize_response::SpeechEventType,
};

/// What is judged at once: 20 ms.
const FRAME: usize = 160;
/// A frame with a louder sample holds voice.
const LOUD: u16 = 1500;
/// How often it tells what it has understood so far, in ms.
const INTERIM_MS: u64 = 300;
/// Silence after which words become final by themselves, and after which an end of speech is told, in ms.
const PAUSE_MS: u64 = 900;
const END_MS: u64 = 600;

/// One stream's ears.
#[derive(Debug, Default)]
pub(super) struct Recogniser {
    /// It tells when somebody begins and ends to speak.
    has_events: bool,
    rest: VecDeque<u8>,
    pub(super) at_ms: u64,
    told_at: u64,
    /// The voice that is not final, from and to.
    voice: Option<(u64, u64)>,
    is_speaking: bool,
    /// Voice in all.
    pub(super) voice_ms: u64,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Interim,
    Final,
    Begin,
    End,
}

impl Recogniser {
    pub(super) fn new(has_events: bool) -> Self {
        Self { has_events, ..Self::default() }
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
                self.voice = Some((from, self.at_ms));
                self.voice_ms += 20;
            }
            let found = self.finding(is_loud);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn finding(&mut self, is_loud: bool) -> Option<Finding> {
        let silent_ms = self.voice.map_or(0, |(_, to)| self.at_ms - to);
        if self.has_events && is_loud != self.is_speaking && (is_loud || silent_ms >= END_MS) {
            self.is_speaking = is_loud;
            return Some(if is_loud { Finding::Begin } else { Finding::End });
        }
        // Nothing is told of silence.
        self.voice?;
        if silent_ms >= PAUSE_MS {
            return Some(Finding::Final);
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
    pub(super) fn message(&mut self, finding: Finding, text: &str) -> StreamingRecognizeResponse {
        let mut message = StreamingRecognizeResponse::default();
        match finding {
            Finding::Begin | Finding::End => {
                let is_begin = finding == Finding::Begin;
                let kind =
                    if is_begin { SpeechEventType::SpeechActivityBegin } else { SpeechEventType::SpeechActivityEnd };
                (message.speech_event_type, message.speech_event_time) = (kind.into(), time(self.at_ms));
            }
            // A likely part, and a guess behind it.
            Finding::Interim => {
                let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
                message.results = vec![self.result(first, false), self.result(&format!(" {rest}"), false)];
            }
            Finding::Final => {
                message.results = vec![self.result(text, true)];
                (self.told_at, self.voice) = (self.at_ms, None);
            }
        }
        message
    }

    fn result(&self, text: &str, is_final: bool) -> StreamingRecognitionResult {
        let (from, to) = self.voice.unwrap_or((self.at_ms, self.at_ms));
        let all: Vec<_> = text.split_whitespace().collect();
        let each = (to - from) / (all.len() as u64).max(1);
        let words = (0..).zip(&all).map(|(at, word): (u64, _)| WordInfo {
            start_time: time(from + at * each),
            end_time: time(from + (at + 1) * each),
            word: (*word).to_owned(),
        });
        let words = if is_final { words.collect() } else { Vec::new() };
        let best = SpeechRecognitionAlternative { transcript: text.to_owned(), confidence: 0.9, words };
        let other = SpeechRecognitionAlternative { transcript: "something else".to_owned(), ..Default::default() };
        StreamingRecognitionResult {
            alternatives: vec![best, other],
            is_final,
            stability: if is_final { 0.0 } else { 0.9 },
            result_end_time: time(self.at_ms),
        }
    }
}

pub(super) fn time<T: TryFrom<Duration>>(ms: u64) -> Option<T> {
    T::try_from(Duration::from_millis(ms)).ok()
}
