//! The life of one call: its turn, the ringing, the answer, and then [`Caller`] as on any other call. Tells the status
//! callbacks on the way.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    super::{
        CallEvent, CallPlan, CallReport, Caller, Direction, Instructions, Method, Order, Orders, events::CallEvents,
        http::request, stream,
    },
    AnsweredBy, CallStatus, Line, Outcome, OwnedNumber, RestError,
    account::{Account, Beginning, Carried},
    fields::{Detection, NewCall},
};

/// How long an inbound call may last: four hours, Twilio's own limit.
const INBOUND_LIMIT: Duration = Duration::from_secs(14_400);

/// What detection will find out beside the call.
struct Finding<'a> {
    after: Duration,
    who: AnsweredBy,
    callback: Option<&'a (Method, Url)>,
}

/// One call on its way.
struct Call {
    account: Arc<Account>,
    sid: String,
    line: Line,
    plan: CallPlan,
    events: CallEvents,
    subscribed: Vec<CallEvent>,
    orders: mpsc::Receiver<Order>,
    time_limit: watch::Receiver<Duration>,
}

/// Makes a call that the REST API asked for; its SID. It goes on in the background.
pub(super) fn dial(account: &Arc<Account>, new: NewCall, asked: Vec<(String, String)>) -> Result<String, RestError> {
    let carried = account.begin(Beginning {
        direction: Direction::OutboundApi,
        to: new.to.clone(),
        from: new.from.clone(),
        asked,
        status_callback: new.status_callback.clone(),
        time_limit: new.lasts_at_most,
    })?;
    let (sid, wait, line) = (carried.sid.clone(), carried.wait, account.line(&new.to));
    let account_again = Arc::clone(account);
    account.spawn(async move {
        let plan = CallPlan {
            call_sid: Some(carried.sid.clone()),
            from: new.from.clone(),
            to: new.to.clone(),
            direction: Direction::OutboundApi,
            instructions: Some(new.instructions.clone()),
            fallback: new.fallback.clone(),
            // What the plan is carried out with is looked up when it is time: the gateway may start later.
            ..line.call_plan(&account_again.plan, &account_again.gateway())
        };
        Call::new(account_again, carried, line, plan, new.events.clone()).dialled(&new, wait).await;
    });
    Ok(sid)
}

/// Somebody calls a number of the account; the call's SID. It goes on in the background.
pub(super) fn call_in(
    account: &Arc<Account>,
    from: &str,
    number: &OwnedNumber,
    line: Line,
) -> Result<String, RestError> {
    let target = |url: &str, method: &str| {
        let method = number.settings.get(method).and_then(|text| Method::read(text)).unwrap_or_default();
        let url = number.settings.get(url).and_then(|text| Url::parse(text).ok());
        url.map(|url| (method, url))
    };
    let status_callback = target("StatusCallback", "StatusCallbackMethod");
    let carried = account.begin(Beginning {
        direction: Direction::Inbound,
        to: number.number.clone(),
        from: from.to_owned(),
        asked: Vec::new(),
        status_callback: status_callback.clone(),
        time_limit: INBOUND_LIMIT,
    })?;
    let plan = CallPlan {
        call_sid: Some(carried.sid.clone()),
        from: from.to_owned(),
        to: number.number.clone(),
        instructions: target("VoiceUrl", "VoiceMethod").map(|(method, url)| Instructions::fetch(method, url)),
        fallback: target("VoiceFallbackUrl", "VoiceFallbackMethod"),
        ..line.call_plan(&account.plan, &account.gateway())
    };
    let sid = carried.sid.clone();
    let call = Call::new(Arc::clone(account), carried, line, plan, vec![CallEvent::Completed]);
    account.spawn(call.came_in());
    Ok(sid)
}

impl Call {
    fn new(account: Arc<Account>, carried: Carried, line: Line, plan: CallPlan, subscribed: Vec<CallEvent>) -> Self {
        let events = CallEvents::new(&plan, &carried.sid, account.plan.delivery.clone());
        let Carried { sid, orders, time_limit, .. } = carried;
        Self { account, sid, line, plan, events, subscribed, orders, time_limit }
    }

    async fn came_in(mut self) {
        self.began(CallStatus::Ringing);
        self.account.enter(&self.sid, CallStatus::InProgress);
        let report = self.talk(None).await;
        let status = match report.rejected.as_deref() {
            Some("busy") => CallStatus::Busy,
            Some(_) => CallStatus::NoAnswer,
            None => CallStatus::Completed,
        };
        // The number's reason comes late when the REST API had ended the call already.
        self.over(status, 200, Some(report)).await;
    }

    async fn dialled(mut self, new: &NewCall, wait: Duration) {
        if self.is_given_up_within(wait).await {
            return self.over(CallStatus::Canceled, 487, None).await;
        }
        self.began(CallStatus::Queued);
        self.tell(CallEvent::Initiated, "initiated", &[]);
        if self.is_given_up_within(self.line.setup).await {
            return self.over(CallStatus::Canceled, 487, None).await;
        }
        if self.line.outcome == Outcome::Failed {
            return self.over(CallStatus::Failed, 404, None).await;
        }
        if self.line.outcome == Outcome::Busy {
            return self.over(CallStatus::Busy, 486, None).await;
        }
        self.account.enter(&self.sid, CallStatus::Ringing);
        self.tell(CallEvent::Ringing, "ringing", &[]);
        if self.is_given_up_within(self.line.rings.min(new.rings_at_most)).await {
            return self.over(CallStatus::Canceled, 487, None).await;
        }
        if self.line.outcome == Outcome::NoAnswer || self.line.rings > new.rings_at_most {
            return self.over(CallStatus::NoAnswer, 487, None).await;
        }
        self.account.enter(&self.sid, CallStatus::InProgress);
        self.tell(CallEvent::Answered, "in-progress", &[("SipResponseCode", "200".to_owned())]);
        let report = self.answered(new.detection.as_ref()).await;
        self.over(CallStatus::Completed, 200, report).await;
    }

    /// From the answer to the end.
    async fn answered(&mut self, detection: Option<&Detection>) -> Option<CallReport> {
        let Some(detection) = detection else {
            return Some(self.talk(None).await);
        };
        let line = &self.line;
        let (after, who) = if line.detected_after > detection.takes_at_most {
            (detection.takes_at_most, AnsweredBy::Unknown)
        } else {
            (line.detected_after, line.answered_by.detected(detection.waits_for_end))
        };
        if detection.is_async {
            return Some(self.talk(Some(Finding { after, who, callback: detection.callback.as_ref() })).await);
        }
        if self.is_given_up_within(after).await {
            return None;
        }
        self.account.call(&self.sid, |record| record.call.answered_by = Some(who.as_str()));
        if let Some(Instructions::Fetch { parameters, .. }) = &mut self.plan.instructions {
            parameters.push(("AnsweredBy".to_owned(), who.as_str().to_owned()));
        }
        Some(self.talk(None).await)
    }

    /// Lives the TwiML to its end, with detection beside it if it is asynchronous.
    async fn talk(&mut self, finding: Option<Finding<'_>>) -> CallReport {
        let orders = std::mem::replace(&mut self.orders, mpsc::channel(1).1);
        let over = CancellationToken::new();
        let placing = async {
            let place = Caller::steered(self.plan.clone(), Orders::new(orders)).place();
            let report = limited(&self.account, &self.sid, self.time_limit.clone(), place).await;
            over.cancel();
            report
        };
        let detecting = async {
            let Some(finding) = finding else {
                return;
            };
            tokio::select! {
                // Nobody is told of a call that was over before.
                () = over.cancelled() => {}
                () = sleep(finding.after) => self.detected(&finding).await,
            }
        };
        tokio::join!(placing, detecting).0
    }

    async fn detected(&self, Finding { after, who, callback }: &Finding<'_>) {
        self.account.call(&self.sid, |record| record.call.answered_by = Some(who.as_str()));
        let Some((method, url)) = callback else {
            return;
        };
        let parameters: Vec<(String, String)> = [
            ("CallSid", self.sid.clone()),
            ("AccountSid", self.plan.account_sid.clone()),
            ("AnsweredBy", who.as_str().to_owned()),
            ("MachineDetectionDuration", after.as_millis().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let reply = request(&self.plan.route, *method, url, &parameters, &self.plan.auth_token).await;
        let status = reply.ok().map(|reply| reply.status);
        self.account.call(&self.sid, |record| record.call.detection_callback = Some(status));
    }

    /// Waits so long; true when the call was given up meanwhile.
    async fn is_given_up_within(&mut self, time: Duration) -> bool {
        let given_up = async {
            loop {
                match self.orders.recv().await {
                    Some(Order::HangUp) => return,
                    // Other TwiML is refused before anybody answered; and no more orders come of a call forgotten.
                    Some(Order::Replace(_)) => {}
                    None => std::future::pending().await,
                }
            }
        };
        timeout(time, given_up).await.is_ok()
    }

    fn began(&self, status: CallStatus) {
        let now = self.account.now();
        self.account.call(&self.sid, |record| {
            record.started = Some(now);
            record.enter(status, now);
        });
    }

    fn tell(&mut self, event: CallEvent, status: &str, more: &[(&str, String)]) {
        if !self.subscribed.contains(&event) {
            return;
        }
        let target = self.account.call(&self.sid, |record| record.status_callback.clone());
        if let Some(Some(target)) = target {
            self.events.post(&target, event, status, more);
        }
    }

    /// The end, unless the REST API was first: what counts then is what it made of the call.
    async fn over(mut self, status: CallStatus, sip: u16, report: Option<CallReport>) {
        self.account.enter(&self.sid, status);
        let facts = self.account.call(&self.sid, |r| (r.call.status, r.talked().as_secs(), r.call.answered_by));
        let (status, seconds, answered_by) = facts.unwrap_or((status, 0, None));
        let mut more = vec![
            ("CallDuration", seconds.to_string()),
            // Minutes that have begun, as they are billed.
            ("Duration", seconds.div_ceil(60).to_string()),
            ("SipResponseCode", sip.to_string()),
        ];
        if let Some(who) = answered_by {
            more.push(("AnsweredBy", who.to_owned()));
        }
        self.tell(CallEvent::Completed, status.as_str(), &more);
        let callbacks = self.events.finish().await;
        self.account.settle(&self.sid, report, callbacks);
    }
}

/// Ends the call when its time is up, which the REST API may change.
async fn limited(
    account: &Account,
    sid: &str,
    mut time_limit: watch::Receiver<Duration>,
    place: impl Future<Output = CallReport>,
) -> CallReport {
    let answered = stream::now();
    let end = || {
        let now = account.now();
        account.call(sid, |record| record.enter(CallStatus::Completed, now));
    };
    tokio::pin!(place);
    loop {
        let limit = *time_limit.borrow_and_update();
        tokio::select! {
            report = &mut place => return report,
            Ok(()) = time_limit.changed() => {}
            () = sleep_until(answered + limit) => break,
        }
    }
    // A full queue holds orders to end it, or will be read and the rest of the call ends by itself.
    account.call(sid, |record| record.orders.try_send(Order::HangUp).is_ok());
    let report = place.await;
    end();
    report
}
