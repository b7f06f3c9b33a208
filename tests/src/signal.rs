//! Pure: measurements on 8 kHz PCM, to judge what the caller heard against what was said.
//!
//! `signal/align.rs` finds the delay and what remains when it is taken out; `signal/tone.rs` finds
//! where a tone begins, and `signal/dtmf.rs` which keys are heard. Samples are `i16` throughout; levels are in dB.

mod align;
mod dtmf;
mod tone;

pub use align::{Alignment, EdgeError, Fidelity, align, edge_error, fidelity};
pub use dtmf::{Press, keys_in, presses};
pub use tone::{tone, tone_onset, tone_power, tone_share};
