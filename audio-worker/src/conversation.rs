//! The driver of one conversation: the one task that awaits. It moves what comes from the gateway and the agent
//! into the core, and what the core says to the gateway; it decides nothing itself.

use std::{
    future::poll_fn,
    time::{Duration, Instant},
};

use proto::v1::{self, ConverseRequest, ConverseResponse, converse_request};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::{Sleep, sleep_until},
};
use tokio_stream::{StreamExt, wrappers::WatchStream};
use tonic::{Status, Streaming};

use crate::{
    agent::{Act, Agent, Heard},
    conversations::Phase,
    dsp::{ResampleError, dtmf::Keys},
    metrics::Metrics,
    pipeline::{Downlink, Uplink},
    provider::meter::Costs,
    traces::Utterances,
    turn::{EndReason, Input, Stats, Turn, reply},
};

mod news;
mod orders;
mod telling;
mod wire;

use news::Uncounted;
pub(crate) use orders::Staff;
pub(crate) use telling::Telling;
pub(crate) use wire::costs_to_wire;

/// Messages that may wait between the core and the gRPC stream; beyond it the core keeps them.
pub(crate) const OUTBOUND_MESSAGES: usize = 8;

/// Largest message of caller audio: one second.
pub(crate) const MAX_AUDIO_BYTES: usize = 8000;

/// Without audio for this long the sleep is set as far away.
const FAR: Duration = Duration::from_secs(3600);

/// One message back, or the status that ends the stream.
pub(crate) type Reply = Result<ConverseResponse, Status>;

/// What goes back over the stream. Boxed: tokio's channels hold blocks of 32 slots, whatever their bound, and slots of
/// a message each would be 4 KiB a call.
pub(crate) type Outbound = mpsc::Sender<Box<Reply>>;

/// One conversation, all of its state owned here.
pub(crate) struct Conversation {
    turn: Turn,
    uplink: Uplink,
    downlink: Downlink,
    agent: Box<dyn Agent>,
    staff: Staff,
    inbound: Streaming<ConverseRequest>,
    outbound: Outbound,
    phase: WatchStream<Phase>,
    pcm: Vec<i16>,
    codes: Vec<u8>,
    /// What the agent did not hear of this hold, 8 kHz samples.
    missed_samples: u64,
    seen: Seen,
    news: Uncounted,
    utterances: Utterances,
    telling: Telling,
}

/// What the driver counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Caller audio, 8 kHz samples.
    pub(crate) heard_samples: u64,
    /// Time for which the carrier sent nothing, ms.
    pub(crate) gap_ms: u64,
    /// Messages that the gateway had to drop, by its sequence numbers.
    pub(crate) missing_messages: u64,
    /// Of what was heard, the audio that came while the agent was on hold, 8 kHz samples.
    pub(crate) held_samples: u64,
    /// Keys that came while the agent was on hold.
    pub(crate) held_keys: u64,
    /// The newest message of audio.
    pub(crate) last_seq: u64,
}

/// Why a conversation could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConversationError {
    #[error("a message of {0} bytes of audio; at most {MAX_AUDIO_BYTES} are taken")]
    AudioTooLong(usize),
    #[error("a second Open")]
    SecondOpen,
    #[error("the signal path failed")]
    Signal(#[from] ResampleError),
    #[error("the agent failed: {0}")]
    Agent(String),
}

impl Conversation {
    /// A conversation that begins now.
    pub(crate) fn new(
        agent: Box<dyn Agent>,
        staff: Staff,
        inbound: Streaming<ConverseRequest>,
        outbound: Outbound,
        phase: watch::Receiver<Phase>,
        utterances: Utterances,
        (metrics, telling): (Metrics, Telling),
    ) -> Result<Self, ConversationError> {
        let began = now();
        Ok(Self {
            turn: Turn::new(reply::LEAD, began),
            uplink: Uplink::new()?,
            downlink: Downlink::default(),
            agent,
            staff,
            inbound,
            outbound,
            // Says at once what the phase is: one that was taken while the worker began to drain is told as well.
            phase: WatchStream::new(phase),
            pcm: Vec::new(),
            codes: Vec::new(),
            missed_samples: 0,
            seen: Seen::default(),
            news: Uncounted::new(metrics, began),
            telling,
            utterances,
        })
    }

    /// Runs until the conversation is over.
    pub(crate) async fn run(&mut self) -> Result<EndReason, ConversationError> {
        let sleep = sleep_until((now() + FAR).into());
        tokio::pin!(sleep);
        loop {
            let room = self.forward();
            if self.news.is_due() {
                self.tell_news();
            }
            if let Some(reason) = self.turn.ended() {
                return Ok(reason);
            }
            set(sleep.as_mut(), if room { self.turn.poll_timeout() } else { None });
            tokio::select! {
                biased;
                // A gateway that does not read its answers gets no further orders carried out.
                message = self.inbound.message(), if self.turn.has_room_for_answers() => {
                    self.on_gateway(message.ok().flatten())?;
                }
                act = poll_fn(|cx| self.agent.poll_act(cx, &mut self.pcm)), if !self.turn.is_held() => {
                    self.on_act(act)?;
                }
                Some(phase) = self.phase.next() => self.on_phase(phase),
                gone = async { self.outbound.reserve().await.is_err() }, if !room => if gone { self.turn.handle(Input::GatewayGone, now()) },
                () = &mut sleep => self.turn.handle(Input::Tick, now()),
            }
        }
    }

    /// The conversation is over, for this reason.
    pub(crate) fn tell_end(&self, reason: EndReason) {
        self.telling.ended(reason.label(), &self.staff.costs());
    }

    /// The agent leaves: what it still has to tell is told.
    pub(crate) fn tell_rest(&mut self) {
        for report in self.agent.leave() {
            self.telling.report(&report);
        }
    }

    /// What was counted at the end, by the core and by the driver; Prometheus is told of it.
    pub(crate) fn finish(&mut self) -> (Stats, Seen, Costs) {
        let ((turn, seen), costs) = ((self.turn.stats(), self.seen), self.staff.costs());
        self.news.tell((turn, seen), self.agent.stats(), costs.clone());
        (turn, seen, costs)
    }

    fn tell_news(&mut self) {
        let costs = self.staff.costs();
        if self.news.is_new(&costs) {
            // What finds no room is told with the next, at the latest at the end.
            let _ = self.outbound.try_send(Box::new(Ok(costs_to_wire(&costs))));
        }
        self.news.tell((self.turn.stats(), self.seen), self.agent.stats(), costs);
    }

    /// Sends what the core has for the gateway; false when the stream took no more.
    fn forward(&mut self) -> bool {
        loop {
            match self.outbound.try_reserve() {
                Ok(permit) => match self.turn.poll_gateway() {
                    Some(message) => {
                        self.utterances.watch(&message);
                        permit.send(Box::new(Ok(wire::to_wire(message, self.uplink.media_time_ms()))));
                    }
                    None => return true,
                },
                Err(TrySendError::Full(())) => return false,
                Err(TrySendError::Closed(())) => {
                    self.turn.handle(Input::GatewayGone, now());
                    return true;
                }
            }
        }
    }

    fn on_gateway(&mut self, message: Option<ConverseRequest>) -> Result<(), ConversationError> {
        use converse_request::Message;

        let Some(ConverseRequest { message }) = message else {
            self.turn.handle(Input::GatewayGone, now());
            return Ok(());
        };
        match message {
            Some(Message::Audio(audio)) => return self.on_audio(&audio),
            Some(Message::Dtmf(v1::Dtmf { digit })) => {
                if self.turn.is_held() {
                    self.seen.held_keys += 1;
                } else if let Some(digit) = digit.chars().next() {
                    self.agent.hear(Heard::Dtmf(digit));
                }
            }
            Some(Message::Played(v1::Played { utterance, ms, cleared, .. })) => {
                if let Some((utterance, ms)) = self.turn.of_agent(utterance, ms) {
                    self.agent.hear(Heard::Played { utterance, ms, cleared });
                }
            }
            Some(Message::Notice(v1::Notice { kind, value })) => self.agent.hear(Heard::Notice(&kind, &value)),
            Some(Message::Instruct(instruct)) => return self.on_instruct(instruct),
            Some(Message::Close(_)) => self.turn.handle(Input::Closed, now()),
            Some(Message::Open(_)) => return Err(ConversationError::SecondOpen),
            // A newer gateway says something that this worker does not know.
            None => {}
        }
        Ok(())
    }

    fn on_audio(&mut self, audio: &v1::CallerAudio) -> Result<(), ConversationError> {
        if audio.mulaw.len() > MAX_AUDIO_BYTES {
            return Err(ConversationError::AudioTooLong(audio.mulaw.len()));
        }
        let came = now();
        self.seen.missing_messages += audio.seq.saturating_sub(self.seen.last_seq.saturating_add(1));
        self.seen.last_seq = self.seen.last_seq.max(audio.seq);
        self.seen.heard_samples += audio.mulaw.len() as u64;
        if self.turn.is_held() {
            let gap_ms = self.uplink.skip(audio.mulaw.len(), audio.media_time_ms);
            self.seen.gap_ms += gap_ms;
            self.seen.held_samples += audio.mulaw.len() as u64;
            self.missed_samples += audio.mulaw.len() as u64 + gap_ms * 8;
            self.news.heard(came, now());
            return Ok(());
        }
        let heard = self.uplink.push(&audio.mulaw, audio.media_time_ms)?;
        if heard.gap_ms > 0 {
            self.seen.gap_ms += heard.gap_ms;
            self.agent.hear(Heard::Gap(heard.gap_ms));
        }
        self.agent.hear(Heard::Mulaw(&audio.mulaw));
        if !heard.pcm.is_empty() {
            self.agent.hear(Heard::Audio(heard.pcm));
        }
        self.news.heard(came, now());
        Ok(())
    }

    fn on_act(&mut self, act: Act) -> Result<(), ConversationError> {
        let input = match act {
            Act::Speak(rate) => {
                let came = now();
                self.codes.clear();
                self.downlink.push(&self.pcm, rate, &mut self.codes)?;
                self.pcm.clear();
                let ready = now();
                self.news.said(came, ready);
                self.turn.handle(Input::Say(&self.codes), ready);
                return Ok(());
            }
            Act::Forward(mulaw) => {
                self.codes.clear();
                self.pcm.clear();
                // What was said before it in PCM is heard before it, to the filter's last sample.
                self.downlink.finish(&mut self.codes)?;
                for codes in [&self.codes[..], &mulaw[..]] {
                    if !codes.is_empty() {
                        self.turn.handle(Input::Say(codes), now());
                    }
                }
                return Ok(());
            }
            Act::EndUtterance => {
                self.codes.clear();
                self.downlink.finish(&mut self.codes)?;
                if !self.codes.is_empty() {
                    self.turn.handle(Input::Say(&self.codes), now());
                }
                Input::EndUtterance
            }
            Act::Interrupt => {
                self.downlink.reset();
                Input::Interrupt
            }
            Act::Hangup { reason, after_playback } => Input::Hangup { reason, after_playback },
            Act::Transfer { to, after_playback } => Input::Transfer { to, after_playback },
            Act::Continue => Input::Continue,
            Act::PlayDigits { keys } => match Keys::parse(&keys) {
                // Nobody waits for an answer.
                Ok(keys) => Input::PlayDigits { id: 0, keys },
                Err(error) => {
                    tracing::warn!(%error, "the agent has keys played that there are not");
                    return Ok(());
                }
            },
            Act::Report(report) => {
                self.telling.report(&report);
                self.news.report(&report);
                Input::Report(report)
            }
            Act::Fail { reason } => return Err(ConversationError::Agent(reason)),
        };
        self.turn.handle(input, now());
        Ok(())
    }

    fn on_phase(&mut self, phase: Phase) {
        match phase {
            Phase::Open => {}
            Phase::Draining(left) => self.turn.handle(Input::Draining(left), now()),
            Phase::Over => self.turn.handle(Input::Drained, now()),
        }
    }
}

/// Moves the sleep to the core's deadline; without one it is left alone and its firing changes nothing.
fn set(sleep: std::pin::Pin<&mut Sleep>, deadline: Option<Instant>) {
    let deadline = match deadline {
        Some(deadline) => deadline.into(),
        None if sleep.is_elapsed() => (now() + FAR).into(),
        None => return,
    };
    if sleep.deadline() != deadline {
        sleep.reset(deadline);
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver is the one that asks the clock")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
