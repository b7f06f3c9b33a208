//! The public address, asked as Twilio would ask it: does it lead to a gateway with these settings, and does the way
//! there let signatures and WebSockets through?

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde_json::Value;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::report::Finding;
use crate::{
    client::{Answer, Client, Failure, Plain, Stage},
    config::Config,
    twilio::signature,
};

/// Twilio's own patience with a webhook is 15 s, 5 of them for the connection.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

const ADDRESS: &str = "public address";
const SIGNATURE: &str = "signature";
const WEBSOCKET: &str = "websocket";

/// The webhook that changes nothing, whatever it is told.
const HARMLESS: &str = "/voice/stream-status";
const STREAM: &str = "/voice/stream";

/// Looks like a call's and is none.
const NO_CALL: &str = "CA00000000000000000000000000000000";

pub(super) async fn examine(config: &Config, client: &Client) -> Vec<Finding> {
    let address = address(config, ask(client, Method::GET, &config.origin.http("/health"), &[], Bytes::new()).await);
    if address.outcome != super::Outcome::Ok {
        let why = "the public address does not lead to a gateway";
        return vec![address, Finding::skipped(SIGNATURE, why), Finding::skipped(WEBSOCKET, why)];
    }
    vec![address, webhook(config, client).await, websocket(config, client).await]
}

fn address(config: &Config, result: Result<Answer, Failure>) -> Finding {
    let url = config.origin.http("/health");
    let answer = match result {
        Ok(answer) => answer,
        Err(failure) => return unreachable(&url, &failure),
    };
    let status = answer.status;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if status == StatusCode::OK && body["status"] == "healthy" {
        return Finding::ok(ADDRESS, format!("{url} leads to a gateway with {} calls", body["active_connections"]));
    }
    let cure = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            "the proxy or tunnel is there and the gateway behind it is not: start it, and compare the proxy's target \
             with SERVER_PORT"
        }
        StatusCode::NOT_FOUND => {
            "something else listens there, or the tunnel has ended: compare the address with what the tunnel or \
             proxy says"
        }
        _ if status.is_redirection() => "set TWILIO_VOICE_WEBHOOK_URL to the address that it redirects to",
        _ => "all paths of this address must go to the gateway, without a login or a page of warning before it",
    };
    Finding::failed(ADDRESS, format!("{url} answers {status}, not as a gateway does"), cure).with_codes(&[11200, 31920])
}

fn unreachable(url: &str, failure: &Failure) -> Finding {
    let found = format!("{url}: {failure}");
    let (cure, codes) = match failure {
        Failure::NotSent { stage: Stage::Name | Stage::Address, .. } => (
            "check the name in TWILIO_VOICE_WEBHOOK_URL and its record in the public DNS; a tunnel's name may have \
             changed",
            [11210, 31901],
        ),
        Failure::NotSent { stage: Stage::Connect, .. } => {
            ("start the tunnel or proxy, or open its port in the firewall", [11205, 31902])
        }
        Failure::NotSent { stage: Stage::Tls, .. } => (
            "the proxy needs a certificate for this name from a public authority, with all intermediate ones; Twilio \
             takes no self-signed one",
            [11237, 31910],
        ),
        Failure::Unknown { .. } => {
            ("the proxy or tunnel takes the request and does not answer: is the gateway behind it up?", [11200, 31901])
        }
    };
    Finding::failed(ADDRESS, found, cure).with_codes(&codes)
}

/// What is signed must be believed, and what is not must be refused.
async fn webhook(config: &Config, client: &Client) -> Finding {
    let url = config.origin.http(HARMLESS);
    let mut fields = vec![("CallSid".to_owned(), NO_CALL.to_owned())];
    fields.extend(config.account_sid.clone().map(|sid| ("AccountSid".to_owned(), sid)));
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
    let post = async |signature: Option<String>| {
        let mut headers = vec![(header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned())];
        headers.extend(signature.map(|signature| (SIGNATURE_HEADER, signature)));
        ask(client, Method::POST, &url, &headers, Bytes::from(form.clone())).await
    };
    let unsigned = match post(None).await {
        Ok(answer) => answer,
        Err(failure) => return Finding { check: SIGNATURE, ..unreachable(&url, &failure) },
    };
    if unsigned.status.is_success() {
        return Finding::failed(
            SIGNATURE,
            "requests without a signature are believed: anyone can call this gateway",
            "set TWILIO_SKIP_VALIDATION=0 and TWILIO_AUTH_TOKEN, and start the gateway again",
        );
    }
    let Some(token) = config.auth_tokens.first() else {
        return Finding::skipped(SIGNATURE, "TWILIO_AUTH_TOKEN is not set here; what is not signed is refused");
    };
    match post(Some(signature::sign(token, &url, &fields))).await {
        Ok(answer) if answer.status.is_success() => {
            Finding::ok(SIGNATURE, "what Twilio signs is believed, what nobody signed is refused")
        }
        Ok(answer) => refused(SIGNATURE, &url, &answer).with_codes(&[11200]),
        Err(failure) => Finding { check: SIGNATURE, ..unreachable(&url, &failure) },
    }
}

async fn websocket(config: &Config, client: &Client) -> Finding {
    let Ok(nonce) = getrandom::u64() else { return Finding::skipped(WEBSOCKET, "this system has no randomness") };
    // 16 bytes, as RFC 6455 has it.
    let key = STANDARD.encode([nonce.to_be_bytes(), nonce.to_le_bytes()].concat());
    let mut headers = vec![
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_VERSION, "13".to_owned()),
        (header::SEC_WEBSOCKET_KEY, key.clone()),
    ];
    let signed = config.origin.websocket(STREAM);
    headers.extend(config.auth_tokens.first().map(|token| (SIGNATURE_HEADER, signature::sign(token, &signed, &[]))));
    // The connection is closed as soon as the answer has been read.
    let answer = match ask(client, Method::GET, &config.origin.http(STREAM), &headers, Bytes::new()).await {
        Ok(answer) => answer,
        Err(failure) => return Finding { check: WEBSOCKET, ..unreachable(&signed, &failure) },
    };
    let accept = answer.headers.get(header::SEC_WEBSOCKET_ACCEPT);
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        if accept.is_some_and(|accept| accept.as_bytes() == derive_accept_key(key.as_bytes()).as_bytes()) {
            return Finding::ok(WEBSOCKET, format!("{signed} opens"));
        }
        let found = format!("{signed} opens, but not as a WebSocket");
        let cure = "all of /voice/stream must go to the gateway, and nothing may answer in its place";
        return Finding::failed(WEBSOCKET, found, cure).with_codes(&[31920]);
    }
    refused(WEBSOCKET, &signed, &answer).with_codes(&[31920])
}

/// What to do about a request of Twilio's form that is not taken. A gateway says which problem it has.
fn refused(check: &'static str, url: &str, answer: &Answer) -> Finding {
    let status = answer.status;
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let cure = match (problem["code"].as_str(), status) {
        (Some("signature_invalid"), _) => {
            let checked =
                problem["detail"].as_str().unwrap_or_default().split_whitespace().find(|word| word.contains("://"));
            format!(
                "the running gateway has another TWILIO_AUTH_TOKEN than these settings, or checked another address \
                 ({}): a proxy must not change the path, and TWILIO_VOICE_WEBHOOK_URL must be the public address; \
                 start it again after a change",
                checked.unwrap_or("it does not say which").trim_end_matches(';')
            )
        }
        (Some("account_unknown"), _) => {
            "the running gateway has another TWILIO_ACCOUNT_SID than these settings; start it again".to_owned()
        }
        (Some("websocket_expected" | "handshake_invalid"), _) => {
            "the proxy does not pass the headers Upgrade and Connection on: allow WebSockets on /voice/stream"
                .to_owned()
        }
        (Some("gateway_full"), _) => {
            "the gateway is full or about to stop; ask again later, or raise MAX_CALLS".to_owned()
        }
        (Some(_), _) => "see the gateway's log; is it of the same version as this program?".to_owned(),
        (None, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) => {
            "the gateway did not say that: a proxy, firewall or login before it keeps strangers, and so Twilio, out"
                .to_owned()
        }
        (None, StatusCode::NOT_FOUND) => "the proxy must pass this path on to the gateway".to_owned(),
        (None, _) => {
            "the gateway did not say that: look at the proxy or tunnel before it; it must pass on POST and WebSockets"
                .to_owned()
        }
    };
    Finding::failed(check, format!("{url} answers {status}"), cure)
}

/// Header of Twilio's signature.
const SIGNATURE_HEADER: header::HeaderName = header::HeaderName::from_static("x-twilio-signature");

async fn ask(
    client: &Client,
    method: Method,
    url: &str,
    headers: &[(header::HeaderName, String)],
    body: Bytes,
) -> Result<Answer, Failure> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request =
        request.body(body).map_err(|error| Failure::NotSent { stage: Stage::Address, what: error.to_string() })?;
    client.send(request, REQUEST_LIMIT, Plain::AsConfigured).await
}
