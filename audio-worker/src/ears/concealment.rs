//! What stands in for sound that never came: a short gap is filled with what came before, a longer one with noise.
//!
//! The repetition follows ITU-T G.711 Appendix I in its lengths: one pitch period again and again, whole for 10 ms,
//! faded out by 60 ms. Noise at the level of the background fades in meanwhile.

/// Longest part of a gap that is filled with what came before, ms (G.711 Appendix I).
pub const CONCEALED_MS: u64 = 60;

/// Most that is made for one gap, ms: a gap of minutes is no minute's work. What is beyond is time that passed.
pub const FILLED_MS: u64 = 2_000;

/// Samples in a millisecond.
const PER_MS: usize = 16;

/// The repetition is whole for so many samples: 10 ms (G.711 Appendix I).
const WHOLE: usize = 10 * PER_MS;
/// And is gone after so many.
const FADED: usize = CONCEALED_MS as usize * PER_MS;

/// Shortest period that is looked for, samples: 400 Hz, the highest voices.
const SHORTEST: usize = 40;
/// Longest: 20 ms, below the lowest voices.
const LONGEST: usize = 20 * PER_MS;
/// Samples that a period is judged by: 20 ms.
const COMPARED: usize = 20 * PER_MS;
/// Samples that are remembered: enough to compare at the longest period.
const HISTORY: usize = COMPARED + LONGEST;

/// What comes first after a gap is still from before it: the line's resampler is 5 ms late (`dsp/resample.rs`). What was
/// made goes on for so many samples instead.
const LATE: usize = 5 * PER_MS;
/// Samples in which what comes after a gap then takes over: 4 ms.
const JOINED: usize = 4 * PER_MS;
/// Samples in which the step at a joint is smoothed: 2.5 ms, the shortest period.
const SMOOTHED: usize = SHORTEST;

/// Share of the newest window in the level of the background: half of it is as old as 0.35 s.
const NEWEST: f32 = 1.0 / 16.0;

/// What came of a gap. Together its parts are the gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filled {
    /// Milliseconds that were filled with what came before.
    pub concealed_ms: u64,
    /// Milliseconds that were filled with noise at the level of the background.
    pub comfort_noise_ms: u64,
    /// Milliseconds for which nothing was made.
    pub skipped_ms: u64,
}

impl Filled {
    /// How a gap of so many milliseconds is filled.
    fn of(gap_ms: u64) -> Self {
        let concealed_ms = gap_ms.min(CONCEALED_MS);
        let filled_ms = gap_ms.min(FILLED_MS);
        Self { concealed_ms, comfort_noise_ms: filled_ms - concealed_ms, skipped_ms: gap_ms - filled_ms }
    }

    /// Samples that are made.
    pub(super) fn samples(self) -> usize {
        // At most FILLED_MS.
        usize::try_from(self.concealed_ms + self.comfort_noise_ms).unwrap_or(0) * PER_MS
    }
}

/// Fills the gaps of one stream at 16 kHz.
#[derive(Debug)]
pub struct Concealment {
    /// What was heard or made last, oldest first.
    history: [i16; HISTORY],
    /// Mean power of the background; none was heard yet.
    background: Option<f32>,
    noise: Noise,
    /// One period, `period` samples of it, which is repeated.
    repeated: [f32; LONGEST],
    period: usize,
    /// What would have come just before the repetition, against what did.
    step: f32,
    /// Samples since the gap began.
    made: usize,
    /// Samples until what comes after the gap is heard as it is.
    joining: usize,
}

impl Default for Concealment {
    fn default() -> Self {
        Self::new()
    }
}

impl Concealment {
    /// Nothing was heard yet: until something is, gaps are filled with silence.
    pub fn new() -> Self {
        Self {
            history: [0; HISTORY],
            background: None,
            noise: Noise::default(),
            repeated: [0.0; LONGEST],
            period: SHORTEST,
            step: 0.0,
            made: 0,
            joining: 0,
        }
    }

    /// Remembers what came.
    pub fn hear(&mut self, pcm: &[i16]) {
        let kept = &pcm[pcm.len().saturating_sub(HISTORY)..];
        self.history.copy_within(kept.len().., 0);
        self.history[HISTORY - kept.len()..].copy_from_slice(kept);
    }

    /// Learns the level of the background from sound in which nobody speaks.
    pub fn background(&mut self, pcm: &[i16]) {
        if pcm.is_empty() {
            return;
        }
        let power = pcm.iter().map(|&sample| f32::from(sample).powi(2)).sum::<f32>() / pcm.len() as f32;
        let before = self.background.unwrap_or(power);
        self.background = Some(before + (power - before) * NEWEST);
    }

    /// Appends to `out` what stands in for `gap_ms` for which nothing came: at most [`FILLED_MS`].
    pub fn fill(&mut self, gap_ms: u64, out: &mut Vec<i16>) -> Filled {
        let filled = self.begin(gap_ms);
        let begin = out.len();
        out.resize(begin + filled.samples(), 0);
        self.make(&mut out[begin..]);
        filled
    }

    /// Lets what comes after a gap take over from what was made, without a step. Call it with what comes, in order,
    /// before it is heard; away from gaps it changes nothing.
    pub fn resume(&mut self, pcm: &mut [i16]) {
        for sample in pcm.iter_mut().take(self.joining) {
            let share = (self.joining as f32 / (JOINED + 1) as f32).min(1.0);
            *sample = to_i16(self.next() * share + f32::from(*sample) * (1.0 - share));
            self.joining -= 1;
        }
    }

    /// Begins to fill a gap; [`Filled::samples`] are then to be made.
    pub(super) fn begin(&mut self, gap_ms: u64) -> Filled {
        if gap_ms > 0 {
            self.period = period(&self.history);
            self.repeat();
            self.made = 0;
            self.joining = LATE + JOINED;
        }
        Filled::of(gap_ms)
    }

    /// Makes what comes next in the gap.
    pub(super) fn make(&mut self, pcm: &mut [i16]) {
        for sample in pcm.iter_mut() {
            *sample = to_i16(self.next());
        }
        self.hear(pcm);
    }

    /// Takes the last period, whose last quarter flows into what came before its first sample.
    fn repeat(&mut self) {
        let begin = HISTORY - self.period;
        let quarter = self.period / 4;
        for at in 0..self.period {
            let share = (at + quarter + 1).saturating_sub(self.period) as f32 / (quarter + 1) as f32;
            let sample = |at: usize| f32::from(self.history[at]);
            self.repeated[at] = sample(begin + at) * (1.0 - share) + sample(begin + at - self.period) * share;
        }
        self.step = f32::from(self.history[HISTORY - 1]) - f32::from(self.history[begin - 1]);
    }

    fn next(&mut self) -> f32 {
        let at = self.made;
        self.made += 1;
        let fade = (at.saturating_sub(WHOLE) as f32 / (FADED - WHOLE) as f32).min(1.0);
        // Of independent sounds the powers add up, so the noise comes in by the root of what is missing.
        let noise = self.noise.next() * self.background.unwrap_or(0.0).sqrt() * (1.0 - (1.0 - fade).powi(2)).sqrt();
        let smooth = 1.0 - (at as f32 / SMOOTHED as f32).min(1.0);
        (self.repeated[at % self.period] + self.step * smooth) * (1.0 - fade) + noise
    }
}

/// The period at which the last samples are most like those before them.
fn period(history: &[i16; HISTORY]) -> usize {
    let (_, last) = history.split_at(HISTORY - COMPARED);
    // Every other sample will do: voices have their pitch far below 4 kHz.
    let product = |one: &[i16], other: &[i16]| -> f32 {
        one.iter().zip(other).step_by(2).map(|(&one, &other)| f32::from(one) * f32::from(other)).sum()
    };
    let (mut best, mut found) = (0.0, LONGEST);
    for period in SHORTEST..=LONGEST {
        let before = &history[HISTORY - COMPARED - period..][..COMPARED];
        let power = product(before, before);
        let likeness = product(last, before);
        if likeness > 0.0 && likeness * likeness > best * power {
            (best, found) = (likeness * likeness / power, period);
        }
    }
    found
}

/// White noise of power 1.
#[derive(Debug)]
struct Noise(u32);

impl Default for Noise {
    fn default() -> Self {
        // Any number but 0.
        Self(0x9E37_79B9)
    }
}

impl Noise {
    /// Marsaglia's xorshift (2003), spread evenly; an even spread of ±√3 has the power 1.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 as f32 / u32::MAX as f32 * 2.0 - 1.0) * 3.0_f32.sqrt()
    }
}

/// Nearest 16-bit sample; what is beyond full scale is clipped.
#[expect(clippy::cast_possible_truncation, reason = "saturating on purpose")]
fn to_i16(sample: f32) -> i16 {
    sample.round() as i16
}

#[cfg(test)]
mod tests;
