//! What a remote agent is told of the caller's speech: when it begins and ends, when a turn is over, what was said in it, and
//! when the caller interrupts.
//!
//! The same ears and turn-taking as of agents that converse here, with one difference: what interrupts is decided by voice
//! alone, and at once, since whether to take up what was cut is the agent's to say.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use crate::{
    agent::{Report, Speaker, Stage, talk::speech::SpeechBuffer},
    dsp::SampleRate,
    ears::{self, Ears, EarsStats, echo::EchoGuard},
    provider::{Pending, ProviderError, Speech, SpeechToText},
    turn_taking::{self, Input, Output, TurnTaking},
};

/// Turns whose words may be looked for at a time; of the oldest beyond it they are not waited for.
const MAX_TURNS: usize = 4;

/// Stands for words of which it only matters that there are some.
const WORDS: &str = "words";

/// What a caller does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Began to speak, or ended.
    Speech { began: bool },
    /// Interrupted the agent.
    Interrupt,
    /// Finished a turn.
    Turn(Turn),
    /// Something worth telling.
    Report(Report),
}

/// A turn of the caller that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    /// Empty without a recogniser, or without words.
    pub(super) text: String,
    /// Media time.
    pub(super) began_ms: u64,
    pub(super) ended_ms: u64,
    /// Its last sound, its end, and when its words were known.
    pub(super) last_voice: Option<Instant>,
    pub(super) endpoint: Instant,
    pub(super) worded: Option<Instant>,
}

/// Words on their way.
struct Words {
    turn: u64,
    pending: Pending<String>,
    /// Once the turn is over.
    over: Option<Turn>,
}

/// The ears of one call.
pub(super) struct Listening {
    ears: Ears,
    echo: EchoGuard,
    floor: TurnTaking,
    speech: SpeechBuffer,
    recogniser: Option<Arc<dyn SpeechToText>>,
    language: String,
    guess: Option<Words>,
    over: VecDeque<Words>,
    /// Whether the floor is told what the agent says: then it tells when the agent is interrupted.
    interrupts: bool,
    is_speaking: bool,
    began_ms: u64,
    events: VecDeque<Event>,
}

impl Listening {
    /// Ears that begin at `now`; callers are stopped by the agent itself unless this one `interrupts`.
    pub(super) fn new(
        settings: &turn_taking::Settings,
        recogniser: Option<Arc<dyn SpeechToText>>,
        language: &str,
        interrupts: bool,
        now: Instant,
    ) -> Self {
        Self {
            ears: Ears::new(ears::turn_detector()),
            echo: EchoGuard::default(),
            floor: TurnTaking::new(settings.clone(), now),
            speech: SpeechBuffer::new(
                settings.max_utterance,
                recogniser.as_ref().is_some_and(|own| own.wants_native()),
            ),
            recogniser,
            language: language.to_owned(),
            guess: None,
            over: VecDeque::new(),
            interrupts,
            is_speaking: false,
            began_ms: 0,
            events: VecDeque::new(),
        }
    }

    /// The caller's sound as it came; the same as PCM follows.
    pub(super) fn hear_native(&mut self, codes: &[u8]) {
        self.speech.push_native(codes);
    }

    /// The caller's sound, up to `media_ms`; `heard_ms` of what the agent says was heard, while it says something.
    pub(super) fn hear(&mut self, pcm: &[i16], media_ms: u64, heard_ms: Option<u64>, now: Instant) {
        let (floor, speech, guard) = (&mut self.floor, &mut self.speech, &mut self.echo);
        self.ears.hear(pcm, |voice, window| {
            speech.push(window, floor.records());
            guard.hear(window);
            let echo = voice >= ears::VOICE && heard_ms.is_some_and(|heard_ms| guard.is_echo(heard_ms));
            floor.handle(Input::Window { voice, echo }, now);
        });
        self.carry_out(media_ms, now);
    }

    /// Nothing came for `ms`.
    pub(super) fn gap(&mut self, ms: u64, media_ms: u64, now: Instant) {
        self.speech.gap_native(ms);
        let (floor, speech, guard) = (&mut self.floor, &mut self.speech, &mut self.echo);
        self.ears.gap(ms, |voice, window| {
            speech.push(window, floor.records());
            guard.hear(window);
            floor.handle(Input::Window { voice, echo: false }, now);
        });
        self.carry_out(media_ms, now);
    }

    /// The call was put on hold, or taken off.
    pub(super) fn held(&mut self, media_ms: u64, now: Instant) {
        (self.guess, self.is_speaking) = (None, false);
        self.over.clear();
        self.floor.handle(Input::Held, now);
        self.carry_out(media_ms, now);
    }

    /// Time passed.
    pub(super) fn tick(&mut self, media_ms: u64, now: Instant) {
        self.floor.handle(Input::Tick, now);
        self.carry_out(media_ms, now);
    }

    /// When to call [`Listening::tick`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.floor.poll_timeout()
    }

    /// True while the caller has the floor, and what the agent says has to wait.
    pub(super) const fn keeps_floor(&self) -> bool {
        self.interrupts && self.floor.keeps_speech()
    }

    /// The agent says `pcm`, the first of it after a silence when `begins`; `heard_ms` was heard since.
    pub(super) fn says(&mut self, pcm: &[i16], rate: SampleRate, begins: bool, heard_ms: u64, now: Instant) {
        if begins {
            self.echo.begin();
        }
        self.echo.play(pcm, rate, heard_ms);
        if !std::mem::replace(&mut self.is_speaking, true) && self.interrupts {
            self.floor.handle(Input::Speaking { protected: false }, now);
        }
    }

    /// True while the agent says something.
    pub(super) const fn is_speaking(&self) -> bool {
        self.is_speaking
    }

    /// All that the agent said was heard, or thrown away.
    pub(super) fn finished(&mut self, media_ms: u64, now: Instant) {
        if std::mem::take(&mut self.is_speaking) {
            self.floor.handle(Input::Finished, now);
            self.carry_out(media_ms, now);
        }
    }

    /// Looks for words that were found; true when there were some.
    pub(super) fn poll_words(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        while let Some(words) = self.over.front_mut() {
            let Poll::Ready(found) = words.pending.as_mut().poll(cx) else { break };
            let Some(turn) = self.over.pop_front().and_then(|words| words.over) else { break };
            self.end_turn(turn, Some(found), now);
            moved = true;
        }
        moved
    }

    /// What the caller did.
    pub(super) fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was counted.
    pub(super) fn stats(&self) -> (turn_taking::Stats, EarsStats, u64) {
        (self.floor.stats(), self.ears.stats(), self.echo.echoes())
    }

    fn carry_out(&mut self, media_ms: u64, now: Instant) {
        loop {
            let (mut guessed, mut is_over) = (None, false);
            while let Some(output) = self.floor.poll() {
                match output {
                    Output::Speech { began } => {
                        if began {
                            self.began_ms = media_ms;
                        }
                        self.events.push_back(Event::Speech { began });
                    }
                    Output::Guess { turn, probe } => {
                        guessed = Some(turn);
                        if !probe {
                            self.look_for_words(turn);
                        }
                    }
                    Output::Forget { .. } => self.guess = None,
                    Output::Answer { turn } => {
                        self.over(turn, media_ms, now);
                        is_over = true;
                    }
                    Output::Interrupt => {
                        self.is_speaking = false;
                        self.events.push_back(Event::Interrupt);
                    }
                    // Nobody waits for the agent; whether a silence is worth a word is its own to say.
                    Output::GoOn | Output::Prompt { .. } => is_over = true,
                }
            }
            if let Some(turn) = guessed {
                self.floor.handle(Input::Words { turn, text: WORDS }, now);
            } else if is_over {
                self.floor.handle(Input::Unanswered, now);
            } else {
                return;
            }
        }
    }

    fn look_for_words(&mut self, turn: u64) {
        if let Some(recogniser) = &self.recogniser {
            let (pcm, mulaw) = (self.speech.take(), self.speech.take_native());
            let speech = Speech { pcm, mulaw, language: self.language.clone() };
            self.guess = Some(Words { turn, pending: recogniser.transcribe(speech), over: None });
        }
    }

    fn over(&mut self, turn: u64, media_ms: u64, now: Instant) {
        self.speech.end_turn();
        let last_voice = self.floor.last_voice();
        let since = last_voice.map_or(0, |last| now.saturating_duration_since(last).as_millis());
        let ended_ms = media_ms.saturating_sub(u64::try_from(since).unwrap_or(u64::MAX)).max(self.began_ms);
        let over =
            Turn { text: String::new(), began_ms: self.began_ms, ended_ms, last_voice, endpoint: now, worded: None };
        match self.guess.take().filter(|guess| guess.turn == turn) {
            Some(words) => {
                if self.over.len() >= MAX_TURNS
                    && let Some(late) = self.over.pop_front().and_then(|words| words.over)
                {
                    self.end_turn(late, None, now);
                }
                self.over.push_back(Words { over: Some(over), ..words });
            }
            None => self.end_turn(over, None, now),
        }
    }

    fn end_turn(&mut self, mut turn: Turn, found: Option<Result<String, ProviderError>>, now: Instant) {
        match found {
            Some(Ok(text)) => {
                turn.worded = Some(now);
                text.trim().clone_into(&mut turn.text);
            }
            Some(Err(ProviderError { kind, detail })) => {
                let fault = Report::Fault { stage: Stage::SpeechToText, fault: kind, detail };
                self.events.push_back(Event::Report(fault));
            }
            None => {}
        }
        if !turn.text.is_empty() {
            let (by, text) = (Speaker::Caller, turn.text.clone());
            self.events.push_back(Event::Report(Report::Said { by, text, is_final: true, interrupted: false }));
        }
        self.events.push_back(Event::Turn(turn));
    }
}
