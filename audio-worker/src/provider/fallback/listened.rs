//! A session with a recogniser that listens: its breaker learns how it goes, and its sound is metered.

use std::task::{Context, Poll};

use super::bill::{Bill, End};
use crate::provider::{
    ProviderError,
    listening::{Listening, Recognised},
    meter::{Cost, Meter},
    place::{Asking, Place, now},
};

/// Bytes of mu-law in a millisecond.
const PER_MS: u64 = 8;

/// A session of somebody else's.
pub(super) struct Listened {
    session: Box<dyn Listening>,
    asking: Asking,
    bill: Bill,
    /// Bytes of mu-law.
    heard: u64,
}

impl Listened {
    /// `session` begins with `heard` bytes of sound.
    pub(super) fn begin(session: Box<dyn Listening>, asking: Asking, heard: usize, meter: &Meter) -> Self {
        let Place { stage, family, .. } = asking.place();
        let bill = Bill {
            meter: meter.clone(),
            of: (*stage, family),
            cost: Cost { requests: 1, ..Cost::default() },
            has_usage: false,
            usage: None,
            // Once it tells anything; what fails before was never begun.
            has_given: false,
            end: End::Ended,
        };
        Self { session, asking, bill, heard: heard as u64 }
    }

    fn failed(&mut self, error: &ProviderError) {
        self.asking.failed(error, now());
        self.bill.end = End::Failed;
    }
}

impl Listening for Listened {
    fn feed(&mut self, codes: &[u8]) {
        self.heard += codes.len() as u64;
        self.session.feed(codes);
    }

    fn voice(&mut self) {
        self.session.voice();
    }

    fn finalize(&mut self) {
        self.session.finalize();
    }

    fn sent_ms(&self) -> Option<u64> {
        self.session.sent_ms()
    }

    fn judges_itself(&self) -> bool {
        self.session.judges_itself()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Recognised, ProviderError>> {
        let recognised = self.session.poll(cx);
        match &recognised {
            Poll::Ready(Ok(_)) => {
                self.bill.has_given = true;
                self.asking.answered();
            }
            Poll::Ready(Err(error)) => self.failed(error),
            Poll::Pending => {}
        }
        recognised
    }

    fn lost(&mut self, error: &ProviderError) {
        self.session.lost(error);
        self.failed(error);
    }
}

impl Drop for Listened {
    fn drop(&mut self) {
        self.bill.cost.audio_ms = self.session.sent_ms().unwrap_or(self.heard / PER_MS);
        self.asking.released();
    }
}
