//! Accuracy and cost of detectors as Markdown tables.

use std::{fmt::Write as _, hint::black_box, time::Instant};

use audio_worker::ears::{Silero, VoiceActivity, WINDOW_SAMPLES};

use super::{Condition, Energy, edges, nuisance, score};
use crate::corpus::{Noise, Speech, disturbances};

/// Minutes of disturbances that are listened to.
const MINUTES: usize = 10;
/// Windows of a pass: a second, short enough that most passes are not interrupted.
const PASS: usize = 31;
/// Passes; the quickest and the median are told.
const PASSES: usize = 401;

/// Makes a detector.
type Make = fn() -> Box<dyn VoiceActivity>;

/// The detectors that are compared: what the worker hears with, and the simplest there is.
const DETECTORS: [(&str, Make); 2] =
    [("silero", || Box::new(Silero::new())), ("energy", || Box::new(Energy::default()))];

/// Measures all of it.
///
/// # Errors
/// When the line's resampler fails.
pub fn report() -> anyhow::Result<String> {
    let mut text = String::new();
    accuracy(&mut text)?;
    delays(&mut text)?;
    nuisances(&mut text)?;
    costs(&mut text);
    Ok(text)
}

fn accuracy(text: &mut String) -> anyhow::Result<()> {
    let speech = Speech::bundled();
    text.push_str("Balanced accuracy (hit rate / false alarm rate):\n\n| line |");
    heads(text, |name| format!("{name} |"), "---|");
    for condition in Condition::ALL {
        // Writing to a string cannot fail; so below.
        let _ = write!(text, "| {condition} |");
        for (_, make) in DETECTORS {
            let score = score(make(), &speech, condition)?;
            let (hits, alarms) = (score.hit_rate(), score.false_alarm_rate());
            let _ = write!(text, " {:.3} ({hits:.2} / {alarms:.2}) |", score.balanced());
        }
        text.push('\n');
    }
    Ok(())
}

fn delays(text: &mut String) -> anyhow::Result<()> {
    let speech = Speech::bundled();
    text.push_str("\nFrom an edge of speech to the end of the window that tells, ms:\n\n");
    text.push_str("| detector | condition | onset p50 | p95 | ending p50 | p95 |\n|---|---|---:|---:|---:|---:|\n");
    for (name, make) in DETECTORS {
        for condition in [Condition::CLEAN, Condition::noisy(Noise::Pink, 10.0)] {
            let edges = edges(make(), &speech, condition)?;
            let at = |sorted: &[f64], percent: usize| {
                sorted
                    .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
                    .copied()
                    .unwrap_or(f64::NAN)
            };
            let [onset, late_onset] = [50, 95].map(|percent| at(&edges.onsets_ms, percent));
            let [ending, late_ending] = [50, 95].map(|percent| at(&edges.endings_ms, percent));
            let _ = writeln!(
                text,
                "| {name} | {condition} | {onset:.0} | {late_onset:.0} | {ending:.0} | {late_ending:.0} |"
            );
        }
    }
    Ok(())
}

fn nuisances(text: &mut String) -> anyhow::Result<()> {
    let line = disturbances(MINUTES);
    let _ = write!(
        text,
        "\n{MINUTES} minutes in which nobody takes the turn; the longest voice in a row:\n\n| sound | of them |"
    );
    heads(text, |name| format!("{name} | longest ms |"), "---:|---:|");
    let [ours, simple] = DETECTORS.map(|(_, make)| nuisance(make(), &line));
    for (ours, simple) in ours?.into_iter().zip(simple?) {
        let sound = ours.kind.map_or("between".to_owned(), |kind| format!("{kind:?}").to_lowercase());
        let _ = write!(text, "| {sound} | {} |", ours.count);
        for row in [ours, simple] {
            let _ = write!(text, " {} | {} |", row.voiced, row.longest * 32);
        }
        text.push('\n');
    }
    Ok(())
}

/// The rest of a table's head: columns of each detector.
fn heads(text: &mut String, columns: impl Fn(&str) -> String, rule: &str) {
    let first = text.rsplit('\n').next().map_or(1, |line| line.matches('|').count() - 1);
    for (name, _) in DETECTORS {
        let _ = write!(text, " {}", columns(name));
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(first - 1));
    text.push_str(&rule.repeat(DETECTORS.len()));
    text.push('\n');
}

fn costs(text: &mut String) {
    text.push_str("\n| detector | quickest µs / 32 ms | median |\n|---|---:|---:|\n");
    let speech: Vec<i16> = Speech::bundled().pcm.into_iter().flat_map(|sample| [sample; 2]).collect();
    for (name, make) in DETECTORS {
        let mut detector = make();
        let passes = speech.chunks_exact(PASS * WINDOW_SAMPLES).cycle().take(PASSES);
        let mut passes: Vec<f64> = passes.map(|speech| pass(detector.as_mut(), speech)).collect();
        passes.sort_by(f64::total_cmp);
        let _ = writeln!(text, "| {name} | {:.1} | {:.1} |", passes[0], passes[PASSES / 2]);
    }
}

/// Microseconds a window.
fn pass(detector: &mut dyn VoiceActivity, speech: &[i16]) -> f64 {
    let began = now();
    for window in speech.chunks_exact(WINDOW_SAMPLES) {
        black_box(detector.voice(black_box(window)));
    }
    began.elapsed().as_secs_f64() * 1e6 / PASS as f64
}

#[expect(clippy::disallowed_methods, reason = "a measurement takes the clock")]
fn now() -> Instant {
    Instant::now()
}
