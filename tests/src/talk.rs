//! Callers who converse: they wait for the agent, speak, pause and interrupt, and note when what was heard.
//!
//! `talk/phone.rs` is one call of such a caller, `talk/clips.rs` what it says, `talk/staff.rs` agents to talk to,
//! `talk/desk.rs` one of them in a running pair, and `talk/bench.rs` many such calls, measured. `talk/rehearsal.rs` holds turns in virtual time, `talk/knobs.rs` with other
//! settings each time.

mod bench;
mod clips;
mod desk;
mod knobs;
mod phone;
mod rehearsal;
mod staff;
mod transcripts;

pub use bench::{Course, TalkPlan, TalkReport, Times, converse, talk_markdown};
pub use clips::{Clip, clips, paused, recorded};
pub use desk::{CHARACTER, Desk, heard};
pub use knobs::knobs;
pub use phone::{Closed, Log, Media, Phone, Spoken};
pub use rehearsal::{Delays, Listened, Rehearsed, interruptions, rehearse};
pub use staff::{staff, staff_with_key};
pub use transcripts::Transcripts;
