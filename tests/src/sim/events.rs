//! Status callbacks of a call (`StatusCallback`), posted in the background: in order as Twilio mostly does, or in
//! one of the ways that it does not exclude.

use std::time::Duration;

use tokio::{sync::mpsc, task::JoinHandle};
use url::Url;

use super::{CallPlan, Method, calendar, http::request, status::wall_clock};

/// Callbacks of one call that may wait: four events, each twice at most, and then some.
const QUEUE: usize = 16;

/// What a status callback can be asked to tell (`StatusCallbackEvent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallEvent {
    /// Twilio has begun to dial.
    Initiated,
    /// It rings.
    Ringing,
    /// Somebody, or something, answered.
    Answered,
    /// The call is over, however it went.
    Completed,
}

impl CallEvent {
    /// All of them, in the order in which they happen.
    pub const ALL: [Self; 4] = [Self::Initiated, Self::Ringing, Self::Answered, Self::Completed];

    /// As `StatusCallbackEvent` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::Answered => "answered",
            Self::Completed => "completed",
        }
    }

    /// Reads a name of `StatusCallbackEvent`.
    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }
}

/// How callbacks arrive. Twilio sends each as a request of its own and promises no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// As things happen, one after the other.
    #[default]
    InOrder,
    /// All of them when the call is over, the last first.
    Reversed,
    /// Each one twice.
    Duplicated,
    /// Those of these events never arrive.
    Losing(Vec<CallEvent>),
}

/// How a call ended.
pub(super) struct CallEnd {
    /// As Twilio writes it.
    pub(super) status: &'static str,
    /// Since it was answered.
    pub(super) lasted: Duration,
}

/// One callback on its way.
struct Posting {
    event: CallEvent,
    method: Method,
    url: Url,
    parameters: Vec<(String, String)>,
}

/// The status callbacks of one call.
pub(super) struct CallEvents {
    /// Parameters of every callback but for `CallStatus`.
    common: Vec<(String, String)>,
    delivery: Delivery,
    sequence: u64,
    held: Vec<Posting>,
    queue: mpsc::Sender<Posting>,
    task: JoinHandle<Vec<(String, Option<u16>)>>,
}

impl CallEvents {
    pub(super) fn new(plan: &CallPlan, call_sid: &str, delivery: Delivery) -> Self {
        let (queue, mut postings) = mpsc::channel::<Posting>(QUEUE);
        let (route, auth_token) = (plan.route.clone(), plan.auth_token.clone());
        let task = tokio::spawn(async move {
            let mut outcomes = Vec::new();
            while let Some(Posting { event, method, url, parameters }) = postings.recv().await {
                let reply = request(&route, method, &url, &parameters, &auth_token).await;
                outcomes.push((event.as_str().to_owned(), reply.ok().map(|reply| reply.status)));
            }
            outcomes
        });
        let mut common = plan.parameters(call_sid, "");
        common.retain(|(name, _)| name != "CallStatus");
        Self { common, delivery, sequence: 0, held: Vec::new(), queue, task }
    }

    /// Tells `target` of an event. `more` are the parameters beside those of every callback.
    pub(super) fn post(&mut self, target: &(Method, Url), event: CallEvent, status: &str, more: &[(&str, String)]) {
        let mut parameters = self.common.clone();
        let own = [
            ("CallStatus", status.to_owned()),
            ("CallbackSource", "call-progress-events".to_owned()),
            ("SequenceNumber", self.sequence.to_string()),
            ("Timestamp", calendar::rfc2822(wall_clock())),
        ];
        let more = more.iter().cloned();
        parameters.extend(own.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)));
        self.sequence += 1;
        let posting = || Posting { event, method: target.0, url: target.1.clone(), parameters: parameters.clone() };
        match &self.delivery {
            Delivery::InOrder => self.send(posting()),
            Delivery::Reversed => self.held.push(posting()),
            Delivery::Duplicated => {
                self.send(posting());
                self.send(posting());
            }
            Delivery::Losing(lost) if lost.contains(&event) => {}
            Delivery::Losing(_) => self.send(posting()),
        }
    }

    /// Tells `target` of the end of a call that was answered or refused.
    pub(super) fn completed(&mut self, target: &(Method, Url), end: &CallEnd) {
        // Duration is billed in minutes that have begun.
        let (seconds, minutes) = (end.lasted.as_secs(), end.lasted.as_secs().div_ceil(60));
        let more = [("CallDuration", seconds.to_string()), ("Duration", minutes.to_string())];
        self.post(target, CallEvent::Completed, end.status, &more);
    }

    /// Sends what is left and waits for it; each event with the HTTP status that it got.
    pub(super) async fn finish(mut self) -> Vec<(String, Option<u16>)> {
        while let Some(posting) = self.held.pop() {
            self.send(posting);
        }
        drop(self.queue);
        self.task.await.unwrap_or_default()
    }

    fn send(&self, posting: Posting) {
        if self.queue.try_send(posting).is_err() {
            tracing::warn!("a status callback was dropped: {QUEUE} wait already");
        }
    }
}
