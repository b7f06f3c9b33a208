//! An agent that does what the caller's keys say, and writes down what it is told.
//!
//! | key | what the agent does |
//! | --- | --- |
//! | `1` to `9` | says that many seconds of a tone of [`frequency`] Hz |
//! | `*` | interrupts itself |
//! | `#` | hangs up once what it said was heard |
//! | `0` | hands the call to [`TRANSFER_TO`] once what it said was heard |
//! | `A` | panics |
//! | `B` | fails |
//! | `C` | talks without end |
//! | `D` | hangs up at once |
//!
//! By order it says a text as a tone of [`WORDS_HZ`], [`WORDS_SAMPLES`] a character.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use audio_worker::{
    agent::{Act, Agent, Agents, CannotSay, Heard},
    dsp::SampleRate,
};

use crate::signal::tone;

/// Where `0` sends the caller.
pub const TRANSFER_TO: &str = "+15550111";
/// What a text sounds like.
pub const WORDS_HZ: f64 = 2000.0;
/// How long each of its characters takes, in samples at 8 kHz: 50 ms.
pub const WORDS_SAMPLES: usize = 400;
/// Acts that may wait before a text is refused.
const MAX_ACTS: usize = 8;
/// Peak of the tones.
pub const AMPLITUDE: i16 = 8000;

/// The tone that follows the key for `seconds`.
pub fn frequency(seconds: u32) -> f64 {
    300.0 + 100.0 * f64::from(seconds)
}

/// What an agent was told, besides audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A key.
    Key(char),
    /// How far an utterance was heard.
    Played {
        /// The utterance.
        utterance: u64,
        /// Milliseconds from its start.
        ms: u64,
        /// The rest was thrown away.
        cleared: bool,
    },
    /// Milliseconds without audio.
    Gap(u64),
    /// Something about the call.
    Notice(String, String),
    /// It is on hold, or no longer.
    Held(bool),
    /// A text to say.
    Say(String),
    /// It took over from this agent.
    TookOverFrom(String),
    /// Its call is over, or another agent's: it was dropped.
    Gone,
}

/// The notes of all scripted agents of a worker: call and what it was told.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<(String, Told)>>>);

impl Notes {
    /// Agents with a scripted one under the name `scripted`, whose notes these are.
    pub fn agents(&self) -> Agents {
        let notes = self.clone();
        Agents::default().with("scripted", move |opening| {
            if let Some(former) = &opening.taken_over_from {
                notes.add(&opening.call_id, Told::TookOverFrom(former.clone()));
            }
            Box::new(Scripted {
                call_id: opening.call_id.clone(),
                notes: notes.clone(),
                acts: VecDeque::new(),
                is_endless: false,
            })
        })
    }

    /// What the agent of the call was told.
    pub fn of(&self, call_id: &str) -> Vec<Told> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().filter(|(call, _)| call == call_id).map(|(_, told)| told.clone()).collect()
    }

    fn add(&self, call_id: &str, told: Told) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((call_id.to_owned(), told));
    }
}

struct Scripted {
    call_id: String,
    notes: Notes,
    acts: VecDeque<(Act, Vec<i16>)>,
    is_endless: bool,
}

impl Scripted {
    fn act(&mut self, act: Act) {
        self.acts.push_back((act, Vec::new()));
    }

    fn tone(&mut self, frequency: f64, samples: usize) {
        self.acts.push_back((Act::Speak(SampleRate::Hz8000), tone(frequency, AMPLITUDE, samples)));
    }

    fn on_key(&mut self, key: char) {
        match key {
            '1'..='9' => {
                let seconds = key.to_digit(10).unwrap_or(1);
                self.tone(frequency(seconds), 8000 * seconds as usize);
                self.act(Act::EndUtterance);
            }
            '*' => self.act(Act::Interrupt),
            '#' => self.act(Act::Hangup { reason: "asked to".into(), after_playback: true }),
            '0' => self.act(Act::Transfer { to: TRANSFER_TO.into(), after_playback: true }),
            'A' => panic!("asked to panic"),
            'B' => self.act(Act::Fail { reason: "asked to".into() }),
            'C' => {
                self.is_endless = true;
                self.tone(440.0, 60 * 8000);
            }
            _ => self.act(Act::Hangup { reason: "asked to".into(), after_playback: false }),
        }
    }
}

impl Agent for Scripted {
    fn hear(&mut self, heard: Heard<'_>) {
        let told = match heard {
            // It keeps talking for as long as it hears.
            Heard::Audio(pcm) => {
                if self.is_endless {
                    self.tone(440.0, pcm.len() / 2);
                }
                return;
            }
            Heard::Mulaw(_) => return,
            Heard::Gap(ms) => Told::Gap(ms),
            Heard::Dtmf(key) => Told::Key(key),
            Heard::Played { utterance, ms, cleared } => Told::Played { utterance, ms, cleared },
            Heard::Notice(kind, value) => Told::Notice(kind.to_owned(), value.to_owned()),
            Heard::Held(is_held) => Told::Held(is_held),
        };
        self.notes.add(&self.call_id, told);
        if let Heard::Dtmf(key) = heard {
            self.on_key(key);
        }
    }

    fn say(&mut self, text: &str) -> Result<(), CannotSay> {
        if self.acts.len() >= MAX_ACTS {
            return Err(CannotSay::TooMuch);
        }
        self.notes.add(&self.call_id, Told::Say(text.to_owned()));
        self.tone(WORDS_HZ, WORDS_SAMPLES * text.chars().count());
        self.act(Act::EndUtterance);
        Ok(())
    }

    fn poll_act(&mut self, _: &mut Context<'_>, pcm: &mut Vec<i16>) -> Poll<Act> {
        // It only reacts, and is asked again after each thing it hears.
        let Some((act, mut samples)) = self.acts.pop_front() else { return Poll::Pending };
        pcm.append(&mut samples);
        Poll::Ready(act)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.notes.add(&self.call_id, Told::Gone);
    }
}
