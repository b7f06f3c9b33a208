//! A small server in the place of a gateway: answers TwiML by path and hands each WebSocket to the
//! test's own script. It lives in the test's process and in virtual time.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use tests::sim::{CallPlan, Io, Route};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};
use url::{Url, form_urlencoded};

pub(crate) const TOKEN: &str = "12345";

pub(crate) type Socket = WebSocketStream<Box<dyn Io>>;
pub(crate) type Script = dyn Fn(Socket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) params: Vec<(String, String)>,
}

/// What the server does.
#[derive(Clone)]
pub(crate) struct StandIn {
    /// Status, content type and body by path.
    pub(crate) pages: HashMap<String, (u16, String, String)>,
    /// Status of the handshake; 101 runs the script, 0 never answers.
    pub(crate) handshake: u16,
    pub(crate) script: Arc<Script>,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

pub(crate) const CONNECT: &str = r#"<?xml version="1.0" encoding="UTF-8"?><Response><Connect action="/voice/ended">
    <Stream url="wss://demo.example/media" statusCallback="https://demo.example/voice/status">
    <Parameter name="ticket" value="t1"/></Stream></Connect></Response>"#;

impl StandIn {
    /// A server that answers [`CONNECT`] and runs `script` on the stream.
    pub(crate) fn new<F, Fut>(script: F) -> Self
    where
        F: Fn(Socket) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut pages = HashMap::new();
        let mut page = |path: &str, body: &str| {
            pages.insert(path.to_owned(), (200, "text/xml".to_owned(), body.to_owned()));
        };
        page("/voice/incoming", CONNECT);
        page("/voice/ended", "<Response><Say>Good bye.</Say><Hangup/></Response>");
        page("/voice/status", "");
        Self { pages, handshake: 101, script: Arc::new(move |socket| Box::pin(script(socket))), seen: Arc::default() }
    }

    pub(crate) fn page(mut self, path: &str, status: u16, body: &str) -> Self {
        let page = (status, "text/xml".to_owned(), body.to_owned());
        self.pages.insert(path.to_owned(), page);
        self
    }

    /// Starts to serve; the plan of a call that gets here.
    pub(crate) fn start(&self) -> CallPlan {
        let (sender, mut connections) = mpsc::channel(8);
        let server = self.clone();
        tokio::spawn(async move {
            while let Some(stream) = connections.recv().await {
                tokio::spawn(server.clone().serve(Box::new(stream)));
            }
        });
        let url = Url::parse("https://demo.example").unwrap();
        CallPlan::over(Route::InProcess(sender), url, TOKEN)
    }

    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|s| s.target == path).cloned().collect()
    }

    pub(crate) async fn serve(self, mut stream: Box<dyn Io>) {
        let Some((seen, key)) = read_request(&mut stream).await else {
            return;
        };
        let path = seen.target.split('?').next().unwrap().to_owned();
        self.seen.lock().unwrap().push(seen);
        let Some(key) = key else {
            let (status, content_type, body) = self.pages.get(&path).cloned().unwrap_or_default();
            let answer = format!(
                "HTTP/1.1 {status} Whatever\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            return;
        };
        match self.handshake {
            101 => {
                let accept = derive_accept_key(key.as_bytes());
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
                (self.script)(socket).await;
            }
            0 => std::future::pending().await,
            status => {
                let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 2\r\n\r\nno");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    }
}

async fn read_request(stream: &mut Box<dyn Io>) -> Option<(Seen, Option<String>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        stream.read_buf(&mut body).await.ok()?;
    }
    let key = headers.get("sec-websocket-key").cloned();
    let seen = Seen { method, target, headers, params: form_urlencoded::parse(&body).into_owned().collect() };
    Some((seen, key))
}
