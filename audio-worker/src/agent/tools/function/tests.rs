//! Functions against servers in the test.

use std::sync::{Arc, Mutex};

use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::watch,
};

use super::*;
use crate::agent::tools::Toolbox;

/// A server that gives each request the same bytes, and keeps what it was asked.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    /// How many clients went away before they had their answer.
    gone: watch::Receiver<usize>,
}

/// What comes of a request.
#[derive(Clone)]
enum Script {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing at all.
    Never,
    /// A head, and then a byte every so often.
    Drip(Duration),
    /// The first is cut off, the second gets these bytes.
    Second(Vec<u8>),
}

fn answer(status: &str, kind: &str, body: &str) -> Script {
    let length = body.len();
    Script::Bytes(format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}").into())
}

impl Server {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (left, gone) = watch::channel(0);
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, kept, left) = (script.clone(), Arc::clone(&kept), left.clone());
                tokio::spawn(async move {
                    if serve(stream, script, &kept).await.is_none() {
                        left.send_modify(|left| *left += 1);
                    }
                });
            }
        });
        Self { port, asked, gone }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// One request; `None` when its client went away.
async fn serve(mut stream: TcpStream, script: Script, kept: &Mutex<Vec<String>>) -> Option<()> {
    let (mut request, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        request.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break;
        }
    }
    let nth = {
        let mut kept = kept.lock().unwrap();
        kept.push(request);
        kept.len()
    };
    match script {
        Script::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
        Script::Second(_) if nth == 1 => return Some(()),
        Script::Second(bytes) => stream.write_all(&bytes).await.ok()?,
        Script::Never => {
            while stream.read(&mut buffer).await.ok()? > 0 {}
            return None;
        }
        Script::Drip(pause) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(b"x").await.ok()?;
                tokio::time::sleep(pause).await;
            }
        }
    }
    // The connection stays open, as servers keep it.
    while stream.read(&mut buffer).await.ok()? > 0 {}
    Some(())
}

fn function(server: &Server, path: &str) -> Function {
    let parameters = json!({
        "type": "object",
        "properties": {"id": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["id"]
    });
    let spec = ToolSpec { name: "look".to_owned(), description: "x".to_owned(), parameters };
    let url = Address::parse(&format!("http://127.0.0.1:{}{path}", server.port)).unwrap();
    let limit = Duration::from_secs(5);
    let (headers, share) = (Vec::new(), Vec::new());
    Function { spec, url, method: Method::GET, headers, body: Sends::Query, share, limit, filler: None, safe: false }
}

async fn call(function: Function, arguments: &str) -> Outcome {
    let client = Client::new(Handle::current()).unwrap();
    let tools = Toolbox::new(vec![Box::new(Asking { function, client })]);
    let parameters = [("customer".to_owned(), "Zoë 100%".to_owned())];
    let about = About {
        call_id: "CA1".to_owned(),
        from: "+15550100".to_owned().into(),
        to: "+15550199".to_owned().into(),
        parameters: Sensitive::new(parameters.into()),
    };
    tools.call("look", arguments, &about).outcome.await
}

async fn told(script: Script) -> Outcome {
    let server = Server::start(script).await;
    call(function(&server, "/orders/{id}"), r#"{"id": "7"}"#).await
}

fn failed(outcome: &Outcome) -> (Verdict, Value) {
    let Outcome::Fail(verdict, told) = outcome else { panic!("{outcome:?}") };
    (*verdict, serde_json::from_str(told).unwrap())
}

#[tokio::test]
async fn a_request_is_what_the_file_says() {
    let server = Server::start(answer("200 OK", "application/json", " {\"state\": \"sent\"}\n")).await;
    let mut asking = function(&server, "/orders/{id}?full=1");
    asking.headers = vec![(header::AUTHORIZATION, Sensitive::new(HeaderValue::from_static("Bearer s3cret")))];
    let customer = Shared::Parameter("customer".to_owned());
    let none = Shared::Parameter("none".to_owned());
    asking.share = vec![Shared::CallId, Shared::From, Shared::To, customer, none];
    let outcome = call(asking.clone(), r#"{"id": "a/b", "count": 2}"#).await;
    assert_eq!(outcome, Outcome::Answer("{\"state\": \"sent\"}".to_owned()));
    let request = &server.asked()[0];
    assert!(request.starts_with("GET /orders/a%2Fb?full=1&count=2 HTTP/1.1\r\n"), "{request}");
    for line in [
        "authorization: Bearer s3cret",
        "tandem-call-id: CA1",
        "tandem-from: +15550100",
        "tandem-to: +15550199",
        "tandem-parameter-customer: Zo%C3%AB 100%25",
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line} is missing in {request}");
    }
    assert!(!request.contains("parameter-none") && !format!("{asking:?}").contains("s3cret"));
    (asking.method, asking.body) = (Method::POST, Sends::Json);
    call(asking.clone(), r#"{"id": "a", "count": 2}"#).await;
    let request = &server.asked()[1];
    assert!(request.starts_with("POST /orders/a?full=1 ") && request.contains("content-type: application/json\r\n"));
    assert!(request.ends_with("\r\n\r\n{\"count\":2,\"id\":\"a\"}"), "{request}");
    asking.body = Sends::Form;
    call(asking, r#"{"id": "a b&c", "count": 2}"#).await;
    let request = &server.asked()[2];
    assert!(
        request.contains("x-www-form-urlencoded\r\n") && request.ends_with("\r\n\r\ncount=2&id=a+b%26c"),
        "{request}"
    );
}

#[tokio::test]
async fn arguments_that_do_not_fit_reach_nobody() {
    let server = Server::start(answer("200 OK", "text/plain", "x")).await;
    for arguments in
        ["{}", r#"{"id": 7}"#, r#"{"id": ".."}"#, r#"{"id": ""}"#, "no JSON", r#"{"id": "7", "admin": true}"#]
    {
        let (verdict, told) = failed(&call(function(&server, "/orders/{id}"), arguments).await);
        assert_eq!((verdict, told["error"].is_string()), (Verdict::Invalid, true), "{arguments}");
    }
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn answers_are_told_as_they_are_or_why_not() {
    assert_eq!(told(answer("200 OK", "text/plain", "sent\n")).await, Outcome::Answer("sent".to_owned()));
    let empty = told(answer("204 No Content", "text/plain", "")).await;
    assert_eq!(empty, Outcome::Answer("{\"ok\":\"done, without an answer\"}".to_owned()));
    let (verdict, why) = failed(&told(answer("200 OK", "text/html; charset=utf-8", "<html>Log in</html>")).await);
    assert_eq!((verdict, &why["error"]), (Verdict::Unusable, &json!("it answered with a web page instead of data")));
    let (verdict, why) = failed(&told(answer("500 Oops", "application/json", "{\"detail\": \"no such order\"}")).await);
    assert_eq!(verdict, Verdict::Failed);
    assert_eq!(why, json!({"error": "it failed with HTTP 500", "status": 500, "answer": {"detail": "no such order"}}));
    let (_, why) = failed(&told(answer("404 No", "text/html", "<html>Not found</html>")).await);
    assert_eq!(why, json!({"error": "it failed with HTTP 404", "status": 404}));
    let long = "x".repeat(100_000);
    let (_, why) = failed(&told(answer("500 Oops", "text/plain", &long)).await);
    assert_eq!(why["answer"].as_str().unwrap().len(), MAX_ERROR_BYTES);
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".to_vec();
    bytes.extend([0xff, 0xfe]);
    let (verdict, why) = failed(&told(Script::Bytes(bytes)).await);
    assert_eq!((verdict, &why["error"]), (Verdict::Unusable, &json!("it was done, but its answer is no text")));
    let (verdict, _) = failed(&told(Script::Bytes(b"no HTTP\r\n\r\n".to_vec())).await);
    assert_eq!(verdict, Verdict::Unreachable);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Server::start(answer("200 OK", "text/plain", "x")).await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{}/\r\nContent-Length: 0\r\n\r\n", other.port);
    let (verdict, why) = failed(&told(Script::Bytes(redirect.into())).await);
    assert_eq!((verdict, &why["status"]), (Verdict::Failed, &json!(302)));
    assert!(why["error"].as_str().unwrap().contains("redirect") && other.asked().is_empty());
}

#[tokio::test]
async fn too_long_an_answer_is_cut_off_with_its_connection() {
    let mut server = Server::start(answer("200 OK", "application/json", &"x".repeat(5 << 20))).await;
    let (verdict, why) = failed(&call(function(&server, "/{id}"), r#"{"id": "7"}"#).await);
    assert_eq!(verdict, Verdict::Unusable);
    assert!(why["error"].as_str().unwrap().contains("too large") && why.to_string().len() < 200);
    let gone = timeout(Duration::from_secs(10), server.gone.wait_for(|gone| *gone == 1)).await;
    assert!(gone.is_ok(), "the connection stays");
    let fits = "y".repeat(MAX_ANSWER_BYTES);
    assert_eq!(told(answer("200 OK", "text/plain", &fits)).await, Outcome::Answer(fits));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_in_time_is_given_up() {
    for script in [Script::Never, Script::Drip(Duration::from_millis(500))] {
        let mut server = Server::start(script).await;
        let (verdict, why) = failed(&call(function(&server, "/{id}"), r#"{"id": "7"}"#).await);
        assert_eq!(verdict, Verdict::Timeout);
        assert!(why["error"].as_str().unwrap().contains("in time"));
        server.gone.wait_for(|gone| *gone == 1).await.unwrap();
    }
    let nobody = Server::start(Script::Never).await;
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (verdict, _) = failed(&call(function(&Server { port: refused, ..nobody }, "/{id}"), r#"{"id": "7"}"#).await);
    assert_eq!(verdict, Verdict::Unreachable);
}

#[tokio::test]
async fn only_what_looks_things_up_is_asked_twice() {
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    for safe in [false, true] {
        let server = Server::start(Script::Second(whole.clone())).await;
        let outcome = call(Function { safe, ..function(&server, "/{id}") }, r#"{"id": "7"}"#).await;
        assert_eq!((outcome.verdict() == Verdict::Done, server.asked().len()), (safe, if safe { 2 } else { 1 }));
    }
}

#[tokio::test]
async fn what_does_something_is_carried_through_and_a_look_up_is_given_up() {
    for safe in [false, true] {
        let mut server = Server::start(Script::Never).await;
        let asking = Function { safe, limit: Duration::from_millis(600), ..function(&server, "/{id}") };
        let mut outcome = Box::pin(call(asking, r#"{"id": "7"}"#));
        let asked = Arc::clone(&server.asked);
        // Asked, and then dropped, as by an interruption.
        tokio::select! {
            _ = &mut outcome => panic!("nobody answers"),
            () = async { while asked.lock().unwrap().is_empty() { tokio::task::yield_now().await } } => {}
        }
        drop(outcome);
        let early = timeout(Duration::from_millis(200), server.gone.wait_for(|gone| *gone == 1)).await.is_ok();
        assert_eq!(early, safe);
        server.gone.wait_for(|gone| *gone == 1).await.unwrap();
    }
}
