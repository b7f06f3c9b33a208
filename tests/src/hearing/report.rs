//! Accuracy and cost of detectors as Markdown tables.

use std::{fmt::Write as _, hint::black_box, time::Instant};

use audio_worker::ears::{self, VoiceActivity, WINDOW_SAMPLES};

use super::{Condition, Energy, nuisance, score};
use crate::corpus::{Speech, disturbances};

/// Minutes of disturbances that are listened to.
const MINUTES: usize = 10;
/// Passes over the windows; the quickest and the median are told.
const PASSES: usize = 21;
/// Windows of a pass: ten seconds.
const WINDOWS: usize = 312;

/// Makes a detector.
type Make = fn() -> Box<dyn VoiceActivity>;

/// The detectors that are compared: what the worker hears with, and the simplest there is.
const DETECTORS: [(&str, Make); 2] = [("silero", ears::detector), ("energy", || Box::new(Energy::default()))];

/// Measures all of it.
///
/// # Errors
/// When the line's resampler fails.
pub fn report() -> anyhow::Result<String> {
    let mut text = String::new();
    accuracy(&mut text)?;
    nuisances(&mut text)?;
    costs(&mut text);
    Ok(text)
}

fn accuracy(text: &mut String) -> anyhow::Result<()> {
    let speech = Speech::bundled();
    text.push_str("Balanced accuracy (hit rate / false alarm rate):\n\n| detector |");
    for condition in Condition::ALL {
        // Writing to a string cannot fail; so below.
        let _ = write!(text, " {condition} |");
    }
    text.push_str("\n|---|---|---|---|---|---|---|---|---|\n");
    for (name, make) in DETECTORS {
        let _ = write!(text, "| {name} |");
        for condition in Condition::ALL {
            let score = score(make(), &speech, condition)?;
            let (hits, alarms) = (score.hit_rate(), score.false_alarm_rate());
            let _ = write!(text, " {:.3} ({hits:.2} / {alarms:.2}) |", score.balanced());
        }
        text.push('\n');
    }
    Ok(())
}

fn nuisances(text: &mut String) -> anyhow::Result<()> {
    let line = disturbances(MINUTES);
    let _ = writeln!(text, "\n{MINUTES} minutes in which nobody takes the turn; the longest voice in a row:\n");
    text.push_str("| detector | sound | of them | with voice | longest ms |\n|---|---|---:|---:|---:|\n");
    for (name, make) in DETECTORS {
        for row in nuisance(make(), &line)? {
            let sound = row.kind.map_or("between".to_owned(), |kind| format!("{kind:?}").to_lowercase());
            let _ = writeln!(text, "| {name} | {sound} | {} | {} | {} |", row.count, row.voiced, row.longest * 32);
        }
    }
    Ok(())
}

fn costs(text: &mut String) {
    text.push_str("\n| detector | quickest µs / 32 ms | median |\n|---|---:|---:|\n");
    let speech: Vec<i16> = Speech::bundled().pcm.into_iter().flat_map(|sample| [sample; 2]).collect();
    for (name, make) in DETECTORS {
        let mut detector = make();
        let mut passes: Vec<f64> = (0..PASSES).map(|_| pass(detector.as_mut(), &speech)).collect();
        passes.sort_by(f64::total_cmp);
        let _ = writeln!(text, "| {name} | {:.1} | {:.1} |", passes[0], passes[PASSES / 2]);
    }
}

/// Microseconds a window.
fn pass(detector: &mut dyn VoiceActivity, speech: &[i16]) -> f64 {
    let began = now();
    for window in speech.chunks_exact(WINDOW_SAMPLES).take(WINDOWS) {
        black_box(detector.voice(black_box(window)));
    }
    began.elapsed().as_secs_f64() * 1e6 / WINDOWS as f64
}

#[expect(clippy::disallowed_methods, reason = "a measurement takes the clock")]
fn now() -> Instant {
    Instant::now()
}
