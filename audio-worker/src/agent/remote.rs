//! An agent that is a service of its own: it speaks `tandem.agent.v1`, in whatever language, and the worker dials it.
//!
//! One stream is one call. It is read and written by the call's own task (`stream.rs`): what the caller does becomes messages
//! (`wire.rs`, and `listening.rs` for speech and turns), and what the agent says waits in `said.rs` for its time, and is
//! given out by `speaking.rs`.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use proto::agent::v1::{ConverseRequest, EndReason};
use telemetry::traces::TraceContext;
use tokio::{sync::mpsc, time::Sleep};

use super::{Act, Agent, AgentStats, CannotSay, Heard, Opening, Report, report};
use crate::{
    agents_file::{InterruptBy, RemoteFormat, RemoteSettings},
    conversation::now,
    dsp::SampleRate,
    provider::{Fault, Sound, SpeechToText, Streaming, TextToSpeech, place::Place, visits::Visits},
    traces::{ReportedTurns, TurnStage},
};

mod audio;
mod link;
mod listening;
mod said;
mod speaking;
mod stream;
mod wire;

use link::Link;
use listening::{Event, Listening};
use said::Said;
use stream::{DEADLINE_EXCEEDED, Stream};

/// Without a deadline the sleep is set as far away.
const FAR: Duration = Duration::from_secs(3600);

/// What all calls of one agent share.
#[derive(Debug)]
pub(super) struct Service {
    name: String,
    language: String,
    settings: RemoteSettings,
    place: Arc<Place>,
    link: Link,
    recogniser: Option<Arc<dyn SpeechToText>>,
    voice: Option<Arc<dyn TextToSpeech>>,
}

impl Service {
    /// The service of `settings` at its place, under its agent's name and language; stages are there when the settings have
    /// them.
    ///
    /// # Errors
    /// What is wrong with its address or its token.
    pub(super) fn new(
        (name, language): (&str, &str),
        settings: RemoteSettings,
        place: Arc<Place>,
        recogniser: Option<Arc<dyn SpeechToText>>,
        voice: Option<Arc<dyn TextToSpeech>>,
    ) -> Result<Self, String> {
        let link = Link::new(&settings.url, settings.token.as_ref(), settings.connect_limit)?;
        let (name, language) = (name.to_owned(), language.to_owned());
        Ok(Self { name, language, settings, place, link, recogniser, voice })
    }
}

/// One call of a remote agent.
pub(super) struct Remote {
    service: Arc<Service>,
    language: String,
    apology: String,
    trace: Option<TraceContext>,
    spans: ReportedTurns,
    start: Option<ConverseRequest>,
    stream: Stream,
    visits: Visits,
    told: Option<mpsc::Sender<ConverseRequest>>,
    /// What the agent is told once it is ready; audio beyond the bound is forgotten, the oldest first.
    waiting: VecDeque<ConverseRequest>,
    is_ready: bool,
    is_again: bool,
    /// By when it has to be ready.
    ready_by: Instant,
    listening: Listening,
    said: Said,
    voices: VecDeque<(u64, Streaming<Sound>)>,
    /// Of the service, metered for this call.
    voice: Option<Arc<dyn TextToSpeech>>,
    turns: u64,
    /// The newest turn, until something is said.
    answering: Option<report::Turn>,
    last_voice: Option<Instant>,
    acts: VecDeque<Act>,
    /// The caller's sound so far, 8 kHz samples, and where the newest piece of it begins, ms.
    heard_samples: u64,
    gap_ms: u64,
    piece_ms: u64,
    /// It fails for this reason once its apology was heard.
    failing: Option<String>,
    is_over: bool,
    ended_by: EndReason,
    sleep: Pin<Box<Sleep>>,
}

impl Remote {
    /// Takes a call; the service is dialled when it is first asked what it does.
    pub(super) fn new(service: Arc<Service>, opening: &Opening) -> Self {
        let at = now();
        let settings = &service.settings;
        let language = if opening.language.is_empty() { &service.language } else { &opening.language };
        let recogniser =
            service.recogniser.as_ref().map(|all| all.metered(&opening.meter).unwrap_or_else(|| all.clone()));
        let voice = service.voice.as_ref().map(|all| all.metered(&opening.meter).unwrap_or_else(|| all.clone()));
        if let Some(recogniser) = &recogniser {
            recogniser.warm();
        }
        if let Some(voice) = &voice {
            voice.warm();
        }
        let interrupts = settings.interrupt == InterruptBy::Worker;
        let first = if recogniser.is_some() { TurnStage::SpeechToText } else { TurnStage::Agent };
        Self {
            listening: Listening::new(&settings.turn, recogniser, language, interrupts, at),
            language: language.clone(),
            apology: settings.apology.fill(opening.parameters.expose()),
            trace: opening.trace,
            spans: ReportedTurns::below(opening.trace, first),
            start: Some(wire::start(opening, &service.name, &service.language, settings)),
            stream: Stream::New,
            visits: Visits::at(Arc::clone(&service.place)),
            told: None,
            waiting: VecDeque::new(),
            is_ready: false,
            is_again: false,
            ready_by: at + settings.first_answer,
            said: Said::default(),
            voices: VecDeque::new(),
            voice,
            turns: 0,
            answering: None,
            last_voice: None,
            acts: VecDeque::new(),
            heard_samples: 0,
            gap_ms: 0,
            piece_ms: 0,
            failing: None,
            is_over: false,
            ended_by: EndReason::CallOver,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            service,
        }
    }

    fn report(&mut self, report: Report) {
        self.spans.watch(&report);
        self.acts.push_back(Act::Report(report));
    }

    fn media_ms(&self) -> u64 {
        self.heard_samples / 8 + self.gap_ms
    }

    /// What was said and not heard is thrown away.
    fn cut(&mut self, mute: bool) -> Option<u64> {
        self.voices.clear();
        self.said.cut(mute)
    }

    /// What the caller did is told.
    fn tell_events(&mut self) {
        while let Some(event) = self.listening.poll() {
            match event {
                Event::Speech { began } => {
                    self.report(Report::Speech { began });
                    self.tell(wire::speech(began, self.media_ms()));
                }
                Event::Interrupt => {
                    let utterance = self.cut(true);
                    self.acts.push_back(Act::Interrupt);
                    self.tell(wire::interrupted(utterance.unwrap_or_default()));
                }
                Event::Turn(turn) => {
                    self.turns += 1;
                    self.spans.reach(TurnStage::Agent);
                    self.tell(wire::turn(self.turns, &turn));
                    let since = |moment: Instant| turn.last_voice.map(|last| moment.saturating_duration_since(last));
                    let (endpoint, speech_to_text) = (since(turn.endpoint), turn.worded.and_then(since));
                    self.answering = Some(report::Turn { endpoint, speech_to_text, ..report::Turn::default() });
                    self.last_voice = turn.last_voice;
                }
                Event::Report(report) => self.report(report),
            }
        }
        while let Some(played) = self.said.poll_told() {
            self.tell(wire::played(played));
        }
        while let Some(report) = self.said.poll_report() {
            self.report(report);
        }
    }

    /// Looks at the clock; true when something came of it.
    fn look_at_time(&mut self, at: Instant) -> bool {
        if !self.is_ready && self.ready_by <= at && self.failing.is_none() && !self.is_over {
            self.fail(Fault::Timeout, "the agent was not ready in time", Some(DEADLINE_EXCEEDED));
            return true;
        }
        self.said.tick(at);
        if self.listening.deadline().is_some_and(|due| due <= at) {
            self.listening.tick(self.media_ms(), at);
        }
        if self.said.is_over() {
            self.listening.finished(self.media_ms(), at);
            if self.failing.is_some() {
                self.give_up();
                return true;
            }
        }
        false
    }

    /// Sets the clock; true when it is time already.
    fn wait(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        let ready_by = (!self.is_ready && self.failing.is_none() && !self.is_over).then_some(self.ready_by);
        let due = [ready_by, self.said.deadline(), self.listening.deadline()].into_iter().flatten().min();
        let due = tokio::time::Instant::from_std(due.unwrap_or(at + FAR));
        if self.sleep.deadline() != due {
            self.sleep.as_mut().reset(due);
        }
        self.sleep.as_mut().poll(cx).is_ready()
    }
}

impl Agent for Remote {
    fn hear(&mut self, heard: Heard<'_>) {
        let at = now();
        match heard {
            Heard::Mulaw(codes) => {
                self.listening.hear_native(codes);
                self.piece_ms = self.media_ms();
                self.heard_samples += codes.len() as u64;
                match self.service.settings.format {
                    RemoteFormat::Mulaw => self.tell(wire::codes(codes, self.piece_ms)),
                    RemoteFormat::Pcm(SampleRate::Hz8000) => self.tell(wire::decoded(codes, self.piece_ms)),
                    RemoteFormat::Pcm(_) => {}
                }
            }
            Heard::Audio(pcm) => {
                if matches!(self.service.settings.format, RemoteFormat::Pcm(rate) if rate != SampleRate::Hz8000) {
                    self.tell(wire::pcm(pcm, self.piece_ms));
                }
                let heard_ms = self.listening.is_speaking().then(|| self.said.heard_ms());
                self.listening.hear(pcm, self.media_ms(), heard_ms, at);
            }
            Heard::Gap(ms) => {
                self.gap_ms = self.gap_ms.saturating_add(ms);
                self.listening.gap(ms, self.media_ms(), at);
            }
            Heard::Dtmf(key) => self.tell(wire::key(key)),
            Heard::Played { utterance, ms, cleared } => self.said.played(utterance, ms, cleared),
            Heard::Notice(kind, value) => self.tell(wire::notice(kind, value)),
            Heard::Held(held) => {
                if held {
                    self.cut(true);
                    self.visits.pause();
                } else if !self.is_ready {
                    // Nobody looked whether it was.
                    self.ready_by = at + self.service.settings.first_answer;
                }
                self.tell(wire::held(held));
                self.listening.held(self.media_ms(), at);
            }
        }
        self.tell_events();
    }

    fn say(&mut self, text: &str) -> Result<(), CannotSay> {
        if self.voice.is_none() {
            return Err(CannotSay::NoVoice);
        }
        self.said.order(text).map(|_| ()).ok_or(CannotSay::TooMuch)
    }

    fn leave(&mut self) -> Vec<Report> {
        let waiting = self.acts.drain(..).filter_map(|act| match act {
            Act::Report(report) => Some(report),
            Act::Speak(_)
            | Act::Forward(_)
            | Act::EndUtterance
            | Act::Interrupt
            | Act::Hangup { .. }
            | Act::Transfer { .. }
            | Act::PlayDigits { .. }
            | Act::Continue
            | Act::Fail { .. } => None,
        });
        let mut reports: Vec<_> = waiting.collect();
        let heard = self.said.finish();
        heard.iter().for_each(|report| self.spans.watch(report));
        reports.extend(heard);
        self.end(self.ended_by, 0, "");
        self.is_over = true;
        reports
    }

    fn stats(&self) -> AgentStats {
        let (floor, ears, echo_windows) = self.listening.stats();
        let dropped_ms = self.said.muted_us / 1000;
        AgentStats { floor, ears, echo_windows, dropped_ms, ..AgentStats::default() }
    }

    fn poll_act(&mut self, cx: &mut Context<'_>, pcm: &mut Vec<i16>) -> Poll<Act> {
        loop {
            if let Some(act) = self.acts.pop_front() {
                return Poll::Ready(act);
            }
            if self.is_over {
                return Poll::Pending;
            }
            let at = now();
            if matches!(self.stream, Stream::New) {
                self.dial();
            }
            let mut moved = self.read(cx, at);
            moved |= self.listening.poll_words(cx, at);
            moved |= self.look_at_time(at);
            self.tell_events();
            if !self.acts.is_empty() {
                continue;
            }
            if let Some(act) = self.speak(cx, pcm, at) {
                return Poll::Ready(act);
            }
            if !moved && self.acts.is_empty() && !self.wait(cx, at) {
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("agent", &self.service.name).field("said", &self.said).finish_non_exhaustive()
    }
}
