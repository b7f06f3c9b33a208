//! Every input that the fuzzers ever stumbled over, and what they begin with, through the very same functions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{fs, path::Path};

#[test]
fn messages_of_twilio() {
    assert!(replay("twilio_message", tests::fuzz::twilio_message) >= 21);
}

#[test]
fn operations_on_a_session() {
    assert!(replay("session_ops", tests::fuzz::session_ops) >= 18);
}

#[test]
fn audio_through_the_pipeline() {
    assert!(replay("pipeline", tests::fuzz::pipeline) >= 8);
}

#[test]
fn signatures() {
    assert!(replay("signature", tests::fuzz::signature) >= 6);
}

/// Runs `target` on its corpus, and on every beginning of each input; how many inputs there are.
fn replay(name: &str, target: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for file in &files {
        let bytes = fs::read(file).unwrap();
        target(&bytes);
        for end in 0..bytes.len().min(300) {
            target(&bytes[..end]);
        }
    }
    files.len()
}
