//! The form of language tags. Pure.

/// Whether `tag` has the form of a BCP 47 tag (RFC 5646) that begins with a language: two or three letters, then subtags
/// of letters and digits; 35 characters at most, as section 4.4.1 advises to take.
pub fn is_tag(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    tag.len() <= 35
        && (2..=3).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::is_tag;

    #[test]
    fn tags_are_told_from_what_is_none() {
        for good in ["en", "ja-JP", "es-419", "zh-Hant-TW", "de-DE-u-co-phonebk", "haw"] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", "e", "english", "en_US", "en-", "12", "en-US\n", "en-abcdefghi", &"en-".repeat(12)] {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
