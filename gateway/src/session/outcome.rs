//! How a call ended, and what was counted.

use super::message::NoWorker;
use crate::ticket;

/// A WebSocket close code (RFC 6455, 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// 1000.
    Normal,
    /// 1001.
    Away,
    /// 1003.
    Unsupported,
    /// 1008.
    Policy,
    /// 1011.
    Failed,
}

/// Why a call ended: the metric label, the log line, and what `/voice/after` goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The caller hung up, or Twilio stopped the stream.
    CallerHangup,
    /// The socket broke without a `stop`.
    CallerLost,
    /// Nothing at all came for [`super::IDLE_LIMIT`].
    CallerSilent,
    /// Twilio did not read what was sent.
    CallerStalled,
    /// No `start` within [`super::START_LIMIT`].
    StartTimeout,
    /// The ticket was refused.
    TicketRefused(ticket::Refused),
    /// The stream is not mu-law at 8 kHz.
    UnsupportedMedia,
    /// The WebSocket protocol or the size limit was broken.
    ProtocolError,
    /// No worker took the call.
    NoWorker(NoWorker),
    /// The worker was lost in the middle of the call.
    WorkerLost,
    /// The agent hung up.
    AgentHangup,
    /// The agent handed the call to this number.
    AgentTransfer(String),
    /// The calls API ended it.
    ApiHangup,
    /// The calls API handed it to this number.
    ApiTransfer(String),
    /// The carrier says this, then the call comes back with a new stream.
    CarrierSay(String),
    /// The call reached its longest.
    MaxDuration,
    /// This gateway stopped.
    GatewayDrained,
    /// This call's task panicked.
    Panicked,
}

impl EndReason {
    /// Every [`EndReason::label`].
    pub const LABELS: [&'static str; 24] = [
        "caller_hangup",
        "caller_lost",
        "caller_silent",
        "caller_stalled",
        "start_timeout",
        "ticket_missing",
        "ticket_forged",
        "ticket_expired",
        "ticket_reused",
        "unsupported_media",
        "protocol_error",
        "no_worker_unreachable",
        "no_worker_full",
        "no_worker_unknown_agent",
        "no_worker_failed",
        "worker_lost",
        "agent_hangup",
        "agent_transfer",
        "api_hangup",
        "api_transfer",
        "carrier_say",
        "max_duration",
        "gateway_drained",
        "panicked",
    ];

    /// The reason as a label; it carries no number of anybody.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::CallerHangup => "caller_hangup",
            Self::CallerLost => "caller_lost",
            Self::CallerSilent => "caller_silent",
            Self::CallerStalled => "caller_stalled",
            Self::StartTimeout => "start_timeout",
            Self::TicketRefused(ticket::Refused::Missing) => "ticket_missing",
            Self::TicketRefused(ticket::Refused::Forged) => "ticket_forged",
            Self::TicketRefused(ticket::Refused::Expired) => "ticket_expired",
            Self::TicketRefused(ticket::Refused::Reused) => "ticket_reused",
            Self::UnsupportedMedia => "unsupported_media",
            Self::ProtocolError => "protocol_error",
            Self::NoWorker(NoWorker::Unreachable) => "no_worker_unreachable",
            Self::NoWorker(NoWorker::Full) => "no_worker_full",
            Self::NoWorker(NoWorker::UnknownAgent) => "no_worker_unknown_agent",
            Self::NoWorker(NoWorker::Failed) => "no_worker_failed",
            Self::WorkerLost => "worker_lost",
            Self::AgentHangup => "agent_hangup",
            Self::AgentTransfer(_) => "agent_transfer",
            Self::ApiHangup => "api_hangup",
            Self::ApiTransfer(_) => "api_transfer",
            Self::CarrierSay(_) => "carrier_say",
            Self::MaxDuration => "max_duration",
            Self::GatewayDrained => "gateway_drained",
            Self::Panicked => "panicked",
        }
    }

    pub(super) const fn close_code(&self) -> CloseCode {
        match self {
            Self::CallerHangup
            | Self::CallerLost
            | Self::CallerSilent
            | Self::CallerStalled
            | Self::AgentHangup
            | Self::AgentTransfer(_)
            | Self::ApiHangup
            | Self::ApiTransfer(_)
            | Self::CarrierSay(_)
            | Self::MaxDuration => CloseCode::Normal,
            Self::StartTimeout | Self::TicketRefused(_) | Self::ProtocolError => CloseCode::Policy,
            Self::UnsupportedMedia => CloseCode::Unsupported,
            Self::GatewayDrained => CloseCode::Away,
            Self::NoWorker(_) | Self::WorkerLost | Self::Panicked => CloseCode::Failed,
        }
    }
}

/// What was counted. Samples are at 8 kHz.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; units are in them")]
pub struct Stats {
    pub caller_frames: u64,
    pub caller_samples: u64,
    pub caller_queue_peak_samples: u64,
    pub caller_lag_peak_ms: u64,
    pub dropped_caller_samples: u64,
    pub dropped_control: u64,
    pub gaps: u64,
    pub gap_ms: u64,
    pub missing_chunks: u64,
    pub repeated_chunks: u64,
    pub late_chunks: u64,
    pub malformed: u64,
    pub unknown_events: u64,
    pub wrong_stream: u64,
    pub out_of_place: u64,
    pub agent_frames: u64,
    pub agent_samples: u64,
    pub agent_queue_peak_samples: u64,
    pub stale_samples: u64,
    pub interrupted_samples: u64,
    pub clears: u64,
    pub marks_sent: u64,
    pub marks_played: u64,
    pub marks_cleared: u64,
    pub marks_foreign: u64,
}
