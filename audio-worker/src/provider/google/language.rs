//! Languages as Google's speech services want them: with a region.

/// What is spoken where nobody says.
const USUAL: &str = "en-US";

/// Regions of languages that came without one, by most speakers on telephones that Google knows a model of.
const REGIONS: [(&str, &str); 24] = [
    ("ar", "ar-XA"),
    ("cs", "cs-CZ"),
    ("da", "da-DK"),
    ("de", "de-DE"),
    ("el", "el-GR"),
    ("en", "en-US"),
    ("es", "es-ES"),
    ("fi", "fi-FI"),
    ("fr", "fr-FR"),
    ("hi", "hi-IN"),
    ("hu", "hu-HU"),
    ("id", "id-ID"),
    ("it", "it-IT"),
    ("ja", "ja-JP"),
    ("ko", "ko-KR"),
    ("nb", "nb-NO"),
    ("nl", "nl-NL"),
    ("pl", "pl-PL"),
    ("pt", "pt-BR"),
    ("ru", "ru-RU"),
    ("sv", "sv-SE"),
    ("tr", "tr-TR"),
    ("uk", "uk-UA"),
    ("vi", "vi-VN"),
];

/// Chinese under other names: tag, to be heard, to be spoken.
const CHINESE: [(&str, &str, &str); 5] = [
    ("zh", "cmn-Hans-CN", "cmn-CN"),
    ("zh-cn", "cmn-Hans-CN", "cmn-CN"),
    ("zh-tw", "cmn-Hant-TW", "cmn-TW"),
    ("zh-hk", "yue-Hant-HK", "yue-HK"),
    ("yue", "yue-Hant-HK", "yue-HK"),
];

/// For speech-to-text.
pub(super) fn to_hear(tag: &str) -> String {
    let lower = tag.to_ascii_lowercase();
    if lower == "ar" {
        return "ar-EG".to_owned();
    }
    match CHINESE.iter().find(|(known, ..)| *known == lower) {
        Some((_, name, _)) => (*name).to_owned(),
        None => with_region(tag),
    }
}

/// For text-to-speech by the voice `name`, which may be empty. Names of most voices begin with their language.
pub(super) fn to_speak(tag: &str, name: &str) -> String {
    let mut parts = name.splitn(3, '-');
    if let (Some(language @ 2..=3), Some(region @ 2..), Some(_)) =
        (parts.next().map(str::len), parts.next().map(str::len), parts.next())
    {
        return name[..language + 1 + region].to_owned();
    }
    let lower = tag.to_ascii_lowercase();
    match CHINESE.iter().find(|(known, ..)| *known == lower) {
        Some((.., name)) => (*name).to_owned(),
        None => with_region(tag),
    }
}

fn with_region(tag: &str) -> String {
    if tag.is_empty() {
        return USUAL.to_owned();
    }
    let lower = tag.to_ascii_lowercase();
    REGIONS.iter().find(|(known, _)| *known == lower).map_or(tag, |(_, name)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_get_the_regions_that_google_wants() {
        for (tag, heard, spoken) in [
            ("", "en-US", "en-US"),
            ("ja", "ja-JP", "ja-JP"),
            ("EN", "en-US", "en-US"),
            ("en-GB", "en-GB", "en-GB"),
            ("zh-CN", "cmn-Hans-CN", "cmn-CN"),
            ("gsw-CH", "gsw-CH", "gsw-CH"),
        ] {
            assert_eq!((to_hear(tag).as_str(), to_speak(tag, "").as_str()), (heard, spoken), "{tag}");
        }
        for (name, language) in [
            ("en-US-Neural2-C", "en-US"),
            ("cmn-TW-Wavenet-A", "cmn-TW"),
            ("Kore", "de-DE"),
            ("a-b-c", "de-DE"),
            ("de-DE", "de-DE"),
        ] {
            assert_eq!(to_speak("de", name), language, "{name}");
        }
    }
}
