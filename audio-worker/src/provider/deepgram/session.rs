//! One call's socket to Deepgram: sound and orders out, what was understood in.
//!
//! A task of the runtime that begins it reads and writes, so that the connection is kept alive while nobody asks; it
//! ends, within [`CLOSE_LIMIT`], when the session is dropped.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::Request;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::message;
use crate::provider::{
    Fault, ProviderError,
    fault::error,
    http::Client,
    listening::{
        Recognised,
        feed::{Events, Feed, Order, Session, session},
    },
    websocket,
};

/// Most sound in one message: 1 s.
const PIECE_BYTES: usize = 8000;
/// Without sound for so long the server is told that we are there; it gives up after 10 s (`NET-0001`).
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long one message may take to leave.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How long the server may take to end a session that is over.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// So many messages in a row that cannot be read end the session.
const MAX_UNREADABLE: u32 = 10;

/// Begins a session with `earlier` sound; `limit` is for opening the connection.
pub(super) fn begin(client: Client, request: Request<()>, limit: Duration, earlier: Bytes) -> Session {
    let (session, feed, events) = session();
    tokio::spawn(async move {
        if let Err(error) = converse(&client, request, limit, earlier, feed, &events).await {
            // Nobody listens when it cannot be sent.
            let _ = events.send(Err(error)).await;
        }
    });
    session
}

async fn converse(
    client: &Client,
    request: Request<()>,
    limit: Duration,
    earlier: Bytes,
    feed: Feed,
    events: &Events,
) -> Result<(), ProviderError> {
    let socket = tokio::select! {
        opened = websocket::open(client, request, limit) => opened?,
        () = events.closed() => return Ok(()),
    };
    let (sink, stream) = socket.split();
    converse_over(sink, stream, earlier, feed, events).await
}

/// Ends [`CLOSE_LIMIT`] after the session at the latest.
async fn converse_over(
    sink: impl Sink<Message, Error = SocketError> + Unpin,
    stream: impl Stream<Item = Result<Message, SocketError>> + Unpin,
    earlier: Bytes,
    feed: Feed,
    events: &Events,
) -> Result<(), ProviderError> {
    // Whatever is still to be sent when nobody listens any more.
    let over = async {
        events.closed().await;
        sleep(CLOSE_LIMIT).await;
    };
    tokio::select! {
        ended = exchange(sink, stream, earlier, feed, events) => ended,
        () = over => Ok(()),
    }
}

async fn exchange(
    mut sink: impl Sink<Message, Error = SocketError> + Unpin,
    mut stream: impl Stream<Item = Result<Message, SocketError>> + Unpin,
    earlier: Bytes,
    feed: Feed,
    events: &Events,
) -> Result<(), ProviderError> {
    tokio::select! {
        written = write(&mut sink, earlier, feed) => written?,
        broken = read(&mut stream, events) => return Err(broken),
    }
    // What comes now is of no interest; whoever ends the connection first has lost nothing.
    while let Some(Ok(_)) = stream.next().await {}
    Ok(())
}

/// Sends what is to be sent, until the session is over.
async fn write(
    sink: &mut (impl Sink<Message, Error = SocketError> + Unpin),
    earlier: Bytes,
    mut feed: Feed,
) -> Result<(), ProviderError> {
    for piece in earlier.chunks(PIECE_BYTES) {
        send(sink, Message::Binary(earlier.slice_ref(piece))).await?;
    }
    loop {
        match timeout(KEEP_ALIVE, feed.next()).await {
            Ok(Some(Order::Sound(codes))) => {
                let bytes = codes.len();
                send(sink, Message::Binary(codes)).await?;
                feed.sent(bytes);
            }
            Ok(Some(Order::Voice)) => {}
            Ok(Some(Order::Finalize)) => send(sink, Message::text(r#"{"type":"Finalize"}"#)).await?,
            Ok(None) => return send(sink, Message::text(r#"{"type":"CloseStream"}"#)).await,
            Err(_) => send(sink, Message::text(r#"{"type":"KeepAlive"}"#)).await?,
        }
    }
}

async fn send(
    sink: &mut (impl Sink<Message, Error = SocketError> + Unpin),
    message: Message,
) -> Result<(), ProviderError> {
    match timeout(WRITE_LIMIT, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(broken)) => Err(error(Fault::Unreachable, &format!("cannot send: {broken}"))),
        Err(_) => Err(error(Fault::Timeout, "nothing is taken")),
    }
}

/// Tells what comes, until the connection ends.
async fn read(
    stream: &mut (impl Stream<Item = Result<Message, SocketError>> + Unpin),
    events: &Events,
) -> ProviderError {
    let mut unreadable = 0;
    while let Some(message) = stream.next().await {
        let told = match message {
            Ok(Message::Text(text)) => message::read(&text),
            Ok(Message::Close(Some(frame))) => return message::closed(frame.code.into(), &frame.reason),
            Ok(Message::Close(None)) => break,
            Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(Vec::new()),
            Err(SocketError::Utf8(_) | SocketError::Capacity(_)) => {
                return error(Fault::Malformed, "a message that is no text, or too long a one");
            }
            Err(broken) => return error(Fault::Unreachable, &format!("broke off: {broken}")),
        };
        let told = match told {
            Ok(told) => told,
            Err(failed) => return failed,
        };
        for event in told {
            unreadable = if matches!(event, Recognised::Unreadable(_)) { unreadable + 1 } else { 0 };
            if unreadable > MAX_UNREADABLE {
                return error(Fault::Malformed, "nothing that can be read");
            }
            // Nobody listens when it cannot be sent: the other half ends the session.
            let _ = events.send(Ok(event)).await;
        }
    }
    error(Fault::Unreachable, "the connection ended")
}

#[cfg(test)]
mod tests {
    use futures_util::{sink, stream};

    use super::*;
    use crate::provider::listening::Listening as _;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_little_at_a_time_does_not_outlive_the_session() {
        let (mut session, feed, events) = session();
        for _ in 0..100 {
            session.feed(&[1; 160]);
        }
        let slow = Box::pin(sink::unfold((), |(), _| async {
            sleep(WRITE_LIMIT / 2).await;
            Ok::<_, SocketError>(())
        }));
        let talk =
            tokio::spawn(async move { converse_over(slow, stream::pending(), Bytes::new(), feed, &events).await });
        sleep(WRITE_LIMIT * 2).await;
        assert!(!talk.is_finished());
        drop(session);
        let ended = timeout(CLOSE_LIMIT + Duration::from_millis(10), talk).await;
        assert_eq!(ended.unwrap().unwrap(), Ok(()));
    }
}
