//! Calls from a browser as their page makes them, and as others try to: the files and their headers, tickets, the socket,
//! what a page is told, and what no log tells.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use audio_worker::agent::{Act, Agent, Agents, Heard, Report, Speaker, Turn};
use futures_util::{SinkExt as _, StreamExt as _};
use gateway::ticket::{Key, Kind};
use serde_json::{Value, json};
use telemetry::{Sensitive, log::Format};
use tests::{
    calls_api::{Answer, ApiClient},
    line::{Invitation, Line},
    log::Log,
    secrets::Secrets,
    stack::{AUTH_TOKEN, PUBLIC_URL, Stack, StackPlan, eventually},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::HeaderValue},
};

const TOKEN: &str = "token-of-the-browser-test";
const PATIENCE: Duration = Duration::from_secs(15);
const WORDS: &str = "the combination of my safe is nine four two";
const ANSWER: &str = "your safe is open now";

/// A stack with a gossip who, at a key, tells what was said; `#` hangs up, `0` hands the call on.
async fn start(plan: StackPlan) -> (Stack, ApiClient) {
    let agents = Agents::default().with("gossip", |_| Box::new(Gossip(Vec::new())));
    let plan = plan.agents(agents).gateway("API_TOKENS", TOKEN).gateway("BROWSER_CALLS", "on");
    let stack = Stack::start(plan.gateway("API_REQUESTS_PER_SECOND", "1000")).await;
    let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
    (stack, api)
}

struct Gossip(Vec<Act>);

impl Agent for Gossip {
    fn hear(&mut self, heard: Heard<'_>) {
        let Heard::Dtmf(key) = heard else { return };
        let said = |by, text: &str, is_final, interrupted| {
            Act::Report(Report::Said { by, text: text.to_owned(), is_final, interrupted })
        };
        self.0 = match key {
            '0' => vec![Act::Transfer { to: "+15550166".into(), after_playback: false }],
            '#' => vec![Act::Hangup { reason: "asked to".into(), after_playback: false }],
            _ => {
                let turn = Turn { endpoint: Some(Duration::from_millis(448)), ..Turn::default() };
                vec![
                    said(Speaker::Caller, "the combination", false, false),
                    said(Speaker::Caller, WORDS, true, false),
                    Act::Report(Report::Turn(turn)),
                    said(Speaker::Agent, ANSWER, true, true),
                ]
            }
        };
        self.0.reverse();
    }

    fn poll_act(&mut self, _: &mut Context<'_>, _: &mut Vec<i16>) -> Poll<Act> {
        self.0.pop().map_or(Poll::Pending, Poll::Ready)
    }
}

/// A page in the middle of a call, or about to begin one.
struct Page {
    socket: WebSocketStream<TcpStream>,
}

impl Page {
    /// The status of a refusal.
    async fn knock(gateway: SocketAddr, path: &str, origins: &[&str]) -> Result<Self, u16> {
        let mut request = format!("ws://{gateway}{path}").into_client_request().unwrap();
        for origin in origins {
            request.headers_mut().append("origin", HeaderValue::from_str(origin).unwrap());
        }
        let stream = TcpStream::connect(gateway).await.unwrap();
        match timeout(PATIENCE, client_async(request, stream)).await.unwrap() {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    /// A page that may: it shows the ticket, or whatever is in its place.
    async fn open(gateway: SocketAddr, announced: &Answer, ticket: &Value) -> Self {
        let mut page = Self::knock(gateway, path(announced), &[PUBLIC_URL]).await.unwrap();
        let parameters = if ticket.is_null() { json!({}) } else { json!({"ticket": ticket, "agent": "nobody"}) };
        page.say(json!({"event": "connected", "protocol": "Call", "version": "1.0.0"})).await;
        page.say(json!({"event": "start", "streamSid": "MZ1", "start": {
            "callSid": announced.json["call"]["call_sid"],
            "streamSid": "MZ1",
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        }}))
        .await;
        page
    }

    async fn call(api: &ApiClient, agent: &str) -> (Self, String) {
        let announced = announce(api, agent).await;
        let page = Self::open(api.gateway, &announced, &announced.json["ticket"]).await;
        (page, announced.json["call"]["call_sid"].as_str().unwrap().to_owned())
    }

    async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn press(&mut self, key: &str) {
        self.say(json!({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": key}})).await;
    }

    /// The next message; `None` once the socket is closed, with its code.
    async fn next(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                None | Some(Err(_)) => return Err(None),
            }
        }
    }

    /// The next message of this event; others are passed over.
    async fn wait(&mut self, event: &str) -> Value {
        loop {
            let message = self.next().await.unwrap();
            if message["event"] == event {
                return message;
            }
        }
    }

    /// Why it ended, as told, and the code of the close.
    async fn end(mut self) -> (String, Option<u16>) {
        let reason = self.wait("ended").await["reason"].as_str().unwrap().to_owned();
        (reason, self.next().await.unwrap_err())
    }
}

async fn announce(api: &ApiClient, agent: &str) -> Answer {
    let answer = api.post("/v1/browser-calls", &json!({"agent": agent})).await;
    assert_eq!(answer.status, 201, "{}", answer.json);
    answer
}

fn path(announced: &Answer) -> &str {
    announced.text("websocket_url").strip_prefix("wss://gateway.example").unwrap()
}

/// Status, headers and body of a GET as they are.
async fn get(gateway: SocketAddr, path: &str, header: &str) -> (u16, BTreeMap<String, String>, String) {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: gateway.example\r\nconnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())).unwrap();
    (status.split(' ').nth(1).unwrap().parse().unwrap(), headers.lines().map(pair).collect(), body.to_owned())
}

#[tokio::test]
async fn it_is_off_unless_it_is_turned_on() {
    let stack = Stack::start(StackPlan::default().gateway("API_TOKENS", TOKEN)).await;
    let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
    for path in ["/call", "/call/app.js", "/call/view.js", "/call/worklet.js", "/call/style.css", "/call/stream/BC1"] {
        api.get(path).await.assert_problem(404, "not_found");
    }
    api.post("/v1/browser-calls", &json!({})).await.assert_problem(404, "not_found");
    assert_eq!(Page::knock(api.gateway, "/call/stream/BC1", &[PUBLIC_URL]).await.err(), Some(404));
    stack.stop().await;
}

#[tokio::test]
async fn the_page_is_served_with_headers_that_keep_everything_else_out() {
    let (stack, api) = start(StackPlan::default()).await;
    for (path, kind) in [
        ("/call", "text/html; charset=utf-8"),
        ("/call/", "text/html; charset=utf-8"),
        ("/call/app.js", "text/javascript; charset=utf-8"),
        ("/call/view.js", "text/javascript; charset=utf-8"),
        ("/call/worklet.js", "text/javascript; charset=utf-8"),
        ("/call/style.css", "text/css; charset=utf-8"),
    ] {
        let (status, headers, body) = get(api.gateway, path, "").await;
        assert_eq!((status, headers["content-type"].as_str()), (200, kind), "{path}");
        assert!(body.len() > 500, "{path}");
        let policy: Vec<_> = headers["content-security-policy"].split("; ").collect();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self' wss://gateway.example",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(&rule), "{path}: {rule} in {policy:?}");
        }
        assert!(!headers["content-security-policy"].contains("unsafe"));
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cache-control"], "no-cache");
        let (status, _, body) = get(api.gateway, path, &format!("if-none-match: {}\r\n", headers["etag"])).await;
        assert_eq!((status, body.as_str()), (304, ""), "{path}");
    }
    for (method, path, allowed) in [
        ("POST", "/call", "GET"),
        ("PUT", "/call/app.js", "GET"),
        ("GET", "/v1/browser-calls", "POST"),
        ("GET", "/call/outbound", "POST"),
    ] {
        let refused = api.ask(method, path, &[], None).await;
        refused.assert_problem(405, "method_not_allowed");
        assert_eq!(refused.headers["allow"], allowed, "{path}");
    }
    api.get("/call/index.html").await.assert_problem(404, "not_found");
    stack.stop().await;
}

#[tokio::test]
async fn a_ticket_needs_a_token_an_agent_and_room() {
    let (stack, api) = start(StackPlan::default().gateway("MAX_CALLS", "2")).await;
    for token in ["", "token-of-somebody-else"] {
        let stranger = ApiClient { token: token.into(), ..api.clone() };
        stranger.post("/v1/browser-calls", &json!({})).await.assert_problem(401, "unauthorized");
    }
    for (body, status, code) in [
        (json!({"agent": "no such agent"}), 400, "field_invalid"),
        (json!({"language": "english!"}), 400, "field_invalid"),
        (json!({"parameters": {"ticket": "x"}}), 400, "field_invalid"),
        (json!({"to": "+15550100"}), 400, "body_invalid"),
        (json!({"agent": "nobody"}), 422, "agent_unknown"),
    ] {
        api.post("/v1/browser-calls", &body).await.assert_problem(status, code);
    }
    let first = announce(&api, "gossip").await;
    assert_eq!(first.headers["cache-control"], "no-store");
    let call = &first.json["call"];
    assert_eq!(
        (&call["status"], &call["from"], &call["to"]),
        (&json!("ringing"), &json!("client:browser"), &json!(""))
    );
    assert!(path(&first).starts_with("/call/stream/BC"), "{}", first.json);
    announce(&api, "gossip").await;
    api.post("/v1/browser-calls", &json!({})).await.assert_problem(503, "gateway_full");
    // One that is called off leaves its room, and does not begin any more.
    let id = call["id"].as_str().unwrap();
    assert_eq!(api.delete(&format!("/v1/calls/{id}")).await.status, 204);
    let over = api.get(&format!("/v1/calls/{id}")).await;
    assert_eq!((over.text("status"), over.text("end_reason")), ("canceled", "api_hangup"));
    assert_eq!(Page::knock(api.gateway, path(&first), &[PUBLIC_URL]).await.err(), Some(409));
    announce(&api, "gossip").await;
    stack.stop().await;
    // Nobody is let in for an agent that cannot be had.
    let stack =
        Stack::start(StackPlan::default().without_worker().gateway("API_TOKENS", TOKEN).gateway("BROWSER_CALLS", "on"));
    let stack = stack.await;
    let api = ApiClient { gateway: stack.gateway_address(), token: TOKEN.into() };
    api.post("/v1/browser-calls", &json!({})).await.assert_problem(503, "no_worker");
    stack.stop().await;
}

#[tokio::test]
async fn a_call_is_heard_answered_written_down_and_ended() {
    let (stack, api) = start(StackPlan::default()).await;
    let (mut page, sid) = Page::call(&api, "echo").await;
    let frame = |chunk: u64| {
        let at = ((chunk - 1) * 20).to_string();
        // 160 samples of a square wave, in base64: what the echo says comes back.
        let payload = "AICAAIAA".repeat(26) + "AICAAA==";
        json!({"event": "media", "streamSid": "MZ1", "media": {"chunk": chunk.to_string(), "timestamp": at, "payload": payload}})
    };
    for chunk in 1..=30 {
        page.say(frame(chunk)).await;
    }
    assert!(page.wait("media").await["media"]["payload"].as_str().unwrap().len() > 100);
    let mark = page.wait("mark").await["mark"]["name"].clone();
    page.say(json!({"event": "mark", "streamSid": "MZ1", "mark": {"name": mark}})).await;
    let found = api.get(&format!("/v1/calls/{sid}")).await;
    assert_eq!((found.text("status"), found.text("stream"), found.text("agent")), ("in-progress", "live", "echo"));
    let listed = api.get("/v1/calls?state=live").await.json["calls"][0]["call_sid"].clone();
    assert_eq!(listed, json!(sid));
    let refused = api.patch(&format!("/v1/calls/{sid}"), &json!({"transfer": "sip:a@example.com"})).await;
    refused.assert_problem(409, "browser_call");
    let refused = api.patch(&format!("/v1/calls/{sid}"), &json!({"say": "hello"})).await;
    refused.assert_problem(409, "instruction_unsupported");
    assert_eq!(api.delete(&format!("/v1/calls/{sid}")).await.status, 204);
    assert_eq!(page.end().await, ("api_hangup".to_owned(), Some(1000)));
    let ended = api.get(&format!("/v1/calls/{sid}/debug")).await.json;
    assert_eq!((&ended["call"]["status"], &ended["call"]["end_reason"]), (&json!("completed"), &json!("api_hangup")));
    assert_eq!(ended["counters"]["caller_ms"], 600);
    assert_eq!(ended["counters"]["marks_played"], 1);
    assert!(ended["timeline"].as_array().unwrap().len() >= 3, "{ended}");

    // The caller's own end.
    let (mut page, sid) = Page::call(&api, "gossip").await;
    page.press("1").await;
    page.wait("turn").await;
    page.say(json!({"event": "stop", "streamSid": "MZ1", "stop": {"callSid": sid}})).await;
    assert_eq!(page.end().await, ("caller_hangup".to_owned(), Some(1000)));
    // One that just goes.
    let (mut page, sid) = Page::call(&api, "gossip").await;
    page.press("1").await;
    page.wait("turn").await;
    drop(page);
    eventually("the lost call is over", async || {
        api.get(&format!("/v1/calls/{sid}")).await.text("end_reason") == "caller_lost"
    })
    .await;
    eventually("no place is taken", async || stack.live_calls().await == 0).await;
    let counted = stack.gateway_metrics().await;
    for reason in ["api_hangup", "caller_hangup", "caller_lost"] {
        assert_eq!(counted.of(&format!("tandem_gateway_calls_total{{reason=\"{reason}\"}}")), Some(1.0), "{reason}");
    }
    stack.stop().await;
}

#[tokio::test]
async fn a_page_is_told_what_was_said_how_long_it_took_and_how_it_ended() {
    let log = Log::of_process(Format::Text, "trace,tests=off");
    let (mut secrets, plan) = (Secrets::default(), StackPlan::default().gateway("TICKET_KEY", "the-secret-of-tickets"));
    let (stack, api) = start(plan).await;
    let announced = announce(&api, "gossip").await;
    let mut page = Page::open(api.gateway, &announced, &announced.json["ticket"]).await;
    page.press("1").await;
    let said = |by: &str, text: &str, is_final, interrupted| json!({"event": "transcript", "by": by, "text": text, "final": is_final, "interrupted": interrupted});
    assert_eq!(page.next().await.unwrap(), said("caller", "the combination", false, false));
    assert_eq!(page.next().await.unwrap(), said("caller", WORDS, true, false));
    let turn = page.next().await.unwrap();
    assert_eq!((&turn["event"], &turn["endpoint_ms"], &turn["words_ms"]), (&json!("turn"), &json!(448), &Value::Null));
    assert_eq!(page.next().await.unwrap(), said("agent", ANSWER, true, true));
    page.press("#").await;
    assert_eq!(page.end().await, ("agent_hangup".to_owned(), Some(1000)));
    // No carrier can hand it on; the number is told to nobody.
    let (mut page, sid) = Page::call(&api, "gossip").await;
    page.press("0").await;
    assert_eq!(page.end().await, ("agent_transfer".to_owned(), Some(1000)));
    let over = api.get(&format!("/v1/calls/{sid}")).await;
    assert_eq!((over.text("status"), over.text("end_reason")), ("completed", "agent_transfer"));
    // A foreign page and a used ticket are written down, without what they showed.
    let other = announce(&api, "gossip").await;
    assert_eq!(Page::knock(api.gateway, path(&other), &["https://evil.example"]).await.err(), Some(403));
    assert_eq!(Page::open(api.gateway, &other, &json!("AbCdEfGhIjKlMn")).await.end().await.0, "ticket_forged");
    stack.stop().await;
    log.wait_for(&["media stream refused"]).await;
    log.wait_for(&["call ended", "reason=\"agent_hangup\""]).await;
    for (name, secret) in
        [("the token", TOKEN), ("the words", WORDS), ("the answer", ANSWER), ("a wrong ticket", "AbCdEfGhIjKlMn")]
    {
        secrets.add(name, secret);
    }
    secrets.add("the ticket", announced.text("ticket"));
    secrets.add_number("the number", "+15550166");
    assert_eq!(secrets.leaks(&log.text()), Vec::<String>::new());
}

#[tokio::test]
async fn only_its_own_ticket_opens_a_call_once_and_in_time() {
    let (stack, api) = start(StackPlan::default()).await;
    let announced = announce(&api, "gossip").await;
    let sid = announced.json["call"]["call_sid"].as_str().unwrap();
    let key = Key::derive(&Sensitive::new(AUTH_TOKEN.to_owned()), "tandem ticket");
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let refused = async |ticket: &Value| Page::open(api.gateway, &announced, ticket).await.end().await;
    let with = |reason: &str| (reason.to_owned(), Some(1008));
    assert_eq!(refused(&Value::Null).await, with("ticket_missing"));
    assert_eq!(refused(&json!("nonsense")).await, with("ticket_forged"));
    // Of a phone call, even one of this very id; of another call from a browser; too old.
    assert_eq!(refused(&json!(key.mint(Kind::Phone, sid, now, [1; 16]))).await, with("ticket_forged"));
    assert_eq!(refused(&announce(&api, "gossip").await.json["ticket"]).await, with("ticket_forged"));
    let old = key.mint(Kind::Browser, sid, now - Duration::from_secs(62), [2; 16]);
    assert_eq!(refused(&json!(old)).await, with("ticket_expired"));
    // None of these took anything away from the right one.
    let mut page = Page::open(api.gateway, &announced, &announced.json["ticket"]).await;
    page.press("1").await;
    page.wait("turn").await;
    assert_eq!(refused(&announced.json["ticket"]).await, with("ticket_reused"));
    page.press("#").await;
    assert_eq!(page.end().await.0, "agent_hangup");

    // On the route of phones a browser's ticket is nothing.
    let plan = stack.call_plan();
    let mut invitation = Invitation::ask(&plan).await;
    let other = announce(&api, "gossip").await;
    other
        .text("ticket")
        .clone_into(&mut invitation.connect.stream.parameters.iter_mut().find(|(n, _)| n == "ticket").unwrap().1);
    let mut line = Line::open(&plan, invitation).await;
    line.start().await;
    assert_eq!(line.close_code().await, Some(1008));
    stack.stop().await;
}

#[tokio::test]
async fn pages_of_others_do_not_get_in() {
    let (stack, api) = start(StackPlan::default()).await;
    let announced = announce(&api, "gossip").await;
    let at = path(&announced);
    for origins in [
        &[][..],
        &["https://evil.example"],
        &["https://gateway.example.evil.example"],
        &["http://gateway.example"],
        &["https://gateway.example:8443"],
        &["null"],
        &[PUBLIC_URL, "https://evil.example"],
    ] {
        assert_eq!(Page::knock(api.gateway, at, origins).await.err(), Some(403), "{origins:?}");
    }
    assert_eq!(Page::knock(api.gateway, "/call/stream/BC0", &[PUBLIC_URL]).await.err(), Some(404));
    // Nor is a phone call one of a browser.
    let line = Line::dial(&stack.call_plan()).await;
    let of_phone = format!("/call/stream/{}", line.call_sid());
    assert_eq!(Page::knock(api.gateway, &of_phone, &[PUBLIC_URL]).await.err(), Some(404));
    api.get(at).await.assert_problem(426, "websocket_expected");
    stack.stop().await;
}

#[tokio::test]
async fn floods_end_nobody_elses_call_and_large_messages_their_own() {
    let (stack, api) = start(StackPlan::default()).await;
    let (mut page, sid) = Page::call(&api, "gossip").await;
    let (mut other, _) = Page::call(&api, "gossip").await;
    for at in 0..5000_u32 {
        let message = if at % 2 == 0 { Message::binary(vec![0; 512]) } else { Message::text("{\"event\": 7") };
        page.socket.send(message).await.unwrap();
    }
    for page in [&mut page, &mut other] {
        page.press("1").await;
        page.wait("turn").await;
    }
    assert_eq!(api.get(&format!("/v1/calls/{sid}")).await.json["counters"]["malformed"], 5000);
    // The gateway may have closed before all of it was sent.
    let _ = page.socket.send(Message::text("x".repeat(200 << 10))).await;
    while page.next().await.is_ok() {}
    eventually("the call of the large message is over", async || {
        api.get(&format!("/v1/calls/{sid}")).await.text("end_reason") == "protocol_error"
    })
    .await;
    other.press("#").await;
    assert_eq!(other.end().await.0, "agent_hangup");
    stack.stop().await;
}

#[tokio::test]
async fn a_page_hears_that_the_worker_is_gone_or_the_gateway_stops() {
    let (mut stack, api) = start(StackPlan::default().with_wire()).await;
    let (mut page, _) = Page::call(&api, "gossip").await;
    page.press("1").await;
    page.wait("turn").await;
    stack.cut_wire().await;
    assert_eq!(page.end().await, ("worker_lost".to_owned(), Some(1011)));
    stack.stop().await;

    let (stack, api) = start(StackPlan::default()).await;
    let (mut page, _) = Page::call(&api, "gossip").await;
    page.press("1").await;
    page.wait("turn").await;
    stack.shut_gateway_down();
    assert_eq!(page.end().await, ("gateway_drained".to_owned(), Some(1001)));
    stack.stop().await;
}
