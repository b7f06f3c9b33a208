//! Pure: the corpus through mu-law, the worker's resampler and its ears, counted against the labels.

use std::ops::Range;

use audio_codec_algorithms::encode_ulaw;
use audio_worker::{
    dsp::{Resampler, SampleRate},
    ears::{Ears, VOICE, VoiceActivity, WINDOW_SAMPLES},
    pipeline::{HEARING_RATE, Uplink},
};

use crate::corpus::{Disturbances, Kind, Noise, Random, Speech};

/// Samples of one message of the line: 20 ms at 8 kHz.
const FRAME: usize = 160;
/// Samples of a pause that counts as one: 300 ms at 8 kHz.
pub const QUIET: usize = 2_400;

/// What a line does to speech.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    /// A noise, and how many dB it is below the speech.
    pub noise: Option<(Noise, f64)>,
    /// Share of the messages that never come.
    pub lost: f64,
}

impl Condition {
    /// Nothing.
    pub const CLEAN: Self = Self { noise: None, lost: 0.0 };

    /// What detectors are compared in.
    pub const ALL: [Self; 8] = [
        Self::CLEAN,
        Self::noisy(Noise::White, 20.0),
        Self::noisy(Noise::White, 10.0),
        Self::noisy(Noise::Pink, 20.0),
        Self::noisy(Noise::Pink, 10.0),
        Self::noisy(Noise::Pink, 3.0),
        Self::noisy(Noise::Hum, 10.0),
        Self { lost: 0.05, ..Self::noisy(Noise::Pink, 20.0) },
    ];

    /// Noise, so many dB below the speech.
    pub const fn noisy(noise: Noise, below_db: f64) -> Self {
        Self { noise: Some((noise, below_db)), ..Self::CLEAN }
    }

    /// The speech with the noise in it.
    fn of(self, speech: &Speech) -> Vec<i16> {
        self.noise.map_or_else(|| speech.pcm.clone(), |(noise, below_db)| speech.with_noise(noise, below_db).pcm)
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.noise {
            None => f.write_str("clean")?,
            Some((noise, below_db)) => write!(f, "{} {below_db} dB", format!("{noise:?}").to_lowercase())?,
        }
        if self.lost > 0.0 { write!(f, ", {:.0} % lost", self.lost * 100.0) } else { Ok(()) }
    }
}

/// Windows that hold nothing but speech or nothing of it; those on an edge are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Windows of speech.
    pub speech: u32,
    /// Of these, told as voice.
    pub hits: u32,
    /// Windows without speech.
    pub rest: u32,
    /// Of these, told as voice.
    pub false_alarms: u32,
}

impl Score {
    /// Share of the speech that is told as such.
    pub fn hit_rate(&self) -> f64 {
        f64::from(self.hits) / f64::from(self.speech.max(1))
    }

    /// Share of the rest that is told as voice.
    pub fn false_alarm_rate(&self) -> f64 {
        f64::from(self.false_alarms) / f64::from(self.rest.max(1))
    }

    /// Mean of what is right of both: 0.5 is a coin.
    pub fn balanced(&self) -> f64 {
        f64::midpoint(self.hit_rate(), 1.0 - self.false_alarm_rate())
    }
}

/// Counts what the detector says to the speech under this condition.
///
/// # Errors
/// When the line's resampler fails.
pub fn score(detector: Box<dyn VoiceActivity>, speech: &Speech, condition: Condition) -> anyhow::Result<Score> {
    let (voices, delay) = (heard(detector, &condition.of(speech), condition.lost)?, delay()?);
    let spans: Vec<_> = speech.spans.iter().map(|span| 2 * span.start + delay..2 * span.end + delay).collect();
    let mut score = Score::default();
    for (number, voice) in voices.iter().enumerate() {
        let window = number * WINDOW_SAMPLES..(number + 1) * WINDOW_SAMPLES;
        let is_voice = u32::from(*voice >= VOICE);
        if spans.iter().any(|span| span.start <= window.start && window.end <= span.end) {
            score.speech += 1;
            score.hits += is_voice;
        } else if !spans.iter().any(|span| overlap(span, &window)) {
            score.rest += 1;
            score.false_alarms += is_voice;
        }
    }
    Ok(score)
}

/// How long after the truth a detector finds that somebody begins, or has stopped, to speak; ms, in rising order.
///
/// It counts to the end of the window that tells, on the clock of the caller: the resampler's 5 ms are in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edges {
    /// From the first sample of speech to the first window of voice.
    pub onsets_ms: Vec<f64>,
    /// From the last sample of speech to the first window without.
    pub endings_ms: Vec<f64>,
}

/// Listens for the edges of speech that have [`QUIET`] on their other side.
///
/// # Errors
/// When the line's resampler fails.
pub fn edges(detector: Box<dyn VoiceActivity>, speech: &Speech, condition: Condition) -> anyhow::Result<Edges> {
    let voices = heard(detector, &condition.of(speech), condition.lost)?;
    let found = |from: usize, wanted: bool| {
        let first = 2 * from / WINDOW_SAMPLES;
        let after = voices.iter().skip(first).position(|voice| (*voice >= VOICE) == wanted)?;
        Some(((first + after + 1) * WINDOW_SAMPLES - 2 * from) as f64 / 16.0)
    };
    let mut edges = Edges::default();
    let mut quiet_from = 0;
    for (number, span) in speech.spans.iter().enumerate() {
        if span.start - quiet_from >= QUIET {
            edges.onsets_ms.extend(found(span.start, true));
        }
        let next = speech.spans.get(number + 1).map_or(speech.pcm.len(), |next| next.start);
        if next - span.end >= QUIET {
            edges.endings_ms.extend(found(span.end, false));
        }
        quiet_from = span.end;
    }
    edges.onsets_ms.sort_by(f64::total_cmp);
    edges.endings_ms.sort_by(f64::total_cmp);
    Ok(edges)
}

/// What the detector says to each window of PCM at 8 kHz that comes over a line on which this share of the messages is
/// lost.
///
/// # Errors
/// When the line's resampler fails.
pub fn heard(detector: Box<dyn VoiceActivity>, pcm: &[i16], lost: f64) -> anyhow::Result<Vec<f32>> {
    let mut random = Random::new(3);
    let (mut uplink, mut ears) = (Uplink::new()?, Ears::new(detector));
    let mut voices = Vec::with_capacity(2 * pcm.len() / WINDOW_SAMPLES);
    let mut codes = Vec::with_capacity(FRAME);
    for (frame, samples) in pcm.chunks(FRAME).enumerate() {
        if random.uniform() < lost {
            continue;
        }
        codes.clear();
        codes.extend(samples.iter().map(|&sample| encode_ulaw(sample)));
        let heard = uplink.push(&codes, frame as u64 * 20)?;
        ears.gap(heard.gap_ms, |voice, _| voices.push(voice));
        ears.hear(heard.pcm, |voice, _| voices.push(voice));
    }
    Ok(voices)
}

/// What a detector makes of sounds of one kind, which are no speech or none that takes the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nuisance {
    /// The kind; between the sounds where there is none.
    pub kind: Option<Kind>,
    /// Sounds of it.
    pub count: usize,
    /// Of these, those with a window of voice.
    pub voiced: usize,
    /// Windows of voice in a row, at most.
    pub longest: usize,
}

/// What the detector says to a line on which nobody takes the turn, for each kind of sound and for what is between them.
///
/// # Errors
/// When the line's resampler fails.
pub fn nuisance(detector: Box<dyn VoiceActivity>, line: &Disturbances) -> anyhow::Result<Vec<Nuisance>> {
    let (voices, delay) = (heard(detector, &line.pcm, 0.0)?, delay()?);
    let window = |sample: usize| (2 * sample + delay) / WINDOW_SAMPLES;
    let mut rows: Vec<_> = Kind::ALL.map(Some).into_iter().chain([None]).map(Nuisance::of).collect();
    let mut before = 0;
    for event in &line.events {
        // A detector takes a few windows to find that a sound is over.
        let (begin, end) = (window(event.begin), (window(event.end) + 4).min(voices.len()));
        for row in &mut rows {
            let heard = match row.kind {
                Some(kind) if kind == event.kind => &voices[begin..end],
                None => &voices[before..begin],
                Some(_) => continue,
            };
            row.count(heard);
        }
        before = end;
    }
    Ok(rows)
}

impl Nuisance {
    fn of(kind: Option<Kind>) -> Self {
        Self { kind, count: 0, voiced: 0, longest: 0 }
    }

    fn count(&mut self, voices: &[f32]) {
        let runs = voices.split(|voice| *voice < VOICE).map(<[f32]>::len);
        let longest = runs.max().unwrap_or(0);
        self.count += 1;
        self.voiced += usize::from(longest > 0);
        self.longest = self.longest.max(longest);
    }
}

/// Samples at 16 kHz by which the line's resampler is late.
fn delay() -> anyhow::Result<usize> {
    Ok(Resampler::new(SampleRate::Hz8000, HEARING_RATE)?.delay())
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says the same each time.
    struct Constant(f32);

    impl VoiceActivity for Constant {
        fn voice(&mut self, _: &[i16]) -> f32 {
            self.0
        }

        fn reset(&mut self) {}
    }

    #[test]
    fn who_always_says_the_same_is_a_coin() {
        let speech = Speech::bundled().first(60);
        for (voice, rate) in [(0.0, 0.0), (0.5, 1.0)] {
            let score = score(Box::new(Constant(voice)), &speech, Condition::CLEAN).unwrap();
            assert_eq!((score.hit_rate(), score.false_alarm_rate(), score.balanced()), (rate, rate, 0.5));
            // Windows on edges are few.
            assert!((1_700..60 * 1_000 / 32).contains(&(score.speech + score.rest)));
        }
    }

    #[test]
    fn edges_are_found_in_the_window_that_holds_them_and_no_earlier() {
        /// Loud is voice.
        struct Loud;

        impl VoiceActivity for Loud {
            fn voice(&mut self, window: &[i16]) -> f32 {
                if window.iter().any(|sample| sample.unsigned_abs() > 500) { 1.0 } else { 0.0 }
            }

            fn reset(&mut self) {}
        }

        let mut pcm = vec![0; 16_000];
        let square = |at: usize| if at % 8 < 4 { 5_000 } else { -5_000 };
        pcm[4_000..8_000].iter_mut().enumerate().for_each(|(at, sample)| *sample = square(at));
        let speech = Speech { pcm, spans: std::iter::once(4_000..8_000).collect() };
        let edges = edges(Box::new(Loud), &speech, Condition::CLEAN).unwrap();
        // Speech from 500 ms on is in the window to 512 ms, of which the resampler leaves 7; it is gone after 1,024 ms.
        assert_eq!((edges.onsets_ms, edges.endings_ms), (vec![12.0], vec![56.0]));
    }

    #[test]
    fn every_sound_is_counted_once() {
        let line = crate::corpus::disturbances(1);
        let rows = nuisance(Box::new(Constant(1.0)), &line).unwrap();
        let (sounds, between) = rows.split_at(6);
        assert_eq!(sounds.iter().map(|row| row.count).sum::<usize>(), line.events.len());
        assert_eq!(between[0].count, line.events.len());
        assert!(rows.iter().all(|row| row.voiced == row.count && row.longest > 5));
    }
}
