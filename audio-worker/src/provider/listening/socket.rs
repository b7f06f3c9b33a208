//! One call's WebSocket to a recogniser: sound and orders out, what was understood in, whatever the family says them in.
//!
//! A task of the runtime that begins it reads and writes, so that the connection is kept alive while nobody asks; it
//! ends, within [`CLOSE_LIMIT`], when the session is dropped.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::Request;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::{
    Listening, Recognised,
    feed::{Events, Feed, Order, Session, session},
};
use crate::provider::{Fault, ProviderError, fault::error, http::Client, websocket};

/// Longest wait for the connection of a session: sound waits meanwhile.
pub(in crate::provider) const OPEN_LIMIT: Duration = Duration::from_secs(4);
/// Most sound of before that is handed over at once: 1 s.
const PIECE_BYTES: usize = 8000;
/// Without sound for so long the server is told that we are there: Deepgram gives up after 10 s (`NET-0001`).
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long one message may take to leave.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How long the server may take to end a session that is over.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// So many messages in a row that cannot be read end the session.
const MAX_UNREADABLE: u32 = 10;
/// One who owes an answer and says nothing at all is given up after twice this time at the latest.
const QUIET_LIMIT: Duration = Duration::from_secs(3);

/// What a family says and understands in its sessions. Pure.
pub(in crate::provider) trait Dialect: Send + 'static {
    /// Whether [`Self::owes`] tells when nobody answers any more; else whoever listens judges by what is understood.
    const JUDGES_ITSELF: bool;

    /// Sound to be sent. It may be kept for a moment.
    fn sound(&mut self, codes: Bytes) -> Option<Message>;

    /// Our own ears hear a voice in what came last.
    fn voice(&mut self);

    /// What was heard so far is to become final.
    fn finalize(&mut self) -> Option<Message>;

    /// A sign of life while there is no sound.
    fn alive(&mut self) -> Message;

    /// The session is over.
    fn goodbye(&mut self) -> Message;

    /// What a message tells, in order.
    ///
    /// # Errors
    /// When it says that the session failed.
    fn read(&mut self, text: &str) -> Result<Vec<Recognised>, ProviderError>;

    /// What the end of the socket means.
    fn closed(&self, code: u16, reason: &str) -> ProviderError;

    /// Whether an answer is due.
    fn owes(&self) -> bool {
        false
    }
}

/// Begins a session with `earlier` sound; `limit` is for opening the connection.
pub(in crate::provider) fn begin<D: Dialect>(
    client: Client,
    request: Request<()>,
    limit: Duration,
    earlier: Bytes,
    dialect: D,
) -> Box<dyn Listening> {
    let (session, feed, events) = session();
    tokio::spawn(async move {
        if let Err(error) = converse(&client, request, limit, Said { earlier, feed, dialect }, &events).await {
            // Nobody listens when it cannot be sent.
            let _ = events.send(Err(error)).await;
        }
    });
    Box::new(Line { session, judges_itself: D::JUDGES_ITSELF })
}

/// What the end of a socket means, where its words do not tell.
pub(in crate::provider) const fn of_close(code: u16) -> Fault {
    match code {
        // Going away, and errors of the server.
        1001 | 1011..=1014 => Fault::Failed,
        // Sound or messages that are none.
        1002 | 1003 | 1007..=1010 => Fault::Rejected,
        _ => Fault::Unreachable,
    }
}

struct Line {
    session: Session,
    judges_itself: bool,
}

impl Listening for Line {
    fn feed(&mut self, codes: &[u8]) {
        self.session.feed(codes);
    }

    fn voice(&mut self) {
        self.session.order(Order::Voice);
    }

    fn finalize(&mut self) {
        self.session.finalize();
    }

    fn judges_itself(&self) -> bool {
        self.judges_itself
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Recognised, ProviderError>> {
        self.session.poll(cx)
    }
}

/// What is to be said, and how.
struct Said<D> {
    earlier: Bytes,
    feed: Feed,
    dialect: D,
}

async fn converse<D: Dialect>(
    client: &Client,
    request: Request<()>,
    limit: Duration,
    said: Said<D>,
    events: &Events,
) -> Result<(), ProviderError> {
    let socket = tokio::select! {
        opened = websocket::open(client, request, limit) => opened?,
        () = events.closed() => return Ok(()),
    };
    let (sink, stream) = socket.split();
    converse_over(sink, stream, said, events).await
}

/// Ends [`CLOSE_LIMIT`] after the session at the latest.
async fn converse_over<D: Dialect>(
    sink: impl Sink<Message, Error = SocketError> + Unpin,
    stream: impl Stream<Item = Result<Message, SocketError>> + Unpin,
    said: Said<D>,
    events: &Events,
) -> Result<(), ProviderError> {
    // Whatever is still to be sent when nobody listens any more.
    let over = async {
        events.closed().await;
        sleep(CLOSE_LIMIT).await;
    };
    tokio::select! {
        ended = exchange(sink, stream, said, events) => ended,
        () = over => Ok(()),
    }
}

async fn exchange<D: Dialect>(
    mut sink: impl Sink<Message, Error = SocketError> + Unpin,
    mut stream: impl Stream<Item = Result<Message, SocketError>> + Unpin,
    Said { earlier, feed, dialect }: Said<D>,
    events: &Events,
) -> Result<(), ProviderError> {
    // Both halves run in one task, so nobody ever waits for it.
    let dialect = Mutex::new(dialect);
    tokio::select! {
        written = write(&mut sink, earlier, feed, &dialect) => written?,
        broken = read(&mut stream, events, &dialect) => return Err(broken),
    }
    // What comes now is of no interest; whoever ends the connection first has lost nothing.
    while let Some(Ok(_)) = stream.next().await {}
    Ok(())
}

fn its<D>(dialect: &Mutex<D>) -> MutexGuard<'_, D> {
    dialect.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends what is to be sent, until the session is over.
async fn write<D: Dialect>(
    sink: &mut (impl Sink<Message, Error = SocketError> + Unpin),
    earlier: Bytes,
    mut feed: Feed,
    dialect: &Mutex<D>,
) -> Result<(), ProviderError> {
    for piece in earlier.chunks(PIECE_BYTES) {
        let message = its(dialect).sound(earlier.slice_ref(piece));
        send(sink, message).await?;
    }
    loop {
        match timeout(KEEP_ALIVE, feed.next()).await {
            Ok(Some(Order::Sound(codes))) => {
                let bytes = codes.len();
                let message = its(dialect).sound(codes);
                send(sink, message).await?;
                feed.sent(bytes);
            }
            Ok(Some(Order::Voice)) => its(dialect).voice(),
            Ok(Some(Order::Finalize)) => {
                let message = its(dialect).finalize();
                send(sink, message).await?;
            }
            Ok(None) => {
                let message = its(dialect).goodbye();
                return send(sink, Some(message)).await;
            }
            Err(_) => {
                let message = its(dialect).alive();
                send(sink, Some(message)).await?;
            }
        }
    }
}

async fn send(
    sink: &mut (impl Sink<Message, Error = SocketError> + Unpin),
    message: Option<Message>,
) -> Result<(), ProviderError> {
    let Some(message) = message else { return Ok(()) };
    match timeout(WRITE_LIMIT, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(broken)) => Err(error(Fault::Unreachable, &format!("cannot send: {broken}"))),
        Err(_) => Err(error(Fault::Timeout, "nothing is taken")),
    }
}

/// Tells what comes, until the connection ends.
async fn read<D: Dialect>(
    stream: &mut (impl Stream<Item = Result<Message, SocketError>> + Unpin),
    events: &Events,
    dialect: &Mutex<D>,
) -> ProviderError {
    let (mut unreadable, mut is_quiet) = (0, false);
    let mut watch = interval(QUIET_LIMIT);
    watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            _ = watch.tick() => {
                let owes = its(dialect).owes();
                if is_quiet && owes {
                    return error(Fault::Timeout, "nothing is answered");
                }
                is_quiet = owes;
                continue;
            }
        };
        let Some(message) = message else { return error(Fault::Unreachable, "the connection ended") };
        let told = match message {
            Ok(Message::Text(text)) => {
                is_quiet = false;
                its(dialect).read(&text)
            }
            Ok(Message::Close(Some(frame))) => return its(dialect).closed(frame.code.into(), &frame.reason),
            Ok(Message::Close(None)) => return error(Fault::Unreachable, "the connection ended"),
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
}

#[cfg(test)]
mod tests {
    use futures_util::{sink, stream};

    use super::*;

    /// Sound as it is; an answer is due once it was asked for.
    struct Plain {
        owes: bool,
    }

    impl Dialect for Plain {
        const JUDGES_ITSELF: bool = true;

        fn sound(&mut self, codes: Bytes) -> Option<Message> {
            Some(Message::Binary(codes))
        }

        fn voice(&mut self) {}

        fn finalize(&mut self) -> Option<Message> {
            self.owes = true;
            Some(Message::text("now"))
        }

        fn alive(&mut self) -> Message {
            Message::text("here")
        }

        fn goodbye(&mut self) -> Message {
            Message::text("bye")
        }

        fn read(&mut self, _: &str) -> Result<Vec<Recognised>, ProviderError> {
            Ok(Vec::new())
        }

        fn closed(&self, code: u16, _: &str) -> ProviderError {
            error(of_close(code), "closed")
        }

        fn owes(&self) -> bool {
            self.owes
        }
    }

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
        let said = Said { earlier: Bytes::new(), feed, dialect: Plain { owes: false } };
        let talk = tokio::spawn(async move { converse_over(slow, stream::pending(), said, &events).await });
        sleep(WRITE_LIMIT * 2).await;
        assert!(!talk.is_finished());
        drop(session);
        let ended = timeout(CLOSE_LIMIT + Duration::from_millis(10), talk).await;
        assert_eq!(ended.unwrap().unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_owes_an_answer_and_says_nothing_is_given_up() {
        for (asked, pings) in [(true, false), (true, true), (false, true)] {
            let (mut session, feed, events) = session();
            let pinged = stream::unfold((), |()| async {
                sleep(Duration::from_secs(1)).await;
                Some((Ok::<_, SocketError>(Message::Ping(Bytes::new())), ()))
            });
            let stream = if pings { pinged.boxed() } else { stream::pending().boxed() };
            let said = Said { earlier: Bytes::new(), feed, dialect: Plain { owes: false } };
            let taken = sink::drain().sink_map_err(|never| match never {});
            let talk = tokio::spawn(async move { converse_over(taken, stream, said, &events).await });
            if asked {
                session.finalize();
            }
            let ended = timeout(QUIET_LIMIT * 3, talk).await;
            match ended {
                Ok(ended) => assert!(asked && ended.unwrap().unwrap_err().kind == Fault::Timeout, "{asked} {pings}"),
                Err(_) => assert!(!asked, "{asked} {pings}"),
            }
        }
    }
}
