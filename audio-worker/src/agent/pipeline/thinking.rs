//! One answer of a model that may call tools: it is asked, its calls are carried out, and it is asked again with what came
//! of them.
//!
//! While the answer is a guess, only tools run that look things up; one that does something waits until the caller has
//! finished.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt};

use super::{Persona, errand::Errand};
use crate::{
    agent::{
        brain::Piece,
        tools::{About, Deed, Outcome, Working},
    },
    conversation::now,
    provider::{Chat, Fault, Message, ProviderError, Streaming, Token, ToolCall},
};

/// Rounds of calls in one answer; then the model is asked without tools.
const MAX_ROUNDS: usize = 5;

/// Most that a model is told of results in one answer, in bytes.
const MAX_TOLD: usize = 128 << 10;

/// What a model is told instead of a result beyond that.
pub(super) const TOO_MUCH: &str = r#"{"error": "the results of this answer are too long to read"}"#;

/// An answer on its way.
pub(super) struct Thinking {
    persona: Arc<Persona>,
    chat: Arc<dyn Chat>,
    about: Arc<About>,
    /// Said before a hang-up without any words.
    goodbye: String,
    prompt: Vec<Message>,
    errand: Errand,
    step: Step,
    rounds: usize,
    /// Of this round.
    text: String,
    calls: Vec<ToolCall>,
    /// Anything was said in this answer.
    has_spoken: bool,
    told: usize,
    out: VecDeque<Piece>,
}

enum Step {
    /// The model is being asked.
    Asking(Streaming<Token>),
    /// It wants these calls.
    Calling(Vec<(ToolCall, Working)>),
    /// They are at work.
    Working,
    Over,
}

impl Thinking {
    pub(super) fn new(
        (persona, chat): (Arc<Persona>, Arc<dyn Chat>),
        about: Arc<About>,
        goodbye: String,
        prompt: Vec<Message>,
        (errand, reports): (Errand, impl Iterator<Item = Piece>),
    ) -> Self {
        let step = Step::Asking(chat.answer(prompt.clone(), persona.tools.specs()));
        let out = reports.collect();
        let (rounds, told, has_spoken) = (0, 0, false);
        let (text, calls) = (String::new(), Vec::new());
        Self { persona, chat, about, goodbye, prompt, errand, step, rounds, text, calls, has_spoken, told, out }
    }

    fn on_token(&mut self, token: Token) {
        match token {
            Token::Text(text) => {
                self.has_spoken |= !text.trim().is_empty();
                self.text.push_str(&text);
                self.out.push_back(Piece::Say(text));
            }
            // Without tools it was not to call any.
            Token::Call(call) if self.rounds < MAX_ROUNDS => self.calls.push(call),
            Token::Call(_) | Token::Usage { .. } => {}
        }
    }

    /// The model has finished: what it called for is to be done.
    fn on_answered(&mut self) {
        if self.calls.is_empty() {
            self.step = Step::Over;
            return;
        }
        self.out.push_back(Piece::Pause);
        let mut calls = Vec::new();
        for call in std::mem::take(&mut self.calls) {
            let called = self.persona.tools.call(&call.name, &call.arguments, &self.about);
            // Whoever said something already has no need to fill the wait.
            if let Some(filler) = called.filler.filter(|_| !self.has_spoken) {
                self.has_spoken = true;
                self.out.extend([Piece::Say(filler), Piece::Pause]);
            }
            calls.push((call, called.outcome));
        }
        self.step = Step::Calling(calls);
    }

    /// All calls of a round are done.
    fn on_done(&mut self, done: Vec<(ToolCall, Outcome)>) {
        self.out.extend(self.errand.reports(now()).into_iter().map(Piece::Called));
        let calls = done.iter().map(|(call, _)| call.clone()).collect();
        self.prompt.push(Message::calling(std::mem::take(&mut self.text), calls));
        let mut ending = None;
        for (call, outcome) in done {
            self.told += outcome.told().len();
            let told = if self.told > MAX_TOLD { TOO_MUCH } else { outcome.told() };
            self.prompt.push(Message::result(call.id, told));
            match outcome {
                Outcome::Do(Deed::Digits(keys), _) => self.out.push_back(Piece::Digits(keys)),
                Outcome::Do(Deed::Hangup { reason }, _) => ending = ending.or(Some(Piece::Hangup { reason })),
                Outcome::Do(Deed::Transfer { to }, _) => ending = ending.or(Some(Piece::Transfer { to })),
                Outcome::Answer(_) | Outcome::Fail(..) => {}
            }
        }
        self.rounds += 1;
        if let Some(ending) = ending {
            if !self.has_spoken && matches!(ending, Piece::Hangup { .. }) {
                self.out.push_back(Piece::Say(std::mem::take(&mut self.goodbye)));
            }
            self.out.push_back(ending);
            self.step = Step::Over;
            return;
        }
        let tools = if self.rounds < MAX_ROUNDS { self.persona.tools.specs() } else { &[] };
        self.step = Step::Asking(self.chat.answer(self.prompt.clone(), tools));
    }
}

impl Stream for Thinking {
    type Item = Result<Piece, ProviderError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            match &mut this.step {
                Step::Asking(answer) => match ready!(answer.poll_next_unpin(cx)) {
                    Some(Ok(token)) => this.on_token(token),
                    // To have nothing to say after something was done is no fault.
                    Some(Err(error)) if error.kind == Fault::Empty && this.rounds > 0 => this.on_answered(),
                    Some(Err(error)) => {
                        this.step = Step::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => this.on_answered(),
                },
                Step::Calling(calls) => {
                    if calls.iter().any(|(call, _)| !this.persona.tools.is_safe(&call.name)) {
                        ready!(this.errand.poll_committed(cx));
                    }
                    this.errand.begin(std::mem::take(calls), &this.persona.tools, now());
                    this.step = Step::Working;
                }
                Step::Working => {
                    let done = ready!(this.errand.poll_round(cx, now()));
                    this.on_done(done);
                }
                Step::Over => return Poll::Ready(None),
            }
        }
    }
}
