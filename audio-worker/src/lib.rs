//! audio-worker
pub mod dsp;
