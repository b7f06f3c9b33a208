//! What is said over the socket, and what ElevenLabs says, read:
//! <https://elevenlabs.io/docs/api-reference/speech-to-text/v-1-speech-to-text-realtime>.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::provider::{
    Fault, ProviderError,
    fault::error,
    listening::{TimedWord, socket},
};

/// Longest name of a message that is told, in characters: `session_time_limit_exceeded` has 27.
const MAX_NAME_CHARS: usize = 40;

/// A session ends long before: 10^7 s.
const MAX_SECONDS: f64 = 1e7;

/// What a message tells.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// What is understood so far of what is not committed; it may be what was told before.
    Partial(String),
    /// The words of what was committed.
    Committed(String),
    /// The same once more, with the times of its words where they can be used.
    Timed(String, Vec<TimedWord>),
    /// A commit was ignored, since there was too little to commit.
    Throttled,
    /// Nothing of words.
    Nothing,
    /// It cannot be read.
    Unreadable(ProviderError),
}

#[derive(Serialize)]
struct Chunk {
    message_type: &'static str,
    audio_base_64: String,
    commit: bool,
    sample_rate: u32,
}

/// The message that hands over sound, and perhaps asks for the words of all that was handed over. Without sound it is a
/// sign of life.
pub(super) fn chunk(codes: &[u8], commit: bool) -> String {
    let audio_base_64 = STANDARD.encode(codes);
    let chunk = Chunk { message_type: "input_audio_chunk", audio_base_64, commit, sample_rate: 8000 };
    serde_json::to_string(&chunk).expect("plain text")
}

#[derive(Deserialize)]
struct Transcript {
    text: String,
    words: Option<Vec<Word>>,
}

#[derive(Deserialize)]
struct Word {
    text: Option<String>,
    start: Option<f64>,
    end: Option<f64>,
    r#type: Option<String>,
}

/// Reads a message.
///
/// # Errors
/// When it says that the session failed.
pub(super) fn read(text: &str) -> Result<Heard, ProviderError> {
    let unreadable = |what| Ok(Heard::Unreadable(error(Fault::Malformed, what)));
    let Ok(message) = serde_json::from_str::<Value>(text) else { return unreadable("a message that is no JSON") };
    let Some(name) = message["message_type"].as_str().map(str::to_owned) else {
        return match message.get("error") {
            Some(_) => Err(error(Fault::Failed, "says that it failed")),
            None => unreadable("a message without a type"),
        };
    };
    if let Some(kind) = of_name(&name) {
        return Err(failed(kind, &name));
    }
    let words = match &*name {
        "partial_transcript" | "committed_transcript" | "committed_transcript_with_timestamps" => {
            serde_json::from_value::<Transcript>(message)
        }
        "commit_throttled" => return Ok(Heard::Throttled),
        // One that is not known yet.
        _ if message["error"].is_string() => return Err(failed(Fault::Failed, &name)),
        // `session_started`, warnings, and what nobody asked for.
        _ => return Ok(Heard::Nothing),
    };
    let Ok(Transcript { text, words }) = words else { return unreadable("a transcript that is none") };
    let text = text.trim().to_owned();
    Ok(match &*name {
        "partial_transcript" => Heard::Partial(text),
        "committed_transcript" => Heard::Committed(text),
        _ => Heard::Timed(text, timed(words.unwrap_or_default()).unwrap_or_default()),
    })
}

/// What the end of a socket means. Its words are not told but for the name of an error.
pub(super) fn closed(code: u16, reason: &str) -> ProviderError {
    let reason = reason.trim();
    match of_name(reason) {
        Some(kind) => error(kind, &format!("closed with {code} {reason}")),
        None => error(socket::of_close(code), &format!("closed with {code}")),
    }
}

/// The meaning of a message that ends a session.
fn of_name(name: &str) -> Option<Fault> {
    Some(match name {
        "auth_error" | "unaccepted_terms" | "unaccepted_terms_error" => Fault::Denied,
        "quota_exceeded" | "rate_limited" | "queue_overflow" | "resource_exhausted" => Fault::Busy,
        "input_error" | "invalid_request" | "chunk_size_exceeded" => Fault::Rejected,
        "error" | "transcriber_error" | "session_time_limit_exceeded" | "insufficient_audio_activity" => Fault::Failed,
        _ => return None,
    })
}

/// Errors come with words, which may repeat what was said.
fn failed(kind: Fault, name: &str) -> ProviderError {
    let is_name = name.len() <= MAX_NAME_CHARS && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    error(kind, format!("says that it failed: {}", if is_name { name } else { "" }).trim_end_matches(": "))
}

/// Words without the spaces between them; none where one has no time.
fn timed(words: Vec<Word>) -> Option<Vec<TimedWord>> {
    let is_word = |word: &Word| word.r#type.as_deref().is_none_or(|kind| kind == "word");
    let timed = words.into_iter().filter(is_word).map(|word| {
        let (from_ms, to_ms) = (ms(word.start?)?, ms(word.end?)?);
        Some(TimedWord { text: word.text?.trim().to_owned(), from_ms, to_ms })
    });
    timed.filter(|word| word.as_ref().is_none_or(|word| !word.text.is_empty())).collect()
}

/// Milliseconds of seconds that can be.
fn ms(seconds: f64) -> Option<u64> {
    (0.0..=MAX_SECONDS).contains(&seconds).then(|| (seconds * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn timed_copy(more: Value) -> String {
        let mut message = json!({
            "message_type": "committed_transcript_with_timestamps", "text": " Hello there. ", "language_code": "en",
            "words": [
                { "text": "Hello", "start": 2.4, "end": 2.9, "type": "word", "logprob": -0.1, "characters": ["H"] },
                { "text": " ", "start": 2.9, "end": 3.0, "type": "spacing", "speaker_id": null },
                { "text": "there.", "start": 3.0, "end": 3.4, "type": "word" },
            ],
        });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message.to_string()
    }

    fn words() -> Vec<TimedWord> {
        let word = |text: &str, from_ms, to_ms| TimedWord { text: text.to_owned(), from_ms, to_ms };
        vec![word("Hello", 2400, 2900), word("there.", 3000, 3400)]
    }

    #[test]
    fn sound_is_handed_over_as_it_is() {
        let told: Value = serde_json::from_str(&chunk(&[0xff, 0, 0x7f], true)).unwrap();
        let expected = json!({
            "message_type": "input_audio_chunk", "audio_base_64": "/wB/", "commit": true, "sample_rate": 8000,
        });
        assert_eq!(told, expected);
        let told: Value = serde_json::from_str(&chunk(&[], false)).unwrap();
        assert_eq!((&told["audio_base_64"], &told["commit"]), (&json!(""), &json!(false)));
    }

    #[test]
    fn transcripts_are_partial_or_committed_or_timed() {
        for (message, told) in [
            (r#"{"message_type": "partial_transcript", "text": " Hel"}"#.to_owned(), Heard::Partial("Hel".to_owned())),
            (r#"{"message_type": "partial_transcript", "text": ""}"#.to_owned(), Heard::Partial(String::new())),
            (
                r#"{"message_type": "committed_transcript", "text": "Hello. "}"#.to_owned(),
                Heard::Committed("Hello.".to_owned()),
            ),
            (timed_copy(json!({})), Heard::Timed("Hello there.".to_owned(), words())),
            (timed_copy(json!({ "words": null })), Heard::Timed("Hello there.".to_owned(), Vec::new())),
        ] {
            assert_eq!(read(&message).unwrap(), told, "{message}");
        }
        // One time that is none leaves none.
        for bad in
            [json!({ "text": "a", "start": 1.0 }), json!({ "text": "a", "start": -1.0, "end": 1e300 }), json!({})]
        {
            let told = read(&timed_copy(json!({ "words": [bad, { "text": "b", "start": 1, "end": 2 }] }))).unwrap();
            assert_eq!(told, Heard::Timed("Hello there.".to_owned(), Vec::new()));
        }
    }

    #[test]
    fn the_other_messages_tell_nothing_of_words() {
        for nothing in [
            r#"{"message_type": "session_started", "session_id": "x", "config": {"sample_rate": 8000}}"#,
            r#"{"message_type": "warning", "warning": "what was said"}"#,
            r#"{"message_type": "committed_transcript_entities", "text": "x", "entities": []}"#,
            r#"{"message_type": "something_new", "text": 1, "error": null}"#,
        ] {
            assert_eq!(read(nothing).unwrap(), Heard::Nothing, "{nothing}");
        }
        let throttled = r#"{"message_type": "commit_throttled", "error": "Commit request ignored"}"#;
        assert_eq!(read(throttled).unwrap(), Heard::Throttled);
    }

    #[test]
    fn errors_have_their_kind_and_their_words_are_not_told() {
        for (name, kind) in [
            ("auth_error", Fault::Denied),
            ("unaccepted_terms", Fault::Denied),
            ("quota_exceeded", Fault::Busy),
            ("rate_limited", Fault::Busy),
            ("queue_overflow", Fault::Busy),
            ("resource_exhausted", Fault::Busy),
            ("input_error", Fault::Rejected),
            ("invalid_request", Fault::Rejected),
            ("chunk_size_exceeded", Fault::Rejected),
            ("error", Fault::Failed),
            ("transcriber_error", Fault::Failed),
            ("session_time_limit_exceeded", Fault::Failed),
            ("insufficient_audio_activity", Fault::Failed),
            ("not_known_yet", Fault::Failed),
        ] {
            let message = json!({ "message_type": name, "error": "my card is 4929" }).to_string();
            assert_eq!(read(&message).unwrap_err(), error(kind, &format!("says that it failed: {name}")));
        }
        for bad in [r#"{"error": "my card is 4929"}"#, r#"{"message_type": "My card", "error": "is 4929"}"#] {
            assert_eq!(read(bad).unwrap_err(), error(Fault::Failed, "says that it failed"), "{bad}");
        }
        for (code, reason, kind, detail) in [
            (1000, "unaccepted_terms", Fault::Denied, "closed with 1000 unaccepted_terms"),
            (1000, "my card is 4929", Fault::Unreachable, "closed with 1000"),
            (1008, "", Fault::Rejected, "closed with 1008"),
            (1011, "", Fault::Failed, "closed with 1011"),
        ] {
            assert_eq!(closed(code, reason), error(kind, detail));
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_to_be_so() {
        for bad in [
            "",
            "{",
            "[]",
            "<html></html>",
            r#"{"message_type": 1}"#,
            r#"{"message_type": "partial_transcript"}"#,
            r#"{"message_type": "committed_transcript", "text": null}"#,
            r#"{"message_type": "committed_transcript_with_timestamps", "text": "x", "words": 7}"#,
        ] {
            assert!(matches!(read(bad).unwrap(), Heard::Unreadable(error) if error.kind == Fault::Malformed), "{bad}");
        }
        let whole = timed_copy(json!({}));
        for end in 0..whole.len() {
            assert!(matches!(read(&whole[..end]).unwrap(), Heard::Unreadable(_)), "{end}");
        }
    }

    proptest! {
        /// Whatever is there instead of a part, or put into it, the message is read, counted, or says that it failed.
        #[test]
        fn whatever_comes_is_read_or_counted(from in 0_usize..400, length in 0_usize..30, other in ".{0,20}") {
            let whole = timed_copy(json!({}));
            let (from, to) = (from.min(whole.len()), (from + length).min(whole.len()));
            let _ = read(&format!("{}{other}{}", &whole[..from], &whole[to..]));
            let _ = read(&other);
            let _ = closed(1000, &other);
        }
    }
}
