//! The call: webhook, TwiML, streams, what comes after them. [`Caller::place`] is the way in, for calls in both directions.

mod away;

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;
use url::Url;

use super::{
    ActionOutcome, CallPlan, CallReport, Code, Connect, Direction, Document, Finding, HttpError, Identity,
    Instructions, MediaSocket, Method, Order, Orders, Reply, StreamReport, Verb, Writer,
    events::{CallEnd, CallEvents, Delivery},
    http::request,
    report::Ended,
    status::StatusCallbacks,
    stream::{self, Seam},
};

/// Streams of one call; a gateway that always answers with another must not keep a caller for ever.
const MAX_STREAMS: usize = 3;
/// Documents of one call, for the same reason. Both are counted anew when the REST API gives other TwiML.
const MAX_DOCUMENTS: usize = 10;
/// Stands for the address of TwiML that was given as text: nothing is relative to it.
const NO_BASE: &str = "twiml:text";

/// Only the first request of a call: the signed voice webhook of `plan` for the call `call_sid`.
pub async fn webhook(plan: &CallPlan, call_sid: &str) -> Result<Reply, HttpError> {
    let url = plan.webhook_url().map_err(|error| HttpError::Url(error.to_string()))?;
    let parameters = plan.parameters(call_sid, "ringing");
    request(&plan.route, Method::Post, &url, &parameters, &plan.auth_token).await
}

/// One simulated call.
pub struct Caller {
    plan: CallPlan,
    call_sid: String,
    report: CallReport,
    status: StatusCallbacks,
    orders: Orders,
    /// Start of the first stream.
    started: Option<Instant>,
    /// Samples said on streams that have ended.
    said: usize,
    fetched: usize,
    /// Documents and streams since the beginning, or since the REST API last gave other TwiML.
    documents: usize,
    streams: usize,
}

/// What to do next in the TwiML flow.
enum Next {
    Verb,
    Document(Instructions),
    Ordered(Instructions),
    End,
}

impl From<Order> for Next {
    fn from(order: Order) -> Self {
        match order {
            Order::HangUp => Self::End,
            Order::Replace(instructions) => Self::Ordered(instructions),
        }
    }
}

impl Caller {
    /// A caller with a plan.
    pub fn new(plan: CallPlan) -> Self {
        Self::steered(plan, Orders::default())
    }

    /// A caller with a plan, whose call the REST API can change while it lasts.
    pub fn steered(plan: CallPlan, orders: Orders) -> Self {
        let call_sid = plan.call_sid.clone().unwrap_or_else(|| sid("CA"));
        Self {
            status: StatusCallbacks::new(&plan, &call_sid),
            report: CallReport { call_sid: call_sid.clone(), ..CallReport::default() },
            call_sid,
            plan,
            orders,
            started: None,
            said: 0,
            fetched: 0,
            documents: 0,
            streams: 0,
        }
    }

    /// Places the call and stays until it ends. What goes wrong is in the report.
    pub async fn place(mut self) -> CallReport {
        let began = stream::now();
        match self.first() {
            Ok(instructions) => self.follow(instructions).await,
            Err(error) => {
                let text = format!("{} {}: {error}", self.plan.public_url, self.plan.path);
                self.find(Finding::new(Code::HttpRetrievalFailure, text));
            }
        }
        self.report.status_callbacks = self.status.finish().await;
        self.report.call_callbacks = self.tell_the_end(began.elapsed()).await;
        let ended = &self.plan.progress.ended;
        ended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.report
    }

    fn first(&self) -> Result<Instructions, url::ParseError> {
        match &self.plan.instructions {
            Some(instructions) => Ok(instructions.clone()),
            None => Ok(Instructions::fetch(Method::Post, self.plan.webhook_url()?)),
        }
    }

    /// Runs a document, what it leads to, and so on until the call ends.
    async fn follow(&mut self, first: Instructions) {
        let (mut instructions, mut fallback) = (first, self.plan.fallback.take());
        while self.documents < MAX_DOCUMENTS {
            self.documents += 1;
            let found = self.document(&instructions).await;
            let next = match found {
                Ok((document, url)) => self.run(document, &url).await,
                Err(finding) => {
                    let failed = fallback.take().map(|asked| with_error(asked, &finding, &instructions));
                    self.find(finding);
                    failed.map_or(Next::End, Next::Document)
                }
            };
            match next {
                Next::Document(next) => instructions = next,
                // Not the beginning, but as good as that.
                Next::Ordered(next) => (instructions, self.documents, self.streams) = (next, 1, 0),
                Next::Verb | Next::End => return,
            }
        }
        let text = format!("gave up after {MAX_DOCUMENTS} documents");
        self.find(Finding::new(Code::HttpRetrievalFailure, text));
    }

    async fn document(&mut self, instructions: &Instructions) -> Result<(Document, Url), Finding> {
        match instructions {
            Instructions::Fetch { method, url, parameters } => {
                Ok((self.fetch(*method, url, parameters).await?, url.clone()))
            }
            Instructions::Twiml(text) => {
                let document = Document::parse(text).map_err(|error| error.finding())?;
                let base = Url::parse(NO_BASE)
                    .map_err(|error| Finding::new(Code::HttpRetrievalFailure, format!("{NO_BASE}: {error}")))?;
                Ok((document, base))
            }
        }
    }

    async fn fetch(&mut self, method: Method, url: &Url, more: &[(String, String)]) -> Result<Document, Finding> {
        let asked = stream::now();
        let rings = self.documents == 1 && self.plan.direction == Direction::Inbound;
        let mut parameters = self.plan.parameters(&self.call_sid, if rings { "ringing" } else { "in-progress" });
        parameters.extend_from_slice(more);
        let reply = request(&self.plan.route, method, url, &parameters, &self.plan.auth_token).await;
        self.fetched += 1;
        let is_action = self.fetched > 1;
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
        document
    }

    async fn run(&mut self, document: Document, url: &Url) -> Next {
        for verb in document.verbs {
            if let Some(order) = self.orders.try_next() {
                return order.into();
            }
            match self.run_verb(verb, url).await {
                Next::Verb => {}
                next @ (Next::Document(_) | Next::Ordered(_) | Next::End) => return next,
            }
        }
        Next::End
    }

    async fn run_verb(&mut self, verb: Verb, url: &Url) -> Next {
        match verb {
            Verb::Connect(connect) => return self.connect(&connect, url).await,
            Verb::Say(words) => self.report.said.push(words),
            Verb::Dial(dial) => return self.dial(dial, url).await,
            Verb::Enqueue(enqueue) => return self.enqueue(enqueue).await,
            Verb::Hangup => return Next::End,
            Verb::Reject(reason) => {
                self.report.rejected = Some(reason);
                return Next::End;
            }
            Verb::Redirect(redirect) => return self.resolve(redirect.method, url, &redirect.to, Vec::new()),
            Verb::Pause(seconds) => return self.wait(Duration::from_secs(seconds.into())).await,
        }
        Next::Verb
    }

    async fn connect(&mut self, connect: &Connect, url: &Url) -> Next {
        if self.streams >= MAX_STREAMS {
            let text = format!("gave up after {MAX_STREAMS} streams");
            self.find(Finding::new(Code::StreamHandshake, text));
            return Next::End;
        }
        self.streams += 1;
        let (report, order) = self.stream(connect, url).await;
        let ended = report.ended;
        if self.report.streams.is_empty() {
            self.report.timing.handshake_ms = report.handshake_ms;
            self.report.timing.first_media_ms = report.first_media_ms;
        }
        self.report.streams.push(report);
        if let Some(order) = order {
            return order.into();
        }
        let quirks = &self.plan.quirks;
        let (goes_on, asks) = match ended {
            Ended::CallerHungUp | Ended::CallUpdated => (false, quirks.action_after_hangup),
            Ended::Lost | Ended::Violation => (true, quirks.action_after_loss),
            Ended::ServerClosed | Ended::NotConnected => (true, true),
        };
        match &connect.action {
            Some(action) if asks => self.resolve(connect.method, url, action, Vec::new()),
            // The verb has ended all the same; only its action was not asked.
            Some(_) | None if goes_on => Next::Verb,
            Some(_) | None => Next::End,
        }
    }

    async fn stream(&mut self, connect: &Connect, document: &Url) -> (StreamReport, Option<Order>) {
        let noun = &connect.stream;
        let identity = Identity { call_sid: self.call_sid.clone(), ..Identity::random(&self.plan.account_sid) };
        let stream_sid = identity.stream_sid.clone();
        let dialled = match noun.check(document) {
            Ok(dialled) => dialled,
            Err(finding) => {
                self.status.post(noun, &stream_sid, Err(&finding));
                return (StreamReport::not_connected(stream_sid, noun.url.clone(), finding), None);
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
                return (StreamReport::not_connected(stream_sid, dialled, finding), None);
            }
        };
        let handshake = asked.elapsed();
        self.status.post(noun, &stream_sid, Ok("stream-started"));
        let started = *self.started.get_or_insert_with(stream::now);
        let turns = self.report.streams.iter().map(|stream| stream.turns_ms.len()).sum();
        let seam = Seam { offset: self.said, turns, elapsed: started.elapsed() };
        let writer = Writer::new(identity, &self.plan.quirks);
        let (mut report, order) = stream::run(plan, socket, writer, &noun.parameters, seam, &mut self.orders).await;
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
        (report, order)
    }

    fn resolve(&mut self, method: Method, base: &Url, target: &str, parameters: Vec<(String, String)>) -> Next {
        match base.join(target) {
            Ok(url) => Next::Document(Instructions::Fetch { method, url, parameters }),
            Err(error) => {
                let text = format!("{target:?}: {error}");
                self.find(Finding::new(Code::HttpRetrievalFailure, text));
                Next::End
            }
        }
    }

    /// Tells the status callback of the number that the call has ended; the outcomes.
    async fn tell_the_end(&mut self, lasted: Duration) -> Vec<(String, Option<u16>)> {
        let Some(target) = self.plan.status_callback.take() else {
            return Vec::new();
        };
        let status = match self.report.rejected.as_deref() {
            Some("busy") => "busy",
            Some(_) => "no-answer",
            None => "completed",
        };
        let end = CallEnd { status, lasted };
        let mut events = CallEvents::new(&self.plan, &self.call_sid, Delivery::InOrder);
        events.completed(&target, &end);
        events.finish().await
    }

    fn find(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }
}

/// The fallback for a document that could not be had or read.
fn with_error((method, url): (Method, Url), finding: &Finding, failed: &Instructions) -> Instructions {
    let mut parameters = vec![("ErrorCode".to_owned(), finding.code.number().to_string())];
    if let Instructions::Fetch { url, .. } = failed {
        parameters.push(("ErrorUrl".to_owned(), url.to_string()));
    }
    Instructions::Fetch { method, url, parameters }
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
        Verb::Enqueue(_) => "Enqueue",
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
pub(super) fn sid(prefix: &str) -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{prefix}{:016x}{:016x}", random(), random())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
