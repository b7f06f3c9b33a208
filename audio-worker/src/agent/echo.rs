//! The echo agent: the caller's own voice comes back through the whole signal path. The first end-to-end test.

use std::task::{Context, Poll};

use super::{Act, Agent, Heard};
use crate::pipeline::HEARING_RATE;

/// One utterance for the whole call, in step with the caller: what was not sent to us is not sent back.
#[derive(Debug, Default)]
pub(super) struct Echo {
    waiting: Vec<i16>,
}

impl Agent for Echo {
    fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Audio(pcm) => self.waiting.extend_from_slice(pcm),
            // What it has not said yet is worthless by now.
            Heard::Held(true) => self.waiting.clear(),
            Heard::Mulaw(_)
            | Heard::Held(false)
            | Heard::Gap(_)
            | Heard::Dtmf(_)
            | Heard::Played { .. }
            | Heard::Notice(..) => {}
        }
    }

    fn poll_act(&mut self, _: &mut Context<'_>, pcm: &mut Vec<i16>) -> Poll<Act> {
        if self.waiting.is_empty() {
            // It only reacts, and is asked again after each thing it hears.
            return Poll::Pending;
        }
        // `pcm` is empty, so both buffers go on being used, and nothing is copied.
        std::mem::swap(pcm, &mut self.waiting);
        Poll::Ready(Act::Speak(HEARING_RATE))
    }
}
