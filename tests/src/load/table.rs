//! Pure: what a bench measured as Markdown tables.

use std::fmt::Write as _;

use super::{EdgeReport, Latency, StepReport};

/// A row per step, the threads of each process, and why a step is no measurement.
pub fn markdown(steps: &[StepReport]) -> String {
    let mut text = String::from(
        "| calls | frames sent | received | lost | p50 ms | p90 ms | p99 ms | max ms | setup p50 / p99 ms | µs/frame | user/system | KiB/call | valid |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---|---:|---|---|---|\n",
    );
    for step in steps {
        text.push_str(&row(step));
    }
    text.push_str("\n| calls | process | µs/frame | busy | threads (µs/frame) | idle KiB | loaded KiB | KiB/minute |\n|---:|---|---:|---:|---|---:|---:|---:|\n");
    for step in steps {
        text.push_str(&processes(step));
    }
    if steps.iter().any(|step| !step.scrapes.is_empty()) {
        text.push_str("\n| calls | /metrics of | asked | median ms | max ms | KiB |\n|---:|---|---:|---:|---:|---:|\n");
    }
    for (step, scrape) in steps.iter().flat_map(|step| step.scrapes.iter().map(move |scrape| (step, scrape))) {
        let kib = scrape.bytes as f64 / 1024.0;
        // Writing to a string cannot fail; so below.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.2} | {:.2} | {kib:.1} |",
            step.calls, scrape.name, scrape.scrapes, scrape.median_ms, scrape.max_ms
        );
    }
    for step in steps {
        for why in &step.invalid {
            let _ = writeln!(text, "\nINVALID ({} calls): {why}", step.calls);
        }
        for why in &step.disturbed {
            let _ = writeln!(text, "\nDISTURBED ({} calls): {why}", step.calls);
        }
    }
    text
}

/// What was measured of the edge, a row each.
pub fn edge_markdown(report: &EdgeReport) -> String {
    let row = |what: String, latency: Option<Latency>| {
        let figures = latency.map_or("- | - | - | -".to_owned(), |l| {
            format!("{:.1} | {:.1} | {:.1} | {:.1}", l.p50_ms, l.p90_ms, l.p99_ms, l.max_ms)
        });
        format!("| {what} | {figures} |\n")
    };
    let mut text =
        format!("| beside {} calls | p50 ms | p90 ms | p99 ms | max ms |\n|---|---:|---:|---:|---:|\n", report.calls);
    text.push_str(&row(format!("webhook, {} of them at {} a second", report.webhooks, report.rate), report.webhook));
    text.push_str(&row(format!("page of the list of {} ended calls", report.listed), report.page));
    text.push_str(&row("setup, TwiML to first media back".to_owned(), report.setup));
    for why in &report.invalid {
        let _ = writeln!(text, "\nINVALID: {why}");
    }
    for why in &report.disturbed {
        let _ = writeln!(text, "\nDISTURBED: {why}");
    }
    text
}

fn row(step: &StepReport) -> String {
    let latency = step.latency.map_or("- | - | - | -".to_owned(), |l| {
        format!("{:.1} | {:.1} | {:.1} | {:.1}", l.p50_ms, l.p90_ms, l.p99_ms, l.max_ms)
    });
    let setup = step.setup.map_or("-".to_owned(), |l| format!("{:.1} / {:.1}", l.p50_ms, l.p99_ms));
    let user: f64 = step.cost.iter().map(|c| c.user_us_per_frame).sum();
    let system: f64 = step.cost.iter().map(|c| c.system_us_per_frame).sum();
    let memory: Vec<String> = step.memory.iter().map(|m| format!("{} {:.0}", m.name, m.kib_per_call)).collect();
    let valid = if step.invalid.is_empty() && step.disturbed.is_empty() { "yes" } else { "NO" };
    format!(
        "| {} | {} | {} | {} | {latency} | {setup} | {:.1} | {user:.1}/{system:.1} | {} | {valid} |\n",
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
