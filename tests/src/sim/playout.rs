//! Pure: Twilio's playout buffer of one stream.
//!
//! Media plays in arrival order in real time. A `mark` comes back when everything queued before it
//! has played, at once if nothing is queued; `clear` empties the queue and returns every outstanding
//! mark. Time is an argument: the offset from the start of the stream. `stream.rs` feeds it.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use super::speech::{SAMPLE_RATE, SILENCE};

/// Twilio holds about ten minutes of audio per stream (error 31931), here in samples.
const CAPACITY: u64 = 600 * SAMPLE_RATE as u64;
/// What the caller hears is kept for at most 30 minutes, in samples.
pub(crate) const MAX_HEARD: usize = 30 * 60 * SAMPLE_RATE as usize;
/// Silence shorter than this between two pieces of audio is a gap in an utterance, longer is a pause
/// between two. Ours: a sentence does not pause for a second.
const UTTERANCE_PAUSE: u64 = SAMPLE_RATE as u64;

/// Why a mark came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoReason {
    /// Everything queued before it has played.
    Played,
    /// `clear` threw away what it was waiting for.
    Cleared,
}

/// A mark that goes back to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The name the server gave it.
    pub name: String,
    /// Played or cleared; Twilio does not tell the server which.
    pub reason: EchoReason,
}

/// Silence in the middle of speech, because the next audio came late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Sample of the stream at which it began.
    pub at: u64,
    /// Length in samples.
    pub samples: u64,
}

/// Counters of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlayoutStats {
    /// Samples taken into the queue.
    pub queued: u64,
    /// Samples the caller heard.
    pub played: u64,
    /// Samples thrown away by `clear`.
    pub cleared: u64,
    /// Samples beyond the ten minutes.
    pub discarded: u64,
    /// Longest queue, in samples.
    pub longest_queue: u64,
    /// Marks sent back after playing.
    pub marks_played: u64,
    /// Marks sent back by `clear`.
    pub marks_cleared: u64,
    /// `clear` messages.
    pub clears: u64,
    /// Gaps in what was heard while the agent was speaking.
    pub gaps: u64,
    /// Their total length in samples.
    pub gap_samples: u64,
}

#[derive(Debug)]
struct Mark {
    name: String,
    /// Value of `taken_out` at which everything before the mark is gone.
    due: u64,
}

/// The playout buffer.
#[derive(Debug, Default)]
pub struct Playout {
    /// Samples of real time that have passed: index of the next sample to be heard.
    position: u64,
    queue: VecDeque<Vec<u8>>,
    /// Samples of the first chunk of `queue` that have played already.
    front_played: usize,
    queued: u64,
    /// Samples that ever left the queue, played or cleared.
    taken_out: u64,
    marks: VecDeque<Mark>,
    echoes: VecDeque<Echo>,
    heard: Vec<u8>,
    /// Position at which the queue ran dry, unless a `clear` did it.
    dry_since: Option<u64>,
    gaps: Vec<Gap>,
    stats: PlayoutStats,
}

impl Playout {
    /// Queues audio that arrived at `now`; false when part of it was beyond the ten minutes.
    pub fn handle_media(&mut self, mulaw: Vec<u8>, now: Duration) -> bool {
        self.advance(now);
        let mut mulaw = mulaw;
        let room = usize::try_from(CAPACITY - self.queued).unwrap_or(usize::MAX);
        let excess = mulaw.len().saturating_sub(room);
        mulaw.truncate(room);
        self.stats.discarded += excess as u64;
        let samples = mulaw.len() as u64;
        if samples > 0 {
            self.note_gap();
            self.queued += samples;
            self.stats.queued += samples;
            self.stats.longest_queue = self.stats.longest_queue.max(self.queued);
            self.queue.push_back(mulaw);
        }
        excess == 0
    }

    /// Takes a mark that arrived at `now`.
    pub fn handle_mark(&mut self, name: String, now: Duration) {
        self.advance(now);
        let due = self.taken_out + self.queued;
        self.marks.push_back(Mark { name, due });
        self.echo_due_marks();
    }

    /// Empties the queue at `now`; every outstanding mark comes back.
    pub fn handle_clear(&mut self, now: Duration) {
        self.advance(now);
        self.stats.clears += 1;
        self.stats.cleared += self.queued;
        self.taken_out += self.queued;
        self.queued = 0;
        self.queue.clear();
        self.front_played = 0;
        self.dry_since = None;
        while let Some(mark) = self.marks.pop_front() {
            self.stats.marks_cleared += 1;
            self.echoes.push_back(Echo { name: mark.name, reason: EchoReason::Cleared });
        }
    }

    /// Plays up to `now`; an earlier `now` than the last is ignored.
    pub fn handle_time(&mut self, now: Duration) {
        self.advance(now);
    }

    /// The next mark to send back.
    pub fn poll_echo(&mut self) -> Option<Echo> {
        self.echoes.pop_front()
    }

    /// When the next mark is due, as offset from the start of the stream.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let mark = self.marks.front()?;
        Some(time_of(self.position + (mark.due - self.taken_out)))
    }

    /// Samples waiting to be played.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// What was heard so far, as [`Self::into_heard`] gives it.
    pub fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// Counters so far.
    pub fn stats(&self) -> &PlayoutStats {
        &self.stats
    }

    /// What was heard in mu-law, silence where nothing was queued, from the start of the stream; and
    /// the gaps in it.
    pub fn into_heard(self) -> (Vec<u8>, Vec<Gap>) {
        (self.heard, self.gaps)
    }

    fn advance(&mut self, now: Duration) {
        let target = samples_at(now);
        while self.position < target {
            let left = usize::try_from(target - self.position).unwrap_or(usize::MAX);
            let Some(front) = self.queue.front() else {
                self.hear_silence(left);
                break;
            };
            let taken = left.min(front.len() - self.front_played);
            let piece = &front[self.front_played..self.front_played + taken];
            let room = MAX_HEARD.saturating_sub(self.heard.len()).min(taken);
            self.heard.extend_from_slice(&piece[..room]);
            self.front_played += taken;
            if self.front_played == front.len() {
                self.queue.pop_front();
                self.front_played = 0;
            }
            self.position += taken as u64;
            self.queued -= taken as u64;
            self.taken_out += taken as u64;
            self.stats.played += taken as u64;
            if self.queued == 0 {
                self.dry_since = Some(self.position);
            }
        }
        self.echo_due_marks();
    }

    fn hear_silence(&mut self, samples: usize) {
        let room = MAX_HEARD.saturating_sub(self.heard.len()).min(samples);
        self.heard.resize(self.heard.len() + room, SILENCE);
        self.position += samples as u64;
    }

    fn note_gap(&mut self) {
        let Some(at) = self.dry_since.take() else {
            return;
        };
        let samples = self.position - at;
        if samples > 0 && samples < UTTERANCE_PAUSE {
            self.stats.gaps += 1;
            self.stats.gap_samples += samples;
            self.gaps.push(Gap { at, samples });
        }
    }

    fn echo_due_marks(&mut self) {
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.due <= self.taken_out) {
            self.stats.marks_played += 1;
            self.echoes.push_back(Echo { name: mark.name, reason: EchoReason::Played });
        }
    }
}

fn samples_at(now: Duration) -> u64 {
    let samples = now.as_nanos() * u128::from(SAMPLE_RATE) / 1_000_000_000;
    u64::try_from(samples).unwrap_or(u64::MAX)
}

fn time_of(samples: u64) -> Duration {
    Duration::from_nanos(samples * (1_000_000_000 / u64::from(SAMPLE_RATE)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn names(playout: &mut Playout) -> Vec<String> {
        std::iter::from_fn(|| playout.poll_echo()).map(|echo| echo.name).collect()
    }

    #[test]
    fn mark_comes_back_when_the_audio_before_it_has_played() {
        let mut playout = Playout::default();
        playout.handle_media(vec![1; 160], 5 * MS);
        playout.handle_mark("a".into(), 5 * MS);
        playout.handle_media(vec![2; 160], 6 * MS);
        playout.handle_mark("b".into(), 6 * MS);
        assert_eq!(playout.poll_timeout(), Some(25 * MS));
        playout.handle_time(24 * MS);
        assert_eq!(playout.poll_echo(), None);
        playout.handle_time(25 * MS);
        assert_eq!(names(&mut playout), ["a"]);
        assert_eq!(playout.poll_timeout(), Some(45 * MS));
        playout.handle_time(60 * MS);
        assert_eq!(names(&mut playout), ["b"]);
        let (heard, _) = playout.into_heard();
        assert_eq!(heard.len(), 480);
        assert_eq!(heard[39..41], [SILENCE, 1]);
        assert_eq!(heard[199..201], [1, 2]);
        assert_eq!(heard[359..361], [2, SILENCE]);
    }

    #[test]
    fn mark_on_an_empty_queue_comes_back_at_once() {
        let mut playout = Playout::default();
        playout.handle_mark("now".into(), 3 * MS);
        assert_eq!(playout.poll_echo(), Some(Echo { name: "now".into(), reason: EchoReason::Played }));
    }

    #[test]
    fn clear_stops_the_audio_and_returns_every_mark() {
        let mut playout = Playout::default();
        playout.handle_media(vec![1; 8000], Duration::ZERO);
        playout.handle_mark("a".into(), Duration::ZERO);
        playout.handle_mark("b".into(), Duration::ZERO);
        playout.handle_clear(100 * MS);
        let echo = playout.poll_echo();
        assert_eq!(echo.map(|echo| echo.reason), Some(EchoReason::Cleared));
        assert_eq!(names(&mut playout), ["b"]);
        playout.handle_time(200 * MS);
        assert_eq!(playout.stats().played, 800);
        assert_eq!(playout.stats().cleared, 7200);
        let (heard, gaps) = playout.into_heard();
        assert_eq!(heard[799..801], [1, SILENCE]);
        assert_eq!(gaps, []);
    }

    #[test]
    fn beyond_ten_minutes_is_discarded() {
        let mut playout = Playout::default();
        assert!(playout.handle_media(vec![1; 4_799_999], Duration::ZERO));
        assert!(!playout.handle_media(vec![1; 2], Duration::ZERO));
        assert_eq!(playout.stats().discarded, 1);
        assert!(playout.handle_media(vec![1; 160], 20 * MS));
    }

    #[test]
    fn late_audio_is_a_gap_and_a_pause_is_not() {
        let mut playout = Playout::default();
        playout.handle_media(vec![1; 160], Duration::ZERO);
        playout.handle_media(vec![1; 160], 30 * MS);
        playout.handle_media(vec![1; 160], 2000 * MS);
        let stats = playout.stats();
        assert_eq!((stats.gaps, stats.gap_samples), (1, 80));
        let (_, gaps) = playout.into_heard();
        assert_eq!(gaps, [Gap { at: 160, samples: 80 }]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Media(usize),
        Mark,
        Clear,
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0usize..2000).prop_map(Step::Media),
            3 => Just(Step::Mark),
            1 => Just(Step::Clear),
            4 => (0u64..200_000).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// Sample by sample model: the obvious way to say the same.
        #[test]
        fn agrees_with_a_sample_by_sample_model(steps in steps()) {
            enum Item { Sample(u8), Mark(String) }
            let mut playout = Playout::default();
            let mut items: VecDeque<Item> = VecDeque::new();
            let (mut heard, mut echoed) = (Vec::new(), Vec::new());
            let (mut got, mut now) = (Vec::new(), Duration::ZERO);
            for (index, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Media(length) => {
                        let audio: Vec<u8> = (0..length).map(|i| (i + index) as u8).collect();
                        items.extend(audio.iter().map(|&sample| Item::Sample(sample)));
                        prop_assert!(playout.handle_media(audio, now));
                    }
                    Step::Mark => {
                        items.push_back(Item::Mark(index.to_string()));
                        playout.handle_mark(index.to_string(), now);
                    }
                    Step::Clear => {
                        echoed.extend(items.drain(..).filter_map(|item| match item {
                            Item::Mark(name) => Some(name),
                            Item::Sample(_) => None,
                        }));
                        playout.handle_clear(now);
                    }
                    Step::Wait(micros) => {
                        now += Duration::from_micros(micros);
                        playout.handle_time(now);
                    }
                }
                loop {
                    while let Some(Item::Mark(_)) = items.front() {
                        let Some(Item::Mark(name)) = items.pop_front() else { unreachable!() };
                        echoed.push(name);
                    }
                    if heard.len() as u64 == samples_at(now) { break; }
                    heard.push(match items.pop_front() {
                        Some(Item::Sample(sample)) => sample,
                        _ => SILENCE,
                    });
                }
                got.extend(names(&mut playout));
                prop_assert_eq!(&got, &echoed);
                let waiting = items.iter().filter(|i| matches!(i, Item::Sample(_))).count();
                prop_assert_eq!(playout.queued(), waiting as u64);
                let stats = playout.stats();
                prop_assert_eq!(stats.queued, stats.played + stats.cleared + playout.queued());
            }
            prop_assert_eq!(playout.into_heard().0, heard);
        }

        /// A driver that sleeps until `poll_timeout` gets the mark then, and never spins.
        #[test]
        fn timeout_is_when_the_mark_is_due(length in 1usize..5000, micros in 0u64..1_000_000) {
            let mut playout = Playout::default();
            let now = Duration::from_micros(micros);
            playout.handle_media(vec![0; length], now);
            playout.handle_mark("m".into(), now);
            let due = playout.poll_timeout().unwrap();
            prop_assert!(due > now);
            playout.handle_time(due - Duration::from_nanos(1));
            prop_assert_eq!(playout.poll_echo(), None);
            playout.handle_time(due);
            prop_assert!(playout.poll_echo().is_some());
        }
    }
}
