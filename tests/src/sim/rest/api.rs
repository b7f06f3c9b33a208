//! The routes of the REST API and what each does to the account. No waiting in here: what is asked for is done when the
//! answer is known.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc::error::TrySendError;

use super::{
    super::Order,
    CallStatus, RestError, Target,
    account::Account,
    carry,
    fields::{self, Action, Change, Fields, NewCall},
    listing::{self, Filter, Page},
    number,
};

/// Version of the API, the first part of every path.
const VERSION: &str = "2010-04-01";

/// A request, taken apart.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) fields: Vec<(String, String)>,
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Resource<'a> {
    Account,
    Calls,
    Call(&'a str),
    Numbers,
    Number(&'a str),
    Nothing,
}

impl Request {
    /// Which faults may meet it.
    pub(super) fn target(&self) -> Target {
        match (self.resource().1, self.method.as_str()) {
            (Resource::Account, _) => Target::Account,
            (Resource::Calls, "POST") => Target::Create,
            (Resource::Calls, _) => Target::List,
            (Resource::Call(_), "POST") => Target::Update,
            (Resource::Call(_), "DELETE") => Target::Delete,
            (Resource::Call(_), _) => Target::Fetch,
            (Resource::Numbers | Resource::Number(_), _) => Target::Numbers,
            (Resource::Nothing, _) => Target::Nothing,
        }
    }

    /// SID of the account in the path.
    pub(super) fn account_sid(&self) -> Option<&str> {
        self.resource().0
    }

    /// Parameters that are not documented for it.
    pub(super) fn unknown(&self) -> Vec<String> {
        let settings = number::SETTINGS.map(|(name, _, _)| name);
        let create = [&fields::CREATE[..], &fields::CREATE_NEWER].concat();
        let known: &[&str] = match (self.target(), self.resource().1, self.method.as_str()) {
            (Target::Create, _, _) => &create,
            (Target::Update, _, _) => &fields::UPDATE,
            (Target::List, _, _) => &listing::CALLS,
            (Target::Numbers, Resource::Numbers, _) => &listing::NUMBERS,
            (Target::Numbers, _, "POST") => &settings,
            _ => &[],
        };
        let given = self.query.iter().chain(&self.fields).map(|(name, _)| name);
        given.filter(|name| !known.contains(&name.as_str())).cloned().collect()
    }

    fn resource(&self) -> (Option<&str>, Resource<'_>) {
        let parts: Vec<&str> = self.path.split('/').skip(1).collect();
        let named = |part: &'_ str| part.len() > ".json".len() && part.ends_with(".json");
        let (account, resource) = match parts[..] {
            [VERSION, "Accounts", account] if named(account) => (bare(account), Resource::Account),
            [VERSION, "Accounts", account, "Calls.json"] => (account, Resource::Calls),
            [VERSION, "Accounts", account, "IncomingPhoneNumbers.json"] => (account, Resource::Numbers),
            [VERSION, "Accounts", account, "Calls", sid] if named(sid) => (account, Resource::Call(bare(sid))),
            [VERSION, "Accounts", account, "IncomingPhoneNumbers", sid] if named(sid) => {
                (account, Resource::Number(bare(sid)))
            }
            _ => return (None, Resource::Nothing),
        };
        (Some(account), resource)
    }
}

fn bare(part: &str) -> &str {
    part.strip_suffix(".json").unwrap_or(part)
}

/// Carries out a request: HTTP status and body, which only a deletion has none of.
pub(super) fn answer(account: &Arc<Account>, request: &Request) -> Result<(u16, Option<Value>), RestError> {
    let sid = &account.plan.account_sid;
    let missing = || RestError::not_found(&request.path);
    let (query, given) = (Fields(&request.query), Fields(&request.fields));
    match (request.method.as_str(), request.resource().1) {
        ("GET", Resource::Account) => Ok((200, Some(number::account(sid, account.epoch())))),
        ("POST", Resource::Calls) => Ok((201, Some(create(account, request)?))),
        ("GET", Resource::Calls) => Ok((200, Some(list_calls(account, request)?))),
        ("GET", Resource::Call(call)) => {
            let resource = account.call(call, |record| record.resource(sid)).ok_or_else(missing)?;
            Ok((200, Some(resource)))
        }
        ("POST", Resource::Call(call)) => Ok((200, Some(update(account, call, given, missing)?))),
        ("DELETE", Resource::Call(call)) => {
            let is_over = account.call(call, |record| record.call.status.is_final()).ok_or_else(missing)?;
            if !is_over {
                return Err(RestError::call_state());
            }
            account.with(|state| state.forget(call));
            Ok((204, None))
        }
        ("GET", Resource::Numbers) => Ok((200, Some(list_numbers(account, &request.path, query)?))),
        ("GET", Resource::Number(number)) => Ok((200, Some(with_number(account, number, None).ok_or_else(missing)??))),
        ("POST", Resource::Number(number)) => {
            Ok((200, Some(with_number(account, number, Some(given)).ok_or_else(missing)??)))
        }
        (_, Resource::Nothing) => Err(missing()),
        _ => Err(RestError::not_allowed()),
    }
}

fn create(account: &Arc<Account>, request: &Request) -> Result<Value, RestError> {
    let call = NewCall::read(Fields(&request.fields))?;
    let is_number = call.from.starts_with('+');
    let owned = account.with(|state| state.numbers.iter().any(|number| number.number == call.from));
    if !owned && (is_number || call.to.starts_with('+')) {
        return Err(RestError::not_owned(&call.from));
    }
    let sid = carry::dial(account, call, request.fields.clone())?;
    let resource = account.call(&sid, |record| record.resource(&account.plan.account_sid));
    resource.ok_or_else(RestError::internal)
}

fn update(
    account: &Account,
    call: &str,
    fields: Fields<'_>,
    missing: impl Fn() -> RestError,
) -> Result<Value, RestError> {
    let now = account.now();
    let forgets = account.plan.forgets_ended_calls;
    let changed = account.call(call, |record| {
        let status = record.call.status;
        if forgets && status.is_final() {
            return Err(missing());
        }
        let Change { action, status_callback, time_limit } = Change::read(fields)?;
        let (order, end) = match action {
            Some(_) if status.is_final() => return Err(RestError::call_state()),
            Some(Action::Complete) if status == CallStatus::InProgress => {
                (Some(Order::HangUp), Some(CallStatus::Completed))
            }
            Some(Action::Cancel) if status == CallStatus::InProgress => return Err(RestError::call_state()),
            Some(Action::Cancel | Action::Complete) => (Some(Order::HangUp), Some(CallStatus::Canceled)),
            Some(Action::Replace(_)) if status != CallStatus::InProgress => return Err(RestError::call_state()),
            Some(Action::Replace(instructions)) => (Some(Order::Replace(instructions)), None),
            None => (None, None),
        };
        if let Some(order) = order {
            match record.orders.try_send(order) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(RestError::too_many()),
                // It is just ending.
                Err(TrySendError::Closed(_)) => return Err(RestError::call_state()),
            }
        }
        if let Some(end) = end {
            record.enter(end, now);
        }
        record.updated = now;
        if status_callback.is_some() {
            record.status_callback = status_callback;
        }
        if let Some(limit) = time_limit {
            record.time_limit.send_replace(limit);
        }
        Ok(record.resource(&account.plan.account_sid))
    });
    changed.ok_or_else(missing)?
}

fn list_calls(account: &Account, request: &Request) -> Result<Value, RestError> {
    let query = Fields(&request.query);
    let (filter, page) = (Filter::read(query)?, Page::read(query)?);
    Ok(account.with(|state| {
        let fitting: Vec<_> = state.calls().filter(|record| filter.fits(record)).collect();
        let sids: Vec<&str> = fitting.iter().map(|record| record.call.sid.as_str()).collect();
        let (shown, envelope) = page.cut(&sids, &request.path, query);
        let items = fitting.iter().filter(|record| shown.contains(&record.call.sid.as_str()));
        with_items(envelope, "calls", items.map(|record| record.resource(&account.plan.account_sid)).collect())
    }))
}

fn list_numbers(account: &Account, path: &str, query: Fields<'_>) -> Result<Value, RestError> {
    let page = Page::read(query)?;
    let (sid, since) = (&account.plan.account_sid, account.epoch());
    Ok(account.with(|state| {
        let wanted = query.get("PhoneNumber");
        let named = query.get("FriendlyName");
        let fits = |own: &&super::OwnedNumber| {
            let name = own.settings.get("FriendlyName").unwrap_or(&own.number);
            wanted.is_none_or(|pattern| number::fits(&own.number, pattern)) && named.is_none_or(|named| named == name)
        };
        let fitting: Vec<_> = state.numbers.iter().filter(fits).collect();
        let sids: Vec<&str> = fitting.iter().map(|own| own.sid.as_str()).collect();
        let (shown, envelope) = page.cut(&sids, path, query);
        let items = fitting.iter().filter(|own| shown.contains(&own.sid.as_str()));
        with_items(envelope, "incoming_phone_numbers", items.map(|own| number::resource(own, sid, since)).collect())
    }))
}

fn with_items(mut envelope: Value, name: &str, items: Vec<Value>) -> Value {
    envelope[name] = Value::Array(items);
    envelope
}

/// The number's resource, after a change if there are parameters for one.
fn with_number(account: &Account, sid: &str, change: Option<Fields<'_>>) -> Option<Result<Value, RestError>> {
    account.with(|state| {
        let own = state.numbers.iter_mut().find(|own| own.sid == sid)?;
        let changed = change.map_or(Ok(()), |fields| number::change(own, fields));
        Some(changed.map(|()| number::resource(own, &account.plan.account_sid, account.epoch())))
    })
}
