//! The stream's `statusCallback`: posted in the background, best effort, as Twilio does.

use std::time::{Duration, SystemTime};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use url::Url;

use super::{CallPlan, Finding, Route, StreamNoun, calendar, http::request, stream};

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
            ("Timestamp", calendar::iso8601(wall_clock())),
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
        let (callback, method) = (callback.clone(), noun.status_callback_method);
        let task = tokio::spawn(async move {
            let url = Url::parse(&callback).ok()?;
            let reply = request(&route, method, &url, &parameters, &auth_token).await;
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

/// Time since 1970.
#[expect(clippy::disallowed_methods, reason = "callbacks carry the wall clock")]
pub(super) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
