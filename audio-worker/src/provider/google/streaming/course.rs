//! Pure: which sound of a call goes to Google in which stream, and what its answers mean in the call.
//!
//! There is a stream while somebody speaks: it begins a little before the voice, since ears are late, and is closed to make
//! its words final; the next begins where it ended. So silence is not sent, nothing is sent twice, and no stream comes near
//! the 305 s that it may last but under a voice that does not pause. Contract: one [`Course::handle`], then
//! [`Course::poll`] until it answers `None`, before the next. Places are numbers of samples, from the session's first.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::message::{End, Heard};
use crate::provider::{
    Fault, ProviderError,
    fault::error,
    listening::{Recognised, Stretch, TimedWord},
};

/// Samples in a millisecond.
const PER_MS: u64 = 8;
/// What is sent at once: 100 ms, as Google advises.
const PIECE: u64 = 100 * PER_MS;
/// Most that is: Google takes 25 KB.
const MAX_PIECE: u64 = 1000 * PER_MS;
/// Sound before a voice that goes with it.
const LEAD: u64 = 500 * PER_MS;
/// Sound that is kept to be sent once more, for a stream that is lost.
const MAX_KEPT: u64 = 10_000 * PER_MS;
/// Streams at a time: one that is spoken into, and those whose final words are still to come.
const MAX_STREAMS: usize = 4;
/// Without a voice for so long a stream is closed. Google ends it after some 10 s without sound.
const QUIET: Duration = Duration::from_secs(5);
/// How long a closed stream may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);
/// A stream of this age is followed by another at its next final words, where nothing is cut.
const OLD: Duration = Duration::from_secs(240);
/// One of this age at once: Google ends it at 305 s.
const TOO_OLD: Duration = Duration::from_secs(290);
/// A stream that ends by itself before this age has failed.
const YOUNG: Duration = Duration::from_secs(5);

/// What happens.
#[derive(Debug)]
pub(super) enum Input {
    /// Sound from before the session, which may hold words.
    Earlier(Bytes),
    /// Sound of the caller.
    Sound(Bytes),
    /// There is a voice in it.
    Voice,
    /// What was heard is to become final.
    Finalize,
    /// The oldest stream tells this.
    Heard(Heard),
    /// The oldest stream is over.
    Ended(End),
    /// It is later.
    Tick,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// To open one more stream, behind the others.
    Open,
    /// To send this in the newest.
    Send(Bytes),
    /// To send nothing more in the newest.
    Close,
    /// To forget the oldest, which is over or of no use.
    Drop,
    /// To tell this.
    Tell(Recognised),
    /// To give up the session.
    Fail(ProviderError),
}

/// One session.
#[derive(Debug)]
pub(super) struct Course {
    /// Ends of speech are told.
    ends: bool,
    now: Instant,
    /// The oldest first; only the newest may be open.
    streams: VecDeque<Stream>,
    /// The newest sound.
    sound: VecDeque<u8>,
    /// The place behind it.
    place: u64,
    /// The place up to which nothing will change.
    settled: u64,
    /// Where the next stream has to begin, while there are too many.
    wanted: Option<u64>,
    /// And is to be closed at once: its words are wanted.
    wanted_closed: bool,
    /// The token was refused, and nothing was told since.
    is_refused: bool,
    out: VecDeque<Output>,
}

#[derive(Debug)]
struct Stream {
    /// The place where it begins.
    base: u64,
    /// The place up to which sound was sent.
    sent: u64,
    opened: Instant,
    /// When there was a voice.
    voice: Instant,
    /// Since when it has been expected to end.
    closed: Option<Instant>,
    /// Words that are not final.
    interim: Option<String>,
    /// Where speech ended, to be told with the final words.
    speech_end: Option<u64>,
}

impl Course {
    /// Begins at `now`; `ends` is whether ends of speech are told.
    pub(super) fn new(ends: bool, now: Instant) -> Self {
        Self {
            ends,
            now,
            streams: VecDeque::new(),
            sound: VecDeque::new(),
            place: 0,
            settled: 0,
            wanted: None,
            wanted_closed: false,
            is_refused: false,
            out: VecDeque::new(),
        }
    }

    /// Takes what happened at `now`.
    pub(super) fn handle(&mut self, input: Input, now: Instant) {
        self.now = self.now.max(now);
        match input {
            Input::Earlier(codes) => {
                self.take(&codes);
                if !codes.is_empty() {
                    self.open(self.settled);
                }
                self.trim();
            }
            Input::Sound(codes) => {
                self.take(&codes);
                self.flush(PIECE);
                self.trim();
            }
            Input::Voice => self.on_voice(),
            Input::Finalize => self.close(),
            Input::Heard(heard) => self.on_heard(heard),
            Input::Ended(end) => self.on_ended(end),
            Input::Tick => {}
        }
        self.look_at_time();
    }

    /// What is to be done next.
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to call [`Course::handle`] with [`Input::Tick`], if nothing else happens before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.streams.front().and_then(|stream| Some(stream.closed? + END_LIMIT));
        let newest = self.streams.back().filter(|stream| stream.closed.is_none());
        let newest = newest.map(|stream| (stream.voice + QUIET).min(stream.opened + TOO_OLD));
        [oldest, newest].into_iter().flatten().min()
    }

    fn look_at_time(&mut self) {
        let now = self.now;
        if self.streams.front().and_then(|stream| stream.closed).is_some_and(|closed| closed + END_LIMIT <= now) {
            self.fail(error(Fault::Timeout, "no final words within 5 s"));
            return;
        }
        let Some(stream) = self.open_one() else { return };
        let (quiet, old) = (stream.voice + QUIET <= now, stream.opened + TOO_OLD <= now);
        if quiet {
            self.close();
        } else if old {
            self.replace();
        }
    }

    fn take(&mut self, codes: &[u8]) {
        self.place += codes.len() as u64;
        self.sound.extend(codes);
    }

    fn on_voice(&mut self) {
        let now = self.now;
        if let Some(stream) = self.open_one() {
            stream.voice = now;
            return;
        }
        let after = self.streams.back().map_or(self.settled, |stream| stream.sent);
        let from = after.max(self.place.saturating_sub(LEAD));
        // Of a voice that was sent already the next sound tells whether it goes on.
        if from == self.place {
            return;
        }
        if self.streams.len() < MAX_STREAMS {
            self.open(from);
        } else {
            self.wanted.get_or_insert(from);
            self.wanted_closed = false;
        }
    }

    fn on_heard(&mut self, heard: Heard) {
        let settled = self.settled;
        let Some(stream) = self.streams.front_mut() else { return };
        self.is_refused = false;
        // Nobody has heard what was not sent, and what is final stays so.
        let place = |ms: Option<u64>| {
            let place = ms.map_or(stream.sent, |ms| stream.base + ms * PER_MS);
            place.min(stream.sent).max(settled.max(stream.base))
        };
        let (from_ms, base_ms) = (settled.max(stream.base) / PER_MS, stream.base / PER_MS);
        match heard {
            Heard::Interim { text, to_ms } => {
                let stretch = Stretch { from_ms, to_ms: place(to_ms) / PER_MS, text, words: Vec::new() };
                stream.interim = Some(stretch.text.clone());
                self.tell(Recognised::Interim(stretch));
            }
            Heard::Final { text, words, to_ms } => {
                let to = place(to_ms);
                let at = |word: TimedWord| TimedWord {
                    text: word.text,
                    from_ms: base_ms + word.from_ms,
                    to_ms: base_ms + word.to_ms,
                };
                let words = words.into_iter().map(at).collect();
                stream.interim = None;
                let is_asked_for = stream.closed.is_some();
                self.settled = to;
                let at_ms = to / PER_MS;
                self.tell(Recognised::Final(Stretch { from_ms, to_ms: at_ms, text, words }));
                if self.ends && !is_asked_for {
                    self.tell(Recognised::EndOfSpeech { at_ms });
                }
                let now = self.now;
                if self.streams.len() == 1 && self.open_one().is_some_and(|stream| stream.opened + OLD <= now) {
                    self.replace();
                }
                self.trim();
            }
            Heard::SpeechEnded { at_ms } => {
                let at = place(at_ms);
                // Of one that is closed already the words are on their way.
                if self.ends && stream.closed.is_none() {
                    stream.speech_end = Some(at);
                    self.close();
                }
            }
        }
    }

    fn on_ended(&mut self, end: End) {
        let Some(stream) = self.streams.front() else { return };
        let is_young = self.now.saturating_duration_since(stream.opened) < YOUNG;
        match end {
            End::Done if stream.closed.is_some() => self.finish(),
            End::Done if is_young => self.fail(error(Fault::Unreachable, "the stream ended early")),
            End::Limit(error) if is_young => self.fail(error),
            End::Token(error) if self.is_refused => self.fail(error),
            End::Fault(error) => self.fail(error),
            End::Token(_) => {
                self.is_refused = true;
                self.replace();
            }
            End::Done | End::Limit(_) => self.replace(),
        }
    }

    /// The oldest stream has told all that it had.
    fn finish(&mut self) {
        let Some(stream) = self.streams.pop_front() else { return };
        self.out.push_back(Output::Drop);
        let from_ms = self.settled.max(stream.base) / PER_MS;
        // Words that never became final are better than none.
        let text = stream.interim.unwrap_or_default();
        if !text.is_empty() || self.settled < stream.sent {
            let to_ms = stream.sent / PER_MS;
            self.tell(Recognised::Final(Stretch { from_ms, to_ms, text, words: Vec::new() }));
        }
        self.settled = self.settled.max(stream.sent);
        if let Some(at) = stream.speech_end {
            self.tell(Recognised::EndOfSpeech { at_ms: at / PER_MS });
        }
        // Each has its own time, from where the one before ended.
        let now = self.now;
        if let Some(next) = self.streams.front_mut() {
            next.closed = next.closed.map(|_| now);
        }
        if let Some(from) = self.wanted.take() {
            self.open(from);
            if std::mem::take(&mut self.wanted_closed) {
                self.close();
            }
        }
        self.trim();
    }

    /// What is not final is said once more, in a new stream instead of all others.
    fn replace(&mut self) {
        let (Some(first), Some(last)) = (self.streams.front(), self.streams.back()) else { return };
        let from = self.settled.max(first.base);
        let (voice, is_closed) = (last.voice, last.closed.is_some());
        let speech_end = self.streams.iter().rev().find_map(|stream| stream.speech_end);
        self.out.extend(self.streams.drain(..).map(|_| Output::Drop));
        (self.wanted, self.wanted_closed) = (None, false);
        if from == self.place {
            return;
        }
        self.open(from);
        if let Some(stream) = self.streams.back_mut() {
            (stream.voice, stream.speech_end) = (voice, speech_end);
        }
        if is_closed {
            self.close();
        }
    }

    fn fail(&mut self, error: ProviderError) {
        self.out.extend(self.streams.drain(..).map(|_| Output::Drop));
        (self.wanted, self.wanted_closed) = (None, false);
        self.out.push_back(Output::Fail(error));
    }

    fn tell(&mut self, recognised: Recognised) {
        self.out.push_back(Output::Tell(recognised));
    }

    fn open_one(&mut self) -> Option<&mut Stream> {
        self.streams.back_mut().filter(|stream| stream.closed.is_none())
    }

    /// Begins a stream with the sound from there on, as far as it is kept; there must be some.
    fn open(&mut self, from: u64) {
        let (base, now) = (from.max(self.place - self.sound.len() as u64), self.now);
        self.streams.push_back(Stream {
            base,
            sent: base,
            opened: now,
            voice: now,
            closed: None,
            interim: None,
            speech_end: None,
        });
        self.out.push_back(Output::Open);
        self.flush(PIECE);
    }

    fn close(&mut self) {
        self.flush(1);
        let now = self.now;
        match self.open_one() {
            Some(stream) => {
                stream.closed = Some(now);
                self.out.push_back(Output::Close);
            }
            // Its turn will come.
            None => self.wanted_closed = self.wanted.is_some(),
        }
    }

    /// Sends what was not sent yet, in pieces of `least` and more.
    fn flush(&mut self, least: u64) {
        let (place, start) = (self.place, self.place - self.sound.len() as u64);
        let Some(stream) = self.streams.back_mut().filter(|stream| stream.closed.is_none()) else { return };
        while place - stream.sent >= least {
            let end = place.min(stream.sent + MAX_PIECE);
            let piece = self.sound.range((stream.sent - start) as usize..(end - start) as usize);
            self.out.push_back(Output::Send(piece.copied().collect()));
            stream.sent = end;
        }
    }

    /// Forgets sound that no stream can need any more.
    fn trim(&mut self) {
        let newest = self.place.saturating_sub(LEAD);
        let needed = self.streams.front().map_or(newest, |stream| stream.base.max(self.settled)).min(newest);
        let from = needed.min(self.wanted.unwrap_or(needed)).max(self.place.saturating_sub(MAX_KEPT));
        let start = self.place - self.sound.len() as u64;
        self.sound.drain(..from.saturating_sub(start) as usize);
    }
}

#[cfg(test)]
mod tests;
