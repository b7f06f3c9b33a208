//! The reply queue: finished mu-law and keys by utterance, and the only pacer in the system.
//!
//! Voices speak faster than real time, and what has been sent cannot be recalled. So the queue hands out only
//! what keeps the caller's buffer a short lead ahead, by an absolute clock; an interrupt then empties the very
//! queue that it would otherwise wait behind.
//!
//! An interrupt spares keys. So that emptying the caller's buffer cannot cut them either, what is said behind them
//! leaves only once they have been played.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::dsp::dtmf::Keys;

/// Samples of a frame: 20 ms, Twilio's habit.
pub const FRAME_SAMPLES: usize = 160;

/// Longest reply that may wait, in samples: 60 s. A longer utterance is cut there and counted.
pub const CAPACITY_SAMPLES: usize = 60 * 8000;

/// How far the caller's buffer is kept ahead of real time.
pub const LEAD: Duration = Duration::from_millis(200);

/// Time of one sample at 8 kHz.
const SAMPLE: Duration = Duration::from_micros(125);

/// Something that may be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Audio: a whole frame, or the rest of an utterance.
    Audio {
        /// The utterance.
        utterance: u64,
        /// mu-law.
        mulaw: Bytes,
    },
    /// The utterance is complete.
    End {
        /// The utterance.
        utterance: u64,
    },
}

/// The queue of one conversation.
#[derive(Debug)]
pub struct Reply {
    utterances: VecDeque<Queued>,
    samples: usize,
    lead: Duration,
    /// A moment before all others: what is due "at once" is due since then.
    origin: Instant,
    /// When all that was sent will have been played, if it is played without a pause.
    played_out: Instant,
    /// The same of the last keys that were sent.
    keys_played_out: Instant,
}

/// What an interrupt found of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysNow {
    /// None that were not played.
    None,
    /// Some wait and none sounds; this is the utterance that comes first.
    Waiting {
        /// Its number.
        first: u64,
    },
    /// Some are being played: the caller's buffer must be left alone.
    Sounding,
}

#[derive(Debug)]
struct Queued {
    utterance: u64,
    sound: Sound,
    /// No more of it comes.
    ended: bool,
}

#[derive(Debug)]
enum Sound {
    Said(VecDeque<u8>),
    /// Made as they are sent, so that they need no room.
    Keys(Keys),
}

impl Sound {
    fn len(&self) -> usize {
        match self {
            Self::Said(mulaw) => mulaw.len(),
            Self::Keys(keys) => keys.remaining(),
        }
    }
}

impl Reply {
    /// An empty queue that keeps `lead` ahead of real time, made at `now`.
    pub const fn new(lead: Duration, now: Instant) -> Self {
        Self { utterances: VecDeque::new(), samples: 0, lead, origin: now, played_out: now, keys_played_out: now }
    }

    /// Appends to `utterance`, which is the newest one or newer. Answers how many samples found no room.
    pub fn say(&mut self, utterance: u64, mulaw: &[u8]) -> usize {
        let taken = mulaw.len().min(CAPACITY_SAMPLES - self.samples);
        if taken == 0 {
            return mulaw.len();
        }
        if self.utterances.back().is_none_or(|queued| queued.utterance != utterance) {
            let sound = Sound::Said(VecDeque::new());
            self.utterances.push_back(Queued { utterance, sound, ended: false });
        }
        if let Some(Queued { sound: Sound::Said(said), .. }) = self.utterances.back_mut() {
            said.extend(&mulaw[..taken]);
            self.samples += taken;
        }
        mulaw.len() - taken
    }

    /// Completes `utterance`: what is left of it may go as a short frame, and its end follows.
    pub fn end(&mut self, utterance: u64) {
        match self.utterances.back_mut() {
            Some(queued) if queued.utterance == utterance => queued.ended = true,
            // All of its audio has left already.
            _ => self.utterances.push_back(Queued { utterance, sound: Sound::Said(VecDeque::new()), ended: true }),
        }
    }

    /// Appends keys as an `utterance` of their own, newer than all before.
    pub fn keys(&mut self, utterance: u64, keys: Keys) {
        self.utterances.push_back(Queued { utterance, sound: Sound::Keys(keys), ended: true });
    }

    /// Utterances of keys that are not wholly sent.
    pub fn rows_of_keys(&self) -> usize {
        self.utterances.iter().filter(|queued| matches!(queued.sound, Sound::Keys(_))).count()
    }

    /// Throws everything away and answers how many samples that were. The caller's buffer is emptied too, so the
    /// lead starts anew.
    pub fn clear(&mut self) -> usize {
        self.utterances.clear();
        (self.played_out, self.keys_played_out) = (self.origin, self.origin);
        std::mem::take(&mut self.samples)
    }

    /// Throws away all that was said, at `now`, and keeps the keys. Answers how many samples that were, and what is to
    /// be known of keys: while some sound, the caller's buffer is not emptied and goes on as before.
    pub fn interrupt(&mut self, now: Instant) -> (usize, KeysNow) {
        self.utterances.retain(|queued| matches!(queued.sound, Sound::Keys(_)));
        let keys = match self.utterances.front() {
            _ if now < self.keys_played_out => KeysNow::Sounding,
            Some(Queued { sound: Sound::Keys(keys), .. }) if keys.has_begun() => KeysNow::Sounding,
            Some(queued) => KeysNow::Waiting { first: queued.utterance },
            None => KeysNow::None,
        };
        if keys != KeysNow::Sounding {
            self.played_out = self.origin;
        }
        (std::mem::take(&mut self.samples), keys)
    }

    /// The next thing that may be sent at `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Due> {
        if self.deadline()? > now {
            return None;
        }
        let front = self.utterances.front_mut()?;
        let (utterance, length) = (front.utterance, front.sound.len().min(FRAME_SAMPLES));
        if length == 0 {
            self.utterances.pop_front();
            return Some(Due::End { utterance });
        }
        self.played_out = self.played_out.max(now) + SAMPLE * u32::try_from(length).unwrap_or(u32::MAX);
        let mulaw = match &mut front.sound {
            Sound::Said(said) => {
                self.samples -= length;
                said.drain(..length).collect()
            }
            Sound::Keys(keys) => {
                self.keys_played_out = self.played_out;
                let mut codes = Vec::with_capacity(length);
                keys.take(length, &mut codes);
                Bytes::from(codes)
            }
        };
        if front.sound.len() == 0 && !front.ended {
            self.utterances.pop_front();
        }
        Some(Due::Audio { utterance, mulaw })
    }

    /// When [`Reply::poll`] has something; `None` while there is nothing to say. It may lie in the past.
    pub fn deadline(&self) -> Option<Instant> {
        let front = self.utterances.front()?;
        let (waiting, ended) = (front.sound.len(), front.ended || self.utterances.len() > 1);
        if waiting < FRAME_SAMPLES && !ended {
            return None;
        }
        let in_time = self.played_out.checked_sub(self.lead).unwrap_or(self.origin);
        Some(match front.sound {
            // An end is not audio: it needs no room in the caller's buffer.
            _ if waiting == 0 => self.origin,
            Sound::Keys(_) => in_time,
            Sound::Said(_) => in_time.max(self.keys_played_out),
        })
    }

    /// Samples of what was said that wait.
    pub const fn queued(&self) -> usize {
        self.samples
    }

    /// True when nothing waits, not even an end.
    pub fn is_empty(&self) -> bool {
        self.utterances.is_empty()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Everything due at `now`, as (utterance, samples); an end has none.
    fn drain(reply: &mut Reply, now: Instant) -> Vec<(u64, usize)> {
        std::iter::from_fn(|| reply.poll(now))
            .map(|due| match due {
                Due::Audio { utterance, mulaw } => (utterance, mulaw.len()),
                Due::End { utterance } => (utterance, 0),
            })
            .collect()
    }

    #[test]
    fn a_long_reply_goes_out_a_lead_ahead_and_then_in_real_time() {
        let start = Instant::now();
        let mut reply = Reply::new(LEAD, start);
        reply.say(1, &[0; 8000]);
        // 200 ms are ahead once ten frames left; the eleventh is due when the first has been played.
        assert_eq!(drain(&mut reply, start).len(), 11);
        assert_eq!(reply.deadline(), Some(start + ms(20)));
        assert_eq!(drain(&mut reply, start + ms(19)), []);
        assert_eq!(drain(&mut reply, start + ms(20)), [(1, 160)]);
        assert_eq!(drain(&mut reply, start + ms(59)), [(1, 160)]);
        assert_eq!(drain(&mut reply, start + ms(60)), [(1, 160)]);
    }

    #[test]
    fn audio_that_comes_in_real_time_never_waits() {
        let start = Instant::now();
        let mut reply = Reply::new(LEAD, start);
        for frame in 0..500 {
            reply.say(1, &[0; 160]);
            assert_eq!(drain(&mut reply, start + ms(20 * frame)), [(1, 160)]);
            assert_eq!(reply.deadline(), None);
        }
    }

    #[test]
    fn the_rest_of_an_utterance_waits_for_its_end_and_the_end_comes_after_it() {
        let start = Instant::now();
        let mut reply = Reply::new(LEAD, start);
        reply.say(1, &[0; 250]);
        assert_eq!(drain(&mut reply, start), [(1, 160)]);
        reply.end(1);
        reply.say(2, &[0; 160]);
        assert_eq!(drain(&mut reply, start), [(1, 90), (1, 0), (2, 160)]);
        reply.end(2);
        assert_eq!(drain(&mut reply, start), [(2, 0)]);
        assert!(reply.is_empty());
    }

    #[test]
    fn clear_forgets_everything_and_the_lead_starts_anew() {
        let start = Instant::now();
        let mut reply = Reply::new(LEAD, start);
        reply.say(1, &[0; 8000]);
        drain(&mut reply, start);
        assert_eq!(reply.clear(), 8000 - 11 * 160);
        assert_eq!(reply.deadline(), None);
        reply.say(2, &[0; 160]);
        assert_eq!(drain(&mut reply, start), [(2, 160)]);
    }

    #[test]
    fn what_is_beyond_the_capacity_is_refused_and_counted() {
        let mut reply = Reply::new(LEAD, Instant::now());
        assert_eq!(reply.say(1, &vec![0; CAPACITY_SAMPLES - 10]), 0);
        assert_eq!(reply.say(1, &[0; 30]), 20);
        assert_eq!(reply.queued(), CAPACITY_SAMPLES);
    }

    proptest! {
        /// Whatever is said whenever: order is kept, nothing is lost, and the lead is never exceeded by more than
        /// the frame that fills it.
        #[test]
        fn never_more_than_the_lead_ahead(
            steps in prop::collection::vec((0_u64..90, 0_usize..900, any::<bool>()), 1..200)
        ) {
            let mut now = Instant::now();
            let mut reply = Reply::new(LEAD, now);
            let (mut utterance, mut said, mut sent) = (1, 0, 0);
            let mut buffered_until = now;
            for (pause, samples, end) in steps {
                now += ms(pause);
                said += samples - reply.say(utterance, &vec![0; samples]);
                if end {
                    reply.end(utterance);
                    utterance += 1;
                }
                let mut last = 0;
                while let Some(due) = reply.poll(now) {
                    let (number, length) = match due {
                        Due::Audio { utterance, mulaw } => (utterance, mulaw.len()),
                        Due::End { utterance } => (utterance, 0),
                    };
                    prop_assert!(number >= last);
                    last = number;
                    sent += length;
                    buffered_until = buffered_until.max(now) + SAMPLE * length as u32;
                }
                prop_assert!(buffered_until.saturating_duration_since(now) <= LEAD + ms(20));
                prop_assert!(reply.deadline().is_none_or(|at| at > now));
                prop_assert_eq!(said - sent, reply.queued());
            }
        }
    }
}
