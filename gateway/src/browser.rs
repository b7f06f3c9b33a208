//! Calls from a browser: a one-time ticket for a token of the calls API, and a media socket that takes only such tickets.
//!
//! No carrier is behind such a call. It has an id as Twilio's calls have, is admitted, listed, steered and ended as they
//! are, and is over when its socket is. The page that places it is served from here as well (`browser/files.rs`).

use http::{HeaderMap, StatusCode, header};
use humantime::format_rfc3339_seconds;
use serde_json::json;
use warp::reply::Response;

use crate::{
    admission::Reason,
    api::{self, Asked, NewBrowserCall},
    call::{Knock, Page, Surroundings, admit, at, now, since_epoch},
    calls::Phase,
    problem::Problem,
    registry::Registry,
    ticket::{self, Kind, Nonce},
};

mod files;

pub(crate) use files::{file, has_file};

/// Who calls, in the form in which Twilio tells of its own software phones.
const FROM: &str = "client:browser";

/// Where such calls stream.
const STREAM: &str = "/call/stream";

/// Their ids begin so, and go on with 32 hex digits as a CallSid does.
const SID_PREFIX: &str = "BC";

/// `POST /v1/browser-calls`: announces a call and answers with its ticket.
pub(crate) async fn create(around: Surroundings, asked: Asked) -> Result<Response, Problem> {
    api::enter(&around, &asked)?;
    let NewBrowserCall { agent, language, parameters } =
        NewBrowserCall::read(&asked.headers, &asked.body, &around.config)?;
    if around.calls.phase() != Phase::Open {
        return Err(Problem::Draining);
    }
    api::check_agent(&around, &agent).await?;
    let call_sid = new_sid().ok_or(Problem::Internal)?;
    around.calls.announce(&call_sid, now()).map_err(|refused| {
        if refused.is_worth_a_line() {
            tracing::warn!(reason = refused.reason.label(), count = refused.count, "call from a browser refused");
        }
        if refused.reason == Reason::Draining { Problem::Draining } else { Problem::NoRoom(refused.reason.label()) }
    })?;
    around.registry.incoming(&call_sid, FROM, "", |record| {
        record.from_browser = true;
        record.agent = agent;
        record.language = language;
        record.parameters = parameters;
        record.webhook.clone_from(&around.config.events.url);
        record.times.invited = Some(since_epoch());
    });
    let record = around.registry.get(&call_sid).ok_or(Problem::Internal)?;
    let (now, mut nonce) = (since_epoch(), Nonce::default());
    getrandom::fill(&mut nonce).map_err(|_| Problem::Internal)?;
    tracing::info!(call_sid, agent = record.agent, "call from a browser announced");
    let body = json!({
        "call": api::view(&record, None, now),
        "ticket": around.ticket_key.mint(Kind::Browser, &call_sid, now, nonce),
        "expires_at": format_rfc3339_seconds(at(now + ticket::LIFETIME)).to_string(),
        "websocket_url": around.config.origin.websocket(&format!("{STREAM}/{call_sid}")),
    });
    let mut response = api::answer(StatusCode::CREATED, &body);
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `GET /call/stream/{id}`: the media socket of a page. The ticket comes in `start`, so that no address has it; the id
/// keeps out whoever has never had one, since nothing else is signed here.
pub(crate) fn stream(around: Surroundings, id: &str, knock: Knock) -> Result<Response, Problem> {
    admit(around, knock, Some(Page::default()), |around, headers| {
        check_origin(around, headers)?;
        let known = around.registry.read(id, |record| (record.from_browser, record.is_over()));
        match known {
            Some((true, false)) => Ok(()),
            Some((true, true)) => Err(Problem::CallOver),
            Some((false, _)) | None => Err(Problem::CallUnknown),
        }
    })
}

/// A browser tells whose page it is that asks.
fn check_origin(around: &Surroundings, headers: &HeaderMap) -> Result<(), Problem> {
    let ours = around.config.origin.http("");
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) if origin.as_bytes() == ours.as_bytes() => Ok(()),
        (_, _) => {
            tracing::warn!("403: a page of another origin asks for a media socket");
            Err(Problem::ForeignOrigin(ours))
        }
    }
}

fn new_sid() -> Option<String> {
    // Random from the same source and in the same form as our own ids.
    let id = Registry::new_id()?;
    Some(format!("{SID_PREFIX}{}", id.rsplit('_').next()?))
}
