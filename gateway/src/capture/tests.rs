//! Captures as files: what is in them, who may read them, and what happens when there is no room.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// A directory of its own that goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tandem-capture-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(directory: &Path, max_bytes: u64) -> (Recorder, Finish) {
    let max_age = Duration::from_secs(86_400);
    Recorder::start(&Capture { directory: directory.to_owned(), audio: false, max_bytes, max_age }, 100).unwrap()
}

fn lines(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_capture_has_a_head_every_message_and_an_end_and_is_nobody_elses() {
    let directory = Directory::new("whole");
    let (recorder, finish) = start(&directory.0, 1 << 20);
    let mut tape = recorder.tape().unwrap();
    tape.note(Side::Twilio, &Message::text(r#"{"event":"connected"}"#));
    tape.note(Side::Gateway, &Message::text(r#"{"event":"clear","streamSid":"MZ12"}"#));
    tape.note(Side::Twilio, &Message::text("call me at 5551234"));
    tape.note(Side::Twilio, &Message::Binary(vec![1, 2, 3].into()));
    tape.note(Side::Gateway, &Message::Ping(bytes::Bytes::new()));
    tape.note(Side::Twilio, &Message::Close(None));
    tape.note_read(None);
    drop(tape);
    finish.wait(LIMIT).await;
    let files = directory.files();
    assert_eq!(files.len(), 1);
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let mut lines = lines(&files[0]);
    let head = lines.remove(0);
    assert_eq!((&head["tandem_capture"], &head["audio"]), (&json!(1), &json!(false)));
    assert_eq!(lines.pop().unwrap(), json!({"end": "call"}));
    let times: Vec<_> = lines.iter_mut().map(|line| line["us"].take().as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let stream = format!("MZ{}", "0".repeat(32));
    let said = |from: &str, name: &str, value: Value| json!({"us": null, "from": from, name: value});
    assert_eq!(
        lines,
        [
            said("twilio", "text", json!({"event": "connected"})),
            said("gateway", "text", json!({"event": "clear", "streamSid": stream})),
            json!({"us": null, "from": "twilio", "malformed": "xxxx xx xx 0000000", "bytes": 18}),
            said("twilio", "binary", json!(3)),
            said("gateway", "ping", json!(true)),
            said("twilio", "close", json!(null)),
            said("twilio", "lost", json!(true)),
        ]
    );
}

#[tokio::test]
async fn the_oldest_make_room_for_the_newest_and_one_takes_no_more_than_a_quarter() {
    let directory = Directory::new("bounds");
    let foreign = directory.0.join("notes.txt");
    fs::write(&foreign, vec![0; 90_000]).unwrap();
    let old = directory.0.join("20200101T000000Z-0000000000000001.jsonl");
    fs::write(&old, vec![b' '; 30_000]).unwrap();
    let (recorder, finish) = start(&directory.0, 64 << 10);
    for _ in 0..6 {
        let mut tape = recorder.tape().unwrap();
        for _ in 0..2000 {
            tape.note(Side::Twilio, &Message::text(r#"{"event":"connected"}"#));
        }
    }
    finish.wait(LIMIT).await;
    let files = directory.files();
    assert!(files.contains(&foreign) && !files.contains(&old), "{files:?}");
    let sizes: Vec<_> = files.iter().filter(|file| **file != foreign).map(|f| fs::metadata(f).unwrap().len()).collect();
    assert!(sizes.len() >= 3 && sizes.iter().all(|size| *size <= (16 << 10) + 20), "{sizes:?}");
    assert!(sizes.iter().sum::<u64>() <= (64 << 10) + 200, "{sizes:?}");
    let last = files.iter().rfind(|file| **file != foreign).unwrap();
    assert_eq!(lines(last).pop().unwrap(), json!({"end": "full"}));
}

#[tokio::test]
async fn a_full_queue_drops_lines_and_says_how_many() {
    let directory = Directory::new("full");
    let (queue, notes) = sync_channel(MAX_WAITING_LINES + 10);
    let recorder = Recorder { queue, waiting: Arc::default() };
    let mut tape = recorder.tape().unwrap();
    for _ in 0..MAX_WAITING_LINES + 7 {
        tape.note(Side::Twilio, &Message::Ping(bytes::Bytes::new()));
    }
    assert!(recorder.tape().is_none(), "no new tape while the disk is behind");
    let mut writer = Writer::new(
        Shelf::open(&Capture {
            directory: directory.0.clone(),
            audio: false,
            max_bytes: 64 << 20,
            max_age: Duration::from_secs(60),
        })
        .unwrap(),
        false,
        Arc::clone(&recorder.waiting),
    );
    // Some are taken, then there is room again; what was left out is told with the next line.
    for note in notes.try_iter().take(100) {
        if let Note::Said { what, .. } = note {
            recorder.waiting.forget(what.bytes());
        }
    }
    tape.note(Side::Gateway, &Message::Ping(bytes::Bytes::new()));
    drop((tape, recorder));
    writer.run(&notes);
    let lines = lines(&directory.files()[0]);
    assert_eq!(lines.len(), 1 + (MAX_WAITING_LINES - 100) + 3);
    assert_eq!(lines[lines.len() - 3], json!({"dropped": 7}));
    assert_eq!(lines[lines.len() - 2]["from"], json!("gateway"));
}

#[tokio::test]
async fn a_directory_that_vanishes_costs_the_captures_and_nothing_else() {
    let directory = Directory::new("gone");
    let (recorder, finish) = start(&directory.0, 1 << 20);
    fs::remove_dir_all(&directory.0).unwrap();
    let mut tape = recorder.tape().unwrap();
    for _ in 0..10 {
        tape.note(Side::Twilio, &Message::text(r#"{"event":"connected"}"#));
    }
    drop(tape);
    finish.wait(LIMIT).await;
    assert_eq!(recorder.waiting.lines.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn text_is_bounded_in_the_queue() {
    let (queue, notes) = sync_channel(10);
    let recorder = Recorder { queue, waiting: Arc::default() };
    let mut tape = recorder.tape().unwrap();
    tape.note(Side::Twilio, &Message::text("ä".repeat(50_000)));
    let Ok(Note::Said { what: What::Text { text, bytes }, .. }) = notes.try_recv() else { panic!() };
    assert_eq!((text.len(), bytes), (MAX_TEXT_BYTES, 100_000));
    recorder.waiting.bytes.store(MAX_WAITING_BYTES, Ordering::Relaxed);
    tape.note(Side::Twilio, &Message::text("x"));
    assert!(notes.try_recv().is_err() && tape.dropped == 1);
}
