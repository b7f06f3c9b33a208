//! What Twilio says: are the credentials good, is the clock right, do calls to the number come here?

use std::time::{Duration, SystemTime};

use url::Url;

use super::report::{Finding, masked};
use crate::{
    carrier::{AccountState, Carrier, CarrierError},
    client::Client,
    config::Config,
    twilio::rest::IncomingNumber,
};

/// How wrong the clock may be: a ticket lives as long, and so do signed events elsewhere.
const CLOCK_LIMIT: Duration = Duration::from_secs(60);

/// Where a number's voice webhook may point.
const WEBHOOKS: [&str; 3] = ["/voice/incoming", "/twiml", "/voice"];

const CREDENTIALS: &str = "credentials";
const CLOCK: &str = "clock";
const NUMBER: &str = "number";

pub(super) async fn examine(config: &Config, client: &Client) -> Vec<Finding> {
    let carrier = Carrier::new(&config.carrier, client.clone()).impatient();
    let account = match carrier.account().await {
        Ok(account) => account,
        Err(error) => {
            let why = "Twilio's REST API was not usable, see credentials";
            return vec![
                trouble(CREDENTIALS, config, error),
                Finding::skipped(CLOCK, why),
                Finding::skipped(NUMBER, why),
            ];
        }
    };
    vec![credentials(config, &account), clock(&account, now()), number(config, &carrier).await]
}

fn credentials(config: &Config, AccountState { status, kind, .. }: &AccountState) -> Finding {
    if let Some(status) = status
        && status != "active"
    {
        let found = format!("the credentials are good, but the account is {status}");
        return Finding::failed(CREDENTIALS, found, "see the account's notices in Twilio's console")
            .with_codes(&[10001]);
    }
    let what = if is_key(config) { "the API key is good" } else { "the auth token is good" };
    match kind.as_deref() {
        Some("Trial") => Finding::ok(CREDENTIALS, format!("{what}; a trial account calls verified numbers only")),
        Some(_) | None => Finding::ok(CREDENTIALS, what),
    }
}

fn clock(AccountState { date, .. }: &AccountState, now: SystemTime) -> Finding {
    let Some(theirs) = date else { return Finding::skipped(CLOCK, "Twilio's answer had no date") };
    let (apart, direction) = match now.duration_since(*theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let found = format!("{} s {direction} Twilio's", apart.as_secs());
    if apart <= CLOCK_LIMIT {
        return Finding::ok(CLOCK, found);
    }
    Finding::failed(
        CLOCK,
        found,
        "let this machine's clock follow a time server: tickets live for 60 s, and receivers of events check their age",
    )
}

async fn number(config: &Config, carrier: &Carrier) -> Finding {
    let Some(number) = &config.phone_number else {
        return Finding::skipped(NUMBER, "TWILIO_PHONE_NUMBER is not set");
    };
    match carrier.numbers(number.expose()).await {
        Ok(numbers) => match numbers.iter().find(|found| found.number == *number) {
            Some(found) => webhook(config, found),
            None => Finding::failed(
                NUMBER,
                format!("{} is not in this account", masked(number.expose())),
                "correct TWILIO_PHONE_NUMBER, or buy or verify the number; a subaccount has numbers of its own",
            )
            .with_codes(&[21210]),
        },
        Err(error) => trouble(NUMBER, config, error),
    }
}

fn webhook(config: &Config, number: &IncomingNumber) -> Finding {
    let shown = masked(number.number.expose());
    let right = config.origin.http(WEBHOOKS[0]);
    let set = format!("in Twilio's console, set the number's \"A call comes in\" to Webhook, {right}, HTTP POST");
    if number.can_voice == Some(false) {
        return Finding::failed(NUMBER, format!("{shown} cannot take voice calls"), "choose a number with voice");
    }
    if let Some(trunk) = &number.trunk_sid {
        return Finding::failed(NUMBER, format!("calls to {shown} go to the SIP trunk {trunk}, not to a webhook"), set);
    }
    if let Some(application) = &number.voice_application_sid {
        let found =
            format!("calls to {shown} follow the TwiML app {application}; its voice request URL must be {right}, POST");
        return Finding::skipped(NUMBER, found);
    }
    let Some(url) = &number.voice_url else {
        return Finding::failed(NUMBER, format!("{shown} has no voice webhook"), set).with_codes(&[11200]);
    };
    let url = bare(url);
    if !WEBHOOKS.iter().any(|path| config.origin.http(path) == url) {
        return Finding::failed(NUMBER, format!("the voice webhook of {shown} is {url}"), set)
            .with_codes(&[11200, 12100]);
    }
    match number.voice_method.as_deref() {
        Some("POST") | None => Finding::ok(NUMBER, format!("the voice webhook of {shown} is {url}, POST")),
        Some(method) => {
            let found = format!("the voice webhook of {shown} is asked by {method}, which is answered with 405");
            Finding::failed(NUMBER, found, set).with_codes(&[11200])
        }
    }
}

/// A webhook without what does not decide where it leads, or may be a secret.
fn bare(url: &str) -> String {
    let Ok(mut url) = url.parse::<Url>() else { return "not an address".to_owned() };
    url.set_query(None);
    url.set_fragment(None);
    // Only addresses that cannot have them refuse; then there are none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    String::from(url).trim_end_matches('/').to_owned()
}

fn trouble(check: &'static str, config: &Config, error: CarrierError) -> Finding {
    let host = &config.carrier.base_url;
    match error {
        CarrierError::NotConfigured(missing) => Finding {
            cure: Some(format!("to place calls and to have the number examined, set {missing}")),
            ..Finding::skipped(check, "calls out are not configured")
        },
        CarrierError::Credentials { code, message } => {
            let cure = if is_key(config) {
                "check TWILIO_API_KEY and TWILIO_API_SECRET; the key must be of TWILIO_ACCOUNT_SID and of TWILIO_REGION"
            } else {
                "copy TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN (the first one is used) from the console; each region \
                 has its own token"
            };
            let found = format!("{host} refused them: {}", masked(message.expose()));
            Finding::failed(check, found, cure).with_codes(&[code.unwrap_or(20003)])
        }
        CarrierError::NotFound { code } => Finding::failed(
            check,
            format!("{host} does not know the account"),
            "check TWILIO_ACCOUNT_SID, and TWILIO_API_URL if it is set",
        )
        .with_codes(&[code.unwrap_or(20404)]),
        CarrierError::Refused { status, code, message, .. } => {
            let found = format!("{host} refused the request ({status}): {}", masked(message.expose()));
            let finding = Finding::failed(check, found, "see Twilio's page; an API key may lack the permission");
            code.map_or(finding.clone(), |code| finding.with_codes(&[code]))
        }
        CarrierError::Throttled { .. } => {
            Finding::failed(check, format!("{host} takes no more requests now"), "ask again in a minute")
                .with_codes(&[20429])
        }
        CarrierError::Unreachable { what } => Finding::failed(
            check,
            format!("{host} cannot be reached: {what}"),
            "let this machine out on port 443; behind a private authority, give its certificate in SSL_CERT_FILE",
        ),
        CarrierError::Unknown { what } => Finding::failed(
            check,
            format!("{host} gave {what}"),
            "see status.twilio.com; check TWILIO_API_URL if it is set",
        ),
    }
}

fn is_key(config: &Config) -> bool {
    config.carrier.credentials.as_ref().is_some_and(|credentials| credentials.is_key)
}

#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::SETTINGS, doctor::Outcome};
    use std::time::UNIX_EPOCH;
    use telemetry::{Sensitive, settings::Values};

    fn config() -> Config {
        let given = [("TWILIO_AUTH_TOKEN", "t0ken"), ("TWILIO_VOICE_WEBHOOK_URL", "https://voice.example.com")];
        Config::read(&Values::from_lookup(&SETTINGS, |name| {
            given.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        }))
        .unwrap()
    }

    fn number(url: Option<&str>) -> IncomingNumber {
        IncomingNumber {
            number: Sensitive::new("+15550100".to_owned()),
            voice_url: url.map(ToOwned::to_owned),
            voice_method: Some("POST".to_owned()),
            ..IncomingNumber::default()
        }
    }

    #[test]
    fn a_clock_may_be_a_minute_off() {
        let at =
            |seconds| AccountState { status: None, kind: None, date: Some(UNIX_EPOCH + Duration::from_secs(seconds)) };
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(clock(&at(1060), now), Finding::ok(CLOCK, "60 s behind Twilio's"));
        assert_eq!(clock(&at(940), now), Finding::ok(CLOCK, "60 s ahead of Twilio's"));
        assert_eq!(clock(&at(1061), now).outcome, Outcome::Failed);
        assert_eq!(clock(&at(900), now).outcome, Outcome::Failed);
        assert_eq!(clock(&AccountState { date: None, ..at(0) }, now).outcome, Outcome::Skipped);
    }

    #[test]
    fn a_number_leads_here_or_it_is_said_where() {
        let config = config();
        for good in [
            "https://voice.example.com/voice/incoming",
            "https://voice.example.com/voice/",
            "https://voice.example.com:443/twiml?line=2#rc=2&rp=all",
        ] {
            assert_eq!(webhook(&config, &number(Some(good))).outcome, Outcome::Ok, "{good}");
        }
        let elsewhere = webhook(&config, &number(Some("https://u:s3cret@demo.twilio.com/welcome?key=s3cret")));
        assert_eq!(elsewhere.found, "the voice webhook of +******00 is https://demo.twilio.com/welcome");
        assert!(elsewhere.cure.unwrap().contains("https://voice.example.com/voice/incoming"));
        for wrong in [
            number(None),
            number(Some("nonsense")),
            number(Some("http://voice.example.com/voice/incoming")),
            number(Some("https://voice.example.com/voice/after")),
            IncomingNumber { voice_method: Some("GET".to_owned()), ..number(Some("https://voice.example.com/voice")) },
            IncomingNumber { trunk_sid: Some("TK1".to_owned()), ..number(Some("https://voice.example.com/voice")) },
            IncomingNumber { can_voice: Some(false), ..number(Some("https://voice.example.com/voice")) },
        ] {
            let finding = webhook(&config, &wrong);
            assert!(finding.outcome == Outcome::Failed && !finding.found.contains("5550100"), "{finding:?}");
        }
        let app = IncomingNumber { voice_application_sid: Some("AP1".to_owned()), ..number(None) };
        assert_eq!(webhook(&config, &app).outcome, Outcome::Skipped);
    }

    #[test]
    fn every_trouble_has_a_cure() {
        let config = config();
        let words = || Sensitive::new("no +15550100 here".to_owned());
        for (error, code) in [
            (CarrierError::NotConfigured("X"), None),
            (CarrierError::Credentials { code: None, message: words() }, Some(20003)),
            (CarrierError::NotFound { code: None }, Some(20404)),
            (CarrierError::Refused { status: 403, code: Some(70051), message: words(), more_info: None }, Some(70051)),
            (CarrierError::Throttled { retry_after: None }, Some(20429)),
            (CarrierError::Unreachable { what: "x".to_owned() }, None),
            (CarrierError::Unknown { what: "x".to_owned() }, None),
        ] {
            let finding = trouble(CREDENTIALS, &config, error);
            assert!(finding.cure.is_some() && finding.codes.first().copied() == code, "{finding:?}");
            assert!(!finding.found.contains("5550100"), "{finding:?}");
        }
    }
}
