//! Which request goes where; no rule about calls.

use std::convert::Infallible;

use bytes::Bytes;
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

use crate::{
    api::{self, Asked},
    browser,
    call::{Knock, Surroundings},
    callbacks,
    problem::{self, Problem},
    webhook::{self, Webhook},
};

/// Largest form taken; Twilio's have about 1 KB.
const MAX_FORM_BYTES: u64 = 64 << 10;

/// Largest JSON document taken: a call with all its parameters at their longest.
const MAX_JSON_BYTES: u64 = 128 << 10;

/// Every route of the gateway.
pub(crate) fn routes(around: Surroundings) -> BoxedFilter<(Response,)> {
    let with = {
        let around = around.clone();
        warp::any().map(move || around.clone())
    };
    let target = warp::path::full().and(raw_query()).map(|path: warp::path::FullPath, query: String| {
        if query.is_empty() { path.as_str().to_owned() } else { format!("{}?{query}", path.as_str()) }
    });
    let webhook = warp::post()
        .and(target)
        .and(warp::header::headers_cloned())
        .and(warp::body::content_length_limit(MAX_FORM_BYTES))
        .and(warp::body::bytes())
        .map(|target, headers, body| Webhook { target, headers, body });

    let incoming = warp::path!("voice" / "incoming").or(warp::path!("twiml")).unify().or(warp::path!("voice")).unify();
    let incoming =
        incoming.and(with.clone()).and(webhook).map(|around, webhook| answer(webhook::incoming(&around, &webhook)));
    let after = warp::path!("voice" / "after")
        .and(with.clone())
        .and(webhook)
        .map(|around, webhook| answer(webhook::after(&around, &webhook)));
    let dialled = warp::path!("voice" / "dialled")
        .and(with.clone())
        .and(webhook)
        .map(|around, webhook| answer(webhook::dialled(&around, &webhook)));
    let outbound = warp::path!("voice" / "outbound" / String)
        .and(with.clone())
        .and(webhook)
        .map(|id: String, around, webhook| answer(webhook::outbound(&around, &id, &webhook)));
    let named = || warp::path::param().map(Some).or(warp::any().map(|| None)).unify().and(warp::path::end());
    let status = warp::path!("voice" / "status" / ..)
        .and(named())
        .and(with.clone())
        .and(webhook)
        .map(|id: Option<String>, around, webhook| answer(callbacks::status(&around, id.as_deref(), &webhook)));
    let answering_machine = warp::path!("voice" / "amd" / ..).and(named()).and(with.clone()).and(webhook).map(
        |id: Option<String>, around, webhook| answer(callbacks::answering_machine(&around, id.as_deref(), &webhook)),
    );
    let stream_status = warp::path!("voice" / "stream-status")
        .and(with.clone())
        .and(webhook)
        .map(|around, webhook| answer(callbacks::stream_status(&around, &webhook)));
    let stream = warp::path!("voice" / "stream")
        .or(warp::path!("ws"))
        .unify()
        .or(warp::path!("ws" / "twilio" / String).map(|_session| ()).untuple_one())
        .unify()
        .and(warp::get())
        .and(with.clone())
        .and(target)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional())
        .and(warp::ext::get())
        .map(|around, target: String, headers, upgrade, seat| {
            answer(webhook::stream(around, &target, Knock { headers, upgrade, seat }))
        });
    let health = warp::path!("health").and(warp::get()).and(with.clone()).map(|around| webhook::health(&around));

    let twilio = incoming.or(after).unify().or(dialled).unify().or(outbound).unify().or(status).unify();
    let twilio = twilio.or(answering_machine).unify().or(stream_status).unify().or(stream).unify();
    let has_browser = around.config.api.browser_calls;
    let all = twilio.or(health).unify().or(api_routes(with.clone())).unify();
    let all = all.or(browser_routes(with, has_browser)).unify().or(wrong_method(has_browser)).unify();
    all.recover(problem::recover).map(Reply::into_response).boxed()
}

/// Calls from browsers: the page, its tickets, its socket. Nothing of it is there unless it is on.
fn browser_routes(
    with: impl Filter<Extract = (Surroundings,), Error = Infallible> + Clone + Send + Sync + 'static,
    is_on: bool,
) -> BoxedFilter<(Response,)> {
    let on = warp::any().and_then(move || async move { if is_on { Ok(()) } else { Err(warp::reject::not_found()) } });
    let on = on.untuple_one();
    let asked = raw_query().and(warp::header::headers_cloned());
    let asked = asked
        .and(warp::body::content_length_limit(MAX_JSON_BYTES).and(warp::body::bytes()).or(no_body()).unify())
        .map(|query, headers, body| Asked { query, headers, body });
    let create = warp::path!("v1" / "browser-calls").and(on).and(warp::post()).and(with.clone()).and(asked);
    let create = create.then(async |around, asked| answer(browser::create(around, asked).await));
    let stream = warp::path!("call" / "stream" / String)
        .and(on)
        .and(warp::get())
        .and(with.clone())
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional())
        .and(warp::ext::get())
        .map(|id: String, around, headers, upgrade, seat| {
            answer(browser::stream(around, &id, Knock { headers, upgrade, seat }))
        });
    let name = warp::path!("call").map(String::new).or(warp::path!("call" / String)).unify();
    let page = name.and(on).and(warp::get()).and(with).and(warp::header::headers_cloned());
    let page = page.and_then(async |name: String, around: Surroundings, headers| {
        browser::file(&name, &around.config, &headers).ok_or_else(warp::reject::not_found)
    });
    create.or(stream).unify().or(page).unify().boxed()
}

/// The calls API.
fn api_routes(
    with: impl Filter<Extract = (Surroundings,), Error = Infallible> + Clone + Send + Sync + 'static,
) -> BoxedFilter<(Response,)> {
    let asked = raw_query().and(warp::header::headers_cloned());
    let asked = asked
        .and(warp::body::content_length_limit(MAX_JSON_BYTES).and(warp::body::bytes()).or(no_body()).unify())
        .map(|query, headers, body| Asked { query, headers, body });
    let calls = || warp::path!("v1" / "calls");
    let call = || warp::path!("v1" / "calls" / String);
    let create = calls().and(warp::post()).and(with.clone()).and(asked);
    let create = create.then(async |around, asked| answer(api::create(around, asked).await));
    let list = calls().and(warp::get()).and(with.clone()).and(asked);
    let list = list.map(|around, asked| answer(api::list(&around, &asked)));
    let get = call().and(warp::get()).and(with.clone()).and(asked);
    let get = get.then(async |id, around, asked| answer(api::get(around, id, asked).await));
    let debug = warp::path!("v1" / "calls" / String / "debug").and(warp::get()).and(with.clone()).and(asked);
    let debug = debug.then(async |id, around, asked| answer(api::debug(around, id, asked).await));
    let change = call().and(warp::patch()).and(with.clone()).and(asked);
    let change = change.then(async |id, around, asked| answer(api::change(around, id, asked).await));
    let end = call().and(warp::delete()).and(with.clone()).and(asked);
    let end = end.then(async |id, around, asked| answer(api::end(around, id, asked).await));
    let by_query = warp::path!("call" / "outbound").and(warp::post()).and(with).and(asked);
    let by_query = by_query.then(async |around, asked| answer(api::create_by_query(around, asked).await));
    let described = warp::path!("v1" / "openapi.json").and(warp::get()).map(api::describe);
    let all = create.or(list).unify().or(get).unify().or(debug).unify().or(change).unify().or(end).unify();
    all.or(by_query).unify().or(described).unify().boxed()
}

/// For requests to an address that takes other methods.
fn wrong_method(has_browser: bool) -> BoxedFilter<(Response,)> {
    let asked = warp::path::full().and(warp::method());
    let refused = asked.map(move |path: warp::path::FullPath, method: http::Method| {
        methods(path.as_str(), has_browser).filter(|allowed| !allowed.split(", ").any(|one| one == method.as_str()))
    });
    let refused = refused.and_then(async |allowed: Option<&'static str>| {
        allowed.map(|allowed| Problem::Method { allowed }.into_response()).ok_or_else(warp::reject)
    });
    refused.boxed()
}

/// What an address takes, as in the header `Allow`.
fn methods(path: &str, has_browser: bool) -> Option<&'static str> {
    let path = path.strip_prefix('/')?;
    let segments: Vec<_> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    match segments[..] {
        ["voice" | "twiml"]
        | ["voice", "incoming" | "after" | "dialled" | "stream-status" | "status" | "amd"]
        | ["voice", "outbound" | "status" | "amd", _]
        | ["call", "outbound"] => Some("POST"),
        ["voice", "stream"] | ["ws"] | ["ws", "twilio", _] | ["health"] | ["v1", "openapi.json"] => Some("GET"),
        ["call"] | ["call", "stream", _] if has_browser => Some("GET"),
        ["call", name] if has_browser && browser::has_file(name) => Some("GET"),
        ["v1", "browser-calls"] if has_browser => Some("POST"),
        ["v1", "calls"] => Some("GET, POST"),
        ["v1", "calls", _] => Some("GET, PATCH, DELETE"),
        ["v1", "calls", _, "debug"] => Some("GET"),
        _ => None,
    }
}

/// For requests that say nothing of a body.
fn no_body() -> impl Filter<Extract = (Bytes,), Error = warp::Rejection> + Copy {
    warp::header::headers_cloned().and_then(async |headers: http::HeaderMap| {
        let has_body =
            headers.contains_key(http::header::CONTENT_LENGTH) || headers.contains_key(http::header::TRANSFER_ENCODING);
        if has_body { Err(warp::reject::reject()) } else { Ok(Bytes::new()) }
    })
}

/// The query as it came, empty when there is none.
fn raw_query() -> impl Filter<Extract = (String,), Error = Infallible> + Copy {
    warp::query::raw().or_else(async |_| Ok::<_, Infallible>((String::new(),)))
}

fn answer(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(Reply::into_response)
}
