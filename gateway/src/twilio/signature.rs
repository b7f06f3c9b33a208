//! `X-Twilio-Signature`: base64 of HMAC-SHA1, by the auth token, over the URL and the form's fields
//! (twilio.com/docs/usage/webhooks/webhooks-security).

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use telemetry::Sensitive;

/// What was signed besides the URL.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Nothing: a GET, or a WebSocket handshake.
    Empty,
    /// The decoded fields of a form, in any order, repeated names allowed.
    Form(&'a [(String, String)]),
    /// Anything else, whose SHA-256 is in the query as `bodySHA256`.
    Raw(&'a [u8]),
}

/// Whether `signature` was made by the owner of one of `tokens` for `url` and `body`.
///
/// Twilio is not consistent about the port, so the URL is tried as it is, without a port, and with the scheme's
/// default one; and with apostrophes of the query in both forms. The path of a `wss` URL is tried with
/// and without a trailing slash.
pub fn is_valid(tokens: &[Sensitive<String>], url: &str, body: Body<'_>, signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else {
        return false;
    };
    let fields = match body {
        Body::Empty => String::new(),
        Body::Form(fields) => joined(fields),
        Body::Raw(raw) => {
            if !body_hash_matches(url, raw) {
                return false;
            }
            String::new()
        }
    };
    let forms = forms(url);
    tokens.iter().any(|token| {
        forms.iter().any(|form| mac(token, form, &fields).is_some_and(|mac| mac.verify_slice(&signature).is_ok()))
    })
}

/// Signs as Twilio does, for tests and tools.
pub fn sign(token: &Sensitive<String>, url: &str, fields: &[(String, String)]) -> String {
    mac(token, url, &joined(fields)).map(|mac| STANDARD.encode(mac.finalize().into_bytes())).unwrap_or_default()
}

fn mac(token: &Sensitive<String>, url: &str, fields: &str) -> Option<Hmac<Sha1>> {
    // HMAC takes keys of any length, so this is always there.
    let mut mac = Hmac::<Sha1>::new_from_slice(token.expose().as_bytes()).ok()?;
    mac.update(url.as_bytes());
    mac.update(fields.as_bytes());
    Some(mac)
}

/// Names sorted by code point, each unique value sorted, the name repeated before each value.
fn joined(fields: &[(String, String)]) -> String {
    let mut sorted = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (name, value) in fields {
        sorted.entry(name).or_default().insert(value);
    }
    let pairs = sorted.iter().flat_map(|(name, values)| values.iter().flat_map(move |value| [*name, *value]));
    pairs.collect()
}

fn body_hash_matches(url: &str, raw: &[u8]) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let Some(claimed) = query.split('&').find_map(|pair| pair.strip_prefix("bodySHA256=")) else {
        return false;
    };
    let actual = Sha256::digest(raw).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    claimed.eq_ignore_ascii_case(&actual)
}

/// The forms of `url` that Twilio may have signed.
fn forms(url: &str) -> Vec<String> {
    let mut forms = Vec::with_capacity(8);
    for slashed in slash_forms(url) {
        for ported in port_forms(&slashed) {
            if ported.contains('\'') {
                forms.push(ported.replace('\'', "%27"));
            }
            forms.push(ported);
        }
    }
    forms
}

fn port_forms(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (credentials, host) = authority
        .rsplit_once('@')
        .map_or(("", authority), |(_, host)| authority.split_at(authority.len() - host.len()));
    let bare = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(bare, _)| bare);
    let default = if matches!(scheme, "https" | "wss") { 443 } else { 80 };
    let mut forms = vec![url.to_owned()];
    if bare == host {
        forms.push(format!("{scheme}://{credentials}{bare}:{default}{path}"));
    } else {
        forms.push(format!("{scheme}://{credentials}{bare}{path}"));
    }
    forms
}

fn slash_forms(url: &str) -> Vec<Cow<'_, str>> {
    let mut forms = vec![Cow::Borrowed(url)];
    if url.starts_with("wss://") && !url.contains('?') {
        forms.push(url.strip_suffix('/').map_or_else(|| Cow::Owned(format!("{url}/")), Cow::Borrowed));
    }
    forms
}

#[cfg(test)]
mod tests;
