//! The gRPC client: finds a worker for a call, opens its stream, and converts to and from the contract. The only
//! place where a worker's status gets a meaning.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use proto::v1::{
    self, ConverseRequest, ConverseResponse, converse_request, converse_response,
    voice_service_client::VoiceServiceClient,
};
use telemetry::traces::{TRACEPARENT, TraceContext};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::{
    connector::{self, WorkerTls},
    fleet::{Fleet, Occupied, Worker, choose},
    session::{FromWorker, NoWorker, ToWorker},
};

mod wire;

pub(crate) use wire::{Aside, Cost, Latencies, to_wire};

/// HTTP/2 flow control for all calls of one connection. Measured: a small or adaptive window stalls hundreds of
/// calls for good, so it is wide and fixed.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Flow control for one call: 8 s of mu-law.
const STREAM_WINDOW: u32 = 64 << 10;
/// Calls of one connection; a further one is opened beyond it, so that a worker's other shards get their share.
const CALLS_PER_CONNECTION: u32 = 128;
/// Messages that may wait between the session and the gRPC stream; beyond it the session keeps them.
const OUTBOUND_MESSAGES: usize = 8;
/// How many workers a call asks.
const ATTEMPTS: usize = 3;
/// How long one of them may take.
const ATTEMPT_LIMIT: Duration = Duration::from_millis(1500);
/// How often a silent connection is pinged, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long a worker that is full is left out, unless it says so itself.
const AVOID_FULL: Duration = Duration::from_secs(1);
/// How long a worker is left out whose machine says that nobody listens: it costs no time to ask, and a new worker is in
/// DNS a moment before it listens.
const AVOID_REFUSED: Duration = Duration::from_secs(1);
/// How long a worker that cannot be reached or is about to stop is left out.
const AVOID_GONE: Duration = Duration::from_secs(5);
/// Largest message of a worker: a checkpoint and its frame.
const MAX_MESSAGE_BYTES: usize = 128 << 10;

/// Opens calls at workers, over the connections of one shard.
#[derive(Debug)]
pub(crate) struct Dialer {
    fleet: Fleet,
    tls: Option<WorkerTls>,
    connections: Mutex<HashMap<std::net::SocketAddr, Vec<Connection>>>,
}

#[derive(Debug, Clone)]
struct Connection {
    channel: Channel,
    calls: Arc<AtomicU32>,
    /// Of the certificates that it was meant for.
    generation: u64,
}

/// Messages on their way to the gRPC stream. Boxed: tokio's channels hold blocks of 32 slots, whatever their bound, and
/// slots of a message each would be 4 KiB a call.
type Uplink = mpsc::Sender<Box<ConverseRequest>>;

/// A call's stream at a worker.
#[derive(Debug)]
pub(crate) struct Link {
    up: Uplink,
    down: Streaming<ConverseResponse>,
    occupied: Occupied,
    _line: Line,
}

/// What happens at a worker.
#[derive(Debug)]
pub(crate) enum Happened {
    /// It said something.
    Said(FromWorker),
    /// It told something of the conversation, on which the call does not depend.
    Told(Aside),
    /// Its stream takes messages again.
    Room,
    /// Its stream is over.
    Gone,
}

/// One of the calls of a connection.
#[derive(Debug)]
struct Line(Arc<AtomicU32>);

impl Drop for Line {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dialer {
    pub(crate) fn new(fleet: Fleet, tls: Option<WorkerTls>) -> Self {
        Self { fleet, tls, connections: Mutex::default() }
    }

    /// Finds a worker that takes the call.
    pub(crate) async fn open(&self, open: v1::Open, trace: Option<TraceContext>) -> Result<Link, NoWorker> {
        let mut candidates = self.fleet.workers();
        let mut worst = NoWorker::Unreachable;
        for _ in 0..ATTEMPTS {
            let draw = |_| getrandom::u32().map_or(0, |n| n as usize);
            let Some(worker) = choose(&mut candidates, draw) else { break };
            let (connection, line) = match self.connection(&worker) {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::error!(worker = %worker.address, %error, "a worker's address cannot be used");
                    continue;
                }
            };
            let asked = ask(&worker, connection.channel.clone(), line, open.clone(), trace);
            let (refusal, cause) = match timeout(ATTEMPT_LIMIT, asked).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(status)) => (Refusal::from(&status), connector::cause(&status)),
                Err(_) => (Refusal { why: NoWorker::Unreachable, avoid: AVOID_GONE, elsewhere: true }, None),
            };
            tracing::warn!(worker = %worker.address, why = ?refusal.why, cause, "a worker did not take the call");
            worker.avoid_for(refusal.avoid);
            if refusal.why == NoWorker::Unreachable {
                self.forget(&worker, &connection);
            }
            worst = refusal.why;
            if !refusal.elsewhere {
                break;
            }
        }
        Err(worst)
    }

    /// The agents of one of the workers.
    ///
    /// # Errors
    /// When none answers.
    pub(crate) async fn agents(&self) -> Result<Vec<String>, NoWorker> {
        let mut candidates = self.fleet.workers();
        for _ in 0..ATTEMPTS {
            let draw = |_| getrandom::u32().map_or(0, |n| n as usize);
            let Some(worker) = choose(&mut candidates, draw) else { break };
            let Ok((connection, _line)) = self.connection(&worker) else { continue };
            let channel = connection.channel.clone();
            let asked = async { VoiceServiceClient::new(channel).get_info(v1::GetInfoRequest {}).await };
            if let Ok(Ok(info)) = timeout(ATTEMPT_LIMIT, asked).await {
                return Ok(info.into_inner().agents);
            }
            self.forget(&worker, &connection);
        }
        Err(NoWorker::Unreachable)
    }

    /// A connection with room for one more call; the call is counted.
    fn connection(&self, worker: &Worker) -> Result<(Connection, Line), Status> {
        // Held for a look-up, never across an await, and only when a call begins.
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.fleet.workers();
        all.retain(|address, _| *address == worker.address || known.iter().any(|worker| worker.address == *address));
        let connections = all.entry(worker.address).or_default();
        // With other certificates than today's only the calls go on that are there already.
        let generation = self.tls.as_ref().map_or(0, WorkerTls::generation);
        connections.retain(|connection| connection.generation == generation);
        let free = connections.iter().position(|c| c.calls.load(Ordering::Relaxed) < CALLS_PER_CONNECTION);
        let connection = match free {
            Some(at) => connections[at].clone(),
            None => {
                let channel = connect(worker, self.tls.as_ref())?;
                let new = Connection { channel, calls: Arc::default(), generation };
                connections.push(new.clone());
                new
            }
        };
        connection.calls.fetch_add(1, Ordering::Relaxed);
        let line = Line(Arc::clone(&connection.calls));
        Ok((connection, line))
    }

    /// Gives a connection no more calls: a worker did not answer over it. Otherwise an attempt to connect that was given up
    /// half-way would be what the next call finds, and that call would fail at once, though the worker may be back.
    /// Calls that are on it stay.
    fn forget(&self, worker: &Worker, Connection { calls, .. }: &Connection) {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = all.get_mut(&worker.address) {
            connections.retain(|connection| !Arc::ptr_eq(&connection.calls, calls));
        }
    }
}

/// Asks a worker to take a call.
async fn ask(
    worker: &Arc<Worker>,
    channel: Channel,
    line: Line,
    open: v1::Open,
    trace: Option<TraceContext>,
) -> Result<Link, Status> {
    let occupied = worker.occupy();
    let (up, requests) = mpsc::channel(OUTBOUND_MESSAGES);
    let _ = up.try_send(Box::new(ConverseRequest { message: Some(converse_request::Message::Open(Box::new(open))) }));
    let mut client = VoiceServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut request = Request::new(ReceiverStream::new(requests).map(|message| *message));
    if let Some(Ok(trace)) = trace.map(|trace| trace.to_string().parse()) {
        request.metadata_mut().insert(TRACEPARENT, trace);
    }
    let mut down = client.converse(request).await?.into_inner();
    let Some(ConverseResponse { message: Some(converse_response::Message::Ready(ready)) }) = down.message().await?
    else {
        return Err(Status::internal("the first message of a worker must be `ready`"));
    };
    worker.report(ready.live);
    Ok(Link { up, down, occupied, _line: line })
}

fn connect(worker: &Worker, tls: Option<&WorkerTls>) -> Result<Channel, Status> {
    let endpoint = connector::endpoint(worker.address, tls)?
        .connect_timeout(ATTEMPT_LIMIT)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    Ok(connector::channel(&endpoint, worker.address, tls))
}

impl Link {
    /// What happens at the worker next; with `wants_room`, also that the stream takes messages again. May be dropped
    /// and asked again.
    pub(crate) async fn next(&mut self, wants_room: bool) -> Happened {
        loop {
            let response = tokio::select! {
                biased;
                response = self.down.message() => response,
                permit = self.up.reserve(), if wants_room => return if permit.is_ok() { Happened::Room } else { Happened::Gone },
            };
            match response {
                Ok(Some(response)) => {
                    if let Some(happened) = self.read(response) {
                        return happened;
                    }
                }
                Ok(None) => return Happened::Gone,
                Err(status) => {
                    tracing::debug!(code = ?status.code(), "a worker's stream broke");
                    return Happened::Gone;
                }
            }
        }
    }

    /// Ends our side of the stream and waits until the worker ends its own: dropped at once, the stream would be reset,
    /// and what was said last be lost. What it still tells of the conversation goes to `tell`.
    pub(crate) async fn finish(self, mut tell: impl FnMut(Aside)) {
        let Self { up, mut down, .. } = self;
        drop(up);
        while let Ok(Some(response)) = down.message().await {
            if let Some(aside) = response.message.and_then(wire::aside) {
                tell(aside);
            }
        }
    }

    /// Room for one message; `None` when the stream takes none now.
    pub(crate) fn try_reserve(&self) -> Option<mpsc::Permit<'_, Box<ConverseRequest>>> {
        self.up.try_reserve().ok()
    }

    /// Hands a message on, once the stream has room; false when it is over.
    pub(crate) async fn send(&self, message: ToWorker) -> bool {
        self.up.send(to_wire(message)).await.is_ok()
    }

    fn read(&self, ConverseResponse { message }: ConverseResponse) -> Option<Happened> {
        use converse_response::Message;

        let said = match message? {
            Message::Audio(v1::AgentAudio { utterance, mulaw, .. }) => FromWorker::Audio { utterance, mulaw },
            Message::UtteranceEnd(v1::UtteranceEnd { utterance }) => FromWorker::UtteranceEnd(utterance),
            Message::Interrupt(v1::Interrupt { utterance }) => FromWorker::Interrupt(utterance),
            Message::Hangup(v1::Hangup { after_playback, .. }) => FromWorker::Hangup { after_playback },
            Message::Transfer(v1::Transfer { to, after_playback }) => FromWorker::Transfer { to, after_playback },
            Message::Instructed(v1::Instructed { id, outcome, detail }) => {
                FromWorker::Instructed(id, wire::instructed(outcome, detail))
            }
            Message::Draining(_) => {
                self.occupied.0.avoid_for(AVOID_GONE);
                return None;
            }
            aside @ (Message::Transcript(_) | Message::TurnMetrics(_) | Message::Costs(_)) => {
                return wire::aside(aside).map(Happened::Told);
            }
            // Said once at the start, or for observers; the call does not depend on them.
            Message::Ready(_) | Message::Speech(_) | Message::Checkpoint(_) => return None,
        };
        Some(Happened::Said(said))
    }
}

/// What a status means for the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    why: NoWorker,
    avoid: Duration,
    /// Another worker may answer otherwise.
    elsewhere: bool,
}

impl From<&Status> for Refusal {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other codes mean the same: this worker failed")]
    fn from(status: &Status) -> Self {
        match status.code() {
            Code::ResourceExhausted => {
                let avoid = tonic_types::StatusExt::get_details_retry_info(status).and_then(|info| info.retry_delay);
                Self { why: NoWorker::Full, avoid: avoid.unwrap_or(AVOID_FULL).min(AVOID_GONE), elsewhere: true }
            }
            Code::Unavailable => {
                let drains = tonic_types::StatusExt::get_details_error_info(status).is_some();
                let why = if drains { NoWorker::Full } else { NoWorker::Unreachable };
                let avoid = if connector::is_refused(status) { AVOID_REFUSED } else { AVOID_GONE };
                Self { why, avoid, elsewhere: true }
            }
            // All workers have the same agents; asking another only delays the fallback.
            Code::NotFound => Self { why: NoWorker::UnknownAgent, avoid: Duration::ZERO, elsewhere: false },
            _ => Self { why: NoWorker::Failed, avoid: AVOID_FULL, elsewhere: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::{Domain, Socket, Type};
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;
    use crate::config::WorkerAddress;

    /// How long what must happen may take.
    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_worker_that_was_cut_off_is_asked_anew_by_the_next_call() {
        // Its queue is full: what knocks is not answered, as with a network that drops packets.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let address = listener.local_addr().unwrap();
        let filler = TcpStream::connect(address).unwrap();

        let fleet = Fleet::new();
        let workers: WorkerAddress = format!("http://{address}").parse().unwrap();
        let following = tokio::spawn({
            let fleet = fleet.clone();
            async move { fleet.follow(&workers, None).await }
        });
        let dialer = Arc::new(Dialer::new(fleet.clone(), None));
        timeout(DEADLINE, async {
            while fleet.len() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
        assert_eq!(dialer.open(v1::Open::default(), None).await.unwrap_err(), NoWorker::Unreachable);

        // The network is back.
        let heard = async {
            loop {
                let mut beginning = [0; 3];
                let (mut knocking, _) = listener.accept().await.unwrap();
                if knocking.read_exact(&mut beginning).await.is_ok() {
                    return beginning;
                }
            }
        };
        drop(filler);
        let asking = tokio::spawn(async move { dialer.open(v1::Open::default(), None).await });
        // That call, and no packet of the one before sent again a second later.
        tokio::select! {
            beginning = timeout(DEADLINE, heard) => assert_eq!(&beginning.unwrap(), b"PRI"),
            early = asking => panic!("the call gave up without asking the worker: {:?}", early.unwrap().unwrap_err()),
        }
        following.abort();
    }

    #[tokio::test]
    async fn a_worker_that_does_not_listen_yet_is_left_out_for_a_moment_only() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let endpoint = connector::endpoint(address, None).unwrap();
        let mut client = VoiceServiceClient::new(connector::channel(&endpoint, address, None));
        let refused = Refusal::from(&client.get_info(v1::GetInfoRequest {}).await.unwrap_err());
        let expected = Refusal { why: NoWorker::Unreachable, avoid: AVOID_REFUSED, elsewhere: true };
        assert_eq!(refused, expected);
    }

    #[test]
    fn statuses_have_their_meaning() {
        let refusal = |status: &Status| Refusal::from(status);
        assert_eq!(refusal(&Status::resource_exhausted("full")).why, NoWorker::Full);
        assert_eq!(refusal(&Status::unavailable("connection refused")).why, NoWorker::Unreachable);
        let unknown = refusal(&Status::not_found("no such agent"));
        assert_eq!((unknown.why, unknown.elsewhere), (NoWorker::UnknownAgent, false));
        assert_eq!(refusal(&Status::internal("broken")).why, NoWorker::Failed);
    }
}
