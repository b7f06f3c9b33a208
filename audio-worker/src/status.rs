//! The one place where what went wrong becomes a gRPC status.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{conversation::ConversationError, conversations::Refusal};

/// Domain of every ErrorInfo.
const DOMAIN: &str = "tandem.voice.v1";

/// When a full worker may be asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Something that a client is told.
#[derive(Debug)]
pub(crate) enum Problem {
    /// No place for another conversation.
    Refused(Refusal),
    /// The first message is not `Open`, or there is none.
    OpenExpected,
    /// `Open` did not come in time.
    OpenLate,
    /// A codec that this worker does not know.
    UnknownCodec(i32),
    /// No agent of that name.
    UnknownAgent { agent: String, known: String },
    /// The agent cannot begin.
    AgentCannotBegin(String),
    /// A conversation failed.
    Conversation(ConversationError),
    /// A conversation panicked.
    Panicked,
    /// The worker's drain deadline was reached.
    Drained,
    /// A field of a unary request.
    Field { field: &'static str, what: String },
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        use Problem::{
            AgentCannotBegin, Conversation, Drained, Field, OpenExpected, OpenLate, Panicked, Refused, UnknownAgent,
            UnknownCodec,
        };

        let (code, reason, message) = match &problem {
            Refused(Refusal::Full) => (
                Code::ResourceExhausted,
                "WORKER_FULL",
                "this worker holds as many conversations as it takes; try another, or again later".to_owned(),
            ),
            Refused(Refusal::Draining) => {
                (Code::Unavailable, "WORKER_DRAINING", "this worker is about to stop; try another".to_owned())
            }
            OpenExpected => (
                Code::InvalidArgument,
                "OPEN_EXPECTED",
                "the first message of a conversation must be `open`".to_owned(),
            ),
            OpenLate => (Code::DeadlineExceeded, "OPEN_LATE", "no `open` within 5 s".to_owned()),
            UnknownCodec(codec) => (
                Code::InvalidArgument,
                "UNKNOWN_CODEC",
                format!("codec {codec} is not known; use CODEC_MULAW_8000 or leave it out"),
            ),
            UnknownAgent { agent, known } => {
                (Code::NotFound, "UNKNOWN_AGENT", format!("no agent {agent:?}; this worker has: {known}"))
            }
            AgentCannotBegin(why) => (Code::FailedPrecondition, "AGENT_CANNOT_BEGIN", why.clone()),
            Conversation(error @ ConversationError::AudioTooLong(_)) => {
                (Code::InvalidArgument, "AUDIO_TOO_LONG", error.to_string())
            }
            Conversation(error @ ConversationError::SecondOpen) => {
                (Code::InvalidArgument, "SECOND_OPEN", error.to_string())
            }
            Conversation(error @ ConversationError::Signal(_)) => (Code::Internal, "SIGNAL_FAILED", error.to_string()),
            Conversation(error @ ConversationError::Agent(_)) => (Code::Internal, "AGENT_FAILED", error.to_string()),
            Panicked => (Code::Internal, "CONVERSATION_PANICKED", "this conversation failed; others go on".to_owned()),
            Drained => (Code::Unavailable, "WORKER_STOPPED", "this worker stopped before the call ended".to_owned()),
            Field { field, what } => (Code::InvalidArgument, "BAD_FIELD", format!("{field}: {what}")),
        };
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, []);
        match problem {
            Refused(Refusal::Full) => {
                details.set_retry_info(Some(RETRY_AFTER));
            }
            Field { field, what } => {
                details.add_bad_request_violation(field, what);
            }
            Refused(Refusal::Draining)
            | OpenExpected
            | OpenLate
            | UnknownCodec(_)
            | UnknownAgent { .. }
            | AgentCannotBegin(_)
            | Conversation(_)
            | Panicked
            | Drained => {}
        }
        Self::with_error_details(code, message, details)
    }
}

/// Text from outside, cut and without control characters, for logs and error messages.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}
