//! Whole calls with the log wide open: no number, no ticket, no token, no word and no sound of anybody's is in any line,
//! nor in a capture.
//!
//! Everything logs at `trace`, what is linked as well. (tungstenite prints whole messages at that level, but through the
//! `log` crate, to which the subscriber does not listen: `tracing-subscriber` has no feature `tracing-log` here.)

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proto::v1::{
    Close, ConverseRequest, Instruct, Open, PlayDigits, Say, converse_request::Message, instruct::Instruction,
};
use serde_json::{Value, json};
use telemetry::log::Format;
use tests::{
    calls_api::ApiClient,
    line::{Invitation, Line, signed},
    log::Log,
    openai::{Call, Extent, Mishap as Wrong, OpenAi, Script, Stage, tone},
    receiver::Receiver,
    scripted::{Notes, TRANSFER_TO},
    secrets::Secrets,
    sim::{
        CallPlan, Caller, encode_mulaw,
        rest::{self, AnsweredBy, Fault, Mishap, OwnedNumber, RestPlan},
    },
    stack::{AUTH_TOKEN, Stack, StackPlan, eventually},
    talk::{Phone, recorded, staff_with_key},
    world::{ACCOUNT, TOKEN, World},
};

const FROM: &str = "+15550147";
const TO: &str = "+15550148";
const TICKET_SECRET: &str = "the-secret-of-the-tickets";
const FALLBACK: &str = "+15550149";
const PIN: &str = "8675309";
const WORDS: &str = "your balance is forty-two";
const FILTER: &str = "trace,tests=off";

#[tokio::test]
async fn no_line_of_the_log_tells_who_called_or_what_was_said() {
    let log = Log::of_process(Format::Text, FILTER);
    let notes = Notes::default();
    let plan = StackPlan::default()
        .agents(notes.agents())
        .gateway("DEFAULT_AGENT", "scripted")
        .gateway("TICKET_KEY", TICKET_SECRET)
        .gateway("FALLBACK_DIAL", FALLBACK);
    let mut stack = Stack::start(plan.with_wire()).await;
    let plan = CallPlan { from: FROM.into(), to: TO.into(), ..stack.call_plan() };

    // A call that is put through, and one that hangs up after an interrupt.
    for keys in [vec![(200, '1'), (250, '0')], vec![(200, '2'), (700, '*'), (900, '#')]] {
        let digits = keys.into_iter().map(|(ms, key)| (Duration::from_millis(ms), key)).collect();
        let report = Caller::new(CallPlan { digits, ..plan.clone() }).place().await;
        assert!(report.is_ok(), "{report}");
    }
    order(&stack).await;
    // What goes wrong is told, without a word too many: a bad signature, a bad ticket, nonsense, a lost worker.
    let forged = CallPlan { auth_token: "another".into(), ..plan.clone() };
    assert_eq!(signed(&forged, "/voice/incoming", forged.parameters("CA1", "ringing")).await.status, 403);
    let invitation = Invitation::ask(&plan).await;
    let ticket = invitation.ticket().to_owned();
    let mut line = Line::open(&plan, invitation).await;
    let sound = encode_mulaw(&tests::sim::bundled_speech()[8000..8160]);
    line.start().await;
    line.speak(&sound).await;
    line.say(r#"{"event":"media","media":{"payload":"c2VjcmV0IHNvdW5k%"}}"#).await;
    line.press('A').await;
    assert_eq!(line.close_code().await, Some(1011));
    line.after().await;
    let mut reused = Line::open(&plan, Invitation::ask(&plan).await).await;
    reused.start_with(&[("ticket".into(), ticket.clone()), ("from".into(), FROM.into())]).await;
    assert_eq!(reused.close_code().await, Some(1008));
    let mut lost = Line::dial(&plan).await;
    lost.press('1').await;
    lost.listen_until(|heard| heard.mulaw.len() > 800).await;
    stack.cut_wire().await;
    assert_eq!(lost.close_code().await, Some(1011));
    lost.after().await;
    eventually("all is over", async || stack.live_calls().await == 0).await;
    stack.stop().await;

    assert_logged(log, &["call ended", "conversation ended", lost.call_sid(), "DEBUG", "TRACE"]);
    let mut secrets = Secrets::default();
    for number in [FROM, TO, TRANSFER_TO, FALLBACK] {
        secrets.add_number("a number", number);
    }
    for secret in [AUTH_TOKEN, TICKET_SECRET, PIN, WORDS, &ticket, &ticket[20..60], "c2VjcmV0IHNvdW5k"] {
        secrets.add("a secret", secret);
    }
    secrets.add_bytes("the caller's voice", &sound);
    assert_kept(&secrets, log, "canary-of-the-inbound-calls");
}

/// A conversation, with providers that fail in between and say so.
#[tokio::test]
async fn no_line_of_the_log_tells_what_was_talked_about_or_a_providers_key() {
    const KEY: &str = "key-of-the-providers-4711";
    const SAID: &str = "my account is in the red";
    const ANSWER: &str = "Your secret balance is minus nine.";
    const GREETING: &str = "Welcome to the confidential bank.";
    const BRIEFING: &str = "You know the vault's combination.";
    const ACCOUNT_NUMBER: &str = "account-of-the-caller-99";
    const HEADER: &str = "secret-of-a-tool-1234";
    const PATH: &str = "key-in-the-address-of-a-tool";
    const NO_TOOL: &str = "tool-that-says-what-was-said";
    let log = Log::of_process(Format::Text, FILTER);
    let script = Script {
        hear: Arc::new(|_| SAID.to_owned()),
        think: Arc::new(|_| ANSWER.to_owned()),
        want: Arc::new(|turns| match turns.last().unwrap().role.as_str() {
            "tool" => Vec::new(),
            _ => vec![Call::new("balance", &json!({"account": ACCOUNT_NUMBER})), Call::new(NO_TOOL, &json!({}))],
        }),
        say: Arc::new(|text, _| tone(500.0, Duration::from_millis(20) * u32::try_from(text.len()).unwrap())),
        ..Script::default()
    };
    let server = OpenAi::start(script).await.unwrap();
    let service = Receiver::answering(|_, _| 500.into());
    let file = format!(
        r#"
        [agent.bank]
        kind = "pipeline"
        greeting = "{GREETING}"
        instructions = "{BRIEFING}"
        tools = ["balance", "transfer"]
        transfer_to = {{ desk = "{FALLBACK}" }}
        [tool.balance]
        description = "x"
        method = "POST"
        url = "{url}"
        headers = {{ X-Secret = "{HEADER}" }}
        share = ["from", "to"]
        parameters = '{{"type": "object", "properties": {{"account": {{"type": "string"}}}}}}'
        [agent.bank.speech_to_text]
        model = "m"
        [agent.bank.chat]
        model = "m"
        [agent.bank.text_to_speech]
        model = "m"
        format = "wav"
        "#,
        url = service.url(&format!("/balance?key={PATH}")),
    );
    let agents = staff_with_key(&file, &server.base(), KEY);
    let stack = Stack::start(StackPlan::default().agents(agents).gateway("DEFAULT_AGENT", "bank")).await;
    let plan = CallPlan { from: FROM.into(), to: TO.into(), ..stack.call_plan() };
    let (patience, pause) = (Duration::from_secs(20), Duration::from_millis(600));
    let mut phone = Phone::dial(&plan).await.unwrap();
    let mut began = phone.began();
    for mishap in [None, Some((Stage::Chat, Wrong::Unauthorized)), Some((Stage::Speech, Wrong::ErrorText))] {
        phone.until("the agent", patience, |log| log.has_answered(began, pause)).await.unwrap();
        if let Some((stage, mishap)) = mishap {
            // Both tries of it.
            server.upset(stage, mishap, Extent::Times(2));
        }
        began = phone.say_all(&recorded()[0]).await.unwrap().ended.unwrap();
    }
    phone.until("the agent", patience, |log| log.has_answered(began, pause)).await.unwrap();
    assert!(server.asked().iter().any(|asked| asked.key.as_deref() == Some(KEY)), "the key was never sent");
    phone.hang_up().await;
    eventually("all is over", async || stack.live_calls().await == 0).await;
    stack.stop().await;

    assert_logged(log, &["a provider failed", "a tool failed", "conversation ended"]);
    let mut secrets = Secrets::default();
    let of_tools = [ACCOUNT_NUMBER, HEADER, PATH, NO_TOOL, FROM, TO, FALLBACK];
    for secret in [KEY, SAID, ANSWER, GREETING, BRIEFING].into_iter().chain(of_tools) {
        secrets.add("a secret", secret);
    }
    assert_kept(&secrets, log, "canary-of-the-conversations");
}

/// Everything about calls that are placed, steered, listed, told of and refused, and about those who may not ask.
#[tokio::test]
async fn no_line_of_the_log_tells_whom_the_api_called_or_what_it_was_told() {
    let log = Log::of_process(Format::Text, FILTER);
    let folder =
        Folder::new(&format!("[[route]]\nto = \"{ROUTED}\"\nforward = [\"CallerName\"]\nagent = \"scripted\"\n"));
    // One webhook takes some events and refuses others; the other is down.
    let own = Receiver::answering(|delivery, _| if delivery.kind() == "call.ringing" { 400 } else { 204 }.into());
    let everybodys = Receiver::closed();
    let settings = |plan: StackPlan| {
        plan.gateway("API_TOKENS", &format!("{TOKEN},{SECOND_TOKEN}"))
            .gateway("TWILIO_PHONE_NUMBER", OURS)
            .gateway("TWILIO_API_KEY", API_KEY)
            .gateway("TWILIO_API_SECRET", API_SECRET)
            .gateway("TICKET_KEY", TICKET_KEY)
            .gateway("FALLBACK_DIAL", OUTBOUND_FALLBACK)
            .gateway("OUTBOUND_PER_TO_PER_HOUR", "100")
            .gateway("EVENTS_URL", &everybodys.url(&format!("/{PATH_OF_ALL}?key={KEY_OF_ALL}")))
            .gateway("EVENTS_SECRET", EVENTS_SECRET)
            .gateway("ROUTES_FILE", folder.routes().to_str().unwrap())
            .gateway("CAPTURE", folder.0.join("captures").to_str().unwrap())
    };
    let world = World::with(settings, |plan| RestPlan {
        numbers: [OURS, OTHER].map(OwnedNumber::new).into(),
        api_keys: vec![(API_KEY.into(), API_SECRET.into())],
        ..plan
    })
    .await;
    let sid = steer(&world, &own).await;
    borrow_a_voice(&world).await;
    mistake(&world, &own).await;
    suffer(&world).await;
    let ticket = come_in(&world, &folder).await;
    eventually("all is over", async || world.stack.live_calls().await == 0).await;
    world.stop().await;

    let expected = [
        "call placed",
        "call not placed",
        "asking the carrier again",
        "event not taken",
        "event not delivered",
        "answering machine detection",
        "outbound call answered",
        "call incoming",
        "route=1",
        "the call is captured",
        "the routes file was refused",
        "Twilio could not stream",
        "403: the signature does not fit",
        "call ended",
        "conversation ended",
        &sid,
        "DEBUG",
        "TRACE",
    ];
    assert_logged(log, &expected);
    let mut secrets = Secrets::default();
    for number in
        [OURS, OTHER, CALLEE, QUERIED, FORBIDDEN, NOT_OURS, HANDED_TO, CALLER, ROUTED, BROKEN, OUTBOUND_FALLBACK]
    {
        secrets.add_number("a number", number);
    }
    let texts = [
        TOKEN,
        SECOND_TOKEN,
        WRONG_TOKEN,
        API_SECRET,
        AUTH_TOKEN,
        TICKET_KEY,
        EVENTS_SECRET,
        PATH_OF_ALL,
        KEY_OF_ALL,
        OWN_PATH,
        OWN_KEY,
        PASSWORD,
        STREAM_PATH,
        IDEMPOTENCY_KEY,
        PARAMETER,
        NAME,
        SAID,
        SAID_BY_CARRIER,
        DIGITS,
        FORGED_KEY,
        &ticket,
        &ticket[20..60],
    ];
    for secret in texts {
        secrets.add("a secret", secret);
    }
    secrets.add_bytes("the callee's voice", &encode_mulaw(&tests::sim::bundled_speech()[8000..8160]));
    assert_kept(&secrets, log, "canary-of-the-calls-api");
    let captures = folder.captures();
    assert!(captures.len() >= 3 && captures.iter().all(|capture| capture.contains(r#""event":"start""#)));
    assert_eq!(secrets.leaks(&captures.concat()), [""; 0]);
}

const OURS: &str = "+15550200001";
const OTHER: &str = "+15550200002";
const CALLEE: &str = "+15550200003";
const QUERIED: &str = "+15550200004";
const FORBIDDEN: &str = "+4915550200005";
const NOT_OURS: &str = "+15550200006";
const HANDED_TO: &str = "+15550200007";
const CALLER: &str = "+15550200008";
const ROUTED: &str = "+15550200009";
const BROKEN: &str = "+15550200010";
const OUTBOUND_FALLBACK: &str = "+15550200011";
const SECOND_TOKEN: &str = "second-token-of-the-api";
const WRONG_TOKEN: &str = "token-of-somebody-else";
const API_KEY: &str = "SK11111111111111111111111111111111";
const API_SECRET: &str = "secret-of-the-api-key";
const TICKET_KEY: &str = "key-of-the-tickets-of-the-api";
const EVENTS_SECRET: &str = "whsec-of-the-events";
const PATH_OF_ALL: &str = "path-of-all-events";
const KEY_OF_ALL: &str = "key-of-all-events";
const OWN_PATH: &str = "path-of-own-events";
const OWN_KEY: &str = "key+of/own=events";
const PASSWORD: &str = "password-of-the-webhook";
const STREAM_PATH: &str = "path-of-a-foreign-stream";
const IDEMPOTENCY_KEY: &str = "order-of-miss-marple";
const PARAMETER: &str = "account number 0815";
const NAME: &str = "Miss J. Marple";
const SAID: &str = "your code is seventeen";
const SAID_BY_CARRIER: &str = "your rent is overdue";
const DIGITS: &str = "4711081512";
const FORGED_KEY: &str = "key-in-a-forged-address";

/// A call with everything that can be asked for and that it can be told; its CallSid.
async fn steer(world: &World, own: &Receiver) -> String {
    world.exchange.set_line(
        None,
        rest::Line {
            answered_by: AnsweredBy::MachineStart,
            detected_after: Duration::from_millis(300),
            hangup_after: Some(Duration::from_secs(60)),
            ..rest::Line::default()
        },
    );
    let key: String = url::form_urlencoded::byte_serialize(OWN_KEY.as_bytes()).collect();
    let webhook = own.url(&format!("/{OWN_PATH}?key={key}"));
    let body = json!({
        "to": CALLEE, "from": OTHER, "agent": "scripted", "language": "en", "parameters": {"account": PARAMETER},
        "answering_machine": {"mode": "detect"}, "recording": "dual", "status_webhook": webhook,
    });
    let ask = async |body: &Value| {
        world.api.ask("POST", "/v1/calls", &[("Idempotency-Key", IDEMPOTENCY_KEY)], Some(body.to_string())).await
    };
    let placed = ask(&body).await;
    assert_eq!(placed.status, 201, "{}", placed.json);
    assert_eq!(ask(&body).await.json["id"], placed.json["id"]);
    ask(&json!({"to": QUERIED})).await.assert_problem(422, "idempotency_key_reused");
    let (id, sid) = (placed.text("id"), placed.text("call_sid"));
    world.until(id, |call| call["stream"] == "live" && call["answered_by"] == "machine_start").await;
    for change in [
        json!({"hold": true}),
        json!({"hold": false}),
        json!({"say": SAID}),
        json!({"play_digits": DIGITS}),
        json!({"transfer": HANDED_TO}),
    ] {
        let answer = world.patch(id, change).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
    }
    assert_eq!(world.settled(sid).await.report.unwrap().dialled, [HANDED_TO]);
    let told = own.until_ended(sid).await;
    assert!(told.iter().all(|told| told.target.contains(OWN_PATH) && told.is_signed_with(EVENTS_SECRET)), "{told:?}");
    sid.to_owned()
}

/// A call by query to an agent without a voice, which another takes over and the API ends.
async fn borrow_a_voice(world: &World) {
    let path = format!("/call/outbound?to_number={}&agent=echo", QUERIED.replace('+', "%2B"));
    let api = ApiClient { token: SECOND_TOKEN.into(), ..world.api.clone() };
    let placed = api.ask("POST", &path, &[], None).await;
    assert_eq!(placed.status, 201, "{}", placed.json);
    let id = placed.text("id");
    world.until(id, |call| call["stream"] == "live").await;
    assert_eq!(world.patch(id, json!({"say": SAID_BY_CARRIER})).await.status, 200);
    world.until(id, |call| call["stream"] == "live" && call["stream_ended_at"].is_string()).await;
    assert_eq!(world.patch(id, json!({"agent": "scripted"})).await.status, 200);
    let page = world.api.get("/v1/calls?limit=10").await;
    assert!(page.json["calls"].as_array().unwrap().iter().any(|call| call["to"] == QUERIED), "{}", page.json);
    forge(world, id, placed.text("call_sid")).await;
    assert_eq!(world.api.delete(&format!("/v1/calls/{id}")).await.status, 204);
    world.settled(placed.text("call_sid")).await;
}

/// Callbacks that nobody signed, with something secret in their address, and one of a stream that failed.
async fn forge(world: &World, id: &str, sid: &str) {
    let plan = CallPlan { from: OURS.into(), to: QUERIED.into(), ..world.stack.call_plan() };
    let forger = CallPlan { auth_token: "another".into(), ..plan.clone() };
    let path = |path: &str| format!("{path}?key={FORGED_KEY}&to={}", QUERIED.replace('+', "%2B"));
    let named = ["status", "amd", "outbound"].map(|what| path(&format!("/voice/{what}/{id}")));
    let more = ["/voice/status", "/voice/amd", "/voice/stream-status", "/voice/dialled", "/voice/after"].map(path);
    for path in named.into_iter().chain(more) {
        assert_eq!(signed(&forger, &path, plan.parameters(sid, "completed")).await.status, 403, "{path}");
    }
    let unknown = signed(&plan, &path("/voice/status"), plan.parameters("CA1", "completed")).await;
    assert_eq!(unknown.status, 404);
    let failed = [("StreamEvent", "stream-error"), ("StreamError", "31920")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let fields = [plan.parameters(sid, "in-progress"), failed.into()].concat();
    assert_eq!(signed(&plan, &path("/voice/stream-status"), fields).await.status, 204);
}

/// Requests that are refused.
async fn mistake(world: &World, own: &Receiver) {
    let with_password = own.url("/").replace("http://", &format!("https://user:{PASSWORD}@"));
    let stream = format!("wss://elsewhere.example/{STREAM_PATH}");
    for (body, status) in [
        (json!({"to": FORBIDDEN}), 403),
        (json!({"to": format!("{CALLEE}x")}), 400),
        (json!({"to": CALLEE[1..].parse::<u64>().unwrap()}), 400),
        (json!({"to": CALLEE, "parameters": {"account": [PARAMETER]}}), 400),
        (json!({"to": CALLEE, "parameters": {PARAMETER: "x"}}), 400),
        (json!({"to": CALLEE, (PARAMETER): "x"}), 400),
        (json!({"to": CALLEE, "agent": PARAMETER}), 400),
        (json!({"to": CALLEE, "status_webhook": with_password}), 403),
        (json!({"to": CALLEE, "status_webhook": format!("ftp://{PASSWORD}")}), 400),
        (json!({"to": CALLEE, "websocket_url": stream}), 403),
    ] {
        assert_eq!(world.call(&body).await.status, status, "{body}");
    }
    for (method, path) in [("POST", "/v1/calls"), ("GET", "/v1/calls"), ("DELETE", "/v1/calls/CA1")] {
        for authorization in [
            format!("Bearer {WRONG_TOKEN}"),
            format!("Basic {}", BASE64_STANDARD.encode(format!("{ACCOUNT}:{WRONG_TOKEN}"))),
            WRONG_TOKEN.to_owned(),
        ] {
            let stranger = ApiClient { token: String::new(), ..world.api.clone() };
            let refused = stranger.ask(method, path, &[("Authorization", &authorization)], None).await;
            refused.assert_problem(401, "unauthorized");
        }
    }
    let path = format!("/call/outbound?to_number={}&from_number={NAME}", &FORBIDDEN[1..]).replace(' ', "+");
    world.api.ask("POST", &path, &[], None).await.assert_problem(400, "field_invalid");
    let placed = world.talking("scripted").await;
    let id = placed.text("id");
    for change in [
        json!({"say": format!("{SAID}\n")}),
        json!({"play_digits": format!("{DIGITS}x")}),
        json!({"transfer": format!("{HANDED_TO}x")}),
        json!({"transfer": FORBIDDEN}),
        json!({"say": SAID, "play_digits": DIGITS}),
    ] {
        let refused = world.patch(id, change).await;
        assert!((400..500).contains(&refused.status), "{}", refused.json);
    }
    assert_eq!(world.api.delete(&format!("/v1/calls/{id}")).await.status, 204);
    world.settled(placed.text("call_sid")).await;
}

/// Twilio refuses, throttles and answers nonsense; its words name the number.
async fn suffer(world: &World) {
    world.call(&json!({"to": CALLEE, "from": NOT_OURS})).await.assert_problem(422, "twilio_refused");
    let retry_after = Some(Duration::from_secs(1));
    for (mishap, status) in [
        (Mishap::TooMany { retry_after }, 201),
        (Mishap::unauthorized(), 502),
        (Mishap::LostAnswer { carried_out: false }, 502),
        (Mishap::Page { status: 502 }, 502),
    ] {
        world.exchange.add_fault(Fault::on_create(mishap));
        let answer = world.call(&json!({"to": CALLEE})).await;
        assert_eq!(answer.status, status, "{}", answer.json);
        if status == 201 {
            assert_eq!(world.api.delete(&format!("/v1/calls/{}", answer.text("id"))).await.status, 204);
        }
    }
}

/// A call by a route, before and after the file was broken; its ticket.
async fn come_in(world: &World, folder: &Folder) -> String {
    let plan = CallPlan { from: CALLER.into(), to: ROUTED.into(), ..world.stack.call_plan() };
    for broken in [
        format!("[[route]]\nto = {BROKEN}\nagent = 5\n"),
        format!("[[route]]\nto = \"{BROKEN}x\"\nparameters = {{ name = 1, \"{NAME}\" = \"{NAME}\" }}\n"),
        format!("[[route]]\n{} = \"{BROKEN}\"\n", &BROKEN[1..]),
        format!("[[route]]\nto = \"{BROKEN}"),
    ] {
        fs::write(folder.routes(), &broken).unwrap();
        assert!(!world.stack.reload_routes(), "{broken}");
    }
    let call_sid = "CA00000000000000000000000000000015";
    let fields = [plan.parameters(call_sid, "ringing"), vec![("CallerName".into(), NAME.into())]].concat();
    assert_eq!(signed(&plan, "/voice/incoming", fields).await.status, 200);
    let invitation = Invitation::ask(&CallPlan { call_sid: Some(call_sid.into()), ..plan.clone() }).await;
    let ticket = invitation.ticket().to_owned();
    let mut line = Line::open(&plan, invitation).await;
    line.start().await;
    line.press('1').await;
    line.listen_until(|heard| heard.mulaw.len() > 800).await;
    line.hang_up().await;
    ticket
}

/// A folder for the routes file and the captures of one test; gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(routes: &str) -> Self {
        let folder = Self(std::env::temp_dir().join(format!("tandem-pii-{}", std::process::id())));
        fs::create_dir_all(folder.0.join("captures")).unwrap();
        fs::write(folder.routes(), routes).unwrap();
        folder
    }

    fn routes(&self) -> PathBuf {
        self.0.join("routes.toml")
    }

    fn captures(&self) -> Vec<String> {
        let files = fs::read_dir(self.0.join("captures")).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Panics unless the log is really on and has something of each of these.
fn assert_logged(log: &Log, expected: &[&str]) {
    for part in expected {
        assert!(log.find(&[part]).is_some(), "{part} is not in the log");
    }
}

/// Panics when a secret is in the log, and when a canary that is logged as a secret might be is not found there.
fn assert_kept(secrets: &Secrets, log: &Log, canary: &str) {
    assert_eq!(secrets.leaks(&log.text()), [""; 0]);
    let mut put = Secrets::default();
    put.add("the canary", canary);
    assert_eq!(put.leaks(&log.text()), [""; 0]);
    let encoded = BASE64_STANDARD.encode(format!("user:{canary}"));
    tracing::trace!(target: "gateway::api", canary, "a number as it is");
    tracing::trace!(target: "hyper::client", authorization = encoded, "a header");
    let found = put.leaks(&log.text());
    assert!(found.len() == 2 && found.iter().all(|leak| leak.starts_with("the canary, ")), "{found:?}");
}

/// A conversation of the worker's with orders, good and bad, until it has ended.
async fn order(stack: &Stack) {
    let order = |instruction| Message::Instruct(Instruct { id: 1, instruction: Some(instruction) });
    let digits = |digits: String| order(Instruction::PlayDigits(PlayDigits { digits }));
    let say = |text: String| order(Instruction::Say(Say { text }));
    let open = Open { from: FROM.into(), to: TO.into(), agent: "scripted".into(), ..Open::default() };
    let messages = [
        Message::Open(Box::new(open)),
        digits(PIN.into()),
        digits(format!("{PIN}?")),
        say(WORDS.into()),
        say(format!("{WORDS}\n")),
        Message::Close(Close::default()),
    ];
    let requests = messages.map(|message| ConverseRequest { message: Some(message) });
    let mut answers = stack.voice().await.converse(tokio_stream::iter(requests)).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
}
