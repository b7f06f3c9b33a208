//! What an answer that is none means, and how much of its words may be told.

use http::StatusCode;
use serde_json::Value;
use telemetry::Sensitive;

use super::{Fault, ProviderError};

/// Longest detail, in characters.
const MAX_CHARS: usize = 200;
/// So many characters of a key give it away; OpenAI itself shows the first and the last of a wrong one.
const KEY_CHARS: usize = 4;
/// So many characters in common with what was said are no accident.
const SAID_CHARS: usize = 16;

/// What must not be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets {
    pub(super) key: Option<Sensitive<String>>,
    /// What was said in the request.
    pub(super) said: Sensitive<Vec<String>>,
}

/// An error in our own words, which have to be harmless.
pub(super) fn error(kind: Fault, what: &str) -> ProviderError {
    ProviderError { kind, detail: printable(what) }
}

/// The one place that gives an HTTP status its meaning: none for success.
pub(super) fn of_status(status: StatusCode) -> Option<Fault> {
    match status.as_u16() {
        200..=299 => None,
        401 | 403 => Some(Fault::Denied),
        429 => Some(Fault::Busy),
        400..=499 => Some(Fault::Rejected),
        500..=599 => Some(Fault::Failed),
        // Redirects are not followed: a key must not go elsewhere.
        _ => Some(Fault::Malformed),
    }
}

/// What an answer of `kind` means by its body: to Google a wrong API key is a bad request.
pub(super) fn of_body(kind: Fault, body: &[u8]) -> Fault {
    let says_so = || {
        let body: Value = serde_json::from_slice(body).ok()?;
        Some(body["error"]["details"].as_array()?.iter().any(|detail| detail["reason"] == "API_KEY_INVALID"))
    };
    if kind == Fault::Rejected && says_so() == Some(true) { Fault::Denied } else { kind }
}

/// What a provider says of its error, as OpenAI, Google, ElevenLabs, FastAPI, Ollama and Deepgram put it; none where that cannot be told.
pub(super) fn message(body: &[u8], secrets: &Secrets) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let (problem, detail) = (&body["error"], &body["detail"]);
    let places = [&problem["message"], problem, &body["message"], &detail["message"], detail, &body["err_msg"]];
    let message = places.into_iter().find_map(Value::as_str)?;
    told(message, secrets)
}

/// A provider's words without the key; none when they are empty, or repeat what was said.
pub(super) fn told(message: &str, secrets: &Secrets) -> Option<String> {
    let message = match &secrets.key {
        Some(key) => without(message, key.expose()),
        None => message.to_owned(),
    };
    let message = printable(&message);
    if message.is_empty() {
        return None;
    }
    let chars: Vec<(usize, char)> = message.char_indices().collect();
    let repeats = |said: &String| {
        let said = printable_all(said);
        let short = said.trim();
        let has_short = !short.is_empty() && short.chars().count() < SAID_CHARS && message.contains(short);
        let window = |at: usize| {
            let end = chars.get(at + SAID_CHARS).map_or(message.len(), |(end, _)| *end);
            &message[chars[at].0..end]
        };
        has_short || (0..(chars.len() + 1).saturating_sub(SAID_CHARS)).any(|at| said.contains(window(at)))
    };
    (!secrets.said.expose().iter().any(repeats)).then_some(message)
}

/// Without each word that holds the key, or begins or ends as it does.
fn without(message: &str, key: &str) -> String {
    if key.is_empty() {
        return message.to_owned();
    }
    let first: String = key.chars().take(KEY_CHARS).collect();
    let last = key.char_indices().rev().nth(KEY_CHARS - 1).map_or(key, |(at, _)| &key[at..]);
    let is_of_key = |word: &str| {
        let inner = word.trim_matches(|c: char| !c.is_alphanumeric());
        word.contains(key) || inner.starts_with(&first) || inner.ends_with(last)
    };
    let words = message.split(' ').map(|word| if is_of_key(word) { "[redacted]" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The first 200 characters that can be printed on a line.
pub(super) fn printable(text: &str) -> String {
    let line = printable_all(text);
    line.trim().chars().take(MAX_CHARS).collect()
}

fn printable_all(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(said: &[&str]) -> Secrets {
        let said = said.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Secrets { key: Some("sk-proj-abcdef123456".to_owned().into()), said: said.into() }
    }

    #[test]
    fn statuses_have_their_meaning() {
        let of = |status| of_status(StatusCode::from_u16(status).unwrap()).map(Fault::label);
        let table = [
            (200, None),
            (204, None),
            (302, Some("malformed")),
            (400, Some("rejected")),
            (401, Some("denied")),
            (403, Some("denied")),
            (404, Some("rejected")),
            (422, Some("rejected")),
            (429, Some("busy")),
            (500, Some("failed")),
            (503, Some("failed")),
            (999, Some("malformed")),
        ];
        for (status, fault) in table {
            assert_eq!(of(status), fault, "{status}");
        }
    }

    #[test]
    fn a_wrong_key_is_told_from_a_bad_request() {
        let wrong = r#"{"error": {"code": 400, "details": [{"@type": "x"}, {"reason": "API_KEY_INVALID"}]}}"#;
        let other = r#"{"error": {"code": 400, "message": "API_KEY_INVALID", "details": [{"reason": "x"}]}}"#;
        for (kind, body, told) in [
            (Fault::Rejected, wrong, Fault::Denied),
            (Fault::Failed, wrong, Fault::Failed),
            (Fault::Rejected, other, Fault::Rejected),
            (Fault::Rejected, r#"{"error": "x"}"#, Fault::Rejected),
            (Fault::Rejected, "API_KEY_INVALID", Fault::Rejected),
        ] {
            assert_eq!(of_body(kind, body.as_bytes()), told, "{body}");
        }
    }

    #[test]
    fn messages_are_found_where_servers_put_them() {
        let nothing = Secrets::default();
        for body in [
            r#"{"error": {"message": "no such model", "type": "x"}}"#,
            r#"{"error": "no such model"}"#,
            r#"{"object": "error", "message": "no such model"}"#,
            r#"{"detail": "no such model"}"#,
            r#"{"detail": {"status": "model_not_found", "message": "no such model"}}"#,
        ] {
            assert_eq!(message(body.as_bytes(), &nothing).as_deref(), Some("no such model"), "{body}");
        }
        for body in ["", "no such model", "[]", "{}", r#"{"detail": [{"input": "what was said"}]}"#, r#"{"error": ""}"#]
        {
            assert_eq!(message(body.as_bytes(), &nothing), None, "{body}");
        }
    }

    #[test]
    fn keys_are_taken_out_also_in_part() {
        let secrets = secrets(&[]);
        for (words, left) in [
            ("Incorrect API key provided: sk-proj-abcdef123456.", "Incorrect API key provided: [redacted]"),
            ("Incorrect API key provided: sk-proj-***3456. Look", "Incorrect API key provided: [redacted] Look"),
            ("key='sk-proj-abcdef123456'", "[redacted]"),
            ("the key is fine", "the key is fine"),
        ] {
            assert_eq!(told(words, &secrets).as_deref(), Some(left));
        }
        assert_eq!(without("a b", ""), "a b");
        assert_eq!(without("a bc", "bc"), "a [redacted]");
    }

    #[test]
    fn what_was_said_is_not_told_and_the_rest_is_cut() {
        let secrets = secrets(&["my card number is 4929 1234", "no"]);
        assert_eq!(told("bad input: 'my card number is 4929", &secrets), None);
        assert_eq!(told("say no more", &secrets), None);
        assert_eq!(told("my cards are wrong", &secrets).as_deref(), Some("my cards are wrong"));
        let long = "\u{e4}\n\u{7}".repeat(300);
        assert_eq!(told(&long, &secrets).map(|text| text.chars().count()), Some(200));
        assert_eq!(told("a\r\nb\u{1b}[31m", &secrets).as_deref(), Some("a  b[31m"));
    }
}
