//! The brain that asks a chat model: instructions, what was heard so far, and what the caller just said. What the model
//! calls for is done by its tools.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{StreamExt, stream};
use telemetry::Sensitive;

use super::{
    Opening,
    brain::{Answer, Brain, Farewell, Piece},
    text::Text,
    tools::{About, Toolbox},
};
use crate::{
    agents_file::PipelineSettings,
    conversation::now,
    provider::{Chat, Message, Role},
};

mod errand;
mod thinking;

use errand::Errand;
use thinking::{TOO_MUCH, Thinking};

/// What all calls of one agent share.
#[derive(Debug)]
pub struct Persona {
    /// The model.
    pub chat: Arc<dyn Chat>,
    /// What it may call.
    pub tools: Toolbox,
    /// What it is told, and what is said without it.
    pub settings: PipelineSettings,
}

/// Keys that may wait to be told to the model.
const MAX_DIGITS: usize = 32;

/// Turns whose calls of tools are kept, and most text of them, in bytes: of a turn that has no room only the calls are told, and
/// beyond that the oldest are forgotten.
const MAX_ERRANDS: usize = 32;
const MAX_ERRAND_BYTES: usize = 64 << 10;

/// One call of an agent that asks a chat model.
#[derive(Debug)]
pub struct Pipeline {
    persona: Arc<Persona>,
    /// Of the persona, metered for this call.
    chat: Arc<dyn Chat>,
    about: Arc<About>,
    instructions: String,
    digits: String,
    /// Of them, those that the newest prompt tells.
    told: usize,
    /// What was done for earlier answers, oldest first; the last is the newest answer's.
    turns: VecDeque<Turn>,
}

/// A turn of the caller, and what was done for it.
#[derive(Debug)]
struct Turn {
    said: Sensitive<String>,
    /// Where in the history it stands at the earliest: two messages of one speaker become one.
    since: usize,
    errand: Errand,
    /// Its answer was said.
    settled: bool,
}

impl Pipeline {
    /// A call begins.
    pub fn new(persona: Arc<Persona>, opening: &Opening) -> Self {
        let chat = persona.chat.metered(&opening.meter).unwrap_or_else(|| Arc::clone(&persona.chat));
        chat.warm();
        let instructions = persona.settings.instructions.fill(opening.parameters.expose());
        let about = Arc::new(About::from(opening));
        Self { persona, chat, about, instructions, digits: String::new(), told: 0, turns: VecDeque::new() }
    }

    fn say(&self, text: &Text) -> Answer {
        say(&self.words(text))
    }

    fn words(&self, text: &Text) -> String {
        text.fill(self.about.parameters.expose())
    }

    /// What was done for earlier turns, as messages, each with the place in `history` behind which they belong. What is
    /// not told any more is forgotten.
    fn remember(&mut self, history: &[Message]) -> Vec<(usize, Vec<Message>)> {
        let (now, mut bytes) = (now(), 0);
        let (mut errands, mut kept) = (Vec::new(), VecDeque::new());
        while let Some(turn) = self.turns.pop_back() {
            // Of a guess that was thrown away, only what was done counts.
            let counts = turn.errand.has_effects() || (turn.settled && turn.errand.may_be_told());
            if !counts {
                continue;
            }
            let mut messages = turn.errand.messages(now);
            if bytes + messages.iter().map(size).sum::<usize>() > MAX_ERRAND_BYTES {
                for result in messages.iter_mut().filter(|message| message.role == Role::Tool) {
                    TOO_MUCH.clone_into(&mut result.text);
                }
            }
            bytes += messages.iter().map(size).sum::<usize>();
            if bytes > MAX_ERRAND_BYTES || kept.len() == MAX_ERRANDS {
                break;
            }
            let place = match turn.place(history) {
                Some(place) => place,
                // Forgotten with its words.
                None if turn.settled => continue,
                // What was done for words that nobody answered comes last, with the words.
                None => {
                    messages.insert(0, Message::new(Role::User, turn.said.expose().trim()));
                    history.len()
                }
            };
            errands.push((place, messages));
            kept.push_front(turn);
        }
        self.turns = kept;
        errands.reverse();
        errands.sort_by_key(|(place, _)| *place);
        errands
    }
}

impl Turn {
    /// Behind which message of the history it belongs.
    fn place(&self, history: &[Message]) -> Option<usize> {
        let said = self.said.expose().trim();
        let is_turn = |message: &Message| message.role == Role::User && message.text.contains(said);
        // The same words may have been said before and since; where the history forgot its beginning, they stand earlier.
        let since = self.since.min(history.len());
        let found = history[since..].iter().position(is_turn).map(|at| since + at);
        found.or_else(|| history[..since].iter().rposition(is_turn)).map(|at| at + 1)
    }
}

/// Text of a message, in bytes.
fn size(message: &Message) -> usize {
    message.text.len() + message.calls.iter().map(|call| call.name.len() + call.arguments.len()).sum::<usize>()
}

impl Brain for Pipeline {
    fn greet(&mut self) -> Answer {
        let talk = &self.persona.settings.talk;
        let protect = talk.greeting_protected.then_some(Ok(Piece::Protect));
        Box::pin(stream::iter(protect).chain(self.say(&talk.greeting)))
    }

    fn answer(&mut self, said: &str, history: &[Message]) -> Answer {
        self.told = self.digits.len();
        let text = if self.digits.is_empty() { said.to_owned() } else { format!("{said} [keys: {}]", self.digits) };
        let system = Message::new(Role::System, self.instructions.clone());
        let mut prompt: Vec<_> = (!self.instructions.is_empty()).then_some(system).into_iter().collect();
        let first = history.len().saturating_sub(self.persona.settings.max_history);
        let mut errands = self.remember(history).into_iter().filter(|(place, _)| *place > first).peekable();
        for at in first..=history.len() {
            while let Some((_, messages)) = errands.next_if(|(place, _)| *place <= at) {
                prompt.extend(messages);
            }
            prompt.extend(history.get(at).cloned());
        }
        prompt.push(Message::new(Role::User, text));
        let reports: Vec<_> =
            self.turns.iter().flat_map(|turn| turn.errand.reports(now())).map(Piece::Called).collect();
        let errand = Errand::default();
        let since = history.len().saturating_sub(1);
        let turn = Turn { said: said.to_owned().into(), since, errand: errand.clone(), settled: false };
        self.turns.push_back(turn);
        let goodbye = self.words(&self.persona.settings.talk.goodbye);
        let persona = (Arc::clone(&self.persona), Arc::clone(&self.chat));
        Box::pin(Thinking::new(persona, Arc::clone(&self.about), goodbye, prompt, (errand, reports.into_iter())))
    }

    fn commit(&mut self) {
        if let Some(turn) = self.turns.back() {
            turn.errand.commit();
        }
    }

    fn settle(&mut self, said: &str) {
        self.commit();
        // What was done before for words that nobody answered belongs to these now.
        let since = self.turns.back().map(|turn| turn.since).unwrap_or_default();
        for turn in self.turns.iter_mut().filter(|turn| !turn.settled) {
            (turn.said, turn.since, turn.settled) = (said.to_owned().into(), since, true);
        }
        self.digits.drain(..std::mem::take(&mut self.told));
    }

    /// Keys are told to the model with what is said next.
    fn key(&mut self, key: char) -> Option<Answer> {
        if self.digits.len() < MAX_DIGITS {
            self.digits.push(key);
        }
        None
    }

    fn silence(&mut self, nth: u32) -> Option<Answer> {
        let at = usize::try_from(nth).ok()?.checked_sub(1)?;
        self.persona.settings.talk.silence_prompts.get(at).map(|text| self.say(text))
    }

    fn farewell(&mut self, why: Farewell) -> Answer {
        let talk = &self.persona.settings.talk;
        let (words, reason) = match why {
            Farewell::Silence => (&talk.goodbye, "the caller said nothing any more"),
            Farewell::Faults => (&talk.give_up, "too many faults of providers in a row"),
        };
        let end = [Ok(Piece::Protect), Ok(Piece::Hangup { reason: reason.to_owned() })];
        Box::pin(self.say(words).chain(stream::iter(end)))
    }
}

/// An answer of one text.
pub fn say(text: &str) -> Answer {
    Box::pin(stream::iter([Ok(Piece::Say(text.to_owned()))]))
}

#[cfg(test)]
mod tests;
