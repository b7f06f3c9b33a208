//! An agent that converses: it hears, takes turns, has words found for what it heard, an answer for the words and a voice
//! for the answer. What it says is decided by its [`Brain`].
//!
//! All of a call's requests are polled by the call's own task; what is given up is dropped.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use telemetry::traces::TraceContext;
use tokio::time::Sleep;

use super::{
    Act, Agent, AgentStats, CannotSay, Heard, Opening,
    brain::Brain,
    history::History,
    report::{Report, Speaker},
    text::Text,
};
use crate::{
    conversation::now,
    dsp::{SampleRate, mulaw},
    ears::{self, Ears, VoiceActivity, echo::EchoGuard},
    provider::{Sound, SpeechToText, Streaming, TextToSpeech},
    traces::TurnSpans,
    turn_taking::{Input, Settings, TurnTaking},
};

mod clauses;
mod faults;
mod floor;
mod live_words;
mod playing;
mod prepared;
mod reply;
pub(super) mod speech;
pub(super) mod spoken;
mod words;

use live_words::LiveWords;
pub use live_words::{Endpoint, LiveSettings};
use playing::Playing;
use prepared::Prepared;
use reply::{Given, Reply};
use speech::SpeechBuffer;

/// Texts that may wait to be said by order.
const MAX_ORDERED: usize = 8;

/// Sound that is given out ahead of what was heard: the reply queue holds more.
const MAX_AHEAD_MS: u64 = 20_000;

/// Turns of one conversation that have a span, guesses that were thrown away among them.
const MAX_TRACED: u32 = 1000;

/// What all calls of one agent share.
#[derive(Debug)]
pub struct Cast {
    /// Finds the words.
    pub speech_to_text: Arc<dyn SpeechToText>,
    /// How it is used, where it listens while the caller speaks.
    pub live: LiveSettings,
    /// Speaks.
    pub text_to_speech: Arc<dyn TextToSpeech>,
    /// How turns are taken.
    pub turn: Settings,
    /// BCP 47 tag, where a call has none of its own; may be empty.
    pub language: String,
    /// What is said when a provider fails.
    pub apology: Text,
    /// After more failures in a row than this the agent takes its leave; see `faults.rs`.
    pub max_faults: u32,
}

/// A conversation of one agent with one caller.
pub struct Talk {
    cast: Arc<Cast>,
    brain: Box<dyn Brain>,
    /// Those of the cast, metered for this call.
    speech_to_text: Arc<dyn SpeechToText>,
    text_to_speech: Arc<dyn TextToSpeech>,
    language: String,
    apology: String,
    /// The apology is made once ahead, so that the voice has it when it fails.
    rehearsal: Option<Streaming<Sound>>,
    ears: Ears,
    echo: EchoGuard,
    floor: TurnTaking,
    speech: SpeechBuffer,
    /// A recogniser that listens while the caller speaks, where there is one.
    live: Option<LiveWords>,
    /// What was last told of what the caller says.
    said_so_far: String,
    history: History,
    /// What is being prepared, heard by nobody yet.
    prepared: Option<Prepared>,
    /// What is being said, or was interrupted and can go on.
    reply: Option<Reply>,
    playing: Playing,
    ordered: VecDeque<String>,
    acts: VecDeque<Act>,
    /// Failures in a row, of turns that are over.
    faults: u32,
    /// The call ends: nobody is listened to.
    ending: bool,
    held: bool,
    anything_heard: bool,
    wasted_tokens: u64,
    trace: Option<TraceContext>,
    /// Turns that may still be traced.
    traceable: u32,
    /// Of the answer that is being said.
    spans: Option<TurnSpans>,
    sleep: Pin<Box<Sleep>>,
}

impl Talk {
    /// Takes a call, and begins with what `brain` says first.
    pub fn new(cast: Arc<Cast>, brain: Box<dyn Brain>, opening: &Opening) -> Self {
        Self::hearing(cast, brain, opening, ears::turn_detector())
    }

    /// The same, with another detector of voice.
    pub fn hearing(
        cast: Arc<Cast>,
        brain: Box<dyn Brain>,
        opening: &Opening,
        detector: Box<dyn VoiceActivity>,
    ) -> Self {
        let language = if opening.language.is_empty() { &cast.language } else { &opening.language };
        let ears = cast.speech_to_text.metered(&opening.meter).unwrap_or_else(|| Arc::clone(&cast.speech_to_text));
        let voice = cast.text_to_speech.metered(&opening.meter).unwrap_or_else(|| Arc::clone(&cast.text_to_speech));
        ears.warm();
        voice.warm();
        let (began, apology) = (now(), cast.apology.fill(opening.parameters.expose()));
        let mut talk = Self {
            language: language.clone(),
            rehearsal: Some(voice.speak(&apology, language)),
            text_to_speech: voice,
            apology,
            ears: Ears::new(detector),
            echo: EchoGuard::default(),
            floor: TurnTaking::new(cast.turn.clone(), began),
            speech: SpeechBuffer::new(cast.turn.max_utterance, ears.wants_native()),
            live: LiveWords::begin(&ears, language, cast.live, began),
            said_so_far: String::new(),
            history: History::default(),
            prepared: None,
            reply: None,
            playing: Playing::default(),
            ordered: VecDeque::new(),
            acts: VecDeque::new(),
            faults: 0,
            ending: false,
            held: false,
            anything_heard: false,
            wasted_tokens: 0,
            trace: opening.trace,
            traceable: MAX_TRACED,
            spans: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            speech_to_text: ears,
            cast,
            brain,
        };
        let greeting = talk.brain.greet();
        talk.take_floor(Prepared::own(Reply::new(greeting)), began);
        talk
    }

    /// Everything that was prepared, is said or goes on is looked at; true when something came of it.
    fn look(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        let mut moved = self.poll_live(cx, at);
        moved |= self.poll_words(cx, at);
        let (voice, language) = (&*self.text_to_speech, &self.language);
        if let Some(reply) = self.prepared.as_mut().and_then(|prepared| prepared.reply.as_mut()) {
            moved |= reply.poll(cx, voice, language, at);
        }
        if let Some(prepared) = &mut self.prepared {
            prepared.trace();
        }
        if let Some(reply) = &mut self.reply {
            moved |= reply.poll(cx, voice, language, at);
        }
        self.tell_called();
        // Nothing depends on how it ends.
        while let Some(Poll::Ready(sound)) = self.rehearsal.as_mut().map(|sound| sound.poll_next_unpin(cx)) {
            if !matches!(sound, Some(Ok(_))) {
                self.rehearsal = None;
            }
        }
        moved |= self.look_for_faults(at);
        moved |= self.release(at);
        moved |= self.finish(at);
        moved
    }

    /// Words that were found.
    fn poll_words(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        let Some((turn, found)) = self.prepared.as_mut().and_then(|prepared| prepared.poll_words(cx, at)) else {
            return false;
        };
        match found {
            Ok(text) => {
                self.floor.handle(Input::Words { turn, text: &text }, at);
                self.carry_out(at);
                self.on_words(turn, text);
            }
            Err(error) => self.on_no_words(turn, error),
        }
        true
    }

    /// Sound for the caller, if there is some and it is time.
    fn give(&mut self, pcm: &mut Vec<i16>, at: Instant) -> Option<Act> {
        if self.floor.keeps_speech() || self.playing.ahead_ms(at) >= MAX_AHEAD_MS {
            return None;
        }
        let reply = self.reply.as_mut()?;
        let base_ms = reply.given_ms();
        let given = reply.give(pcm)?;
        let (rate, act) = match given {
            Given::Pcm(rate) => (rate, Act::Speak(rate)),
            Given::Mulaw(codes) => {
                mulaw::decode(&codes, pcm);
                (SampleRate::Hz8000, Act::Forward(codes))
            }
            Given::Keys(keys) => return Some(Act::PlayDigits { keys }),
        };
        if self.playing.give(base_ms, reply.given_ms(), at) {
            self.echo.begin();
        }
        self.echo.play(pcm, rate, self.playing.heard_of_utterance(at).unwrap_or_default());
        self.anything_heard = true;
        Some(act)
    }

    /// What was said is over once all of it was heard.
    fn finish(&mut self, at: Instant) -> bool {
        let Some(reply) = &mut self.reply else {
            // Whatever became of the answer, the caller is listened to.
            let nothing_comes = self.prepared.is_none() && self.floor.awaits_answer() && !self.ending;
            if nothing_comes {
                self.floor.handle(Input::Unanswered, at);
            }
            return nothing_comes;
        };
        if self.floor.keeps_speech() || !reply.is_given() {
            return false;
        }
        if self.playing.complete() {
            self.acts.push_back(Act::EndUtterance);
            return true;
        }
        if !self.playing.is_over(at) {
            return false;
        }
        if !reply.apologises() {
            self.faults = 0;
        }
        self.end_reply(None, at);
        true
    }
}

impl Agent for Talk {
    fn hear(&mut self, heard: Heard<'_>) {
        let at = now();
        match heard {
            Heard::Mulaw(_) | Heard::Audio(_) | Heard::Gap(_) if self.ending => self.live = None,
            Heard::Mulaw(codes) => {
                self.speech.push_native(codes);
                if let Some(live) = &mut self.live {
                    live.feed(codes);
                }
            }
            Heard::Audio(pcm) => {
                let (floor, speech, guard) = (&mut self.floor, &mut self.speech, &mut self.echo);
                let playing = self.playing.echoing(at);
                self.ears.hear(pcm, |voice, window| {
                    speech.push(window, floor.records());
                    guard.hear(window);
                    // Only a voice that could interrupt is worth the comparison.
                    let echo = voice >= ears::VOICE && playing.is_some_and(|heard_ms| guard.is_echo(heard_ms));
                    floor.handle(Input::Window { voice, echo }, at);
                });
            }
            Heard::Gap(ms) => {
                self.speech.gap_native(ms);
                if let Some(live) = &mut self.live {
                    live.gap(ms);
                }
                let (floor, speech, guard) = (&mut self.floor, &mut self.speech, &mut self.echo);
                self.ears.gap(ms, |voice, window| {
                    speech.push(window, floor.records());
                    guard.hear(window);
                    floor.handle(Input::Window { voice, echo: false }, at);
                });
            }
            Heard::Dtmf(key) => {
                if !self.ending {
                    match self.brain.key(key) {
                        Some(answer) => self.take_floor(Prepared::own(Reply::new(answer)), at),
                        None => self.floor.handle(Input::Key, at),
                    }
                }
            }
            Heard::Played { utterance, ms, cleared } => {
                self.playing.report(utterance, ms, cleared, at);
                let heard_ms = self.playing.heard_ms(at);
                if let Some(reply) = &mut self.reply {
                    reply.heard_to(heard_ms);
                }
            }
            Heard::Notice(kind, value) => self.brain.notice(kind, value),
            Heard::Held(held) => self.on_held(held, at),
        }
        if let Some(live) = &mut self.live {
            live.voice(self.floor.last_voice());
        }
        self.carry_out(at);
    }

    fn say(&mut self, text: &str) -> Result<(), CannotSay> {
        if self.ordered.len() >= MAX_ORDERED {
            return Err(CannotSay::TooMuch);
        }
        self.ordered.push_back(text.to_owned());
        Ok(())
    }

    fn leave(&mut self) -> Vec<Report> {
        let at = now();
        self.playing.stop(at);
        self.end_interrupted(at);
        // What is given up is paid for, and told of with the rest.
        (self.rehearsal, self.live) = (None, None);
        let unanswered = self.prepared.take().filter(|prepared| prepared.released).and_then(|prepared| prepared.said);
        let said =
            unanswered.map(|text| Report::Said { by: Speaker::Caller, text, is_final: true, interrupted: false });
        let waiting =
            self.acts.drain(..).filter_map(|act| if let Act::Report(report) = act { Some(report) } else { None });
        waiting.chain(said).collect()
    }

    fn stats(&self) -> AgentStats {
        let (floor, ears) = (self.floor.stats(), self.ears.stats());
        let (wasted_tokens, echo_windows) = (self.wasted_tokens, self.echo.echoes());
        AgentStats { floor, ears, wasted_tokens, echo_windows, ..AgentStats::default() }
    }

    fn poll_act(&mut self, cx: &mut Context<'_>, pcm: &mut Vec<i16>) -> Poll<Act> {
        loop {
            if let Some(act) = self.acts.pop_front() {
                return Poll::Ready(act);
            }
            let at = now();
            let moved = self.look(cx, at) | self.say_ordered(at);
            if !self.acts.is_empty() {
                continue;
            }
            if let Some(act) = self.give(pcm, at) {
                return Poll::Ready(act);
            }
            if !moved && !self.wait(cx, at) {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.brain.over();
    }
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Talk").field("floor", &self.floor).field("playing", &self.playing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
