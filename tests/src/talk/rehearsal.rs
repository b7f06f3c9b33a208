//! Pure: how turns would be taken, in virtual time: the line, the worker's ears and its core of turn-taking, with providers
//! that need so long and no longer. Thousands of turns in seconds, the same each time: what each knob buys.

use std::time::{Duration, Instant};

use audio_worker::{
    ears::{Ears, turn_detector},
    pipeline::Uplink,
    turn_taking::{Input, Output, Settings, TurnTaking},
};

use super::Clip;
use crate::sim::SILENCE;

/// Samples of a message of the line: 20 ms.
const FRAME: usize = 160;
/// Silence around what is said.
const BEFORE: usize = 8_000;
const AFTER: usize = 12_000;
/// Tokens of an answer that come while its first sound is made: what a guess wastes that is thrown away then.
const TOKEN: Duration = Duration::from_millis(5);

/// An utterance as the worker hears it: windows, each with the time at which it is judged.
#[derive(Debug, Clone)]
pub struct Listened {
    windows: Vec<(Duration, f32)>,
    /// When the frames with the first and the last sample of it are sent.
    began: Duration,
    ended: Duration,
}

impl Listened {
    /// Listens to `clip` after `phase` more samples of silence; frames and windows lie otherwise then.
    ///
    /// # Errors
    /// When the line's resampler fails.
    pub fn to(clip: &Clip, phase: usize) -> anyhow::Result<Self> {
        let (mut uplink, mut ears) = (Uplink::new()?, Ears::new(turn_detector()));
        let begin = BEFORE + phase;
        let mut codes = vec![SILENCE; begin];
        codes.extend(&clip.mulaw);
        codes.resize(codes.len() + AFTER, SILENCE);
        let (mut windows, mut media_ms) = (Vec::new(), 0);
        for (number, frame) in (1_u32..).zip(codes.chunks_exact(FRAME)) {
            let heard = uplink.push(frame, media_ms)?;
            media_ms += 20;
            ears.hear(heard.pcm, |voice, _| windows.push((Duration::from_millis(20) * number, voice)));
        }
        let sent = |sample: usize| Duration::from_millis(20 * (sample as u64 / FRAME as u64 + 1));
        Ok(Self { windows, began: sent(begin), ended: sent(begin + clip.mulaw.len() - 1) })
    }
}

/// How long the stages take.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    /// Speech to text.
    pub words: Duration,
    /// From the words to the first clause.
    pub clause: Duration,
    /// From the clause to its first sound.
    pub sound: Duration,
}

/// What came of many turns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rehearsed {
    /// From the last sample that was sent to the answer's first, ms, in rising order.
    pub responses_ms: Vec<f64>,
    /// Callers who had not finished when the answer began.
    pub cut_off: usize,
    /// All of them.
    pub turns: usize,
    /// Recordings that were put into words.
    pub guesses: usize,
    /// Tokens of answers that nobody heard.
    pub wasted_tokens: usize,
}

impl Rehearsed {
    /// So many percent respond within this, ms.
    pub fn response_ms(&self, percent: usize) -> f64 {
        let at = (self.responses_ms.len() * percent).div_ceil(100).saturating_sub(1);
        self.responses_ms.get(at).copied().unwrap_or(f64::NAN)
    }

    /// Share of the callers who were cut off.
    pub fn cut_off_rate(&self) -> f64 {
        self.cut_off as f64 / self.turns.max(1) as f64
    }
}

/// Holds a turn for each of `utterances`, in a conversation of its own that begins at `start`.
pub fn rehearse(utterances: &[Listened], settings: &Settings, delays: Delays, start: Instant) -> Rehearsed {
    let mut all = Rehearsed { turns: utterances.len(), ..Rehearsed::default() };
    for utterance in utterances {
        let mut desk = Desk { delays, ..Desk::default() };
        let mut floor = TurnTaking::new(settings.clone(), start);
        let spoke = utterance.windows.iter().find_map(|(at, voice)| {
            desk.advance(&mut floor, start, *at);
            floor.handle(Input::Window { voice: *voice, echo: false }, start + *at);
            desk.take(&mut floor, *at);
            desk.spoke
        });
        all.guesses += desk.guesses;
        all.wasted_tokens += desk.wasted_tokens;
        match spoke {
            Some(at) if at < utterance.ended => all.cut_off += 1,
            Some(at) => all.responses_ms.push((at - utterance.ended).as_secs_f64() * 1000.0),
            None => {}
        }
    }
    all.responses_ms.sort_by(f64::total_cmp);
    all
}

/// From the first sample that was sent to the agent's being stopped, ms, in rising order; of those who stop it.
pub fn interruptions(utterances: &[Listened], settings: &Settings, start: Instant) -> Vec<f64> {
    let stopped = |utterance: &Listened| {
        let mut floor = TurnTaking::new(settings.clone(), start);
        floor.handle(Input::Preparing, start);
        floor.handle(Input::Speaking { protected: false }, start);
        utterance.windows.iter().find_map(|(at, voice)| {
            floor.handle(Input::Window { voice: *voice, echo: false }, start + *at);
            let stops = std::iter::from_fn(|| floor.poll()).any(|output| output == Output::Interrupt);
            stops.then(|| at.saturating_sub(utterance.began).as_secs_f64() * 1000.0)
        })
    };
    let mut all: Vec<f64> = utterances.iter().filter_map(stopped).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// Stages that work as long as they are said to.
#[derive(Debug)]
struct Desk {
    delays: Delays,
    /// The newest guess and when it was made.
    guess: Option<(u64, Duration)>,
    is_worded: bool,
    /// The guess was right.
    is_released: bool,
    spoke: Option<Duration>,
    guesses: usize,
    wasted_tokens: usize,
}

impl Default for Desk {
    fn default() -> Self {
        let none = Duration::ZERO;
        Self {
            delays: Delays { words: none, clause: none, sound: none },
            guess: None,
            is_worded: false,
            is_released: false,
            spoke: None,
            guesses: 0,
            wasted_tokens: 0,
        }
    }
}

impl Desk {
    /// What the stages have ready by `now`.
    fn advance(&mut self, floor: &mut TurnTaking, start: Instant, now: Duration) {
        let Some((turn, asked)) = self.guess else { return };
        let worded = asked + self.delays.words;
        if !self.is_worded && worded <= now {
            self.is_worded = true;
            floor.handle(Input::Words { turn, text: "words" }, start + worded);
            self.take(floor, worded);
        }
        if self.is_released && self.guess.is_some() {
            self.speak(asked, now);
        }
    }

    fn take(&mut self, floor: &mut TurnTaking, now: Duration) {
        while let Some(output) = floor.poll() {
            match output {
                Output::Guess { turn, .. } => {
                    self.guesses += 1;
                    (self.guess, self.is_worded, self.is_released) = (Some((turn, now)), false, false);
                }
                Output::Forget { .. } => {
                    if let Some((_, asked)) = self.guess.take() {
                        let thought = now.saturating_sub(asked + self.delays.words + self.delays.clause);
                        self.wasted_tokens += (thought.as_micros() / TOKEN.as_micros()) as usize;
                    }
                }
                Output::Answer { .. } => {
                    self.is_released = true;
                    if let Some((_, asked)) = self.guess {
                        let ready = asked + self.delays.words + self.delays.clause + self.delays.sound;
                        if ready <= now {
                            self.spoke.get_or_insert(now);
                        }
                    }
                }
                Output::Speech { .. } | Output::Interrupt | Output::GoOn | Output::Prompt { .. } => {}
            }
        }
    }

    fn speak(&mut self, asked: Duration, now: Duration) {
        let ready = asked + self.delays.words + self.delays.clause + self.delays.sound;
        if ready <= now {
            self.spoke.get_or_insert(ready);
        }
    }
}
