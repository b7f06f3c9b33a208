//! Tells the agent's own voice, coming back on the caller's line, from a caller who interrupts.
//!
//! What came lately is compared with what was played, over all delays that a line can have; an echo is a copy and agrees with
//! it sample by sample, which two voices never do. Both are taken at 4 kHz, where most of a voice is.

use std::{cell::RefCell, collections::VecDeque, sync::Arc};

use rustfft::{Fft, FftPlanner, num_complex::Complex};

use super::WINDOW_SAMPLES;
use crate::dsp::SampleRate;

/// Rate of the comparison, Hz.
const RATE: usize = 4000;

/// Samples of it in a millisecond.
const PER_MS: usize = RATE / 1000;

/// How much of the caller's sound is compared: 256 ms.
const BLOCK: usize = 256 * PER_MS;

/// How far an echo may be behind what counts as heard by now: 800 ms, twice the longest round trip of a good line. And how
/// far before it: reports of playback are late and come in steps.
const BEHIND: usize = 800 * PER_MS;
const BEFORE: usize = 300 * PER_MS;

/// Agreement from which on it is an echo: 0 is none, 1 a perfect copy. In our tests copies through mu-law stay above it,
/// two voices of steady pitch below it in nineteen windows of twenty.
const COPY: f32 = 0.5;

/// The delay of an echo that was found is good for another so near: 8 ms.
const NEAR: usize = 8 * PER_MS;

/// Agreement at a known delay that is enough.
const COPY_AT_KNOWN_DELAY: f32 = 0.35;

/// Differences of neighbouring samples below this level, of 16 bits, are nothing to compare.
const FAINT: f64 = 10.0;

/// Length of the spectra.
const SPECTRUM: usize = 8192;

/// What one call needs to know its echo.
#[derive(Debug, Default)]
pub struct EchoGuard {
    /// What is played, from `dropped` samples after the begin of the utterance on.
    played: VecDeque<i16>,
    dropped: usize,
    /// The newest of what the caller sent.
    heard: VecDeque<i16>,
    /// Delay of the newest echo, in samples behind the earliest that is looked at.
    delay: Option<usize>,
    echoes: u64,
}

impl EchoGuard {
    /// Another utterance begins to be played.
    pub fn begin(&mut self) {
        self.played.clear();
        self.dropped = 0;
    }

    /// The utterance goes on with this sound, of which everything up to `heard_ms` was heard.
    pub fn play(&mut self, pcm: &[i16], rate: SampleRate, heard_ms: u64) {
        narrow(pcm, rate, &mut self.played);
        let heard = usize::try_from(heard_ms).unwrap_or(usize::MAX).saturating_mul(PER_MS);
        let old = heard.saturating_sub(BEHIND + BLOCK + self.dropped).min(self.played.len());
        self.played.drain(..old);
        self.dropped += old;
    }

    /// A window of the caller's sound, 16 kHz.
    pub fn hear(&mut self, window: &[i16]) {
        narrow(window, SampleRate::Hz16000, &mut self.heard);
        let old = self.heard.len().saturating_sub(BLOCK);
        self.heard.drain(..old);
    }

    /// True when what was heard last is what was played, `heard_ms` of which the caller has heard by now.
    pub fn is_echo(&mut self, heard_ms: u64) -> bool {
        let length = self.heard.len().saturating_sub(1);
        if length < BLOCK / 2 {
            return false;
        }
        // What is looked at ends so far after, and begins so far before, what is heard by now.
        let now = usize::try_from(heard_ms).unwrap_or(usize::MAX).saturating_mul(PER_MS);
        let end = now.saturating_add(BEFORE).saturating_sub(self.dropped).min(self.played.len());
        let earliest = now.saturating_sub(BEHIND + length).saturating_sub(self.dropped).min(end);
        if end - earliest <= length {
            return false;
        }
        let played = self.played.range(earliest..end);
        let found = SCRATCH.with_borrow_mut(|scratch| {
            scratch.compare(self.heard.iter(), played);
            let delay = |lag: usize| (now + BEFORE).saturating_sub(self.dropped + earliest + lag + length);
            let lags = 0..=(end - earliest - 1 - length);
            let agreeing = lags.filter_map(|lag| {
                let agreement = scratch.agreement(lag, length)?;
                let is_known = self.delay.is_some_and(|known| known.abs_diff(delay(lag)) <= NEAR);
                let enough = if is_known { COPY_AT_KNOWN_DELAY } else { COPY };
                (agreement >= enough).then(|| (agreement, delay(lag)))
            });
            agreeing.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, delay)| delay)
        });
        self.delay = found.or(self.delay);
        self.echoes += u64::from(found.is_some());
        found.is_some()
    }

    /// Windows that were echo.
    pub const fn echoes(&self) -> u64 {
        self.echoes
    }
}

/// Appends the means of as many samples as make one at the comparison's rate, or one more where that is no whole number:
/// a plain low-pass, the same for both sides.
fn narrow(pcm: &[i16], rate: SampleRate, narrowed: &mut VecDeque<i16>) {
    narrowed.extend((0..pcm.len() * RATE / rate.hz()).map(|at| {
        let part = &pcm[at * rate.hz() / RATE..(at + 1) * rate.hz() / RATE];
        let (sum, count) = part.iter().fold((0, 0), |(sum, count), sample| (sum + i32::from(*sample), count + 1));
        i16::try_from(sum / count.max(1)).unwrap_or_default()
    }));
}

thread_local! {
    /// Room for one comparison; it is short, and no two run at once on a thread.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// The agreement of a block with every part of a longer stretch, by way of their spectra. Both are taken as differences
/// of neighbouring samples: without a steady part, and with pitches that stand out less.
struct Scratch {
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    block: Vec<Complex<f32>>,
    played: Vec<Complex<f32>>,
    room: Vec<Complex<f32>>,
    /// Energy of what was played, summed up from its begin.
    energies: Vec<f64>,
    energy: f64,
}

impl Scratch {
    fn new() -> Self {
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(SPECTRUM), planner.plan_fft_inverse(SPECTRUM));
        let room = forward.get_inplace_scratch_len().max(inverse.get_inplace_scratch_len());
        Self {
            forward,
            inverse,
            block: vec![Complex::default(); SPECTRUM],
            played: vec![Complex::default(); SPECTRUM],
            room: vec![Complex::default(); room],
            energies: Vec::new(),
            energy: 0.0,
        }
    }

    /// Compares; `block` is the shorter one.
    fn compare<'a>(&mut self, block: impl Iterator<Item = &'a i16>, played: impl Iterator<Item = &'a i16>) {
        self.energy = differences(block, &mut self.block).sum();
        self.energies.clear();
        self.energies.push(0.0);
        let mut sum = 0.0;
        self.energies.extend(differences(played, &mut self.played).map(|energy| {
            sum += energy;
            sum
        }));
        self.forward.process_with_scratch(&mut self.block, &mut self.room);
        self.forward.process_with_scratch(&mut self.played, &mut self.room);
        for (played, block) in self.played.iter_mut().zip(&self.block) {
            *played *= block.conj();
        }
        self.inverse.process_with_scratch(&mut self.played, &mut self.room);
    }

    /// How well the block agrees with what begins so many samples after the begin; `None` where nothing sounds.
    fn agreement(&self, lag: usize, length: usize) -> Option<f32> {
        let energy = self.energies.get(lag + length)? - self.energies[lag];
        let faint = FAINT * FAINT * length as f64;
        if energy < faint || self.energy < faint {
            return None;
        }
        let product = f64::from(self.played[lag].re) / SPECTRUM as f64;
        Some((product.abs() / (energy * self.energy).sqrt()) as f32)
    }
}

/// Differences of neighbouring samples into `spectrum`, zeros behind them; answers their energies.
fn differences<'a>(samples: impl Iterator<Item = &'a i16>, spectrum: &mut [Complex<f32>]) -> impl Iterator<Item = f64> {
    let (mut before, mut count) = (None, 0);
    for sample in samples {
        let sample = f32::from(*sample);
        if let Some(before) = before.replace(sample)
            && let Some(place) = spectrum.get_mut(count)
        {
            *place = Complex::new(sample - before, 0.0);
            count += 1;
        }
    }
    spectrum[count..].fill(Complex::default());
    spectrum[..count].iter().map(|difference| f64::from(difference.re).powi(2))
}

// The longest stretch fits into the spectrum without coming round to the block.
const _: () = assert!(BEHIND + BEFORE + 2 * BLOCK <= SPECTRUM);

// A window is a whole number of samples of the comparison.
const _: () = assert!(WINDOW_SAMPLES.is_multiple_of(16_000 / RATE));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::mulaw;

    /// Something like a voice: pulses of a pitch that drifts, through a resonance, in syllables. 16 kHz.
    fn voice(seed: u32, samples: usize) -> Vec<i16> {
        let (mut random, mut phase, mut y1, mut y2) = (seed, 0.0_f32, 0.0_f32, 0.0_f32);
        let mut chance = move || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random as f32 / u32::MAX as f32 - 0.5
        };
        let (mut pitch, mut formant) = (120.0 + 60.0 * chance(), 500.0 + 400.0 * chance());
        (0..samples)
            .map(|at| {
                if at % 3200 == 0 {
                    (pitch, formant) = (140.0 + 120.0 * chance(), 700.0 + 900.0 * chance());
                }
                phase += pitch / 16_000.0;
                let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
                phase -= phase.floor();
                let (r, w) = (0.97_f32, 2.0 * std::f32::consts::PI * formant / 16_000.0);
                let y = pulse + 0.02 * chance() + 2.0 * r * w.cos() * y1 - r * r * y2;
                (y1, y2) = (y, y1);
                let syllable = (at as f32 / 3200.0 * std::f32::consts::PI).sin().abs();
                (2500.0 * y * syllable) as i16
            })
            .collect()
    }

    /// Plays `played` and hears `heard` beside it; windows that were judged and those that were echo.
    fn echoes(played: &[i16], heard: &[i16]) -> (usize, usize) {
        let mut guard = EchoGuard::default();
        guard.begin();
        guard.play(played, SampleRate::Hz16000, 0);
        let (mut judged, mut echoes) = (0, 0);
        for (at, window) in heard.chunks_exact(WINDOW_SAMPLES).enumerate() {
            guard.hear(window);
            let now_ms = (at as u64 + 1) * 32;
            if now_ms > 1000 {
                judged += 1;
                echoes += usize::from(guard.is_echo(now_ms));
            }
        }
        (judged, echoes)
    }

    /// As it comes back: `gain` of it, so late, through mu-law, with this beside it.
    fn back(played: &[i16], gain: f32, late_ms: usize, beside: &[i16]) -> Vec<i16> {
        let mut sound = vec![0; late_ms * 16];
        sound.extend_from_slice(&played[..played.len() - late_ms * 16]);
        let mixed: Vec<i16> =
            sound.iter().zip(beside).map(|(echo, other)| (f32::from(*echo) * gain) as i16 + other).collect();
        let (mut codes, mut heard) = (Vec::new(), Vec::new());
        mulaw::encode(&mixed, &mut codes);
        mulaw::decode(&codes, &mut heard);
        heard
    }

    #[test]
    fn a_copy_is_an_echo_however_late_and_faint() {
        let played = voice(1, 4 * 16_000);
        let silence = vec![0; played.len()];
        for (gain, late_ms) in [(1.0, 0), (0.3, 180), (0.1, 420), (0.5, 700)] {
            let (judged, echoes) = echoes(&played, &back(&played, gain, late_ms, &silence));
            assert!(echoes * 10 >= judged * 9, "{echoes} of {judged} at {gain}, {late_ms} ms");
        }
    }

    #[test]
    fn another_voice_is_none_even_over_an_echo() {
        let (played, other) = (voice(1, 4 * 16_000), voice(77, 4 * 16_000));
        let (judged, alone) = echoes(&played, &other);
        let (_, over) = echoes(&played, &back(&played, 0.15, 180, &other));
        assert!(alone * 10 <= judged && over * 10 <= judged, "{alone} and {over} of {judged}");
    }

    #[test]
    fn without_anything_played_or_heard_there_is_no_echo() {
        let mut guard = EchoGuard::default();
        assert!(!guard.is_echo(0));
        for window in voice(3, 16_000).chunks_exact(WINDOW_SAMPLES) {
            guard.hear(window);
        }
        assert!(!guard.is_echo(0) && !guard.is_echo(u64::MAX / 8));
        guard.play(&voice(3, 160_000), SampleRate::Hz16000, 9_000);
        assert!(guard.played.len() <= RATE * 10 - 9_000 * PER_MS + BEHIND + BLOCK);
    }
}
