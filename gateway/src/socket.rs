//! The media socket: the WebSocket handshake on top of warp, and its frames as typed events.
//!
//! `warp::ws()` does not let the read buffer be set, and tungstenite zeroes the whole of it on every read (measured:
//! 128 KiB instead of 4 doubles the cost of a frame). So the handshake is done here, with the checks of RFC 6455.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Sink, Stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::ProtocolError,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode as WireCode},
    },
};

use crate::{
    capture::{Side, Tape},
    session::{CloseCode, Input},
    twilio::message::Inbound,
};

/// Largest message taken. Twilio's own are about 0.4 KB and it names no limit; this holds one with 64 KiB of audio.
const MAX_MESSAGE_BYTES: usize = 128 << 10;

/// Read buffer of a socket: a frame of Twilio's fits nine times.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// Messages written in one go are gathered up to this size: media and its mark leave in one system call.
const GATHERED_BYTES: usize = 1 << 10;

/// What may wait in the write buffer before the peer has to take some.
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Why a request for the media socket is not a WebSocket handshake (RFC 6455, 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHandshake {
    #[error("this address speaks WebSocket: send Connection: Upgrade and Upgrade: websocket")]
    NotAnUpgrade,
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
}

/// The headers of the 101 answer.
///
/// # Errors
/// When `headers` are not those of a handshake.
pub(crate) fn handshake(headers: &HeaderMap) -> Result<http::Response<()>, BadHandshake> {
    let has = |name: header::HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(BadHandshake::NotAnUpgrade);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(BadHandshake::Version);
    }
    // 16 bytes are 24 characters of base64.
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24).ok_or(BadHandshake::Key)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| BadHandshake::Key)?;
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// One media socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// Something was written and not flushed.
    dirty: bool,
    /// The peer does not take it.
    blocked: bool,
    /// Where calls are captured, what passes is noted here.
    tape: Option<Box<Tape>>,
}

impl Socket {
    /// Takes over the connection after the 101 answer.
    pub(crate) async fn accept(upgrade: OnUpgrade) -> io::Result<Self> {
        let upgraded = upgrade.await.map_err(io::Error::other)?;
        let parts = upgraded
            .downcast::<TokioIo<TcpStream>>()
            .map_err(|_| io::Error::other("the connection is not a plain TCP stream"))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(GATHERED_BYTES)
            .max_write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let (io, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
        let stream = WebSocketStream::from_partially_read(io, early, Role::Server, Some(config)).await;
        Ok(Self { stream, dirty: false, blocked: false, tape: None })
    }

    /// From here on, notes what passes.
    pub(crate) fn record(&mut self, tape: Option<Box<Tape>>) {
        self.tape = tape;
    }

    /// True while the peer takes what is written.
    pub(crate) const fn is_writable(&self) -> bool {
        !self.blocked
    }

    /// Writes one text message; it leaves with the next [`Socket::poll`].
    pub(crate) fn send(&mut self, text: String) {
        self.write(Message::text(text));
    }

    /// Asks for a sign of life.
    pub(crate) fn ping(&mut self) {
        self.write(Message::Ping(bytes::Bytes::new()));
    }

    /// Begins to close; the peer's answer is [`Input::CallerGone`].
    pub(crate) fn close(&mut self, code: CloseCode) {
        let code = match code {
            CloseCode::Normal => WireCode::Normal,
            CloseCode::Away => WireCode::Away,
            CloseCode::Unsupported => WireCode::Unsupported,
            CloseCode::Policy => WireCode::Policy,
            CloseCode::Failed => WireCode::Error,
        };
        self.write(Message::Close(Some(CloseFrame { code, reason: "".into() })));
    }

    /// Flushes what was written and reads what came. Wakes for both.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if self.dirty {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.dirty = false;
                    if std::mem::take(&mut self.blocked) {
                        return Poll::Ready(Input::WriteDone);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(lost(&error)),
                Poll::Pending if !self.blocked => {
                    self.blocked = true;
                    return Poll::Ready(Input::WriteBlocked);
                }
                Poll::Pending => {}
            }
        }
        let read = ready!(Pin::new(&mut self.stream).poll_next(cx));
        if let Some(tape) = &mut self.tape {
            tape.note_read(read.as_ref());
        }
        Poll::Ready(match read {
            Some(Ok(Message::Text(text))) => match Inbound::parse(&text) {
                Ok(message) => Input::Caller(message),
                Err(malformed) => Input::CallerMalformed(malformed),
            },
            Some(Ok(Message::Binary(_))) => Input::CallerBinary,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Input::CallerAlive,
            Some(Ok(Message::Close(_))) | None => Input::CallerGone,
            Some(Err(error)) => lost(&error),
        })
    }

    fn write(&mut self, message: Message) {
        if let Some(tape) = &mut self.tape {
            tape.note(Side::Gateway, &message);
        }
        // What cannot be written shows when it is flushed.
        let _ = Pin::new(&mut self.stream).start_send(message);
        self.dirty = true;
    }
}

fn lost(error: &Error) -> Input {
    match error {
        Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake
            | ProtocolError::SendAfterClosing
            | ProtocolError::ReceivedAfterClosing,
        ) => Input::CallerGone,
        Error::Protocol(_) | Error::Capacity(_) | Error::Utf8(_) => Input::CallerBroken,
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => Input::CallerGone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_example_of_the_standard() {
        let response = handshake(&headers(&GOOD)).unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        // No compression and no subprotocol is ever offered.
        assert_eq!(response.headers().len(), 3);
    }

    #[test]
    fn what_is_missing_is_said() {
        let without = |name: &str| {
            let pairs: Vec<_> = GOOD.into_iter().filter(|(n, _)| *n != name).collect();
            handshake(&headers(&pairs)).unwrap_err()
        };
        assert_eq!(without("connection"), BadHandshake::NotAnUpgrade);
        assert_eq!(without("upgrade"), BadHandshake::NotAnUpgrade);
        assert_eq!(without("sec-websocket-version"), BadHandshake::Version);
        assert_eq!(without("sec-websocket-key"), BadHandshake::Key);
    }
}
