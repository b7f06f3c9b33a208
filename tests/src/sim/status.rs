//! The stream's `statusCallback`: posted in the background, best effort, as Twilio does.

use std::time::{Duration, SystemTime};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use url::Url;

use super::{CallPlan, Finding, Route, StreamNoun, http::request, stream};

/// How long the end of a call waits for callbacks that are still under way.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// The callbacks of one call.
pub(super) struct StatusCallbacks {
    route: Route,
    auth_token: String,
    account_sid: String,
    call_sid: String,
    /// Event and task, which yields the HTTP status.
    posted: Vec<(String, JoinHandle<Option<u16>>)>,
}

impl StatusCallbacks {
    pub(super) fn new(plan: &CallPlan, call_sid: &str) -> Self {
        Self {
            route: plan.route.clone(),
            auth_token: plan.auth_token.clone(),
            account_sid: plan.account_sid.clone(),
            call_sid: call_sid.to_owned(),
            posted: Vec::new(),
        }
    }

    /// Reports an event, or an error as `stream-error`, if the stream asked for it.
    pub(super) fn post(&mut self, noun: &StreamNoun, stream_sid: &str, event: Result<&str, &Finding>) {
        let Some(callback) = &noun.status_callback else {
            return;
        };
        let name = noun.name.as_deref().unwrap_or(stream_sid);
        let mut parameters = vec![
            ("AccountSid", self.account_sid.clone()),
            ("CallSid", self.call_sid.clone()),
            ("StreamSid", stream_sid.to_owned()),
            ("StreamName", name.to_owned()),
            ("Timestamp", timestamp()),
        ];
        match event {
            Ok(event) => parameters.push(("StreamEvent", event.to_owned())),
            Err(finding) => {
                parameters.push(("StreamEvent", "stream-error".to_owned()));
                let error = format!("{} - {}", finding.code.number(), finding.text);
                parameters.push(("StreamError", error));
            }
        }
        let parameters: Vec<(String, String)> =
            parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let (route, auth_token) = (self.route.clone(), self.auth_token.clone());
        let (callback, method) = (callback.clone(), noun.status_callback_method.clone());
        let task = tokio::spawn(async move {
            let url = Url::parse(&callback).ok()?;
            let reply = request(&route, &method, &url, &parameters, &auth_token).await;
            reply.ok().map(|reply| reply.status)
        });
        self.posted.push((event.unwrap_or("stream-error").to_owned(), task));
    }

    /// Waits for what is under way, for two seconds at most.
    pub(super) async fn finish(&mut self) -> Vec<(String, Option<u16>)> {
        let deadline: Instant = stream::now() + FINISH_TIMEOUT;
        let mut outcomes = Vec::new();
        for (event, mut task) in self.posted.drain(..) {
            let status = match timeout_at(deadline, &mut task).await {
                Ok(Ok(status)) => status,
                Ok(Err(_)) => None,
                Err(_) => {
                    task.abort();
                    None
                }
            };
            outcomes.push((event, status));
        }
        outcomes
    }
}

#[expect(clippy::disallowed_methods, reason = "the callback carries the wall clock")]
fn timestamp() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    iso8601(since.unwrap_or_default())
}

/// Time since 1970 as `2026-11-21T08:51:38.123Z`.
fn iso8601(since: Duration) -> String {
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to civil date, with years that begin in March (Howard Hinnant, "date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_iso8601() {
        assert_eq!(iso8601(Duration::ZERO), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso8601(Duration::from_millis(1_709_210_096_789)), "2024-02-29T12:34:56.789Z");
        assert_eq!(iso8601(Duration::from_secs(1_767_225_600)), "2026-01-01T00:00:00.000Z");
    }
}
