//! What is asked of a recogniser that listens, and what becomes of its answers, in virtual time.

use std::{sync::Mutex, task::Waker};

use bytes::Bytes;

use super::*;
use crate::provider::{Pending, Speech};

/// What a recogniser is told, and tells.
#[derive(Debug, Default)]
struct Line {
    /// Bytes of earlier sound, session by session.
    sessions: Vec<usize>,
    fed: usize,
    finalized: u32,
    given_up: u32,
    voices: u32,
    judges_itself: bool,
    due: VecDeque<Result<Recognised, ProviderError>>,
}

#[derive(Debug, Default)]
struct Recogniser(Arc<Mutex<Line>>);

impl SpeechToText for Recogniser {
    fn transcribe(&self, _: Speech) -> Pending<String> {
        panic!("not here")
    }

    fn listen(&self, _: &str, earlier: Bytes) -> Option<Box<dyn Listening>> {
        let mut line = self.0.lock().unwrap();
        line.sessions.push(earlier.len());
        Some(Box::new(Session(Arc::clone(&self.0))))
    }
}

struct Session(Arc<Mutex<Line>>);

impl Listening for Session {
    fn feed(&mut self, codes: &[u8]) {
        self.0.lock().unwrap().fed += codes.len();
    }

    fn voice(&mut self) {
        self.0.lock().unwrap().voices += 1;
    }

    fn finalize(&mut self) {
        self.0.lock().unwrap().finalized += 1;
    }

    fn judges_itself(&self) -> bool {
        self.0.lock().unwrap().judges_itself
    }

    fn lost(&mut self, _: &ProviderError) {
        self.0.lock().unwrap().given_up += 1;
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Result<Recognised, ProviderError>> {
        self.0.lock().unwrap().due.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

struct Call {
    live: LiveWords,
    line: Arc<Mutex<Line>>,
    at: Instant,
}

#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
fn call(settings: LiveSettings) -> Call {
    let (line, at) = (Arc::<Mutex<Line>>::default(), Instant::now());
    let recogniser: Arc<dyn SpeechToText> = Arc::new(Recogniser(Arc::clone(&line)));
    let live = LiveWords::begin(&recogniser, "en", settings, at).unwrap();
    Call { live, line, at }
}

impl Call {
    fn sound(&mut self, ms: u64, voice: bool) {
        for _ in 0..ms / 20 {
            self.at += Duration::from_millis(20);
            self.live.feed(&[1; 160]);
            if voice {
                self.live.voice(Some(self.at));
            }
        }
    }

    fn ask(&mut self, probe: bool) -> Found {
        let question = Question {
            within_ms: 2000,
            probe,
            last_voice: self.live.voice.1,
            endpoint_silence: Duration::from_millis(400),
        };
        self.live.ask(question, self.at)
    }

    fn due(&self, event: Result<Recognised, ProviderError>) {
        self.line.lock().unwrap().due.push_back(event);
    }

    fn poll(&mut self) -> Vec<Told> {
        let mut cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| self.live.poll(&mut cx, self.at)).collect()
    }

    fn finalized(&self) -> u32 {
        self.line.lock().unwrap().finalized
    }
}

fn stretch(from_ms: u64, to_ms: u64, text: &str) -> Stretch {
    Stretch { from_ms, to_ms, text: text.to_owned(), words: Vec::new() }
}

fn lost(kind: Fault) -> ProviderError {
    ProviderError { kind, detail: "as scripted".to_owned() }
}

#[test]
fn words_are_asked_to_become_final_after_a_short_silence_and_once() {
    let mut call = call(LiveSettings::default());
    call.sound(1000, true);
    call.sound(40, false);
    let mut found = call.ask(false);
    call.due(Ok(Recognised::Interim(stretch(0, 800, "one"))));
    assert_eq!(call.poll(), [Told::Words]);
    assert_eq!((call.finalized(), call.live.words(2000).as_str()), (0, "one"));
    assert_eq!(call.live.deadline(), Some(call.at + Duration::from_millis(56)));
    call.sound(60, false);
    for _ in 0..3 {
        assert_eq!(call.poll(), []);
    }
    assert_eq!((call.finalized(), found.try_recv().is_err()), (1, true));
    call.due(Ok(Recognised::Final(stretch(0, 1090, "one two"))));
    assert_eq!(call.poll(), [Told::Words]);
    assert_eq!(found.try_recv().unwrap().as_deref(), Some("one two"));
    // What is final already is asked for no more.
    let mut again = call.ask(false);
    assert_eq!(call.poll(), []);
    assert_eq!((again.try_recv().unwrap().as_deref(), call.finalized()), (Some("one two"), 1));
}

#[test]
fn an_older_final_is_no_answer() {
    let mut call = call(LiveSettings::default());
    call.sound(1000, true);
    call.sound(100, false);
    let mut first = call.ask(false);
    call.poll();
    call.sound(400, true);
    call.sound(100, false);
    let mut second = call.ask(false);
    call.due(Ok(Recognised::Final(stretch(0, 1100, "one"))));
    call.poll();
    assert!(second.try_recv().is_err() && first.try_recv().is_err());
    call.due(Ok(Recognised::Final(stretch(1100, 1600, "two"))));
    call.poll();
    assert_eq!((second.try_recv().unwrap().as_deref(), call.finalized()), (Some("one two"), 2));
}

#[test]
fn what_is_there_is_taken_when_nothing_becomes_final_and_nothing_is_no_silence() {
    for (interim, words) in [(Some((800, "one")), Some("one")), (Some((1100, "")), Some("")), (None, None)] {
        let mut call = call(LiveSettings::default());
        call.sound(1000, true);
        call.sound(100, false);
        let mut found = call.ask(false);
        if let Some((to_ms, text)) = interim {
            call.due(Ok(Recognised::Interim(stretch(0, to_ms, text))));
        }
        call.poll();
        call.at = call.live.deadline().unwrap();
        call.poll();
        assert_eq!(found.try_recv().unwrap().as_deref(), words, "{interim:?}");
        assert_eq!(call.live.deadline(), None);
    }
}

#[test]
fn a_probe_is_answered_by_the_first_words_and_asks_for_nothing() {
    let mut call = call(LiveSettings::default());
    call.sound(400, true);
    let mut found = call.ask(true);
    call.poll();
    assert!(found.try_recv().is_err());
    call.due(Ok(Recognised::Interim(stretch(0, 200, "wait"))));
    call.poll();
    assert_eq!(found.try_recv().unwrap().as_deref(), Some("wait"));
    call.live.forget();
    let mut found = call.ask(true);
    call.at += PROBE_PATIENCE;
    call.poll();
    assert_eq!((found.try_recv().unwrap().as_deref(), call.finalized()), (Some(""), 0));
}

#[test]
fn a_lost_session_is_begun_anew_at_once_with_what_is_not_final_and_then_after_a_pause() {
    let mut call = call(LiveSettings::default());
    call.sound(3000, true);
    call.due(Ok(Recognised::Final(stretch(0, 2000, "one"))));
    call.poll();
    call.due(Err(lost(Fault::Unreachable)));
    assert_eq!(call.poll(), [Told::Fault(lost(Fault::Unreachable))]);
    assert_eq!(call.line.lock().unwrap().sessions, [0, 8000]);
    // Times of the second session begin with what it was given.
    call.due(Ok(Recognised::Final(stretch(0, 500, "two"))));
    call.poll();
    assert_eq!((call.live.words(1000).as_str(), call.live.words(2500).as_str()), ("two", "one two"));
    call.due(Err(lost(Fault::Failed)));
    call.poll();
    assert_eq!(call.line.lock().unwrap().sessions.len(), 2);
    // Meanwhile nobody listens.
    call.sound(100, true);
    let mut found = call.ask(false);
    call.poll();
    assert_eq!(found.try_recv(), Ok(None));
    let again = call.live.deadline().unwrap();
    assert_eq!(again - call.at, Duration::from_millis(4900));
    call.at = again;
    call.poll();
    assert_eq!(call.line.lock().unwrap().sessions, [0, 8000, 4800]);
}

#[test]
fn pauses_grow_and_a_refusal_is_for_good() {
    let mut call = call(LiveSettings::default());
    let mut pauses = Vec::new();
    for _ in 0..7 {
        call.due(Err(lost(Fault::Unreachable)));
        call.poll();
        let again = call.live.deadline().unwrap_or(call.at);
        pauses.push((again - call.at).as_secs());
        call.at = again;
        call.poll();
    }
    assert_eq!(pauses, [0, 5, 10, 20, 40, 60, 60]);
    // A refusal is one of two recognisers: whoever is next is asked once.
    let sessions = call.line.lock().unwrap().sessions.len();
    call.due(Err(lost(Fault::Denied)));
    call.poll();
    call.at = call.live.deadline().unwrap();
    call.poll();
    assert_eq!(call.line.lock().unwrap().sessions.len(), sessions + 1);
    call.due(Err(lost(Fault::Denied)));
    call.poll();
    call.at += Duration::from_secs(600);
    assert_eq!((call.poll(), call.live.deadline()), (Vec::new(), None));
    assert_eq!(call.line.lock().unwrap().sessions.len(), sessions + 1);
}

#[test]
fn after_the_first_refusal_another_is_asked_at_once() {
    let mut call = call(LiveSettings::default());
    call.sound(500, true);
    for (kind, sessions) in [(Fault::Denied, 2), (Fault::Rejected, 2)] {
        call.due(Err(lost(kind)));
        assert_eq!(call.poll(), [Told::Fault(lost(kind))]);
        assert_eq!(call.line.lock().unwrap().sessions.len(), sessions);
    }
    assert_eq!(call.live.deadline(), None);
}

#[test]
fn half_a_turn_is_not_taken_for_the_whole_when_its_session_was_lost() {
    let mut call = call(LiveSettings::default());
    call.sound(1000, true);
    call.due(Ok(Recognised::Final(stretch(0, 600, "one"))));
    call.due(Err(lost(Fault::Unreachable)));
    call.sound(100, false);
    let mut found = call.ask(false);
    call.poll();
    assert_eq!(call.finalized(), 1);
    call.at += Duration::from_millis(300);
    call.poll();
    assert_eq!(found.try_recv(), Ok(None));
}

#[test]
fn one_that_is_far_behind_has_gone() {
    let mut call = call(LiveSettings::default());
    call.sound(6000, true);
    call.sound(100, false);
    let mut found = call.ask(false);
    call.poll();
    call.at += Duration::from_millis(300);
    assert!(matches!(&call.poll()[..], [Told::Fault(ProviderError { kind: Fault::Timeout, .. })]));
    assert_eq!((found.try_recv(), call.line.lock().unwrap().sessions.len()), (Ok(None), 2));
    assert_eq!(call.line.lock().unwrap().given_up, 1);
    // The next one is not judged by what the one before did not do, but has no more time for its own.
    for (ms, told, sessions) in [(4000, 0, 2), (2000, 1, 3)] {
        call.sound(ms, true);
        call.sound(100, false);
        let _found = call.ask(false);
        call.poll();
        call.at += Duration::from_millis(300);
        assert_eq!(call.poll().len(), told, "{ms}");
        assert_eq!(call.line.lock().unwrap().sessions.len(), sessions);
    }
}

#[test]
fn one_that_tells_nothing_of_silence_is_not_given_up_for_it() {
    let mut call = call(LiveSettings::default());
    call.line.lock().unwrap().judges_itself = true;
    call.sound(6000, false);
    call.sound(200, true);
    call.sound(100, false);
    let mut found = call.ask(false);
    call.poll();
    call.at += Duration::from_millis(300);
    // It was told of each voice. The words have to be found in the recording, and that is all.
    assert_eq!((call.poll(), found.try_recv()), (vec![], Ok(None)));
    let line = call.line.lock().unwrap();
    assert_eq!((line.sessions.len(), line.given_up, line.voices), (1, 0, 10));
}

#[test]
fn an_end_counts_where_the_recogniser_decides_and_only_after_the_last_sound() {
    for (endpoint, at_ms, told) in [
        (Endpoint::Own, 1200, None),
        (Endpoint::Provider, 1200, Some("one")),
        // As words have it.
        (Endpoint::Provider, 800, Some("one")),
        (Endpoint::Provider, 600, None),
    ] {
        let mut call = call(LiveSettings { endpoint, ..LiveSettings::default() });
        call.sound(1000, true);
        call.sound(20, false);
        let mut found = call.ask(false);
        call.due(Ok(Recognised::Interim(stretch(0, 700, "one"))));
        call.poll();
        call.due(Ok(Recognised::EndOfSpeech { at_ms }));
        let ended = call.poll().contains(&Told::Ended);
        let words = found.try_recv().ok().flatten();
        assert_eq!((ended, words.as_deref()), (told.is_some(), told), "{endpoint:?} {at_ms}");
    }
}

#[test]
fn time_without_sound_is_silence_within_a_bound_and_so_is_what_is_kept() {
    let mut call = call(LiveSettings::default());
    call.live.gap(60);
    assert_eq!(call.line.lock().unwrap().fed, 480);
    call.live.gap(3_600_000);
    assert_eq!(call.line.lock().unwrap().fed, 480 + 16_000);
    assert!(call.live.kept.iter().all(|code| *code == 0xff));
    call.sound(60_000, false);
    assert_eq!(call.live.kept.len(), MAX_KEPT);
    // Of a turn that is over nothing is told again.
    call.live.end_turn();
    assert_eq!(call.live.kept.len(), 0);
    call.due(Ok(Recognised::Unreadable(lost(Fault::Malformed))));
    assert_eq!(call.poll(), [Told::Fault(lost(Fault::Malformed))]);
    assert_eq!(call.line.lock().unwrap().sessions.len(), 1);
}
