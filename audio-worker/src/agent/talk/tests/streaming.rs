//! The same conversation with a recogniser that listens while the caller speaks.

use bytes::Bytes;

use super::*;
use crate::provider::listening::{Listening, Recognised, Stretch, TimedWord};

/// How the recogniser behaves.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// How long after it was asked it gives final words.
    finalizes_after_ms: Option<u64>,
    /// It finds ends of speech by itself, after so much silence.
    endpointing_ms: Option<u64>,
    /// How often it tells what it has understood so far.
    interim_ms: u64,
}

const QUICK: Manner = Manner { finalizes_after_ms: Some(60), endpointing_ms: None, interim_ms: 200 };

/// A recogniser that knows what is said when in the call, and hears it as the sound comes.
#[derive(Debug)]
struct Stenographer {
    ears: Arc<Ears>,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug)]
struct Script {
    manner: Manner,
    /// From, to, and the words, in ms of the call.
    said: Vec<(u64, u64, &'static str)>,
    /// Sessions that break, each at a time of the call.
    breaks: VecDeque<u64>,
    /// Sound that came in all, ms.
    fed: u64,
    /// Earlier sound with which each session began, ms.
    sessions: Vec<u64>,
    finalized: usize,
}

impl SpeechToText for Stenographer {
    fn transcribe(&self, speech: Speech) -> Pending<String> {
        self.ears.transcribe(speech)
    }

    fn listen(&self, language: &str, earlier: Bytes) -> Option<Box<dyn Listening>> {
        assert_eq!(language, "en");
        let earlier = earlier.len() as u64 / 8;
        let mut script = self.script.lock().unwrap();
        script.sessions.push(earlier);
        // What came while nobody listened is not known here.
        let base = script.fed.saturating_sub(earlier);
        Some(Box::new(Session {
            script: Arc::clone(&self.script),
            breaks_at: script.breaks.pop_front(),
            base,
            at: script.fed,
            told_at: base,
            final_to: base,
            asked_at: None,
            due: VecDeque::new(),
        }))
    }
}

struct Session {
    script: Arc<Mutex<Script>>,
    breaks_at: Option<u64>,
    base: u64,
    at: u64,
    told_at: u64,
    final_to: u64,
    asked_at: Option<u64>,
    due: VecDeque<Recognised>,
}

impl Session {
    /// What is understood behind the newest final stretch.
    fn stretch(&self, said: &[(u64, u64, &'static str)]) -> Stretch {
        let fresh: Vec<_> = said.iter().filter(|(from, to, _)| *to > self.final_to && *from < self.at).collect();
        let text = fresh.iter().map(|(.., text)| *text).collect::<Vec<_>>().join(" ");
        let words = fresh.iter().map(|(from, to, text)| TimedWord {
            text: (*text).to_owned(),
            from_ms: from.saturating_sub(self.base),
            to_ms: to.saturating_sub(self.base),
        });
        let words = words.collect();
        Stretch { from_ms: self.final_to - self.base, to_ms: self.at - self.base, text, words }
    }

    fn finish(&mut self, said: &[(u64, u64, &'static str)]) {
        self.due.push_back(Recognised::Final(self.stretch(said)));
        (self.final_to, self.told_at, self.asked_at) = (self.at, self.at, None);
    }
}

impl Listening for Session {
    fn feed(&mut self, codes: &[u8]) {
        let ms = codes.len() as u64 / 8;
        self.at += ms;
        let mut script = self.script.lock().unwrap();
        script.fed += ms;
        let (manner, said) = (script.manner, script.said.clone());
        drop(script);
        let is_due = |asked: u64| manner.finalizes_after_ms.is_some_and(|after| self.at >= asked + after);
        let ended = said.iter().any(|(_, to, _)| {
            *to > self.final_to && manner.endpointing_ms.is_some_and(|silence| self.at == to + silence)
        });
        if ended {
            self.finish(&said);
            self.due.push_back(Recognised::EndOfSpeech { at_ms: self.at - self.base });
        } else if self.asked_at.is_some_and(is_due) {
            self.finish(&said);
        } else if self.at >= self.told_at + manner.interim_ms {
            self.told_at = self.at;
            self.due.push_back(Recognised::Interim(self.stretch(&said)));
        }
    }

    fn finalize(&mut self) {
        self.asked_at = Some(self.at);
        self.script.lock().unwrap().finalized += 1;
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Result<Recognised, ProviderError>> {
        if self.breaks_at.is_some_and(|at| self.at >= at) {
            return Poll::Ready(Err(error(Fault::Unreachable)));
        }
        self.due.pop_front().map_or(Poll::Pending, |event| Poll::Ready(Ok(event)))
    }
}

fn streaming(
    manner: Manner,
    said: &[(u64, u64, &'static str)],
    breaks: &[u64],
    endpoint: Endpoint,
) -> (Call, Arc<Mutex<Script>>) {
    // What is found in recordings says where it comes from.
    let ears = Arc::new(Ears(Mutex::new([Ok("of the recording")].into()), Mutex::default()));
    let breaks = breaks.iter().copied().collect();
    let script = Script { manner, said: said.to_vec(), breaks, fed: 0, sessions: Vec::new(), finalized: 0 };
    let script = Arc::new(Mutex::new(script));
    let recogniser = Stenographer { ears: ears.clone(), script: Arc::clone(&script) };
    let live = LiveSettings { endpoint, ..LiveSettings::default() };
    (seat(Arc::new(recogniser), ears, None, live), script)
}

/// Last words never come by themselves, and are waited for longer than an interruption lasts.
fn waiting_long(said: &[(u64, u64, &'static str)]) -> Call {
    let ears = Arc::new(Ears(Mutex::new([Ok("of the recording")].into()), Mutex::default()));
    let manner = Manner { finalizes_after_ms: None, ..QUICK };
    let script =
        Script { manner, said: said.to_vec(), breaks: VecDeque::new(), fed: 0, sessions: Vec::new(), finalized: 0 };
    let recogniser = Stenographer { ears: ears.clone(), script: Arc::new(Mutex::new(script)) };
    let live = LiveSettings { finalize_wait: Duration::from_millis(1500), ..LiveSettings::default() };
    seat(Arc::new(recogniser), ears, None, live)
}

fn interims(call: &Call) -> Vec<&str> {
    let told = call.acts.iter().filter_map(|(_, act)| {
        let Act::Report(Report::Said { by: C, text, is_final: false, .. }) = act else { return None };
        Some(text.as_str())
    });
    told.collect()
}

fn faults(call: &Call) -> usize {
    call.count(|act| matches!(act, Act::Report(Report::Fault { .. })))
}

fn recordings(call: &Call) -> usize {
    call.ears.1.lock().unwrap().len()
}

const LONG: &str = "alpha bravo charlie delta echo foxtrot golf hotel india juliett";

#[tokio::test(start_paused = true)]
async fn the_words_are_there_when_the_caller_has_finished() {
    let said = [(1000, 1400, "one"), (1500, 2000, "two three")];
    let (mut call, script) = streaming(QUICK, &said, &[], Endpoint::Own);
    call.silence(1000).await.voice(1000).await.silence(1500).await;
    assert_eq!(call.said(), [(A, "Hello.", false), (C, "one two three", false), (A, "one two three", false)]);
    assert_eq!(interims(&call), ["one", "one two three"]);
    let began = call.sounded[1].0 - 2000;
    assert!((372..=440).contains(&began), "{began} ms");
    assert_eq!((recordings(&call), script.lock().unwrap().finalized, faults(&call)), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn final_words_that_come_late_or_never_are_not_waited_for() {
    for after in [Some(3000), None] {
        let said = [(1000, 1900, "one two three")];
        let (mut call, _) = streaming(Manner { finalizes_after_ms: after, ..QUICK }, &said, &[], Endpoint::Own);
        call.silence(1000).await.voice(1000).await.silence(1500).await;
        assert_eq!(call.said()[1..], [(C, "one two three", false), (A, "one two three", false)]);
        assert_eq!((recordings(&call), faults(&call)), (0, 0));
        // The words of one turn are not in the next.
        call.silence(2000).await;
        let at = call.at_ms;
        call.talk.hear(Heard::Gap(0));
        call.voice(600).await.silence(1500).await;
        assert!(call.said().iter().filter(|(by, ..)| *by == C).count() == 1, "{at}: {:?}", call.said());
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_hears_nothing_at_all_is_given_the_recording() {
    let (mut call, script) = streaming(
        Manner { finalizes_after_ms: None, endpointing_ms: None, interim_ms: 1 << 40 },
        &[],
        &[],
        Endpoint::Own,
    );
    call.silence(1000).await.voice(1000).await.silence(2000).await;
    assert_eq!(call.said()[1], (C, "of the recording", false));
    call.silence(3000).await.voice(1000).await.silence(2000).await;
    assert_eq!(call.said()[3], (C, "of the recording", false));
    // By then it was so far behind that another session was begun.
    assert_eq!((script.lock().unwrap().sessions.len(), faults(&call)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn words_tell_an_interruption_from_a_noise() {
    let said = [(1000, 1900, LONG), (6000, 6600, "stop it")];
    let (mut call, _) = streaming(QUICK, &said, &[], Endpoint::Own);
    call.silence(1000).await.voice(1000).await.silence(1400).await;
    // A noise: the agent goes on.
    call.voice(600).await.silence(2000).await;
    assert_eq!(call.count(|act| *act == Act::Continue), 1);
    assert_eq!(call.talk.stats().floor.false_interruptions, 1);
    call.voice(600).await.silence(2500).await;
    let said = call.said();
    let (_, heard, interrupted) = said[2];
    assert!(interrupted && LONG.starts_with(heard), "{said:?}");
    assert_eq!(said[3..], [(C, "stop it", false), (A, "stop it", false)]);
    assert_eq!(recordings(&call), 0);
}

#[tokio::test(start_paused = true)]
async fn one_who_interrupts_with_a_hole_after_the_first_word_interrupts_once_however_late_the_last_words_are() {
    let said = [(1000, 1900, LONG), (6000, 6250, "stop"), (6350, 7600, "I need a taxi")];
    let mut call = waiting_long(&said);
    call.silence(1000).await.voice(1000).await.silence(4000).await;
    call.voice(260).await.silence(100).await.voice(1240).await.silence(4000).await;
    let told = call.said();
    let (_, heard, interrupted) = told[2];
    assert!(interrupted && LONG.starts_with(heard), "{told:?}");
    assert_eq!(told[3..], [(C, "stop I need a taxi", false), (A, "stop I need a taxi", false)]);
    let times = [call.count(|act| *act == Act::Interrupt), call.count(|act| *act == Act::Continue)];
    assert_eq!(times, [1, 0], "interruptions, and those that were none");
    assert_eq!(call.talk.stats().floor.barge_ins, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_murmured_under_the_agents_voice_is_not_in_the_next_turn() {
    // As quiet as it is, the recogniser understands it.
    let said = [(1000, 1900, LONG), (3000, 3300, "mhm"), (7000, 7900, "one two")];
    let (mut call, _) = streaming(QUICK, &said, &[], Endpoint::Own);
    call.silence(1000).await.voice(1000).await.silence(5000).await;
    call.voice(1000).await.silence(1500).await;
    assert_eq!(call.said()[3..], [(C, "one two", false), (A, "one two", false)]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_breaks_in_a_turn_is_begun_anew_with_what_was_said() {
    let said = [(1000, 1400, "one"), (1500, 2000, "two three")];
    let (mut call, script) = streaming(QUICK, &said, &[1600], Endpoint::Own);
    call.silence(1000).await.voice(1000).await.silence(1500).await;
    assert_eq!(call.said()[1..], [(C, "one two three", false), (A, "one two three", false)]);
    // All since the greeting began: of what was before it nothing is expected any more.
    assert_eq!((script.lock().unwrap().sessions.as_slice(), faults(&call)), ([0, 1500].as_slice(), 1));
    assert_eq!(recordings(&call), 0);
}

#[tokio::test(start_paused = true)]
async fn the_recording_is_taken_when_the_second_session_breaks_as_well() {
    let said = [(1000, 1400, "one"), (1500, 2000, "two three"), (9000, 9900, "four")];
    let (mut call, script) = streaming(QUICK, &said, &[1600, 1800], Endpoint::Own);
    call.silence(1000).await.voice(1000).await.silence(1500).await;
    assert_eq!(call.said()[1..], [(C, "of the recording", false), (A, "of the recording", false)]);
    assert_eq!((script.lock().unwrap().sessions.len(), faults(&call)), (2, 2));
    // Nobody had to apologise, and a while later it listens again.
    call.silence(5000).await;
    assert_eq!(script.lock().unwrap().sessions.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_recogniser_may_decide_that_the_caller_has_finished() {
    let said = [(1000, 2000, "one two three")];
    let manner = Manner { endpointing_ms: Some(240), ..QUICK };
    let (mut call, script) = streaming(manner, &said, &[], Endpoint::Provider);
    call.silence(1000).await.voice(1000).await.silence(1500).await;
    assert_eq!(call.said()[1..], [(C, "one two three", false), (A, "one two three", false)]);
    let turn = call.acts.iter().find_map(|(_, act)| {
        let Act::Report(Report::Turn(turn)) = act else { return None };
        turn.endpoint
    });
    assert!(turn.unwrap() < Duration::from_millis(280), "{turn:?}");
    assert_eq!(script.lock().unwrap().finalized, 0);
    // One that does not decide is not waited for.
    let (mut call, script) = streaming(QUICK, &said, &[], Endpoint::Provider);
    call.silence(1000).await.voice(1000).await.silence(2000).await;
    assert_eq!(call.said()[1..], [(C, "one two three", false), (A, "one two three", false)]);
    assert_eq!(script.lock().unwrap().finalized, 1);
}
