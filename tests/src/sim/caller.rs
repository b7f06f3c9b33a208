//! The call: webhook, TwiML, streams, what comes after them. [`Caller::place`] is the way in.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;
use url::Url;

use super::{
    ActionOutcome, CallPlan, CallReport, Code, Connect, Document, Finding, HttpError, Identity, MediaSocket, Reply,
    StreamReport, Verb, Writer,
    http::request,
    report::Ended,
    status::StatusCallbacks,
    stream::{self, Seam},
};

/// Streams of one call; a gateway that always answers with another must not keep a caller for ever.
const MAX_STREAMS: usize = 3;
/// Documents of one call, for the same reason.
const MAX_DOCUMENTS: usize = 10;

/// Only the first request of a call: the signed voice webhook of `plan` for the call `call_sid`.
pub async fn webhook(plan: &CallPlan, call_sid: &str) -> Result<Reply, HttpError> {
    let url = plan.webhook_url().map_err(|error| HttpError::Url(error.to_string()))?;
    let parameters = plan.parameters(call_sid, "ringing");
    request(&plan.route, "POST", &url, &parameters, &plan.auth_token).await
}

/// One simulated call.
pub struct Caller {
    plan: CallPlan,
    call_sid: String,
    report: CallReport,
    status: StatusCallbacks,
    /// Start of the first stream.
    started: Option<Instant>,
    /// Samples said on streams that have ended.
    said: usize,
    documents: usize,
}

/// What to do next in the TwiML flow.
enum Next {
    Verb,
    Fetch(&'static str, Url),
    End,
}

impl Caller {
    /// A caller with a plan.
    pub fn new(plan: CallPlan) -> Self {
        let call_sid = plan.call_sid.clone().unwrap_or_else(|| sid("CA"));
        Self {
            status: StatusCallbacks::new(&plan, &call_sid),
            report: CallReport { call_sid: call_sid.clone(), ..CallReport::default() },
            call_sid,
            plan,
            started: None,
            said: 0,
            documents: 0,
        }
    }

    /// Places the call and stays until it ends. What goes wrong is in the report.
    pub async fn place(mut self) -> CallReport {
        match self.plan.webhook_url() {
            Ok(url) => self.follow(url).await,
            Err(error) => {
                let text = format!("{} {}: {error}", self.plan.public_url, self.plan.path);
                self.find(Finding::new(Code::HttpRetrievalFailure, text));
            }
        }
        self.report.status_callbacks = self.status.finish().await;
        let ended = &self.plan.progress.ended;
        ended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.report
    }

    /// Fetches a document, does what it says, and so on until the call ends.
    async fn follow(&mut self, webhook: Url) {
        let (mut method, mut url, mut call_status) = ("POST", webhook, "ringing");
        while self.documents < MAX_DOCUMENTS {
            self.documents += 1;
            let Some(document) = self.fetch(method, &url, call_status).await else {
                return;
            };
            call_status = "in-progress";
            match self.run(document, &url).await {
                Next::Fetch(next_method, next) => (method, url) = (next_method, next),
                Next::Verb | Next::End => return,
            }
        }
        let text = format!("gave up after {MAX_DOCUMENTS} documents");
        self.find(Finding::new(Code::HttpRetrievalFailure, text));
    }

    async fn fetch(&mut self, method: &str, url: &Url, call_status: &str) -> Option<Document> {
        let asked = stream::now();
        let parameters = self.plan.parameters(&self.call_sid, call_status);
        let reply = request(&self.plan.route, method, url, &parameters, &self.plan.auth_token).await;
        let is_action = self.documents > 1;
        let mut outcome = ActionOutcome { url: url.to_string(), status: None, verbs: Vec::new() };
        let document = match reply {
            Ok(reply) => {
                outcome.status = Some(reply.status);
                read_document(url, &reply)
            }
            Err(error) => Err(error.finding(url)),
        };
        if let Ok(document) = &document {
            outcome.verbs = document.verbs.iter().map(verb_name).collect();
            if !is_action {
                self.report.timing.webhook_ms = Some(milliseconds(asked.elapsed()));
            }
        }
        if is_action {
            self.report.actions.push(outcome);
        }
        document.map_err(|finding| self.find(finding)).ok()
    }

    async fn run(&mut self, document: Document, url: &Url) -> Next {
        for verb in document.verbs {
            match self.run_verb(verb, url).await {
                Next::Verb => {}
                next @ (Next::Fetch(..) | Next::End) => return next,
            }
        }
        Next::End
    }

    async fn run_verb(&mut self, verb: Verb, url: &Url) -> Next {
        match verb {
            Verb::Connect(connect) => return self.connect(&connect, url).await,
            Verb::Say(words) => self.report.said.push(words),
            Verb::Dial(number) => self.report.dialled.push(number),
            Verb::Hangup => return Next::End,
            Verb::Reject(reason) => {
                self.report.rejected = Some(reason);
                return Next::End;
            }
            Verb::Redirect(to) => return self.resolve("POST", url, &to),
            // Nothing happens on the line in the meantime, so the pause is not lived through.
            Verb::Pause(_) => {}
        }
        Next::Verb
    }

    async fn connect(&mut self, connect: &Connect, url: &Url) -> Next {
        if self.report.streams.len() >= MAX_STREAMS {
            let text = format!("gave up after {MAX_STREAMS} streams");
            self.find(Finding::new(Code::StreamHandshake, text));
            return Next::End;
        }
        let report = self.stream(connect, url).await;
        let ended = report.ended;
        if self.report.streams.is_empty() {
            self.report.timing.handshake_ms = report.handshake_ms;
            self.report.timing.first_media_ms = report.first_media_ms;
        }
        self.report.streams.push(report);
        let quirks = &self.plan.quirks;
        let (goes_on, asks) = match ended {
            Ended::CallerHungUp => (false, quirks.action_after_hangup),
            Ended::Lost | Ended::Violation => (true, quirks.action_after_loss),
            Ended::ServerClosed | Ended::NotConnected => (true, true),
        };
        match &connect.action {
            Some(action) if asks => {
                let method = if connect.method == "GET" { "GET" } else { "POST" };
                self.resolve(method, url, action)
            }
            // The verb has ended all the same; only its action was not asked.
            Some(_) | None if goes_on => Next::Verb,
            Some(_) | None => Next::End,
        }
    }

    async fn stream(&mut self, connect: &Connect, document: &Url) -> StreamReport {
        let noun = &connect.stream;
        let identity = Identity { call_sid: self.call_sid.clone(), ..Identity::random(&self.plan.account_sid) };
        let stream_sid = identity.stream_sid.clone();
        let dialled = match noun.check(document) {
            Ok(dialled) => dialled,
            Err(finding) => {
                self.status.post(noun, &stream_sid, Err(&finding));
                return StreamReport::not_connected(stream_sid, noun.url.clone(), finding);
            }
        };
        let asked = stream::now();
        let plan = &self.plan;
        let connected = MediaSocket::connect(&plan.route, &dialled, &plan.auth_token, &plan.quirks).await;
        let socket = match connected {
            Ok(socket) => socket,
            Err(error) => {
                let finding = error.finding();
                self.status.post(noun, &stream_sid, Err(&finding));
                return StreamReport::not_connected(stream_sid, dialled, finding);
            }
        };
        let handshake = asked.elapsed();
        self.status.post(noun, &stream_sid, Ok("stream-started"));
        let started = *self.started.get_or_insert_with(stream::now);
        let seam = Seam { offset: self.said, elapsed: started.elapsed() };
        let writer = Writer::new(identity, &plan.quirks);
        let mut report = stream::run(plan, socket, writer, &noun.parameters, seam).await;
        report.url = dialled;
        report.handshake_ms = Some(milliseconds(handshake));
        self.said += report.sent.len();
        let failed = report.findings.iter().find(|finding| {
            matches!(report.ended, Ended::Lost | Ended::Violation)
                && matches!(finding.code, Code::StreamBrokenPipe | Code::StreamProtocol)
        });
        match failed {
            Some(finding) => self.status.post(noun, &stream_sid, Err(finding)),
            None => self.status.post(noun, &stream_sid, Ok("stream-stopped")),
        }
        report
    }

    fn resolve(&mut self, method: &'static str, base: &Url, target: &str) -> Next {
        match base.join(target) {
            Ok(url) => Next::Fetch(method, url),
            Err(error) => {
                let text = format!("{target:?}: {error}");
                self.find(Finding::new(Code::HttpRetrievalFailure, text));
                Next::End
            }
        }
    }

    fn find(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }
}

fn read_document(url: &Url, reply: &Reply) -> Result<Document, Finding> {
    if !(200..300).contains(&reply.status) {
        let text = format!("{url} answered with {}", reply.status);
        return Err(Finding::new(Code::HttpRetrievalFailure, text));
    }
    let content_type = reply.content_type.split(';').next().unwrap_or_default();
    if !["text/xml", "application/xml", "text/html"].contains(&content_type.trim()) {
        let text = format!("{url} answered with content type {:?}", reply.content_type);
        return Err(Finding::new(Code::InvalidContentType, text));
    }
    Document::parse(&reply.body).map_err(|error| error.finding())
}

fn verb_name(verb: &Verb) -> String {
    match verb {
        Verb::Connect(_) => "Connect",
        Verb::Say(_) => "Say",
        Verb::Dial(_) => "Dial",
        Verb::Hangup => "Hangup",
        Verb::Reject(_) => "Reject",
        Verb::Redirect(_) => "Redirect",
        Verb::Pause(_) => "Pause",
    }
    .to_owned()
}

impl Identity {
    /// A new call and stream of the account.
    pub fn random(account_sid: &str) -> Self {
        Self { account_sid: account_sid.to_owned(), call_sid: sid("CA"), stream_sid: sid("MZ") }
    }
}

/// A random identifier: two letters and 32 hexadecimal digits.
fn sid(prefix: &str) -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{prefix}{:016x}{:016x}", random(), random())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
