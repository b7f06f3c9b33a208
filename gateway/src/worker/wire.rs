//! What is said to workers and by them, in the contract's form and in ours.

use std::time::Duration;

use proto::v1::{self, CloseReason, ConverseRequest, converse_request, converse_response};

use crate::session::{EndReason, Instructed, Instruction, ToWorker};

/// Longest reason why an instruction was not taken.
const MAX_DETAIL_CHARS: usize = 400;
/// Most pairs of stage and provider whose costs are kept, and longest name of either.
const MAX_COSTS: usize = 64;
const MAX_NAME_CHARS: usize = 64;
/// Longest piece of a transcript that is shown to anybody.
const MAX_TRANSCRIPT_CHARS: usize = 8000;

/// What a worker tells of a conversation beside the call itself. It does not print its words.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Aside {
    /// Somebody said something.
    Said {
        /// `caller` or `agent`.
        by: &'static str,
        text: String,
        /// False while it may still change.
        is_final: bool,
        /// Of an agent that was interrupted; the words are those that were heard.
        interrupted: bool,
    },
    /// Where the time of one turn went.
    Turn(Latencies),
    /// What providers cost so far: the whole, each time.
    Costs(Vec<Cost>),
}

/// What one family of providers cost at one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cost {
    /// As the worker calls it.
    pub(crate) stage: String,
    /// As agents files call it.
    pub(crate) provider: String,
    /// By name.
    pub(crate) counts: [(&'static str, u64); 9],
}

/// From the caller's last sound to each stage of the answer; what did not happen is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Latencies {
    pub(crate) endpoint: Option<Duration>,
    pub(crate) words: Option<Duration>,
    pub(crate) first_token: Option<Duration>,
    pub(crate) first_sound: Option<Duration>,
    pub(crate) first_sent: Option<Duration>,
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Said { by, is_final, .. } => {
                f.debug_struct("Said").field("by", by).field("is_final", is_final).finish_non_exhaustive()
            }
            Self::Turn(latencies) => f.debug_tuple("Turn").field(latencies).finish(),
            Self::Costs(costs) => f.debug_tuple("Costs").field(costs).finish(),
        }
    }
}

/// A message in the contract's form.
pub(crate) fn to_wire(message: ToWorker) -> Box<ConverseRequest> {
    use converse_request::Message;

    let message = match message {
        ToWorker::Audio { seq, media_time_ms, mulaw, .. } => {
            Message::Audio(v1::CallerAudio { seq, media_time_ms, mulaw })
        }
        ToWorker::Dtmf(key) => Message::Dtmf(v1::Dtmf { digit: key.to_string() }),
        ToWorker::Played { utterance, ms, media_time_ms, cleared } => {
            Message::Played(v1::Played { utterance, ms, media_time_ms, cleared })
        }
        ToWorker::Instruct(id, what) => Message::Instruct(v1::Instruct { id, instruction: Some(instruction(what)) }),
        ToWorker::Notice(kind, value) => Message::Notice(v1::Notice { kind: kind.to_owned(), value }),
        ToWorker::Close(reason) => Message::Close(v1::Close { reason: close_reason(&reason).into() }),
    };
    Box::new(ConverseRequest { message: Some(message) })
}

fn instruction(what: Instruction) -> v1::instruct::Instruction {
    use v1::instruct::Instruction as Wire;

    match what {
        Instruction::Say(text) => Wire::Say(v1::Say { text }),
        Instruction::PlayDigits(digits) => Wire::PlayDigits(v1::PlayDigits { digits }),
        Instruction::ChangeAgent(agent) => Wire::ChangeAgent(v1::ChangeAgent { agent }),
        Instruction::Hold => Wire::Hold(v1::Hold {}),
        Instruction::Resume => Wire::Resume(v1::Resume {}),
    }
}

pub(super) fn instructed(outcome: i32, detail: String) -> Instructed {
    use v1::InstructOutcome as Wire;

    let detail = detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL_CHARS).collect();
    match Wire::try_from(outcome) {
        Ok(Wire::Done) => Instructed::Done,
        Ok(Wire::Invalid) => Instructed::Invalid(detail),
        Ok(Wire::UnknownAgent) => Instructed::UnknownAgent(detail),
        // Neither is what a newer worker may answer any sign that it was done.
        Ok(Wire::Unsupported | Wire::Unspecified) | Err(_) => Instructed::Unsupported(detail),
    }
}

const fn close_reason(reason: &EndReason) -> CloseReason {
    match reason {
        EndReason::CallerHangup => CloseReason::CallerHangup,
        EndReason::CallerLost | EndReason::CallerSilent | EndReason::CallerStalled => CloseReason::MediaLost,
        EndReason::AgentHangup | EndReason::ApiHangup => CloseReason::AgentHangup,
        EndReason::AgentTransfer(_) | EndReason::ApiTransfer(_) | EndReason::CarrierSay(_) => CloseReason::Transfer,
        EndReason::MaxDuration => CloseReason::Limit,
        EndReason::GatewayDrained => CloseReason::GatewayDrain,
        EndReason::ProtocolError | EndReason::UnsupportedMedia => CloseReason::Protocol,
        EndReason::StartTimeout
        | EndReason::TicketRefused(_)
        | EndReason::NoWorker(_)
        | EndReason::WorkerLost
        | EndReason::Panicked => CloseReason::Unspecified,
    }
}

/// What a message tells beside the call; most tell nothing.
pub(super) fn aside(message: converse_response::Message) -> Option<Aside> {
    use converse_response::Message;

    match message {
        Message::Transcript(v1::Transcript { speaker, text, r#final: is_final, interrupted, .. }) => {
            let by = match v1::Speaker::try_from(speaker) {
                Ok(v1::Speaker::Caller) => "caller",
                Ok(v1::Speaker::Agent) => "agent",
                Ok(v1::Speaker::Unspecified) | Err(_) => return None,
            };
            let text = text.chars().take(MAX_TRANSCRIPT_CHARS).collect();
            Some(Aside::Said { by, text, is_final, interrupted })
        }
        Message::TurnMetrics(turn) => Some(Aside::Turn(Latencies {
            endpoint: duration(turn.endpoint),
            words: duration(turn.speech_to_text),
            first_token: duration(turn.first_token),
            first_sound: duration(turn.first_audio),
            first_sent: duration(turn.first_sent),
        })),
        Message::Costs(v1::Costs { costs }) => {
            Some(Aside::Costs(costs.into_iter().take(MAX_COSTS).map(cost).collect()))
        }
        Message::Ready(_)
        | Message::Audio(_)
        | Message::UtteranceEnd(_)
        | Message::Interrupt(_)
        | Message::Hangup(_)
        | Message::Transfer(_)
        | Message::Speech(_)
        | Message::Checkpoint(_)
        | Message::Draining(_)
        | Message::Instructed(_) => None,
    }
}

fn cost(told: v1::Cost) -> Cost {
    let name = |text: &str| text.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    Cost {
        stage: name(&told.stage),
        provider: name(&told.provider),
        counts: [
            ("requests", told.requests),
            ("failed", told.failed),
            ("given_up", told.given_up),
            ("stood_in", told.stood_in),
            ("audio_ms", told.audio_ms),
            ("characters", told.characters),
            ("tokens_in", told.tokens_in),
            ("tokens_out", told.tokens_out),
            ("without_usage", told.without_usage),
        ],
    }
}

/// What is less than nothing is nothing.
fn duration<T>(wire: Option<T>) -> Option<Duration>
where
    Duration: TryFrom<T>,
{
    wire.and_then(|wire| Duration::try_from(wire).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_latencies_are_told_and_never_printed() {
        let said = |speaker: v1::Speaker| {
            aside(converse_response::Message::Transcript(v1::Transcript {
                speaker: speaker.into(),
                text: "my secret".repeat(2000),
                interrupted: true,
                ..v1::Transcript::default()
            }))
        };
        let told = said(v1::Speaker::Agent).unwrap();
        assert!(!format!("{told:?}").contains("secret"));
        let Aside::Said { by: "agent", text, is_final: false, interrupted: true } = told else { panic!("{told:?}") };
        assert_eq!(text.chars().count(), MAX_TRANSCRIPT_CHARS);
        assert_eq!(said(v1::Speaker::Unspecified), None);
        let turn =
            v1::TurnMetrics { endpoint: Duration::from_millis(448).try_into().ok(), ..v1::TurnMetrics::default() };
        let expected = Latencies { endpoint: Some(Duration::from_millis(448)), ..Latencies::default() };
        let told = aside(converse_response::Message::TurnMetrics(Box::new(turn)));
        assert_eq!(told, Some(Aside::Turn(expected)));
    }

    #[test]
    fn costs_are_bounded() {
        let cost = v1::Cost { stage: "chat\n".repeat(100), requests: 3, tokens_in: 90, ..v1::Cost::default() };
        let told = aside(converse_response::Message::Costs(v1::Costs { costs: vec![cost; 100] }));
        let Some(Aside::Costs(costs)) = told else { panic!("{told:?}") };
        assert_eq!((costs.len(), costs[0].stage.len()), (MAX_COSTS, MAX_NAME_CHARS));
        assert!(costs[0].counts.contains(&("tokens_in", 90)) && costs[0].counts.contains(&("failed", 0)));
    }
}
