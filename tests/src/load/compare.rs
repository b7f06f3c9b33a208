//! What something costs: the same steps without and with it, in turn, so that a machine that grows slower is not taken for a
//! cost.

use std::fmt::Write as _;

use serde::Serialize;

use super::StepReport;

/// The steps of one start of the pair.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// With what is compared; without it otherwise.
    pub is_varied: bool,
    /// In the order of the plan, which is the same for all rounds.
    pub steps: Vec<StepReport>,
}

/// Rounds without and with something, and what it adds.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What the varied rounds have that the others have not.
    pub what: String,
    /// In the order in which they were run.
    pub rounds: Vec<Round>,
    /// Of each step.
    pub ratios: Vec<Ratio>,
}

/// CPU time per frame at so many calls, in µs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Concurrent calls.
    pub calls: u32,
    /// Of each round without, in order.
    pub base: Vec<f64>,
    /// Of each round with.
    pub varied: Vec<f64>,
    /// Mean with over mean without.
    pub ratio: f64,
    /// The same of each process.
    pub by_process: Vec<(String, f64)>,
    /// Median latency without and with, in ms: means over the rounds.
    pub latency_ms: Option<(f64, f64)>,
}

impl Comparison {
    /// Of these rounds.
    pub fn new(what: String, rounds: Vec<Round>) -> Self {
        let count = rounds.iter().map(|round| round.steps.len()).min().unwrap_or(0);
        let ratios = (0..count).map(|step| ratio(&rounds, step)).collect();
        Self { what, rounds, ratios }
    }

    /// All steps of all rounds.
    pub fn steps(&self) -> impl Iterator<Item = &StepReport> {
        self.rounds.iter().flat_map(|round| &round.steps)
    }

    /// A row per step.
    pub fn markdown(&self) -> String {
        let list = |figures: &[f64]| figures.iter().map(|us| format!("{us:.1}")).collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "| calls | base µs/frame | {0} µs/frame | {0} / base | by process | base p50 ms | {0} p50 ms | added ms |\n\
             |---:|---|---|---:|---|---:|---:|---:|\n",
            self.what
        );
        for Ratio { calls, base, varied, ratio, by_process, latency_ms } in &self.ratios {
            let by_process: Vec<_> = by_process.iter().map(|(name, ratio)| format!("{name} {ratio:.3}")).collect();
            let latency = latency_ms.map_or("- | - | -".to_owned(), |(base, varied)| {
                format!("{base:.2} | {varied:.2} | {:+.2}", varied - base)
            });
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {calls} | {} | {} | {ratio:.3} | {} | {latency} |",
                list(base),
                list(varied),
                by_process.join(", ")
            );
        }
        text
    }
}

fn ratio(rounds: &[Round], step: usize) -> Ratio {
    let of = |is_varied: bool| rounds.iter().filter(move |round| round.is_varied == is_varied).map(|r| &r.steps[step]);
    let total = |is_varied| of(is_varied).map(|step| step.us_per_frame).collect::<Vec<_>>();
    let (base, varied) = (total(false), total(true));
    let first = &rounds[0].steps[step];
    let by_process = (0..first.cost.len()).map(|process| {
        let cost = |step: &StepReport| {
            step.cost.get(process).map_or(0.0, |cost| cost.user_us_per_frame + cost.system_us_per_frame)
        };
        let (base, varied): (Vec<_>, Vec<_>) = (of(false).map(cost).collect(), of(true).map(cost).collect());
        (first.cost[process].name.clone(), mean(&varied) / mean(&base))
    });
    let medians =
        |is_varied| of(is_varied).map(|step| step.latency.map(|latency| latency.p50_ms)).collect::<Option<_>>();
    let latency_ms =
        medians(false).zip(medians(true)).map(|(base, varied): (Vec<_>, Vec<_>)| (mean(&base), mean(&varied)));
    let (calls, ratio) = (first.calls, mean(&varied) / mean(&base));
    Ratio { calls, ratio, by_process: by_process.collect(), base, varied, latency_ms }
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len() as f64
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Latency, ProcessCost},
        *,
    };

    fn round(is_varied: bool, gateway: f64, worker: f64) -> Round {
        let cost = [("gateway", gateway), ("worker", worker)].map(|(name, us)| ProcessCost {
            name: name.to_owned(),
            user_us_per_frame: us / 2.0,
            system_us_per_frame: us / 2.0,
            busy: 0.0,
            threads: Vec::new(),
        });
        let step = StepReport {
            calls: 50,
            seconds: 1.0,
            frames_sent: 1,
            frames_received: 1,
            frames_lost: 0,
            tones: 0,
            tones_missed: 0,
            latency: Some(Latency { p50_ms: gateway, p90_ms: 0.0, p99_ms: 0.0, max_ms: 0.0 }),
            setup: None,
            us_per_frame: gateway + worker,
            cost: cost.to_vec(),
            memory: Vec::new(),
            scrapes: Vec::new(),
            lateness_p99_ms: 0.0,
            load_busy: 0.0,
            invalid: Vec::new(),
            disturbed: Vec::new(),
        };
        Round { is_varied, steps: vec![step] }
    }

    #[test]
    fn the_ratio_is_of_the_means() {
        let rounds = [(false, 20.0, 20.0), (true, 22.0, 21.0), (false, 30.0, 30.0), (true, 33.0, 34.0)];
        let rounds = rounds.map(|(is_varied, gateway, worker)| round(is_varied, gateway, worker));
        let comparison = Comparison::new("telemetry".to_owned(), rounds.to_vec());
        let [Ratio { ratio, by_process, base, varied, .. }] = &comparison.ratios[..] else { panic!("one step") };
        assert_eq!((&base[..], &varied[..]), (&[40.0, 60.0][..], &[43.0, 67.0][..]));
        assert!((ratio - 1.1).abs() < 1e-9);
        assert_eq!(by_process, &[("gateway".to_owned(), 1.1), ("worker".to_owned(), 1.1)]);
        assert!(comparison.markdown().contains(
            "| 50 | 40.0, 60.0 | 43.0, 67.0 | 1.100 | gateway 1.100, worker 1.100 | 25.00 | 27.50 | +2.50 |"
        ));
    }
}
