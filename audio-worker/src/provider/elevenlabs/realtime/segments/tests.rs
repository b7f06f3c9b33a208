//! What is sent and when, and what is made of texts without times.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;
use crate::provider::Fault;

/// A session that is fed by hand.
struct Talk {
    segments: Segments,
    /// Sound that was sent, in ms, and at which of it commits were asked for.
    sent: u64,
    commits: Vec<u64>,
    most: usize,
}

impl Talk {
    fn new(ends: bool) -> Self {
        Self { segments: Segments::new(ends), sent: 0, commits: Vec::new(), most: 0 }
    }

    fn note(&mut self, message: Option<Message>) {
        let Some(message) = message else { return };
        let told: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        let codes = STANDARD.decode(told["audio_base_64"].as_str().unwrap()).unwrap();
        self.sent += codes.len() as u64 / PER_MS;
        self.most = self.most.max(codes.len());
        if told["commit"] == json!(true) {
            self.commits.push(self.sent);
        }
    }

    fn hear(&mut self, duration_ms: u64, is_voice: bool) {
        for _ in 0..duration_ms / 20 {
            let message = self.segments.sound(Bytes::from_static(&[0xff; 160]));
            self.note(message);
            if is_voice {
                self.segments.voice();
            }
        }
    }

    fn finalize(&mut self) {
        let message = self.segments.finalize();
        self.note(message);
    }

    fn told(&mut self, name: &str, text: &str) -> Vec<Recognised> {
        self.segments.read(&json!({ "message_type": name, "text": text }).to_string()).unwrap()
    }

    fn partial(&mut self, text: &str) -> Vec<Recognised> {
        self.told("partial_transcript", text)
    }

    fn committed(&mut self, text: &str) -> Vec<Recognised> {
        self.told("committed_transcript", text)
    }

    /// With the words at these seconds, 200 ms each.
    fn timed(&mut self, text: &str, at: &[f64]) -> Vec<Recognised> {
        let words = text.split(' ').zip(at);
        let words = words.map(|(word, at)| json!({ "text": word, "start": at, "end": at + 0.2, "type": "word" }));
        let words: Vec<_> = words.collect();
        let message = json!({ "message_type": "committed_transcript_with_timestamps", "text": text, "words": words });
        self.segments.read(&message.to_string()).unwrap()
    }
}

fn stretch(from_ms: u64, to_ms: u64, text: &str) -> Stretch {
    Stretch { from_ms, to_ms, text: text.to_owned(), words: Vec::new() }
}

fn interim(from_ms: u64, to_ms: u64, text: &str) -> Vec<Recognised> {
    vec![Recognised::Interim(stretch(from_ms, to_ms, text))]
}

fn finished(from_ms: u64, to_ms: u64, text: &str) -> Vec<Recognised> {
    vec![Recognised::Final(stretch(from_ms, to_ms, text))]
}

#[test]
fn sound_goes_out_in_pieces_and_all_of_it_with_a_commit() {
    let mut talk = Talk::new(false);
    talk.hear(420, true);
    assert_eq!((talk.sent, talk.most), (400, 800));
    talk.finalize();
    assert_eq!((talk.sent, &talk.commits[..]), (420, &[420][..]));
    assert!(talk.segments.owes());
    assert_eq!(talk.committed("Yes."), finished(0, 420, "Yes."));
    assert!(!talk.segments.owes());
    // All that came before.
    talk.hear(60, false);
    let alive = talk.segments.alive();
    talk.note(Some(alive));
    assert_eq!(talk.sent, 480);
    assert!(talk.segments.goodbye().is_close());
}

#[test]
fn texts_are_of_the_sound_that_is_not_committed() {
    let mut talk = Talk::new(false);
    talk.hear(500, true);
    assert_eq!(talk.partial(""), []);
    assert_eq!(talk.partial("Book"), interim(0, 500, "Book"));
    talk.hear(500, true);
    assert_eq!(talk.partial("Book a"), interim(0, 1000, "Book a"));
    talk.hear(100, false);
    talk.finalize();
    // The caller goes on meanwhile.
    talk.hear(200, true);
    assert_eq!(talk.committed("Book a table."), finished(0, 1100, "Book a table."));
    // Once more, with times that nobody needs.
    assert_eq!(talk.timed("Book a table.", &[0.1, 0.3, 0.6]), []);
    assert_eq!(talk.partial("For two"), interim(1100, 1300, "For two"));
    talk.hear(200, false);
    talk.finalize();
    assert_eq!(talk.committed("For two."), finished(1100, 1500, "For two."));
    assert_eq!(talk.commits, [1100, 1500]);
}

#[test]
fn what_is_told_again_is_no_news() {
    let mut talk = Talk::new(false);
    talk.hear(500, true);
    assert_eq!(talk.partial("Yes."), interim(0, 500, "Yes."));
    // Of what was said since, that is news; of silence not.
    talk.hear(100, true);
    assert_eq!(talk.partial("Yes."), interim(0, 600, "Yes."));
    talk.hear(100, false);
    assert_eq!(talk.partial("Yes."), []);
    talk.finalize();
    talk.committed("Yes.");
    // As it comes from there: right after the commit, and then in silence.
    for _ in 0..3 {
        assert_eq!(talk.partial("Yes."), []);
        talk.hear(1000, false);
    }
    // The same word, said again.
    talk.hear(400, true);
    assert_eq!(talk.partial("Yes."), interim(700, 4100, "Yes."));
    // While the caller goes on at once, what comes right after a commit is of before it.
    talk.finalize();
    talk.committed("Yes.");
    talk.hear(400, true);
    assert_eq!(talk.partial("Yes."), []);
    assert_eq!(talk.partial("Yes, please."), interim(4100, 4500, "Yes, please."));
}

#[test]
fn words_of_an_earlier_stretch_of_speech_are_told_apart_by_their_times() {
    let mut talk = Talk::new(false);
    talk.hear(400, true);
    talk.partial("Mhm");
    talk.hear(3000, false);
    talk.hear(1000, true);
    talk.partial("Mhm book");
    talk.finalize();
    // The words are there; they become final when their times are.
    assert_eq!(talk.committed("Mhm book"), interim(0, 4400, "Mhm book"));
    assert_eq!(talk.partial("Mhm book"), []);
    let Some(Recognised::Final(found)) = talk.timed("Mhm book", &[0.1, 3.5]).pop() else { panic!("nothing") };
    let words: Vec<_> = found.words.iter().map(|word| (&*word.text, word.from_ms, word.to_ms)).collect();
    assert_eq!(words, [("Mhm", 100, 300), ("book", 3500, 3700)]);
    assert_eq!(Stretch { words: Vec::new(), ..found }, stretch(0, 4400, "Mhm book"));
}

#[test]
fn times_that_do_not_come_or_are_of_no_use_are_not_insisted_on() {
    let held = || {
        let mut talk = Talk::new(false);
        talk.hear(400, true);
        talk.partial("Mhm");
        talk.hear(10_000, false);
        talk.committed("");
        talk.hear(400, true);
        talk.partial("Mhm");
        talk.hear(3000, false);
        talk.hear(1000, true);
        talk.finalize();
        talk
    };
    // Before their words.
    let mut talk = held();
    assert_eq!(talk.timed("Mhm book", &[11.0, 14.0]), []);
    let Some(Recognised::Final(found)) = talk.committed("Mhm book").pop() else { panic!("nothing") };
    assert_eq!((found.from_ms, found.words.len()), (10_000, 2));
    let held = || {
        let mut talk = held();
        assert_eq!(talk.committed("Mhm book"), interim(10_000, 14_800, "Mhm book"));
        talk
    };
    // Of another text, of the segment's own clock, none at all.
    assert_eq!(held().timed("something else", &[14.0, 14.5]), []);
    assert_eq!(held().timed("Mhm book", &[0.1, 3.5]), finished(10_000, 14_800, "Mhm book"));
    assert_eq!(held().timed("Mhm book", &[]), finished(10_000, 14_800, "Mhm book"));
    // Some milliseconds beyond are brought back.
    let Some(Recognised::Final(found)) = held().timed("Mhm book", &[9.9, 14.7]).pop() else { panic!("nothing") };
    assert_eq!((found.words[0].from_ms, found.words[1].to_ms), (10_000, 14_800));
    // Late, and then not any more.
    let mut talk = held();
    talk.hear(900, true);
    assert_eq!(talk.partial("a table"), []);
    talk.hear(100, true);
    let late = [finished(10_000, 14_800, "Mhm book"), interim(14_800, 15_800, "a table")].concat();
    assert_eq!(talk.partial("a table"), late);
    assert_eq!(talk.timed("Mhm book", &[11.0, 14.0]), []);
    let mut talk = held();
    talk.hear(400, true);
    talk.finalize();
    let both = [finished(10_000, 14_800, "Mhm book"), finished(14_800, 15_200, "a table")].concat();
    assert_eq!(talk.committed("a table"), both);
}

#[test]
fn too_little_is_not_committed_and_nothing_twice() {
    let mut talk = Talk::new(false);
    talk.hear(200, true);
    talk.finalize();
    assert_eq!((talk.commits.len(), talk.segments.owes()), (0, false));
    talk.hear(100, false);
    assert_eq!(talk.commits, [300]);
    // It is under way already.
    talk.finalize();
    talk.hear(400, false);
    talk.finalize();
    assert_eq!(talk.commits, [300]);
    talk.committed("Yes");
    // A caller who goes on is not cut within a word.
    talk.hear(100, true);
    talk.segments.cut = talk.segments.heard - 100 * PER_MS;
    talk.finalize();
    talk.hear(400, true);
    assert_eq!(talk.commits, [300]);
    talk.finalize();
    assert_eq!(talk.commits, [300, 1200]);
    let throttled = r#"{"message_type": "commit_throttled", "error": "ignored"}"#;
    assert_eq!(talk.segments.read(throttled).unwrap(), []);
    assert!(!talk.segments.owes());
}

#[test]
fn words_that_nobody_asks_for_and_long_silence_are_committed_between_words() {
    let mut talk = Talk::new(false);
    talk.hear(400, true);
    talk.partial("Mhm");
    talk.hear(9580, false);
    assert!(talk.commits.is_empty());
    talk.hear(20, false);
    assert_eq!(talk.commits, [10_000]);
    assert_eq!(talk.committed("Mhm."), finished(0, 10_000, "Mhm."));
    // Of the next stretch only its own words are left, and no times are needed.
    talk.hear(500, true);
    talk.partial("Hello");
    talk.finalize();
    assert_eq!(talk.committed("Hello."), finished(10_000, 10_500, "Hello."));
    talk.hear(19_980, false);
    assert_eq!(talk.commits.len(), 2);
    talk.hear(20, false);
    assert_eq!(talk.commits[2], 30_500);
    // Never within speech.
    talk.hear(80_000, true);
    assert_eq!(talk.commits.len(), 3);
    // What is committed by itself is no end of anything.
    talk.committed("");
    assert_eq!(talk.committed("So much"), finished(30_500, 110_500, "So much"));
}

#[test]
fn what_the_server_commits_by_its_own_ears_is_an_end_of_speech() {
    let mut talk = Talk::new(true);
    talk.hear(500, true);
    talk.partial("Book a");
    talk.hear(500, false);
    let end = vec![Recognised::EndOfSpeech { at_ms: 1000 }];
    assert_eq!(talk.committed("Book a table."), [finished(0, 1000, "Book a table."), end].concat());
    talk.hear(1000, false);
    assert_eq!(talk.committed(""), finished(1000, 2000, ""));
    // It is not asked: its own commit is on the way.
    talk.hear(500, true);
    talk.finalize();
    let end = vec![Recognised::EndOfSpeech { at_ms: 2500 }];
    assert_eq!(talk.committed("Yes."), [finished(2000, 2500, "Yes."), end].concat());
    talk.partial("x");
    talk.hear(100_000, false);
    assert!(talk.commits.is_empty(), "it finds the silence itself");
}

#[test]
fn what_cannot_be_read_is_told_and_what_failed_ends_the_session() {
    let mut talk = Talk::new(false);
    assert!(matches!(&talk.segments.read("<html>").unwrap()[..], [Recognised::Unreadable(_)]));
    assert_eq!(talk.segments.read(r#"{"message_type": "session_started"}"#).unwrap(), []);
    let failed = talk.segments.read(r#"{"message_type": "rate_limited", "error": "x"}"#).unwrap_err();
    assert_eq!(failed.kind, Fault::Busy);
    assert_eq!(talk.segments.closed(1011, "").kind, Fault::Failed);
    // Commits that nobody answers are not remembered without end.
    for _ in 0..100 {
        talk.hear(400, true);
        talk.finalize();
    }
    assert_eq!(talk.segments.asked.len(), MAX_ASKED);
}
