//! What the core tells the gateway, in the words of the contract.

use proto::v1::{self, ConverseResponse, converse_response::Message};

use crate::{
    agent::{Report, Speaker},
    provider::meter::{Costs, Entry},
    turn::{Outcome, ToGateway},
};

/// One message; `media_time_ms` is the carrier's clock by what has come from it. What a gateway need not know is an empty
/// message, which it ignores.
pub(super) fn to_wire(message: ToGateway, media_time_ms: u64) -> ConverseResponse {
    let message = match message {
        ToGateway::Audio { utterance, mulaw, continues } => {
            Message::Audio(v1::AgentAudio { utterance, mulaw, continues })
        }
        ToGateway::UtteranceEnd { utterance } => Message::UtteranceEnd(v1::UtteranceEnd { utterance }),
        ToGateway::Interrupt { utterance } => Message::Interrupt(v1::Interrupt { utterance }),
        ToGateway::Hangup { reason, after_playback } => Message::Hangup(v1::Hangup { reason, after_playback }),
        ToGateway::Transfer { to, after_playback } => Message::Transfer(v1::Transfer { to, after_playback }),
        ToGateway::Instructed { id, outcome, detail } => {
            let outcome = match outcome {
                Outcome::Done => v1::InstructOutcome::Done,
                Outcome::Invalid => v1::InstructOutcome::Invalid,
                Outcome::UnknownAgent => v1::InstructOutcome::UnknownAgent,
                Outcome::Unsupported => v1::InstructOutcome::Unsupported,
            };
            Message::Instructed(v1::Instructed { id, outcome: outcome.into(), detail })
        }
        ToGateway::Report { report, utterance } => return report_to_wire(report, utterance, media_time_ms),
        ToGateway::Draining(left) => Message::Draining(v1::Draining { deadline: left.try_into().ok() }),
    };
    ConverseResponse { message: Some(message) }
}

/// What providers cost so far.
pub(crate) fn costs_to_wire(costs: &Costs) -> ConverseResponse {
    let costs = costs.entries().iter().map(|Entry { stage, provider, cost }| v1::Cost {
        stage: stage.label().to_owned(),
        provider: (*provider).to_owned(),
        requests: cost.requests,
        failed: cost.failed,
        given_up: cost.given_up,
        stood_in: cost.stood_in,
        audio_ms: cost.audio_ms,
        characters: cost.characters,
        tokens_in: cost.tokens_in,
        tokens_out: cost.tokens_out,
        without_usage: cost.without_usage,
    });
    ConverseResponse { message: Some(Message::Costs(v1::Costs { costs: costs.collect() })) }
}

fn report_to_wire(report: Report, utterance: u64, media_time_ms: u64) -> ConverseResponse {
    let message = match report {
        Report::Speech { began } => Some(Message::Speech(v1::Speech { speaking: began, media_time_ms })),
        Report::Said { by, text, is_final, interrupted } => {
            let speaker = match by {
                Speaker::Caller => v1::Speaker::Caller,
                Speaker::Agent => v1::Speaker::Agent,
            };
            Some(Message::Transcript(v1::Transcript {
                speaker: speaker.into(),
                text,
                r#final: is_final,
                utterance,
                media_time_ms,
                interrupted,
            }))
        }
        Report::Turn(turn) => {
            let duration = |time: Option<std::time::Duration>| time.and_then(|time| time.try_into().ok());
            Some(Message::TurnMetrics(Box::new(v1::TurnMetrics {
                utterance,
                endpoint: duration(turn.endpoint),
                speech_to_text: duration(turn.speech_to_text),
                first_token: duration(turn.first_token),
                first_audio: duration(turn.first_audio),
                first_sent: duration(turn.first_sent),
            })))
        }
        Report::Fault { .. } | Report::Tool(_) => None,
    };
    ConverseResponse { message }
}
