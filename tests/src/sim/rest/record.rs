//! Pure: a call as the account keeps it, and as the REST API shows it (schema `api.v2010.account.call`).

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use url::Url;

use super::super::{CallReport, Direction, Method, Order, calendar::rfc2822};

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStatus {
    /// Not dialled yet, or being dialled.
    Queued,
    /// It rings.
    Ringing,
    /// Somebody answered.
    InProgress,
    /// It was answered and is over.
    Completed,
    /// It was busy.
    Busy,
    /// There was no such number.
    Failed,
    /// Nobody answered.
    NoAnswer,
    /// It was given up before anybody answered.
    Canceled,
}

impl CallStatus {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Ringing,
        Self::InProgress,
        Self::Completed,
        Self::Busy,
        Self::Failed,
        Self::NoAnswer,
        Self::Canceled,
    ];

    /// As Twilio writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::NoAnswer => "no-answer",
            Self::Canceled => "canceled",
        }
    }

    /// Reads what Twilio writes.
    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// True when the call is over.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Ringing | Self::InProgress => false,
            Self::Completed | Self::Busy | Self::Failed | Self::NoAnswer | Self::Canceled => true,
        }
    }
}

/// A call of the account, with what came of it.
#[derive(Clone, Debug)]
pub struct PlacedCall {
    /// `CA…`
    pub sid: String,
    /// Who dialled whom.
    pub direction: Direction,
    /// Who was called.
    pub to: String,
    /// Who called.
    pub from: String,
    /// How far it is.
    pub status: CallStatus,
    /// Parameters of the request that made it; none for an inbound call.
    pub asked: Vec<(String, String)>,
    /// How long it waited for its turn.
    pub queue_time: Duration,
    /// What was said of who answered.
    pub answered_by: Option<&'static str>,
    /// Status callbacks, each with the HTTP status that it got; once the call is over.
    pub callbacks: Vec<(String, Option<u16>)>,
    /// HTTP status that the callback of asynchronous answering-machine detection got.
    pub detection_callback: Option<Option<u16>>,
    /// True when nothing more will happen: the last callback has been answered.
    pub is_settled: bool,
    /// What happened on the line, if anybody answered; once the call is over.
    pub report: Option<Arc<CallReport>>,
}

/// A call as the account keeps it. Times are since 1970.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) call: PlacedCall,
    pub(super) number_sid: Option<String>,
    pub(super) created: Duration,
    pub(super) updated: Duration,
    /// Dialled, or came in.
    pub(super) started: Option<Duration>,
    pub(super) answered: Option<Duration>,
    pub(super) ended: Option<Duration>,
    pub(super) status_callback: Option<(Method, Url)>,
    /// To whoever carries the call; a few may wait.
    pub(super) orders: mpsc::Sender<Order>,
    /// `TimeLimit`, from the answer on.
    pub(super) time_limit: watch::Sender<Duration>,
}

impl Record {
    /// Goes on to `status`; a call that is over stays as it is, which is false.
    pub(super) fn enter(&mut self, status: CallStatus, now: Duration) -> bool {
        if self.call.status.is_final() {
            return false;
        }
        self.call.status = status;
        self.updated = now;
        if status == CallStatus::InProgress {
            self.answered = Some(now);
        }
        if status.is_final() {
            self.ended = Some(now);
        }
        true
    }

    /// How long the two talked.
    pub(super) fn talked(&self) -> Duration {
        match (self.answered, self.ended) {
            (Some(answered), Some(ended)) => ended.saturating_sub(answered),
            (Some(_) | None, Some(_) | None) => Duration::ZERO,
        }
    }

    /// The resource.
    pub(super) fn resource(&self, account_sid: &str) -> Value {
        let call = &self.call;
        let uri = format!("/2010-04-01/Accounts/{account_sid}/Calls/{}", call.sid);
        let subresource = |name: &str| format!("{uri}/{name}.json");
        let duration = (call.status == CallStatus::Completed).then(|| self.talked().as_secs().to_string());
        let is_outbound = call.direction == Direction::OutboundApi;
        json!({
            "sid": call.sid,
            "date_created": rfc2822(self.created),
            "date_updated": rfc2822(self.updated),
            "parent_call_sid": null,
            "account_sid": account_sid,
            "to": call.to,
            "to_formatted": formatted(&call.to),
            "from": call.from,
            "from_formatted": formatted(&call.from),
            "phone_number_sid": self.number_sid,
            "status": call.status.as_str(),
            "start_time": self.started.map(rfc2822),
            "end_time": self.ended.filter(|_| call.status == CallStatus::Completed).map(rfc2822),
            "duration": duration,
            "price": null,
            "price_unit": "USD",
            "direction": call.direction.as_str(),
            "answered_by": call.answered_by,
            "api_version": "2010-04-01",
            "forwarded_from": null,
            "group_sid": null,
            "caller_name": null,
            "queue_time": if is_outbound { call.queue_time.as_millis().to_string() } else { "0".to_owned() },
            "trunk_sid": null,
            "uri": format!("{uri}.json"),
            "subresource_uris": {
                "notifications": subresource("Notifications"),
                "recordings": subresource("Recordings"),
                "payments": subresource("Payments"),
                "events": subresource("Events"),
                "siprec": subresource("Siprec"),
                "streams": subresource("Streams"),
                "transcriptions": subresource("Transcriptions"),
                "user_defined_message_subscriptions": subresource("UserDefinedMessageSubscriptions"),
                "user_defined_messages": subresource("UserDefinedMessages"),
            },
        })
    }
}

/// For display: `(415) 867-5308` for North America, as it is for others.
fn formatted(number: &str) -> String {
    match number.strip_prefix("+1") {
        Some(digits) if digits.len() == 10 && digits.is_ascii() => {
            format!("({}) {}-{}", &digits[..3], &digits[3..6], &digits[6..])
        }
        Some(_) | None => number.to_owned(),
    }
}
