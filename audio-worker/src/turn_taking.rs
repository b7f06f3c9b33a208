//! Who has the floor: when the caller has finished, when the agent is interrupted, when an interruption was none.

mod settings;

pub use settings::Settings;
