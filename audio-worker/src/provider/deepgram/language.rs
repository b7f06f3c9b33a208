//! Names of languages as Deepgram knows them: most without a region, which it refuses where it does not know it.

use crate::provider::language::two_letters;

/// Tags with a region or a script that Nova-3 knows, as its page "Models & Languages Overview" and its changelog list them.
const KNOWN: [&str; 22] = [
    "da-DK", "de-CH", "en-AU", "en-GB", "en-IN", "en-NZ", "en-US", "es-419", "fr-CA", "kk-KZ", "ko-KR", "nl-BE",
    "pa-IN", "pt-BR", "pt-PT", "sv-SE", "th-TH", "zh-CN", "zh-HK", "zh-Hans", "zh-Hant", "zh-TW",
];

/// Cantonese has a tag of its own, but not there.
const CANTONESE: (&str, &str) = ("yue", "zh-HK");

/// What to ask for, for a BCP 47 tag: the longest beginning of it that is known. One without a region is the server's to
/// refuse; so is `multi`.
pub(super) fn known(tag: &str) -> String {
    let tag = tag.replace('_', "-");
    let (primary, rest) = tag.split_once('-').unwrap_or((&tag, ""));
    if primary.eq_ignore_ascii_case(CANTONESE.0) {
        return CANTONESE.1.to_owned();
    }
    let Some(language) = two_letters(primary) else { return tag };
    let mut whole = format!("{language}-{rest}");
    while let Some((shorter, _)) = whole.rsplit_once('-') {
        if let Some(known) = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(&whole)) {
            return (*known).to_owned();
        }
        whole = shorter.to_owned();
    }
    language
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_that_deepgram_does_not_know_are_left_out() {
        for (tag, told) in [
            ("de-DE", "de"),
            ("de-CH", "de-CH"),
            ("DE_ch", "de-CH"),
            ("en-GB", "en-GB"),
            ("en-ZA", "en"),
            ("es-419", "es-419"),
            ("es-MX", "es"),
            ("fr-FR", "fr"),
            ("nb-NO", "no"),
            ("nl-BE", "nl-BE"),
            ("ja-JP", "ja"),
            ("pt", "pt"),
            ("zh-Hant-TW", "zh-Hant"),
            ("cmn-CN", "zh-CN"),
            ("zh-SG", "zh"),
            ("yue-HK", "zh-HK"),
            ("fil-PH", "tl"),
            ("multi", "multi"),
            ("gsw-CH", "gsw-CH"),
            ("", ""),
        ] {
            assert_eq!(known(tag), told, "{tag}");
        }
    }
}
