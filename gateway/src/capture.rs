//! Captures: what was said on a call's media socket, both ways and to the microsecond, for a replay.
//!
//! A call's [`Tape`] hands copies of its messages to one thread for all calls (`capture/writer.rs`), which masks them
//! (`capture/mask.rs`) and writes one file a call (`capture/shelf.rs` keeps the directory within its bounds). A call
//! never waits: when the queue is full its lines are dropped, and the file says how many.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::config::Capture;

mod mask;
mod shelf;
mod writer;

use shelf::Shelf;
use writer::Writer;

/// Lines that may wait for the disk: half a second of 300 calls.
const MAX_WAITING_LINES: usize = 16 << 10;

/// Their text, in bytes.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// What is kept of one message; a second of sound, the largest that a call takes, needs 11 KB.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// Makes the tapes of a gateway.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    queue: SyncSender<Note>,
    waiting: Arc<Waiting>,
}

/// Waits for the last line.
#[derive(Debug)]
pub(crate) struct Finish {
    queue: SyncSender<Note>,
    done: oneshot::Receiver<()>,
}

/// What waits for the disk.
#[derive(Debug, Default)]
struct Waiting {
    lines: AtomicUsize,
    bytes: AtomicUsize,
}

/// What the writer is told.
#[derive(Debug)]
enum Note {
    /// Something was said on a socket.
    Said {
        /// The tape.
        capture: u64,
        /// Since the socket was accepted.
        at: Duration,
        /// Lines of this tape that were dropped before.
        dropped: u64,
        side: Side,
        what: What,
    },
    /// The call is over.
    End { capture: u64 },
    /// The gateway is.
    Stop,
}

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Twilio, for the caller.
    Twilio,
    /// This gateway.
    Gateway,
}

/// What was said.
#[derive(Debug)]
enum What {
    /// Text of so many bytes, or its beginning.
    Text {
        text: Box<str>,
        bytes: usize,
    },
    /// A binary message of so many bytes.
    Binary(usize),
    Ping,
    Pong,
    /// A close frame, with its code if it has one.
    Close(Option<u16>),
    /// The connection ended without one.
    Lost,
    /// The WebSocket protocol or the size limit was broken.
    Broken,
}

impl Recorder {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When the directory cannot be listed or the thread cannot be started.
    pub(crate) fn start(capture: &Capture, max_sockets: usize) -> io::Result<(Self, Finish)> {
        // Beyond the lines there is always room for the ends of all sockets, and for ours.
        let (queue, notes) = sync_channel(MAX_WAITING_LINES + max_sockets + 1);
        let waiting = Arc::new(Waiting::default());
        let (finished, done) = oneshot::channel();
        let mut writer = Writer::new(Shelf::open(capture)?, capture.audio, Arc::clone(&waiting));
        std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            writer.run(&notes);
            let _ = finished.send(());
        })?;
        tracing::info!(directory = %capture.directory.display(), audio = capture.audio, "calls are captured");
        Ok((Self { queue: queue.clone(), waiting }, Finish { queue, done }))
    }

    /// A tape for a socket that was just accepted; none while the disk is far behind.
    pub(crate) fn tape(&self) -> Option<Box<Tape>> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).ok()?;
        let has_room = self.waiting.lines.load(Ordering::Relaxed) < MAX_WAITING_LINES;
        has_room.then(|| {
            Box::new(Tape { capture: u64::from_be_bytes(id), began: now(), dropped: 0, recorder: self.clone() })
        })
    }
}

impl Finish {
    /// Waits until all that was said is written, at most `limit`.
    pub(crate) async fn wait(self, limit: Duration) {
        let told = self.queue.try_send(Note::Stop).is_ok();
        if !told || tokio::time::timeout(limit, self.done).await.is_err() {
            tracing::warn!("captures are not written to their end");
        }
    }
}

/// Records one socket.
#[derive(Debug)]
pub(crate) struct Tape {
    capture: u64,
    began: Instant,
    dropped: u64,
    recorder: Recorder,
}

impl Tape {
    /// Notes what is about to be written to the socket, or what was read from it.
    pub(crate) fn note(&mut self, side: Side, message: &Message) {
        self.add(
            side,
            match message {
                Message::Text(text) => {
                    let kept = text.floor_char_boundary(MAX_TEXT_BYTES);
                    What::Text { text: text[..kept].into(), bytes: text.len() }
                }
                Message::Binary(bytes) => What::Binary(bytes.len()),
                Message::Ping(_) => What::Ping,
                Message::Pong(_) | Message::Frame(_) => What::Pong,
                Message::Close(frame) => What::Close(frame.as_ref().map(|frame| frame.code.into())),
            },
        );
    }

    /// Notes what was read from the socket.
    pub(crate) fn note_read(&mut self, read: Option<&Result<Message, Error>>) {
        match read {
            Some(Ok(message)) => self.note(Side::Twilio, message),
            Some(Err(error)) => {
                self.note_loss(!matches!(error, Error::Protocol(_) | Error::Capacity(_) | Error::Utf8(_)))
            }
            None => self.note_loss(true),
        }
    }

    /// Notes that the socket is gone: lost, or broken by the peer.
    fn note_loss(&mut self, is_lost: bool) {
        self.add(Side::Twilio, if is_lost { What::Lost } else { What::Broken });
    }

    fn add(&mut self, side: Side, what: What) {
        let waiting = &self.recorder.waiting;
        let has_room = waiting.lines.load(Ordering::Relaxed) < MAX_WAITING_LINES
            && waiting.bytes.load(Ordering::Relaxed) < MAX_WAITING_BYTES;
        let (at, dropped, bytes) = (now() - self.began, self.dropped, what.bytes());
        // Counted before it is sent: the writer takes it off the count when it comes.
        waiting.lines.fetch_add(1, Ordering::Relaxed);
        waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let note = Note::Said { capture: self.capture, at, dropped, side, what };
        if has_room && self.recorder.queue.try_send(note).is_ok() {
            self.dropped = 0;
        } else {
            waiting.forget(bytes);
            self.dropped += 1;
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        // There is room for the end of every tape, unless the writer is gone.
        let _ = self.recorder.queue.try_send(Note::End { capture: self.capture });
    }
}

impl Waiting {
    fn forget(&self, bytes: usize) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl What {
    fn bytes(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::Binary(_) | Self::Ping | Self::Pong | Self::Close(_) | Self::Lost | Self::Broken => 0,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a capture has the times at which messages passed")]
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
