//! The two who may decide whose turn it is: this worker's turn-taking, or the server.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::turn_taking::{self, Stats, TurnTaking};

/// Kept from before voice was found: words begin softly. 320 ms of mu-law.
const BEFORE: usize = 8 * 320;

/// Who decides.
#[derive(Debug)]
pub(super) enum Turns {
    Own(Box<Own>),
    Server(Server),
}

/// This worker does.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) floor: TurnTaking,
    /// The newest sound, while nobody speaks.
    pub(super) before: VecDeque<u8>,
    pub(super) is_streaming: bool,
    /// Something was sent that is no turn yet.
    pub(super) is_uncommitted: bool,
    /// Voice since the caller interrupted.
    pub(super) voiced: Duration,
}

/// The server does; silence is measured here.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) is_speaking: bool,
    /// The caller has finished, and the server has not begun to answer.
    pub(super) is_awaited: bool,
    /// Nothing has happened since then, with the time of silence that is prompted.
    pub(super) quiet: Option<(Instant, Duration)>,
    pub(super) prompts: u32,
    pub(super) stats: Stats,
}

impl Own {
    /// Takes the caller's sound; true when it is to be sent.
    pub(super) fn keep(&mut self, codes: &[u8]) -> bool {
        if self.is_streaming {
            return true;
        }
        self.before.extend(codes);
        let old = self.before.len().saturating_sub(BEFORE);
        self.before.drain(..old);
        false
    }

    pub(super) const fn is_streaming(&self) -> bool {
        self.is_streaming
    }
}

impl Turns {
    pub(super) fn own(settings: turn_taking::Settings, now: Instant) -> Self {
        let floor = TurnTaking::new(settings, now);
        let before = VecDeque::with_capacity(2 * BEFORE);
        Self::Own(Box::new(Own { floor, before, is_streaming: false, is_uncommitted: false, voiced: Duration::ZERO }))
    }

    pub(super) fn server() -> Self {
        Self::Server(Server::default())
    }

    /// The caller speaks.
    pub(super) fn caller_speaks(&self) -> bool {
        match self {
            Self::Own(own) => own.floor.keeps_speech() && !own.floor.awaits_answer(),
            Self::Server(server) => server.is_speaking,
        }
    }

    /// The caller speaks, and only the server has what was said.
    pub(super) const fn is_heard_elsewhere(&self) -> bool {
        matches!(self, Self::Server(server) if server.is_speaking)
    }

    /// The floor is the caller's, or the server's own answer comes.
    pub(super) fn is_taken(&self) -> bool {
        self.caller_speaks() || matches!(self, Self::Server(server) if server.is_awaited)
    }

    /// The agent is expected to say something.
    pub(super) fn awaits_answer(&self) -> bool {
        match self {
            Self::Own(own) => own.floor.awaits_answer(),
            Self::Server(server) => server.is_awaited,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Own(own) => own.floor.poll_timeout(),
            Self::Server(server) => server.quiet.map(|(since, silence)| since + silence),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        match self {
            Self::Own(own) => own.floor.stats(),
            Self::Server(server) => server.stats,
        }
    }

    /// The caller did something.
    pub(super) const fn heard_of(&mut self) {
        if let Self::Server(server) = self {
            (server.prompts, server.quiet) = (0, None);
        }
    }

    pub(super) fn held(&mut self) {
        match self {
            Self::Own(own) => (own.is_streaming, own.is_uncommitted) = (false, false),
            Self::Server(server) => (server.is_speaking, server.is_awaited, server.quiet) = (false, false, None),
        }
    }

    /// The session is lost, and what was heard in it; true when an answer was due.
    pub(super) fn lost(&mut self) -> bool {
        match self {
            Self::Own(own) => {
                own.is_uncommitted = false;
                own.floor.awaits_answer()
            }
            Self::Server(server) => {
                server.quiet = None;
                let was_speaking = std::mem::take(&mut server.is_speaking);
                std::mem::take(&mut server.is_awaited) || was_speaking
            }
        }
    }
}
