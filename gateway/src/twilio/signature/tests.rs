//! The vectors that Twilio's own libraries are tested with (twilio-python, twilio-node, twilio-go), and ours.

use super::*;

const U: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
const HTTP: &str = "http://mycompany.com/myapp.php?foo=1&bar=2";

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn p() -> Vec<(String, String)> {
    fields(&[
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675309"),
        ("Digits", "1234"),
        ("From", "+14158675309"),
        ("To", "+18005551212"),
    ])
}

fn accepts(url: &str, body: Body<'_>, signature: &str) -> bool {
    is_valid(&[Sensitive::new("12345".to_owned())], url, body, signature)
}

#[test]
fn published_form_vectors() {
    let with_reason = {
        let mut all = p();
        all.extend(fields(&[("ReasonConferenceEnded", "test"), ("Reason", "Participant")]));
        all
    };
    let repeated = fields(&[
        ("Sid", "CA123"),
        ("SidAccount", "AC123"),
        ("Digits", "5678"),
        ("Digits", "1234"),
        ("Digits", "1234"),
    ]);
    let addresses =
        fields(&[("MessagingBinding.Address", "+1325xxxxxxx"), ("MessagingBinding.Address", "+1415xxxxxxx")]);
    let addresses_turned =
        fields(&[("MessagingBinding.Address", "+1415xxxxxxx"), ("MessagingBinding.Address", "+1325xxxxxxx")]);
    let form = fields(&[("property", "value"), ("boolean", "true")]);
    let credentials = "https://user:pass@mycompany.com/myapp.php?foo=1&bar=2";
    let vectors = [
        (U, &p(), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        ("https://mycompany.com:1234/myapp.php?foo=1&bar=2", &p(), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (U, &p(), "kvajT1Ptam85bY51eRf/AJRuM3w="),
        (HTTP, &p(), "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        ("http://mycompany.com:1234/myapp.php?foo=1&bar=2", &p(), "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
        (U, &repeated, "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
        (U, &addresses, "83O6e2vORAoJHUNzJjDWN1jz+BA="),
        (U, &addresses_turned, "83O6e2vORAoJHUNzJjDWN1jz+BA="),
        (U, &with_reason, "vOEb5UThFn24KEfnOFLQY2AE5FY="),
        (HTTP, &with_reason, "n2xBNyzSW7rfYStDtOFiFMv7qNo="),
        (U, &form, "NBdBDr/T/lgjI+tlgpXjKZQZs/k="),
        (credentials, &p(), "CukzLTc1tT5dXEDIHm/tKBanW10="),
        (credentials, &p(), "ZQFR1PTIZXF2MXB8ZnKCvnnA+rI="),
        ("https://user@mycompany.com/myapp.php?foo=1&bar=2", &p(), "2YRLlVAflCqxaNicjMpJcSTgzSs="),
        ("https://mycompany.com/myapp.php?foo=1&bar=2&Body=It's+amazing", &p(), "TfZzewPq8wqrGlMfyAud8+/IvJ0="),
    ];
    for (url, fields, signature) in vectors {
        assert!(accepts(url, Body::Form(fields), signature), "{url} {signature}");
    }
    // Sorting the joined strings instead of the names makes this one; it must be refused.
    assert!(!accepts(U, Body::Form(&with_reason), "95+Bu0JVPi0r/SsESZCVf0dWAjw="));
}

#[test]
fn published_json_vectors() {
    let body = br#"{"property": "value", "boolean": true}"#;
    let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let empty_hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let with = format!("{U}&bodySHA256={hash}");
    let alone = format!("https://mycompany.com/myapp.php?bodySHA256={hash}");
    let empty = format!("{U}&bodySHA256={empty_hash}");
    assert!(accepts(&with, Body::Raw(body), "a9nBmqA0ju/hNViExpshrM61xv4="));
    assert!(accepts(&alone, Body::Raw(body), "y77kIzt2vzLz71DgmJGsen2scGs="));
    assert!(accepts(&empty, Body::Raw(b"{}"), "Ldidvp12m26NI7eqEvxnEpkd9Hc="));
    assert!(accepts(&empty, Body::Raw(b"{}"), "rw/jVviOgicj2+kHZULvebnA4ag="));
    // Another body, or a URL without the hash.
    assert!(!accepts(&with, Body::Raw(b"{}"), "a9nBmqA0ju/hNViExpshrM61xv4="));
    assert!(!accepts(U, Body::Raw(body), "a9nBmqA0ju/hNViExpshrM61xv4="));
}

#[test]
fn handshake_vectors() {
    let url = "wss://mycompany.com/media";
    for signature in ["okykUWKkAOgQseVjzERZh4soLeU=", "m6zCRgAmr39sY5bRHH3mG0yRr1o=", "y/eZxfvMeXBmejSJYHDm4y/cRMk="] {
        assert!(accepts(url, Body::Empty, signature), "{signature}");
        assert!(accepts("wss://mycompany.com/media/", Body::Empty, signature), "{signature} with slash");
    }
    // Signed over https instead of wss.
    assert!(!accepts(url, Body::Empty, "767ALDRNA8VrAN2kKcJ/ivLgcfQ="));
}

#[test]
fn every_byte_counts() {
    let good = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
    let mut other = p();
    other[2].1 = "1235".to_owned();
    for (url, fields, signature) in [
        (U, &other, good),
        ("https://mycompany.com/myapp.php?foo=1&bar=3", &p(), good),
        (HTTP, &p(), good),
        (U, &p(), "RSOYDt4T1cUTdK1PDd93/VVr8B9="),
        (U, &p(), ""),
        (U, &p(), "not base64"),
    ] {
        assert!(!accepts(url, Body::Form(fields), signature), "{url} {signature}");
    }
}

#[test]
fn any_of_several_tokens_will_do() {
    let tokens = ["old", "12345", "new"].map(|token| Sensitive::new(token.to_owned()));
    let good = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
    assert!(is_valid(&tokens, U, Body::Form(&p()), good));
    assert!(!is_valid(&tokens[2..], U, Body::Form(&p()), good));
    assert!(!is_valid(&[], U, Body::Form(&p()), good));
}

#[test]
fn what_we_sign_we_accept() {
    let token = Sensitive::new("12345".to_owned());
    assert_eq!(sign(&token, U, &p()), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
    assert_eq!(sign(&token, "wss://mycompany.com/media", &[]), "okykUWKkAOgQseVjzERZh4soLeU=");
}
