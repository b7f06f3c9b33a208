//! What agents that take turns count: where the time of an answer goes, who interrupts whom, which providers fail.

use std::time::Duration;

use prometheus::{Counter, Histogram, HistogramVec, IntCounter, IntCounterVec};
use telemetry::metrics::{Error, Register};

use crate::{
    agent::{AgentStats, Report, Stage, Turn, Verdict},
    provider::Fault,
};

/// Times of an answer, in seconds: a person waits some 0.2, and takes a second for a fault of the line.
const RESPONSE_SECONDS: [f64; 13] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0];

#[derive(Debug)]
pub(super) struct Talk {
    response_seconds: Histogram,
    stage_seconds: HistogramVec,
    provider_errors: IntCounterVec,
    tool_calls: IntCounterVec,
    tool_seconds: Histogram,
    turns: IntCounter,
    cut_off: IntCounter,
    barge_ins: IntCounter,
    false_interruptions: IntCounter,
    guesses: IntCounter,
    guesses_forgotten: IntCounter,
    silence_prompts: IntCounter,
    wasted_tokens: IntCounter,
    pub(super) transcript_lines_dropped: IntCounter,
    concealed_seconds: Counter,
    comfort_noise_seconds: Counter,
    agent_dropped_seconds: Counter,
}

impl Talk {
    pub(super) fn new(names: &Register) -> Result<Self, Error> {
        let talk = Self {
            response_seconds: names.histogram(
                "response_seconds",
                "From the caller's last sound to the first one of the answer",
                &RESPONSE_SECONDS,
            )?,
            stage_seconds: names.histograms(
                "turn_stage_seconds",
                "From the caller's last sound to the end of a stage of the answer",
                &RESPONSE_SECONDS,
                "stage",
            )?,
            provider_errors: names.counters(
                "provider_errors_total",
                "Requests to providers that failed",
                &["stage", "kind"],
            )?,
            // Names of tools are the operator's and stand in transcripts and traces; as labels they would be without bound.
            tool_calls: names.counters("tool_calls_total", "Tools that models called", &["outcome"])?,
            tool_seconds: names.histogram("tool_seconds", "How long tools took", &RESPONSE_SECONDS)?,
            turns: names.counter("turns_total", "Turns of callers that were answered, or begun to be")?,
            cut_off: names.counter("cut_off_total", "Answers that the caller forestalled by going on")?,
            barge_ins: names.counter("barge_ins_total", "Interruptions of agents by callers' words")?,
            false_interruptions: names
                .counter("false_interruptions_total", "Interruptions without words, after which the agent went on")?,
            guesses: names.counter("guesses_total", "Answers prepared before the caller's turn was over")?,
            guesses_forgotten: names.counter("guesses_forgotten_total", "Of those, answers that were thrown away")?,
            silence_prompts: names.counter("silence_prompts_total", "Silences of callers that were prompted")?,
            wasted_tokens: names.counter(
                "wasted_tokens_total",
                "Pieces of text, mostly a token each, of answers that were thrown away before anybody heard them",
            )?,
            transcript_lines_dropped: names
                .counter("transcript_lines_dropped_total", "Lines of transcripts that found no room")?,
            concealed_seconds: names
                .seconds("concealed_seconds_total", "Gaps that were filled with the sound before them")?,
            comfort_noise_seconds: names.seconds("comfort_noise_seconds_total", "Gaps that were filled with noise")?,
            agent_dropped_seconds: names.seconds(
                "agent_dropped_seconds_total",
                "Sound of remote agents that came after it had been interrupted, or had ended the call",
            )?,
        };
        for (stage, _) in stages(&Turn::default()) {
            talk.stage_seconds.with_label_values(&[stage]);
        }
        for (stage, fault) in Stage::ALL.into_iter().flat_map(|stage| Fault::ALL.map(|fault| (stage, fault))) {
            talk.provider_errors.with_label_values(&[stage.label(), fault.label()]);
        }
        for verdict in Verdict::ALL {
            talk.tool_calls.with_label_values(&[verdict.label()]);
        }
        Ok(talk)
    }

    /// An agent told something.
    pub(super) fn reported(&self, report: &Report) {
        match report {
            Report::Turn(turn) => {
                if let Some(response) = turn.first_sent {
                    self.response_seconds.observe(response.as_secs_f64());
                }
                for (stage, took) in stages(turn) {
                    if let Some(took) = took {
                        self.stage_seconds.with_label_values(&[stage]).observe(took.as_secs_f64());
                    }
                }
            }
            Report::Fault { stage, fault, .. } => {
                self.provider_errors.with_label_values(&[stage.label(), fault.label()]).inc();
            }
            Report::Tool(tool) => {
                self.tool_calls.with_label_values(&[tool.verdict.label()]).inc();
                self.tool_seconds.observe(tool.took.as_secs_f64());
            }
            Report::Speech { .. } | Report::Said { .. } => {}
        }
    }

    /// An agent counted `stats`, of which `told` was told before.
    pub(super) fn counted(&self, stats: &AgentStats, told: &AgentStats) {
        let new = |of: fn(&AgentStats) -> u64| of(stats).saturating_sub(of(told));
        self.turns.inc_by(new(|agent| agent.floor.turns));
        self.cut_off.inc_by(new(|agent| agent.floor.cut_off));
        self.barge_ins.inc_by(new(|agent| agent.floor.barge_ins));
        self.false_interruptions.inc_by(new(|agent| agent.floor.false_interruptions));
        self.guesses.inc_by(new(|agent| agent.floor.guesses));
        self.guesses_forgotten.inc_by(new(|agent| agent.floor.forgotten));
        self.silence_prompts.inc_by(new(|agent| agent.floor.prompts));
        self.wasted_tokens.inc_by(new(|agent| agent.wasted_tokens));
        self.concealed_seconds.inc_by(seconds(new(|agent| agent.ears.concealed_ms)));
        self.comfort_noise_seconds.inc_by(seconds(new(|agent| agent.ears.comfort_noise_ms)));
        self.agent_dropped_seconds.inc_by(seconds(new(|agent| agent.dropped_ms)));
    }
}

/// The stages of a turn as labels.
fn stages(turn: &Turn) -> [(&'static str, Option<Duration>); 5] {
    [
        ("endpoint", turn.endpoint),
        ("speech_to_text", turn.speech_to_text),
        ("first_token", turn.first_token),
        ("first_audio", turn.first_audio),
        ("first_sent", turn.first_sent),
    ]
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn_taking;

    #[test]
    fn turns_faults_and_counts_are_told_once() {
        let names = Register::new("tandem_worker", "1.2.3").unwrap();
        let talk = Talk::new(&names).unwrap();
        let ms = |ms| Some(Duration::from_millis(ms));
        talk.reported(&Report::Turn(Turn { endpoint: ms(250), first_sent: ms(700), ..Turn::default() }));
        // An answer of which nothing was heard is no response.
        talk.reported(&Report::Turn(Turn { endpoint: ms(90), ..Turn::default() }));
        talk.reported(&Report::Fault { stage: Stage::Chat, fault: Fault::Timeout, detail: "late".to_owned() });
        let floor = turn_taking::Stats { turns: 2, guesses: 3, forgotten: 1, barge_ins: 1, ..Default::default() };
        let earlier = AgentStats { floor, dropped_ms: 1500, ..AgentStats::default() };
        let later = AgentStats { floor: turn_taking::Stats { turns: 5, ..floor }, ..earlier };
        talk.counted(&earlier, &AgentStats::default());
        talk.counted(&later, &earlier);
        let text = names.text();
        for line in [
            "tandem_worker_response_seconds_bucket{le=\"0.6\"} 0",
            "tandem_worker_response_seconds_bucket{le=\"0.8\"} 1",
            "tandem_worker_response_seconds_count 1",
            "tandem_worker_turn_stage_seconds_count{stage=\"endpoint\"} 2",
            "tandem_worker_turn_stage_seconds_bucket{stage=\"endpoint\",le=\"0.1\"} 1",
            "tandem_worker_turn_stage_seconds_count{stage=\"first_token\"} 0",
            "tandem_worker_provider_errors_total{kind=\"timeout\",stage=\"chat\"} 1",
            "tandem_worker_provider_errors_total{kind=\"timeout\",stage=\"speech_to_text\"} 0",
            "tandem_worker_turns_total 5",
            "tandem_worker_agent_dropped_seconds_total 1.5",
            "tandem_worker_barge_ins_total 1",
            "tandem_worker_guesses_total 3",
            "tandem_worker_guesses_forgotten_total 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
