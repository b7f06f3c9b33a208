//! The brain that asks a chat model: instructions, what was heard so far, and what the caller just said.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, future, stream};
use telemetry::Sensitive;

use super::{
    Opening,
    brain::{Answer, Brain, Farewell, Piece},
    text::Text,
};
use crate::{
    agents_file::PipelineSettings,
    provider::{Chat, Message, Role, Token},
};

/// What all calls of one agent share.
#[derive(Debug)]
pub struct Persona {
    /// The model.
    pub chat: Arc<dyn Chat>,
    /// What it is told, and what is said without it.
    pub settings: PipelineSettings,
}

/// Keys that may wait to be told to the model.
const MAX_DIGITS: usize = 32;

/// One call of an agent that asks a chat model.
#[derive(Debug)]
pub struct Pipeline {
    persona: Arc<Persona>,
    parameters: Sensitive<BTreeMap<String, String>>,
    instructions: String,
    digits: String,
    /// Of them, those that the newest prompt tells.
    told: usize,
}

impl Pipeline {
    /// A call begins.
    pub fn new(persona: Arc<Persona>, opening: &Opening) -> Self {
        persona.chat.warm();
        let instructions = persona.settings.instructions.fill(opening.parameters.expose());
        Self { persona, parameters: opening.parameters.clone(), instructions, digits: String::new(), told: 0 }
    }

    fn say(&self, text: &Text) -> Answer {
        say(&text.fill(self.parameters.expose()))
    }
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
        let system = (!self.instructions.is_empty()).then_some(system);
        let newest = &history[history.len().saturating_sub(self.persona.settings.max_history)..];
        let prompt = system.into_iter().chain(newest.iter().cloned()).chain([Message::new(Role::User, text)]);
        let answer = self.persona.chat.answer(prompt.collect(), &[]);
        Box::pin(answer.filter_map(|token| {
            future::ready(match token {
                Ok(Token::Text(text)) => Some(Ok(Piece::Say(text))),
                Ok(Token::Call(_) | Token::Usage { .. }) => None,
                Err(error) => Some(Err(error)),
            })
        }))
    }

    fn settle(&mut self, _: &str) {
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
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        agents_file::{Defaults, Kind, Secrets},
        provider::{Streaming, ToolSpec},
    };

    struct NoSecrets;

    impl Secrets for NoSecrets {
        fn variable(&self, _: &str) -> Option<Sensitive<String>> {
            None
        }

        fn file(&self, path: &str) -> Result<Sensitive<String>, String> {
            Err(path.to_owned())
        }
    }

    fn defaults() -> Defaults {
        Defaults { url: url::Url::parse("http://127.0.0.1:1").unwrap(), ..Defaults::default() }
    }

    #[derive(Debug, Default)]
    struct Model(Mutex<Vec<Vec<Message>>>);

    impl Chat for Model {
        fn answer(&self, prompt: Vec<Message>, _: &[ToolSpec]) -> Streaming<Token> {
            self.0.lock().unwrap().push(prompt);
            let tokens = [Token::Text("Well".to_owned()), Token::Usage { prompt: 1, completion: 2 }];
            Box::pin(stream::iter(tokens.map(Ok)))
        }
    }

    fn pipeline() -> (Arc<Model>, Pipeline) {
        let model = Arc::new(Model::default());
        let file = r#"
            [agent.desk]
            kind = "pipeline"
            instructions = "You serve {parameters.name}.{parameters.none}"
            greeting = "Hello {parameters.name}"
            silence_prompts = ["Hm?"]
            goodbye = "Bye."
            [agent.desk.speech_to_text]
            url = "http://127.0.0.1:1"
            model = "m"
            [agent.desk.chat]
            url = "http://127.0.0.1:1"
            model = "m"
            [agent.desk.text_to_speech]
            url = "http://127.0.0.1:1"
            model = "m"
            voice = "v"
            "#;
        let agents = crate::agents_file::parse(file, &defaults(), &NoSecrets).unwrap();
        let Kind::Pipeline(settings) = agents[0].kind.clone() else { unreachable!() };
        let persona = Persona { chat: model.clone(), settings: *settings };
        let parameters = Sensitive::new([("name".to_owned(), "Ada".to_owned())].into());
        let pipeline = Pipeline::new(Arc::new(persona), &Opening { parameters, ..Opening::default() });
        (model, pipeline)
    }

    fn all(answer: Answer) -> Vec<Piece> {
        futures_util::FutureExt::now_or_never(answer.map(Result::unwrap).collect()).unwrap()
    }

    #[test]
    fn the_model_is_told_who_it_is_what_was_heard_and_which_keys_were_pressed() {
        let (model, mut pipeline) = pipeline();
        assert_eq!(all(pipeline.greet()), [Piece::Say("Hello Ada".to_owned())]);
        let heard = Message::new(Role::Assistant, "Hello");
        assert!(pipeline.key('4').is_none() && pipeline.key('#').is_none());
        for _ in 0..2 {
            assert_eq!(all(pipeline.answer("four", std::slice::from_ref(&heard))), [Piece::Say("Well".to_owned())]);
        }
        pipeline.settle("four");
        all(pipeline.answer("five", &[]));
        let told: Vec<Vec<_>> =
            model.0.lock().unwrap().iter().map(|m| m.iter().map(|m| m.text.clone()).collect()).collect();
        assert_eq!(told[1], ["You serve Ada.", "Hello", "four [keys: 4#]"]);
        assert_eq!(told[2], ["You serve Ada.", "five"]);
    }

    #[test]
    fn silence_is_prompted_as_often_as_there_are_prompts_and_leave_is_taken_with_words() {
        let (_, mut pipeline) = pipeline();
        assert!(pipeline.silence(1).is_some() && pipeline.silence(2).is_none());
        let leave = all(pipeline.farewell(Farewell::Silence));
        assert!(matches!(&leave[..], [Piece::Say(text), Piece::Protect, Piece::Hangup { .. }] if text == "Bye."));
    }
}
