//! The transcript of each call, as JSON Lines in a file of its own, for who asks for it.
//!
//! One thread writes for all calls. A conversation never waits for the disk: what finds no room is dropped and counted.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use serde_json::{Value, json};

use crate::{
    agent::{Report, Speaker, ToolReport},
    provider::meter::{Costs, Entry},
};

/// Lines that may wait for the disk.
const WAITING: usize = 4096;

/// Files that are kept open; opening one again costs little.
const MAX_OPEN: usize = 256;

/// Longest name of a file, in characters; ids of calls have 34.
const MAX_NAME: usize = 64;

/// Where transcripts go; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Transcripts {
    lines: SyncSender<Line>,
    dropped: IntCounter,
}

/// The transcript of one call.
#[derive(Debug)]
pub(crate) struct Transcript {
    transcripts: Transcripts,
    name: Arc<str>,
}

#[derive(Debug)]
struct Line {
    name: Arc<str>,
    /// `None`: the call is over.
    text: Option<String>,
}

impl Transcripts {
    /// Writes into `directory`, which is made when it does not exist; what is dropped is counted.
    ///
    /// # Errors
    /// When it cannot be made or written into, or there is no thread.
    pub(crate) fn new(directory: &Path, dropped: IntCounter) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let probe = directory.join(".writable");
        drop(open(&probe)?);
        std::fs::remove_file(&probe)?;
        let (lines, waiting) = sync_channel(WAITING);
        let directory = directory.to_owned();
        thread::Builder::new().name("transcripts".to_owned()).spawn(move || write(&directory, &waiting))?;
        Ok(Self { lines, dropped })
    }

    /// The transcript of a call that begins.
    pub(crate) fn begin(&self, call_id: &str, agent: &str, language: &str) -> Transcript {
        let name: String = call_id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(MAX_NAME).collect();
        let name = if name.is_empty() { "call".to_owned() } else { name };
        let transcript = Transcript { transcripts: self.clone(), name: name.into() };
        transcript
            .line(json!({ "at_ms": 0, "event": "began", "call_id": call_id, "agent": agent, "language": language }));
        transcript
    }

    fn send(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.dropped.inc();
            let dropped = self.dropped.get();
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "lines of transcripts find no room: the disk is too slow or full");
            }
        }
    }
}

impl Transcript {
    /// The agent told something, so long after the call began.
    pub(crate) fn note(&self, at: Duration, report: &Report) {
        let at_ms = millis(at);
        match report {
            Report::Said { by, text, is_final: true, interrupted } => {
                let speaker = match by {
                    Speaker::Caller => "caller",
                    Speaker::Agent => "agent",
                };
                let mut line = json!({ "at_ms": at_ms, "event": "said", "speaker": speaker, "text": text });
                if *by == Speaker::Agent {
                    line["interrupted"] = Value::Bool(*interrupted);
                }
                self.line(line);
            }
            Report::Turn(turn) => {
                let ms = |time: Option<Duration>| time.map(millis);
                self.line(json!({
                    "at_ms": at_ms,
                    "event": "answered",
                    "endpoint_ms": ms(turn.endpoint),
                    "speech_to_text_ms": ms(turn.speech_to_text),
                    "first_token_ms": ms(turn.first_token),
                    "first_audio_ms": ms(turn.first_audio),
                    "first_sent_ms": ms(turn.first_sent),
                }));
            }
            Report::Fault { stage, fault, .. } => {
                let (stage, fault) = (stage.label(), fault.label());
                self.line(json!({ "at_ms": at_ms, "event": "fault", "stage": stage, "fault": fault }));
            }
            Report::Tool(ToolReport { name, took, verdict }) => {
                let (verdict, took_ms) = (verdict.label(), millis(*took));
                self.line(json!({
                    "at_ms": at_ms, "event": "tool", "tool": name, "outcome": verdict, "took_ms": took_ms,
                }));
            }
            Report::Said { is_final: false, .. } | Report::Speech { .. } => {}
        }
    }

    /// The call is over, and providers cost so much.
    pub(crate) fn end(&self, at: Duration, reason: &str, costs: &Costs) {
        let cost = |Entry { stage, provider, cost }: &Entry| {
            let mut told = json!({ "stage": stage.label(), "provider": provider });
            for (name, count) in cost.named() {
                told[name] = count.into();
            }
            told
        };
        let costs: Vec<_> = costs.entries().iter().map(cost).collect();
        self.line(json!({ "at_ms": millis(at), "event": "ended", "reason": reason, "costs": costs }));
    }

    fn line(&self, line: Value) {
        let text = Some(format!("{line}\n"));
        self.transcripts.send(Line { name: Arc::clone(&self.name), text });
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        self.transcripts.send(Line { name: Arc::clone(&self.name), text: None });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Writes until nobody can send any more.
fn write(directory: &Path, waiting: &Receiver<Line>) {
    let mut files: HashMap<Arc<str>, File> = HashMap::new();
    for Line { name, text } in waiting {
        let Some(text) = text else {
            files.remove(&name);
            continue;
        };
        let path: PathBuf = directory.join(format!("{name}.jsonl"));
        let written = match files.get_mut(&name) {
            Some(file) => file.write_all(text.as_bytes()),
            None => open(&path).and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                // The end of a call is dropped when there is no room for it: its file must not stay for ever.
                if files.len() >= MAX_OPEN {
                    files.clear();
                }
                files.insert(name, file);
                Ok(())
            }),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "a line of a transcript could not be written");
        }
    }
}

/// What was said is nobody else's business.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{
        agent::{Stage, Turn},
        provider::meter::{Cost, Meter},
    };

    #[test]
    fn a_call_becomes_a_file_that_only_its_owner_reads() {
        let directory = std::env::temp_dir().join(format!("tandem-transcripts-{}", std::process::id()));
        let transcripts = Transcripts::new(&directory, IntCounter::new("dropped", "x").unwrap()).unwrap();
        let transcript = transcripts.begin("CA1/../x", "desk", "en");
        let said = |by, text: &str, is_final| Report::Said { by, text: text.to_owned(), is_final, interrupted: true };
        let at = Duration::from_millis;
        transcript.note(at(1500), &said(Speaker::Caller, "yes", false));
        transcript.note(at(1600), &said(Speaker::Caller, "yes \"sir\"", true));
        transcript.note(at(1700), &Report::Turn(Turn { endpoint: Some(at(400)), ..Turn::default() }));
        transcript.note(at(2600), &said(Speaker::Agent, "Good", true));
        let meter = Meter::default();
        meter.add(Stage::Chat, "openai", &Cost { requests: 2, tokens_in: 90, ..Cost::default() });
        transcript.end(at(3000), "closed", &meter.costs());
        drop(transcript);
        // The thread ends once nobody can send; its last line is written by then.
        let path = directory.join("CA1x.jsonl");
        let lines: Vec<Value> = loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains("ended") && text.ends_with('\n') {
                break text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            thread::yield_now();
        };
        let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["began", "said", "answered", "said", "ended"]);
        assert_eq!((lines[1]["text"].as_str(), lines[2]["endpoint_ms"].as_u64()), (Some("yes \"sir\""), Some(400)));
        let costs = json!([{ "stage": "chat", "provider": "openai", "requests": 2, "tokens_in": 90 }]);
        assert_eq!(lines[4]["costs"], costs);
        assert_eq!((lines[3]["interrupted"].as_bool(), transcripts.dropped.get()), (Some(true), 0));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
