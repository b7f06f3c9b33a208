//! Silero VAD, the 16 kHz branch of version 6.2.3, computed here: a spectrum, four convolutions, one recurrent layer.
//!
//! Weights are Silero's (MIT, see `silero/LICENSE`); `tests/python/silero_weights.py` makes the file from their wheel
//! and says how it is laid out.

use std::sync::{Arc, LazyLock};

use rustfft::{Fft, FftPlanner, num_complex::Complex32};

use super::{VoiceActivity, WINDOW_SAMPLES, dense::Dense};

/// Samples of the window before that are heard again.
const CONTEXT: usize = 64;
/// Samples that are mirrored at the end.
const MIRRORED: usize = 64;
/// Samples of one spectrum.
const LENGTH: usize = 256;
/// Samples from one spectrum to the next.
const HOP: usize = 128;
/// Spectra of a window.
const FRAMES: usize = 4;
/// Frequencies of a spectrum.
const BINS: usize = LENGTH / 2 + 1;
/// Outputs of the encoder, and of the recurrent layer.
const WIDTH: usize = 128;
/// Outputs of the narrow layers of the encoder.
const NARROW: usize = 64;
/// Taps of a convolution.
const TAPS: usize = 3;

/// Full scale of a 16-bit sample.
const FULL_SCALE: f32 = 32_768.0;

/// The weights that all calls share: 0.9 MB.
static MODEL: LazyLock<Model> = LazyLock::new(|| Model::read(include_bytes!("silero/weights.bin")));

struct Model {
    transform: Arc<dyn Fft<f32>>,
    hann: [f32; LENGTH],
    encoder1: Dense<8>,
    encoder2: Dense<16>,
    encoder3: Dense<32>,
    encoder4: Dense<32>,
    recurrent: Dense<32>,
    output: Dense<1>,
}

impl Model {
    fn read(bytes: &[u8]) -> Self {
        let (values, _) = bytes.as_chunks::<4>();
        let values = &mut values.iter().map(|&bytes| f32::from_le_bytes(bytes));
        Self {
            transform: FftPlanner::new().plan_fft_forward(LENGTH),
            hann: std::array::from_fn(|at| 0.5 - 0.5 * (std::f32::consts::TAU * at as f32 / LENGTH as f32).cos()),
            encoder1: Dense::read(TAPS * BINS, WIDTH, values),
            encoder2: Dense::read(TAPS * WIDTH, NARROW, values),
            encoder3: Dense::read((TAPS - 1) * NARROW, NARROW, values),
            encoder4: Dense::read(NARROW, WIDTH, values),
            recurrent: Dense::read(2 * WIDTH, 4 * WIDTH, values),
            output: Dense::read(WIDTH, 1, values),
        }
    }
}

/// Silero VAD for one call: its state and its buffers, 15 kB.
pub struct Silero {
    model: &'static Model,
    /// Context, window and what is mirrored, full scale 1.
    samples: [f32; CONTEXT + WINDOW_SAMPLES + MIRRORED],
    transformed: [Complex32; LENGTH],
    scratch: Vec<Complex32>,
    /// Magnitudes, with silence before and after as the convolution wants it.
    spectra: [f32; (FRAMES + 2) * BINS],
    /// The same of the first layer: silence before; nothing of what comes after is needed.
    encoded1: [f32; (FRAMES + 1) * WIDTH],
    encoded2: [f32; 2 * NARROW],
    encoded3: [f32; NARROW],
    /// What goes into the recurrent layer: the encoder's output, then its own of the window before.
    input: [f32; 2 * WIDTH],
    gates: [f32; 4 * WIDTH],
    cell: [f32; WIDTH],
}

impl Silero {
    /// A detector that has heard nothing. The first of a process unpacks the weights.
    pub fn new() -> Self {
        let model = &*MODEL;
        Self {
            model,
            samples: [0.0; _],
            transformed: [Complex32::ZERO; _],
            scratch: vec![Complex32::ZERO; model.transform.get_inplace_scratch_len()],
            spectra: [0.0; _],
            encoded1: [0.0; _],
            encoded2: [0.0; _],
            encoded3: [0.0; _],
            input: [0.0; _],
            gates: [0.0; _],
            cell: [0.0; _],
        }
    }

    /// Takes the window in behind the end of the last one.
    fn take(&mut self, window: &[i16]) {
        self.samples.copy_within(WINDOW_SAMPLES..WINDOW_SAMPLES + CONTEXT, 0);
        let place = &mut self.samples[CONTEXT..][..WINDOW_SAMPLES];
        // A window is always whole; of a shorter one the rest would be silence.
        place.fill(0.0);
        for (slot, &sample) in place.iter_mut().zip(window) {
            *slot = f32::from(sample) / FULL_SCALE;
        }
        let (heard, mirrored) = self.samples.split_at_mut(CONTEXT + WINDOW_SAMPLES);
        for (slot, &sample) in mirrored.iter_mut().zip(heard.iter().rev().skip(1)) {
            *slot = sample;
        }
    }

    fn spectra(&mut self) {
        for (frame, magnitudes) in self.spectra.chunks_exact_mut(BINS).skip(1).take(FRAMES).enumerate() {
            let samples = &self.samples[frame * HOP..][..LENGTH];
            for ((slot, &sample), &hann) in self.transformed.iter_mut().zip(samples).zip(&self.model.hann) {
                *slot = Complex32::new(sample * hann, 0.0);
            }
            self.model.transform.process_with_scratch(&mut self.transformed, &mut self.scratch);
            for (magnitude, value) in magnitudes.iter_mut().zip(&self.transformed) {
                *magnitude = value.norm_sqr().sqrt();
            }
        }
    }

    fn encode(&mut self) {
        let model = self.model;
        model.encoder1.apply::<FRAMES>(&self.spectra, BINS, &mut self.encoded1[WIDTH..]);
        rectify(&mut self.encoded1);
        model.encoder2.apply::<2>(&self.encoded1, 2 * WIDTH, &mut self.encoded2);
        rectify(&mut self.encoded2);
        model.encoder3.apply::<1>(&self.encoded2, 0, &mut self.encoded3);
        rectify(&mut self.encoded3);
        model.encoder4.apply::<1>(&self.encoded3, 0, &mut self.input);
        rectify(&mut self.input[..WIDTH]);
    }

    /// One step of the recurrent layer (LSTM), and the probability that comes of it.
    fn decide(&mut self) -> f32 {
        self.model.recurrent.apply::<1>(&self.input, 0, &mut self.gates);
        let mut voiced = [0.0; WIDTH];
        for (at, voiced) in voiced.iter_mut().enumerate() {
            let gate = |number: usize| self.gates[number * WIDTH + at];
            let cell = sigmoid(gate(1)) * self.cell[at] + sigmoid(gate(0)) * gate(2).tanh();
            let output = sigmoid(gate(3)) * cell.tanh();
            self.cell[at] = cell;
            self.input[WIDTH + at] = output;
            *voiced = output.max(0.0);
        }
        let mut voice = [0.0];
        self.model.output.apply::<1>(&voiced, 0, &mut voice);
        sigmoid(voice[0])
    }
}

impl VoiceActivity for Silero {
    fn voice(&mut self, window: &[i16]) -> f32 {
        self.take(window);
        self.spectra();
        self.encode();
        self.decide()
    }

    fn reset(&mut self) {
        self.samples.fill(0.0);
        self.input.fill(0.0);
        self.cell.fill(0.0);
    }
}

impl Default for Silero {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Silero {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Silero").finish_non_exhaustive()
    }
}

/// Negative values become zero.
fn rectify(values: &mut [f32]) {
    for value in values {
        *value = value.max(0.0);
    }
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::mulaw;

    /// The clip whose probabilities are in the reference, each sample twice.
    fn clip(windows: usize) -> Vec<i16> {
        let codes = include_bytes!("../../../tests/corpus/speech.ulaw");
        let mut pcm = Vec::new();
        mulaw::decode(&codes[..windows * WINDOW_SAMPLES / 2], &mut pcm);
        pcm.into_iter().flat_map(|sample| [sample; 2]).collect()
    }

    fn voices(detector: &mut Silero, pcm: &[i16]) -> Vec<f32> {
        pcm.chunks_exact(WINDOW_SAMPLES).map(|window| detector.voice(window)).collect()
    }

    #[test]
    fn it_answers_as_onnxruntime_does() {
        let (expected, rest) = include_bytes!("silero/reference.bin").as_chunks::<4>();
        assert!(expected.len() > 600 && rest.is_empty());
        let answers = voices(&mut Silero::new(), &clip(expected.len()));
        let (mut worst, mut voiced) = (0.0_f32, 0);
        for (answer, &expected) in answers.iter().zip(expected) {
            let expected = f32::from_le_bytes(expected);
            worst = worst.max((answer - expected).abs());
            voiced += usize::from(expected >= 0.5);
        }
        assert!(worst < 1e-3, "{worst}");
        assert!(voiced > 200, "the reference is silent");
    }

    #[test]
    fn a_reset_forgets_everything() {
        let pcm = clip(80);
        let mut detector = Silero::new();
        let first = voices(&mut detector, &pcm);
        assert_ne!(voices(&mut detector, &pcm), first);
        detector.reset();
        assert_eq!(voices(&mut detector, &pcm), first);
    }

    #[test]
    fn every_weight_is_used() {
        let layers = [(TAPS * BINS, WIDTH), (TAPS * WIDTH, NARROW), (2 * NARROW, NARROW), (NARROW, WIDTH)];
        let layers = layers.into_iter().chain([(2 * WIDTH, 4 * WIDTH), (WIDTH, 1)]);
        let weights: usize = layers.map(|(inputs, outputs)| (inputs + 1) * outputs).sum();
        assert_eq!(include_bytes!("silero/weights.bin").len(), weights * 4);
    }

    #[test]
    fn extremes_give_probabilities() {
        let mut detector = Silero::new();
        for sample in [0, i16::MAX, i16::MIN] {
            for _ in 0..100 {
                let voice = detector.voice(&[sample; WINDOW_SAMPLES]);
                assert!((0.0..=1.0).contains(&voice), "{voice}");
            }
        }
    }
}
