//! A call to a candidate, from the worker's side: what it is told in real time, and what is wrong with what it says.

use std::time::Duration;

use proto::agent::v1::{
    CallerAudio, ConverseRequest, ConverseResponse, Encoding, End, EndReason, InterruptBy, Speech, Start, Turn,
    agent_audio::Sound, agent_service_client::AgentServiceClient, converse_request::Message as Tell,
    converse_response::Message as Answer,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};
use url::Url;

use super::{Candidate, STOP_LIMIT};
use crate::sim::{bundled_speech, encode_mulaw};

/// Rates of PCM that the worker takes, Hz.
const RATES: [u32; 6] = [8000, 16_000, 22_050, 24_000, 44_100, 48_000];
/// Longest text, in characters.
const MAX_TEXT_CHARS: usize = 4000;
/// A frame of the caller's sound.
const FRAME: Duration = Duration::from_millis(20);
/// Messages that may wait to be sent, as at the worker: 5 s of frames.
const WAITING: usize = 288;

/// A call, from the worker's side.
pub(super) struct Call {
    pub(super) tell: mpsc::Sender<ConverseRequest>,
    pub(super) inbound: Streaming<ConverseResponse>,
    encoding: Encoding,
    rate: u32,
    media_ms: u64,
    /// Messages of sound and words.
    pub(super) said: u64,
    pub(super) said_us: u64,
    pub(super) newest: Option<u64>,
    /// Of the newest utterance.
    pub(super) said_of_newest: u64,
    pub(super) has_ended_utterance: bool,
    /// `EndUtterance`s so far.
    pub(super) ended: u64,
    pub(super) asked_to_end: bool,
}

impl Call {
    pub(super) async fn open(candidate: &Candidate, encoding: Encoding, rate: u32) -> Result<Self, String> {
        let limit = candidate.ready_limit;
        let opened = timeout(limit, Self::dial(candidate, encoding, rate)).await;
        opened.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            Err(format!("Ready did not come within {seconds} s; send it as soon as Start was read"))
        })
    }

    async fn dial(candidate: &Candidate, encoding: Encoding, rate: u32) -> Result<Self, String> {
        let (tell, told) = mpsc::channel(WAITING);
        let start = Start {
            call_id: "CA00000000000000000000000000000000".to_owned(),
            agent: "conformance".to_owned(),
            language: "en-US".to_owned(),
            encoding: encoding.into(),
            sample_rate: rate,
            can_say: true,
            has_words: true,
            interrupt_by: InterruptBy::Worker.into(),
            ..Start::default()
        };
        let start = ConverseRequest { message: Some(Tell::Start(Box::new(start))) };
        // An empty channel has room.
        let _ = tell.try_send(start);
        let mut request = Request::new(ReceiverStream::new(told));
        if let Some(token) = &candidate.token {
            let value = format!("Bearer {}", token.expose()).parse();
            request.metadata_mut().insert("authorization", value.map_err(|_| "the token is no text".to_owned())?);
        }
        let channel = channel(&candidate.url).await?;
        let opened = AgentServiceClient::new(channel).converse(request).await.map_err(|status| refused(&status))?;
        let mut inbound = opened.into_inner();
        match inbound.message().await {
            Ok(Some(ConverseResponse { message: Some(Answer::Ready(_)) })) => {}
            Ok(Some(_)) => return Err("another message came before Ready; send Ready first".to_owned()),
            Ok(None) => return Err("the stream ended before Ready; keep it open until End".to_owned()),
            Err(status) => return Err(refused(&status)),
        }
        Ok(Self {
            tell,
            inbound,
            encoding,
            rate,
            media_ms: 0,
            said: 0,
            said_us: 0,
            newest: None,
            said_of_newest: 0,
            has_ended_utterance: false,
            ended: 0,
            asked_to_end: false,
        })
    }

    pub(super) async fn tell(&mut self, message: Option<Tell>) -> Result<(), String> {
        let sent = timeout(STOP_LIMIT, self.tell.send(ConverseRequest { message })).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            // Why it ended is read.
            Ok(Err(_)) if self.asked_to_end => Ok(()),
            Ok(Err(_)) => Err(self.why_ended().await),
            Err(_) => Err("5 s of messages wait to be read; read all the time, also while you speak".to_owned()),
        }
    }

    async fn why_ended(&mut self) -> String {
        match timeout(STOP_LIMIT, async { while let Ok(Some(_)) = self.inbound.message().await {} }).await {
            Ok(()) => "the stream ended before End; an agent that wants to end a call sends Hangup".to_owned(),
            Err(_) => "the agent reads no more".to_owned(),
        }
    }

    /// Two seconds of speech in real time, with what the worker tells of it.
    pub(super) async fn say_something(&mut self) -> Result<(), String> {
        let began_ms = self.media_ms;
        self.tell(Some(Tell::Speech(Speech { speaking: true, media_time_ms: began_ms }))).await?;
        let speech = &bundled_speech()[8000..3 * 8000];
        for frame in speech.chunks(160) {
            self.send(frame).await?;
        }
        let ended_ms = self.media_ms;
        for _ in 0..20 {
            self.send(&[0; 160]).await?;
        }
        self.tell(Some(Tell::Speech(Speech { speaking: false, media_time_ms: self.media_ms }))).await?;
        let text = "What can you do for me?".to_owned();
        self.tell(Some(Tell::Turn(Turn { turn: 1, text, began_ms, ended_ms }))).await
    }

    /// A frame of the caller's sound at 8 kHz, and the time that it lasts.
    async fn send(&mut self, frame: &[i16]) -> Result<(), String> {
        let sound = match (self.encoding, self.rate) {
            (Encoding::Mulaw, _) => encode_mulaw(frame),
            (_, 8000) => frame.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
            _ => frame.iter().flat_map(|sample| [sample.to_le_bytes(); 2].concat()).collect(),
        };
        let audio = CallerAudio { media_time_ms: self.media_ms, sound: sound.into() };
        self.media_ms += 20;
        self.tell(Some(Tell::Audio(audio))).await?;
        self.listen(FRAME).await
    }

    /// Takes what comes for so long.
    pub(super) async fn listen(&mut self, time: Duration) -> Result<(), String> {
        let until = now() + time;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(until) => return Ok(()),
                message = self.inbound.message() => match message {
                    Ok(Some(message)) => self.judge(message.message)?,
                    // It asked for that.
                    Ok(None) | Err(_) if self.asked_to_end => {
                        sleep_until(until).await;
                        return Ok(());
                    }
                    Ok(None) => return Err("the stream ended before End; an agent that wants to end a call sends Hangup".to_owned()),
                    Err(status) => {
                        return Err(format!("the stream ended with {:?} ({}); catch what goes wrong in a call", status.code(), status.message()));
                    }
                },
            }
        }
    }

    fn judge(&mut self, message: Option<Answer>) -> Result<(), String> {
        match message {
            Some(Answer::Ready(_)) => return Err("Ready came a second time; send it once".to_owned()),
            Some(Answer::Audio(audio)) => {
                let us = match &audio.sound {
                    None => return Err("AgentAudio without sound; set pcm or mulaw".to_owned()),
                    Some(Sound::Mulaw(codes)) => codes.len() as u64 * 125,
                    Some(Sound::Pcm(pcm)) => {
                        let hz = if audio.sample_rate == 0 { self.rate } else { audio.sample_rate };
                        if !RATES.contains(&hz) {
                            return Err(format!("PCM of {hz} Hz; sample_rate must be one of {RATES:?}"));
                        }
                        if pcm.len() % 2 != 0 {
                            return Err("PCM of an odd number of bytes; send whole 16-bit samples".to_owned());
                        }
                        pcm.len() as u64 / 2 * 1_000_000 / u64::from(hz)
                    }
                };
                self.said_us += us;
                self.note(audio.utterance);
            }
            Some(Answer::Say(say)) => {
                let chars = say.text.chars().count();
                if !(1..=MAX_TEXT_CHARS).contains(&chars) {
                    return Err(format!(
                        "a text of {chars} characters; say 1 to {MAX_TEXT_CHARS}, best a sentence at a time"
                    ));
                }
                self.note(say.utterance);
            }
            Some(Answer::Transfer(transfer)) if transfer.to.is_empty() => {
                return Err("Transfer to nobody; set to".to_owned());
            }
            Some(Answer::Hangup(_) | Answer::Transfer(_)) => self.asked_to_end = true,
            Some(Answer::EndUtterance(_)) => {
                self.has_ended_utterance = true;
                self.ended += 1;
            }
            Some(Answer::Interrupt(_)) => self.has_ended_utterance = true,
            None => {}
        }
        Ok(())
    }

    fn note(&mut self, utterance: u64) {
        self.said += 1;
        if self.newest.replace(utterance) != Some(utterance) {
            self.said_of_newest = 0;
        }
        self.said_of_newest += 1;
        self.has_ended_utterance = false;
    }

    /// Ends it as the worker does; how the agent takes it is a check of its own.
    pub(super) async fn hang_up(self) {
        let Self { tell, mut inbound, .. } = self;
        let end = End { reason: EndReason::CallOver.into(), code: 0, detail: String::new() };
        let _ = tell.try_send(ConverseRequest { message: Some(Tell::End(end)) });
        drop(tell);
        let _ = timeout(STOP_LIMIT, async { while let Ok(Some(_)) = inbound.message().await {} }).await;
    }
}

async fn channel(url: &Url) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(url.to_string()).map_err(|error| format!("{url}: {error}"))?;
    let connected = endpoint.tcp_nodelay(true).connect_timeout(STOP_LIMIT).connect().await;
    connected.map_err(|_| format!("nobody listens at {url}; start your service there, without TLS for this test"))
}

fn refused(status: &Status) -> String {
    format!("{} ({}); see --token-env for a service that wants one", refusal(status.code()), status.message())
}

pub(super) fn refusal(code: Code) -> String {
    format!("the call was refused with {code:?}")
}

#[expect(clippy::disallowed_methods, reason = "a caller speaks in real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}
