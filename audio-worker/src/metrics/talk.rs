//! What conversing agents count, under its Prometheus names.

use std::time::Duration;

use prometheus::{Counter, Histogram, HistogramVec, IntCounter, IntCounterVec};
use telemetry::metrics::{Error, Register};

use crate::{
    agent::{AgentStats, Report, Stage, Turn},
    provider::Fault,
};

/// From the caller's last sound to the agent's first, in seconds: half a second is the aim.
const RESPONSE_SECONDS: [f64; 12] = [0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0];

/// The instruments of conversing agents.
#[derive(Debug)]
pub(super) struct TalkInstruments {
    response: Histogram,
    stages: HistogramVec,
    faults: IntCounterVec,
    turns: IntCounter,
    guesses: IntCounterVec,
    cut_offs: IntCounter,
    barge_ins: IntCounterVec,
    prompts: IntCounter,
    wasted_tokens: IntCounter,
    filled_seconds: [Counter; 2],
    pub(super) transcript_lines_dropped: IntCounter,
}

impl TalkInstruments {
    pub(super) fn new(names: &Register) -> Result<Self, Error> {
        let talk = Self {
            response: names.histogram(
                "response_seconds",
                "From the caller's last sound to the agent's first",
                &RESPONSE_SECONDS,
            )?,
            stages: names.histograms(
                "turn_stage_seconds",
                "From the caller's last sound until a stage of the answer was reached",
                &RESPONSE_SECONDS,
                "stage",
            )?,
            faults: names.counters(
                "provider_faults_total",
                "Requests to providers that failed",
                &["stage", "fault"],
            )?,
            turns: names.counter("turns_total", "Turns of callers that were answered or begun to be")?,
            guesses: names.counters(
                "guesses_total",
                "Answers prepared before it was sure that the caller had finished",
                &["outcome"],
            )?,
            cut_offs: names.counter("cut_offs_total", "Callers who went on after their turn was taken as finished")?,
            barge_ins: names.counters(
                "barge_ins_total",
                "Interruptions of an agent by the caller: with words, or none after all",
                &["outcome"],
            )?,
            prompts: names.counter("silence_prompts_total", "Silences of callers that were prompted")?,
            wasted_tokens: names.counter(
                "wasted_tokens_total",
                "Pieces of text, mostly a token each, of answers that were thrown away before anybody heard them",
            )?,
            filled_seconds: [
                names.seconds("concealed_seconds_total", "Gaps that were filled with what came before")?,
                names.seconds("comfort_noise_seconds_total", "Gaps that were filled with noise")?,
            ],
            transcript_lines_dropped: names
                .counter("transcript_lines_dropped_total", "Lines of transcripts that found no room")?,
        };
        for stage in Stage::ALL {
            for fault in Fault::ALL {
                talk.faults.with_label_values(&[stage.label(), fault.label()]);
            }
        }
        for (name, _) in stages(&Turn::default()) {
            talk.stages.with_label_values(&[name]);
        }
        for outcome in ["used", "thrown_away"] {
            talk.guesses.with_label_values(&[outcome]);
        }
        for outcome in ["confirmed", "false"] {
            talk.barge_ins.with_label_values(&[outcome]);
        }
        Ok(talk)
    }

    /// An agent told something.
    pub(super) fn report(&self, report: &Report) {
        match report {
            Report::Turn(turn) => {
                for (name, time) in stages(turn) {
                    if let Some(time) = time {
                        self.stages.with_label_values(&[name]).observe(time.as_secs_f64());
                    }
                }
                if let Some(time) = turn.first_sent {
                    self.response.observe(time.as_secs_f64());
                }
            }
            Report::Fault { stage, fault, .. } => {
                self.faults.with_label_values(&[stage.label(), fault.label()]).inc();
            }
            Report::Speech { .. } | Report::Said { .. } => {}
        }
    }

    /// An agent counted `stats` in all.
    pub(super) fn counted(&self, stats: &AgentStats) {
        let forgotten = stats.floor.forgotten;
        self.turns.inc_by(stats.floor.turns);
        self.guesses.with_label_values(&["used"]).inc_by(stats.floor.guesses.saturating_sub(forgotten));
        self.guesses.with_label_values(&["thrown_away"]).inc_by(forgotten);
        self.cut_offs.inc_by(stats.floor.cut_off);
        self.barge_ins.with_label_values(&["confirmed"]).inc_by(stats.floor.barge_ins);
        self.barge_ins.with_label_values(&["false"]).inc_by(stats.floor.false_interruptions);
        self.prompts.inc_by(stats.floor.prompts);
        self.wasted_tokens.inc_by(stats.wasted_tokens);
        self.filled_seconds[0].inc_by(stats.ears.concealed_ms as f64 / 1000.0);
        self.filled_seconds[1].inc_by(stats.ears.comfort_noise_ms as f64 / 1000.0);
    }
}

fn stages(turn: &Turn) -> [(&'static str, Option<Duration>); 5] {
    [
        ("endpoint", turn.endpoint),
        ("speech_to_text", turn.speech_to_text),
        ("first_token", turn.first_token),
        ("first_audio", turn.first_audio),
        ("first_sent", turn.first_sent),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn_taking;

    #[test]
    fn turns_and_faults_are_counted_by_stage() {
        let names = Register::new("tandem_worker", "0").unwrap();
        let talk = TalkInstruments::new(&names).unwrap();
        let turn = Turn {
            endpoint: Some(Duration::from_millis(400)),
            first_sent: Some(Duration::from_millis(420)),
            ..Turn::default()
        };
        talk.report(&Report::Turn(turn));
        talk.report(&Report::Fault { stage: Stage::Chat, fault: Fault::Busy, detail: String::new() });
        let floor = turn_taking::Stats { guesses: 5, forgotten: 2, barge_ins: 1, ..turn_taking::Stats::default() };
        let stats = AgentStats { floor, wasted_tokens: 7, ..AgentStats::default() };
        talk.counted(&stats);
        let text = names.text();
        for line in [
            "tandem_worker_response_seconds_bucket{le=\"0.4\"} 0",
            "tandem_worker_response_seconds_bucket{le=\"0.45\"} 1",
            "tandem_worker_turn_stage_seconds_count{stage=\"endpoint\"} 1",
            "tandem_worker_turn_stage_seconds_count{stage=\"first_token\"} 0",
            "tandem_worker_provider_faults_total{fault=\"busy\",stage=\"chat\"} 1",
            "tandem_worker_guesses_total{outcome=\"used\"} 3",
            "tandem_worker_barge_ins_total{outcome=\"confirmed\"} 1",
            "tandem_worker_wasted_tokens_total 7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
