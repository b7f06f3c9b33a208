//! The words of a caller who is listened to while they speak: one session with a recogniser, begun anew when it is lost.
//!
//! Time and places: `at` is the clock; a place is the number of mu-law samples that came in the call before it.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::provider::{
    Fault, ProviderError, SpeechToText,
    listening::{Listening, Recognised, Stretch},
};

mod understood;

use understood::Understood;

/// Samples in a millisecond.
pub(super) const PER_MS: u64 = 8;

/// Sound that is kept for a session that takes over from one that was lost: what is not final yet, 10 s of it at most.
const MAX_KEPT: usize = 10_000 * PER_MS as usize;

/// Most silence that is told for time without sound: enough for a recogniser to find an end in it.
const MAX_SILENCE_MS: u64 = 2000;

/// Silence in mu-law.
const SILENCE: [u8; 160] = [0xff; 160];

/// Silence before what was said is asked to become final: a recogniser that is cut within a word loses it.
const BEFORE_FINAL: Duration = Duration::from_millis(96);

/// How long words are waited for in an interruption: when the agent goes on before, they still stop it.
const PROBE_PATIENCE: Duration = Duration::from_millis(1500);

/// A recogniser that is so far behind has gone.
const FAR_BEHIND: u64 = 5000 * PER_MS;

/// How exactly an end of speech is placed: recognisers know words, our ears sound.
const SLACK: u64 = 300 * PER_MS;

/// A lost session is begun anew at once, but not again within this time; each further failure doubles it, up to a minute.
const PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Who decides that the caller has finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// Our own ears, by silence.
    #[default]
    Own,
    /// The recogniser, when it is earlier than our own silence.
    Provider,
}

/// How a recogniser is used that listens while the caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSettings {
    /// Who decides that the caller has finished.
    pub endpoint: Endpoint,
    /// How long words may take to become final once they were asked to; 300 ms by default.
    pub finalize_wait: Duration,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self { endpoint: Endpoint::Own, finalize_wait: Duration::from_millis(300) }
    }
}

/// What is worth telling.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// More was understood, or something else.
    Words,
    /// The recogniser takes the caller's speech as over.
    Ended,
    /// It failed, and goes on, or is begun anew, or not.
    Fault(ProviderError),
}

/// What is to be found out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    /// Sound up to now in which the words are, in ms.
    pub(super) within_ms: u64,
    /// Only whether there are words, with the caller still speaking.
    pub(super) probe: bool,
    /// The caller's last sound.
    pub(super) last_voice: Option<Instant>,
    /// Silence at which our own ears take the turn as over.
    pub(super) endpoint_silence: Duration,
}

/// The words that were asked for; none when nobody listened, and they have to be found in the recording.
pub(super) type Found = oneshot::Receiver<Option<String>>;

struct Asked {
    answer: oneshot::Sender<Option<String>>,
    /// Where the words begin.
    from: u64,
    /// Up to where they have to be understood.
    to: u64,
    probe: bool,
    step: Step,
}

/// How far a question has come.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// At this time the words are asked to become final.
    Waiting(Instant),
    /// They were; at this time what is there is taken.
    Asked(Instant),
}

/// A recogniser that listens to a call.
pub(super) struct LiveWords {
    recogniser: Arc<dyn SpeechToText>,
    language: String,
    settings: LiveSettings,
    session: Option<Box<dyn Listening>>,
    /// The place of the call at which the session began.
    base: u64,
    /// The place up to which there was sound when it began; it owes nothing earlier.
    begun: u64,
    /// The place up to which there is sound.
    fed: u64,
    /// The place of the caller's last sound, and when that was.
    voice: (u64, Option<Instant>),
    /// The newest sound that is not final and of no turn that is over, for the next session.
    kept: VecDeque<u8>,
    understood: Understood,
    asked: Option<Asked>,
    /// When a lost session may be begun anew, and the pause after that; no more when never.
    again: Option<Instant>,
    pause: Duration,
    /// A session ended with what does not pass by itself. One more is begun, since another recogniser may take it.
    refused: bool,
    /// A session was lost in this turn.
    lost: bool,
    told: VecDeque<Told>,
}

impl LiveWords {
    /// Begins to listen, where the recogniser can.
    pub(super) fn begin(
        recogniser: &Arc<dyn SpeechToText>,
        language: &str,
        settings: LiveSettings,
        at: Instant,
    ) -> Option<Self> {
        let session = recogniser.listen(language, bytes::Bytes::new())?;
        Some(Self {
            recogniser: Arc::clone(recogniser),
            language: language.to_owned(),
            settings,
            session: Some(session),
            base: 0,
            begun: 0,
            fed: 0,
            voice: (0, None),
            kept: VecDeque::new(),
            understood: Understood::default(),
            asked: None,
            again: Some(at),
            pause: PAUSE,
            refused: false,
            lost: false,
            told: VecDeque::new(),
        })
    }

    /// The caller's sound as it came.
    pub(super) fn feed(&mut self, codes: &[u8]) {
        self.fed += codes.len() as u64;
        self.kept.extend(codes);
        let over = self.kept.len().saturating_sub(MAX_KEPT);
        self.kept.drain(..over);
        if let Some(session) = &mut self.session {
            session.feed(codes);
        }
    }

    /// Time that passed without sound.
    pub(super) fn gap(&mut self, ms: u64) {
        let mut left = (ms.min(MAX_SILENCE_MS) * PER_MS) as usize;
        while left > 0 {
            let piece = left.min(SILENCE.len());
            self.feed(&SILENCE[..piece]);
            left -= piece;
        }
    }

    /// When the caller's last sound was, as our own ears have it by now.
    pub(super) fn voice(&mut self, last: Option<Instant>) {
        if last != self.voice.1 {
            self.voice = (self.fed, last);
            // None is a hold, or the end of a turn.
            if last.is_some()
                && let Some(session) = &mut self.session
            {
                session.voice();
            }
        }
    }

    /// Asks for words. The one before is answered no more.
    pub(super) fn ask(&mut self, question: Question, at: Instant) -> Found {
        let (answer, found) = oneshot::channel();
        let since = |silence: Duration| question.last_voice.map_or(at, |last| (last + silence).max(at));
        let step = match self.settings.endpoint {
            _ if question.probe => Step::Asked(at + PROBE_PATIENCE),
            Endpoint::Own => Step::Waiting(since(BEFORE_FINAL)),
            // Its own end comes with final words; an order for them would take the end away.
            Endpoint::Provider => Step::Waiting(since(question.endpoint_silence)),
        };
        let from = self.fed.saturating_sub(question.within_ms * PER_MS);
        self.asked = Some(Asked { answer, from, to: self.voice.0, probe: question.probe, step });
        found
    }

    /// What is understood of the newest `within_ms` of sound.
    pub(super) fn words(&self, within_ms: u64) -> String {
        self.understood.since(self.fed.saturating_sub(within_ms * PER_MS))
    }

    /// What was said so far belongs to no turn that is still to come.
    pub(super) fn end_turn(&mut self) {
        self.understood.forget(self.fed);
        self.kept.clear();
        self.lost = false;
    }

    /// Nothing of before counts.
    pub(super) fn forget(&mut self) {
        self.asked = None;
        self.end_turn();
    }

    /// When to poll again, if nothing else happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let asked = self.asked.as_ref().map(|asked| match asked.step {
            Step::Waiting(until) | Step::Asked(until) => until,
        });
        let again = self.again.filter(|_| self.session.is_none());
        [asked, again].into_iter().flatten().min()
    }

    /// What is new.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Option<Told> {
        self.listen(cx, at);
        self.answer(at);
        self.told.pop_front()
    }

    fn listen(&mut self, cx: &mut Context<'_>, at: Instant) {
        if self.session.is_none() && self.again.is_some_and(|again| again <= at) {
            self.begin_anew(at);
        }
        while let Some(Poll::Ready(recognised)) = self.session.as_mut().map(|session| session.poll(cx)) {
            match recognised {
                Ok(Recognised::Interim(stretch)) => {
                    self.understood.interim(self.placed(stretch));
                    self.heard_from();
                }
                Ok(Recognised::Final(stretch)) => {
                    let stretch = self.placed(stretch);
                    let is_behind = self.fed.saturating_sub(stretch.to_ms * PER_MS);
                    let most = usize::try_from(is_behind).unwrap_or(usize::MAX);
                    let over = self.kept.len().saturating_sub(most);
                    self.kept.drain(..over);
                    self.understood.finish(stretch);
                    self.heard_from();
                }
                Ok(Recognised::EndOfSpeech { at_ms }) => self.on_end(self.base + at_ms * PER_MS),
                Ok(Recognised::Unreadable(error)) => self.tell(Told::Fault(error)),
                Err(error) => self.on_lost(error, at),
            }
        }
    }

    /// A stretch at its time of the call.
    fn placed(&self, mut stretch: Stretch) -> Stretch {
        let base_ms = self.base / PER_MS;
        stretch.from_ms += base_ms;
        stretch.to_ms += base_ms;
        for word in &mut stretch.words {
            word.from_ms += base_ms;
            word.to_ms += base_ms;
        }
        stretch
    }

    fn heard_from(&mut self) {
        self.pause = PAUSE;
        self.tell(Told::Words);
    }

    fn on_end(&mut self, place: u64) {
        // An end before the caller's last sound is of an earlier pause.
        if self.settings.endpoint == Endpoint::Provider && place + SLACK >= self.voice.0 {
            if let Some(asked) = self.asked.take_if(|asked| !asked.probe) {
                let _ = asked.answer.send(Some(self.understood.since(asked.from)));
            }
            self.tell(Told::Ended);
        }
    }

    /// The session is over.
    fn on_lost(&mut self, error: ProviderError, at: Instant) {
        (self.session, self.lost) = (None, true);
        if !error.kind.is_passing() && std::mem::replace(&mut self.refused, true) {
            self.again = None;
        }
        self.tell(Told::Fault(error));
        if self.again.is_some_and(|again| again <= at) {
            self.begin_anew(at);
        }
    }

    fn begin_anew(&mut self, at: Instant) {
        let earlier = bytes::Bytes::copy_from_slice(self.kept.make_contiguous());
        (self.base, self.begun) = (self.fed - earlier.len() as u64, self.fed);
        self.again = Some(at + self.pause);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        self.session = self.recogniser.listen(&self.language, earlier);
        if let Some(asked) = self.asked.as_mut().filter(|asked| !asked.probe) {
            asked.step = Step::Waiting(at);
        }
    }

    /// Answers what was asked, when it can be.
    fn answer(&mut self, at: Instant) {
        let Some(asked) = self.asked.take().filter(|asked| !asked.answer.is_closed()) else { return };
        let Some(session) = &mut self.session else {
            // What was understood before it was lost is half of it at best.
            let _ = asked.answer.send(None);
            return;
        };
        let words = self.understood.since(asked.from);
        let is_whole = self.understood.final_to() * PER_MS >= asked.to;
        if is_whole || (asked.probe && !words.is_empty()) {
            let _ = asked.answer.send(Some(words));
            return;
        }
        match asked.step {
            Step::Waiting(until) if until <= at => {
                session.finalize();
                self.asked = Some(Asked { step: Step::Asked(at + self.settings.finalize_wait), ..asked });
            }
            Step::Asked(until) if until <= at => {
                let is_behind = self.understood.newest_to() * PER_MS < asked.to;
                // It has not got there: silence is not what it heard, and what a lost session heard may be half of it.
                let is_half = is_behind && (self.lost || words.is_empty());
                let _ = asked.answer.send(Some(words).filter(|_| asked.probe || !is_half));
                let is_gone = (self.understood.newest_to() * PER_MS).max(self.begun) + FAR_BEHIND < asked.to;
                if is_gone && !session.judges_itself() {
                    let what = "nothing was understood for 5 s".to_owned();
                    let error = ProviderError { kind: Fault::Timeout, detail: what };
                    session.lost(&error);
                    self.on_lost(error, at);
                }
            }
            Step::Waiting(_) | Step::Asked(_) => self.asked = Some(asked),
        }
    }

    fn tell(&mut self, told: Told) {
        // Of words only the newest count.
        if told != Told::Words || self.told.back() != Some(&Told::Words) {
            self.told.push_back(told);
        }
    }
}

#[cfg(test)]
mod tests;
