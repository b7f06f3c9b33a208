//! WebSockets to providers: opened under a limit, refused in the words of the other requests.

use std::time::Duration;

use http::{Request, Uri, uri::Scheme};
use hyper_util::rt::TokioIo;
use telemetry::https::{Stream, root};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, client::IntoClientRequest, protocol::WebSocketConfig},
};
use url::Url;

use super::{Fault, ProviderError, fault, http::Client};

/// Largest message and largest frame taken: a second of 24 kHz PCM in base64 has 64 KB.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// What is read at once.
const READ_BYTES: usize = 16 << 10;

/// Most that waits to be written before a write fails: some seconds of audio to a provider that does not read.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// A WebSocket. It lives on the runtime that it was opened on.
pub type Socket = WebSocketStream<TokioIo<Stream>>;

/// The address of a WebSocket at an HTTP address; none when HTTP cannot carry it.
pub(super) fn address(url: &Url) -> Option<Uri> {
    let scheme = if url.scheme() == "http" { "ws" } else { "wss" };
    let (_, rest) = url.as_str().split_once(':')?;
    format!("{scheme}:{rest}").parse().ok()
}

/// Opens the WebSocket that `request` asks for (`ws` or `wss`), with its headers; connection and handshake take `limit` at
/// most.
///
/// # Errors
/// When the provider cannot be reached, is too slow, or refuses: its status has the meaning that it has for other requests.
pub async fn open(client: &Client, request: Request<()>, limit: Duration) -> Result<Socket, ProviderError> {
    let error = |kind, what: &str| ProviderError { kind, detail: fault::printable(what) };
    match timeout(limit, shake_hands(client, request)).await {
        Ok(opened) => opened,
        Err(_) => Err(error(Fault::Timeout, &format!("no WebSocket within {} ms", limit.as_millis()))),
    }
}

async fn shake_hands(client: &Client, request: Request<()>) -> Result<Socket, ProviderError> {
    let error = |kind, what: &str| ProviderError { kind, detail: fault::printable(what) };
    let (head, ()) = request.into_parts();
    let place = place(&head.uri).ok_or_else(|| error(Fault::Rejected, "a WebSocket's address must begin with ws"))?;
    let mut request =
        head.uri.into_client_request().map_err(|_| error(Fault::Rejected, "a WebSocket's address must name a host"))?;
    request.headers_mut().extend(head.headers);
    let stream = client
        .connect(place)
        .await
        .map_err(|refused| error(Fault::Unreachable, &format!("no connection: {}", root(&*refused))))?;
    let limits = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WAITING_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    match client_async_with_config(request, TokioIo::new(stream), Some(limits)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(answer)) => {
            let kind = fault::of_status(answer.status()).unwrap_or(Fault::Malformed);
            Err(error(kind, &format!("HTTP {} where a WebSocket was asked for", answer.status().as_u16())))
        }
        Err(tungstenite::Error::Io(broken)) => Err(error(Fault::Unreachable, &format!("no answer: {broken}"))),
        Err(other) => Err(error(Fault::Malformed, &format!("no WebSocket: {other}"))),
    }
}

/// Where to connect to.
fn place(uri: &Uri) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(match uri.scheme_str()? {
        "ws" | "http" => Scheme::HTTP,
        "wss" | "https" => Scheme::HTTPS,
        _ => return None,
    });
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        runtime::Handle,
    };
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn request(port: u16) -> Request<()> {
        let uri = format!("ws://127.0.0.1:{port}/v1?model=m");
        Request::builder().uri(uri).header("authorization", "Token key").body(()).unwrap()
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// What becomes of a handshake that is answered with `answer`.
    async fn answered(answer: &'static str) -> ProviderError {
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = [0; 2048];
            let read = stream.read(&mut seen).await.unwrap();
            assert!(String::from_utf8_lossy(&seen[..read]).contains("authorization: Token key"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        open(&Client::new(Handle::current()).unwrap(), request(port), SOON).await.unwrap_err()
    }

    #[tokio::test]
    async fn messages_go_both_ways_with_the_headers_that_were_given() {
        let (listener, port) = listener().await;
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let message = socket.next().await.unwrap().unwrap();
            socket.send(message).await.unwrap();
        });
        let mut socket = open(&Client::new(Handle::current()).unwrap(), request(port), SOON).await.unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_has_the_meaning_of_its_status() {
        for (answer, kind) in [
            ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", Fault::Denied),
            ("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", Fault::Busy),
            ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", Fault::Failed),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Fault::Rejected),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", Fault::Malformed),
            ("SSH-2.0-OpenSSH_9.2\r\n", Fault::Malformed),
        ] {
            let error = answered(answer).await;
            assert_eq!(error.kind, kind, "{answer}: {error}");
        }
    }

    #[tokio::test]
    async fn nobody_there_and_addresses_of_another_kind_are_told_apart() {
        let client = Client::new(Handle::current()).unwrap();
        let (gone, port) = listener().await;
        drop(gone);
        assert_eq!(open(&client, request(port), SOON).await.unwrap_err().kind, Fault::Unreachable);
        let other = Request::builder().uri("ftp://127.0.0.1/").body(()).unwrap();
        assert_eq!(open(&client, other, SOON).await.unwrap_err().kind, Fault::Rejected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_without_end_is_given_up() {
        let (silent, port) = listener().await;
        let error = open(&Client::new(Handle::current()).unwrap(), request(port), SOON).await.unwrap_err();
        assert_eq!(error.kind, Fault::Timeout);
        drop(silent);
    }
}
