//! A stand-in for a user's agent: a service of `tandem.agent.v1` that does what a test says, and writes down what it is told.
//! [`Misdeed`] is what agents do wrong.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use proto::agent::v1::{
    AgentAudio, ConverseRequest, ConverseResponse, EndUtterance, Hangup, Interrupt, Ready, Say, Transfer,
    agent_audio::Sound,
    agent_service_server::{AgentService, AgentServiceServer},
    converse_request::Message as Told,
    converse_response::Message as Answer,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};
use url::Url;

use crate::signal::tone;

/// Messages that may wait to be sent.
const WAITING: usize = 64;
/// Flow control of a call: half a second of PCM.
const WINDOW: u32 = 16 << 10;
/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(10);

/// What the stand-in does next.
#[derive(Clone, Debug)]
pub enum Do {
    /// Sends this.
    Send(Answer),
    /// Ends the stream with this status.
    End(Code),
    /// Ends the stream with OK.
    Leave,
    /// Lets this time pass.
    Wait(Duration),
    /// Neither reads nor writes any more.
    Freeze,
}

/// What it does about a message: call and message in, deeds out.
type Behaviour = dyn Fn(&Told) -> Vec<Do> + Send + Sync;

/// A running stand-in; it ends when dropped.
pub struct RemoteAgent {
    address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
    metadata: Arc<Mutex<Vec<MetadataMap>>>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl RemoteAgent {
    /// On a free port of this machine. `Start` it answers with `Ready` by itself before `behave` is asked.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(behave: impl Fn(&Told) -> Vec<Do> + Send + Sync + 'static) -> io::Result<Self> {
        Self::serve(true, behave).await
    }

    /// One that does wrong.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn misbehaving(misdeed: Misdeed) -> io::Result<Self> {
        let is_ready = !matches!(misdeed, Misdeed::NeverReady | Misdeed::SpeaksFirst | Misdeed::Refuses);
        Self::serve(is_ready, move |told| misdeed.about(told)).await
    }

    async fn serve(is_ready: bool, behave: impl Fn(&Told) -> Vec<Do> + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (told, metadata) = (Arc::<Mutex<Vec<Told>>>::default(), Arc::<Mutex<Vec<MetadataMap>>>::default());
        let service =
            Service { is_ready, behave: Arc::new(behave), told: Arc::clone(&told), metadata: Arc::clone(&metadata) };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        // Small, so that it shows soon when nothing is read.
        let serving = Server::builder()
            .initial_stream_window_size(WINDOW)
            .add_service(AgentServiceServer::new(service))
            .serve_with_incoming(incoming);
        Ok(Self { address, told, metadata, serving: tokio::spawn(serving) })
    }

    /// For `url` in the agents file.
    pub fn url(&self) -> Url {
        let url = format!("http://{}", self.address);
        url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// What it was told so far, in all calls, but for audio.
    pub fn told(&self) -> Vec<Told> {
        lock(&self.told).iter().filter(|told| !matches!(told, Told::Audio(_))).cloned().collect()
    }

    /// The audio that it was told.
    pub fn heard(&self) -> Vec<u8> {
        let sound = |told: &Told| if let Told::Audio(audio) = told { audio.sound.to_vec() } else { Vec::new() };
        lock(&self.told).iter().flat_map(sound).collect()
    }

    /// Metadata of the calls.
    pub fn metadata(&self) -> Vec<MetadataMap> {
        lock(&self.metadata).clone()
    }

    /// Waits until it was told something like that. Panics when it does not come.
    pub async fn wait_for<T>(&self, what: &str, wanted: impl Fn(&Told) -> Option<T>) -> T {
        let found = timeout(PATIENCE, async {
            loop {
                if let Some(found) = lock(&self.told).iter().find_map(&wanted) {
                    return found;
                }
                sleep(POLL).await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {what} among {:?}", self.told()))
    }
}

impl fmt::Debug for RemoteAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteAgent").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for RemoteAgent {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What agents do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// It never says that it is ready.
    NeverReady,
    /// It speaks before.
    SpeaksFirst,
    /// It knows nobody.
    Refuses,
    /// It sends PCM of 11,025 Hz.
    WrongRate,
    /// It sends half a sample.
    OddBytes,
    /// It sends minutes of sound at once.
    Floods,
    /// It sends a text that no voice takes.
    LongText,
    /// A key ends its stream with an error.
    DiesOfKey,
    /// A key ends its stream without one.
    LeavesOnKey,
    /// It reads nothing after the start.
    NeverReads,
    /// It goes on after the end.
    IgnoresEnd,
    /// It says nothing at all.
    Mute,
    /// It goes on with its utterance after a hold.
    KeepsNumber,
    /// It says something as soon as it hears of a hold, and all the time until that is over.
    TalksOnHold,
}

impl Misdeed {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::NeverReady,
        Self::SpeaksFirst,
        Self::Refuses,
        Self::WrongRate,
        Self::OddBytes,
        Self::Floods,
        Self::LongText,
        Self::DiesOfKey,
        Self::LeavesOnKey,
        Self::NeverReads,
        Self::IgnoresEnd,
        Self::Mute,
        Self::KeepsNumber,
        Self::TalksOnHold,
    ];

    fn about(self, told: &Told) -> Vec<Do> {
        let greeting = || vec![pcm(1, 8000, &tone(440.0, 8000, 1600)), end_utterance()];
        match (self, told) {
            (Self::SpeaksFirst, Told::Start(_)) => greeting(),
            (Self::Refuses, Told::Start(_)) => vec![Do::End(Code::PermissionDenied)],
            (Self::WrongRate, Told::Start(_)) => vec![pcm(1, 11_025, &[0; 220])],
            (Self::OddBytes, Told::Start(_)) => {
                let sound = Some(Sound::Pcm(vec![0; 161].into()));
                vec![Do::Send(Answer::Audio(AgentAudio { utterance: 1, sound, sample_rate: 8000 }))]
            }
            (Self::Floods, Told::Start(_)) => (0..70).map(|_| mulaw(1, &[0xFF; 8000])).collect(),
            (Self::LongText, Told::Start(_)) => vec![say(1, &"word ".repeat(1000))],
            (Self::NeverReads, Told::Start(_)) => vec![Do::Freeze],
            (Self::IgnoresEnd, Told::End(_)) => vec![Do::Freeze],
            (Self::DiesOfKey, Told::Dtmf(_)) => vec![Do::End(Code::Internal)],
            (Self::LeavesOnKey, Told::Dtmf(_)) => vec![Do::Leave],
            (Self::KeepsNumber, Told::Start(_) | Told::Turn(_)) => vec![pcm(1, 8000, &tone(440.0, 8000, 1600))],
            // Four seconds in its own time.
            (Self::TalksOnHold, Told::Held(held)) if held.held => {
                let piece = || [pcm(2, 8000, &tone(440.0, 8000, 160)), Do::Wait(Duration::from_millis(20))];
                (0..200).flat_map(|_| piece()).collect()
            }
            (Self::DiesOfKey | Self::LeavesOnKey | Self::IgnoresEnd | Self::TalksOnHold, Told::Start(_)) => greeting(),
            (Self::IgnoresEnd | Self::NeverReady | Self::Mute, _) => Vec::new(),
            (_, Told::End(_)) => vec![Do::Leave],
            (_, _) => Vec::new(),
        }
    }
}

/// A piece of PCM.
pub fn pcm(utterance: u64, sample_rate: u32, samples: &[i16]) -> Do {
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    Do::Send(Answer::Audio(AgentAudio { utterance, sound: Some(Sound::Pcm(bytes.into())), sample_rate }))
}

/// A piece of mu-law.
pub fn mulaw(utterance: u64, codes: &[u8]) -> Do {
    let sound = Some(Sound::Mulaw(codes.to_vec().into()));
    Do::Send(Answer::Audio(AgentAudio { utterance, sound, sample_rate: 0 }))
}

/// A text.
pub fn say(utterance: u64, text: &str) -> Do {
    Do::Send(Answer::Say(Say { utterance, text: text.to_owned() }))
}

/// An utterance is complete.
pub const fn end_utterance() -> Do {
    Do::Send(Answer::EndUtterance(EndUtterance {}))
}

/// What was said is worthless.
pub const fn interrupt() -> Do {
    Do::Send(Answer::Interrupt(Interrupt {}))
}

/// The call ends.
pub fn hangup(after_playback: bool) -> Do {
    Do::Send(Answer::Hangup(Hangup { reason: "asked to".to_owned(), after_playback }))
}

/// The call goes on elsewhere.
pub fn transfer(to: &str) -> Do {
    Do::Send(Answer::Transfer(Transfer { to: to.to_owned(), after_playback: true }))
}

struct Service {
    is_ready: bool,
    behave: Arc<Behaviour>,
    told: Arc<Mutex<Vec<Told>>>,
    metadata: Arc<Mutex<Vec<MetadataMap>>>,
}

#[tonic::async_trait]
impl AgentService for Service {
    type ConverseStream = ReceiverStream<Result<ConverseResponse, Status>>;

    async fn converse(
        &self,
        request: Request<Streaming<ConverseRequest>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        lock(&self.metadata).push(request.metadata().clone());
        let (is_ready, behave, told) = (self.is_ready, Arc::clone(&self.behave), Arc::clone(&self.told));
        let (say, answers) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut inbound = request.into_inner();
            while let Ok(Some(message)) = inbound.message().await {
                let Some(message) = message.message else { continue };
                lock(&told).push(message.clone());
                if is_ready && matches!(message, Told::Start(_)) {
                    let ready = Answer::Ready(Ready { name: "stand-in".to_owned() });
                    if say.send(Ok(ConverseResponse { message: Some(ready) })).await.is_err() {
                        return;
                    }
                }
                for deed in behave(&message) {
                    let sent = match deed {
                        Do::Send(answer) => say.send(Ok(ConverseResponse { message: Some(answer) })).await,
                        Do::End(code) => say.send(Err(Status::new(code, "asked to"))).await,
                        Do::Leave => return,
                        Do::Wait(time) => {
                            sleep(time).await;
                            continue;
                        }
                        Do::Freeze => {
                            say.closed().await;
                            return;
                        }
                    };
                    if sent.is_err() {
                        break;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
