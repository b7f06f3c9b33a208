//! An agent called `desk` for whole-system tests: one stand-in for all of its providers, which understands what it is told
//! to, and says each text at a pitch of its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::{Clip, Phone, Transcripts, staff};
use crate::{
    openai::{OpenAi, Script, Stage, tone},
    signal,
    sim::CallPlan,
    stack::{Stack, StackPlan},
};

/// How long its voice takes for a character.
pub const CHARACTER: Duration = Duration::from_millis(60);

/// How long an answer may take to come and to be heard.
const PATIENCE: Duration = Duration::from_secs(20);

/// Samples of a frame of 20 ms.
const FRAME: usize = 160;

/// A running pair with such an agent, and a caller's way to it.
pub struct Desk {
    /// Gateway and worker.
    pub stack: Stack,
    /// Stands in for the providers.
    pub server: OpenAi,
    /// How to call it.
    pub plan: CallPlan,
    transcripts: Transcripts,
    words: Arc<Mutex<String>>,
    pause: Duration,
}

impl Desk {
    /// With the agents of `file`, one of which is `desk`. Of `script` the ears and the voice are not asked. A caller takes
    /// an answer as over after silence of `pause`.
    pub async fn open(test: &str, file: &str, script: Script, pause: Duration) -> Self {
        let words = Arc::new(Mutex::new(String::new()));
        let understood = Arc::clone(&words);
        let script = Script {
            hear: Arc::new(move |_| understood.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            say: Arc::new(|text, _| {
                tone(pitch(text), CHARACTER * u32::try_from(text.chars().count()).unwrap_or(u32::MAX))
            }),
            ..script
        };
        let server = OpenAi::start(script).await.expect("a port");
        let transcripts = Transcripts::of_test(test);
        let plan = StackPlan::default().agents(staff(file, &server.base())).gateway("DEFAULT_AGENT", "desk");
        let stack = Stack::start(transcripts.kept_by(plan)).await;
        Self { plan: stack.call_plan(), stack, server, transcripts, words, pause }
    }

    /// From now on `words` are understood in whatever comes.
    pub fn understand(&self, words: &str) {
        words.clone_into(&mut self.words.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A caller who has heard the greeting.
    pub async fn greeted(&self) -> Phone {
        let mut phone = Phone::dial(&self.plan).await.expect("a call");
        let began = phone.began();
        self.answered(&mut phone, began).await;
        phone
    }

    /// Says something, in which `words` are understood; when its last sound was said.
    pub async fn say(&self, phone: &mut Phone, clip: &Clip, words: &str) -> Instant {
        self.understand(words);
        phone.say_all(clip).await.expect("a line that lasts").ended.expect("all was said")
    }

    /// The same, and hears what comes of it.
    pub async fn ask(&self, phone: &mut Phone, clip: &Clip, words: &str) {
        let said = self.say(phone, clip, words).await;
        self.answered(phone, said).await;
    }

    /// Hears what is answered to what was said until `said`.
    pub async fn answered(&self, phone: &mut Phone, said: Instant) {
        phone.until("an answer", PATIENCE, |log| log.has_answered(said, self.pause)).await.expect("an answer");
    }

    /// The messages of the newest request for an answer.
    pub fn newest_prompt(&self) -> Vec<Value> {
        let newest = self.server.asked_for(Stage::Chat).pop().expect("a request for an answer");
        newest.fields["messages"].as_array().expect("messages").clone()
    }

    /// The transcript of a call that is over.
    pub async fn transcript(&self, call_sid: &str) -> Vec<Value> {
        self.transcripts.of_call(call_sid).await
    }

    /// Ends it all.
    pub async fn close(self) {
        self.stack.stop().await;
    }
}

/// Where the pitch of a text is heard in samples at 8 kHz: the beginnings of frames of 20 ms, in ms. Texts differ by their
/// first letter.
pub fn heard(samples: &[i16], text: &str) -> Vec<usize> {
    let hz = pitch(text);
    let is_tone =
        |frame: &[i16]| signal::tone_share(frame, hz) > 0.6 && frame.iter().any(|sample| sample.unsigned_abs() > 2000);
    samples.chunks(FRAME).enumerate().filter(|(_, frame)| is_tone(frame)).map(|(at, _)| at * 20).collect()
}

fn pitch(text: &str) -> f64 {
    let letter = text.chars().next().unwrap_or('A').to_ascii_uppercase();
    400.0 + 50.0 * f64::from(u32::from(letter).saturating_sub(u32::from('A')).min(25))
}
