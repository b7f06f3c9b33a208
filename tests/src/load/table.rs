//! Pure: the steps of a bench as a Markdown table.

use std::fmt::Write as _;

use super::StepReport;

/// A row per step, the threads of each process, and why a step is no measurement.
pub fn markdown(steps: &[StepReport]) -> String {
    let mut text = String::from(
        "| calls | frames sent | received | lost | p50 ms | p90 ms | p99 ms | max ms | µs/frame | user/system | KiB/call | valid |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|---|\n",
    );
    for step in steps {
        text.push_str(&row(step));
    }
    text.push_str("\n| calls | process | µs/frame | busy | threads (µs/frame) | idle KiB | loaded KiB | KiB/minute |\n|---:|---|---:|---:|---|---:|---:|---:|\n");
    for step in steps {
        text.push_str(&processes(step));
    }
    for step in steps {
        for why in &step.invalid {
            // Writing to a string cannot fail; so below.
            let _ = writeln!(text, "\nINVALID ({} calls): {why}", step.calls);
        }
    }
    text
}

fn row(step: &StepReport) -> String {
    let latency = step.latency.map_or("- | - | - | -".to_owned(), |l| {
        format!("{:.1} | {:.1} | {:.1} | {:.1}", l.p50_ms, l.p90_ms, l.p99_ms, l.max_ms)
    });
    let user: f64 = step.cost.iter().map(|c| c.user_us_per_frame).sum();
    let system: f64 = step.cost.iter().map(|c| c.system_us_per_frame).sum();
    let memory: Vec<String> = step.memory.iter().map(|m| format!("{} {:.0}", m.name, m.kib_per_call)).collect();
    let valid = if step.invalid.is_empty() { "yes" } else { "NO" };
    format!(
        "| {} | {} | {} | {} | {latency} | {:.1} | {user:.1}/{system:.1} | {} | {valid} |\n",
        step.calls,
        step.frames_sent,
        step.frames_received,
        step.frames_lost,
        step.us_per_frame,
        memory.join(", ")
    )
}

fn processes(step: &StepReport) -> String {
    let mut text = String::new();
    for (cost, memory) in step.cost.iter().zip(&step.memory) {
        let threads: Vec<String> =
            cost.threads.iter().map(|t| format!("{}×{} {:.1}", t.threads, t.name, t.us_per_frame)).collect();
        let slope = memory.slope.map_or("-".to_owned(), |slope| format!("{:+.1}", slope.kib_per_minute));
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.0} % | {} | {} | {} | {slope} |",
            step.calls,
            cost.name,
            cost.user_us_per_frame + cost.system_us_per_frame,
            cost.busy * 100.0,
            threads.join(", "),
            memory.idle_kib,
            memory.loaded_kib
        );
    }
    text
}
