//! Addresses in the settings: how Twilio reaches us, where workers are, who can be dialled.

use std::str::FromStr;

use rustls::pki_types::ServerName;
use telemetry::{
    settings::Reader,
    tls::{TLS_CA, TLS_CERT, TLS_KEY},
};
use url::Url;

/// Scheme, host and port under which Twilio reaches us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    secure: bool,
    authority: String,
}

impl Origin {
    /// `https://host[:port]` and `path`, which begins with a slash.
    pub fn http(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.secure { "https" } else { "http" }, self.authority)
    }

    /// `wss://host[:port]` and `path`, which begins with a slash.
    pub fn websocket(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.secure { "wss" } else { "ws" }, self.authority)
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Url = text.parse().map_err(|_| "must be an address such as https://voice.example.com")?;
        let host = url.host_str().ok_or("must have a host name")?;
        let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let secure = match url.scheme() {
            "https" | "wss" => true,
            "http" | "ws" if local => false,
            _ => return Err("must begin with https:// (Twilio streams over wss only)"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or password");
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self { secure, authority: format!("{host}{port}") })
    }
}

/// Where workers are found: a host name, which stands for all its addresses, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerAddress {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The host as the workers' certificates have it, when they are spoken to in TLS.
    pub server_name: Option<ServerName<'static>>,
}

impl FromStr for WorkerAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Url = text.parse().map_err(|_| "must be an address such as http://audio-worker:50051")?;
        let is_secure = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err("must begin with http://, or with https:// for TLS"),
        };
        let host = url.host_str().ok_or("must have a host name")?.trim_matches(['[', ']']).to_owned();
        let server_name = if is_secure {
            Some(ServerName::try_from(host.clone()).map_err(|_| "has a host that no certificate can be for")?)
        } else {
            None
        };
        // A URL does not tell its scheme's own port from none.
        let port = text.parse::<http::Uri>().ok().and_then(|uri| uri.port_u16()).unwrap_or(50051);
        Ok(Self { host, port, server_name })
    }
}

/// A number in E.164, or a SIP address.
pub(crate) fn is_dialable(to: &str) -> bool {
    is_number(to)
        || to.strip_prefix("sip:").is_some_and(|address| {
            let is_whole = address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
            is_whole && to.len() <= 255 && address.bytes().all(|byte| byte.is_ascii_graphic())
        })
}

/// A number in E.164 form: a plus and at most 15 digits (ITU-T E.164).
pub(crate) fn is_number(to: &str) -> bool {
    let digits = |number: &str| (7..=15).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    to.strip_prefix('+').is_some_and(|number| digits(number) && !number.starts_with('0'))
}

pub(super) fn read_origin(reader: &mut Reader<'_>) -> Option<Origin> {
    if reader.text("TWILIO_VOICE_WEBHOOK_URL").is_some() {
        return reader.parsed("TWILIO_VOICE_WEBHOOK_URL");
    }
    let Some(domain) = reader.text("TWILIO_DOMAIN") else {
        reader.mistake(
            "TWILIO_VOICE_WEBHOOK_URL",
            "is needed: the public address as Twilio knows it, such as https://voice.example.com",
        );
        return None;
    };
    let url = if domain.contains("://") { domain.to_owned() } else { format!("https://{domain}") };
    match url.parse() {
        Ok(origin) => Some(origin),
        Err(what) => {
            reader.mistake("TWILIO_DOMAIN", what);
            None
        }
    }
}

/// `WORKER_URL`, which begins with `https://` exactly when there is a certificate to show.
pub(super) fn read_workers(reader: &mut Reader<'_>) -> Option<WorkerAddress> {
    let workers: WorkerAddress = reader.parsed("WORKER_URL")?;
    let has_certificate = [TLS_CERT, TLS_KEY, TLS_CA].iter().any(|setting| reader.text(setting.name).is_some());
    match (&workers.server_name, has_certificate) {
        (Some(_), false) => reader.mistake(
            "WORKER_URL",
            "begins with https://: set TLS_CERT, TLS_KEY and TLS_CA too, or let it begin with http://",
        ),
        (None, true) => reader.mistake(
            "WORKER_URL",
            "begins with http://: let it begin with https://, or leave TLS_CERT, TLS_KEY and TLS_CA out",
        ),
        (Some(_), true) | (None, false) => {}
    }
    Some(workers)
}

#[cfg(test)]
mod tests {
    use telemetry::settings::{Setting, Values};

    use super::*;

    #[test]
    fn only_numbers_and_sip_addresses_can_be_dialled() {
        for good in ["+15550100", "sip:desk@example.com"] {
            assert!(is_dialable(good), "{good}");
        }
        for bad in
            ["15550100", "+0123456789", "+1555", "sip:desk", "tel:+15550100", "+1 555 0100 1", "sip:a@b c", "sip:@b"]
        {
            assert!(!is_dialable(bad), "{bad}");
        }
    }

    #[test]
    fn workers_have_a_port_and_with_tls_a_name() {
        let read = |text: &str| text.parse::<WorkerAddress>().map(|a| (a.host, a.port, a.server_name.is_some()));
        let at = |host: &str, port, secure| Ok((host.to_owned(), port, secure));
        assert_eq!(read("http://audio-worker"), at("audio-worker", 50051, false));
        assert_eq!(read("http://audio-worker:80/"), at("audio-worker", 80, false));
        assert_eq!(read("https://workers.example:443"), at("workers.example", 443, true));
        assert_eq!(read("https://[::1]:50051"), at("::1", 50051, true));
        for bad in ["audio-worker", "grpc://audio-worker", "https://"] {
            read(bad).unwrap_err();
        }
    }

    #[test]
    fn https_and_certificates_belong_together() {
        let mistakes = |given: &[(&str, &str)]| {
            let table = [TLS_CERT, Setting { name: "WORKER_URL", default: None, help: "" }];
            let values = Values::from_lookup(&table, |name| {
                given.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            });
            let mut reader = Reader::new(&values);
            let workers = read_workers(&mut reader);
            reader.finish(workers).map_or_else(|mistakes| mistakes.to_string(), |_| String::new())
        };
        assert_eq!(mistakes(&[("WORKER_URL", "http://worker")]), "");
        assert_eq!(mistakes(&[("WORKER_URL", "https://worker"), ("TLS_CERT", "x")]), "");
        assert!(mistakes(&[("WORKER_URL", "https://worker")]).contains("set TLS_CERT, TLS_KEY and TLS_CA too"));
        let plain = mistakes(&[("WORKER_URL", "http://worker"), ("TLS_CERT", "x")]);
        assert!(plain.contains("let it begin with https://"), "{plain}");
    }
}
