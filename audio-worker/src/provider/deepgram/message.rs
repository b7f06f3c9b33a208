//! What Deepgram sends over its socket, read: <https://developers.deepgram.com/reference/speech-to-text/listen-streaming>.

use serde::Deserialize;
use serde_json::Value;

use crate::provider::{
    Fault, ProviderError,
    fault::error,
    listening::{Recognised, Stretch, TimedWord, socket},
};

/// Longest code of an error, in characters, that is told: `NET-0001`, `INVALID_AUTH`.
const MAX_CODE_CHARS: usize = 40;

/// A session ends long before: 10^7 s.
const MAX_SECONDS: f64 = 1e7;

/// What a message tells, in order: of most nothing, of a result its words and perhaps the end of the speech.
///
/// # Errors
/// When the message says that the session failed.
pub(super) fn read(text: &str) -> Result<Vec<Recognised>, ProviderError> {
    let unreadable = |what| Ok(vec![Recognised::Unreadable(error(Fault::Malformed, what))]);
    let Ok(message) = serde_json::from_str::<Value>(text) else { return unreadable("a message that is no JSON") };
    match message["type"].as_str() {
        Some("Results") => {
            let results = serde_json::from_value(message).ok();
            let read = results.and_then(|results: Results| results.read());
            read.map_or_else(|| unreadable("results that are none"), Ok)
        }
        Some("UtteranceEnd") => match message["last_word_end"].as_f64() {
            // Without a word before it: nobody spoke.
            Some(-1.0) => Ok(Vec::new()),
            seconds => match seconds.and_then(ms) {
                Some(at_ms) => Ok(vec![Recognised::EndOfSpeech { at_ms }]),
                None => unreadable("an end of speech without its time"),
            },
        },
        Some("Error") => Err(failed(&message)),
        // Those that tell nothing of words, and those that are not known yet.
        Some(_) => Ok(Vec::new()),
        None if ["error", "err_code", "err_msg"].iter().any(|key| message.get(key).is_some()) => Err(failed(&message)),
        None => unreadable("a message without a type"),
    }
}

/// What the end of a socket means. Its words are not told but for their code: they may repeat what was sent.
pub(super) fn closed(code: u16, reason: &str) -> ProviderError {
    // `NET-0000` and `NET-0001` come with 1011, `DATA-0000` with 1008.
    let kind = socket::of_close(code);
    let words = reason.split(|c: char| c.is_whitespace() || c == ':');
    let code_of_reason = words.map(|word| word.trim_matches(['"', '.', ','])).find(|word| is_code(word));
    error(kind, format!("closed with {code} {}", code_of_reason.unwrap_or_default()).trim_end())
}

/// As [`closed`], for an error that comes as a message.
fn failed(message: &Value) -> ProviderError {
    let codes = [&message["variant"], &message["err_code"], &message["code"], &message["description"]];
    let code = codes.into_iter().filter_map(Value::as_str).find(|code| is_code(code));
    error(Fault::Failed, format!("says that it failed {}", code.unwrap_or_default()).trim_end())
}

/// Capital letters with a dash, a line or a digit in between: a code, no word that anybody says.
fn is_code(word: &str) -> bool {
    let is_mark = |byte: u8| byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (4..=MAX_CODE_CHARS).contains(&word.len())
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || is_mark(byte))
        && word.bytes().any(|byte| byte == b'-' || byte == b'_')
}

#[derive(Deserialize)]
struct Results {
    start: f64,
    duration: f64,
    #[serde(default)]
    is_final: bool,
    #[serde(default)]
    speech_final: bool,
    #[serde(default)]
    from_finalize: bool,
    channel: Channel,
}

#[derive(Deserialize)]
struct Channel {
    alternatives: Vec<Alternative>,
}

#[derive(Deserialize)]
struct Alternative {
    transcript: String,
    #[serde(default)]
    words: Vec<Word>,
}

#[derive(Deserialize)]
struct Word {
    word: String,
    punctuated_word: Option<String>,
    start: f64,
    end: f64,
}

impl Results {
    /// None when its times are none.
    fn read(self) -> Option<Vec<Recognised>> {
        let (from_ms, to_ms) = (ms(self.start)?, ms(self.start + self.duration)?);
        let best = self.channel.alternatives.into_iter().next();
        let (text, words) = best.map_or_else(Default::default, |best| (best.transcript, best.words));
        let words = words.into_iter().map(|word| {
            let text = word.punctuated_word.unwrap_or(word.word);
            Some(TimedWord { text, from_ms: ms(word.start)?, to_ms: ms(word.end)? })
        });
        let stretch = Stretch { from_ms, to_ms, text: text.trim().to_owned(), words: words.collect::<Option<_>>()? };
        if !self.is_final {
            return Some(vec![Recognised::Interim(stretch)]);
        }
        let mut told = vec![Recognised::Final(stretch)];
        // One that was asked for says nothing of the speech.
        if self.speech_final && !self.from_finalize {
            told.push(Recognised::EndOfSpeech { at_ms: to_ms });
        }
        Some(told)
    }
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

    fn results(more: Value) -> String {
        let mut message = json!({
            "type": "Results", "channel_index": [0, 1], "duration": 1.5, "start": 2.25, "is_final": false,
            "speech_final": false, "from_finalize": false,
            "channel": { "alternatives": [{
                "transcript": " Hello there. ", "confidence": 0.98,
                "words": [
                    { "word": "hello", "start": 2.4, "end": 2.9, "confidence": 0.9, "punctuated_word": "Hello" },
                    { "word": "there", "start": 3.0, "end": 3.4, "confidence": 0.9, "punctuated_word": "there." },
                ],
            }] },
            "metadata": { "request_id": "x", "model_uuid": "y", "model_info": {} },
        });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message.to_string()
    }

    fn stretch() -> Stretch {
        let word = |text: &str, from_ms, to_ms| TimedWord { text: text.to_owned(), from_ms, to_ms };
        let words = vec![word("Hello", 2400, 2900), word("there.", 3000, 3400)];
        Stretch { from_ms: 2250, to_ms: 3750, text: "Hello there.".to_owned(), words }
    }

    #[test]
    fn results_are_interim_or_final_and_may_be_the_end_of_the_speech() {
        let of = |more| read(&results(more)).unwrap();
        assert_eq!(of(json!({})), [Recognised::Interim(stretch())]);
        assert_eq!(of(json!({ "is_final": true })), [Recognised::Final(stretch())]);
        let ended = [Recognised::Final(stretch()), Recognised::EndOfSpeech { at_ms: 3750 }];
        assert_eq!(of(json!({ "is_final": true, "speech_final": true })), ended);
        // What was asked for is no end of the speech.
        let flushed = of(json!({ "is_final": true, "speech_final": true, "from_finalize": true }));
        assert_eq!(flushed, [Recognised::Final(stretch())]);
        let nobody = Stretch { from_ms: 2250, to_ms: 3750, ..Stretch::default() };
        assert_eq!(of(json!({ "channel": { "alternatives": [] } })), [Recognised::Interim(nobody)]);
    }

    #[test]
    fn the_other_messages_tell_little() {
        let end = r#"{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 2.395}"#;
        assert_eq!(read(end).unwrap(), [Recognised::EndOfSpeech { at_ms: 2395 }]);
        for nothing in [
            r#"{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": -1}"#,
            r#"{"type": "SpeechStarted", "channel": [0], "timestamp": 9.54}"#,
            r#"{"type": "Metadata", "request_id": "x", "duration": 0.0, "channels": 0}"#,
            r#"{"type": "SomethingNew", "is_final": "perhaps"}"#,
        ] {
            assert_eq!(read(nothing).unwrap(), [], "{nothing}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_what_failed_ends_the_session() {
        for bad in [
            String::new(),
            "{".to_owned(),
            "[]".to_owned(),
            "<html></html>".to_owned(),
            r#"{"type": 1}"#.to_owned(),
            r#"{"type": "Results"}"#.to_owned(),
            r#"{"type": "UtteranceEnd"}"#.to_owned(),
            results(json!({ "start": -1.0 })),
            results(json!({ "duration": 1e300 })),
            results(json!({ "channel": { "alternatives": [{ "transcript": null }] } })),
        ] {
            let told = read(&bad).unwrap();
            let [Recognised::Unreadable(error)] = &told[..] else { panic!("{bad}: {told:?}") };
            assert_eq!(error.kind, Fault::Malformed);
        }
        for (bad, detail) in [
            (
                r#"{"type": "Error", "variant": "NET-0001", "description": "my card is 4929"}"#,
                "says that it failed NET-0001",
            ),
            (r#"{"type": "Error", "message": "my card is 4929"}"#, "says that it failed"),
            (r#"{"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}"#, "says that it failed INVALID_AUTH"),
        ] {
            assert_eq!(read(bad).unwrap_err(), error(Fault::Failed, detail));
        }
    }

    #[test]
    fn the_end_of_a_socket_has_its_meaning() {
        for (code, reason, kind, detail) in [
            (1011, "NET-0001: no audio was received", Fault::Failed, "closed with 1011 NET-0001"),
            (1008, "DATA-0000", Fault::Rejected, "closed with 1008 DATA-0000"),
            (1000, "", Fault::Unreachable, "closed with 1000"),
            (1006, "you said MY-NAME", Fault::Unreachable, "closed with 1006 MY-NAME"),
            (4000, "my card is 4929", Fault::Unreachable, "closed with 4000"),
        ] {
            assert_eq!(closed(code, reason), error(kind, detail));
        }
    }

    proptest! {
        /// Whatever is there instead of a part, or put into it, the message is read, counted, or says that it failed.
        #[test]
        fn whatever_comes_is_read_or_counted(from in 0_usize..400, length in 0_usize..30, other in ".{0,20}") {
            let whole = results(json!({ "is_final": true }));
            let (from, to) = (from.min(whole.len()), (from + length).min(whole.len()));
            let _ = read(&format!("{}{other}{}", &whole[..from], &whole[to..]));
            let _ = read(&other);
            let _ = closed(1000, &other);
        }
    }

    #[test]
    fn half_a_message_is_no_message() {
        let whole = results(json!({ "is_final": true }));
        for end in 0..whole.len() {
            let told = read(&whole[..end]).unwrap();
            assert!(matches!(&told[..], [Recognised::Unreadable(_)]), "{end}");
        }
    }
}
