//! Typed configuration: text in, meaning out, every mistake with its variable's name.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use crate::{admission::Limits, route_table::RouteTable, ticket::Key};
use telemetry::{
    Sensitive,
    settings::{DRAIN_SECONDS, LOG_FORMAT, Mistakes, Process, RUST_LOG, Reader, SHARDS, Setting, Values},
    tls::{Identity, TLS_CA, TLS_CERT, TLS_KEY},
};
use tokio::sync::watch;

mod address;
mod admission;
mod api;
mod capture;
mod carrier;
mod events;
mod routing;

pub use address::{Origin, WorkerAddress};
pub(crate) use address::{is_dialable, is_number};
use address::{read_origin, read_workers};
pub use admission::Overload;
pub use api::{Api, Outbound};
pub use capture::Capture;
pub use carrier::{Carrier, Credentials};
pub use events::Events;

/// Settings that are read here; each part of the configuration adds its own.
const OWN_SETTINGS: &[Setting] = &[
    Setting { name: "SERVER_HOST", default: Some("0.0.0.0"), help: "Address of webhooks and media socket" },
    Setting { name: "SERVER_PORT", default: Some("8000"), help: "Port of webhooks and media socket" },
    Setting { name: "OPS_LISTEN", default: Some("0.0.0.0:9464"), help: "Address of /livez, /readyz and /metrics" },
    Setting {
        name: "TWILIO_VOICE_WEBHOOK_URL",
        default: None,
        help: "Public address as Twilio knows it; only its origin counts",
    },
    Setting { name: "TWILIO_DOMAIN", default: None, help: "Public host name, instead of TWILIO_VOICE_WEBHOOK_URL" },
    Setting {
        name: "TWILIO_AUTH_TOKEN",
        default: None,
        help: "Auth token, or several with commas, that sign Twilio's requests",
    },
    Setting { name: "TWILIO_ACCOUNT_SID", default: None, help: "Account; requests of another are refused when given" },
    Setting {
        name: "TWILIO_PHONE_NUMBER",
        default: None,
        help: "Your number in E.164 form: caller id of outbound calls that name none",
    },
    Setting {
        name: "TWILIO_SKIP_VALIDATION",
        default: Some("0"),
        help: "1: signatures are not checked; for local debugging only",
    },
    Setting {
        name: "REQUIRE_TICKET",
        default: Some("true"),
        help: "false: the signature alone guards the media socket",
    },
    Setting {
        name: "TICKET_KEY",
        default: None,
        help: "Secret of the tickets; derived from the first auth token when not given",
    },
    Setting {
        name: "WORKER_URL",
        default: Some("http://127.0.0.1:50051"),
        help: "Workers; a DNS name stands for all its addresses; https:// with TLS_CERT",
    },
    TLS_CERT,
    TLS_KEY,
    TLS_CA,
    Setting { name: "DEFAULT_AGENT", default: Some("echo"), help: "Agent that takes the calls" },
    Setting {
        name: "FALLBACK_SAY",
        default: Some("We are sorry, nobody can take your call right now. Please try again later."),
        help: "Words for a caller when no agent can be had",
    },
    Setting {
        name: "FALLBACK_DIAL",
        default: None,
        help: "Number or SIP address for a caller when no agent can be had, instead of words",
    },
    Setting { name: "MAX_CALL_SECONDS", default: Some("14400"), help: "Longest call" },
    DRAIN_SECONDS,
    SHARDS,
    LOG_FORMAT,
    RUST_LOG,
];

/// Every setting of the gateway.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    [
        OWN_SETTINGS,
        carrier::SETTINGS,
        api::SETTINGS,
        events::SETTINGS,
        admission::SETTINGS,
        routing::SETTINGS,
        capture::SETTINGS,
        &telemetry::traces::SETTINGS,
    ]
    .concat()
});

/// What the gateway runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Webhooks and media socket.
    pub listen: SocketAddr,
    /// `/livez` and `/readyz`.
    pub operations: SocketAddr,
    /// How Twilio reaches us.
    pub origin: Origin,
    /// Auth tokens; any of them may have signed.
    pub auth_tokens: Vec<Sensitive<String>>,
    /// Signatures are not checked.
    pub skip_validation: bool,
    /// The only account that may call, where one is given.
    pub account_sid: Option<String>,
    /// How the carrier's REST API is reached.
    pub carrier: Carrier,
    /// Caller id of calls that name none.
    pub phone_number: Option<Sensitive<String>>,
    /// Tickets are checked.
    pub require_ticket: bool,
    /// Key of the tickets; without any secret to derive it from, each run makes its own.
    pub ticket_key: Option<Key>,
    /// Workers.
    pub workers: WorkerAddress,
    /// The workers themselves, where a program that has the gateway inside knows them; no setting says them.
    pub known_workers: Option<watch::Receiver<Vec<SocketAddr>>>,
    /// Who we are to workers; given exactly when they have a name to show.
    pub tls: Option<Identity>,
    /// Agent of calls that no route claims.
    pub default_agent: String,
    /// Who takes the other calls.
    pub routes: RouteTable,
    /// What a caller gets when no agent can be had.
    pub fallback: Fallback,
    /// How many calls and sockets there is room for.
    pub limits: Limits,
    /// What a caller gets who finds no room.
    pub overload: Overload,
    /// Longest call.
    pub max_call: Duration,
    /// The calls API.
    pub api: Api,
    /// Dialling out.
    pub outbound: Outbound,
    /// Events to the user's own webhook.
    pub events: Events,
    /// Where calls are captured, and how much of them.
    pub capture: Option<Capture>,
    /// Drain, threads, logs.
    pub process: Process,
}

/// What a caller gets when no agent can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// These words, then the end.
    Say(String),
    /// This number or SIP address.
    Dial(Sensitive<String>),
}

impl Config {
    /// Reads all settings.
    ///
    /// # Errors
    /// Every mistake, with its variable's name.
    pub fn read(values: &Values) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(values);
        let host = reader.parsed::<std::net::IpAddr>("SERVER_HOST");
        let port = u16::try_from(reader.number("SERVER_PORT", 0..=65_535)).unwrap_or_default();
        let operations = reader.parsed("OPS_LISTEN");
        let origin = read_origin(&mut reader);
        let skip_validation = reader.switch("TWILIO_SKIP_VALIDATION");
        let auth_tokens = read_tokens(&mut reader, skip_validation);
        let account_sid = reader.text("TWILIO_ACCOUNT_SID").map(ToOwned::to_owned);
        if account_sid.as_ref().is_some_and(|sid| !sid.starts_with("AC")) {
            reader.mistake("TWILIO_ACCOUNT_SID", "must begin with AC; an API key (SK…) is not an account");
        }
        let phone_number = reader.secret("TWILIO_PHONE_NUMBER");
        if phone_number.as_ref().is_some_and(|number| !is_number(number.expose())) {
            reader.mistake("TWILIO_PHONE_NUMBER", "must be a number in E.164 form, such as +15550100");
        }
        let carrier = Carrier::read(&mut reader);
        let require_ticket = reader.switch("REQUIRE_TICKET");
        let ticket_secret = reader.secret("TICKET_KEY").or_else(|| auth_tokens.first().cloned());
        let workers = read_workers(&mut reader);
        let tls = Identity::read(&mut reader);
        let default_agent = reader.text("DEFAULT_AGENT").unwrap_or("echo").to_owned();
        let routes = routing::read(&mut reader);
        let fallback = match reader.text("FALLBACK_DIAL") {
            Some(to) if is_dialable(to) => Fallback::Dial(Sensitive::new(to.to_owned())),
            Some(_) => {
                reader.mistake(
                    "FALLBACK_DIAL",
                    "must be a number such as +15550100 or a SIP address such as sip:desk@example.com",
                );
                Fallback::Say(String::new())
            }
            None => Fallback::Say(reader.text("FALLBACK_SAY").unwrap_or_default().to_owned()),
        };
        let (limits, overload) = admission::read(&mut reader, require_ticket);
        let max_call = Duration::from_secs(reader.number("MAX_CALL_SECONDS", 1..=86_400));
        let (api, outbound) = (Api::read(&mut reader), Outbound::read(&mut reader));
        let events = Events::read(&mut reader);
        let capture = Capture::read(&mut reader);
        let process = reader.process();
        let ticket_key = ticket_secret.map(|secret| Key::derive(&secret, "tandem ticket"));
        let complete = (|| {
            Some(Self {
                listen: SocketAddr::new(host?, port),
                operations: operations?,
                origin: origin?,
                auth_tokens,
                skip_validation,
                account_sid,
                carrier,
                phone_number,
                require_ticket,
                ticket_key,
                workers: workers?,
                known_workers: None,
                tls,
                default_agent,
                routes,
                fallback,
                limits,
                overload,
                max_call,
                api,
                outbound,
                events,
                capture,
                process,
            })
        })();
        reader.finish(complete)
    }
}

fn read_tokens(reader: &mut Reader<'_>, skip_validation: bool) -> Vec<Sensitive<String>> {
    let tokens: Vec<_> = reader
        .text("TWILIO_AUTH_TOKEN")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .map(|token| Sensitive::new(token.to_owned()))
        .collect();
    if tokens.is_empty() && !skip_validation {
        reader.mistake(
            "TWILIO_AUTH_TOKEN",
            "is needed to check that requests come from Twilio (console.twilio.com, account info)",
        );
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, Mistakes> {
        Config::read(&Values::from_lookup(&SETTINGS, |name| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        }))
    }

    const NEEDED: [(&str, &str); 2] = [
        ("TWILIO_AUTH_TOKEN", "old, new"),
        ("TWILIO_VOICE_WEBHOOK_URL", "https://voice.example.com:8443/some/path?x=1"),
    ];

    #[test]
    fn the_origin_is_all_that_counts_of_the_webhook_url() {
        let config = read(&NEEDED).unwrap();
        assert_eq!(config.origin.http("/voice/after"), "https://voice.example.com:8443/voice/after");
        assert_eq!(config.origin.websocket("/ws"), "wss://voice.example.com:8443/ws");
        assert_eq!(config.auth_tokens.len(), 2);
        assert_eq!(config.listen.to_string(), "0.0.0.0:8000");
        assert!(config.require_ticket && !config.skip_validation);
    }

    #[test]
    fn local_debugging_needs_no_secret() {
        let config =
            read(&[("TWILIO_SKIP_VALIDATION", "1"), ("TWILIO_VOICE_WEBHOOK_URL", "http://localhost:8000")]).unwrap();
        assert!(config.skip_validation && config.ticket_key.is_none());
        assert_eq!(config.origin.websocket("/ws"), "ws://localhost:8000/ws");
    }

    #[test]
    fn a_domain_will_do() {
        let config = read(&[("TWILIO_AUTH_TOKEN", "t"), ("TWILIO_DOMAIN", "abc.ngrok.app")]).unwrap();
        assert_eq!(config.origin.websocket("/ws"), "wss://abc.ngrok.app/ws");
    }

    #[test]
    fn all_mistakes_come_together_and_no_secret_with_them() {
        let mistakes = read(&[
            ("SERVER_PORT", "99999"),
            ("TWILIO_VOICE_WEBHOOK_URL", "http://voice.example.com"),
            ("TWILIO_ACCOUNT_SID", "SK123"),
            ("WORKER_URL", "audio-worker"),
            ("FALLBACK_DIAL", "911"),
            ("MAX_CALLS_PER_SECOND", "fast"),
            ("OVERLOAD", "music"),
        ])
        .unwrap_err();
        let names: Vec<_> = mistakes.0.iter().map(|mistake| mistake.name).collect();
        assert_eq!(
            names,
            [
                "SERVER_PORT",
                "TWILIO_VOICE_WEBHOOK_URL",
                "TWILIO_AUTH_TOKEN",
                "TWILIO_ACCOUNT_SID",
                "WORKER_URL",
                "FALLBACK_DIAL",
                "MAX_CALLS_PER_SECOND",
                "OVERLOAD"
            ]
        );
        assert!(!format!("{:?}", read(&NEEDED).unwrap()).contains("old"));
    }
}
