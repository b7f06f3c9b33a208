//! The carrier's REST API: asks, tries again where that is safe, and says what became of it.
//!
//! Placing a call is not repeatable: only an answer of 429, which Twilio never processed, leads to another try. What
//! may have been done is [`CarrierError::Unknown`]; what certainly was not, [`CarrierError::Unreachable`].

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use telemetry::{Sensitive, backoff::Backoff, traces::TraceContext};
use tokio::time::{Instant, sleep};
use tracing::Span;

use crate::{
    client::{Answer, Client, Failure, Plain},
    config,
    problem::carrier_code,
    traces,
    twilio::rest::{CallResource, CreateCall, End, Field, IncomingNumber, is_sid},
};

mod meaning;

pub(crate) use meaning::CarrierError;

/// How long one request may take. Twilio answers within a second or so; what takes longer is in doubt anyway.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// Tries of one request in all.
const TRIES: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(20),
    attempts: 5,
    within: Duration::from_secs(60),
};

/// The carrier; clones are cheap and the same.
#[derive(Debug, Clone)]
pub(crate) struct Carrier {
    client: Client,
    /// For what is not repeated.
    placing: Client,
    access: Result<Access, &'static str>,
    tries: Backoff,
    trace: Option<TraceContext>,
}

/// Where to ask, and as whom.
#[derive(Debug, Clone)]
struct Access {
    /// Up to and with the account's SID.
    account_url: String,
    authorization: HeaderValue,
    is_key: bool,
}

/// What became of a call that was to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It ends.
    Now,
    /// It was over, or never was.
    AlreadyGone,
}

/// What is known of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountState {
    /// active, suspended or closed; an API key may not know.
    pub(crate) status: Option<String>,
    /// Trial or Full; an API key may not know.
    pub(crate) kind: Option<String>,
    /// What time it is there.
    pub(crate) date: Option<SystemTime>,
}

/// Which failures may be followed by another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Only those that certainly changed nothing and ask for it.
    WhenThrottled,
    /// All that may pass: asking twice is asking once.
    WheneverItMayHelp,
}

impl Carrier {
    pub(crate) fn new(config: &config::Carrier, client: Client) -> Self {
        Self { placing: client.on_fresh_connections(), client, access: access(config), tries: TRIES, trace: None }
    }

    /// The setting without which nothing can be asked, where it is missing.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        self.access.as_ref().err().copied()
    }

    /// The same for somebody who waits for the answer: one more try, at most.
    pub(crate) fn impatient(self) -> Self {
        Self { tries: Backoff { attempts: 2, within: Duration::from_secs(5), ..self.tries }, ..self }
    }

    /// The same for a call whose trace this is.
    pub(crate) fn below(&self, trace: Option<TraceContext>) -> Self {
        Self { trace, ..self.clone() }
    }

    /// Places a call.
    pub(crate) async fn create(&self, call: &CreateCall) -> Result<CallResource, CarrierError> {
        let answer = self.ask(Method::POST, "Calls.json", &call.form(), Again::WhenThrottled).await?;
        CallResource::parse(&answer.body).ok_or_else(unreadable)
    }

    /// Looks a call up.
    pub(crate) async fn fetch(&self, call_sid: &str) -> Result<CallResource, CarrierError> {
        let answer = self.ask(Method::GET, &call_path(call_sid)?, &[], Again::WheneverItMayHelp).await?;
        CallResource::parse(&answer.body).ok_or_else(unreadable)
    }

    /// Ends a call. [`End::Canceled`] leaves one that was answered meanwhile as it is, and says so by an error.
    pub(crate) async fn end(&self, call_sid: &str, how: End) -> Result<Ended, CarrierError> {
        let answered = match call_path(call_sid) {
            Ok(path) => self.ask(Method::POST, &path, &how.form(), Again::WheneverItMayHelp).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(_) => Ok(Ended::Now),
            Err(CarrierError::NotFound { .. }) => Ok(Ended::AlreadyGone),
            Err(error) if !error.is_wrong_state() => Err(error),
            Err(error) => match how {
                End::Completed => Ok(Ended::AlreadyGone),
                End::Canceled if self.fetch(call_sid).await?.is_over() => Ok(Ended::AlreadyGone),
                End::Canceled => Err(error),
            },
        }
    }

    /// The account's numbers that are `number`: one or none.
    pub(crate) async fn numbers(&self, number: &str) -> Result<Vec<IncomingNumber>, CarrierError> {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("PhoneNumber", number).finish();
        let path = format!("IncomingPhoneNumbers.json?{query}");
        let answer = self.ask(Method::GET, &path, &[], Again::WheneverItMayHelp).await?;
        IncomingNumber::parse_page(&answer.body).ok_or_else(unreadable)
    }

    /// Whether the credentials are good, and what they show of the account.
    pub(crate) async fn account(&self) -> Result<AccountState, CarrierError> {
        let is_key = self.access.as_ref().is_ok_and(|access| access.is_key);
        // Keys other than main ones may not see the account itself; its calls will do.
        let path = if is_key { "Calls.json?PageSize=1" } else { ".json" };
        let answer = self.ask(Method::GET, path, &[], Again::WheneverItMayHelp).await?;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let text = |name: &str| body.get(name).and_then(|value| value.as_str()).map(ToOwned::to_owned);
        let date = answer.headers.get(header::DATE).and_then(|value| value.to_str().ok());
        Ok(AccountState {
            status: text("status"),
            kind: text("type"),
            date: date.and_then(|date| httpdate::parse_http_date(date).ok()),
        })
    }

    async fn ask(&self, method: Method, path: &str, form: &[Field], again: Again) -> Result<Answer, CarrierError> {
        let access = self.access.as_ref().map_err(|missing| CarrierError::NotConfigured(missing))?;
        let begun = now();
        for made in 1.. {
            let span = traces::request(self.trace, &method, path, made);
            let error = match self.try_once(access, again, method.clone(), path, form, &span).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            traces::failed(&span, carrier_code(&error));
            drop(span);
            let (may_help, asked) = match &error {
                CarrierError::Throttled { retry_after } => (true, *retry_after),
                CarrierError::Unreachable { .. } | CarrierError::Unknown { .. } => {
                    (again == Again::WheneverItMayHelp, None)
                }
                CarrierError::NotConfigured(_)
                | CarrierError::Refused { .. }
                | CarrierError::Credentials { .. }
                | CarrierError::NotFound { .. } => (false, None),
            };
            let chance = getrandom::u32().unwrap_or(u32::MAX);
            let wait = if may_help { self.tries.wait(made, begun.elapsed(), asked, chance) } else { None };
            let Some(wait) = wait else { return Err(error) };
            tracing::info!(%error, made, wait_ms = wait.as_millis(), "asking the carrier again");
            sleep(wait).await;
        }
        Err(unreadable())
    }

    async fn try_once(
        &self,
        access: &Access,
        again: Again,
        method: Method,
        path: &str,
        form: &[Field],
        span: &Span,
    ) -> Result<Answer, CarrierError> {
        // The account itself is named without a slash.
        let slash = if path.starts_with('.') { "" } else { "/" };
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{slash}{path}", access.account_url))
            .header(header::AUTHORIZATION, access.authorization.clone())
            .header(header::ACCEPT, "application/json");
        if !form.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request
            .body(Bytes::from(body))
            .map_err(|_| CarrierError::Unreachable { what: "TWILIO_API_URL is no address".to_owned() })?;
        let client = if again == Again::WhenThrottled { &self.placing } else { &self.client };
        let answer = client.send(request, REQUEST_LIMIT, Plain::AsConfigured).await.map_err(|failure| {
            let what = failure.to_string();
            match failure {
                Failure::NotSent { .. } => CarrierError::Unreachable { what },
                Failure::Unknown { .. } => CarrierError::Unknown { what },
            }
        })?;
        traces::responded(span, answer.status);
        if answer.status.is_success() { Ok(answer) } else { Err(meaning::of(&answer)) }
    }
}

fn access(config: &config::Carrier) -> Result<Access, &'static str> {
    let account = config.account_sid.as_ref().ok_or("TWILIO_ACCOUNT_SID")?;
    let credentials =
        config.credentials.as_ref().ok_or("TWILIO_API_KEY and TWILIO_API_SECRET, or TWILIO_AUTH_TOKEN")?;
    if !is_sid(account) {
        return Err("a TWILIO_ACCOUNT_SID of letters and digits");
    }
    let pair = Sensitive::new(format!("{}:{}", credentials.user, credentials.secret.expose()));
    let mut authorization = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.expose())))
        .map_err(|_| "credentials that fit a header")?;
    authorization.set_sensitive(true);
    Ok(Access {
        account_url: format!("{}/2010-04-01/Accounts/{account}", config.base_url),
        authorization,
        is_key: credentials.is_key,
    })
}

/// A name that Twilio never gave is not found without asking.
fn call_path(call_sid: &str) -> Result<String, CarrierError> {
    if is_sid(call_sid) { Ok(format!("Calls/{call_sid}.json")) } else { Err(CarrierError::NotFound { code: None }) }
}

fn unreadable() -> CarrierError {
    CarrierError::Unknown { what: "an answer that is not what Twilio's documentation says".to_owned() }
}

#[expect(clippy::disallowed_methods, reason = "drivers ask the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
