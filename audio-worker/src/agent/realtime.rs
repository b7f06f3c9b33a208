//! An agent whose model hears and speaks by itself: one WebSocket to a server that speaks OpenAI's Realtime protocol.
//!
//! What happens in the conversation is decided by its pure core (`realtime/session.rs`); here are the socket, the ears,
//! the functions and the voice of our own, polled by the call's own task.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use tokio::time::Sleep;

use super::{
    Act, Agent, AgentStats, CannotSay, Heard, Opening, Report, ToolReport,
    text::Text,
    tools::{About, Deed, Outcome, Toolbox},
};
use crate::{
    agents_file::Provider,
    conversation::now,
    dsp::{ResampleError, SampleRate, mulaw},
    ears::{self, Ears, echo::EchoGuard},
    provider::{Sound, Streaming, TextToSpeech, http::Client, meter::Meter, place::Place, visits::Visits},
    traces::{ReportedTurns, TurnStage},
    turn_taking,
};

mod codec;
mod line;
mod message;
mod playback;
mod session;
pub mod settings;
mod wire;

use line::{Line, News};
pub use line::{Server, ServerError};
use message::{Input, Output, Script};
use playback::Given;
use session::Session;
use settings::{Detection, Model};

/// Without a deadline the sleep is set as far away.
const FAR: Duration = Duration::from_secs(3600);

/// What all calls of one agent share.
#[derive(Debug)]
pub struct Persona {
    /// Opens the sockets.
    pub client: Client,
    /// Where the model is.
    pub server: Server,
    /// Its breaker is there.
    pub place: Arc<Place>,
    /// How it is asked.
    pub model: Model,
    /// How long it may be silent when something is expected of it.
    pub patience: Duration,
    /// What it is told to be.
    pub instructions: Text,
    /// Its first words; empty to wait for the caller.
    pub greeting: Text,
    /// Whether the greeting must not be interrupted.
    pub greeting_protected: bool,
    /// Said instead of a response that failed.
    pub apology: Text,
    /// Said to a caller who is silent: one a time, then it takes its leave.
    pub silence_prompts: Vec<Text>,
    /// Last words to a caller who says nothing any more.
    pub goodbye: Text,
    /// Last words when the model cannot be had.
    pub give_up: Text,
    /// After so many failed responses in a row it takes its leave.
    pub max_faults: u32,
    /// How turns are taken.
    pub turn: turn_taking::Settings,
    /// BCP 47 tag, where a call has none of its own; may be empty.
    pub language: String,
    /// A voice for the apology and the last words, when the model cannot say them.
    pub voice: Option<Arc<dyn TextToSpeech>>,
    /// Functions that the model may call.
    pub tools: Arc<Toolbox>,
}

/// One caller's conversation with a realtime model.
pub struct Realtime {
    persona: Arc<Persona>,
    language: String,
    about: About,
    session: Session,
    line: Line,
    visits: Visits,
    ears: Ears,
    echo: EchoGuard,
    meter: Meter,
    /// Of the persona, metered for this call; and what it is saying.
    own_voice: Option<Arc<dyn TextToSpeech>>,
    voice: Option<Streaming<Sound>>,
    working: Vec<Working>,
    pcm: Vec<i16>,
    spans: ReportedTurns,
    sleep: Pin<Box<Sleep>>,
}

/// A function at work.
struct Working {
    call: String,
    name: String,
    began: Instant,
    outcome: Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

impl Realtime {
    /// Takes a call; the socket is opened when it is first asked.
    ///
    /// # Errors
    /// When the signal path cannot be made.
    pub fn new(persona: Arc<Persona>, opening: &Opening) -> Result<Self, ResampleError> {
        let language = if opening.language.is_empty() { &persona.language } else { &opening.language };
        let parameters = opening.parameters.expose();
        let script = Script {
            instructions: persona.instructions.fill(parameters),
            greeting: persona.greeting.fill(parameters),
            greeting_protected: persona.greeting_protected,
            apology: persona.apology.fill(parameters),
            silence_prompts: persona.silence_prompts.iter().map(|prompt| prompt.fill(parameters)).collect(),
            goodbye: persona.goodbye.fill(parameters),
            give_up: persona.give_up.fill(parameters),
            language: language.clone(),
            tools: persona.tools.specs().iter().map(wire::tool).collect(),
            turn: persona.turn.clone(),
            max_faults: persona.max_faults,
            patience: persona.patience,
            has_voice: persona.voice.is_some(),
        };
        let own = persona.voice.as_ref();
        let own_voice = own.map(|own| own.metered(&opening.meter).unwrap_or_else(|| Arc::clone(own)));
        if let Some(voice) = &own_voice {
            voice.warm();
        }
        Ok(Self {
            language: language.clone(),
            about: About::from(opening),
            session: Session::new(script, persona.model.clone(), now())?,
            line: Line::new(),
            visits: Visits::at(Arc::clone(&persona.place)),
            ears: Ears::new(ears::turn_detector()),
            echo: EchoGuard::default(),
            meter: opening.meter.clone(),
            own_voice,
            voice: None,
            working: Vec::new(),
            pcm: Vec::new(),
            spans: ReportedTurns::below(opening.trace, TurnStage::SpeechToText),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            persona,
        })
    }

    /// Does what the core wants; gives the next act.
    fn carry_out(&mut self) -> Option<Act> {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Open if self.visits.begin(now()) => self.line.open(&self.persona.server, &self.persona.client),
                Output::Open => self.session.handle(Input::LeftAlone, now()),
                Output::Well => self.visits.well(),
                Output::Served => self.visits.served(),
                Output::Ill(error) => self.visits.failed(&error, now()),
                Output::Close => self.line.close(),
                Output::Send(text) => self.line.send(text),
                Output::Speak(text) => {
                    self.voice = self.own_voice.as_ref().map(|voice| voice.speak(&text, &self.language));
                }
                Output::Hush => self.voice = None,
                Output::Call(call) => {
                    let called = self.persona.tools.call(&call.name, &call.arguments, &self.about);
                    let (call, name) = (call.id, call.name);
                    self.working.push(Working { call, name, began: now(), outcome: called.outcome });
                    if let Some(filler) = called.filler {
                        self.session.handle(Input::Filler(filler), now());
                    }
                }
                Output::Cost(stage, cost) => self.meter.add(stage, Provider::OpenAi.name(), &cost),
                Output::Act(act) => {
                    if let Act::Report(report) = &act {
                        self.spans.watch(report);
                    }
                    return Some(act);
                }
            }
        }
        None
    }

    /// Everything that may have something new is looked at; true when one had.
    fn look(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        if let Poll::Ready(news) = self.line.poll(cx) {
            match news {
                News::Opened => self.session.handle(Input::Opened, at),
                News::Text(text) => self.session.handle(Input::Text(&text), at),
                News::Lost(error) => self.session.handle(Input::Lost(&error), at),
            }
            return true;
        }
        if let Some(voice) = &mut self.voice
            && let Poll::Ready(sound) = voice.poll_next_unpin(cx)
        {
            self.session.handle(Input::Voice(sound), at);
            return true;
        }
        let done = self.working.iter_mut().enumerate().find_map(|(n, working)| {
            if let Poll::Ready(outcome) = working.outcome.as_mut().poll(cx) { Some((n, outcome)) } else { None }
        });
        let Some((n, outcome)) = done else { return false };
        let Working { call, name, began, .. } = self.working.remove(n);
        self.on_outcome(&call, &name, at.saturating_duration_since(began), outcome, at);
        true
    }

    fn on_outcome(&mut self, call: &str, name: &str, took: Duration, outcome: Outcome, at: Instant) {
        let is_known = self.persona.tools.specs().iter().any(|tool| tool.name == name);
        let name = if is_known { name } else { "" };
        let report = ToolReport { name: name.to_owned(), took, verdict: outcome.verdict() };
        self.session.report_tool(report);
        let answer = outcome.told().to_owned();
        let deed = match outcome {
            Outcome::Do(deed, _) => Some(match deed {
                Deed::Hangup { reason } => Act::Hangup { reason, after_playback: true },
                Deed::Transfer { to } => Act::Transfer { to, after_playback: true },
                Deed::Digits(keys) => Act::PlayDigits { keys },
            }),
            Outcome::Answer(_) | Outcome::Fail(..) => None,
        };
        self.session.handle(Input::Called { call, name, answer: &answer, deed }, at);
    }

    /// Sound for the caller.
    fn give(&mut self, at: Instant) -> Option<Act> {
        match self.session.give(at)? {
            Given::End => Some(Act::EndUtterance),
            Given::Sound { codes, begins, .. } => {
                if matches!(self.persona.model.detection, Detection::Own) {
                    self.pcm.clear();
                    mulaw::decode(&codes, &mut self.pcm);
                    if begins {
                        self.echo.begin();
                    }
                    let heard_ms = self.session.heard_of_utterance(at).unwrap_or_default();
                    self.echo.play(&self.pcm, SampleRate::Hz8000, heard_ms);
                }
                Some(Act::Forward(codes))
            }
        }
    }

    /// Sleeps until the next deadline; true when one has passed.
    fn wait(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        let next = self.session.poll_timeout();
        if next.is_some_and(|next| next <= at) {
            self.session.handle(Input::Tick, at);
            return true;
        }
        let deadline = next.unwrap_or(at + FAR).into();
        if self.sleep.deadline() != deadline && (next.is_some() || self.sleep.is_elapsed()) {
            self.sleep.as_mut().reset(deadline);
        }
        self.sleep.as_mut().poll(cx).is_ready()
    }

    /// Windows of the caller's sound go to the core, judged.
    fn listen(&mut self, pcm: Option<&[i16]>, gap_ms: u64, at: Instant) {
        let (session, guard) = (&mut self.session, &mut self.echo);
        let playing = match self.persona.model.detection {
            Detection::Own => session.heard_of_utterance(at),
            Detection::Server { .. } | Detection::Semantic(_) => None,
        };
        let mut each = |voice: f32, window: &[i16]| {
            guard.hear(window);
            // Only a voice that could interrupt is worth the comparison.
            let echo = voice >= ears::VOICE && playing.is_some_and(|heard_ms| guard.is_echo(heard_ms));
            session.handle(Input::Window { voice, echo }, at);
        };
        match pcm {
            Some(pcm) => self.ears.hear(pcm, &mut each),
            None => {
                self.ears.gap(gap_ms, &mut each);
            }
        }
    }
}

impl Agent for Realtime {
    fn hear(&mut self, heard: Heard<'_>) {
        let at = now();
        match heard {
            Heard::Mulaw(codes) => self.session.handle(Input::Mulaw(codes), at),
            Heard::Audio(pcm) => self.listen(Some(pcm), 0, at),
            Heard::Gap(ms) => {
                self.session.handle(Input::Gap(ms), at);
                self.listen(None, ms, at);
            }
            Heard::Dtmf(key) => self.session.handle(Input::Key(key), at),
            Heard::Played { utterance, ms, cleared } => {
                self.session.handle(Input::Played { utterance, ms, cleared }, at);
            }
            Heard::Held(held) => {
                if held {
                    self.visits.pause();
                }
                self.session.handle(Input::Held(held), at);
            }
            Heard::Notice(..) => {}
        }
    }

    fn say(&mut self, text: &str) -> Result<(), CannotSay> {
        self.session.say(text)
    }

    fn leave(&mut self) -> Vec<Report> {
        self.line.close();
        let lost_ms = self.session.unsent_lost_ms();
        if lost_ms > 0 {
            tracing::info!(lost_ms, "of the caller's sound some came while there was no realtime server");
        }
        let reports = self.session.leave(now());
        // What is left is what it cost; and a voice that is given up costs as well.
        while self.carry_out().is_some() {}
        self.voice = None;
        reports
    }

    fn stats(&self) -> AgentStats {
        AgentStats { ears: self.ears.stats(), echo_windows: self.echo.echoes(), ..self.session.stats() }
    }

    fn poll_act(&mut self, cx: &mut Context<'_>, _: &mut Vec<i16>) -> Poll<Act> {
        loop {
            if let Some(act) = self.carry_out() {
                return Poll::Ready(act);
            }
            let at = now();
            if self.look(cx, at) {
                continue;
            }
            if let Some(act) = self.give(at) {
                return Poll::Ready(act);
            }
            if !self.session.has_more() && !self.wait(cx, at) {
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Realtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Realtime").field("line", &self.line).finish_non_exhaustive()
    }
}
