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
    manner::{Heard, Order},
    recogniser::Finding,
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
    path: String,
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
    if !shared.manner.serves(&head.path, head.is_post) {
        return;
    }
    let authorization = head.header(shared.manner.key_header()).map(str::to_owned);
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
    Ok(Some(Head { path: path.to_owned(), is_post: method == "POST", query, headers }))
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
        Some(Ok(words)) => (200, shared.manner.recorded(&words)),
        Some(Err(status)) => (status, shared.manner.refused("Not today.")),
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
        let body = shared.manner.refused("Invalid credentials.");
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
    let heard = shared.manner.listener(|name| {
        let found = head.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    });
    Listening { socket, heard, shared, place, mishap }.run().await
}

/// One session.
struct Listening<'a> {
    socket: WebSocketStream<Line>,
    heard: Heard,
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
        if let Some(greeting) = self.shared.manner.greeting() {
            self.send(&greeting.to_string()).await?;
        }
        loop {
            let message = tokio::select! {
                message = self.socket.next() => message,
                () = sleep_until(due.unwrap_or(silent)), if due.is_some() => {
                    due = None;
                    self.tell(Finding::Final { speech_final: false }, true).await?;
                    continue;
                }
                () = sleep_until(silent) => {
                    let (code, reason) = self.shared.manner.tired();
                    return self.close(code, reason).await;
                }
            };
            let Some(message) = message else { return Ok(()) };
            let message = message?;
            if message.is_close() {
                let is_goodbye = self.shared.manner.leaves_by_closing();
                self.shared.update(self.place, |session| session.said_goodbye |= is_goodbye);
                return Ok(());
            }
            if message.is_ping() || message.is_pong() {
                continue;
            }
            let Some(Order { sound, finalize, goodbye }) = self.shared.manner.read(&message) else {
                return self.close(1008, "DATA-0000").await;
            };
            silent = now() + SILENT_LIMIT;
            self.shared.update(self.place, |session| {
                session.bytes += sound.len();
                let room = KEPT_BYTES.saturating_sub(session.first.len());
                session.first.extend(sound.iter().take(room));
                session.finalizes += u32::from(finalize);
                session.said_goodbye |= goodbye;
                session.keep_alives += u32::from(sound.is_empty() && !finalize && !goodbye);
            });
            self.heard.recogniser.hear(&sound);
            while let Some(finding) = self.heard.recogniser.next() {
                self.tell(finding, false).await?;
                if self.is_struck() {
                    return self.strike().await;
                }
            }
            if self.is_struck() {
                return self.strike().await;
            }
            if goodbye {
                let metadata = json!({
                    "type": "Metadata", "transaction_key": "deprecated", "request_id": "0", "sha256": "0",
                    "created": "2024-08-29T22:37:55.202Z", "duration": 0.0, "channels": 1,
                });
                self.send(&metadata.to_string()).await?;
                return self.close(1000, "").await;
            }
            if finalize {
                if let Some(refusal) = self.shared.manner.too_little(&self.heard.recogniser) {
                    self.send(&refusal.to_string()).await?;
                    return self.close(1000, "").await;
                }
                due = after.map(|after| now() + after);
            }
        }
    }

    async fn tell(&mut self, finding: Finding, from_finalize: bool) -> Result<(), SocketError> {
        let text = if self.heard.recogniser.has_voice() { self.understood(finding) } else { String::new() };
        for message in self.shared.manner.messages(&mut self.heard, finding, &text, from_finalize) {
            let message = message.to_string();
            match self.mishap.clone() {
                Some(Mishap::Deaf) => {}
                Some(Mishap::Instead(other)) => self.send(&other).await?,
                Some(Mishap::Before(other)) => {
                    self.send(&other).await?;
                    self.send(&message).await?;
                }
                _ => self.send(&message).await?,
            }
        }
        Ok(())
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
                self.heard.recogniser.voice_ms > 0 && self.heard.recogniser.voice_ms >= after
            }
            _ => false,
        }
    }

    async fn strike(mut self) -> Result<(), SocketError> {
        match self.mishap.take() {
            Some(Mishap::Close(_, code, reason)) => self.close(code, &reason).await,
            Some(Mishap::Fail(_)) => self.send(&self.shared.manner.failed().to_string()).await,
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
