//! Addresses in the settings: how Twilio reaches us, where workers are, who can be dialled.

use std::str::FromStr;

use telemetry::settings::Reader;
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
}

impl FromStr for WorkerAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Url = text.parse().map_err(|_| "must be an address such as http://audio-worker:50051")?;
        if url.scheme() != "http" {
            return Err("must begin with http://");
        }
        let host = url.host_str().ok_or("must have a host name")?.trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port: url.port().unwrap_or(50051) })
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

#[cfg(test)]
mod tests {
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
}
