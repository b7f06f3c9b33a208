//! The brain that asks a chat model: instructions, what was heard so far, and what the caller just said.

use std::sync::Arc;

use futures_util::{StreamExt, future, stream};

use super::{
    Opening,
    brain::{Answer, Brain, Farewell, Piece},
};
use crate::provider::{Chat, Message, Role, Token};

/// What all calls of one agent share.
#[derive(Debug)]
pub struct Persona {
    /// The model.
    pub chat: Arc<dyn Chat>,
    /// What the model is told to be. `{parameters.NAME}` stands for a parameter of the call.
    pub instructions: String,
    /// The first words, with the same parameters; empty to wait for the caller.
    pub greeting: String,
    /// What a silent caller is asked, the first time, the second time, and so on; then the agent takes its leave.
    pub silence_prompts: Vec<String>,
    /// The last words.
    pub goodbye: String,
}

/// One call of an agent that asks a chat model.
#[derive(Debug)]
pub struct Pipeline {
    persona: Arc<Persona>,
    instructions: String,
    greeting: String,
    digits: String,
}

/// Keys that may wait to be told to the model.
const MAX_DIGITS: usize = 32;

impl Pipeline {
    /// A call begins.
    pub fn new(persona: Arc<Persona>, opening: &Opening) -> Self {
        persona.chat.warm();
        let instructions = fill(&persona.instructions, opening);
        let greeting = fill(&persona.greeting, opening);
        Self { persona, instructions, greeting, digits: String::new() }
    }

    fn ask(&self, said: &str, history: &[Message]) -> Answer {
        let system = Message { role: Role::System, text: self.instructions.clone() };
        let user = Message { role: Role::User, text: said.to_owned() };
        let told = !self.instructions.is_empty();
        let prompt = told.then_some(system).into_iter().chain(history.iter().cloned()).chain([user]).collect();
        let answer = self.persona.chat.answer(prompt);
        Box::pin(answer.filter_map(|token| {
            future::ready(match token {
                Ok(Token::Text(text)) => Some(Ok(Piece::Say(text))),
                Ok(Token::Usage { .. }) => None,
                Err(error) => Some(Err(error)),
            })
        }))
    }
}

impl Brain for Pipeline {
    fn greet(&mut self) -> Answer {
        say(&self.greeting)
    }

    fn answer(&mut self, said: &str, history: &[Message]) -> Answer {
        let said = if self.digits.is_empty() { said.to_owned() } else { format!("{said} [keys: {}]", self.digits) };
        self.ask(&said, history)
    }

    fn settle(&mut self, _: &str) {
        self.digits.clear();
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
        self.persona.silence_prompts.get(at).map(|text| say(text))
    }

    fn farewell(&mut self, why: Farewell) -> Answer {
        let reason = match why {
            Farewell::Silence => "the caller said nothing any more",
            Farewell::Faults => "too many faults of providers in a row",
        };
        let end = [Ok(Piece::Protect), Ok(Piece::Hangup { reason: reason.to_owned() })];
        Box::pin(say(&self.persona.goodbye).chain(stream::iter(end)))
    }
}

/// An answer of one text.
pub fn say(text: &str) -> Answer {
    Box::pin(stream::iter([Ok(Piece::Say(text.to_owned()))]))
}

/// `text` with the call's parameters in it; a name that the call does not have is left out.
fn fill(text: &str, opening: &Opening) -> String {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{parameters.") {
        filled.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            filled.push_str("{parameters.");
            rest = after;
            break;
        };
        filled.push_str(opening.parameters.expose().get(name).map_or("", String::as_str));
        rest = behind;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use telemetry::Sensitive;

    use super::*;
    use crate::provider::Streaming;

    #[derive(Debug, Default)]
    struct Model(Mutex<Vec<Vec<Message>>>);

    impl Chat for Model {
        fn answer(&self, prompt: Vec<Message>) -> Streaming<Token> {
            self.0.lock().unwrap().push(prompt);
            let tokens = [Token::Text("Well".to_owned()), Token::Usage { prompt: 1, completion: 2 }];
            Box::pin(stream::iter(tokens.map(Ok)))
        }
    }

    fn pipeline() -> (Arc<Model>, Pipeline) {
        let model = Arc::new(Model::default());
        let persona = Persona {
            chat: model.clone(),
            instructions: "You serve {parameters.name}.{parameters.none}".to_owned(),
            greeting: "Hello {parameters.name}, {parameters.".to_owned(),
            silence_prompts: vec!["Hm?".to_owned()],
            goodbye: "Bye.".to_owned(),
        };
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
        assert_eq!(all(pipeline.greet()), [Piece::Say("Hello Ada, {parameters.".to_owned())]);
        let heard = Message { role: Role::Assistant, text: "Hello".to_owned() };
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
