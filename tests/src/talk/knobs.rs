//! What each knob of turn-taking buys, as a Markdown table.

use std::{fmt::Write as _, time::Duration};

use audio_worker::turn_taking::Settings;

use super::{Clip, Delays, Listened, interruptions, paused, phone::now, recorded, rehearse};

/// Pauses within what is said, ms.
const PAUSES_MS: std::ops::RangeInclusive<u64> = 100..=400;
/// From one to the next, ms.
const PAUSE_STEP_MS: usize = 30;
/// Places of a line on the grids of frames and windows, in samples.
const PHASES: [usize; 3] = [0, 64, 128];
/// Silences at which an answer is guessed, and at which a turn ends, ms.
const GUESSES_MS: [u64; 2] = [32, 64];
const ENDPOINTS_MS: [u64; 5] = [384, 416, 448, 480, 512];
/// Lengths of voice that interrupt, ms.
const BARGE_INS_MS: [u64; 3] = [64, 96, 128];

/// Rehearses the recorded lines with settings around the defaults.
///
/// # Errors
/// When the line's resampler fails.
pub fn knobs() -> anyhow::Result<String> {
    let (clips, start) = (recorded(), now().into_std());
    let ms = Duration::from_millis;
    let delays = Delays { words: ms(125), clause: ms(165), sound: ms(85) };
    let at = |index: usize, phase: usize| (index * 37 + phase) % 256;
    let plain =
        PHASES.iter().flat_map(|phase| clips.iter().enumerate().map(move |(index, clip)| (index, clip, *phase)));
    let plain = plain.map(|(index, clip, phase)| Listened::to(clip, at(index, phase)));
    let plain = plain.collect::<anyhow::Result<Vec<_>>>()?;
    let with_pauses = PAUSES_MS.step_by(PAUSE_STEP_MS).flat_map(|pause| {
        let of = |index: usize| -> Clip { paused(&clips, index, pause) };
        (0..clips.len()).map(|index| Listened::to(&of(index), at(index, 0))).collect::<Vec<_>>()
    });
    let with_pauses = with_pauses.collect::<anyhow::Result<Vec<_>>>()?;
    let mut text = String::from(
        "| `guess_silence_ms` | `endpoint_silence_ms` | response p50 / p95 ms | cut off at pauses | guesses a line | tokens wasted a line |\n\
         |---:|---:|---|---:|---:|---:|\n",
    );
    for guess in GUESSES_MS {
        for endpoint in ENDPOINTS_MS {
            let settings = Settings { guess_silence: ms(guess), endpoint_silence: ms(endpoint), ..Settings::default() };
            let quick = rehearse(&plain, &settings, delays, start);
            let careful = rehearse(&with_pauses, &settings, delays, start);
            // Writing to a string cannot fail; so below.
            let _ = writeln!(
                text,
                "| {guess} | {endpoint} | {:.0} / {:.0} | {:.1} % | {:.1} | {:.1} |",
                quick.response_ms(50),
                quick.response_ms(95),
                100.0 * careful.cut_off_rate(),
                quick.guesses as f64 / quick.turns.max(1) as f64,
                quick.wasted_tokens as f64 / quick.turns.max(1) as f64,
            );
        }
    }
    text.push_str("\n| `barge_in_ms` | stopped after p50 / p95 ms | never |\n|---:|---|---:|\n");
    for barge_in in BARGE_INS_MS {
        let settings = Settings { barge_in: ms(barge_in), ..Settings::default() };
        let times = interruptions(&plain, &settings, start);
        let percentile = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        let (p50, p95) = (percentile(50).copied().unwrap_or(f64::NAN), percentile(95).copied().unwrap_or(f64::NAN));
        let _ = writeln!(text, "| {barge_in} | {p50:.0} / {p95:.0} | {} |", plain.len() - times.len());
    }
    Ok(text)
}
