//! Gives out what the agent says: its sound, and texts in the agent's voice.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use futures_util::StreamExt;

use super::{Remote, audio::Audio, said::Next, wire};
use crate::{
    agent::{Act, Report, Stage},
    dsp::{SampleRate, mulaw},
    provider::{ProviderError, Sound},
    traces::TurnStage,
};

/// Voices at work: that of the text that is heard next, and the one after it.
const VOICES: usize = 2;

impl Remote {
    /// What is said next, if it is time.
    pub(super) fn speak(&mut self, cx: &mut Context<'_>, pcm: &mut Vec<i16>, at: Instant) -> Option<Act> {
        self.hire_voices();
        while !self.listening.keeps_floor() || self.said.has_ended() || self.failing.is_some() {
            match self.said.next() {
                Next::Nothing => return None,
                Next::Act(act) => {
                    self.is_over |= matches!(act, Act::Hangup { .. } | Act::Transfer { .. });
                    return Some(act);
                }
                Next::Sound(audio) => return Some(self.give(audio, false, pcm, at)),
                Next::Text(id) => {
                    let audio = self.poll_voice(cx, id)?;
                    if let Some(audio) = audio {
                        return Some(self.give(audio, true, pcm, at));
                    }
                }
            }
        }
        None
    }

    fn give(&mut self, audio: Audio, is_text: bool, pcm: &mut Vec<i16>, at: Instant) -> Act {
        let begins = self.said.give(audio.us(), is_text, at);
        let (rate, act) = match audio {
            Audio::Pcm(rate, samples) => {
                pcm.extend(samples);
                (rate, Act::Speak(rate))
            }
            Audio::Mulaw(codes) => {
                mulaw::decode(&codes, pcm);
                (SampleRate::Hz8000, Act::Forward(codes))
            }
        };
        self.listening.says(pcm, rate, begins, self.said.heard_ms(), at);
        if let Some(mut turn) = self.answering.take() {
            let since = self.last_voice.map(|last| at.saturating_duration_since(last));
            (turn.first_audio, turn.first_sent) = (since, since);
            self.report(Report::Turn(turn));
        }
        act
    }

    /// Voices for the texts that come next.
    fn hire_voices(&mut self) {
        let Some(voice) = &self.voice else { return };
        for (id, text) in self.said.texts().take(VOICES) {
            if !self.voices.iter().any(|(hired, _)| *hired == id) {
                self.voices.push_back((id, voice.speak(text, &self.language)));
                self.spans.reach(TurnStage::TextToSpeech);
            }
        }
    }

    /// Sound of the text that is next; nothing yet, or (inside) nothing more.
    fn poll_voice(&mut self, cx: &mut Context<'_>, id: u64) -> Option<Option<Audio>> {
        loop {
            let found = self.voices.iter_mut().find(|(hired, _)| *hired == id);
            let Some((_, voice)) = found else {
                self.said.end_text();
                return Some(None);
            };
            let Poll::Ready(sound) = voice.poll_next_unpin(cx) else { return None };
            match sound {
                Some(Ok(Sound::Pcm(_, samples))) if samples.is_empty() => {}
                Some(Ok(Sound::Pcm(rate, samples))) => return Some(Some(Audio::Pcm(rate, samples))),
                Some(Ok(Sound::Mulaw(codes))) => return Some(Some(Audio::Mulaw(codes))),
                Some(Ok(Sound::Word { .. })) => {}
                Some(Err(ProviderError { kind, detail })) => {
                    let fault = Report::Fault { stage: Stage::TextToSpeech, fault: kind, detail };
                    self.report(fault);
                    self.tell(wire::refused("say", "the voice failed; what was said of this text is all there is"));
                    self.end_voice(id);
                    return Some(None);
                }
                None => {
                    self.end_voice(id);
                    return Some(None);
                }
            }
        }
    }

    pub(super) fn end_voice(&mut self, id: u64) {
        self.voices.retain(|(hired, _)| *hired != id);
        self.said.end_text();
    }
}
