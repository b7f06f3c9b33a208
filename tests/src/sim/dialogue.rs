//! Pure: a caller who listens. Each turn waits for a cue in what the agent says, then speaks, presses keys or hangs up.
//!
//! Time is counted in samples that were heard; `stream.rs` feeds them and carries out what is due.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    outgoing::is_silent,
    speech::{SAMPLE_RATE, encode_mulaw},
};

/// Sound is looked at in pieces of 20 ms, in samples.
const PIECE: usize = SAMPLE_RATE as usize / 50;
/// Time from one key to the next. Ours: people type about as fast.
const BETWEEN_KEYS: Duration = Duration::from_millis(250);

/// One turn of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What it waits for.
    pub cue: Cue,
    /// What happens then.
    pub deed: Deed,
}

/// What a turn waits for, since the end of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// The agent spoke, and has been silent for so long.
    Silent(Duration),
    /// The agent began to speak so long ago.
    Speaking(Duration),
    /// So much time has passed.
    After(Duration),
}

/// What a caller does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Says this, PCM at 8 kHz.
    Say(Arc<[i16]>),
    /// Presses these keys, one after the other.
    Press(String),
    /// Hangs up.
    HangUp,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// This is said, in mu-law.
    Say(Vec<u8>),
    /// A key is pressed.
    Press(char),
    /// The caller hangs up.
    HangUp,
}

/// How far a dialogue is.
#[derive(Debug)]
pub struct Dialogue {
    turns: VecDeque<Turn>,
    /// Samples heard, in whole pieces.
    position: usize,
    /// Sample at which the turn before has ended.
    since: usize,
    /// Sample at which the agent was first heard after that, and was last heard.
    voice: Option<(usize, usize)>,
    due: VecDeque<(usize, Due)>,
    /// Samples at which turns were taken.
    taken: Vec<usize>,
}

impl Dialogue {
    /// These turns, one after the other.
    pub fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self {
            turns: turns.into_iter().collect(),
            position: 0,
            since: 0,
            voice: None,
            due: VecDeque::new(),
            taken: Vec::new(),
        }
    }

    /// Takes all that was heard so far, in mu-law from the start of the stream.
    pub fn handle_heard(&mut self, heard: &[u8]) {
        while let Some(piece) = heard.get(self.position..self.position + PIECE) {
            self.position += PIECE;
            if self.position > self.since && !is_silent(piece) {
                let first = self.voice.map_or(self.position - PIECE, |(first, _)| first);
                self.voice = Some((first, self.position));
            }
            if self.turns.front().is_some_and(|turn| self.is_time(turn.cue)) {
                self.take_turn();
            }
        }
    }

    /// What is due by now.
    pub fn poll_due(&mut self) -> Option<Due> {
        self.due.pop_front_if(|(at, _)| *at <= self.position).map(|(_, due)| due)
    }

    /// Times from the start of the stream at which turns were taken.
    pub fn taken(&self) -> impl ExactSizeIterator<Item = Duration> {
        self.taken.iter().map(|&at| Duration::from_secs_f64(at as f64 / f64::from(SAMPLE_RATE)))
    }

    fn is_time(&self, cue: Cue) -> bool {
        let passed = |from: usize, time: Duration| self.position.checked_sub(from).is_some_and(|n| n >= samples(time));
        match cue {
            Cue::Silent(time) => self.voice.is_some_and(|(_, last)| passed(last, time)),
            Cue::Speaking(time) => self.voice.is_some_and(|(first, _)| passed(first, time)),
            Cue::After(time) => passed(self.since, time),
        }
    }

    fn take_turn(&mut self) {
        let Some(turn) = self.turns.pop_front() else { return };
        self.taken.push(self.position);
        let mut end = self.position;
        match turn.deed {
            Deed::Say(speech) => {
                self.due.push_back((end, Due::Say(encode_mulaw(&speech))));
                end += speech.len();
            }
            Deed::Press(keys) => {
                for key in keys.chars() {
                    self.due.push_back((end, Due::Press(key)));
                    end += samples(BETWEEN_KEYS);
                }
            }
            Deed::HangUp => self.due.push_back((end, Due::HangUp)),
        }
        (self.since, self.voice) = (end, None);
    }
}

fn samples(time: Duration) -> usize {
    (time.as_secs_f64() * f64::from(SAMPLE_RATE)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::speech::SILENCE;

    const MS: Duration = Duration::from_millis(1);
    /// Loud and silent mu-law.
    const LOUD: u8 = 0x20;

    /// Hears so many milliseconds of each, 20 ms at a time; what was due, and at which millisecond.
    fn hear(dialogue: &mut Dialogue, parts: &[(u8, usize)]) -> Vec<(usize, Due)> {
        let all: Vec<u8> = parts.iter().flat_map(|&(code, ms)| vec![code; ms * 8]).collect();
        let mut found = Vec::new();
        for end in (PIECE..=all.len()).step_by(PIECE) {
            dialogue.handle_heard(&all[..end]);
            found.extend(std::iter::from_fn(|| dialogue.poll_due()).map(|due| (end / 8, due)));
        }
        found
    }

    fn turn(cue: Cue, deed: Deed) -> Turn {
        Turn { cue, deed }
    }

    #[test]
    fn a_caller_waits_for_the_agent_to_speak_and_then_to_be_silent() {
        let speech: Arc<[i16]> = vec![0; 800].into();
        let silent = Cue::Silent(500 * MS);
        let turns = [turn(silent, Deed::Say(speech)), turn(silent, Deed::HangUp)];
        let mut dialogue = Dialogue::new(turns);
        // Silence before anything was said is no cue, nor is a short one; and the second turn waits for an answer.
        let parts = [(SILENCE, 2000), (LOUD, 400), (SILENCE, 400), (LOUD, 200), (SILENCE, 3000), (LOUD, 100)];
        let parts = [&parts[..], &[(SILENCE, 1000)]].concat();
        let found = hear(&mut dialogue, &parts);
        assert_eq!(found, [(3500, Due::Say(vec![SILENCE; 800])), (6600, Due::HangUp)]);
        assert_eq!(dialogue.taken().collect::<Vec<_>>(), [3500 * MS, 6600 * MS]);
    }

    #[test]
    fn an_interruption_comes_while_the_agent_speaks() {
        let speech: Arc<[i16]> = vec![0; 4000].into();
        let turns = [
            turn(Cue::Speaking(300 * MS), Deed::Say(speech)),
            // What the agent still says while the caller speaks is no answer.
            turn(Cue::Speaking(Duration::ZERO), Deed::HangUp),
        ];
        let found = hear(&mut Dialogue::new(turns), &[(SILENCE, 100), (LOUD, 700), (SILENCE, 1000), (LOUD, 100)]);
        assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [400, 1820]);
    }

    #[test]
    fn keys_follow_each_other_and_the_next_turn_follows_the_last_key() {
        let turns =
            [turn(Cue::After(100 * MS), Deed::Press("42#".to_owned())), turn(Cue::After(1000 * MS), Deed::HangUp)];
        let found = hear(&mut Dialogue::new(turns), &[(SILENCE, 3000)]);
        let press = |at, key| (at, Due::Press(key));
        assert_eq!(found, [press(100, '4'), press(360, '2'), press(600, '#'), (1860, Due::HangUp)]);
    }
}
