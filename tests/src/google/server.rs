//! Connections, told apart by their first bytes, and streams: a configuration, then sound, as Google insists.

use std::{io, sync::Arc, time::Duration};

use proto::google_speech::{
    Status as InBand, StreamingRecognizeRequest, StreamingRecognizeResponse,
    recognition_config::AudioEncoding,
    speech_server::{Speech, SpeechServer},
    streaming_recognize_request::StreamingRequest,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::KeyAndValueRef,
    transport::{
        Server,
        server::{Connected, TcpConnectInfo},
    },
};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    FINAL_AFTER, Mishap, Session, Shared,
    recogniser::{Finding, Recogniser, time},
    rest,
};
use crate::deepgram::line::Line;

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI ";
/// Largest piece of sound that is taken.
const MAX_PIECE: usize = 25_600;
/// Without sound for so long a stream ends.
const SILENT_LIMIT: Duration = Duration::from_secs(10);
/// So much of the sound is kept.
const KEPT_BYTES: usize = 400;
/// Messages that wait to be sent, and connections to be served.
const WAITING: usize = 4;

/// Serves connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let (connections, incoming) = mpsc::channel::<io::Result<Line>>(WAITING);
    let service = SpeechServer::new(Service(Arc::clone(&shared)));
    let serving = Server::builder().add_service(service).serve_with_incoming(ReceiverStream::new(incoming));
    let accepting = async {
        let mut others = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (connections, shared) = (connections.clone(), Arc::clone(&shared));
            others.spawn(async move {
                let _ = stream.set_nodelay(true);
                if is_http2(&stream).await {
                    let pace = shared.state().pace;
                    let _ = connections.send(Ok(Line::new(stream, pace))).await;
                } else {
                    // A client that leaves is of no interest.
                    let _ = rest::answer(stream, &shared).await;
                }
            });
            while others.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = serving => {}
    }
}

async fn is_http2(stream: &TcpStream) -> bool {
    let mut begin = [0; 4];
    loop {
        match stream.peek(&mut begin).await {
            Ok(4) => return begin == PREFACE,
            Ok(0) | Err(_) => return false,
            // The rest is on its way.
            Ok(_) => tokio::task::yield_now().await,
        }
    }
}

impl Connected for Line {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: None }
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl Speech for Service {
    type StreamingRecognizeStream = ReceiverStream<Result<StreamingRecognizeResponse, Status>>;

    async fn streaming_recognize(
        &self,
        request: Request<Streaming<StreamingRecognizeRequest>>,
    ) -> Result<Response<Self::StreamingRecognizeStream>, Status> {
        let credentials = request.metadata().iter().filter_map(|entry| match entry {
            KeyAndValueRef::Ascii(name, value) => Some((name.to_string(), value.to_str().ok()?.to_owned())),
            KeyAndValueRef::Binary(..) => None,
        });
        let place = self.0.note(Session { credentials: credentials.collect(), ..Session::default() });
        let begun = self.begin(request.into_inner(), place).await;
        if begun.is_err() {
            self.0.update(place, |session| session.is_over = true);
        }
        begun
    }
}

impl Service {
    async fn begin(
        &self,
        mut requests: Streaming<StreamingRecognizeRequest>,
        place: usize,
    ) -> Result<Response<ReceiverStream<Result<StreamingRecognizeResponse, Status>>>, Status> {
        let mishap = self.0.state().mishaps.pop_front();
        match mishap {
            Some(Mishap::Refuse(code)) => return Err(Status::new(code, "Not today.")),
            Some(Mishap::WrongKey) => {
                let details = ErrorDetails::with_error_info("API_KEY_INVALID", "googleapis.com", []);
                let words = "API key not valid. Please pass a valid API key.";
                return Err(Status::with_error_details(Code::InvalidArgument, words, details));
            }
            _ => {}
        }
        let first = requests.message().await?.and_then(|request| request.streaming_request);
        let Some(StreamingRequest::StreamingConfig(config)) = first else {
            return Err(Status::invalid_argument("Invalid 'streaming_config': it has to come first."));
        };
        let sound = config.config.as_ref().map(|config| (config.encoding(), config.sample_rate_hertz));
        if sound != Some((AudioEncoding::Mulaw, 8000)) {
            return Err(Status::invalid_argument("Invalid recognition 'config': bad encoding."));
        }
        let recogniser = Recogniser::new(config.enable_voice_activity_events);
        self.0.update(place, |session| session.config = Some(config));
        let (answers, told) = mpsc::channel(WAITING);
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let listening = Listening { answers: answers.clone(), recogniser, shared: &shared, place, mishap };
            tokio::select! {
                ended = listening.run(requests) => {
                    if let Err(status) = ended {
                        let _ = answers.send(Err(status)).await;
                    }
                }
                () = answers.closed() => {}
            }
            shared.update(place, |session| session.is_over = true);
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }
}

/// One stream.
struct Listening<'a> {
    answers: mpsc::Sender<Result<StreamingRecognizeResponse, Status>>,
    recogniser: Recogniser,
    shared: &'a Shared,
    place: usize,
    mishap: Option<Mishap>,
}

impl Listening<'_> {
    async fn run(mut self, mut requests: Streaming<StreamingRecognizeRequest>) -> Result<(), Status> {
        loop {
            let request = match timeout(SILENT_LIMIT, requests.message()).await {
                Ok(request) => request?,
                Err(_) => {
                    return Err(Status::out_of_range("Audio Timeout Error: Long duration elapsed without audio."));
                }
            };
            let Some(request) = request else { break };
            let Some(StreamingRequest::AudioContent(codes)) = request.streaming_request else {
                return Err(Status::invalid_argument("Malordered Data Received."));
            };
            if codes.is_empty() || codes.len() > MAX_PIECE {
                return Err(Status::invalid_argument("Request audio can be a maximum of 25600 bytes."));
            }
            self.shared.update(self.place, |session| {
                session.bytes += codes.len();
                session.largest = session.largest.max(codes.len());
                let room = KEPT_BYTES.saturating_sub(session.first.len());
                session.first.extend(codes.iter().take(room));
            });
            self.recogniser.hear(&codes);
            while let Some(finding) = self.recogniser.next() {
                self.tell(finding).await;
                if self.strike().await? {
                    return Ok(());
                }
            }
            if self.strike().await? {
                return Ok(());
            }
        }
        self.shared.update(self.place, |session| session.is_closed = true);
        match self.mishap {
            Some(Mishap::Deaf) => std::future::pending().await,
            Some(Mishap::FinalAfter(after)) => sleep(after).await,
            _ => sleep(FINAL_AFTER).await,
        }
        if self.recogniser.has_voice() && self.mishap != Some(Mishap::NeverFinal) {
            self.tell(Finding::Final).await;
        }
        let billed = time(self.recogniser.at_ms);
        self.send(StreamingRecognizeResponse { total_billed_time: billed, ..Default::default() }).await;
        Ok(())
    }

    /// What befalls it, when it is time; true when it ends with that.
    async fn strike(&mut self) -> Result<bool, Status> {
        let heard = self.recogniser.voice_ms;
        match self.mishap {
            Some(Mishap::Fail(at, code)) if heard >= at => Err(Status::new(code, "Not today.")),
            Some(Mishap::Tell(at, code)) if heard >= at => {
                let error = Some(InBand { code: code as i32, message: "Not today.".to_owned() });
                self.send(StreamingRecognizeResponse { error, ..Default::default() }).await;
                Ok(true)
            }
            Some(Mishap::Leave(at)) if heard >= at => Ok(true),
            _ => Ok(false),
        }
    }

    async fn tell(&mut self, finding: Finding) {
        let all = self.shared.state().says.clone();
        let text = match finding {
            // The last word is found at the end.
            Finding::Interim => all.rsplit_once(' ').map_or("", |(begin, _)| begin),
            Finding::Final => &all,
            Finding::Begin | Finding::End => "",
        };
        let message = self.recogniser.message(finding, text);
        if finding == Finding::Final {
            self.shared.state().says.clear();
        }
        let mut times = 1;
        match &self.mishap {
            Some(Mishap::Deaf) => return,
            Some(Mishap::Before(other)) => {
                self.send(other.clone()).await;
            }
            Some(Mishap::Flood(many)) if finding == Finding::Interim => times = *many,
            _ => {}
        }
        for _ in 0..times {
            if !self.send(message.clone()).await {
                return;
            }
        }
    }

    /// False when nobody listens any more.
    async fn send(&self, message: StreamingRecognizeResponse) -> bool {
        self.answers.send(Ok(message)).await.is_ok()
    }
}
