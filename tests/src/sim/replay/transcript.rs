//! Pure: what a gateway said in a call, so that two calls can be compared whatever their timing.

use std::fmt;

use serde::Serialize;

use super::{CallerDid, GatewaySaid, Line, Sound, Tape};

/// What a gateway said: stretches of sound, parted by `clear`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transcript {
    /// At least one.
    pub(super) stretches: Vec<Stretch>,
    /// The close frame, where the gateway began to close, and its code.
    pub(super) close: Option<Option<u16>>,
    /// Messages of the caller before the gateway began to close, or in all.
    pub(super) caller_messages: usize,
    /// The caller left first: a close that comes after it is only the answer.
    #[serde(skip)]
    caller_left: bool,
}

/// What was said up to a `clear` or the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Stretch {
    /// Samples at 8 kHz.
    pub(super) samples: usize,
    /// Marks, and the samples before each.
    pub(super) marks: Vec<(String, usize)>,
    /// What is no message that a gateway may send, and the samples before it.
    pub(super) others: Vec<(String, usize)>,
    /// The sound itself in mu-law, as far as it is known from the beginning.
    #[serde(skip)]
    pub(super) mulaw: Vec<u8>,
}

impl Default for Transcript {
    fn default() -> Self {
        Self { stretches: vec![Stretch::default()], close: None, caller_messages: 0, caller_left: false }
    }
}

impl Transcript {
    /// What the gateway said in a capture.
    pub fn of(tape: &Tape) -> Self {
        let mut transcript = Self::default();
        for line in &tape.lines {
            match line {
                Line::Caller(_, did) => transcript.hear_caller(did),
                Line::Gateway(said) => transcript.hear(said),
            }
        }
        transcript
    }

    /// Adds what the gateway said next.
    pub fn hear(&mut self, said: &GatewaySaid) {
        let is_new = matches!(said, GatewaySaid::Clear);
        let Some(stretch) = self.stretches.last_mut() else { return };
        match said {
            GatewaySaid::Media(sound) => stretch.add(sound),
            GatewaySaid::Mark(name) => stretch.marks.push((name.clone(), stretch.samples)),
            GatewaySaid::Other(what) => stretch.others.push((what.clone(), stretch.samples)),
            GatewaySaid::Close(code) if !self.caller_left => self.close = self.close.or(Some(*code)),
            GatewaySaid::Close(_) | GatewaySaid::Clear | GatewaySaid::Ping => {}
        }
        if is_new {
            self.stretches.push(Stretch::default());
        }
    }

    /// Counts what the caller did.
    pub fn hear_caller(&mut self, did: &CallerDid) {
        self.caller_messages += usize::from(self.close.is_none());
        self.caller_left |= matches!(did, CallerDid::Close(_) | CallerDid::Lost);
    }

    /// Samples at 8 kHz.
    pub fn samples(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.samples).sum()
    }

    /// Marks, by name, in order.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        self.stretches.iter().flat_map(|stretch| stretch.marks.iter().map(|(name, _)| name.as_str()))
    }

    /// `clear` messages.
    pub fn clears(&self) -> usize {
        self.stretches.len() - 1
    }

    /// The close frame and its code.
    pub fn close(&self) -> Option<Option<u16>> {
        self.close
    }
}

impl Stretch {
    fn add(&mut self, sound: &Sound) {
        if let Sound::Mulaw(mulaw) = sound
            && self.mulaw.len() == self.samples
        {
            self.mulaw.extend_from_slice(mulaw);
        }
        self.samples += sound.samples();
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let close = match self.close {
            None => "no close".to_owned(),
            Some(None) => "close without a code".to_owned(),
            Some(Some(code)) => format!("close {code}"),
        };
        let (ms, marks) = (self.samples() / 8, self.marks().count());
        let others: usize = self.stretches.iter().map(|stretch| stretch.others.len()).sum();
        write!(f, "{ms} ms of sound, {marks} marks, {} clear, {others} others, {close}", self.clears())
    }
}
