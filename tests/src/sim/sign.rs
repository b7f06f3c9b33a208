//! Pure: `X-Twilio-Signature` as Twilio's security page describes it.
//!
//! Independent of the gateway's check on purpose.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Signature of a request to `url` with the form parameters `params` under the account's auth token.
///
/// The URL is used as given except for its `#` fragment, which is neither sent nor signed. For the
/// WebSocket upgrade pass the `wss` URL and no parameters. Repeated names: each distinct value once,
/// in order, as Twilio's SDKs have it.
pub fn sign(url: &str, params: &[(String, String)], auth_token: &str) -> String {
    let mut sorted: Vec<&(String, String)> = params.iter().collect();
    sorted.sort();
    sorted.dedup();
    let bare = url.split('#').next().unwrap_or(url);
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(auth_token.as_bytes()) else {
        unreachable!("HMAC takes keys of any length")
    };
    mac.update(bare.as_bytes());
    for (name, value) in sorted {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::sign;

    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";

    fn params(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn call() -> Vec<(String, String)> {
        params(&[
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ])
    }

    #[test]
    fn published_vectors_agree() {
        assert_eq!(sign(URL, &call(), "12345"), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        let with_port = URL.replace(".com", ".com:443");
        assert_eq!(sign(&with_port, &call(), "12345"), "kvajT1Ptam85bY51eRf/AJRuM3w=");
        let repeated = params(&[
            ("Sid", "CA123"),
            ("SidAccount", "AC123"),
            ("Digits", "5678"),
            ("Digits", "1234"),
            ("Digits", "1234"),
        ]);
        assert_eq!(sign(URL, &repeated, "12345"), "IK+Dwps556ElfBT0I3Rgjkr1wJU=");
        let mut prefix_names = call();
        prefix_names.extend(params(&[("ReasonConferenceEnded", "test"), ("Reason", "Participant")]));
        assert_eq!(sign(URL, &prefix_names, "12345"), "vOEb5UThFn24KEfnOFLQY2AE5FY=");
    }

    #[test]
    fn upgrade_is_signed_over_the_wss_url() {
        assert_eq!(sign("wss://mycompany.com/media", &[], "12345"), "okykUWKkAOgQseVjzERZh4soLeU=");
        assert_eq!(sign("wss://mycompany.com/media/", &[], "12345"), "m6zCRgAmr39sY5bRHH3mG0yRr1o=");
    }

    #[test]
    fn fragment_is_not_signed() {
        let with_overrides = format!("{URL}#rc=2&rp=all");
        assert_eq!(sign(&with_overrides, &call(), "12345"), sign(URL, &call(), "12345"));
    }
}
