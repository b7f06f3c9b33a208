//! What the stand-in answers, and how fast.

use std::{
    f64::consts::TAU,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The rate of a voice, as OpenAI documents it for `pcm`.
pub const RATE_HZ: u32 = 24_000;

/// A recording to be put into words.
#[derive(Clone, Debug)]
pub struct Heard {
    /// A WAV file.
    pub wav: Vec<u8>,
    /// ISO 639-1, if it was given.
    pub language: Option<String>,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Its text; empty when there is none.
    pub text: String,
}

/// What a model calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which tool.
    pub name: String,
    /// JSON.
    pub arguments: String,
}

impl Call {
    /// A call of `name` with these arguments.
    pub fn new(name: &str, arguments: &serde_json::Value) -> Self {
        Self { name: name.to_owned(), arguments: arguments.to_string() }
    }
}

/// Recording to words. It may take its time: it runs on a thread of its own, and the delay runs meanwhile.
pub type Hear = Arc<dyn Fn(&Heard) -> String + Send + Sync>;
/// Conversation to answer. As [`Hear`].
pub type Think = Arc<dyn Fn(&[Turn]) -> String + Send + Sync>;
/// Conversation to calls of tools, which follow the words of the answer. As [`Hear`].
pub type Want = Arc<dyn Fn(&[Turn]) -> Vec<Call> + Send + Sync>;
/// Text and the name of a voice to samples of [`RATE_HZ`]. As [`Hear`].
pub type Say = Arc<dyn Fn(&str, &str) -> Vec<i16> + Send + Sync>;

/// What the stand-in answers.
#[derive(Clone)]
pub struct Script {
    /// The key that it wants, if any.
    pub key: Option<String>,
    /// Words for a recording.
    pub hear: Hear,
    /// From the whole recording to its words.
    pub hear_after: Duration,
    /// The answer of the model.
    pub think: Think,
    /// What the model calls for, where it was given tools.
    pub want: Want,
    /// From the messages to the first token.
    pub first_token: Duration,
    /// From token to token.
    pub next_token: Duration,
    /// The voice.
    pub say: Say,
    /// From the text to the first sound.
    pub first_sound: Duration,
    /// How much faster than it is played the rest comes.
    pub speed: f64,
}

impl Default for Script {
    /// The delays that response latency is measured with: 120 ms, 150 ms and 5 ms a token, 80 ms and ten times as fast
    /// as it is played. It hears the same words always, gives the same answer, and speaks a tone, 60 ms a character.
    fn default() -> Self {
        Self {
            key: None,
            hear: in_turn(["What can you do for me?"]),
            hear_after: Duration::from_millis(120),
            think: in_turn(["I can look things up for you. What would you like to know?"]),
            want: Arc::new(|_| Vec::new()),
            first_token: Duration::from_millis(150),
            next_token: Duration::from_millis(5),
            say: Arc::new(|text, _| {
                tone(440.0, Duration::from_millis(60) * u32::try_from(text.chars().count()).unwrap_or(u32::MAX))
            }),
            first_sound: Duration::from_millis(80),
            speed: 10.0,
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("hear_after", &self.hear_after).finish_non_exhaustive()
    }
}

/// One text after the other, whatever comes; the last one again and again.
pub fn in_turn<T: ?Sized>(
    texts: impl IntoIterator<Item = impl Into<String>>,
) -> Arc<dyn Fn(&T) -> String + Send + Sync> {
    let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
    let next = AtomicUsize::new(0);
    Arc::new(move |_| {
        let at = next.fetch_add(1, Ordering::Relaxed).min(texts.len().saturating_sub(1));
        texts.get(at).cloned().unwrap_or_default()
    })
}

/// A tone of half of full scale and [`RATE_HZ`].
pub fn tone(hz: f64, length: Duration) -> Vec<i16> {
    let samples = (length.as_secs_f64() * f64::from(RATE_HZ)) as u64;
    (0..samples).map(|at| ((at as f64 * hz / f64::from(RATE_HZ) * TAU).sin() * 16_384.0) as i16).collect()
}
