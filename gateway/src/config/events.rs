//! Settings of call events: the user's own webhook, its key, and who else may be told.

use telemetry::{
    Sensitive,
    settings::{Reader, Setting},
};
use url::Url;

use crate::client::is_loopback;

/// Settings that are read here.
pub(super) const SETTINGS: &[Setting] = &[
    Setting { name: "EVENTS_URL", default: None, help: "Your webhook that is told what happens to calls" },
    Setting {
        name: "EVENTS_SECRET",
        default: None,
        help: "Key that signs events (Tandem-Signature); needed for any webhook of yours",
    },
    Setting {
        name: "EVENTS_HOSTS",
        default: None,
        help: "Hosts, with commas, that a call may name as its own webhook; *.example.com is all below",
    },
];

/// Longest address of a call's own webhook.
const MAX_URL_BYTES: usize = 2048;

/// Where call events go.
#[derive(Debug, Clone, Default)]
pub struct Events {
    /// Told about all calls that name no webhook of their own. Its path may be a secret.
    pub url: Option<Sensitive<String>>,
    /// Signs events.
    pub secret: Option<Sensitive<String>>,
    /// Hosts that a call may name; any when empty.
    pub hosts: Vec<String>,
}

impl Events {
    /// Reads them.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let url = reader.text("EVENTS_URL").and_then(|text| match text.parse::<Url>() {
            Ok(url) if matches!(url.scheme(), "https" | "http") && !has_credentials(&url) => {
                Some(Sensitive::new(String::from(url)))
            }
            Ok(_) | Err(_) => {
                reader.mistake("EVENTS_URL", "must be an address such as https://example.com/calls, without password");
                None
            }
        });
        let hosts = reader.text("EVENTS_HOSTS").unwrap_or_default().split(',').map(str::trim);
        let hosts: Vec<_> = hosts.filter(|host| !host.is_empty()).map(str::to_ascii_lowercase).collect();
        if hosts.iter().any(|host| host.contains(['/', ':', '@']) || host.trim_start_matches("*.").contains('*')) {
            reader.mistake("EVENTS_HOSTS", "must be host names with commas, such as example.com,*.example.org");
        }
        let secret = reader.secret("EVENTS_SECRET");
        if secret.is_none() && (url.is_some() || !hosts.is_empty()) {
            reader.mistake("EVENTS_SECRET", "is needed to sign what is sent to a webhook of yours");
        }
        Self { url, secret, hosts }
    }

    /// Whether a call may name `url` as its webhook.
    ///
    /// # Errors
    /// Why not, as the end of a sentence that begins with the field's name.
    pub fn allowed(&self, url: &str) -> Result<(), &'static str> {
        if self.secret.is_none() {
            return Err("cannot be used: EVENTS_SECRET, which signs events, is not set");
        }
        if url.len() > MAX_URL_BYTES {
            return Err("must be no longer than 2048 bytes");
        }
        let url: Url = url.parse().map_err(|_| "must be an address such as https://example.com/calls")?;
        let host = url.host_str().unwrap_or_default();
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(host) => {}
            _ => return Err("must begin with https:// (http:// only on this machine)"),
        }
        if has_credentials(&url) {
            return Err("must not contain a user name or password; events are signed instead");
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|known| is_meant(known, host)) {
            return Err("must have a host that EVENTS_HOSTS names");
        }
        Ok(())
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Whether `known`, a name or `*.` and a name, means `host`. The root's dot at the end of a name changes nothing.
fn is_meant(known: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    match known.strip_prefix("*.") {
        Some(above) => host.strip_suffix(above).is_some_and(|below| below.len() > 1 && below.ends_with('.')),
        None => host == known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::settings::{Mistakes, Values};

    fn read(pairs: &[(&str, &str)]) -> Result<Events, Mistakes> {
        let values = Values::from_lookup(SETTINGS, |name| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        });
        let mut reader = Reader::new(&values);
        let events = Events::read(&mut reader);
        reader.finish(Some(events))
    }

    #[test]
    fn whatever_is_sent_is_signed() {
        for unsigned in [("EVENTS_URL", "https://example.com/x"), ("EVENTS_HOSTS", "example.com")] {
            assert_eq!(read(&[unsigned]).unwrap_err().0[0].name, "EVENTS_SECRET");
        }
        assert!(read(&[]).unwrap().allowed("https://example.com/x").unwrap_err().contains("EVENTS_SECRET"));
        let events = read(&[("EVENTS_URL", "http://app:3000/s3cret"), ("EVENTS_SECRET", "k3y")]).unwrap();
        let text = format!("{events:?}");
        assert!(!text.contains("s3cret") && !text.contains("k3y"));
        for bad in ["example.com", "ftp://example.com", "https://u:p@example.com"] {
            assert_eq!(read(&[("EVENTS_URL", bad), ("EVENTS_SECRET", "k")]).unwrap_err().0[0].name, "EVENTS_URL");
        }
        for bad in ["https://example.com", "a.*.b", "example.com:443"] {
            assert_eq!(read(&[("EVENTS_HOSTS", bad), ("EVENTS_SECRET", "k")]).unwrap_err().0[0].name, "EVENTS_HOSTS");
        }
    }

    #[test]
    fn a_calls_own_webhook_is_checked() {
        let events = read(&[("EVENTS_SECRET", "k")]).unwrap();
        for good in ["https://example.com/x?y=1", "http://localhost:3000/", "http://127.0.0.1/", "http://[::1]:3000/"] {
            assert_eq!(events.allowed(good), Ok(()), "{good}");
        }
        let long = format!("https://example.com/{}", "x".repeat(MAX_URL_BYTES));
        for bad in ["", "x", "http://example.com", "https://u@example.com", "file:///etc/passwd", &long] {
            assert!(events.allowed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_of_hosts_is_kept_to() {
        let events = read(&[("EVENTS_SECRET", "k"), ("EVENTS_HOSTS", "Example.com, *.example.org")]).unwrap();
        for good in
            ["https://example.com", "https://EXAMPLE.com./x", "https://a.example.org", "https://a.b.example.org"]
        {
            assert_eq!(events.allowed(good), Ok(()), "{good}");
        }
        for bad in [
            "https://a.example.com",
            "https://example.org",
            "https://evilexample.org",
            "https://evil.test\\@example.com",
            "https://example.com@evil.test",
            "http://localhost/",
        ] {
            assert!(events.allowed(bad).is_err(), "{bad}");
        }
    }
}
