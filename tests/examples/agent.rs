//! A complete remote agent in Rust: it greets, says what it hears, answers keys and hangs up on `#`. Start from it.
//!
//! `cargo run -p tests --example agent` listens on 127.0.0.1:9000, or where `AGENT_LISTEN` says. In the agents file:
//!
//! ```toml
//! [agent.mirror]
//! kind = "remote"
//! url = "http://127.0.0.1:9000"
//! interrupt = "agent"
//! ```

use std::{env, error::Error, f64::consts::TAU};

use proto::agent::v1::{
    AgentAudio, ConverseRequest, ConverseResponse, Encoding, EndUtterance, Hangup, Interrupt, Ready, Say, Start,
    agent_audio::Sound,
    agent_service_server::{AgentService, AgentServiceServer},
    converse_request::Message as Told,
    converse_response::Message as Answer,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

/// Messages that may wait to be sent: the worker reads all the time.
const WAITING: usize = 64;

/// Rate of the tones. Any common rate will do.
const TONE_HZ: u32 = 24_000;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::disallowed_methods, reason = "an example of one file reads its one setting where it needs it")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::var("AGENT_LISTEN").unwrap_or_else(|_| "127.0.0.1:9000".to_owned());
    serve(TcpListener::bind(address).await?).await
}

/// Takes calls for ever.
pub(crate) async fn serve(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(Server::builder().add_service(AgentServiceServer::new(Mirror)).serve_with_incoming(incoming).await?)
}

/// The service; a call is a task of its own.
struct Mirror;

#[tonic::async_trait]
impl AgentService for Mirror {
    type ConverseStream = ReceiverStream<Result<ConverseResponse, Status>>;

    async fn converse(
        &self,
        request: Request<Streaming<ConverseRequest>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let (say, answers) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            // A call whose worker is gone, or that is over, needs no more.
            let _ = converse(request.into_inner(), &Call(say)).await;
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// What is said in one call.
struct Call(mpsc::Sender<Result<ConverseResponse, Status>>);

impl Call {
    /// False once nobody listens any more.
    async fn send(&self, message: Answer) -> bool {
        self.0.send(Ok(ConverseResponse { message: Some(message) })).await.is_ok()
    }

    /// An utterance that is a tone.
    async fn tone(&self, utterance: u64, hz: f64, seconds: f64) -> bool {
        let sample = |n: u32| (8000.0 * (TAU * hz * f64::from(n) / f64::from(TONE_HZ)).sin()) as i16;
        let samples = (seconds * f64::from(TONE_HZ)) as u32;
        let pcm: Vec<u8> = (0..samples).flat_map(|n| sample(n).to_le_bytes()).collect();
        let sound = Some(Sound::Pcm(pcm.into()));
        self.send(Answer::Audio(AgentAudio { utterance, sound, sample_rate: TONE_HZ })).await
            && self.send(Answer::EndUtterance(EndUtterance {})).await
    }
}

async fn converse(mut told: Streaming<ConverseRequest>, call: &Call) -> Result<(), Status> {
    let Some(Told::Start(start)) = told.message().await?.and_then(|first| first.message) else {
        return Err(Status::invalid_argument("start comes first"));
    };
    call.send(Answer::Ready(Ready { name: "mirror in Rust".to_owned() })).await;
    // Utterances are counted: the greeting is 1. Between them the caller is echoed.
    let mut newest = 1;
    greet(&start, call).await;
    let (mut busy_with, is_mulaw) = (Some(newest), start.encoding() == Encoding::Mulaw);
    while let Some(message) = told.message().await? {
        match message.message {
            Some(Told::Audio(audio)) if busy_with.is_none() => {
                let sound = if is_mulaw { Sound::Mulaw(audio.sound) } else { Sound::Pcm(audio.sound) };
                call.send(Answer::Audio(AgentAudio { utterance: newest, sound: Some(sound), sample_rate: 0 })).await;
            }
            Some(Told::Dtmf(key)) => match key.digit.as_str() {
                "#" => {
                    let hangup = Hangup { reason: "the caller pressed #".to_owned(), after_playback: true };
                    call.send(Answer::Hangup(hangup)).await;
                }
                digit => {
                    // What is being said gives way to the tone of the key.
                    newest += 1;
                    call.send(Answer::Interrupt(Interrupt {})).await;
                    call.tone(newest, 400.0 + 100.0 * f64::from(digit.parse().unwrap_or(10_u32)), 0.5).await;
                    busy_with = Some(newest);
                }
            },
            Some(Told::Played(played)) if Some(played.utterance) == busy_with => {
                // A greeting or a tone is over when it was heard; all of them are shorter than a second.
                let is_heard = played.cleared || played.ms >= 480;
                if is_heard {
                    newest += 1;
                    busy_with = None;
                }
            }
            Some(Told::Held(held)) if held.held => {
                // What was being said is thrown away, with all that still comes under its number.
                newest += 1;
                busy_with = None;
            }
            Some(Told::End(_)) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// By a text where the agent has a voice, by a tone otherwise.
async fn greet(start: &Start, call: &Call) {
    if start.can_say {
        let text = "Hello. Say something, and I will say it too.".to_owned();
        call.send(Answer::Say(Say { utterance: 1, text })).await;
        call.send(Answer::EndUtterance(EndUtterance {})).await;
    } else {
        call.tone(1, 660.0, 0.5).await;
    }
}
