//! What a remote agent says, through interruptions, holds and reports of what was heard, in virtual time.

#![expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]

use bytes::Bytes;
use proptest::prelude::*;
use proto::agent::v1::{AgentAudio, agent_audio};

use super::*;
use crate::dsp::SampleRate;

fn seconds(seconds: usize) -> Audio {
    Audio::Pcm(SampleRate::Hz8000, vec![0; 8000 * seconds])
}

fn say(utterance: u64, text: &str) -> Say {
    Say { utterance, text: text.to_owned() }
}

/// Gives out all that may be: seconds of sound, texts as 0 (of one second each), acts as they are.
fn drain(said: &mut Said, now: Instant) -> (u64, Vec<Act>) {
    let (mut us, mut acts) = (0, Vec::new());
    loop {
        match said.next() {
            Next::Nothing => return (us / SECOND, acts),
            Next::Sound(audio) => {
                said.give(audio.us(), false, now);
                us += audio.us();
            }
            Next::Text(_) => {
                said.give(SECOND, true, now);
                said.end_text();
                us += SECOND;
            }
            Next::Act(act) => acts.push(act),
        }
    }
}

fn told(said: &mut Said) -> Vec<(u64, u64, bool)> {
    std::iter::from_fn(|| said.poll_told()).map(|told| (told.utterance, told.ms, told.cleared)).collect()
}

fn message(sound: agent_audio::Sound, sample_rate: u32) -> AgentAudio {
    AgentAudio { utterance: 1, sound: Some(sound), sample_rate }
}

#[test]
fn sound_is_taken_at_any_known_rate_and_in_whole_samples() {
    let pcm = |bytes: &'static [u8]| agent_audio::Sound::Pcm(Bytes::from_static(bytes));
    let usual = SampleRate::Hz16000;
    let taken = Audio::of(message(pcm(&[1, 0, 0xFF, 0xFF]), 0), usual);
    assert_eq!(taken, Ok(Some(Audio::Pcm(SampleRate::Hz16000, vec![1, -1]))));
    assert!(matches!(Audio::of(message(pcm(&[0, 0]), 44_100), usual), Ok(Some(Audio::Pcm(SampleRate::Hz44100, _)))));
    let codes = agent_audio::Sound::Mulaw(Bytes::from_static(&[0xFF; 3]));
    assert_eq!(Audio::of(message(codes, 44_100), usual).unwrap().unwrap().us(), 375);
    assert_eq!(Audio::of(message(pcm(&[]), 0), usual), Ok(None));
    assert_eq!(Audio::of(AgentAudio { utterance: 1, sound: None, sample_rate: 0 }, usual), Ok(None));
    assert_eq!(Audio::of(message(pcm(&[0; 3]), 0), usual), Err(Broken::OddBytes));
    let wrong = Audio::of(message(pcm(&[0; 2]), 11_025), usual).unwrap_err();
    assert_eq!((wrong, wrong.code()), (Broken::UnknownRate(11_025), 3));
    assert!(wrong.to_string().contains("11025") && wrong.to_string().contains("22050"), "{wrong}");
}

#[test]
fn another_number_or_the_end_begins_another_utterance_and_reports_have_the_agents_numbers() {
    let (now, mut said) = (Instant::now(), Said::default());
    for utterance in [7, 7, 9] {
        said.on_audio(utterance, seconds(1)).unwrap();
    }
    said.on_end();
    said.on_audio(9, seconds(1)).unwrap();
    said.on_end();
    assert_eq!(drain(&mut said, now), (4, vec![Act::EndUtterance; 3]));
    for (ours, ms) in [(1, 200), (1, 2000), (2, 990), (3, 400), (4, 1)] {
        said.played(ours, ms, false);
    }
    assert_eq!(told(&mut said), [(7, 200, false), (7, 2000, false), (9, 990, false), (9, 400, false)]);
    assert!(!said.is_over());
    said.played(3, 1000, false);
    assert!(said.is_over());
}

#[test]
fn only_some_seconds_are_given_out_ahead_and_too_much_is_refused() {
    let (now, mut said) = (Instant::now(), Said::default());
    for _ in 0..50 {
        said.on_audio(1, seconds(1)).unwrap();
    }
    assert_eq!(drain(&mut said, now).0, 20);
    said.played(1, 12_000, false);
    assert_eq!(drain(&mut said, now).0, 12);
    let refused = (0..30).map(|_| said.on_audio(1, seconds(1))).find(Result::is_err);
    assert_eq!(refused, Some(Err(Broken::TooFarAhead)));
    let mut texts = Said::default();
    let refused = (0..100).map(|_| texts.on_say(say(1, "word"))).position(|taken| taken.is_err());
    assert_eq!(refused, Some(MAX_TEXTS));
    assert_eq!(texts.on_say(say(1, &"x".repeat(4001))), Err(Broken::TextTooLong));
}

#[test]
fn what_was_interrupted_is_told_and_what_still_comes_of_it_is_dropped() {
    let (now, mut said) = (Instant::now(), Said::default());
    for utterance in [1, 2, 3] {
        said.on_audio(utterance, seconds(15)).unwrap();
    }
    assert_eq!(drain(&mut said, now), (30, vec![Act::EndUtterance; 2]));
    assert_eq!(said.cut(true), Some(3));
    // The third never began; of the others the gateway tells.
    assert_eq!(told(&mut said), [(3, 0, true)]);
    said.played(1, 900, true);
    said.played(2, 0, true);
    assert_eq!(told(&mut said), [(1, 900, true), (2, 0, true)]);
    assert_eq!((said.on_audio(3, seconds(1)), said.is_over()), (Ok(true), true));
    assert_eq!(said.on_say(say(3, "late")), Ok(None));
    assert_eq!(said.on_audio(4, seconds(1)), Ok(false));
    assert_eq!(drain(&mut said, now).0, 1);
    // One who always uses the same number completes it.
    assert_eq!(said.cut(true), Some(4));
    assert_eq!(said.on_audio(4, seconds(1)), Ok(true));
    said.on_end();
    assert_eq!(said.on_audio(4, seconds(1)), Ok(false));
    // By its own word, the same number is a new utterance at once.
    assert_eq!(said.cut(false), Some(4));
    assert_eq!(said.on_audio(4, seconds(1)), Ok(false));
    assert_eq!(Said::default().cut(true), None);
}

#[test]
fn the_end_waits_for_what_was_said_unless_it_is_to_be_at_once() {
    let (now, end) = (Instant::now(), Act::Hangup { reason: String::new(), after_playback: true });
    let mut said = Said::default();
    said.on_audio(1, seconds(3)).unwrap();
    said.on_ending(end.clone(), true);
    assert_eq!(drain(&mut said, now), (3, vec![Act::EndUtterance, end.clone()]));
    assert!(said.has_ended());
    assert_eq!(said.on_audio(2, seconds(1)), Ok(true));
    let mut said = Said::default();
    said.on_audio(1, seconds(3)).unwrap();
    said.on_ending(end.clone(), false);
    assert_eq!(drain(&mut said, now), (0, vec![end]));
}

#[test]
fn of_texts_the_words_that_were_heard_are_told() {
    let (now, mut said) = (Instant::now(), Said::default());
    let reports = |said: &mut Said| {
        let text = |report| match report {
            Report::Said { text, interrupted, .. } => (text, interrupted),
            Report::Speech { .. } | Report::Turn(_) | Report::Tool(_) | Report::Fault { .. } => panic!("{report:?}"),
        };
        std::iter::from_fn(|| said.poll_report()).map(text).collect::<Vec<_>>()
    };
    said.on_say(say(1, "One two.")).unwrap();
    said.on_say(say(1, "Three four.")).unwrap();
    said.order("Ordered.");
    assert_eq!(drain(&mut said, now), (3, vec![Act::EndUtterance; 2]));
    said.played(1, 2000, false);
    assert_eq!(reports(&mut said), [("One two. Three four.".to_owned(), false)]);
    said.played(2, 1000, false);
    // What was ordered is none of the agent's.
    assert_eq!(told(&mut said), [(1, 2000, false)]);
    assert_eq!(reports(&mut said), [("Ordered.".to_owned(), false)]);
    said.on_say(say(5, "alpha bravo charlie delta")).unwrap();
    drain(&mut said, now);
    said.cut(true);
    said.played(3, 500, true);
    assert_eq!(reports(&mut said), [("alpha bravo".to_owned(), true)]);
}

#[test]
fn what_is_never_reported_was_heard_some_time_after_its_end() {
    let (now, mut said) = (Instant::now(), Said::default());
    said.on_audio(1, seconds(2)).unwrap();
    said.on_end();
    assert_eq!(said.deadline(), None);
    drain(&mut said, now);
    let due = now + Duration::from_secs(7);
    assert_eq!(said.deadline(), Some(due));
    said.tick(due - Duration::from_millis(1));
    assert!(!said.is_over());
    said.tick(due);
    assert!(said.is_over());
}

#[test]
fn an_interrupted_goodbye_still_ends_the_call() {
    let (now, end) = (Instant::now(), Act::Hangup { reason: String::new(), after_playback: true });
    let mut said = Said::default();
    said.on_say(say(1, "Goodbye then.")).unwrap();
    said.on_ending(end.clone(), true);
    assert!(matches!(said.next(), Next::Text(_)));
    said.give(SECOND, true, now);
    assert_eq!(said.cut(true), Some(1));
    // A second one finds nothing to throw away.
    assert_eq!(said.cut(true), None);
    assert_eq!(drain(&mut said, now), (0, vec![end]));
}

#[test]
fn orders_have_a_bound_of_their_own_and_take_no_room_of_the_agents() {
    let (now, mut said) = (Instant::now(), Said::default());
    assert_eq!((0..20).filter(|_| said.order("ordered").is_some()).count(), MAX_ORDERED);
    for _ in 0..MAX_TEXTS {
        assert!(said.on_say(say(1, "word")).is_ok_and(|id| id.is_some()));
    }
    assert_eq!(said.on_say(say(1, "word")), Err(Broken::TooFarAhead));
    // The agent's own texts make no room for orders, and orders that were said do.
    drain(&mut said, now);
    for ours in 1..=20 {
        said.played(ours, 60_000, false);
    }
    drain(&mut said, now);
    assert_eq!((0..20).filter(|_| said.order("ordered").is_some()).count(), MAX_ORDERED);
    said.cut(true);
    assert!(said.order("ordered").is_some());
    // Nor does the sound of an order count as the agent's.
    let mut said = Said::default();
    said.order("ordered");
    assert!(matches!(said.next(), Next::Text(_)));
    said.give(19 * SECOND, true, now);
    for _ in 0..60 {
        assert_eq!(said.on_audio(1, seconds(1)), Ok(false));
    }
    assert_eq!(said.on_audio(1, seconds(1)), Err(Broken::TooFarAhead));
}

proptest! {
    /// Whatever an agent sends and the gateway reports: nothing panics, no more is ahead than may be, and what is cut is over,
    /// except for the end of the call.
    #[test]
    fn bounds_hold(steps in prop::collection::vec((0_u8..40, 0_u64..5, 0_u64..30_000), 0..200)) {
        let (now, mut said, mut acts) = (Instant::now(), Said::default(), Vec::new());
        let end = Act::Hangup { reason: String::new(), after_playback: true };
        for (step, number, amount) in steps {
            let broken = match step {
                0..=11 => said.on_audio(number, Audio::Mulaw(vec![0; 1 + amount as usize * 4].into())).is_err(),
                12..=15 => said.on_say(say(number, "some words")).is_err(),
                16..=19 => { said.on_end(); false }
                20..=23 => { said.cut(number % 2 == 0); false }
                24..=27 => { said.played(number, amount, number == 4); false }
                28..=31 => { acts.extend(drain(&mut said, now).1); false }
                32..=38 => { said.order("ordered"); false }
                _ => { said.on_ending(end.clone(), number != 0); false }
            };
            prop_assert!(said.given_us() <= MAX_GIVEN_US + 16 * SECOND);
            if broken {
                break;
            }
            // The sound of texts comes at our own pace.
            prop_assert!(said.ahead_us() <= MAX_AHEAD_US + MAX_GIVEN_US + 16 * SECOND);
        }
        said.cut(true);
        acts.extend(drain(&mut said, now).1);
        prop_assert!(said.is_over());
        // Whatever happened to what was said, who ends the call ends it, once.
        prop_assert_eq!(acts.iter().filter(|act| **act == end).count(), usize::from(said.has_ended()));
    }
}
