//! Settings of the calls API and of dialling out.

use std::collections::BTreeSet;

use telemetry::{
    Sensitive,
    settings::{Reader, Setting},
};

use super::address::is_number;
use crate::outbound::guard::Limits;

/// Shortest bearer token: 16 characters cannot be guessed at any rate that the limits allow.
const MIN_TOKEN_CHARS: usize = 16;

/// Premium-rate and satellite prefixes to which nobody is called by mistake: ITU-T E.164 country codes 870, 881, 882,
/// 883 (satellite and international networks) and 979 (international premium rate), and national premium ranges.
const PREMIUM: &str = "+870,+881,+882,+883,+979,+1900,+1976,+449,+44871,+44872,+44873,+49900,+49137,+3389,+34803,+34806,\
                       +34807,+39144,+39166,+39892,+39899,+43900,+43930,+41900,+41901,+41906,+611900,+6419";

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "API_TOKENS",
        default: None,
        help: "Bearer tokens of the calls API, with commas; none: the API is off",
    },
    Setting { name: "API_REQUESTS_PER_SECOND", default: Some("20"), help: "Requests of one token to the calls API" },
    Setting {
        name: "BROWSER_CALLS",
        default: Some("off"),
        help: "on: the page /call, from which whoever has a token of API_TOKENS talks to agents",
    },
    Setting {
        name: "OUTBOUND_ALLOW",
        default: None,
        help: "Prefixes of numbers that may be called, with commas, such as +1,+4930; none: nobody",
    },
    Setting {
        name: "OUTBOUND_DENY",
        default: Some(PREMIUM),
        help: "Prefixes that may not be called although they are allowed: premium rates",
    },
    Setting {
        name: "OUTBOUND_CALLS_PER_SECOND",
        default: Some("1"),
        help: "Calls placed a second; your Twilio account's limit",
    },
    Setting { name: "OUTBOUND_QUEUE", default: Some("100"), help: "Calls that may wait for their turn" },
    Setting {
        name: "OUTBOUND_MAX_CALLS",
        default: Some("100"),
        help: "Outbound calls that wait, ring or talk at a time",
    },
    Setting {
        name: "OUTBOUND_MINUTES_PER_DAY",
        default: Some("1000"),
        help: "Minutes of outbound talk on a day (UTC)",
    },
    Setting { name: "OUTBOUND_PER_TO_PER_HOUR", default: Some("10"), help: "Calls to one number within an hour" },
    Setting { name: "OUTBOUND_PER_FROM_PER_HOUR", default: Some("600"), help: "Calls from one number within an hour" },
    Setting {
        name: "OUTBOUND_STREAM_HOSTS",
        default: None,
        help: "Hosts of foreign media streams that outbound calls may be connected to, with commas",
    },
];

/// The calls API.
#[derive(Debug, Clone)]
pub struct Api {
    /// Bearer tokens; none: the API is off.
    pub tokens: Vec<Sensitive<String>>,
    /// Requests a second of one token.
    pub requests_per_second: u32,
    /// Calls from browsers, and the page for them.
    pub browser_calls: bool,
}

/// Dialling out.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Prefixes that may be called, each with its `+`.
    pub allow: Vec<String>,
    /// Prefixes that may not.
    pub deny: Vec<String>,
    /// Calls placed a second.
    pub calls_per_second: u32,
    /// Calls that may wait for their turn.
    pub queue: usize,
    /// The spend guard's.
    pub limits: Limits,
    /// Hosts, lower case, of media streams that are not ours.
    pub stream_hosts: BTreeSet<String>,
}

impl Api {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let tokens: Vec<_> = list(reader, "API_TOKENS").into_iter().map(Sensitive::new).collect();
        if tokens.iter().any(|token| token.expose().len() < MIN_TOKEN_CHARS) {
            reader.mistake(
                "API_TOKENS",
                "each token needs at least 16 characters; `openssl rand -hex 24` makes a good one",
            );
        }
        let browser_calls = reader.switch("BROWSER_CALLS");
        if browser_calls && tokens.is_empty() {
            reader.mistake("BROWSER_CALLS", "needs API_TOKENS: nobody could call without a token");
        }
        Self { tokens, requests_per_second: small(reader, "API_REQUESTS_PER_SECOND", 10_000), browser_calls }
    }
}

impl Outbound {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let prefixes = |reader: &mut Reader<'_>, name| {
            let prefixes = list(reader, name);
            let is_prefix = |text: &String| text.len() <= 16 && text.strip_prefix('+').is_some_and(is_digits);
            if !prefixes.iter().all(is_prefix) {
                reader.mistake(name, "must be beginnings of numbers in E.164 form with commas, such as +1,+4930");
            }
            prefixes
        };
        Self {
            allow: prefixes(reader, "OUTBOUND_ALLOW"),
            deny: prefixes(reader, "OUTBOUND_DENY"),
            calls_per_second: small(reader, "OUTBOUND_CALLS_PER_SECOND", 1000),
            queue: small(reader, "OUTBOUND_QUEUE", 10_000) as usize,
            limits: Limits {
                live: small(reader, "OUTBOUND_MAX_CALLS", 100_000),
                minutes_per_day: reader.number("OUTBOUND_MINUTES_PER_DAY", 1..=10_000_000),
                per_to_per_hour: small(reader, "OUTBOUND_PER_TO_PER_HOUR", 100_000),
                per_from_per_hour: small(reader, "OUTBOUND_PER_FROM_PER_HOUR", 1_000_000),
            },
            stream_hosts: list(reader, "OUTBOUND_STREAM_HOSTS").iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    /// Whether this number may be called: it is one, allowed, and not denied.
    pub fn allows(&self, number: &str) -> bool {
        let begins = |prefixes: &[String]| prefixes.iter().any(|prefix| number.starts_with(prefix.as_str()));
        is_number(number) && begins(&self.allow) && !begins(&self.deny)
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn small(reader: &mut Reader<'_>, name: &'static str, most: u32) -> u32 {
    u32::try_from(reader.number(name, 1..=u64::from(most))).unwrap_or(most)
}

fn list(reader: &Reader<'_>, name: &'static str) -> Vec<String> {
    let text = reader.text(name).unwrap_or_default();
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use telemetry::settings::{Mistakes, Values};

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<(Api, Outbound), Mistakes> {
        let values = Values::from_lookup(SETTINGS, |name| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        });
        let mut reader = Reader::new(&values);
        let both = (Api::read(&mut reader), Outbound::read(&mut reader));
        reader.finish(Some(both))
    }

    #[test]
    fn by_default_nobody_may_be_called_and_nobody_may_ask() {
        let (api, outbound) = read(&[]).unwrap();
        assert!(api.tokens.is_empty() && !api.browser_calls && !outbound.allows("+15550100123"));
    }

    #[test]
    fn premium_numbers_stay_out_of_an_allowed_country() {
        let (_, outbound) = read(&[("OUTBOUND_ALLOW", "+1, +49")]).unwrap();
        for good in ["+15550100123", "+4930123456"] {
            assert!(outbound.allows(good), "{good}");
        }
        for bad in
            ["+19005550100", "+4990012345", "+4420123456", "15550100123", "+1555", "+1 555 0100 123", "sip:a@b.c"]
        {
            assert!(!outbound.allows(bad), "{bad}");
        }
    }

    #[test]
    fn calls_from_browsers_need_a_token() {
        let token = ("API_TOKENS", "0123456789abcdef");
        assert!(read(&[("BROWSER_CALLS", "on"), token]).unwrap().0.browser_calls);
        assert_eq!(read(&[("BROWSER_CALLS", "on")]).unwrap_err().0[0].name, "BROWSER_CALLS");
    }

    #[test]
    fn short_tokens_and_nonsense_prefixes_are_mistakes() {
        let mistakes = read(&[("API_TOKENS", "0123456789abcdef, short"), ("OUTBOUND_ALLOW", "1,+x")]).unwrap_err();
        let names: Vec<_> = mistakes.0.iter().map(|mistake| mistake.name).collect();
        assert_eq!(names, ["API_TOKENS", "OUTBOUND_ALLOW"]);
        assert!(!mistakes.to_string().contains("0123456789abcdef"));
    }
}
