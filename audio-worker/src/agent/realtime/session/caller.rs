//! What the caller's side sends: sound, gaps and keys, on their way to the server.

use std::time::Duration;

use super::{Ask, Downwards, Output, PER_MS, Session, Turns, What, wire};
use crate::{dsp::mulaw, provider::Role, turn_taking};

/// Of the caller's sound, so much is kept while there is no server.
const MAX_UNSENT_MS: usize = 10_000;

/// Silence that is made of a gap at most: no turn detection waits longer.
const MAX_GAP_MS: u64 = 10_000;

/// Silence is sent in pieces of this length.
const SILENCE_PIECE_MS: u64 = 1000;

/// Keys that come within this time of each other belong together.
const KEYS_PAUSE: Duration = Duration::from_secs(2);

/// Most keys of one message.
const MAX_KEYS: usize = 64;

impl Session {
    pub(super) fn on_mulaw(&mut self, codes: &[u8]) {
        if self.is_closing || self.is_held {
            return;
        }
        let is_protected = self.is_protected();
        match &mut self.turns {
            Turns::Own(own) => {
                if own.keep(codes) {
                    self.send_sound(codes);
                }
            }
            // Who must not interrupt is not heard.
            Turns::Server(_) if is_protected => self.send_silence((codes.len() / PER_MS) as u64),
            Turns::Server(_) => self.send_sound(codes),
        }
    }

    pub(super) fn on_gap(&mut self, ms: u64) {
        if self.is_closing || self.is_held {
            return;
        }
        let is_wanted = match &self.turns {
            Turns::Own(own) => own.is_streaming(),
            Turns::Server(_) => true,
        };
        if is_wanted {
            self.send_silence(ms.min(MAX_GAP_MS));
        }
    }

    fn send_silence(&mut self, ms: u64) {
        let mut left = ms;
        while left > 0 {
            let piece = left.min(SILENCE_PIECE_MS);
            let samples = usize::try_from(piece).unwrap_or_default() * PER_MS;
            self.send_sound(&[mulaw::SILENCE; SILENCE_PIECE_MS as usize * PER_MS][..samples]);
            left -= piece;
        }
    }

    pub(super) fn send_sound(&mut self, codes: &[u8]) {
        let mut wire = std::mem::take(&mut self.wire);
        wire.clear();
        match self.up.convert(codes, &mut wire) {
            Ok(()) if wire.is_empty() => {}
            Ok(()) if self.is_open() => self.out.push_back(Output::Send(wire::append(&wire))),
            Ok(()) => {
                self.unsent.extend(&wire);
                let ms = |bytes| Downwards::ms(self.model.format, bytes);
                let per_ms = (self.unsent.len() as u64).checked_div(ms(self.unsent.len())).unwrap_or(1);
                let most = MAX_UNSENT_MS * usize::try_from(per_ms).unwrap_or(PER_MS);
                let over = self.unsent.len().saturating_sub(most);
                self.unsent_lost_ms += ms(over);
                self.unsent.drain(..over);
                self.unsent_turn = self.unsent_turn.saturating_sub(over);
            }
            Err(error) => self.fail(format!("the signal path failed: {error}")),
        }
        self.wire = wire;
    }

    /// Sends what the caller said while there was no server; true when a turn of our own turn-taking ended in it.
    pub(super) fn send_unsent(&mut self) -> bool {
        let turn: Vec<u8> = self.unsent.drain(..self.unsent_turn).collect();
        let rest: Vec<u8> = self.unsent.drain(..).collect();
        self.unsent_turn = 0;
        for piece in turn.chunks(wire::MAX_APPEND) {
            self.send(wire::append(piece));
        }
        if !turn.is_empty() {
            self.send(wire::commit());
        }
        for piece in rest.chunks(wire::MAX_APPEND) {
            self.send(wire::append(piece));
        }
        !turn.is_empty()
    }

    pub(super) fn on_key(&mut self, key: char) {
        if self.is_closing {
            return;
        }
        self.floor(turn_taking::Input::Key);
        self.turns.heard_of();
        if self.keys.len() < MAX_KEYS {
            self.keys.push(key);
        }
        self.keys_by = Some(if key == '#' { self.now } else { self.now + KEYS_PAUSE });
    }

    /// Tells the model the keys that the caller pressed, and has it answer.
    pub(super) fn tell_keys(&mut self) {
        self.keys_by = None;
        let text = format!("[keys: {}]", std::mem::take(&mut self.keys));
        self.interrupt_for_keys();
        if self.is_open() {
            self.send(wire::message(Role::User, &text));
        }
        self.history.push(Role::User, &text);
        // Who speaks is answered when they have finished.
        if !self.turns.caller_speaks() {
            self.want(Ask::of(What::Answer));
        }
    }
}
