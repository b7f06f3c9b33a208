//! `simulated-twilio replay`: its flags, the files it reads, what it prints.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;

use crate::sim::{CallPlan, Fill, Pace, Replay, Tape, Tolerance};

/// Largest capture that is read, in bytes: four hours with sound.
const MAX_CAPTURE_BYTES: u64 = 1 << 30;

/// What to play, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct Replaying {
    /// Captures, played one after the other.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// As fast as the gateway answers, instead of in real time.
    #[arg(long)]
    fast: bool,
    /// Silence instead of the bundled speech where a capture has no sound.
    #[arg(long)]
    silence: bool,
    /// By how much a stretch of sound may differ in length.
    #[arg(long, value_name = "MS", default_value_t = 40)]
    tolerance_ms: u32,
    /// Prints the results as JSON.
    #[arg(long)]
    json: bool,
}

/// Plays all of them; true when the gateway said the same in each.
///
/// # Errors
/// When a file cannot be read or a call cannot be placed.
#[expect(clippy::print_stdout, reason = "the results are the output")]
pub async fn replay_all(replaying: &Replaying, plan: &CallPlan) -> anyhow::Result<bool> {
    let replay = Replay {
        pace: if replaying.fast { Pace::Fast } else { Pace::RealTime },
        fill: if replaying.silence { Fill::Silence } else { Fill::Speech },
        tolerance: Tolerance::of(Duration::from_millis(replaying.tolerance_ms.into())),
    };
    let mut all_same = true;
    for file in &replaying.files {
        let name = file.display();
        let size = std::fs::metadata(file).with_context(|| name.to_string())?.len();
        anyhow::ensure!(size <= MAX_CAPTURE_BYTES, "{name}: more than {MAX_CAPTURE_BYTES} bytes");
        let text = std::fs::read_to_string(file).with_context(|| name.to_string())?;
        let tape = Tape::read(&text).with_context(|| name.to_string())?;
        let replayed = replay.play(&tape, plan).await.with_context(|| name.to_string())?;
        all_same &= replayed.differences.is_empty();
        if replaying.json {
            println!("{}", serde_json::to_string(&replayed)?);
            continue;
        }
        print!("{name}: {replayed}");
        if tape.dropped > 0 {
            println!("  {} lines of the capture are missing: the disk was too slow", tape.dropped);
        }
    }
    Ok(all_same)
}
