//! Sound, voices and answers in virtual time: what is sent in which stream, and what is told.

use super::*;

/// A session, with what it was told to do written down.
struct Call {
    course: Course,
    at: Instant,
    /// Bytes of sound and whether it is closed, stream by stream; those that were dropped included.
    streams: Vec<(usize, bool)>,
    dropped: usize,
    told: Vec<Recognised>,
    failed: Option<ProviderError>,
}

#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
fn call(ends: bool) -> Call {
    let at = Instant::now();
    Call { course: Course::new(ends, at), at, streams: vec![], dropped: 0, told: vec![], failed: None }
}

impl Call {
    fn handle(&mut self, input: Input) {
        self.course.handle(input, self.at);
        while let Some(output) = self.course.poll() {
            assert!(self.failed.is_none(), "{output:?} after the end");
            match output {
                Output::Open => self.streams.push((0, false)),
                Output::Send(codes) => {
                    let stream = self.streams.last_mut().unwrap();
                    assert!(!stream.1 && !codes.is_empty() && codes.len() <= MAX_PIECE as usize);
                    stream.0 += codes.len();
                }
                Output::Close => self.streams.last_mut().unwrap().1 = true,
                Output::Drop => self.dropped += 1,
                Output::Tell(told) => self.told.push(told),
                Output::Fail(error) => self.failed = Some(error),
            }
        }
        assert!(self.course.sound.len() as u64 <= MAX_KEPT);
        assert!(self.course.streams.len() <= MAX_STREAMS);
    }

    fn sound(&mut self, ms: u64, is_voice: bool) {
        for _ in 0..ms / 20 {
            self.at += Duration::from_millis(20);
            self.handle(Input::Sound(Bytes::from_static(&[7; 160])));
            if is_voice {
                self.handle(Input::Voice);
            }
        }
    }

    /// To its next deadline.
    fn wait(&mut self) -> Duration {
        let until = self.course.poll_timeout().unwrap();
        let waited = until - self.at;
        self.at = until;
        self.handle(Input::Tick);
        waited
    }

    fn interim(&mut self, text: &str, to_ms: u64) {
        self.handle(Input::Heard(Heard::Interim { text: text.to_owned(), to_ms: Some(to_ms) }));
    }

    fn last(&mut self, text: &str, to_ms: u64) {
        self.handle(Input::Heard(Heard::Final { text: text.to_owned(), words: vec![], to_ms: Some(to_ms) }));
    }

    fn told(&mut self) -> Vec<Recognised> {
        std::mem::take(&mut self.told)
    }
}

fn stretch(from_ms: u64, to_ms: u64, text: &str) -> Stretch {
    Stretch { from_ms, to_ms, text: text.to_owned(), words: vec![] }
}

fn late() -> ProviderError {
    error(Fault::Failed, "OutOfRange")
}

#[test]
fn silence_is_not_sent_and_a_voice_goes_with_what_was_before_it() {
    let mut call = call(false);
    call.sound(60_000, false);
    assert_eq!((call.streams.len(), call.course.poll_timeout()), (0, None));
    call.sound(1000, true);
    // 480 ms before the first 20 ms with voice; of the last 80 ms there is no whole piece yet.
    assert_eq!(call.streams, [(1400 * 8, false)]);
    call.handle(Input::Finalize);
    assert_eq!(call.streams, [(1480 * 8, true)]);
    // Times are those of the call.
    call.interim("one", 900);
    call.last("one two", 1400);
    let base = 59_520;
    assert_eq!(
        call.told(),
        [
            Recognised::Interim(stretch(base, base + 900, "one")),
            Recognised::Final(stretch(base, base + 1400, "one two"))
        ]
    );
    call.handle(Input::Ended(End::Done));
    // All of it is settled, so that nobody waits for the silence behind it.
    assert_eq!(call.told(), [Recognised::Final(stretch(base + 1400, 61_000, ""))]);
    assert_eq!((call.dropped, call.course.poll_timeout()), (1, None));
    call.handle(Input::Finalize);
    call.sound(10_000, false);
    assert_eq!(call.streams.len(), 1);
}

#[test]
fn all_that_was_said_before_the_session_is_sent() {
    let mut call = call(false);
    call.handle(Input::Earlier(Bytes::new()));
    assert_eq!(call.streams.len(), 0);
    let mut call = self::call(false);
    call.handle(Input::Earlier(vec![7; 10_000 * 8].into()));
    call.handle(Input::Finalize);
    assert_eq!(call.streams, [(10_000 * 8, true)]);
    call.handle(Input::Ended(End::Done));
    assert_eq!(call.told(), [Recognised::Final(stretch(0, 10_000, ""))]);
}

#[test]
fn one_that_goes_on_speaking_is_heard_without_a_gap_and_in_order() {
    let mut call = call(false);
    call.sound(1000, true);
    call.sound(100, false);
    call.handle(Input::Finalize);
    call.sound(400, true);
    call.handle(Input::Finalize);
    let sent: Vec<_> = call.streams.iter().map(|stream| stream.0).collect();
    assert_eq!(sent, [1100 * 8, 400 * 8]);
    call.last("one", 1000);
    call.handle(Input::Ended(End::Done));
    call.last("two", 300);
    call.handle(Input::Ended(End::Done));
    assert_eq!(
        call.told(),
        [
            Recognised::Final(stretch(0, 1000, "one")),
            Recognised::Final(stretch(1000, 1100, "")),
            Recognised::Final(stretch(1100, 1400, "two")),
            Recognised::Final(stretch(1400, 1500, "")),
        ]
    );
}

#[test]
fn no_stream_is_without_sound() {
    let mut call = call(false);
    call.handle(Input::Voice);
    call.handle(Input::Finalize);
    call.sound(1000, true);
    call.handle(Input::Finalize);
    // It was in the sound that the first had.
    call.handle(Input::Voice);
    assert_eq!((call.streams.len(), call.wait()), (1, END_LIMIT));
    let mut call = self::call(false);
    call.sound(6000, true);
    call.last("one", 6000);
    call.handle(Input::Ended(End::Limit(late())));
    assert_eq!((call.streams.len(), call.dropped, call.course.poll_timeout()), (1, 1, None));
}

#[test]
fn there_are_only_so_many_streams_and_what_comes_meanwhile_is_not_lost() {
    let mut call = call(false);
    for _ in 0..6 {
        call.sound(200, true);
        call.handle(Input::Finalize);
    }
    assert_eq!(call.streams.len(), MAX_STREAMS);
    call.handle(Input::Ended(End::Done));
    // What came since the fourth was closed goes into the fifth.
    // And is closed at once, since its words were asked for.
    assert_eq!(call.streams.last(), Some(&(400 * 8, true)));
    for _ in 0..4 {
        call.handle(Input::Ended(End::Done));
    }
    let ends: Vec<_> = call.told().iter().map(|told| matches!(told, Recognised::Final(_))).collect();
    assert_eq!((ends, call.course.settled), (vec![true; 5], 1200 * 8));
}

#[test]
fn without_a_voice_a_stream_is_closed_and_one_that_does_not_end_is_a_fault() {
    let mut call = call(false);
    call.sound(1000, true);
    assert_eq!(call.wait(), QUIET);
    assert_eq!(call.streams, [(1000 * 8, true)]);
    assert_eq!(call.wait(), END_LIMIT);
    assert_eq!(call.failed, Some(error(Fault::Timeout, "no final words within 5 s")));
    // Each has its own time.
    let mut call = self::call(false);
    for _ in 0..2 {
        call.sound(1000, true);
        call.handle(Input::Finalize);
    }
    call.at += Duration::from_millis(3900);
    call.handle(Input::Ended(End::Done));
    assert_eq!(call.wait(), END_LIMIT);
    assert!(call.failed.is_some());
}

#[test]
fn words_that_do_not_become_final_are_taken_as_they_are() {
    let mut call = call(false);
    call.sound(1000, true);
    call.interim("one", 800);
    call.handle(Input::Finalize);
    call.handle(Input::Ended(End::Done));
    assert_eq!(call.told().last(), Some(&Recognised::Final(stretch(0, 1000, "one"))));
}

#[test]
fn times_that_cannot_be_are_held_within_what_was_sent() {
    let mut call = call(false);
    call.sound(1000, true);
    call.last("one", 9000);
    call.last("two", 500);
    call.handle(Input::Heard(Heard::Final { text: "three".to_owned(), words: vec![], to_ms: None }));
    call.interim("four", u64::from(u32::MAX));
    let ends: Vec<_> = call
        .told()
        .iter()
        .map(|told| match told {
            Recognised::Final(stretch) | Recognised::Interim(stretch) => (stretch.from_ms, stretch.to_ms),
            Recognised::EndOfSpeech { .. } | Recognised::Unreadable(_) => panic!("{told:?}"),
        })
        .collect();
    assert_eq!(ends, [(0, 1000), (1000, 1000), (1000, 1000), (1000, 1000)]);
}

#[test]
fn an_end_of_speech_is_told_with_its_words() {
    let mut call = call(true);
    call.sound(1000, true);
    call.sound(600, false);
    call.interim("one", 900);
    call.told();
    call.handle(Input::Heard(Heard::SpeechEnded { at_ms: Some(1600) }));
    assert_eq!((call.told(), call.streams[0].1), (vec![], true));
    call.last("one two", 1600);
    call.handle(Input::Ended(End::Done));
    let ended = Recognised::EndOfSpeech { at_ms: 1600 };
    assert_eq!(call.told(), [Recognised::Final(stretch(0, 1600, "one two")), ended.clone()]);
    // Words that become final by themselves are an end as well; those that were asked for are none, and where our own
    // ears decide there is none at all.
    for (ends, is_asked_for, is_end) in [(true, false, true), (true, true, false), (false, false, false)] {
        let mut call = self::call(ends);
        call.sound(1600, true);
        if is_asked_for {
            call.handle(Input::Finalize);
            call.handle(Input::Heard(Heard::SpeechEnded { at_ms: Some(1600) }));
        }
        call.last("one", 1600);
        assert_eq!(call.told().contains(&ended), is_end, "{ends} {is_asked_for}");
    }
}

#[test]
fn a_voice_without_a_pause_goes_on_in_another_stream_before_the_limit() {
    // With final words now and then, it is there that one follows the other.
    let mut call = call(false);
    for at in 1..=30_u64 {
        call.sound(10_000, true);
        let base_ms = call.course.streams.front().map_or(0, |stream| stream.base / PER_MS);
        call.last("more", at * 10_000 - 100 - base_ms);
    }
    let sent: Vec<_> = call.streams.iter().map(|stream| stream.0 as u64 / PER_MS).collect();
    assert_eq!((sent, call.dropped), (vec![250_000, 50_100], 1));
    // Without any, the newest 10 s are said once more.
    let mut call = self::call(false);
    call.sound(300_000, true);
    let sent: Vec<_> = call.streams.iter().map(|stream| stream.0 as u64 / PER_MS).collect();
    assert_eq!((sent, call.dropped), (vec![290_000, 19_900], 1));
}

#[test]
fn a_stream_that_reaches_a_limit_is_followed_by_one_with_what_was_not_final() {
    for end in [End::Limit(late()), End::Done] {
        let mut call = call(false);
        call.sound(8000, true);
        call.last("one", 6000);
        call.told();
        call.handle(Input::Ended(end.clone()));
        assert_eq!((call.streams.last(), call.dropped), (Some(&(2000 * 8, false)), 1), "{end:?}");
        call.last("two", 1500);
        assert_eq!(call.told(), [Recognised::Final(stretch(6000, 7500, "two"))]);
    }
    // What was asked to become final still is.
    let mut call = call(false);
    call.sound(8000, true);
    call.handle(Input::Finalize);
    call.handle(Input::Ended(End::Limit(late())));
    assert_eq!(call.streams, [(8000 * 8, true), (8000 * 8, true)]);
    // One that is new has failed.
    for (end, kind) in [(End::Limit(late()), Fault::Failed), (End::Done, Fault::Unreachable)] {
        let mut call = self::call(false);
        call.sound(4000, true);
        call.handle(Input::Ended(end));
        assert_eq!(call.failed.map(|error| error.kind), Some(kind));
    }
}

#[test]
fn a_token_is_asked_for_once_more_and_other_faults_end_the_session() {
    let denied = error(Fault::Denied, "Unauthenticated");
    let mut call = call(false);
    call.sound(1000, true);
    for _ in 0..2 {
        call.handle(Input::Ended(End::Token(denied.clone())));
        assert_eq!(call.failed, None);
        assert_eq!(call.streams.last(), Some(&(1000 * 8, false)));
        // It was taken after all.
        call.interim("one", 500);
    }
    call.handle(Input::Ended(End::Token(denied.clone())));
    call.handle(Input::Ended(End::Token(denied.clone())));
    assert_eq!(call.failed, Some(denied.clone()));
    let mut call = self::call(false);
    call.sound(1000, true);
    call.handle(Input::Ended(End::Fault(denied.clone())));
    assert_eq!((call.failed, call.dropped), (Some(denied), 1));
}
