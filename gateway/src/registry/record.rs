//! One call as its operator sees it: who, by whom, how far, since when, and how it ended. Pure.

use std::{collections::BTreeMap, time::Duration};

use telemetry::{Sensitive, traces::TraceContext};
use tokio::sync::mpsc;

use super::timeline::Timeline;
use crate::{
    call::Directive,
    session::{EndReason, Stats},
    worker::Cost,
};

/// One call. It does not print its numbers.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Ours, from the first moment: `call_` and 32 hex digits.
    pub(crate) id: String,
    /// Twilio's, once there is one.
    pub(crate) call_sid: Option<String>,
    pub(crate) direction: Direction,
    pub(crate) from: Sensitive<String>,
    pub(crate) to: Sensitive<String>,
    pub(crate) agent: String,
    /// BCP 47; empty for the agent's own.
    pub(crate) language: String,
    pub(crate) parameters: Sensitive<BTreeMap<String, String>>,
    /// Where its events go.
    pub(crate) webhook: Option<Sensitive<String>>,
    /// A media stream of somebody else's that takes the call instead of ours.
    pub(crate) stream_url: Option<String>,
    pub(crate) status: Status,
    /// The highest `SequenceNumber` of a status callback.
    sequence: Option<u64>,
    pub(crate) answered_by: Option<String>,
    /// No carrier has this call: it is a browser's, and over when its stream is.
    pub(crate) from_browser: bool,
    pub(crate) times: Times,
    /// Below which everything of this call is traced.
    pub(crate) trace: Option<TraceContext>,
    pub(crate) stream: Stream,
    pub(crate) end_reason: Option<&'static str>,
    /// The agent neither hears nor talks.
    pub(crate) held: bool,
    /// What comes once the stream ended.
    pub(crate) after: After,
    /// What the stream counted, once it ended.
    pub(crate) stats: Option<Box<Stats>>,
    /// What providers cost so far, as its worker tells.
    pub(crate) costs: Vec<Cost>,
    /// Why it could not be placed.
    pub(crate) fault: Option<Fault>,
    /// It is to end as soon as Twilio knows it.
    pub(crate) unwanted: bool,
    /// Length in seconds as Twilio counts it.
    pub(crate) billed_s: Option<u64>,
    /// What happened so far.
    pub(crate) timeline: Timeline,
    /// Leads to the task of its media stream, while that runs.
    pub(crate) line: Option<mpsc::Sender<Box<Directive>>>,
}

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// How far a call is: Twilio's words (twilio.com/docs/voice/api/call-resource), and three of ours for the time before
/// Twilio has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Waits for its turn here.
    Waiting,
    /// Twilio is being asked.
    Dialling,
    /// Twilio was asked and its answer was lost: it may ring.
    Unknown,
    Queued,
    Initiated,
    Ringing,
    InProgress,
    Completed,
    Busy,
    Failed,
    NoAnswer,
    Canceled,
}

impl Status {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dialling => "dialling",
            Self::Unknown => "unknown",
            Self::Queued => "queued",
            Self::Initiated => "initiated",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::NoAnswer => "no-answer",
            Self::Canceled => "canceled",
        }
    }

    /// Reads Twilio's word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "queued" => Self::Queued,
            "initiated" => Self::Initiated,
            "ringing" => Self::Ringing,
            "in-progress" | "answered" => Self::InProgress,
            "completed" => Self::Completed,
            "busy" => Self::Busy,
            "failed" => Self::Failed,
            "no-answer" => Self::NoAnswer,
            "canceled" => Self::Canceled,
            _ => return None,
        })
    }

    /// True for a state that nothing leaves.
    pub(crate) const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Busy | Self::Failed | Self::NoAnswer | Self::Canceled)
    }

    /// The event that tells of it, for those worth telling.
    const fn event(self) -> Option<&'static str> {
        match self {
            Self::Waiting | Self::Dialling => None,
            Self::Unknown => Some("call.unknown"),
            Self::Queued | Self::Initiated => Some("call.initiated"),
            Self::Ringing => Some("call.ringing"),
            Self::InProgress => Some("call.answered"),
            Self::Completed | Self::Busy | Self::Failed | Self::NoAnswer | Self::Canceled => Some("call.ended"),
        }
    }
}

/// When what happened; time since the Unix epoch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) created: Duration,
    pub(crate) dialled: Option<Duration>,
    pub(crate) answered: Option<Duration>,
    /// The newest TwiML that asks for a media stream.
    pub(crate) invited: Option<Duration>,
    pub(crate) stream_began: Option<Duration>,
    pub(crate) stream_ended: Option<Duration>,
    pub(crate) ended: Option<Duration>,
    /// The last change of any kind.
    pub(crate) changed: Duration,
}

/// How far the media stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Awaited,
    Live,
    Over,
}

/// What comes after a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum After {
    /// It ended as it should.
    Hangup,
    /// The call goes to another number.
    Transfer(String),
    /// The carrier says this, and a new stream begins.
    Say(String),
    /// It ended for a fault, or never began.
    Fallback,
}

/// Why a call could not be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A stable word.
    pub(crate) code: &'static str,
    /// Twilio's number for it.
    pub(crate) twilio_code: Option<u32>,
    /// What was wrong and what to do; it may name the number called.
    pub(crate) detail: Sensitive<String>,
}

/// What a status callback says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    pub(crate) status: Option<Status>,
    pub(crate) sequence: Option<u64>,
    pub(crate) duration_s: Option<u64>,
}

impl Record {
    /// A call that nothing is known of but who dials whom.
    pub(crate) fn new(id: String, direction: Direction, from: String, to: String, now: Duration) -> Self {
        Self {
            id,
            call_sid: None,
            direction,
            from: Sensitive::new(from),
            to: Sensitive::new(to),
            agent: String::new(),
            language: String::new(),
            parameters: Sensitive::default(),
            webhook: None,
            stream_url: None,
            status: if direction == Direction::Inbound { Status::Ringing } else { Status::Waiting },
            sequence: None,
            answered_by: None,
            from_browser: false,
            times: Times { created: now, changed: now, ..Times::default() },
            trace: None,
            stream: Stream::Awaited,
            end_reason: None,
            held: false,
            after: After::Fallback,
            stats: None,
            costs: Vec::new(),
            fault: None,
            unwanted: false,
            billed_s: None,
            timeline: Timeline::default(),
            line: None,
        }
    }

    /// True once it is over.
    pub(crate) const fn is_over(&self) -> bool {
        self.times.ended.is_some()
    }

    /// Moves on to `status`, which a terminal one never leaves. The event that tells of it, if any.
    pub(crate) fn enter(&mut self, status: Status, now: Duration) -> Option<&'static str> {
        if self.status.is_terminal() || self.status == status {
            return None;
        }
        // Twilio's early words may come after its later ones.
        let goes_back = self.status == Status::InProgress && !status.is_terminal();
        if goes_back {
            return None;
        }
        let before = self.status.event();
        self.status = status;
        self.timeline.note(now, "status", status.label());
        self.times.changed = now;
        if status == Status::InProgress {
            self.times.answered.get_or_insert(now);
        }
        if status.is_terminal() {
            self.times.ended = Some(now);
            self.line = None;
            self.end_reason.get_or_insert(match status {
                Status::Completed => "completed",
                Status::Busy => "busy",
                Status::NoAnswer => "no_answer",
                Status::Canceled => "canceled",
                Status::Failed
                | Status::Waiting
                | Status::Dialling
                | Status::Unknown
                | Status::Queued
                | Status::Initiated
                | Status::Ringing
                | Status::InProgress => "failed",
            });
        }
        // Twilio's "queued" and "initiated" are one event.
        status.event().filter(|event| before != Some(event))
    }

    /// A status callback: callbacks come in any order and more than once, so an older one than the newest seen changes
    /// nothing, unless it tells of the end.
    pub(crate) fn report(&mut self, report: Report, now: Duration) -> Option<&'static str> {
        let status = report.status?;
        let is_old = matches!((report.sequence, self.sequence), (Some(this), Some(last)) if this <= last);
        if is_old && !status.is_terminal() {
            return None;
        }
        self.sequence = self.sequence.max(report.sequence);
        self.billed_s = self.billed_s.or(report.duration_s);
        self.enter(status, now)
    }

    /// Its media stream has begun: a stream is proof of an answer.
    pub(crate) fn stream_began(&mut self, line: mpsc::Sender<Box<Directive>>, now: Duration) -> Option<&'static str> {
        self.stream = Stream::Live;
        self.after = After::Fallback;
        self.held = false;
        self.line = Some(line);
        self.timeline.note(now, "stream_began", "");
        self.times.stream_began.get_or_insert(now);
        self.times.changed = now;
        self.enter(Status::InProgress, now)
    }

    /// Its media stream has ended.
    pub(crate) fn stream_ended(&mut self, reason: &EndReason, stats: Stats, now: Duration) -> Option<&'static str> {
        self.stream = Stream::Over;
        self.line = None;
        self.held = false;
        self.after = after(reason);
        self.timeline.note(now, "stream_ended", reason.label());
        self.stats = Some(Box::new(stats));
        self.times.stream_ended = Some(now);
        self.times.changed = now;
        if !matches!(reason, EndReason::CarrierSay(_)) && self.times.ended.is_none() {
            self.end_reason = Some(reason.label());
        }
        // Twilio asks no more of a call whose caller has left, and nothing of one that it does not have.
        if self.from_browser || matches!(reason, EndReason::CallerHangup) {
            self.enter(Status::Completed, now)
        } else {
            None
        }
    }

    /// Seconds from the answer to the end, or until `now`.
    pub(crate) fn talk_s(&self, now: Duration) -> u64 {
        self.billed_s.unwrap_or_else(|| {
            let answered = self.times.answered.map(|at| self.times.ended.unwrap_or(now).saturating_sub(at));
            answered.unwrap_or_default().as_secs()
        })
    }
}

/// What comes after a stream that ended for `reason`.
pub(crate) fn after(reason: &EndReason) -> After {
    match reason {
        EndReason::CallerHangup
        | EndReason::CallerLost
        | EndReason::AgentHangup
        | EndReason::ApiHangup
        | EndReason::MaxDuration => After::Hangup,
        EndReason::AgentTransfer(to) | EndReason::ApiTransfer(to) => After::Transfer(to.clone()),
        EndReason::CarrierSay(words) => After::Say(words.clone()),
        EndReason::CallerSilent
        | EndReason::CallerStalled
        | EndReason::StartTimeout
        | EndReason::TicketRefused(_)
        | EndReason::UnsupportedMedia
        | EndReason::ProtocolError
        | EndReason::NoWorker(_)
        | EndReason::WorkerLost
        | EndReason::GatewayDrained
        | EndReason::Panicked => After::Fallback,
    }
}
