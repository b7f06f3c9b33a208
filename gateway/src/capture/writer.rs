//! The thread that writes captures: JSON Lines, one file a call.
//!
//! The first line says what the file is: `{"tandem_capture":1,"began":…,"codec":…,"audio":…}`. Each further line is a
//! message: `us` since the socket was accepted, `from` (`twilio` or `gateway`), and one of `text` (JSON, masked),
//! `malformed` (text, masked and cut) with its `bytes`, `binary` (bytes), `ping`, `pong`, `close` (code or null), `lost`,
//! `broken`. `{"dropped":n}` stands for lines that the disk was too slow for. The last is `{"end":"call"}`, or
//! `{"end":"full"}` where a bound was reached.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Note, Side, Waiting, What,
    mask::{Mask, Masked},
    shelf::{Shelf, Slot, timestamp},
};
use crate::call::since_epoch;

/// Version of the format.
const FORMAT: u32 = 1;

/// After so long without a line, what is buffered is written.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    shelf: Shelf,
    audio: bool,
    waiting: Arc<Waiting>,
    /// Captures of live calls; `None` for one that was given up.
    open: HashMap<u64, Option<Open>>,
    /// The last attempt to write failed, and that was logged.
    failing: bool,
}

struct Open {
    file: BufWriter<File>,
    slot: Slot,
    mask: Mask,
}

impl Writer {
    pub(super) fn new(shelf: Shelf, audio: bool, waiting: Arc<Waiting>) -> Self {
        Self { shelf, audio, waiting, open: HashMap::new(), failing: false }
    }

    /// Writes until it is told to stop or all tapes are gone.
    pub(super) fn run(&mut self, notes: &Receiver<Note>) {
        loop {
            match notes.recv_timeout(IDLE) {
                Ok(Note::Said { capture, at, dropped, side, what }) => {
                    self.waiting.forget(what.bytes());
                    self.write(capture, at, dropped, (side, what));
                }
                Ok(Note::End { capture }) => self.end(capture, "call"),
                Err(RecvTimeoutError::Timeout) => self.rest(),
                Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for capture in self.open.keys().copied().collect::<Vec<_>>() {
            self.end(capture, "call");
        }
    }

    fn write(&mut self, capture: u64, at: Duration, dropped: u64, said: (Side, What)) {
        if !self.open.contains_key(&capture) {
            let opened = self.begin(capture, at);
            let opened = self.judge(opened);
            self.open.insert(capture, opened);
        }
        let Some(Some(open)) = self.open.get_mut(&capture) else { return };
        let mut lines = Vec::new();
        if dropped > 0 {
            add_line(&mut lines, &json!({ "dropped": dropped }));
        }
        add_line(&mut lines, &open.line(at, said));
        if let Some(call_sid) = open.mask.take_call_sid() {
            tracing::info!(call_sid, capture = open.slot.name(), "the call is captured");
        }
        if !self.shelf.make_room(&mut open.slot, lines.len()) {
            return self.end(capture, "full");
        }
        let written = open.file.write_all(&lines);
        if self.judge(written).is_none() {
            self.give_up(capture);
        }
    }

    fn begin(&mut self, capture: u64, at: Duration) -> io::Result<Open> {
        let began = since_epoch().saturating_sub(at);
        let (mut slot, file) = self.shelf.add(capture, began)?;
        let mut line = Vec::new();
        let head = json!({
            "tandem_capture": FORMAT,
            "began": timestamp(began),
            "codec": "audio/x-mulaw;rate=8000",
            "audio": self.audio,
        });
        add_line(&mut line, &head);
        let mut file = BufWriter::new(file);
        file.write_all(&line)?;
        self.shelf.make_room(&mut slot, line.len());
        Ok(Open { file, slot, mask: Mask::new(self.audio) })
    }

    /// Closes a capture. One that was full keeps its place, so that no second file is begun.
    fn end(&mut self, capture: u64, why: &str) {
        let opened = if why == "full" { self.open.insert(capture, None) } else { self.open.remove(&capture) };
        let Some(Some(mut open)) = opened else { return };
        let mut line = Vec::new();
        add_line(&mut line, &json!({ "end": why }));
        let written = open.file.write_all(&line).and_then(|()| open.file.flush());
        open.slot.grow(line.len());
        self.judge(written);
        self.shelf.keep(open.slot);
    }

    fn give_up(&mut self, capture: u64) {
        if let Some(Some(open)) = self.open.insert(capture, None) {
            // What is buffered cannot be written either.
            let (_file, _lost) = open.file.into_parts();
            self.shelf.keep(open.slot);
        }
    }

    /// Says that captures cannot be written, once until they can again.
    fn judge<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.failing = false;
                Some(value)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "a capture cannot be written and is given up; its call goes on");
                }
                None
            }
        }
    }

    fn rest(&mut self) {
        self.shelf.drop_old();
        let mut broken = Vec::new();
        for (capture, open) in &mut self.open {
            if let Some(open) = open
                && let Err(error) = open.file.flush()
            {
                broken.push((*capture, error));
            }
        }
        for (capture, error) in broken {
            self.judge::<()>(Err(error));
            self.give_up(capture);
        }
    }
}

impl Open {
    fn line(&mut self, at: Duration, (side, what): (Side, What)) -> Value {
        let from = match side {
            Side::Twilio => "twilio",
            Side::Gateway => "gateway",
        };
        let mut line = match what {
            What::Text { text, bytes } => match self.mask.text(&text) {
                Masked::Message(message) => json!({ "text": message }),
                Masked::Malformed(text) => json!({ "malformed": text, "bytes": bytes }),
            },
            What::Binary(bytes) => json!({ "binary": bytes }),
            What::Ping => json!({ "ping": true }),
            What::Pong => json!({ "pong": true }),
            What::Close(code) => json!({ "close": code }),
            What::Lost => json!({ "lost": true }),
            What::Broken => json!({ "broken": true }),
        };
        line["from"] = json!(from);
        line["us"] = json!(u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        line
    }
}

fn add_line(lines: &mut Vec<u8>, line: &Value) {
    lines.extend_from_slice(line.to_string().as_bytes());
    lines.push(b'\n');
}
