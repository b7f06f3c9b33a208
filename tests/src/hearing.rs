//! How well a detector of voice tells speech from the rest of a telephone line, and what it costs.
//!
//! `hearing/score.rs` leads the corpus through mu-law and the worker's own ears and counts; `hearing/energy.rs` is a simple
//! detector to compare with; `hearing/report.rs` measures and prints.

mod energy;
mod report;
mod score;

pub use energy::Energy;
pub use report::report;
pub use score::{Condition, Edges, Nuisance, QUIET, Score, edges, heard, nuisance, score};
