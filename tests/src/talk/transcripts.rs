//! Transcripts that a worker of a test writes, in a folder that is gone with the test.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::stack::{StackPlan, eventually};

/// The transcripts of one worker.
#[derive(Debug)]
pub struct Transcripts(PathBuf);

impl Transcripts {
    /// A folder of its own for the test of this name.
    pub fn of_test(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tandem-talk-{name}-{}", std::process::id())))
    }

    /// `plan` with a worker that writes them.
    #[must_use]
    pub fn kept_by(&self, plan: StackPlan) -> StackPlan {
        plan.worker("TRANSCRIPTS_DIR", self.0.to_str().expect("a path of text"))
    }

    /// The lines of a call that is over or about to be; waits for the last.
    pub async fn of_call(&self, call_sid: &str) -> Vec<Value> {
        let path = self.0.join(format!("{call_sid}.jsonl"));
        let read = || fs::read_to_string(&path).unwrap_or_default();
        eventually("the transcript is whole", async || read().contains("\"ended\"")).await;
        read().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

impl Drop for Transcripts {
    fn drop(&mut self) {
        // There is none when no call was made.
        let _ = fs::remove_dir_all(&self.0);
    }
}
