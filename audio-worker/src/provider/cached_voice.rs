//! A voice that remembers what it said lately: greetings, apologies and questions sound at once, and when it is gone.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt, stream};

use super::{ProviderError, Sound, Streaming, TextToSpeech, meter::Meter};

/// Longest text whose sound is kept, in characters.
const MAX_CHARS: usize = 400;

/// Most samples kept of one text: 30 s at 24 kHz.
const MAX_SAMPLES: usize = 30 * 24_000;

/// Most samples kept of all: 8 MiB of them.
const MAX_ALL_SAMPLES: usize = 4 << 20;

/// Another voice, with a memory that all its calls share.
#[derive(Debug)]
pub struct CachedVoice {
    voice: Arc<dyn TextToSpeech>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    said: HashMap<Key, Said>,
    samples: usize,
    uses: u64,
}

/// Text and language.
type Key = (String, String);

struct Said {
    sounds: Arc<[Sound]>,
    samples: usize,
    used: u64,
}

impl CachedVoice {
    /// Remembers what `voice` says.
    pub fn new(voice: Arc<dyn TextToSpeech>) -> Self {
        Self { voice, memory: Arc::default() }
    }
}

impl TextToSpeech for CachedVoice {
    fn speak(&self, text: &str, language: &str) -> Streaming<Sound> {
        if text.chars().count() > MAX_CHARS {
            return self.voice.speak(text, language);
        }
        let key = (text.to_owned(), language.to_owned());
        // Held for a look-up, once an utterance.
        let known = self.memory.lock().unwrap_or_else(PoisonError::into_inner).recall(&key);
        match known {
            Some(sounds) => Box::pin(stream::iter((0..sounds.len()).map(move |at| Ok(sounds[at].clone())))),
            None => Box::pin(Learning {
                stand_ins: self.voice.stand_ins(),
                sound: self.voice.speak(text, language),
                voice: Arc::clone(&self.voice),
                memory: Arc::clone(&self.memory),
                key: Some(key),
                sounds: Vec::new(),
                samples: 0,
            }),
        }
    }

    fn warm(&self) {
        self.voice.warm();
    }

    fn metered(&self, meter: &Meter) -> Option<Arc<dyn TextToSpeech>> {
        let voice = self.voice.metered(meter)?;
        Some(Arc::new(Self { voice, memory: Arc::clone(&self.memory) }))
    }

    fn stand_ins(&self) -> u64 {
        self.voice.stand_ins()
    }
}

/// What a voice says, kept when it comes to its end.
struct Learning {
    sound: Streaming<Sound>,
    voice: Arc<dyn TextToSpeech>,
    /// How often another voice had stood in when this began: what that one says is not kept for later.
    stand_ins: u64,
    memory: Arc<Mutex<Memory>>,
    /// `None` once it is not worth keeping.
    key: Option<Key>,
    sounds: Vec<Sound>,
    samples: usize,
}

impl Stream for Learning {
    type Item = Result<Sound, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let sound = ready!(self.sound.poll_next_unpin(cx));
        match &sound {
            Some(Ok(sound)) if self.key.is_some() => {
                self.samples += samples(sound);
                self.sounds.push(sound.clone());
                if self.samples > MAX_SAMPLES {
                    (self.key, self.sounds) = (None, Vec::new());
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) => self.key = None,
            None => {
                let (sounds, samples) = (std::mem::take(&mut self.sounds), self.samples);
                let is_its_own = self.voice.stand_ins() == self.stand_ins;
                if let Some(key) = self.key.take().filter(|_| is_its_own) {
                    self.memory.lock().unwrap_or_else(PoisonError::into_inner).keep(key, sounds.into(), samples);
                }
            }
        }
        Poll::Ready(sound)
    }
}

impl Memory {
    fn recall(&mut self, key: &Key) -> Option<Arc<[Sound]>> {
        self.uses += 1;
        let said = self.said.get_mut(key)?;
        said.used = self.uses;
        Some(Arc::clone(&said.sounds))
    }

    fn keep(&mut self, key: Key, sounds: Arc<[Sound]>, samples: usize) {
        self.uses += 1;
        let said = Said { sounds, samples, used: self.uses };
        self.samples += samples;
        self.samples -= self.said.insert(key, said).map_or(0, |before| before.samples);
        while self.samples > MAX_ALL_SAMPLES {
            let oldest = self.said.iter().min_by_key(|(_, said)| said.used).map(|(key, _)| key.clone());
            let Some(forgotten) = oldest.and_then(|key| self.said.remove(&key)) else { break };
            self.samples -= forgotten.samples;
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("texts", &self.said.len()).field("samples", &self.samples).finish()
    }
}

fn samples(sound: &Sound) -> usize {
    match sound {
        Sound::Pcm(_, pcm) => pcm.len(),
        Sound::Mulaw(codes) => codes.len(),
        Sound::Word { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{dsp::SampleRate, provider::Fault};

    /// Counts what it is asked; "broken" fails after its first sound.
    #[derive(Debug, Default)]
    struct Counting(Mutex<Vec<String>>);

    impl TextToSpeech for Counting {
        fn speak(&self, text: &str, _: &str) -> Streaming<Sound> {
            self.0.lock().unwrap().push(text.to_owned());
            let sound = Ok(Sound::Pcm(SampleRate::Hz24000, vec![1; if text.contains("long") { 700_000 } else { 240 }]));
            let error = ProviderError { kind: Fault::Failed, detail: String::new() };
            let end = text.contains("broken").then_some(Err(error));
            Box::pin(stream::iter([sound.clone(), sound].into_iter().take(1).chain(end)))
        }
    }

    fn hear(voice: &CachedVoice, text: &str, language: &str) -> usize {
        voice.speak(text, language).collect::<Vec<_>>().now_or_never().unwrap().len()
    }

    #[test]
    fn what_was_said_whole_is_not_asked_for_again() {
        let counting = Arc::new(Counting::default());
        let voice = CachedVoice::new(counting.clone());
        for (text, language) in [("hello", "en"), ("hello", "en"), ("hello", "de"), ("broken", "en"), ("broken", "en")]
        {
            assert!(hear(&voice, text, language) > 0);
        }
        // Half an answer is none.
        drop(voice.speak("half", "en"));
        hear(&voice, "half", "en");
        assert_eq!(*counting.0.lock().unwrap(), ["hello", "hello", "broken", "broken", "half", "half"]);
    }

    #[test]
    fn it_has_a_bound_and_forgets_what_was_used_least_lately() {
        let counting = Arc::new(Counting::default());
        let voice = CachedVoice::new(counting.clone());
        hear(&voice, "short", "");
        for n in 0..7 {
            hear(&voice, &format!("long {n}"), "");
            hear(&voice, "short", "");
        }
        assert!(voice.memory.lock().unwrap().samples <= MAX_ALL_SAMPLES);
        let asked = counting.0.lock().unwrap().len();
        assert_eq!((hear(&voice, "short", ""), hear(&voice, "long 6", ""), hear(&voice, "long 0", "")), (1, 1, 1));
        assert_eq!(counting.0.lock().unwrap().len(), asked + 1);
    }
}
