//! Names of languages as providers know them.

/// What recognisers know under another name than the tag says: IANA's macro-languages and deprecated tags.
const OTHER_NAMES: [(&str, &str); 7] =
    [("cmn", "zh"), ("yue", "zh"), ("fil", "tl"), ("nb", "no"), ("iw", "he"), ("in", "id"), ("ji", "yi")];

/// The two letters of ISO 639-1 for a BCP 47 tag; none where there are none, and the server finds out itself.
pub(super) fn two_letters(tag: &str) -> Option<String> {
    let primary = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let known = OTHER_NAMES.iter().find(|(tag, _)| *tag == primary);
    let name = known.map_or(primary.as_str(), |(_, name)| name);
    let is_short = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_lowercase());
    is_short.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_as_the_server_knows_them() {
        for (tag, told) in [
            ("en-GB", Some("en")),
            ("DE", Some("de")),
            ("zh-TW", Some("zh")),
            ("cmn-Hans-CN", Some("zh")),
            ("nb-NO", Some("no")),
            ("fil", Some("tl")),
            ("pt_BR", Some("pt")),
            ("", None),
            ("gsw-CH", None),
            ("x-\r\n", None),
            ("multi", None),
        ] {
            assert_eq!(two_letters(tag).as_deref(), told, "{tag}");
        }
    }
}
