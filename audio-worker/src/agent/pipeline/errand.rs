//! What a model has its tools do for one answer, and what came of it; kept for the prompts that follow.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use crate::{
    agent::{
        ToolReport,
        tools::{Outcome, Toolbox, Working},
    },
    provider::{Message, ToolCall},
};

/// The errand of one answer. The answer and the brain share it: the answer may be dropped while a tool is at work.
#[derive(Debug, Clone, Default)]
pub(super) struct Errand(Arc<Mutex<Course>>);

#[derive(Debug, Default)]
struct Course {
    /// The caller has finished: what cannot be undone may be done.
    committed: bool,
    waker: Option<Waker>,
    rounds: Vec<Round>,
    has_effects: bool,
}

/// The calls of one answer of the model, all at work at once.
#[derive(Debug)]
struct Round {
    calls: Vec<Job>,
    began: Instant,
}

struct Job {
    call: ToolCall,
    /// As the agents file has it; empty for a tool that there is not.
    name: String,
    state: State,
}

enum State {
    Working(Working),
    /// With a report that was not taken yet.
    Done(Outcome, Option<ToolReport>),
}

impl Errand {
    /// The caller has finished.
    pub(super) fn commit(&self) {
        let waker = {
            let mut course = self.course();
            course.committed = true;
            course.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for [`Self::commit`].
    pub(super) fn poll_committed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut course = self.course();
        if course.committed {
            return Poll::Ready(());
        }
        course.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// These calls are set to work.
    pub(super) fn begin(&self, calls: Vec<(ToolCall, Working)>, tools: &Toolbox, now: Instant) {
        let mut course = self.course();
        course.has_effects |= calls.iter().any(|(call, _)| !tools.is_safe(&call.name));
        let job = |(call, working): (ToolCall, Working)| {
            let name = if tools.has(&call.name) { call.name.clone() } else { String::new() };
            Job { call, name, state: State::Working(working) }
        };
        course.rounds.push(Round { calls: calls.into_iter().map(job).collect(), began: now });
    }

    /// Waits for all calls of the newest round; they come with what came of them.
    pub(super) fn poll_round(&self, cx: &mut Context<'_>, now: Instant) -> Poll<Vec<(ToolCall, Outcome)>> {
        let mut course = self.course();
        let Some(round) = course.rounds.last_mut() else { return Poll::Ready(Vec::new()) };
        if !round.poll(cx, now) {
            return Poll::Pending;
        }
        Poll::Ready(round.done().map(|(call, outcome)| (call.clone(), outcome.clone())).collect())
    }

    /// What is to be told of it later: calls and results, or nothing when no tool was called.
    pub(super) fn messages(&self, now: Instant) -> Vec<Message> {
        self.look_after(now);
        let course = self.course();
        let mut messages = Vec::new();
        for round in &course.rounds {
            messages.push(Message::calling("", round.calls.iter().map(|job| job.call.clone()).collect()));
            messages.extend(round.calls.iter().map(|job| match &job.state {
                State::Done(outcome, _) => Message::result(job.call.id.clone(), outcome.told()),
                State::Working(_) => Message::result(job.call.id.clone(), AT_WORK),
            }));
        }
        messages
    }

    /// Reports of tools that are done; each once.
    pub(super) fn reports(&self, now: Instant) -> Vec<ToolReport> {
        self.look_after(now);
        let mut course = self.course();
        let jobs = course.rounds.iter_mut().flat_map(|round| &mut round.calls);
        jobs.filter_map(|job| if let State::Done(_, report) = &mut job.state { report.take() } else { None }).collect()
    }

    /// Without its answer, nobody else asks how far the tools are.
    fn look_after(&self, now: Instant) {
        if Arc::strong_count(&self.0) == 1 {
            let mut cx = Context::from_waker(Waker::noop());
            for round in &mut self.course().rounds {
                round.poll(&mut cx, now);
            }
        }
    }

    /// True once a tool was called that does something.
    pub(super) fn has_effects(&self) -> bool {
        self.course().has_effects
    }

    /// True when there is something to tell, or may be yet.
    pub(super) fn may_be_told(&self) -> bool {
        Arc::strong_count(&self.0) > 1 || !self.course().rounds.is_empty()
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        // Nothing under the lock panics, except a tool.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a model is told of a tool whose answer was interrupted before it was done.
const AT_WORK: &str = r#"{"error": "you were interrupted before this was done; it may be done still"}"#;

impl Round {
    /// True once all is done.
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut all = true;
        for job in &mut self.calls {
            let State::Working(working) = &mut job.state else { continue };
            let Poll::Ready(outcome) = working.as_mut().poll(cx) else {
                all = false;
                continue;
            };
            let took = now.saturating_duration_since(self.began);
            let report = ToolReport { name: job.name.clone(), took, verdict: outcome.verdict() };
            job.state = State::Done(outcome, Some(report));
        }
        all
    }

    fn done(&self) -> impl Iterator<Item = (&ToolCall, &Outcome)> {
        self.calls.iter().filter_map(|job| match &job.state {
            State::Done(outcome, _) => Some((&job.call, outcome)),
            State::Working(_) => None,
        })
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("name", &self.name).finish_non_exhaustive()
    }
}
