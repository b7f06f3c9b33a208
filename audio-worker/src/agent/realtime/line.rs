//! The socket to a realtime server, as one call has it: opened, written, read and closed in the call's own task.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Sink as _, SinkExt as _, Stream as _};
use http::{HeaderValue, Request, Uri, header};
use telemetry::Sensitive;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes, protocol::CloseFrame};

use crate::provider::{
    Fault, Pending, ProviderError,
    http::Client,
    websocket::{self, Socket},
};

/// Most that waits to be written: 16 s of PCM, and more of mu-law. A server that reads no faster is none.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Where a server is.
#[derive(Debug, Clone)]
pub struct Server {
    uri: Uri,
    authorization: Option<HeaderValue>,
    limit: Duration,
}

/// Why a server cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Something that an HTTP request cannot carry.
    #[error("the address cannot be used")]
    Address,
    /// Not what a header can hold.
    #[error("the key has characters that keys do not have")]
    Key,
}

impl Server {
    /// A server at `url` (ws or wss, with its query), which knows us by `key`, and is waited for as long as `limit`.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn new(url: &url::Url, key: Option<&Sensitive<String>>, limit: Duration) -> Result<Self, ServerError> {
        let uri = url.as_str().parse().map_err(|_| ServerError::Address)?;
        // Files end with a line feed.
        let key = key.map(|key| key.expose().trim()).filter(|key| !key.is_empty());
        let authorization = key.map(|key| HeaderValue::from_str(&format!("Bearer {key}"))).transpose();
        let mut authorization = authorization.map_err(|_| ServerError::Key)?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self { uri, authorization, limit })
    }

    fn open(&self, client: &Client) -> Pending<Socket> {
        let (client, server) = (client.clone(), self.clone());
        Box::pin(async move {
            let mut request = Request::get(server.uri);
            if let Some(value) = server.authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            let refused = || ProviderError { kind: Fault::Rejected, detail: "no address".to_owned() };
            let request = request.body(()).map_err(|_| refused())?;
            websocket::open(&client, request, server.limit).await
        })
    }
}

/// What becomes of the socket.
#[derive(Debug)]
pub(super) enum News {
    /// It is open.
    Opened,
    /// The server says something.
    Text(Utf8Bytes),
    /// It is gone, or could not be opened.
    Lost(ProviderError),
}

/// The socket of one call.
pub(super) struct Line {
    state: State,
    waiting: VecDeque<String>,
    waiting_bytes: usize,
}

enum State {
    Closed,
    Opening(Pending<Socket>),
    Open(Box<Socket>),
}

impl Line {
    pub(super) const fn new() -> Self {
        Self { state: State::Closed, waiting: VecDeque::new(), waiting_bytes: 0 }
    }

    /// Opens it anew.
    pub(super) fn open(&mut self, server: &Server, client: &Client) {
        self.close();
        self.state = State::Opening(server.open(client));
    }

    /// Closes it without waiting.
    pub(super) fn close(&mut self) {
        if let State::Open(socket) = &mut self.state {
            // A server that hears of it sooner is free sooner; it finds out anyway.
            let mut cx = Context::from_waker(std::task::Waker::noop());
            if socket.poll_ready_unpin(&mut cx).is_ready() {
                let _ = socket.start_send_unpin(Message::Close(None));
            }
        }
        self.state = State::Closed;
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// Sends this when the socket takes it.
    pub(super) fn send(&mut self, text: String) {
        if let State::Open(_) = self.state {
            self.waiting_bytes += text.len();
            self.waiting.push_back(text);
        }
    }

    /// Writes, and reads the next thing.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        let news = match &mut self.state {
            State::Closed => return Poll::Pending,
            State::Opening(opening) => match std::task::ready!(opening.as_mut().poll(cx)) {
                Ok(socket) => {
                    self.state = State::Open(Box::new(socket));
                    return Poll::Ready(News::Opened);
                }
                Err(error) => error,
            },
            State::Open(_) if self.waiting_bytes > MAX_WAITING_BYTES => lost(Fault::Timeout, "it does not read"),
            State::Open(socket) => {
                let written = write(socket, &mut self.waiting, &mut self.waiting_bytes, cx);
                loop {
                    let read = match (Pin::new(&mut **socket).poll_next(cx), &written) {
                        (Poll::Ready(read), _) => read,
                        (Poll::Pending, Ok(())) => return Poll::Pending,
                        // What the server said before it went would say more.
                        (Poll::Pending, Err(error)) => break meaning(error),
                    };
                    match read {
                        Some(Ok(Message::Text(text))) => return Poll::Ready(News::Text(text)),
                        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                        Some(Ok(Message::Binary(_))) => break lost(Fault::Malformed, "a binary message"),
                        Some(Ok(Message::Close(frame))) => break closed(frame.as_ref()),
                        Some(Err(error)) => break meaning(&error),
                        None => break lost(Fault::Unreachable, "the connection ended"),
                    }
                }
            }
        };
        self.close();
        Poll::Ready(News::Lost(news))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("waiting_bytes", &self.waiting_bytes).finish_non_exhaustive()
    }
}

fn write(
    socket: &mut Socket,
    waiting: &mut VecDeque<String>,
    bytes: &mut usize,
    cx: &mut Context<'_>,
) -> Result<(), tungstenite::Error> {
    let mut socket = Pin::new(socket);
    while !waiting.is_empty() {
        match socket.as_mut().poll_ready(cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(ready) => ready?,
        }
        if let Some(text) = waiting.pop_front() {
            *bytes -= text.len();
            socket.as_mut().start_send(Message::text(text))?;
        }
    }
    match socket.poll_flush(cx) {
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
    }
}

fn lost(kind: Fault, detail: &str) -> ProviderError {
    ProviderError { kind, detail: detail.to_owned() }
}

fn meaning(error: &tungstenite::Error) -> ProviderError {
    use tungstenite::{Error, error::ProtocolError};

    match error {
        Error::Capacity(_) => lost(Fault::Malformed, "too long a message"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            lost(Fault::Unreachable, "the connection broke")
        }
        Error::Protocol(_) | Error::Utf8(_) | Error::AttackAttempt => lost(Fault::Malformed, "no WebSocket any more"),
        Error::Io(error) => lost(Fault::Unreachable, &format!("the connection broke: {}", error.kind())),
        Error::ConnectionClosed | Error::AlreadyClosed => lost(Fault::Unreachable, "the connection ended"),
        Error::WriteBufferFull(_) => lost(Fault::Timeout, "it does not read"),
        Error::Tls(_) | Error::Url(_) | Error::Http(_) | Error::HttpFormat(_) => {
            lost(Fault::Unreachable, "the connection failed")
        }
    }
}

/// What a close frame means. OpenAI closes with 3000 for a wrong key; others use 1008, or 4000 and HTTP's status.
fn closed(frame: Option<&CloseFrame>) -> ProviderError {
    let code = frame.map_or(1005, |frame| u16::from(frame.code));
    let kind = match code {
        1002 | 1003 | 1007 | 1009 => Fault::Malformed,
        1008 | 3000 | 3003 | 4001 | 4003 | 4401 | 4403 => Fault::Denied,
        1013 | 4029 | 4429 => Fault::Busy,
        1011 | 4500..=4599 => Fault::Failed,
        4000..=4999 => Fault::Rejected,
        _ => Fault::Unreachable,
    };
    lost(kind, &format!("the server closed the WebSocket: {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_have_their_meaning() {
        let of = |code: u16| closed(Some(&CloseFrame { code: code.into(), reason: "said".into() })).kind.label();
        let table = [
            (1000, "unreachable"),
            (1001, "unreachable"),
            (1003, "malformed"),
            (1008, "denied"),
            (1011, "failed"),
            (1013, "busy"),
            (3000, "denied"),
            (4000, "rejected"),
            (4401, "denied"),
            (4429, "busy"),
            (4503, "failed"),
        ];
        for (code, kind) in table {
            assert_eq!(of(code), kind, "{code}");
        }
        assert_eq!(closed(None).kind, Fault::Unreachable);
    }

    #[test]
    fn a_server_needs_an_address_and_a_key_that_headers_can_hold() {
        let url = url::Url::parse("wss://example.com/v1/realtime?model=m").unwrap();
        let server = |key: &str| Server::new(&url, Some(&key.to_owned().into()), Duration::from_secs(1));
        assert!(server("sk-1\n").unwrap().authorization.unwrap().is_sensitive());
        assert!(server(" ").unwrap().authorization.is_none());
        assert_eq!(server("a\nb").unwrap_err(), ServerError::Key);
    }
}
