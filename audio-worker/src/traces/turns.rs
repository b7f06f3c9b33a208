//! The span of a turn with its stages below it: the caller's words, the model, the voice, the silence that decides, and
//! what was played.

use telemetry::traces::{TARGET, TraceContext, count};
use tracing::{Span, field::Empty, info_span};

use crate::agent::{ToolReport, Turn};

/// A stage of a turn, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TurnStage {
    /// The caller's words are looked for.
    SpeechToText,
    /// The model is asked.
    Chat,
    /// An agent that is a service of its own was told what the caller said.
    Agent,
    /// The voice is asked.
    TextToSpeech,
    /// All is there; it is not sure yet that the caller has finished.
    Endpoint,
    /// The answer is played.
    Playback,
}

impl TurnStage {
    const fn name(self) -> &'static str {
        match self {
            Self::SpeechToText => "speech_to_text",
            Self::Chat => "chat",
            Self::Agent => "agent",
            Self::TextToSpeech => "text_to_speech",
            Self::Endpoint => "endpoint",
            Self::Playback => "playback",
        }
    }
}

/// A turn that is traced.
#[derive(Debug)]
pub(crate) struct TurnSpans {
    turn: Span,
    below: Option<TraceContext>,
    stage: TurnStage,
    /// Of the stage; ends when the next one begins.
    open: Span,
}

impl TurnSpans {
    /// A turn that begins with the search for its words, below a conversation that is kept.
    pub(crate) fn begin(conversation: TraceContext) -> Self {
        Self::begin_at(conversation, TurnStage::SpeechToText)
    }

    /// The same for one that begins with another stage.
    pub(crate) fn begin_at(conversation: TraceContext, stage: TurnStage) -> Self {
        let turn = info_span!(
            target: TARGET,
            parent: None,
            "turn",
            otel.status_code = Empty,
            forgotten = Empty,
            interrupted = Empty,
            endpoint_ms = Empty,
            speech_to_text_ms = Empty,
            first_token_ms = Empty,
            first_audio_ms = Empty,
            first_sent_ms = Empty,
        );
        conversation.adopt(&turn);
        let below = TraceContext::of(&turn);
        Self { open: span(below, stage), turn, below, stage }
    }

    /// This stage has begun; one that is over does not come again.
    pub(crate) fn reach(&mut self, stage: TurnStage) {
        if stage > self.stage {
            self.stage = stage;
            // The one before ends first.
            self.open = Span::none();
            self.open = span(self.below, stage);
        }
    }

    /// It begins to be answered, with these times.
    pub(crate) fn answered(&mut self, times: &Turn) {
        for (name, time) in [
            ("endpoint_ms", times.endpoint),
            ("speech_to_text_ms", times.speech_to_text),
            ("first_token_ms", times.first_token),
            ("first_audio_ms", times.first_audio),
            ("first_sent_ms", times.first_sent),
        ] {
            if let Some(time) = time {
                count(&self.turn, name, time.as_millis());
            }
        }
        self.reach(TurnStage::Playback);
    }

    /// A tool was called, and is done.
    pub(crate) fn called(&self, tool: &ToolReport) {
        let span = info_span!(target: TARGET, parent: None, "tool", tool = tool.name, outcome = tool.verdict.label(), took_ms = Empty);
        count(&span, "took_ms", tool.took.as_millis());
        if let Some(below) = self.below {
            below.adopt(&span);
        }
    }

    /// The caller went on: it was none.
    pub(crate) fn forgotten(&self) {
        self.turn.record("forgotten", true);
    }

    /// The answer was heard, or cut short.
    pub(crate) fn played(&self, interrupted: bool) {
        self.turn.record("interrupted", interrupted);
    }

    /// A provider failed.
    pub(crate) fn failed(&self) {
        self.turn.record("otel.status_code", "ERROR");
        self.open.record("otel.status_code", "ERROR");
    }
}

fn span(below: Option<TraceContext>, stage: TurnStage) -> Span {
    let span = info_span!(target: TARGET, parent: None, "stage", otel.name = stage.name(), otel.status_code = Empty);
    if let Some(below) = below {
        below.adopt(&span);
    }
    span
}
