//! Pure: lists with filters and pages, as the 2010 API has them.

use serde_json::{Value, json};
use url::form_urlencoded;

use super::{super::calendar, CallStatus, RestError, fields::Fields, record::Record};

/// Items of a page when none are asked for (twilio.com/docs/usage/twilios-response#pagination).
const PAGE_SIZE: usize = 50;
/// Items of a page at most.
const MAX_PAGE_SIZE: usize = 1000;

/// Query parameters of `GET …/Calls.json`.
pub const CALLS: [&str; 13] = [
    "To",
    "From",
    "ParentCallSid",
    "Status",
    "StartTime",
    "StartTime<",
    "StartTime>",
    "EndTime",
    "EndTime<",
    "EndTime>",
    "PageSize",
    "Page",
    "PageToken",
];
/// Query parameters of `GET …/IncomingPhoneNumbers.json`.
pub const NUMBERS: [&str; 7] = ["Beta", "FriendlyName", "PhoneNumber", "Origin", "PageSize", "Page", "PageToken"];

/// What a call must be like to be listed.
pub(super) struct Filter<'a> {
    fields: Fields<'a>,
    status: Option<CallStatus>,
}

impl<'a> Filter<'a> {
    pub(super) fn read(fields: Fields<'a>) -> Result<Self, RestError> {
        let status = match fields.get("Status") {
            Some(text) => {
                Some(CallStatus::read(text).ok_or_else(|| RestError::parameter("Status", "not a call's status"))?)
            }
            None => None,
        };
        for name in &CALLS[4..10] {
            if fields.get(name).is_some_and(|text| calendar::read(text).is_none()) {
                return Err(RestError::parameter(name, "a date such as 2026-11-21, or a time in UTC"));
            }
        }
        Ok(Self { fields, status })
    }

    pub(super) fn fits(&self, record: &Record) -> bool {
        let call = &record.call;
        let is = |name, value: &str| self.fields.get(name).is_none_or(|wanted| wanted == value);
        is("To", &call.to)
            && is("From", &call.from)
            && self.fields.get("ParentCallSid").is_none()
            && self.status.is_none_or(|status| status == call.status)
            && self.fits_time("StartTime", record.started.map(|at| at.as_secs()))
            && self.fits_time("EndTime", record.ended.map(|at| at.as_secs()))
    }

    /// `<` means at or before and `>` at or after (twilio.com/docs/voice/api/call-resource, list parameters).
    fn fits_time(&self, name: &str, at: Option<u64>) -> bool {
        let bound = |suffix: &str| self.fields.get(&format!("{name}{suffix}")).and_then(calendar::read);
        bound("").is_none_or(|day| at.is_some_and(|at| day.contains(&at)))
            && bound("<").is_none_or(|day| at.is_some_and(|at| at < day.end))
            && bound(">").is_none_or(|day| at.is_some_and(|at| at >= day.start))
    }
}

/// One page of a list.
pub(super) struct Page {
    size: usize,
    number: usize,
    /// SID that the page before ended with.
    after: Option<String>,
}

impl Page {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, RestError> {
        let number = |name: &str, default: usize| match fields.get(name) {
            Some(text) => text.parse().map_err(|_| RestError::parameter(name, "a whole number")),
            None => Ok(default),
        };
        let size: usize = number("PageSize", PAGE_SIZE)?;
        if size == 0 {
            return Err(RestError::parameter("PageSize", "1 to 1000"));
        }
        let after = match fields.get("PageToken") {
            Some(token) => {
                let sid = token.strip_prefix("PA").filter(|sid| sid.len() == 34 && sid.is_ascii());
                Some(sid.ok_or_else(|| RestError::parameter("PageToken", "not one of ours"))?.to_owned())
            }
            None => None,
        };
        Ok(Self { size: size.min(MAX_PAGE_SIZE), number: number("Page", 0)?, after })
    }

    /// The page of `sids` (all that fit, in order) and its envelope without the items, which go under `items`.
    pub(super) fn cut<'a>(&self, sids: &[&'a str], path: &str, query: Fields<'_>) -> (Vec<&'a str>, Value) {
        let from = match &self.after {
            // A token goes on after what it names, whatever has come in front of that since.
            Some(after) => sids.iter().position(|sid| sid == after).map_or(sids.len(), |at| at + 1),
            None => self.number.saturating_mul(self.size).min(sids.len()),
        };
        let until = from.saturating_add(self.size).min(sids.len());
        let kept: Vec<&(String, String)> =
            query.0.iter().filter(|(name, _)| !["PageSize", "Page", "PageToken"].contains(&name.as_str())).collect();
        let uri = |number: usize, token: Option<&str>| {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(kept.iter().map(|(name, value)| (name, value)));
            form.append_pair("PageSize", &self.size.to_string()).append_pair("Page", &number.to_string());
            if let Some(token) = token {
                form.append_pair("PageToken", &format!("PA{token}"));
            }
            format!("{path}?{}", form.finish())
        };
        let next = (until < sids.len()).then(|| uri(self.number.saturating_add(1), sids.get(until - 1).copied()));
        let previous = self.number.checked_sub(1).map(|number| uri(number, None));
        // Positions of the first and the last item in the whole list.
        let start = self.number.saturating_mul(self.size);
        let envelope = json!({
            "page": self.number,
            "page_size": self.size,
            "start": start,
            "end": start.saturating_add((until - from).saturating_sub(1)),
            "uri": uri(self.number, self.after.as_deref()),
            "first_page_uri": uri(0, None),
            "next_page_uri": next,
            "previous_page_uri": previous,
        });
        (sids[from..until].to_vec(), envelope)
    }
}
