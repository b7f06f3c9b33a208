//! What the demo says about a call: whether the echo came back whole, and the story of it for a newcomer.
//!
//! `demo/verdict.rs` judges, `demo/story.rs` tells, `demo/bar.rs` shows the call while it runs; all
//! three are pure. The program itself is `bin/demo.rs`.

mod bar;
mod story;
mod verdict;

pub use bar::bar;
pub use story::{Story, commands};
pub use verdict::{Limits, Verdict, WireEcho};
