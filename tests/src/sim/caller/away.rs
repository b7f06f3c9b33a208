//! The times in a call in which the caller is away from any stream: a pause, a transfer, a queue.

use std::time::Duration;

use tokio::time::{sleep, sleep_until};
use url::Url;

use super::{
    super::{Dial, Enqueue, Transfer, stream},
    Caller, Next, sid,
};

impl Caller {
    /// Lives through a time in which nothing happens on the line, unless the call ends or changes in it.
    pub(super) async fn wait(&mut self, time: Duration) -> Next {
        let over = stream::now() + time;
        let hangup = self.started.map(|started| started + self.plan.hangup_after());
        let until = hangup.map_or(over, |hangup| hangup.min(over));
        tokio::select! {
            order = self.orders.next() => order.into(),
            () = sleep_until(until) => if until < over { Next::End } else { Next::Verb },
        }
    }

    pub(super) async fn dial(&mut self, dial: Dial, url: &Url) -> Next {
        let transfer = self.plan.transfer;
        self.report.dialled.extend(dial.to);
        let mut parameters = vec![("DialCallStatus".to_owned(), transfer.as_str().to_owned())];
        if let Transfer::Completed(lasts) = transfer {
            // The caller talks to somebody and does not hang up before the end.
            if !lasts.is_zero() {
                tokio::select! {
                    order = self.orders.next() => return order.into(),
                    () = sleep(lasts) => {}
                }
            }
            parameters.push(("DialCallSid".to_owned(), sid("CA")));
            parameters.push(("DialCallDuration".to_owned(), lasts.as_secs().to_string()));
            parameters.push(("DialBridged".to_owned(), "true".to_owned()));
        }
        match dial.action {
            Some(action) => self.resolve(dial.method, url, &action, parameters),
            None => Next::Verb,
        }
    }

    /// Nobody takes the caller out of a queue: the REST API ends it, or the caller does.
    pub(super) async fn enqueue(&mut self, enqueue: Enqueue) -> Next {
        self.report.queued.push(enqueue.queue);
        let patience = self.plan.hangup_after();
        match self.wait(patience).await {
            next @ (Next::Document(_) | Next::Ordered(_)) => next,
            Next::Verb | Next::End => Next::End,
        }
    }
}
