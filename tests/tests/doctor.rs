//! `gateway doctor` in front of good and bad set-ups: what it notices, what it says, and what it keeps to itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use gateway::{
    Config,
    config::SETTINGS,
    doctor::{Outcome, Report, examine},
};
use serde_json::{Value, json};
use telemetry::settings::Values;
use tests::stack::{AUTH_TOKEN, Stack, StackPlan};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

const NUMBER: &str = "+15550100";
const SECRET: &str = "a-secret-of-the-api-key";

#[tokio::test]
async fn a_good_set_up_is_healthy() {
    let site = Site::start(StackPlan::default()).await;
    let report = site.examine(&[]).await;
    assert!(report.is_healthy(), "{report}");
    let checks: Vec<_> = report.findings().iter().map(|finding| (finding.check, finding.outcome)).collect();
    let names = ["settings", "credentials", "clock", "number", "public address", "signature", "websocket", "worker"];
    assert_eq!(checks, names.map(|name| (name, Outcome::Ok)));
    assert!(report.to_string().contains("asked from this machine"), "{report}");
    assert_eq!(report.json()["healthy"], true);
    site.stop().await;
}

#[tokio::test]
async fn what_twilio_says_is_understood() {
    let site = Site::start(StackPlan::default()).await;
    let origin = site.origin();

    site.twilio.answers(401, json!({"code": 20003, "message": "Authenticate"}), 0, Value::Null);
    assert_failed(&site.examine(&[]).await, "credentials", &[20003], "TWILIO_API_SECRET");

    site.twilio.answers(200, json!({"calls": []}), 3600, number(&format!("{origin}/voice/incoming")));
    assert_failed(&site.examine(&[]).await, "clock", &[], "time server");

    site.twilio.answers(200, json!({"calls": []}), 0, number("https://demo.twilio.com/welcome/voice/"));
    let report = site.examine(&[]).await;
    assert_failed(&report, "number", &[11200, 12100], &format!("{origin}/voice/incoming"));
    assert!(report.to_string().contains("demo.twilio.com"), "{report}");

    site.twilio.answers(200, json!({"calls": []}), 0, json!({"incoming_phone_numbers": []}));
    assert_failed(&site.examine(&[]).await, "number", &[21210], "TWILIO_PHONE_NUMBER");

    site.twilio.answers(502, json!("<html>"), 0, Value::Null);
    assert_failed(&site.examine(&[]).await, "credentials", &[], "status.twilio.com");

    // Without an account calls come in all the same.
    let report = site.examine(&[("TWILIO_ACCOUNT_SID", ""), ("TWILIO_API_KEY", ""), ("TWILIO_API_SECRET", "")]).await;
    assert!(report.is_healthy(), "{report}");
    assert_eq!(outcome(&report, "credentials"), Outcome::Skipped);
    site.stop().await;
}

#[tokio::test]
async fn a_way_that_does_not_lead_here_is_noticed() {
    let site = Site::start(StackPlan::default()).await;

    site.way.become_(Way::Answers("502 Bad Gateway"));
    let report = site.examine(&[]).await;
    assert_failed(&report, "public address", &[11200, 31920], "SERVER_PORT");
    assert_eq!(outcome(&report, "signature"), Outcome::Skipped);

    site.way.become_(Way::Answers("302 Found"));
    assert_failed(&site.examine(&[]).await, "public address", &[11200, 31920], "redirects");

    site.way.become_(Way::Breaks);
    assert_failed(&site.examine(&[]).await, "public address", &[11200, 31901], "gateway behind it");

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let elsewhere = format!("http://{gone}");
    let report = site.examine(&[("TWILIO_VOICE_WEBHOOK_URL", &elsewhere)]).await;
    assert_failed(&report, "public address", &[11205, 31902], "tunnel or proxy");
    let report = site.examine(&[("TWILIO_VOICE_WEBHOOK_URL", "https://no-such-name.invalid")]).await;
    assert_failed(&report, "public address", &[11210, 31901], "DNS");
    site.stop().await;
}

#[tokio::test]
async fn a_way_that_changes_requests_is_noticed() {
    let site = Site::start(StackPlan::default()).await;

    site.way.become_(Way::WithoutUpgrades);
    let report = site.examine(&[]).await;
    assert_failed(&report, "websocket", &[31920], "allow WebSockets");
    assert_eq!(outcome(&report, "signature"), Outcome::Ok);

    site.way.become_(Way::WithoutPosts);
    let report = site.examine(&[]).await;
    assert_failed(&report, "signature", &[11200], "firewall");
    assert_eq!(outcome(&report, "websocket"), Outcome::Ok);
    site.stop().await;
}

#[tokio::test]
async fn a_gateway_that_runs_with_other_settings_is_noticed() {
    let site = Site::start(StackPlan::default()).await;
    let report = site.examine(&[("TWILIO_AUTH_TOKEN", "another-token")]).await;
    assert_failed(&report, "signature", &[11200], "another TWILIO_AUTH_TOKEN");
    assert_failed(&report, "websocket", &[31920], "another TWILIO_AUTH_TOKEN");
    site.stop().await;

    let site = Site::start(StackPlan::default().gateway("TWILIO_SKIP_VALIDATION", "1")).await;
    assert_failed(&site.examine(&[]).await, "signature", &[], "TWILIO_SKIP_VALIDATION=0");
    site.stop().await;
}

#[tokio::test]
async fn workers_are_asked() {
    let site = Site::start(StackPlan::default()).await;
    let report = site.examine(&[("DEFAULT_AGENT", "nobody")]).await;
    assert_failed(&report, "worker", &[], "DEFAULT_AGENT");
    assert!(report.to_string().contains("it has echo"), "{report}");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_failed(&site.examine(&[("WORKER_URL", &format!("http://{gone}"))]).await, "worker", &[], "start the worker");
    let report = site.examine(&[("WORKER_URL", "http://no-such-name.invalid:1")]).await;
    assert_failed(&report, "worker", &[], "WORKER_URL");
    site.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_all_there_is_to_say() {
    let values = Values::from_lookup(&SETTINGS, |name| (name == "SERVER_PORT").then(|| "99999".to_owned()));
    let report = examine(Config::read(&values)).await.unwrap();
    assert!(report.findings().len() > 1 && report.findings().iter().all(|finding| finding.check == "settings"));
    assert!(!report.is_healthy() && report.to_string().contains("TWILIO_AUTH_TOKEN"), "{report}");
}

fn outcome(report: &Report, check: &str) -> Outcome {
    report.findings().iter().find(|finding| finding.check == check).unwrap().outcome
}

/// The check failed with these codes, and its cure has these words.
fn assert_failed(report: &Report, check: &str, codes: &[u32], words: &str) {
    let finding = report.findings().iter().find(|finding| finding.check == check).unwrap();
    assert_eq!((finding.outcome, &finding.codes[..]), (Outcome::Failed, codes), "{report}");
    assert!(finding.cure.as_ref().unwrap().contains(words), "{report}");
    assert!(!report.is_healthy());
}

fn number(voice_url: &str) -> Value {
    let number = json!({"sid": "PN1", "phone_number": NUMBER, "voice_url": voice_url, "voice_method": "POST"});
    json!({"incoming_phone_numbers": [number]})
}

/// A gateway with a worker, a way from its public address to it, and something that answers as Twilio does.
struct Site {
    stack: Stack,
    way: Server<Way>,
    twilio: Server<Twilio>,
}

impl Site {
    async fn start(plan: StackPlan) -> Self {
        let way = Server::start(Way::Nowhere).await;
        let origin = format!("http://{}", way.address);
        let stack = Stack::start(plan.gateway("TWILIO_VOICE_WEBHOOK_URL", &origin)).await;
        way.become_(Way::To(stack.gateway_address()));
        let webhook = number(&format!("{origin}/voice/incoming"));
        let twilio =
            Server::start(Twilio { status: 200, calls: json!({"calls": []}), late_s: 0, numbers: webhook }).await;
        Self { stack, way, twilio }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.way.address)
    }

    /// What the doctor says with the site's own settings, but for `changed` ones.
    async fn examine(&self, changed: &[(&str, &str)]) -> Report {
        let right = [
            ("TWILIO_AUTH_TOKEN", AUTH_TOKEN.to_owned()),
            ("TWILIO_VOICE_WEBHOOK_URL", self.origin()),
            ("TWILIO_ACCOUNT_SID", "AC1".to_owned()),
            ("TWILIO_PHONE_NUMBER", NUMBER.to_owned()),
            ("TWILIO_API_KEY", "SK1".to_owned()),
            ("TWILIO_API_SECRET", SECRET.to_owned()),
            ("TWILIO_API_URL", format!("http://{}", self.twilio.address)),
            ("WORKER_URL", format!("http://{}", self.stack.worker_address())),
        ];
        let values = Values::from_lookup(&SETTINGS, |name| {
            let changed = changed.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            changed.or_else(|| right.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()))
        });
        let report = examine(Config::read(&values)).await.unwrap();
        for secret in [AUTH_TOKEN, SECRET, &NUMBER[1..]] {
            assert!(!format!("{report} {report:?} {}", report.json()).contains(secret), "{report}");
        }
        report
    }

    async fn stop(self) {
        self.stack.stop().await;
    }
}

/// What is between the public address and the gateway.
#[derive(Clone, Copy)]
enum Way {
    Nowhere,
    To(SocketAddr),
    Answers(&'static str),
    Breaks,
    WithoutUpgrades,
    WithoutPosts,
}

#[derive(Clone)]
struct Twilio {
    status: u16,
    calls: Value,
    late_s: u64,
    numbers: Value,
}

/// A server for one request a connection; what it does may change.
struct Server<T> {
    address: SocketAddr,
    does: Arc<Mutex<(T, Option<SocketAddr>)>>,
    _ends: tokio_util::sync::DropGuard,
}

trait Serves: Clone + Send + 'static {
    /// What it becomes keeps in mind where the gateway is.
    fn target(&self) -> Option<SocketAddr> {
        None
    }

    fn serve(self, target: Option<SocketAddr>, head: String, stream: TcpStream) -> impl Future<Output = ()> + Send;
}

impl<T: Serves> Server<T> {
    async fn start(does: T) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (does, end) = (Arc::new(Mutex::new((does, None))), CancellationToken::new());
        tokio::spawn({
            let (does, end) = (Arc::clone(&does), end.clone());
            end.run_until_cancelled_owned(async move {
                let mut connections = JoinSet::new();
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let does = Arc::clone(&does);
                    connections.spawn(async move {
                        let Some(head) = read_head(&mut stream).await else { return };
                        let (does, target) = does.lock().unwrap().clone();
                        does.serve(target, head, stream).await;
                    });
                }
            })
        });
        Self { address, does, _ends: end.drop_guard() }
    }

    fn become_(&self, does: T) {
        let mut now = self.does.lock().unwrap();
        *now = (does.clone(), does.target().or(now.1));
    }
}

impl Server<Twilio> {
    fn answers(&self, status: u16, calls: Value, late_s: u64, numbers: Value) {
        self.become_(Twilio { status, calls, late_s, numbers });
    }
}

impl Serves for Way {
    fn target(&self) -> Option<SocketAddr> {
        if let Self::To(address) = self { Some(*address) } else { None }
    }

    async fn serve(self, target: Option<SocketAddr>, head: String, mut stream: TcpStream) {
        let is_post = head.starts_with("POST");
        let is_wanted = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            name != "connection" && name != "upgrade"
        };
        let head = match self {
            Self::Answers(status) => return answer(&mut stream, status, "", "<html>not yours</html>").await,
            Self::WithoutPosts if is_post => return answer(&mut stream, "403 Forbidden", "", "<html>no</html>").await,
            Self::Breaks | Self::Nowhere => return,
            Self::WithoutUpgrades => {
                let lines: Vec<_> = head.split("\r\n").filter(is_wanted).collect();
                lines.join("\r\n").replacen("\r\n", "\r\nconnection: close\r\n", 1)
            }
            // One request a connection, so that each can be looked at.
            Self::To(_) | Self::WithoutPosts if head.to_ascii_lowercase().contains("\r\nupgrade:") => head,
            Self::To(_) | Self::WithoutPosts => head.replacen("\r\n", "\r\nconnection: close\r\n", 1),
        };
        let mut gateway = TcpStream::connect(target.unwrap()).await.unwrap();
        gateway.write_all(head.as_bytes()).await.unwrap();
        // Either may go first.
        let _ = copy_bidirectional(&mut stream, &mut gateway).await;
    }
}

impl Serves for Twilio {
    async fn serve(self, _: Option<SocketAddr>, head: String, mut stream: TcpStream) {
        let body = if head.contains("IncomingPhoneNumbers.json?PhoneNumber=%2B15550100") {
            &self.numbers
        } else {
            assert!(head.starts_with("GET /2010-04-01/Accounts/AC1/Calls.json?PageSize=1 "), "{head}");
            &self.calls
        };
        let date = httpdate::fmt_http_date(now() - Duration::from_secs(self.late_s));
        let status = format!("{} X", self.status);
        answer(&mut stream, &status, &format!("Date: {date}\r\n"), &body.to_string()).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the simulated Twilio has a clock of its own")]
fn now() -> SystemTime {
    SystemTime::now()
}

async fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    // Whoever has enough of it may go away.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
    // What was not read would reset the connection before the answer is.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

/// The head of a request, and what came with it.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8(bytes).unwrap())
}
