//! What must not be in a log, searched for in every form in which it might get there. Pure.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use url::form_urlencoded;

/// A shorter piece of a secret is no proof: it is found by accident.
const SHORTEST: usize = 7;

/// Secrets, each with a name that may be told.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<(String, Vec<Needle>)>);

/// One form of a secret.
#[derive(Clone, Debug)]
struct Needle {
    form: &'static str,
    text: String,
}

impl Secrets {
    /// With a text. Panics when it is too short to be told from anything else.
    pub fn add(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= SHORTEST, "{name} is too short to be searched for");
        let mut needles = forms(secret.as_bytes());
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        needles.push(Needle { form: "percent-encoded in lower case", text: lower_escapes(&encoded) });
        needles.push(Needle { form: "percent-encoded", text: encoded });
        needles.push(Needle { form: "as it is", text: secret.to_owned() });
        self.keep(name, needles);
    }

    /// With a number in E.164; its plus sign is nothing to go by.
    pub fn add_number(&mut self, name: &str, number: &str) {
        self.add(name, number.trim_start_matches('+'));
    }

    /// With bytes, such as sound.
    pub fn add_bytes(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= SHORTEST, "{name} is too short to be searched for");
        let mut needles = forms(secret);
        needles.push(Needle { form: "escaped", text: secret.escape_ascii().to_string() });
        self.keep(name, needles);
    }

    /// What is in `text`: name, form and line of each secret that is.
    pub fn leaks(&self, text: &str) -> Vec<String> {
        let mut leaks = Vec::new();
        for (name, needles) in &self.0 {
            for needle in needles {
                if let Some(at) = text.find(&needle.text) {
                    let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
                    let line = text[begin..].lines().next().unwrap_or_default();
                    leaks.push(format!("{name}, {}: {line}", needle.form));
                }
            }
        }
        leaks
    }
}

impl Secrets {
    /// Forms that are alike are searched for once, under the plainest name, which is the last.
    fn keep(&mut self, name: &str, mut needles: Vec<Needle>) {
        needles.reverse();
        needles.sort_by(|one, other| one.text.cmp(&other.text));
        needles.dedup_by(|one, other| one.text == other.text);
        self.0.push((name.to_owned(), needles));
    }
}

/// The forms that bytes of any kind may have.
fn forms(secret: &[u8]) -> Vec<Needle> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = secret.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut needles = vec![
        Needle { form: "hex", text: hex.to_uppercase() },
        Needle { form: "hex", text: hex },
        Needle { form: "a list of bytes", text: list },
    ];
    for engine in [BASE64_STANDARD, BASE64_URL_SAFE] {
        // In base64 a text looks different at each of three places, and its ends depend on what is beside it.
        for before in 0..3 {
            let padded = [&[0; 2][..before], secret].concat();
            let encoded = engine.encode(&padded);
            let inner = (before * 8).div_ceil(6)..padded.len() * 8 / 6;
            needles.push(Needle { form: "base64", text: encoded[inner].to_owned() });
        }
    }
    needles
}

fn lower_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        text.push('%');
        text.push_str(&code.to_ascii_lowercase());
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "p+ß w/~:rd";

    fn secrets() -> Secrets {
        let mut secrets = Secrets::default();
        secrets.add("the word", SECRET);
        secrets.add_number("the number", "+15550123");
        secrets.add_bytes("the sound", &[0xff, 0x7f, 0x00, b'a', 0x80, 0x81, 0x82, 0x83]);
        secrets
    }

    fn found(text: &str) -> String {
        let leaks = secrets().leaks(&format!("a line before\n{text}\na line after"));
        assert!(leaks.iter().all(|leak| leak.ends_with(text)), "{leaks:?}");
        leaks.join("; ")
    }

    #[test]
    fn every_form_is_found_and_nothing_else() {
        assert_eq!(secrets().leaks("p+s w/~:rd 1555012 ff7f00 255, 127 cCvD"), Vec::<String>::new());
        for (text, leak) in [
            (format!("x{SECRET}x"), "the word, as it is"),
            ("key=p%2B%C3%9F+w%2F%7E%3Ard&x=1".to_owned(), "the word, percent-encoded"),
            ("key=p%2b%c3%9f+w%2f%7e%3ard&x=1".to_owned(), "the word, percent-encoded in lower case"),
            ("702bc39f20772f7e3a7264".to_owned(), "the word, hex"),
            ("702BC39F20772F7E3A7264".to_owned(), "the word, hex"),
            ("to=%2B15550123".to_owned(), "the number, as it is"),
            ("[43, 49, 53, 53, 53, 48, 49, 50, 51]".to_owned(), "the number, a list of bytes"),
            (format!("b\"{}\"", b"\xff\x7f\x00a\x80\x81\x82\x83".escape_ascii()), "the sound, escaped"),
        ] {
            assert!(found(&text).contains(leak), "{text}: {}", found(&text));
        }
    }

    #[test]
    fn in_base64_it_is_found_wherever_it_stands() {
        for engine in [BASE64_STANDARD, BASE64_URL_SAFE] {
            for before in 0..7 {
                let pair = format!("{}{SECRET}:and more", "A".repeat(before));
                assert!(found(&engine.encode(&pair)).contains("the word, base64"), "{before}");
                assert!(
                    found(&engine.encode(format!("{}+15550123", "A".repeat(before)))).contains("the number, base64")
                );
            }
        }
    }
}
