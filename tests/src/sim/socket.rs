//! The stream's WebSocket: a signed handshake, then messages either way.
//!
//! `stream.rs` runs a well-behaved stream on it; tests drive it by hand to misbehave.

use std::{io, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::header::{self, HeaderValue};
use thiserror::Error;
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        error::ProtocolError,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use url::Url;

use super::{Code, Finding, Quirks, Route, http::authority, sign, wire::Wire};

/// Why there is no stream.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The URL cannot be used.
    #[error("malformed URL: {0}")]
    Url(String),
    /// Nobody listens.
    #[error("connection refused: {0}")]
    Refused(io::Error),
    /// Not up within the handshake timeout.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Answered with something other than 101.
    #[error("answered with {status} {body:?} instead of 101")]
    Status {
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        body: String,
    },
    /// Not a WebSocket handshake.
    #[error("handshake failed: {0}")]
    Handshake(String),
}

impl ConnectError {
    /// As Twilio's debugger would show it.
    pub fn finding(&self) -> Finding {
        let code = match self {
            Self::Url(_) => Code::StreamUrl,
            Self::Refused(_) => Code::StreamConnectionRefused,
            Self::Timeout(_) => Code::StreamConnectTimeout,
            Self::Status { .. } | Self::Handshake(_) => Code::StreamHandshake,
        };
        Finding::new(code, self.to_string())
    }
}

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping; the pong is on its way unless the quirk says otherwise.
    Ping,
    /// A pong.
    Pong,
    /// A close frame, with its code if it had one.
    Closed(Option<u16>),
    /// The connection ended without a close frame.
    Lost(String),
    /// The server broke the WebSocket protocol.
    Violation(String),
    /// Nothing came in time.
    Silence,
}

/// A stream's WebSocket after the handshake.
pub struct MediaSocket {
    inner: WebSocketStream<Wire>,
    /// Set when the server's 101 named an extension, which was not offered.
    extension: Option<String>,
}

impl MediaSocket {
    /// Connects to `url` (`wss`, though the bytes go over `route` in the clear), signed with
    /// `auth_token` as Twilio signs an upgrade.
    pub async fn connect(route: &Route, url: &str, auth_token: &str, quirks: &Quirks) -> Result<Self, ConnectError> {
        let signature = if quirks.sign_trailing_slash && !url.ends_with('/') {
            sign(&format!("{url}/"), &[], auth_token)
        } else {
            sign(url, &[], auth_token)
        };
        Self::connect_with(route, url, Some(signature), quirks).await
    }

    /// Connects with any signature, or none: for handshakes that must be refused.
    pub async fn connect_with(
        route: &Route,
        url: &str,
        signature: Option<String>,
        quirks: &Quirks,
    ) -> Result<Self, ConnectError> {
        let limit = quirks.handshake_timeout;
        match timeout(limit, handshake(route, url, signature, quirks)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::Timeout(limit)),
        }
    }

    /// Sends text.
    pub async fn send_text(&mut self, text: impl Into<String>) -> io::Result<()> {
        self.send(Message::text(text.into())).await
    }

    /// Sends JSON as text.
    pub async fn send_json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        self.send_text(value.to_string()).await
    }

    /// Sends a binary message, which Twilio never does.
    pub async fn send_binary(&mut self, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
        self.send(Message::binary(bytes.into())).await
    }

    /// Sends a ping.
    pub async fn send_ping(&mut self) -> io::Result<()> {
        self.send(Message::Ping(Vec::new().into())).await
    }

    /// Writes raw bytes below the protocol: frames that no library would send.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let wire = self.inner.get_mut();
        wire.write_all(bytes).await?;
        wire.flush().await
    }

    /// Sends a close frame with the code.
    pub async fn close(&mut self, code: u16) -> io::Result<()> {
        self.send(Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: "".into() }))).await
    }

    /// The next message, or [`Incoming::Silence`] after `limit`.
    pub async fn next(&mut self, limit: Duration) -> Incoming {
        match timeout(limit, self.inner.next()).await {
            Ok(message) => classify(message),
            Err(_) => Incoming::Silence,
        }
    }

    /// The extension the server claims, which breaks RFC 6455 since none was offered.
    pub fn unasked_extension(&self) -> Option<&str> {
        self.extension.as_deref()
    }

    pub(crate) fn into_inner(self) -> WebSocketStream<Wire> {
        self.inner
    }

    async fn send(&mut self, message: Message) -> io::Result<()> {
        self.inner.send(message).await.map_err(io::Error::other)
    }
}

/// Sorts what the WebSocket yields into what it means for the call.
pub(crate) fn classify(message: Option<tungstenite::Result<Message>>) -> Incoming {
    use tungstenite::Error;
    match message {
        Some(Ok(Message::Text(text))) => Incoming::Text(text.as_str().to_owned()),
        Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes.to_vec()),
        Some(Ok(Message::Ping(_))) => Incoming::Ping,
        Some(Ok(Message::Pong(_) | Message::Frame(_))) => Incoming::Pong,
        Some(Ok(Message::Close(frame))) => Incoming::Closed(frame.map(|frame| frame.code.into())),
        None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => Incoming::Lost("connection closed".into()),
        Some(Err(error @ Error::Io(_)))
        | Some(Err(error @ Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
            Incoming::Lost(error.to_string())
        }
        Some(Err(error)) => Incoming::Violation(error.to_string()),
    }
}

async fn handshake(
    route: &Route,
    url: &str,
    signature: Option<String>,
    quirks: &Quirks,
) -> Result<MediaSocket, ConnectError> {
    let malformed = |error: &dyn std::fmt::Display| ConnectError::Url(format!("{url}: {error}"));
    let parsed = Url::parse(url).map_err(|error| malformed(&error))?;
    let mut request = url.into_client_request().map_err(|error| malformed(&error))?;
    let headers = request.headers_mut();
    let host = authority(&parsed).map_err(|error| malformed(&error))?;
    let host = HeaderValue::from_str(&host).map_err(|error| malformed(&error))?;
    headers.insert(header::HOST, host);
    headers.insert(header::USER_AGENT, HeaderValue::from_static("Twilio.TmeWs/1.0"));
    if let Some(signature) = signature {
        let signature = HeaderValue::from_str(&signature).map_err(|error| malformed(&error))?;
        headers.insert("x-twilio-signature", signature);
    }
    let stream = route.connect().await.map_err(ConnectError::Refused)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(quirks.max_message_bytes))
        .max_frame_size(Some(quirks.max_message_bytes));
    let connected = client_async_with_config(request, Wire::new(stream), Some(config)).await;
    let (mut inner, response) = connected.map_err(|error| {
        if let tungstenite::Error::Http(response) = error {
            let body = response.body().as_deref().unwrap_or_default();
            ConnectError::Status {
                status: response.status().as_u16(),
                body: String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
            }
        } else {
            ConnectError::Handshake(error.to_string())
        }
    })?;
    if !quirks.answers_pings {
        inner.get_mut().drop_pongs();
    }
    let extension = response.headers().get(header::SEC_WEBSOCKET_EXTENSIONS);
    Ok(MediaSocket { inner, extension: extension.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()) })
}
