//! The carrier against a scripted peer: what is asked, what is asked again, what comes of it.

use super::*;
use crate::{
    client::scripted::{Peer, Reply},
    config::Credentials,
};
use serde_json::json;
use tokio::{net::TcpListener, runtime::Handle};

const SID: &str = "CA5ef8732a3c49700934481addd5ce1659";

/// The same plan, a thousand times faster.
const FAST: Backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(20), ..TRIES };

fn config(base_url: String, is_key: bool) -> config::Carrier {
    config::Carrier {
        base_url,
        account_sid: Some("AC1".to_owned()),
        credentials: Some(Credentials {
            user: if is_key { "SK1" } else { "AC1" }.to_owned(),
            secret: Sensitive::new("s3cret".to_owned()),
            is_key,
        }),
    }
}

fn carrier(peer: &Peer) -> Carrier {
    let config = config(format!("http://{}", peer.address), true);
    Carrier { tries: FAST, ..Carrier::new(&config, Client::new(Handle::current()).unwrap()) }
}

fn call() -> CreateCall {
    CreateCall {
        to: Sensitive::new("+15550101".to_owned()),
        from: Sensitive::new("+15550100".to_owned()),
        url: "https://voice.example.com/voice/outbound?id=1&x=%2B".to_owned(),
        status_callback: "https://voice.example.com/voice/status".to_owned(),
        answering_machine: None,
        record: None,
        ring_timeout_s: None,
        time_limit_s: None,
    }
}

fn queued() -> Reply {
    Reply::json(201, &json!({"sid": SID, "status": "queued"}))
}

fn throttled(headers: &str) -> Reply {
    Reply::answer(429, headers, r#"{"code":20429,"message":"Too many requests"}"#)
}

/// A create that meets `replies`, and how many requests it was.
async fn create(replies: Vec<Reply>) -> (Result<CallResource, CarrierError>, usize) {
    let peer = Peer::start(replies).await;
    let result = carrier(&peer).create(&call()).await;
    (result, peer.seen().len())
}

#[tokio::test]
async fn a_call_is_placed_as_documented() {
    let peer = Peer::start(vec![queued()]).await;
    let placed = carrier(&peer).create(&call()).await.unwrap();
    assert_eq!((placed.sid.as_str(), placed.status.as_str()), (SID, "queued"));
    let seen = peer.seen();
    assert!(seen[0].starts_with("POST /2010-04-01/Accounts/AC1/Calls.json HTTP/1.1\r\n"), "{seen:?}");
    assert!(seen[0].contains("authorization: Basic U0sxOnMzY3JldA==\r\n"), "{seen:?}");
    assert!(seen[0].contains("content-type: application/x-www-form-urlencoded\r\n"), "{seen:?}");
    let (_, body) = seen[0].split_once("\r\n\r\n").unwrap();
    let fields: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let expected: Vec<_> = call().form().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn only_429_is_asked_again_when_a_call_is_placed() {
    let (placed, asked) = create(vec![throttled(""), throttled("Retry-After: 0\r\n"), queued()]).await;
    assert_eq!((placed.unwrap().sid.as_str(), asked), (SID, 3));

    let (refused, asked) = create(vec![throttled(""); 9]).await;
    assert_eq!((refused, asked), (Err(CarrierError::Throttled { retry_after: None }), 5));

    // It asks for more than we have.
    let (refused, asked) = create(vec![throttled("Retry-After: 3600\r\n"); 9]).await;
    let hour = Some(Duration::from_secs(3600));
    assert_eq!((refused, asked), (Err(CarrierError::Throttled { retry_after: hour }), 1));
}

#[tokio::test]
async fn a_call_that_may_have_been_placed_is_not_placed_again() {
    let html = "<html><h1>502 Bad Gateway</h1></html>";
    let half = b"HTTP/1.1 201 Created\r\nContent-Length: 90\r\n\r\n{\"sid\":".to_vec();
    for reply in [
        Reply::Reset,
        Reply::Bytes(Vec::new()),
        Reply::Bytes(half),
        Reply::answer(502, "Content-Type: text/html\r\n", html),
        Reply::answer(500, "", ""),
        Reply::answer(201, "", html),
        Reply::answer(307, "Location: /elsewhere\r\n", ""),
        Reply::json(201, &json!({"status": "queued"})),
        Reply::answer(201, "", &"x".repeat(300 << 10)),
    ] {
        let (result, asked) = create(vec![reply.clone(), queued()]).await;
        let error = result.unwrap_err();
        assert!(error.may_have_happened() && asked == 1, "{error} after {asked}");
    }
}

#[tokio::test]
async fn a_call_that_was_refused_says_why() {
    let body = json!({"code": 21215, "message": "+15550101 is not allowed", "status": 400,
        "more_info": "https://www.twilio.com/docs/errors/21215"});
    let (refused, asked) = create(vec![Reply::json(400, &body), queued()]).await;
    let Err(CarrierError::Refused { status: 400, code: Some(21215), message, more_info: Some(_) }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((message.expose().as_str(), asked), ("+15550101 is not allowed", 1));

    let (refused, _) = create(vec![Reply::json(401, &json!({"code": 20003, "message": "Authenticate"}))]).await;
    assert!(matches!(refused, Err(CarrierError::Credentials { code: Some(20003), .. })), "{refused:?}");
    let (refused, _) = create(vec![Reply::json(404, &json!({"code": 20404}))]).await;
    assert_eq!(refused, Err(CarrierError::NotFound { code: Some(20404) }));
}

#[tokio::test]
async fn a_carrier_that_cannot_be_reached_was_certainly_not_asked() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = config(format!("http://{address}"), false);
    let nobody = Carrier { tries: FAST, ..Carrier::new(&config, Client::new(Handle::current()).unwrap()) };
    let error = nobody.create(&call()).await.unwrap_err();
    assert!(matches!(error, CarrierError::Unreachable { .. }) && !error.may_have_happened(), "{error}");
}

#[tokio::test]
async fn without_an_account_nobody_is_asked() {
    let client = Client::new(Handle::current()).unwrap();
    let good = config("http://127.0.0.1:9".to_owned(), true);
    for (config, missing) in [
        (config::Carrier { account_sid: None, ..good.clone() }, "TWILIO_ACCOUNT_SID"),
        (config::Carrier { credentials: None, ..good.clone() }, "TWILIO_API_KEY"),
        (config::Carrier { account_sid: Some("AC/..".to_owned()), ..good }, "TWILIO_ACCOUNT_SID"),
    ] {
        let error = Carrier::new(&config, client.clone()).create(&call()).await.unwrap_err();
        assert!(matches!(error, CarrierError::NotConfigured(what) if what.contains(missing)), "{error}");
    }
}

#[tokio::test]
async fn a_question_is_asked_again() {
    let peer = Peer::start(vec![Reply::Reset, Reply::answer(503, "", ""), throttled(""), queued()]).await;
    assert_eq!(carrier(&peer).fetch(SID).await.unwrap().status, "queued");
    assert_eq!(peer.seen().len(), 4);
    assert!(peer.seen()[3].starts_with(&format!("GET /2010-04-01/Accounts/AC1/Calls/{SID}.json ")));
    assert_eq!(carrier(&peer).fetch("../CA1").await, Err(CarrierError::NotFound { code: None }));
}

#[tokio::test]
async fn a_call_that_is_gone_is_ended() {
    let wrong_state = || Reply::json(400, &json!({"code": 21220, "message": "Call is not in-progress"}));
    let over = || Reply::json(200, &json!({"sid": SID, "status": "busy"}));
    let answered = || Reply::json(200, &json!({"sid": SID, "status": "in-progress"}));
    for (how, replies, expected) in [
        (End::Completed, vec![over()], Some(Ended::Now)),
        (End::Completed, vec![Reply::Reset, over()], Some(Ended::Now)),
        (End::Completed, vec![Reply::json(404, &json!({"code": 20404}))], Some(Ended::AlreadyGone)),
        (End::Completed, vec![wrong_state()], Some(Ended::AlreadyGone)),
        (End::Canceled, vec![wrong_state(), over()], Some(Ended::AlreadyGone)),
        (End::Canceled, vec![wrong_state(), answered()], None),
    ] {
        let peer = Peer::start(replies).await;
        let ended = carrier(&peer).end(SID, how).await;
        let refused = |error: &CarrierError| matches!(error, CarrierError::Refused { code: Some(21220), .. });
        match expected {
            Some(expected) => assert_eq!(ended, Ok(expected)),
            None => assert!(ended.as_ref().is_err_and(refused), "{ended:?}"),
        }
        let status = if how == End::Completed { "Status=completed" } else { "Status=canceled" };
        assert!(peer.seen()[0].ends_with(status), "{:?}", peer.seen());
    }
}

#[tokio::test]
async fn the_doctor_learns_of_the_account_and_its_number() {
    let date = "Date: Fri, 01 Jan 2027 00:00:00 GMT\r\n";
    let number = r#"{"incoming_phone_numbers":[{"sid":"PN1","phone_number":"+15550100","voice_url":"https://x"}]}"#;
    let peer = Peer::start(vec![Reply::answer(200, date, r#"{"calls":[]}"#), Reply::answer(200, "", number)]).await;
    let account = carrier(&peer).account().await.unwrap();
    assert_eq!(account.date, Some(std::time::UNIX_EPOCH + Duration::from_secs(1_798_761_600)));
    assert_eq!(carrier(&peer).numbers("+15550100").await.unwrap()[0].voice_url.as_deref(), Some("https://x"));
    let asked: Vec<_> = peer.seen().iter().map(|text| text.lines().next().unwrap().to_owned()).collect();
    assert_eq!(
        asked,
        [
            "GET /2010-04-01/Accounts/AC1/Calls.json?PageSize=1 HTTP/1.1",
            "GET /2010-04-01/Accounts/AC1/IncomingPhoneNumbers.json?PhoneNumber=%2B15550100 HTTP/1.1"
        ]
    );

    let peer = Peer::start(vec![Reply::answer(200, "", r#"{"status":"active","type":"Trial"}"#)]).await;
    let config = config(format!("http://{}", peer.address), false);
    let by_token = Carrier::new(&config, Client::new(Handle::current()).unwrap()).account().await.unwrap();
    assert_eq!((by_token.status.as_deref(), by_token.kind.as_deref()), (Some("active"), Some("Trial")));
    assert!(peer.seen()[0].starts_with("GET /2010-04-01/Accounts/AC1.json "));
}

#[test]
fn neither_numbers_nor_secrets_are_logged_at_any_level() {
    let log = Log::default();
    let subscriber = || {
        let log = log.clone();
        let log = move || log.clone();
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log).finish()
    };
    // While there is only one, tracing asks no other thread's subscriber whether a line is wanted, and remembers.
    let _second = tracing::Dispatch::new(subscriber());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber(), || {
        runtime.block_on(async {
            let refusal = json!({"code": 21211, "message": "+15550101 is not valid"});
            for last in [queued(), Reply::json(400, &refusal), Reply::answer(502, "", "+15550101"), Reply::Reset] {
                let peer = Peer::start(vec![throttled(""), last]).await;
                let result = carrier(&peer).create(&call()).await;
                tracing::info!(?result, call = ?call(), carrier = ?carrier(&peer), "all that there is");
                if let Err(error) = result {
                    tracing::warn!(%error, "and once more");
                }
            }
        });
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("asking the carrier again") && log.contains("21211"), "{log}");
    for secret in ["5550101", "5550100", "s3cret", "U0sxOnMzY3JldA"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
