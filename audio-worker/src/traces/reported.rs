//! Spans of the turns of an agent whose model or service is elsewhere: they follow from what is reported of the conversation.

use telemetry::traces::TraceContext;

use super::{TurnSpans, TurnStage};
use crate::agent::{Report, Speaker, Stage, ToolReport};

/// Turns of one conversation that have a span.
const MAX_TRACED: u32 = 1000;

/// The turns of one conversation.
#[derive(Debug)]
pub(crate) struct ReportedTurns {
    /// The conversation, where it is kept.
    below: Option<TraceContext>,
    /// Stage with which a turn begins.
    first: TurnStage,
    /// Turns that may still be traced.
    left: u32,
    open: Option<TurnSpans>,
    /// What is said next is the answer, or the apology.
    is_answered: bool,
}

impl ReportedTurns {
    /// Below the conversation; a turn begins with the stage `first`, once the caller has finished.
    pub(crate) const fn below(conversation: Option<TraceContext>, first: TurnStage) -> Self {
        Self { below: conversation, first, left: MAX_TRACED, open: None, is_answered: false }
    }

    /// Looks at a report before it is given out.
    pub(crate) fn watch(&mut self, report: &Report) {
        match report {
            Report::Speech { began: false } if self.left > 0 => {
                if let Some(open) = self.open.take() {
                    open.forgotten();
                }
                self.is_answered = false;
                self.open = self.below.map(|below| TurnSpans::begin_at(below, self.first));
                self.left -= u32::from(self.open.is_some());
            }
            Report::Turn(turn) => {
                self.is_answered = true;
                if let Some(open) = &mut self.open {
                    open.answered(turn);
                }
            }
            // What was said before the turn may still be heard after it.
            Report::Said { by: Speaker::Agent, interrupted, .. } if self.is_answered => {
                if let Some(open) = self.open.take() {
                    open.played(*interrupted);
                }
            }
            // Words that were not found are answered all the same, later.
            Report::Fault { stage, .. } => {
                self.is_answered |= *stage != Stage::SpeechToText;
                if let Some(open) = &self.open {
                    open.failed();
                }
            }
            Report::Tool(tool) => self.called(tool),
            Report::Speech { .. } | Report::Said { .. } => {}
        }
    }

    /// This stage of the turn has begun.
    pub(crate) fn reach(&mut self, stage: TurnStage) {
        if let Some(open) = &mut self.open {
            open.reach(stage);
        }
    }

    fn called(&self, tool: &ToolReport) {
        if let Some(open) = &self.open {
            open.called(tool);
        }
    }
}
