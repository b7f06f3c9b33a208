//! What the agent tells of the conversation, on its way to the log and the transcript.

use std::time::Instant;

use super::now;
use crate::{
    agent::{Report, ToolReport, Verdict},
    provider::meter::Costs,
    transcripts::{Transcript, Transcripts},
};

/// Where one conversation is told of.
#[derive(Debug)]
pub(crate) struct Telling {
    transcript: Option<Transcript>,
    call_id: String,
    began: Instant,
}

impl Telling {
    /// A conversation of this call, its agent's name and its language, that begins now.
    pub(crate) fn new(transcripts: Option<&Transcripts>, call_id: &str, agent: &str, language: &str) -> Self {
        let transcript = transcripts.map(|transcripts| transcripts.begin(call_id, agent, language));
        Self { transcript, call_id: call_id.to_owned(), began: now() }
    }

    /// The agent tells something.
    pub(super) fn report(&self, report: &Report) {
        if let Report::Fault { stage, fault, detail } = report {
            let (stage, fault) = (stage.label(), fault.label());
            tracing::warn!(call_id = self.call_id, stage, fault, detail, "a provider failed");
        }
        if let Report::Tool(ToolReport { name, took, verdict }) = report
            && *verdict != Verdict::Done
        {
            let (verdict, took_ms) = (verdict.label(), took.as_millis());
            tracing::warn!(call_id = self.call_id, tool = name, verdict, took_ms, "a tool failed");
        }
        if let Some(transcript) = &self.transcript {
            transcript.note(now() - self.began, report);
        }
    }

    /// The conversation is over.
    pub(crate) fn ended(&self, reason: &str, costs: &Costs) {
        if let Some(transcript) = &self.transcript {
            transcript.end(now() - self.began, reason, costs);
        }
    }
}
