//! A function of the user's: an HTTP request that the agents file declares.
//!
//! Addresses of private networks are allowed: the file is the operator's own. Redirects are not followed, so that secrets
//! go nowhere else. A function with side effects is carried through once it has begun, whatever becomes of the call.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};
use telemetry::Sensitive;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use url::form_urlencoded;

use super::{
    About, Outcome, Tool, Working,
    address::{Address, plain},
    failure,
};
use crate::{
    agent::{Verdict, text::Text},
    provider::{Fault, ToolSpec, http::Client},
};

/// Most of an answer that is told to the model, in bytes; of a longer one nothing is.
const MAX_ANSWER_BYTES: usize = 32 << 10;

/// Most of an answer that says it failed which is told to the model, in bytes.
const MAX_ERROR_BYTES: usize = 2 << 10;

/// What is asked of whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// What the model is told of it.
    pub spec: ToolSpec,
    /// Where it is.
    pub(crate) url: Address,
    /// How it is asked.
    pub method: Method,
    /// Headers beside those of the call; secrets among them.
    pub headers: Vec<(HeaderName, Sensitive<HeaderValue>)>,
    /// Where arguments go that have no place in the address.
    pub body: Sends,
    /// What of the call is sent along.
    pub share: Vec<Shared>,
    /// From the beginning to the last byte of the answer.
    pub limit: Duration,
    /// What is said meanwhile.
    pub filler: Option<Text>,
    /// It only looks things up: it may be called for an answer that nobody hears.
    pub safe: bool,
}

/// Where arguments go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sends {
    /// Those without a place in the address, into its query.
    Query,
    /// All, as a JSON object.
    Json,
    /// All, as a form.
    Form,
}

/// Something about the call that is sent along, as a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// `Tandem-Call-Id`: the carrier's id of the call.
    CallId,
    /// `Tandem-From`: the caller.
    From,
    /// `Tandem-To`: the called number.
    To,
    /// `Tandem-Parameter-NAME`: a parameter of the call, where it has one of that name.
    Parameter(String),
}

/// The same, and who asks.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) function: Function,
    pub(super) client: Client,
}

impl Tool for Asking {
    fn spec(&self) -> ToolSpec {
        self.function.spec.clone()
    }

    fn is_safe(&self) -> bool {
        self.function.safe
    }

    fn filler(&self, about: &About) -> Option<String> {
        self.function.filler.as_ref().map(|filler| filler.fill(about.parameters.expose()))
    }

    fn call(&self, arguments: Map<String, Value>, about: &About) -> Working {
        let (client, safe, limit) = (self.client.clone(), self.function.safe, self.function.limit);
        let request = match self.function.request(&arguments, about) {
            Ok(request) => request,
            Err(what) => return Box::pin(async move { Outcome::Fail(Verdict::Invalid, failure(what)) }),
        };
        Box::pin(async move {
            let runtime = client.runtime().clone();
            let asking = async move {
                let answer = timeout(limit, ask(&client, request, safe)).await;
                answer.unwrap_or_else(|_| {
                    let told = failure("it did not answer in time; whether it was done is not known");
                    Outcome::Fail(Verdict::Timeout, told)
                })
            };
            let task = runtime.spawn(asking);
            // A look-up that nobody waits for is given up; what does something is carried through.
            let ended = if safe { AbortOnDropHandle::new(task).await } else { task.await };
            ended.unwrap_or_else(|_| Outcome::Fail(Verdict::Unreachable, failure("it could not be asked")))
        })
    }
}

impl Function {
    fn request(&self, arguments: &Map<String, Value>, about: &About) -> Result<Request<Full<Bytes>>, &'static str> {
        let address = self.url.fill(arguments, self.body == Sends::Query)?;
        let uri: Uri = address.parse().map_err(|_| "the arguments are too long for an address")?;
        let (kind, body) = match self.body {
            Sends::Query => (None, String::new()),
            Sends::Json => (Some("application/json"), Value::Object(arguments.clone()).to_string()),
            Sends::Form => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.extend_pairs(arguments.iter().map(|(name, value)| (name, plain(value))));
                (Some("application/x-www-form-urlencoded"), form.finish())
            }
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/plain;q=0.9"));
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (name, value) in self.share.iter().filter_map(|shared| shared.header(about)) {
            headers.insert(name, value);
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.expose().clone());
        }
        Ok(request)
    }
}

impl Shared {
    fn header(&self, about: &About) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::CallId => ("tandem-call-id".to_owned(), about.call_id.as_str()),
            Self::From => ("tandem-from".to_owned(), about.from.expose().as_str()),
            Self::To => ("tandem-to".to_owned(), about.to.expose().as_str()),
            Self::Parameter(name) => {
                (format!("tandem-parameter-{name}"), about.parameters.expose().get(name)?.as_str())
            }
        };
        // Plain ASCII goes as it is; the rest, and what stands for it, by its bytes.
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
        let value: String = value
            .bytes()
            .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect();
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name.parse().ok()?, value))
    }
}

async fn ask(client: &Client, request: Request<Full<Bytes>>, safe: bool) -> Outcome {
    let mut answer = client.send(request.clone()).await;
    // Mostly a kept connection that its server had closed. What does something is not done twice.
    if safe && answer.as_ref().is_err_and(|error| error.kind == Fault::Unreachable) {
        answer = client.send(request).await;
    }
    let (head, mut body) = match answer {
        Ok(answer) => answer.into_parts(),
        Err(error) => {
            tracing::debug!(%error, "a tool cannot be reached");
            return Outcome::Fail(
                Verdict::Unreachable,
                failure("it cannot be reached; whether it was done is not known"),
            );
        }
    };
    let most = if head.status.is_success() { MAX_ANSWER_BYTES } else { MAX_ERROR_BYTES };
    let (mut whole, mut is_cut) = (Vec::new(), false);
    // A longer answer ends with its connection, as this function returns.
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let told = failure("its answer broke off; it may have been done all the same");
            return Outcome::Fail(Verdict::Unreachable, told);
        };
        let Ok(bytes) = frame.into_data() else { continue };
        whole.extend_from_slice(&bytes);
        if whole.len() > most {
            whole.truncate(most);
            is_cut = true;
            break;
        }
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    read(head.status, kind, &whole, is_cut)
}

/// What an answer means; `is_cut` when there was more of it than may be told.
fn read(status: StatusCode, kind: &str, body: &[u8], is_cut: bool) -> Outcome {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_page = kind == "text/html" || kind == "application/xhtml+xml";
    if !status.is_success() {
        let mut told = json!({"error": format!("it failed with HTTP {}", status.as_u16()), "status": status.as_u16()});
        if status.is_redirection() {
            told["error"] = "it answered with a redirect, which is not followed".into();
        }
        // What it says of the failure helps to put it right; a page does not.
        let text = if is_cut {
            String::from_utf8_lossy(body).into_owned()
        } else {
            String::from_utf8(body.to_vec()).unwrap_or_default()
        };
        if !is_page && !text.trim().is_empty() {
            told["answer"] = serde_json::from_str(&text).unwrap_or(Value::String(text));
        }
        return Outcome::Fail(Verdict::Failed, told.to_string());
    }
    let unusable = |what: &str| Outcome::Fail(Verdict::Unusable, failure(what));
    if is_cut {
        return unusable("it was done, but its answer is too large to read: more than 32 KiB");
    }
    if is_page {
        return unusable("it answered with a web page instead of data");
    }
    match std::str::from_utf8(body).map(str::trim) {
        Ok("") => Outcome::Answer(json!({"ok": "done, without an answer"}).to_string()),
        Ok(text) => Outcome::Answer(text.to_owned()),
        Err(_) => unusable("it was done, but its answer is no text"),
    }
}

#[cfg(test)]
mod tests;
