//! The trace of a call over both services, as a collector gets it. Each service is a process of its own here, with its own
//! way to the collector, as it is when it serves.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, helpers included; an agent does nothing about the rest"
)]

#[path = "support/collector.rs"]
mod collector;

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use collector::{Collector, Seen};
use proto::agent::v1::converse_request::Message as Told;
use serde_json::json;
use tests::{
    calls_api::ApiClient,
    line::{Invitation, Line},
    pair::{DEVELOPMENT_TOKEN, DEVELOPMENT_URL, PairProcesses, PairSettings},
    remote::{RemoteAgent, end_utterance, hangup, pcm},
    secrets::Secrets,
    signal::tone,
    sim::{
        CallPlan, Route,
        rest::{self, Exchange, Fault, Gateway, Mishap, Rate, RestPlan},
    },
    stack::eventually,
    talk::{Phone, recorded},
};

const FROM: &str = "+15550147";
const TO: &str = "+15550148";
const API_TOKEN: &str = "token-of-the-calls-api-test";
const SECRET: &str = "Bearer the-collectors-secret";

/// How long a service may take to end: two seconds for its last spans, and as much for a slow machine.
const STOP_LIMIT: Duration = Duration::from_secs(4);

/// Both services, and where they log.
struct Pair {
    processes: PairProcesses,
    logs: PathBuf,
}

impl Pair {
    async fn start(environment: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let logs = std::env::temp_dir().join(format!("tandem-traces-{}-{number}", std::process::id()));
        let common = [("SHARDS", "1"), ("DRAIN_SECONDS", "0"), ("LOG_FORMAT", "json"), ("RUST_LOG", "info")];
        let environment = common.iter().chain(environment).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let settings = PairSettings {
            gateway: env!("CARGO_BIN_EXE_gateway-of-tests").into(),
            worker: env!("CARGO_BIN_EXE_worker-of-tests").into(),
            logs: logs.clone(),
            environment,
            ..PairSettings::beside_current().unwrap()
        };
        Self { processes: PairProcesses::start(&settings).await.unwrap(), logs }
    }

    fn plan(&self) -> CallPlan {
        CallPlan { from: FROM.into(), to: TO.into(), ..self.processes.call_plan().unwrap() }
    }

    fn log(&self) -> String {
        read(&self.logs)
    }

    /// The line of the log with this message.
    fn line(&self, message: &str) -> serde_json::Value {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut found = lines.filter(|line| line["message"] == message);
        found.next().unwrap_or_else(|| panic!("{message} is not in\n{log}"))
    }

    /// Ends both, in time. What they logged.
    async fn stop(self) -> String {
        let Self { processes, logs } = self;
        let (gateway, worker) = processes.stop(STOP_LIMIT).await.unwrap();
        assert!(gateway.success() && worker.success(), "gateway {gateway}, worker {worker}");
        let log = read(&logs);
        fs::remove_dir_all(&logs).unwrap();
        log
    }
}

fn read(logs: &Path) -> String {
    ["gateway", "worker"].map(|name| fs::read_to_string(logs.join(format!("{name}.log"))).unwrap()).concat()
}

/// One call that comes in, is echoed, hangs up, and is asked after. Its CallSid and ticket.
async fn call_in(plan: &CallPlan) -> (String, String) {
    let invitation = Invitation::ask(plan).await;
    let ticket = invitation.ticket().to_owned();
    let mut line = Line::open(plan, invitation).await;
    line.start().await;
    line.assert_echoes().await;
    line.hang_up().await;
    line.after().await;
    (line.call_sid().to_owned(), ticket)
}

/// The only span of this name.
fn one<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "spans {name} in {spans:#?}");
    found[0]
}

fn assert_one_trace(spans: &[Seen]) -> String {
    let traces: BTreeSet<_> = spans.iter().map(|span| span.trace.clone()).collect();
    assert_eq!(traces.len(), 1, "{spans:#?}");
    traces.into_iter().next().unwrap()
}

fn assert_private(text: &str, more: &[&str]) {
    let mut secrets = Secrets::default();
    for number in [FROM, TO, OURS] {
        secrets.add_number("a number", number);
    }
    for secret in [DEVELOPMENT_TOKEN, API_TOKEN, SECRET].iter().chain(more) {
        secrets.add("a secret", secret);
    }
    assert_eq!(secrets.leaks(text), [""; 0]);
}

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

#[tokio::test]
async fn a_call_that_comes_in_is_one_trace_over_both_services() {
    let collector = Collector::start().await;
    let pair = Pair::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
        ("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={}", SECRET.replace(' ', "%20"))),
        // Longer than the test: the last spans leave when the services end.
        ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
        // The log is wide open, that of the exporter's own connection as well.
        ("RUST_LOG", "trace"),
    ])
    .await;
    let (call_sid, ticket) = call_in(&pair.plan()).await;
    eventually("the conversation has ended", async || pair.log().contains("conversation ended")).await;
    assert_eq!(collector.spans().len(), 0);
    let lines = ["call began", "call ended", "conversation began", "conversation ended"].map(|what| pair.line(what));
    let log = pair.stop().await;

    let spans = collector.spans();
    let trace = assert_one_trace(&spans);
    assert!(log.contains("\"target\":\"h2::") && !log.contains("tandem::trace"), "{log:.2000}");
    assert_private(&log, &[&ticket, &ticket[20..60]]);
    for line in lines {
        assert_eq!(line["trace_id"], trace, "{line}");
    }
    assert!(collector.authorization().iter().all(|header| header == SECRET));
    assert_private(&format!("{spans:?}"), &[&ticket, &ticket[20..60]]);
    let webhook = one(&spans, "POST /voice/incoming");
    let stream = one(&spans, "stream");
    let conversation = one(&spans, "conversation");
    let utterance = one(&spans, "utterance");
    let after = one(&spans, "POST /voice/after");
    assert_eq!(spans.len(), 5, "{spans:#?}");
    for (span, parent, kind, service) in [
        (webhook, "", SERVER, "tandem-gateway"),
        (stream, webhook.id.as_str(), SERVER, "tandem-gateway"),
        (after, &webhook.id, SERVER, "tandem-gateway"),
        (conversation, &stream.id, SERVER, "tandem-worker"),
        (utterance, &conversation.id, 1, "tandem-worker"),
    ] {
        assert_eq!((span.parent.as_str(), span.kind, span.service.as_str()), (parent, kind, service), "{span:#?}");
        assert!(!span.is_error, "{span:#?}");
    }
    for span in [webhook, after] {
        assert_eq!((span.get("call_sid"), span.number("http.response.status_code")), (call_sid.as_str(), 200));
    }
    assert_eq!((webhook.get("http.route"), webhook.get("agent")), ("/voice/incoming", "echo"));
    assert!(stream.get("call_id").starts_with("call_") && stream.get("call_id") == webhook.get("call_id"));
    assert_eq!((stream.get("call_sid"), stream.get("agent")), (call_sid.as_str(), "echo"));
    assert_eq!((stream.get("direction"), stream.get("end_reason")), ("inbound", "caller_hangup"));
    assert!(stream.number("caller_frames") == 50 && stream.number("agent_frames") > 40, "{stream:#?}");
    assert!(stream.ns > 900_000_000 && conversation.ns > 900_000_000, "{stream:#?} {conversation:#?}");
    for name in ["first_media_ms", "worker_open_ms", "gap_ms", "dropped_caller_ms", "caller_lag_peak_ms"] {
        assert!((0..10_000).contains(&stream.number(name)), "{name} of {stream:#?}");
    }
    assert_eq!((conversation.get("call_id"), conversation.get("end_reason")), (call_sid.as_str(), "closed"));
    assert_eq!((conversation.number("heard_ms"), conversation.number("utterances")), (1000, 1));
    assert_eq!(conversation.number("said_ms"), utterance.number("sent_ms"));
    assert!(conversation.number("interrupts") == 0 && conversation.number("late_peak_ms") >= 0);
}

const OURS: &str = "+15550199";

#[tokio::test]
async fn a_call_that_is_placed_is_one_trace_from_the_request_for_it() {
    let collector = Collector::start().await;
    let throttled = Fault::on_create(Mishap::TooMany { retry_after: Some(Duration::from_millis(1)) });
    let plan = RestPlan { rate: Rate::UNLIMITED, faults: vec![throttled], ..RestPlan::new(DEVELOPMENT_TOKEN) };
    let exchange = Exchange::start(plan).await.unwrap();
    let pair = Pair::start(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.url()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_SERVICE_NAME", "named"),
        ("API_TOKENS", API_TOKEN),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000000"),
        ("TWILIO_PHONE_NUMBER", OURS),
        ("TWILIO_API_URL", &exchange.api_url()),
        ("OUTBOUND_ALLOW", "+1555"),
    ])
    .await;
    let gateway = pair.processes.addresses().gateway;
    exchange.set_gateway(Gateway { route: Route::Tcp(gateway), public_url: DEVELOPMENT_URL.parse().unwrap() });
    exchange.set_line(None, rest::Line { hangup_after: Some(Duration::from_secs(1)), ..rest::Line::default() });
    let api = ApiClient { gateway, token: API_TOKEN.into() };
    let placed = api.post("/v1/calls", &json!({"to": TO, "agent": "echo"})).await;
    assert_eq!(placed.status, 201, "{}", placed.json);
    let (id, call_sid) = (placed.text("id"), placed.text("call_sid"));
    exchange.wait_for_call(|call| call.sid == call_sid && call.is_settled).await.expect("the call ends");
    // They come by themselves, without waiting for the end.
    collector.wait_for("conversation", 1).await;
    pair.stop().await;
    exchange.stop().await;

    let spans = collector.spans();
    assert_one_trace(&spans);
    assert_private(&format!("{spans:?}"), &[]);
    let place = one(&spans, "place call");
    let answered = one(&spans, "POST /voice/outbound/{id}");
    let stream = one(&spans, "stream");
    for (name, parent) in [
        ("place call", ""),
        ("wait for turn", &place.id),
        ("POST /voice/outbound/{id}", &place.id),
        ("stream", &answered.id),
        ("conversation", &stream.id),
    ] {
        let span = one(&spans, name);
        assert!(span.parent == parent && span.service == "named" && !span.is_error, "{span:#?}");
    }
    assert_eq!((place.get("call_id"), place.get("call_sid"), place.get("outcome")), (id, call_sid, "placed"));
    assert_eq!((answered.get("call_id"), stream.get("call_id")), (id, id));
    assert_eq!((stream.get("direction"), stream.get("agent")), ("outbound", "echo"));
    let mut requests: Vec<_> = spans.iter().filter(|span| span.name == "POST Calls.json").collect();
    requests.sort_by_key(|span| span.number("http.request.resend_count"));
    let seen = requests.iter().map(|span| (span.number("http.response.status_code"), span.get("error.type")));
    assert_eq!(seen.collect::<Vec<_>>(), [(429, "twilio_throttled"), (201, "")], "{requests:#?}");
    for request in requests {
        assert_eq!((request.parent.as_str(), request.kind), (place.id.as_str(), CLIENT));
        assert_eq!(request.get("url.template"), "/2010-04-01/Accounts/{AccountSid}/Calls.json");
    }
}

#[tokio::test]
async fn a_turn_that_a_remote_agent_answers_has_a_span_with_its_stages() {
    let agent = RemoteAgent::start(|told| match told {
        Told::Turn(_) => vec![pcm(1, 8000, &tone(440.0, 8000, 4000)), end_utterance(), hangup(true)],
        _ => Vec::new(),
    });
    let agent = agent.await.unwrap();
    let file = std::env::temp_dir().join(format!("tandem-traces-agents-{}.toml", std::process::id()));
    fs::write(&file, format!("[agent.mine]\nkind = \"remote\"\nurl = \"{}\"\n", agent.url())).unwrap();
    let collector = Collector::start().await;
    let pair = Pair::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()),
        ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
        ("AGENTS_FILE", file.to_str().unwrap()),
        ("DEFAULT_AGENT", "mine"),
    ])
    .await;
    let mut phone = Phone::dial(&pair.plan()).await.unwrap();
    phone.say_all(&recorded()[0]).await.unwrap();
    phone.until("the end", Duration::from_secs(20), |log| log.closed.is_some()).await.unwrap();
    eventually("the conversation has ended", async || pair.log().contains("conversation ended")).await;
    pair.stop().await;
    fs::remove_file(&file).unwrap();

    let spans = collector.spans();
    let trace = assert_one_trace(&spans);
    let (conversation, turn) = (one(&spans, "conversation"), one(&spans, "turn"));
    assert_eq!((&turn.parent, turn.get("forgotten")), (&conversation.id, ""), "{turn:#?}");
    for name in ["agent", "playback"] {
        assert_eq!(one(&spans, name).parent, turn.id);
    }
    assert!(turn.number("endpoint_ms") > 0 && turn.number("first_sent_ms") >= turn.number("endpoint_ms"), "{turn:#?}");
    // The agent goes on with the same trace.
    let told = agent.metadata()[0].get("traceparent").unwrap().to_str().unwrap().to_owned();
    assert_eq!((&told[3..35], &told[36..52]), (trace.as_str(), conversation.id.as_str()));
}

/// Calls with no trace, however that comes about.
#[tokio::test]
async fn where_traces_are_off_nothing_leaves_and_calls_go_on() {
    let collector = Collector::start().await;
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "always_off")] {
        let pair = Pair::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()), off]).await;
        call_in(&pair.plan()).await;
        eventually("the conversation has ended", async || pair.log().contains("conversation ended")).await;
        for what in ["call began", "call ended", "conversation began", "conversation ended"] {
            let line = pair.line(what);
            assert!(line.get("trace_id").is_none(), "{line}");
        }
        pair.stop().await;
    }
    assert_eq!((collector.spans().len(), collector.authorization().len()), (0, 0));
}

#[tokio::test]
async fn a_collector_that_is_away_or_hangs_costs_no_call_and_holds_nobody_up() {
    // The kernel takes connections; nobody ever reads them.
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs_at = hangs.local_addr().unwrap();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [away, hangs_at] {
        let pair = Pair::start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}")),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "2"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
        ])
        .await;
        for _ in 0..2 {
            call_in(&pair.plan()).await;
        }
        if address == away {
            let told = "the collector does not take traces";
            eventually("it is told", async || pair.log().contains(told)).await;
        }
        pair.stop().await;
    }
    drop(hangs);
}

#[tokio::test]
async fn what_the_stream_says_of_its_trace_is_believed_of_our_own_twiml_only() {
    let collector = Collector::start().await;
    let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()), ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned())];
    let forged = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (require_ticket, said, is_believed) in
        [("true", "garbage \u{1f600}", false), ("false", forged, false), ("true", forged, true)]
    {
        let mut environment: Vec<_> = traced.iter().map(|(name, value)| (*name, value.as_str())).collect();
        environment.push(("REQUIRE_TICKET", require_ticket));
        let pair = Pair::start(&environment).await;
        let plan = pair.plan();
        let invitation = Invitation::ask(&plan).await;
        let mut parameters = invitation.connect.stream.parameters.clone();
        let ours = parameters.iter_mut().find(|(name, _)| name == "traceparent").unwrap();
        assert!(ours.1.starts_with("00-") && ours.1.ends_with("-01"), "{ours:?}");
        ours.1 = said.to_owned();
        let mut line = Line::open(&plan, invitation).await;
        line.start_with(&parameters).await;
        line.assert_echoes().await;
        line.hang_up().await;
        let call_sid = line.call_sid().to_owned();
        pair.stop().await;
        let spans: Vec<_> = collector.spans();
        let of_call = |name: &str| {
            let found = spans.iter().find(|span| span.name == name && span.get("call_sid") == call_sid);
            found.unwrap_or_else(|| panic!("no {name} of {call_sid} in {spans:#?}"))
        };
        let (webhook, stream) = (of_call("POST /voice/incoming"), of_call("stream"));
        let forged_parent = stream.trace == forged[3..35] && stream.parent == forged[36..52];
        assert_eq!(forged_parent, is_believed, "{stream:#?}");
        assert!(is_believed || (&stream.parent, &stream.trace) == (&webhook.id, &webhook.trace), "{stream:#?}");
    }
}
