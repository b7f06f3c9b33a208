//! A recogniser that listens to a stand-in, fed by hand or by a caller.

use std::{future::poll_fn, ops::Deref, sync::Arc, time::Duration};

use audio_worker::{
    agent::Agents,
    dsp::mulaw,
    provider::{
        ProviderError, SpeechToText,
        listening::{Listening, Recognised},
    },
};
use bytes::Bytes;
use tests::{
    deepgram::Deepgram,
    openai::{OpenAi, Script, Stage, tone},
    stack::{Stack, StackPlan},
    talk::{Phone, recorded, staff},
};
use tokio::time::timeout;

/// How long what must come may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Silence after which an answer is over.
pub(crate) const PAUSE: Duration = Duration::from_millis(600);

/// A session that is fed by hand.
pub(crate) struct Ear(pub(crate) Box<dyn Listening>);

impl Ear {
    pub(crate) fn open(recogniser: &dyn SpeechToText) -> Self {
        Self(recogniser.listen("en-GB", Bytes::new()).unwrap())
    }

    pub(crate) fn feed(&mut self, sound: &[u8], ms: usize) {
        for frame in sound.iter().copied().cycle().take(ms * 8).collect::<Vec<_>>().chunks(160) {
            self.0.feed(frame);
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Recognised, ProviderError> {
        timeout(PATIENCE, poll_fn(|cx| self.0.poll(cx))).await.expect("nothing comes")
    }

    /// The final words of all that was fed.
    pub(crate) async fn finish(&mut self) -> Vec<Recognised> {
        self.0.finalize();
        let mut found = Vec::new();
        loop {
            let next = self.next().await.unwrap();
            let is_final = matches!(next, Recognised::Final(_));
            found.push(next);
            if is_final {
                return found;
            }
        }
    }

    pub(crate) async fn fails(&mut self) -> ProviderError {
        loop {
            if let Err(error) = self.next().await {
                return error;
            }
        }
    }
}

/// Mu-law of a loud tone.
pub(crate) fn voice() -> Vec<u8> {
    let mut codes = Vec::new();
    let pcm: Vec<i16> = tone(400.0, Duration::from_secs(1)).into_iter().step_by(3).collect();
    mulaw::encode(&pcm, &mut codes);
    codes
}

pub(crate) const SILENCE: [u8; 160] = [0xff; 160];

/// An agent that is heard through the stand-in.
pub(crate) struct Desk<S> {
    pub(crate) stack: Stack,
    pub(crate) server: S,
    pub(crate) openai: OpenAi,
}

impl<S: Deref<Target = Deepgram>> Desk<S> {
    /// Heard by `provider`, whose stand-in `server` is; `more` stands in its table.
    pub(crate) async fn open(provider: &str, server: S, more: &str) -> Self {
        let script =
            Script { think: Arc::new(|turns| format!("You said {}", turns.last().unwrap().text)), ..Script::default() };
        let openai = OpenAi::start(script).await.unwrap();
        let stack = Stack::start(
            StackPlan::default()
                .agents(Self::staff(&openai, (provider, &server), more))
                .gateway("DEFAULT_AGENT", "desk"),
        );
        Self { stack: stack.await, server, openai }
    }

    fn staff(openai: &OpenAi, (provider, server): (&str, &S), more: &str) -> Agents {
        let url = server.base();
        let file = format!(
            r#"
            [agent.desk]
            kind = "pipeline"
            instructions = "Be brief."
            greeting = "Hello there."
            max_faults = 20
            [agent.desk.speech_to_text]
            provider = "{provider}"
            url = "{url}"
            {more}
            [agent.desk.chat]
            model = "m"
            [agent.desk.text_to_speech]
            model = "m"
            "#
        );
        staff(&file, &openai.base())
    }

    pub(crate) async fn greeted(&self) -> Phone {
        let mut phone = Phone::dial(&self.stack.call_plan()).await.unwrap();
        let began = phone.began();
        phone.until("the greeting", PATIENCE, |log| log.has_answered(began, PAUSE)).await.unwrap();
        phone
    }

    /// Says something in which `words` are understood; gives what the model was told of it.
    pub(crate) async fn say(&self, phone: &mut Phone, clip: usize, words: &str) -> String {
        self.server.says(words);
        let said = phone.say_all(&recorded()[clip]).await.unwrap().ended.unwrap();
        phone.until("an answer", PATIENCE, |log| log.has_answered(said, PAUSE)).await.unwrap();
        let asked = self.openai.asked_for(Stage::Chat);
        let messages = asked.last().unwrap().fields["messages"].as_array().unwrap().clone();
        messages.last().unwrap()["content"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn errors(&self, kind: &str) -> f64 {
        let name = format!("tandem_worker_provider_errors_total{{kind=\"{kind}\",stage=\"speech_to_text\"}}");
        self.stack.worker_metrics().await.of(&name).unwrap_or_default()
    }

    pub(crate) async fn close(self, mut phone: Phone) {
        phone.hang_up().await;
        self.server.wait_for("the end of all sessions", |sessions| sessions.iter().all(|one| one.is_over)).await;
        self.stack.stop().await;
    }
}
