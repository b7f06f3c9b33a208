//! Pure: what goes wrong on the way to the account and back, on request.

use std::time::Duration;

use super::RestError;

/// Which requests are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All.
    Any,
    /// `POST …/Calls.json`.
    Create,
    /// `GET …/Calls.json`.
    List,
    /// `GET …/Calls/{CA}.json`.
    Fetch,
    /// `POST …/Calls/{CA}.json`.
    Update,
    /// `DELETE …/Calls/{CA}.json`.
    Delete,
    /// Everything about numbers.
    Numbers,
    /// The account itself.
    Account,
    /// A path that there is none of.
    Nothing,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// 429 with code 20429; it has not been carried out.
    TooMany {
        /// `Retry-After`, in whole seconds.
        retry_after: Option<Duration>,
    },
    /// It is carried out and answered so much later.
    Delay(Duration),
    /// The connection is closed instead of an answer.
    LostAnswer {
        /// Before that, what was asked for is done: the call is made.
        carried_out: bool,
    },
    /// Nothing ever comes back.
    NoAnswer {
        /// What was asked for is done.
        carried_out: bool,
    },
    /// This refusal, whatever was asked for.
    Refused(RestError),
    /// A proxy in between answers with a page in HTML.
    Page {
        /// HTTP status.
        status: u16,
    },
}

impl Mishap {
    /// 500 with code 20500.
    pub fn internal() -> Self {
        Self::Refused(RestError::internal())
    }

    /// 401 with code 20003, though the credentials are right.
    pub fn unauthorized() -> Self {
        Self::Refused(RestError::credentials())
    }

    /// 404 with code 20404, though it exists.
    pub fn not_found() -> Self {
        Self::Refused(RestError::not_found("asked for"))
    }
}

/// How long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// For so many requests.
    Times(u32),
    /// For so long, from the first request that it meets.
    For(Duration),
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which requests it meets.
    pub target: Target,
    /// What happens to them.
    pub mishap: Mishap,
    /// How long it goes on.
    pub extent: Extent,
}

impl Fault {
    /// Meets the next request to make a call.
    pub fn on_create(mishap: Mishap) -> Self {
        Self { target: Target::Create, mishap, extent: Extent::Times(1) }
    }

    /// The same for other requests.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// The same for so many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.extent = Extent::Times(times);
        self
    }

    /// The same for so long.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.extent = Extent::For(time);
        self
    }
}

/// The faults to come, in order; each request meets the first that fits.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Vec<(Fault, Option<Duration>)>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push((fault, None));
    }

    /// What happens to a request that comes at `now`.
    pub(super) fn take(&mut self, target: Target, now: Duration) -> Option<Mishap> {
        self.0.retain(|(fault, until)| match fault.extent {
            Extent::Times(left) => left > 0,
            Extent::For(_) => until.is_none_or(|until| now < until),
        });
        let meets = |fault: &Fault| fault.target == Target::Any || fault.target == target;
        let (fault, until) = self.0.iter_mut().find(|(fault, _)| meets(fault))?;
        match &mut fault.extent {
            Extent::Times(left) => *left -= 1,
            Extent::For(time) => {
                until.get_or_insert(now + *time);
            }
        }
        Some(fault.mishap.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_met_in_order_and_run_out() {
        let mut faults = Faults::default();
        let second = Duration::from_secs(1);
        faults.add(Fault::on_create(Mishap::internal()).times(2));
        faults.add(Fault::on_create(Mishap::Page { status: 502 }).lasting(second));
        assert_eq!(faults.take(Target::Fetch, Duration::ZERO), None);
        assert_eq!(faults.take(Target::Create, second), Some(Mishap::internal()));
        assert_eq!(faults.take(Target::Create, second), Some(Mishap::internal()));
        let page = Some(Mishap::Page { status: 502 });
        assert_eq!(faults.take(Target::Create, second * 2), page);
        assert_eq!(faults.take(Target::Create, second * 2 + second / 2), page);
        assert_eq!(faults.take(Target::Create, second * 3), None);
    }
}
