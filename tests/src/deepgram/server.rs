//! Connections: a handshake and a session, or a recording and its words.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as SocketError, Message,
        handshake::derive_accept_key,
        protocol::{
            CloseFrame, Role,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};
use url::form_urlencoded;

use super::{
    FINALIZES_AFTER, Mishap, Session, Shared,
    line::Line,
    recogniser::{Finding, Recogniser},
};

/// Longest head of a request.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Without sound and signs of life for so long a session ends.
const SILENT_LIMIT: Duration = Duration::from_secs(10);
/// So much of the sound is kept.
const KEPT_BYTES: usize = 400;

/// Serves connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

/// A request's head.
struct Head {
    is_post: bool,
    query: Vec<(String, String)>,
    /// By their names in small letters.
    headers: HashMap<String, String>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let Ok(Some(head)) = head(&mut stream).await else { return };
    let authorization = head.header("authorization").map(str::to_owned);
    let noted = Session { query: head.query.clone(), authorization, is_recording: head.is_post, ..Session::default() };
    let place = shared.note(noted);
    let done = if head.is_post {
        recording(stream, &head, &shared, place).await.map_err(SocketError::from)
    } else {
        let mishap = shared.state().mishaps.pop_front();
        upgraded(stream, &head, &shared, place, mishap).await
    };
    // A client that leaves, and a mishap, end a session alike.
    let _ = done;
    shared.update(place, |session| session.is_over = true);
}

async fn head(stream: &mut TcpStream) -> io::Result<Option<Head>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > MAX_HEAD_BYTES {
            return Ok(None);
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (request.next().unwrap_or_default(), request.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect();
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    Ok((path == "/v1/listen").then_some(Head { is_post: method == "POST", query, headers }))
}

async fn recording(mut stream: TcpStream, head: &Head, shared: &Shared, place: usize) -> io::Result<()> {
    let length = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    shared.update(place, |session| {
        session.bytes = length;
        session.first = body.iter().take(KEPT_BYTES).copied().collect();
    });
    let recorded = shared.state().recorded.clone();
    let (status, answer) = match recorded {
        Some(Ok(words)) => {
            let alternatives = json!([{ "transcript": words, "confidence": 0.9, "words": [] }]);
            (200, json!({ "metadata": {}, "results": { "channels": [{ "alternatives": alternatives }] } }))
        }
        Some(Err(status)) => (status, json!({ "err_code": "NO", "err_msg": "Not today.", "request_id": "0" })),
        None => (500, Value::Null),
    };
    respond(&mut stream, status, &answer.to_string()).await
}

async fn respond(stream: &mut TcpStream, status: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

async fn upgraded(
    mut stream: TcpStream,
    head: &Head,
    shared: &Shared,
    place: usize,
    mishap: Option<Mishap>,
) -> Result<(), SocketError> {
    if let Some(Mishap::Refuse(status)) = mishap {
        let body = json!({ "err_code": "INVALID_AUTH", "err_msg": "Invalid credentials.", "request_id": "0" });
        return Ok(respond(&mut stream, status, &body.to_string()).await?);
    }
    let Some(key) = head.header("sec-websocket-key") else { return Ok(respond(&mut stream, 400, "{}").await?) };
    let accept = derive_accept_key(key.as_bytes());
    let switching = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(switching.as_bytes()).await?;
    let pace = if let Some(Mishap::ByteByByte(pace)) = mishap { Some(pace) } else { None };
    let socket = WebSocketStream::from_raw_socket(Line::new(stream, pace), Role::Server, None).await;
    let number = |name: &str| {
        let found = head.query.iter().find(|(key, _)| key == name);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or(1000)
    };
    let recogniser = Recogniser::new(number("endpointing"), number("utterance_end_ms"));
    Listening { socket, recogniser, shared, place, mishap }.run().await
}

/// One session.
struct Listening<'a> {
    socket: WebSocketStream<Line>,
    recogniser: Recogniser,
    shared: &'a Shared,
    place: usize,
    mishap: Option<Mishap>,
}

impl Listening<'_> {
    async fn run(mut self) -> Result<(), SocketError> {
        let after = match self.mishap {
            Some(Mishap::NeverFinalizes) => None,
            Some(Mishap::FinalizesAfter(after)) => Some(after),
            _ => Some(FINALIZES_AFTER),
        };
        let (mut due, mut silent): (Option<Instant>, _) = (None, now() + SILENT_LIMIT);
        loop {
            let message = tokio::select! {
                message = self.socket.next() => message,
                () = sleep_until(due.unwrap_or(silent)), if due.is_some() => {
                    due = None;
                    self.tell(Finding::Final { speech_final: false }, true).await?;
                    continue;
                }
                () = sleep_until(silent) => return self.close(1011, "NET-0001").await,
            };
            let Some(message) = message else { return Ok(()) };
            match message? {
                Message::Binary(codes) => {
                    silent = now() + SILENT_LIMIT;
                    self.shared.update(self.place, |session| {
                        session.bytes += codes.len();
                        let room = KEPT_BYTES.saturating_sub(session.first.len());
                        session.first.extend(codes.iter().take(room));
                    });
                    self.recogniser.hear(&codes);
                    while let Some(finding) = self.recogniser.next() {
                        self.tell(finding, false).await?;
                        if self.is_struck() {
                            return self.strike().await;
                        }
                    }
                    if self.is_struck() {
                        return self.strike().await;
                    }
                }
                Message::Text(text) => {
                    let order: Value = serde_json::from_str(&text).unwrap_or_default();
                    match order["type"].as_str() {
                        Some("KeepAlive") => {
                            silent = now() + SILENT_LIMIT;
                            self.shared.update(self.place, |session| session.keep_alives += 1);
                        }
                        Some("Finalize") => {
                            due = after.map(|after| now() + after);
                            self.shared.update(self.place, |session| session.finalizes += 1);
                        }
                        Some("CloseStream") => {
                            self.shared.update(self.place, |session| session.said_goodbye = true);
                            let metadata = json!({
                                "type": "Metadata", "transaction_key": "deprecated", "request_id": "0", "sha256": "0",
                                "created": "2024-08-29T22:37:55.202Z", "duration": 0.0, "channels": 1,
                            });
                            self.send(&metadata.to_string()).await?;
                            return self.close(1000, "").await;
                        }
                        Some(_) | None => return self.close(1008, "DATA-0000").await,
                    }
                }
                Message::Close(_) => return Ok(()),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    async fn tell(&mut self, finding: Finding, from_finalize: bool) -> Result<(), SocketError> {
        let text = if self.recogniser.has_voice() { self.understood(finding) } else { String::new() };
        let message = self.recogniser.message(finding, &text, from_finalize).to_string();
        match self.mishap.clone() {
            Some(Mishap::Deaf) => Ok(()),
            Some(Mishap::Instead(other)) => self.send(&other).await,
            Some(Mishap::Before(other)) => {
                self.send(&other).await?;
                self.send(&message).await
            }
            _ => self.send(&message).await,
        }
    }

    /// All words but the last while somebody speaks; all of them, once, when they are final.
    fn understood(&self, finding: Finding) -> String {
        let mut state = self.shared.state();
        match finding {
            Finding::Interim => state.says.rsplit_once(' ').map_or("", |(first, _)| first).to_owned(),
            Finding::Final { .. } => std::mem::take(&mut state.says),
            Finding::UtteranceEnd { .. } => String::new(),
        }
    }

    fn is_struck(&self) -> bool {
        match self.mishap {
            Some(Mishap::Close(after, ..) | Mishap::Break(after) | Mishap::Fail(after)) => {
                self.recogniser.voice_ms > 0 && self.recogniser.voice_ms >= after
            }
            _ => false,
        }
    }

    async fn strike(mut self) -> Result<(), SocketError> {
        match self.mishap.take() {
            Some(Mishap::Close(_, code, reason)) => self.close(code, &reason).await,
            Some(Mishap::Fail(_)) => {
                let failed =
                    json!({ "type": "Error", "variant": "NET-0000", "description": "what was said", "message": "" });
                self.send(&failed.to_string()).await
            }
            _ => Ok(()),
        }
    }

    async fn close(mut self, code: u16, reason: &str) -> Result<(), SocketError> {
        self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() })).await?;
        while let Some(Ok(_)) = self.socket.next().await {}
        Ok(())
    }

    async fn send(&mut self, text: &str) -> Result<(), SocketError> {
        if self.mishap != Some(Mishap::Fragments) {
            return self.socket.send(Message::text(text)).await;
        }
        for (at, byte) in text.bytes().enumerate() {
            let kind = if at == 0 { Data::Text } else { Data::Continue };
            let frame = Frame::message(vec![byte], OpCode::Data(kind), at + 1 == text.len());
            self.socket.send(Message::Frame(frame)).await?;
            if at % 100 == 50 {
                self.socket.send(Message::Ping("still here".into())).await?;
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "delays are fixed in real time")]
fn now() -> Instant {
    Instant::now()
}
