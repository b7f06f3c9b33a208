//! The stream of a call: what the agent is told, what it says, and what becomes of a call whose agent fails.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use futures_util::StreamExt;
use proto::agent::v1::{ConverseRequest, ConverseResponse, EndReason, Hangup, Ready, Say, Transfer, converse_response};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    Remote,
    audio::{Audio, Broken},
    link::{self, Inbound},
    wire,
};
use crate::{
    agent::{Act, Report, Stage},
    agents_file::RemoteFormat,
    conversation::now,
    dsp::SampleRate,
    provider::{Fault, ProviderError, visits::LEFT_ALONE},
    status::printable,
};

/// Messages of the agent that are taken in one go, before what they make is given out.
const MAX_AT_ONCE: usize = 64;

/// Longest reason of a hang-up, in characters, as the pair's contract has it.
const MAX_REASON_CHARS: usize = 200;

/// `google.rpc.Code`s of what an agent is told at the end.
const INVALID_ARGUMENT: i32 = 3;
pub(super) const DEADLINE_EXCEEDED: i32 = 4;
const RESOURCE_EXHAUSTED: i32 = 8;

/// The stream of a call.
pub(super) enum Stream {
    /// Not begun: a call that is on hold dials nobody.
    New,
    Opening(link::Opening),
    Open(Box<Inbound>),
    /// Nothing is said any more, and nothing heard.
    Over,
}

impl Remote {
    /// Dials the service; from now on its time runs.
    pub(super) fn dial(&mut self) {
        self.ready_by = now() + self.service.settings.first_answer;
        // A second try is of the same visit.
        if !self.is_again && !self.visits.begin(now()) {
            self.fail(Fault::Unreachable, LEFT_ALONE, None);
            return;
        }
        let (told, messages) = mpsc::channel(link::WAITING);
        if let Some(start) = &self.start {
            // An empty channel has room.
            let _ = told.try_send(start.clone());
        }
        self.told = Some(told);
        self.stream = Stream::Opening(self.service.link.open(messages, self.trace, self.is_again));
    }

    /// Tells the agent something.
    pub(super) fn tell(&mut self, message: ConverseRequest) {
        if matches!(self.stream, Stream::Over) {
            return;
        }
        if !self.is_ready {
            self.waiting.push_back(message);
            if self.waiting.len() >= link::WAITING {
                let oldest = self.waiting.iter().position(wire::is_audio).unwrap_or(0);
                self.waiting.remove(oldest);
            }
            return;
        }
        let sent = self.told.as_ref().map_or(Ok(()), |told| told.try_send(message));
        // Whoever reads no more has ended the stream, which is seen where it is read.
        if let Err(TrySendError::Full(_)) = sent {
            let what = "the agent does not read what it is told; 5 s of it wait";
            self.fail(Fault::Timeout, what, Some(RESOURCE_EXHAUSTED));
        }
    }

    /// Takes what the agent says; true when there was something.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        let mut moved = false;
        for _ in 0..MAX_AT_ONCE {
            if self.said.has_ended() {
                break;
            }
            let message = match &mut self.stream {
                Stream::New | Stream::Over => break,
                Stream::Opening(opening) => {
                    let Poll::Ready(opened) = opening.as_mut().poll(cx) else { break };
                    match opened {
                        Ok(inbound) => self.stream = Stream::Open(Box::new(inbound)),
                        Err(status) => self.on_status(&link::fault(&status)),
                    }
                    moved = true;
                    continue;
                }
                Stream::Open(inbound) => {
                    let Poll::Ready(message) = inbound.poll_next_unpin(cx) else { break };
                    message
                }
            };
            moved = true;
            match message {
                Some(Ok(ConverseResponse { message: Some(message) })) => self.on_message(message, at),
                // A newer agent says something that this worker does not know.
                Some(Ok(ConverseResponse { message: None })) => {}
                Some(Err(status)) => self.on_status(&link::fault(&status)),
                None => {
                    let detail = "the agent ended its stream without a hang-up or a transfer".to_owned();
                    self.on_status(&ProviderError { kind: Fault::Failed, detail });
                }
            }
        }
        moved
    }

    /// The stream ended. A service that is started anew, or whose connection had been lost unnoticed, gets a second try as
    /// long as it has not taken the call; later there would be nobody there who knows what was said.
    fn on_status(&mut self, error: &ProviderError) {
        if !self.is_ready && !self.is_again && error.kind == Fault::Unreachable {
            self.is_again = true;
            tracing::debug!(%error, "an agent's service is dialled once more");
            self.dial();
        } else {
            self.fail(error.kind, &error.detail, None);
        }
    }

    fn on_message(&mut self, message: converse_response::Message, at: Instant) {
        use converse_response::Message;

        if !self.is_ready && !matches!(message, Message::Ready(_)) {
            self.fail(Fault::Malformed, "the first message of an agent must be ready", Some(INVALID_ARGUMENT));
            return;
        }
        match message {
            Message::Ready(ready) => self.on_ready(&ready),
            Message::Audio(audio) => {
                let utterance = audio.utterance;
                let usual = match self.service.settings.format {
                    RemoteFormat::Pcm(rate) => rate,
                    RemoteFormat::Mulaw => SampleRate::Hz8000,
                };
                let taken = Audio::of(audio, usual)
                    .and_then(|audio| audio.map_or(Ok(false), |audio| self.said.on_audio(utterance, audio)));
                if let Err(broken) = taken {
                    self.on_broken(broken);
                }
            }
            Message::Say(say) => self.on_say(say),
            Message::EndUtterance(_) => self.said.on_end(),
            Message::Interrupt(_) => {
                if self.cut(false).is_some() {
                    self.acts.push_back(Act::Interrupt);
                }
                self.listening.finished(self.media_ms(), at);
            }
            Message::Hangup(Hangup { reason, after_playback }) => {
                let reason = reason.chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect();
                self.ended_by = EndReason::Hangup;
                self.said.on_ending(Act::Hangup { reason, after_playback }, after_playback);
            }
            Message::Transfer(Transfer { to, after_playback }) => {
                self.ended_by = EndReason::Transfer;
                self.said.on_ending(Act::Transfer { to, after_playback }, after_playback);
            }
        }
    }

    fn on_ready(&mut self, ready: &Ready) {
        if std::mem::replace(&mut self.is_ready, true) {
            return;
        }
        tracing::debug!(agent = self.service.name, service = printable(&ready.name), "an agent's service took a call");
        self.visits.well();
        self.visits.served();
        self.start = None;
        for message in std::mem::take(&mut self.waiting) {
            self.tell(message);
        }
    }

    fn on_say(&mut self, say: Say) {
        if self.voice.is_none() {
            let reason = "this agent has no text_to_speech table in the agents file; send audio instead";
            self.tell(wire::refused("say", reason));
            return;
        }
        if let Err(broken) = self.said.on_say(say) {
            self.on_broken(broken);
        }
    }

    fn on_broken(&mut self, broken: Broken) {
        self.fail(Fault::Malformed, &broken.to_string(), Some(broken.code()));
    }

    /// It cannot go on: the agent is told why when `code` says that it is to blame, and the caller hears the apology.
    pub(super) fn fail(&mut self, fault: Fault, what: &str, code: Option<i32>) {
        if self.failing.is_some() || self.is_over {
            return;
        }
        // What one call does to an agent that is there, says nothing of the next.
        if !self.is_ready {
            self.visits.failed(&ProviderError { kind: fault, detail: what.to_owned() }, now());
        }
        self.report(Report::Fault { stage: Stage::Agent, fault, detail: what.to_owned() });
        self.end(EndReason::Failed, code.unwrap_or_default(), what);
        if self.said.has_ended() {
            // What it said last is heard, and the call ends as it wanted.
            return;
        }
        if self.cut(true).is_some() {
            self.acts.push_back(Act::Interrupt);
        }
        self.failing = Some(what.to_owned());
        let can_apologise = self.voice.is_some() && !self.apology.is_empty();
        if !can_apologise || self.said.order(&self.apology).is_none() {
            self.give_up();
        }
    }

    pub(super) fn give_up(&mut self) {
        if let Some(reason) = self.failing.take() {
            self.is_over = true;
            self.acts.push_back(Act::Fail { reason });
        }
    }

    /// The agent is told that it is over.
    pub(super) fn end(&mut self, reason: EndReason, code: i32, detail: &str) {
        if let Some(told) = self.told.take() {
            // One that does not read is not told.
            let _ = told.try_send(wire::end(reason, code, detail));
        }
        if let Stream::Open(inbound) = std::mem::replace(&mut self.stream, Stream::Over) {
            link::farewell(*inbound);
        }
    }
}
