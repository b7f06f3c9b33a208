//! Callers who converse: they wait for the agent, speak, pause and interrupt, and note when what was heard.
//!
//! `talk/phone.rs` is one call of such a caller, `talk/clips.rs` what it says.

mod clips;
mod phone;
mod staff;

pub use clips::{Clip, clips, paused};
pub use phone::{Closed, Log, Media, Phone, Spoken};
pub use staff::staff;
