//! Settings of the carrier's REST API: whose account, which secret, which host.

use std::net::IpAddr;

use telemetry::{
    Sensitive,
    settings::{Reader, Setting},
};
use url::{Host, Url};

/// Settings that are read here; the account and its auth token are the webhooks' as well.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "TWILIO_API_KEY",
        default: None,
        help: "API key (SK…) for calls out; the account's auth token when not given",
    },
    Setting { name: "TWILIO_API_SECRET", default: None, help: "Secret of TWILIO_API_KEY" },
    Setting {
        name: "TWILIO_REGION",
        default: None,
        help: "Twilio region that handles calls out, such as ie1; its keys and tokens are its own",
    },
    Setting { name: "TWILIO_EDGE", default: None, help: "Twilio edge that requests enter by, such as dublin" },
    Setting { name: "TWILIO_API_URL", default: None, help: "Address of the REST API, instead of Twilio's own" },
];

/// Twilio's own API, where neither region nor edge is given.
const API_URL: &str = "https://api.twilio.com";

/// Regions and the edge beside each (twilio.com/docs/global-infrastructure).
const EDGES: [(&str, &str); 8] = [
    ("us1", "ashburn"),
    ("us2", "umatilla"),
    ("ie1", "dublin"),
    ("de1", "frankfurt"),
    ("au1", "sydney"),
    ("jp1", "tokyo"),
    ("sg1", "singapore"),
    ("br1", "sao-paulo"),
];

/// How the carrier's REST API is reached.
#[derive(Debug, Clone)]
pub struct Carrier {
    /// Scheme, host and, for another's API, path, without a slash at the end.
    pub base_url: String,
    /// The account that every address names.
    pub account_sid: Option<String>,
    /// Who asks.
    pub credentials: Option<Credentials>,
}

/// HTTP Basic authentication.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// SID of the key or of the account.
    pub user: String,
    /// Secret of the key, or the account's auth token.
    pub secret: Sensitive<String>,
    /// It is a key, which may not see everything.
    pub is_key: bool,
}

impl Carrier {
    /// Reads them.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let account_sid = reader.text("TWILIO_ACCOUNT_SID").map(ToOwned::to_owned);
        let key = reader.text("TWILIO_API_KEY").map(ToOwned::to_owned);
        if key.as_ref().is_some_and(|key| !key.starts_with("SK")) {
            reader.mistake("TWILIO_API_KEY", "must begin with SK; an account (AC…) is not an API key");
        }
        let credentials = match (key, reader.secret("TWILIO_API_SECRET")) {
            (Some(user), Some(secret)) => Some(Credentials { user, secret, is_key: true }),
            (Some(_), None) => {
                reader.mistake("TWILIO_API_SECRET", "is needed with TWILIO_API_KEY");
                None
            }
            (None, Some(_)) => {
                reader.mistake("TWILIO_API_KEY", "is needed with TWILIO_API_SECRET");
                None
            }
            (None, None) => {
                let tokens = reader.text("TWILIO_AUTH_TOKEN").unwrap_or_default();
                let first = tokens.split(',').map(str::trim).find(|token| !token.is_empty());
                account_sid.clone().zip(first).map(|(user, token)| Credentials {
                    user,
                    secret: Sensitive::new(token.to_owned()),
                    is_key: false,
                })
            }
        };
        Self { base_url: base_url(reader), account_sid, credentials }
    }
}

fn base_url(reader: &mut Reader<'_>) -> String {
    let (region, edge) = (label(reader, "TWILIO_REGION"), label(reader, "TWILIO_EDGE"));
    if let Some(text) = reader.text("TWILIO_API_URL") {
        return match own_url(text) {
            Ok(url) => url,
            Err(what) => {
                reader.mistake("TWILIO_API_URL", what);
                String::new()
            }
        };
    }
    // A host needs both parts: those of a region alone were switched off in April 2026.
    let (region, edge) = match (region, edge) {
        (None, None) => return API_URL.to_owned(),
        (Some(region), Some(edge)) => (region, edge),
        (None, Some(edge)) => ("us1", edge),
        (Some(region), None) => match EDGES.iter().find(|(known, _)| *known == region) {
            Some((region, edge)) => (*region, *edge),
            None => {
                reader.mistake("TWILIO_EDGE", "is needed with this TWILIO_REGION");
                return String::new();
            }
        },
    };
    format!("https://api.{edge}.{region}.twilio.com")
}

fn label<'a>(reader: &mut Reader<'a>, name: &'static str) -> Option<&'a str> {
    let text = reader.text(name)?;
    if text.len() > 63 || !text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        reader.mistake(name, "must be small letters, digits and hyphens, such as ie1 or dublin");
        return None;
    }
    Some(text)
}

fn own_url(text: &str) -> Result<String, &'static str> {
    let url: Url = text.parse().map_err(|_| "must be an address such as https://api.twilio.com")?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("must be without user name, password, query and fragment");
    }
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => {}
        ("http", Some(host)) if is_private(&host) => {}
        _ => return Err("must begin with https:// (http:// only on this machine or a private network)"),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A host that no public network leads to.
fn is_private(host: &Host<&str>) -> bool {
    let address = match host {
        // A name without a dot is of this machine or of its own network, such as a container's.
        Host::Domain(name) => return !name.contains('.') || name.ends_with(".localhost"),
        Host::Ipv4(address) => IpAddr::V4(*address),
        Host::Ipv6(address) => IpAddr::V6(*address),
    };
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::settings::{Mistakes, Values};

    fn read(pairs: &[(&str, &str)]) -> Result<Carrier, Mistakes> {
        let others = ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"].map(|name| Setting { name, default: None, help: "" });
        let table = [SETTINGS, &others].concat();
        let values = Values::from_lookup(&table, |name| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        });
        let mut reader = Reader::new(&values);
        let carrier = Carrier::read(&mut reader);
        reader.finish(Some(carrier))
    }

    #[test]
    fn a_key_comes_before_the_token() {
        let token = [("TWILIO_ACCOUNT_SID", "AC1"), ("TWILIO_AUTH_TOKEN", " new, old")];
        let by_token = read(&token).unwrap().credentials.unwrap();
        assert_eq!((by_token.user.as_str(), by_token.secret.expose().as_str(), by_token.is_key), ("AC1", "new", false));
        let key = [("TWILIO_API_KEY", "SK1"), ("TWILIO_API_SECRET", "s3cret")];
        let carrier = read(&[&token[..], &key].concat()).unwrap();
        assert!(!format!("{carrier:?}").contains("s3cret"));
        let by_key = carrier.credentials.unwrap();
        assert_eq!((by_key.user.as_str(), by_key.secret.expose().as_str(), by_key.is_key), ("SK1", "s3cret", true));
        assert!(read(&[]).unwrap().credentials.is_none());
        for half in [&key[..1], &key[1..], &[("TWILIO_API_KEY", "AC1"), ("TWILIO_API_SECRET", "s")]] {
            assert_eq!(read(half).unwrap_err().0.len(), 1);
        }
    }

    #[test]
    fn a_host_has_both_edge_and_region_or_neither() {
        let host = |pairs: &[(&str, &str)]| read(pairs).unwrap().base_url;
        assert_eq!(host(&[]), "https://api.twilio.com");
        assert_eq!(host(&[("TWILIO_REGION", "ie1")]), "https://api.dublin.ie1.twilio.com");
        assert_eq!(host(&[("TWILIO_EDGE", "sydney")]), "https://api.sydney.us1.twilio.com");
        let both = [("TWILIO_REGION", "au1"), ("TWILIO_EDGE", "singapore")];
        assert_eq!(host(&both), "https://api.singapore.au1.twilio.com");
        assert_eq!(read(&[("TWILIO_REGION", "xx9")]).unwrap_err().0[0].name, "TWILIO_EDGE");
        assert_eq!(read(&[("TWILIO_EDGE", "a.evil.example/")]).unwrap_err().0[0].name, "TWILIO_EDGE");
    }

    #[test]
    fn the_api_may_be_anothers_but_not_in_the_clear() {
        let host = |url| read(&[("TWILIO_API_URL", url)]);
        for (url, base) in [
            ("https://space.signalwire.com/api/laml/", "https://space.signalwire.com/api/laml"),
            ("http://127.0.0.1:4010", "http://127.0.0.1:4010"),
            ("http://[::1]:4010/", "http://[::1]:4010"),
            ("http://10.0.0.7:80", "http://10.0.0.7"),
            ("http://twilio:4010", "http://twilio:4010"),
        ] {
            assert_eq!(host(url).unwrap().base_url, base);
        }
        for bad in [
            "http://api.twilio.com",
            "http://8.8.8.8",
            "api.twilio.com",
            "ftp://a",
            "https://u:p@a.b",
            "https://a.b/?q",
        ] {
            assert_eq!(host(bad).unwrap_err().0[0].name, "TWILIO_API_URL", "{bad}");
        }
    }
}
