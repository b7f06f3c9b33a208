//! One call's way to Google: a connection that is opened with the call, and the streams on it, as [`Course`] has them.
//!
//! A task of the runtime that begins it carries them; it ends, within [`CLOSE_LIMIT`], when the session is dropped.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use proto::google_speech::{
    StreamingRecognitionConfig, StreamingRecognizeRequest, StreamingRecognizeResponse, speech_client::SpeechClient,
    streaming_recognize_request::StreamingRequest,
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Extensions, Request, Status, metadata::MetadataMap, transport::Channel};

use super::{
    course::{Course, Input, Output},
    message::{self, End},
};
use crate::provider::{
    Fault, ProviderError,
    fault::error,
    google::{Access, Credentials},
    grpc::Way,
    listening::{
        Listening, Recognised,
        feed::{self, Events, Feed, Order},
    },
    place::now,
};

/// Messages that wait to be sent in a stream: 12 s of sound and more.
const MAX_REQUESTS: usize = 128;
/// Messages of a stream that wait to be read. When they are too many, it is not read.
const MAX_ANSWERS: usize = 16;
/// Largest message taken: words of some minutes.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How long streams may take to end when nobody listens any more.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What all sessions of an agent have in common.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) access: Access,
    pub(super) way: Way,
    /// Ends of speech are told.
    pub(super) ends: bool,
}

/// A session; the connection is open or being opened.
pub(super) struct Session {
    line: feed::Session,
    /// Bytes of sound.
    sent: Arc<AtomicU64>,
}

impl Session {
    /// Begins with `earlier` sound, as `config` asks.
    pub(super) fn begin(service: Arc<Service>, config: StreamingRecognitionConfig, earlier: Bytes) -> Self {
        let (line, feed, events) = feed::session();
        let sent = Arc::<AtomicU64>::default();
        let course = Course::new(service.ends, now());
        let streams = Streams { service, config, sent: Arc::clone(&sent), channel: None, all: VecDeque::new() };
        tokio::spawn(async move {
            if let Err(error) = converse(streams, course, earlier, feed, &events).await {
                // Nobody listens when it cannot be sent.
                let _ = events.send(Err(error)).await;
            }
        });
        Self { line, sent }
    }
}

impl Listening for Session {
    fn feed(&mut self, codes: &[u8]) {
        self.line.feed(codes);
    }

    fn voice(&mut self) {
        self.line.order(Order::Voice);
    }

    fn finalize(&mut self) {
        self.line.finalize();
    }

    fn sent_ms(&self) -> Option<u64> {
        Some(self.sent.load(Ordering::Relaxed) / 8)
    }

    /// Nothing is told of silence, and a stream that does not end is a fault.
    fn judges_itself(&self) -> bool {
        true
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Recognised, ProviderError>> {
        self.line.poll(cx)
    }
}

async fn converse(
    mut streams: Streams,
    mut course: Course,
    earlier: Bytes,
    mut feed: Feed,
    events: &Events,
) -> Result<(), ProviderError> {
    streams.channel = tokio::select! {
        connected = streams.service.way.connect() => Some(connected?),
        () = events.closed() => return Ok(()),
    };
    let mut input = Some(Input::Earlier(earlier));
    loop {
        if let Some(input) = input {
            course.handle(input, now());
        }
        while let Some(output) = course.poll() {
            let told = match output {
                Output::Tell(told) => told,
                Output::Fail(error) => return Err(error),
                other @ (Output::Open | Output::Send(_) | Output::Close | Output::Drop) => {
                    streams.carry_out(other)?;
                    continue;
                }
            };
            // Nobody listens when it cannot be sent: the end comes below.
            let _ = events.send(Ok(told)).await;
        }
        let deadline = course.poll_timeout();
        let late = async {
            match deadline {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        input = tokio::select! {
            order = feed.next() => match order {
                Some(Order::Sound(codes)) => {
                    feed.sent(codes.len());
                    Some(Input::Sound(codes))
                }
                Some(Order::Voice) => Some(Input::Voice),
                Some(Order::Finalize) => Some(Input::Finalize),
                None => break,
            },
            answer = streams.answer() => answer,
            () = late => Some(Input::Tick),
        };
    }
    streams.end().await;
    Ok(())
}

/// The streams of a session.
struct Streams {
    service: Arc<Service>,
    config: StreamingRecognitionConfig,
    /// Bytes of sound that were sent.
    sent: Arc<AtomicU64>,
    channel: Option<Channel>,
    /// The oldest first.
    all: VecDeque<Stream>,
}

struct Stream {
    /// None once it is closed.
    requests: Option<mpsc::Sender<StreamingRecognizeRequest>>,
    answers: mpsc::Receiver<Answer>,
    /// Of what it told all was given out.
    left: VecDeque<Input>,
    _task: AbortOnDropHandle<()>,
}

enum Answer {
    Message(StreamingRecognizeResponse),
    Ended(End),
}

impl Streams {
    fn carry_out(&mut self, output: Output) -> Result<(), ProviderError> {
        match output {
            Output::Open => self.open(),
            Output::Send(codes) => {
                self.sent.fetch_add(codes.len() as u64, Ordering::Relaxed);
                self.send(StreamingRequest::AudioContent(codes))
            }
            Output::Close => {
                if let Some(stream) = self.all.back_mut() {
                    stream.requests = None;
                }
                Ok(())
            }
            Output::Drop => {
                self.all.pop_front();
                Ok(())
            }
            Output::Tell(_) | Output::Fail(_) => Ok(()),
        }
    }

    fn open(&mut self) -> Result<(), ProviderError> {
        let Some(channel) = self.channel.clone() else { return Ok(()) };
        let (requests, asked) = mpsc::channel(MAX_REQUESTS);
        let (told, answers) = mpsc::channel(MAX_ANSWERS);
        let service = Arc::clone(&self.service);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let end = listen(&service.access, channel, asked, &told).await;
            // Nobody wants to know when it cannot be sent.
            let _ = told.send(Answer::Ended(end.err().unwrap_or(End::Done))).await;
        }));
        self.all.push_back(Stream { requests: Some(requests), answers, left: VecDeque::new(), _task: task });
        self.send(StreamingRequest::StreamingConfig(self.config.clone()))
    }

    /// Sends in the newest stream. One that has ended by itself says so.
    fn send(&self, request: StreamingRequest) -> Result<(), ProviderError> {
        let Some(requests) = self.all.back().and_then(|stream| stream.requests.as_ref()) else { return Ok(()) };
        match requests.try_send(StreamingRecognizeRequest { streaming_request: Some(request) }) {
            Err(TrySendError::Full(_)) => Err(error(Fault::Timeout, "5 s of sound could not be sent")),
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// What the oldest stream tells next. Later ones wait: their words are later ones.
    async fn answer(&mut self) -> Option<Input> {
        let Some(stream) = self.all.front_mut() else { return pending().await };
        if stream.left.is_empty() {
            match stream.answers.recv().await {
                Some(Answer::Message(message)) => {
                    stream.left.extend(message::read(message).into_iter().map(Input::Heard))
                }
                Some(Answer::Ended(end)) => stream.left.push_back(Input::Ended(end)),
                None => {
                    let gone = error(Fault::Failed, "the stream was given up");
                    stream.left.push_back(Input::Ended(End::Fault(gone)));
                }
            }
        }
        stream.left.pop_front()
    }

    /// Says that all is over, and lets Google say so, too.
    async fn end(mut self) {
        for stream in &mut self.all {
            stream.requests = None;
        }
        let ends = async {
            for stream in &mut self.all {
                while stream.answers.recv().await.is_some() {}
            }
        };
        // Whatever is left then is cut.
        let _ = timeout(CLOSE_LIMIT, ends).await;
    }
}

/// One stream, to its end.
async fn listen(
    access: &Access,
    channel: Channel,
    asked: mpsc::Receiver<StreamingRecognizeRequest>,
    told: &mpsc::Sender<Answer>,
) -> Result<(), End> {
    let credentials = access.credentials().await.map_err(End::Fault)?;
    let metadata = MetadataMap::from_headers(credentials.headers.clone());
    let request = Request::from_parts(metadata, Extensions::default(), ReceiverStream::new(asked));
    let ended = |status: Status| ended(access, &credentials, &status);
    let mut client = SpeechClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let mut answers = client.streaming_recognize(request).await.map_err(ended)?.into_inner();
    while let Some(message) = answers.message().await.map_err(ended)? {
        if let Some(failed) = message.error.as_ref().filter(|failed| failed.code != Code::Ok as i32) {
            return Err(ended(Status::new(Code::from(failed.code), failed.message.clone())));
        }
        if told.send(Answer::Message(message)).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn ended(access: &Access, credentials: &Credentials, status: &Status) -> End {
    let end = message::ended(status, credentials.token.is_some(), &credentials.secrets);
    if let (End::Token(_), Some(token)) = (&end, &credentials.token) {
        access.forget(token);
    }
    end
}
