//! Behaviour of turn-taking, in virtual time.

use proptest::prelude::*;

use std::time::Duration;

use super::*;

/// A conversation whose clock is moved by what is heard.
struct Talk {
    core: TurnTaking,
    began: Instant,
    now: Instant,
    out: Vec<(u64, Output)>,
}

fn talk() -> Talk {
    with(settings())
}

/// What the times below are written for, whatever the defaults are.
fn settings() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        min_speech: ms(96),
        guess_silence: ms(64),
        endpoint_silence: ms(400),
        barge_in: ms(96),
        false_interruption: ms(1000),
        ..Settings::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
fn with(settings: Settings) -> Talk {
    let now = Instant::now();
    Talk { core: TurnTaking::new(settings, now), began: now, now, out: Vec::new() }
}

impl Talk {
    fn put(&mut self, input: Input<'_>) -> &mut Self {
        self.core.handle(input, self.now);
        self.out.clear();
        self.pull();
        self
    }

    fn pull(&mut self) {
        let at = self.now.duration_since(self.began).as_millis() as u64;
        self.out.extend(std::iter::from_fn(|| self.core.poll()).map(|out| (at, out)));
    }

    /// Sound of this kind for `ms`, in windows; what came out of it stays to be looked at.
    fn sound(&mut self, voice: f32, echo: bool, ms: u64) -> &mut Self {
        self.out.clear();
        for _ in 0..ms / 32 {
            self.now += WINDOW;
            self.core.handle(Input::Window { voice, echo }, self.now);
            self.pull();
        }
        self
    }

    fn voice(&mut self, ms: u64) -> &mut Self {
        self.sound(0.9, false, ms)
    }

    fn silence(&mut self, ms: u64) -> &mut Self {
        self.sound(0.02, false, ms)
    }

    /// Nothing at all comes: only the core's own deadlines.
    fn nothing(&mut self, ms: u64) -> &mut Self {
        self.out.clear();
        let end = self.now + Duration::from_millis(ms);
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.handle(Input::Tick, self.now);
            self.pull();
            assert!(self.core.poll_timeout().is_none_or(|at| at > self.now), "it asks for the past again");
        }
        self.now = end;
        self
    }

    fn words(&mut self, turn: u64, text: &str) -> &mut Self {
        self.put(Input::Words { turn, text })
    }

    fn speaking(&mut self) -> &mut Self {
        self.put(Input::Preparing).put(Input::Speaking { protected: false })
    }

    fn came(&self) -> Vec<Output> {
        self.out.iter().map(|(_, out)| *out).collect()
    }

    #[track_caller]
    fn gives(&mut self, expected: &[Output]) -> &mut Self {
        assert_eq!(self.came(), expected);
        self
    }
}

const BEGAN: Output = Output::Speech { began: true };
const ENDED: Output = Output::Speech { began: false };

fn guess(turn: u64) -> Output {
    Output::Guess { turn, probe: false }
}

fn probe(turn: u64) -> Output {
    Output::Guess { turn, probe: true }
}

#[test]
fn a_turn_is_guessed_at_the_first_short_silence_and_answered_at_the_long_one() {
    let mut talk = talk();
    talk.voice(960).gives(&[BEGAN]);
    talk.silence(64).gives(&[guess(1)]);
    talk.words(1, "hello there").gives(&[]);
    talk.silence(320).gives(&[]);
    talk.silence(32).gives(&[ENDED, Output::Answer { turn: 1 }]);
    assert_eq!(talk.out[0].0, 960 + 416);
    talk.put(Input::Speaking { protected: false }).silence(3200).gives(&[]);
    talk.put(Input::Finished).gives(&[]);
    assert_eq!(talk.core.stats(), Stats { turns: 1, guesses: 1, ..Stats::default() });
}

#[test]
fn a_pause_to_think_throws_the_guess_away_and_the_turn_goes_on() {
    let mut talk = talk();
    talk.voice(960).silence(352).gives(&[guess(1)]);
    talk.voice(64).gives(&[Output::Forget { turn: 1 }]);
    talk.voice(640).silence(416).gives(&[guess(2), ENDED, Output::Answer { turn: 2 }]);
    assert_eq!(talk.core.stats().forgotten, 1);
}

#[test]
fn a_click_neither_begins_a_turn_nor_throws_a_guess_away() {
    let mut talk = talk();
    talk.voice(32).silence(320).voice(64).silence(640).gives(&[]);
    talk.voice(960).silence(192).gives(&[guess(1)]);
    talk.voice(32).gives(&[]);
    talk.silence(224).gives(&[ENDED, Output::Answer { turn: 1 }]);
}

#[test]
fn weak_places_of_speech_are_no_silence() {
    let mut talk = talk();
    talk.voice(320);
    talk.sound(0.4, false, 640).gives(&[]);
    talk.silence(64).gives(&[guess(1)]);
}

#[test]
fn who_speaks_on_after_the_end_was_decided_is_heard_out() {
    let mut talk = talk();
    talk.voice(960).silence(416).words(1, "I would").voice(96).gives(&[Output::Forget { turn: 1 }, BEGAN]);
    assert!(talk.core.keeps_speech());
    talk.voice(320).silence(416).gives(&[guess(2), ENDED, Output::Answer { turn: 2 }]);
    assert_eq!(talk.core.stats().cut_off, 1);
}

#[test]
fn an_interruption_with_holes_is_one_though_its_words_come_late() {
    let mut talk = with(Settings { guess_silence: Duration::from_millis(32), ..settings() });
    talk.speaking();
    assert!(talk.voice(128).came().contains(&Output::Interrupt));
    let mut asked: Option<(u64, u64)> = None;
    // Words take four windows, and there is a hole in every five.
    for window in 0..60_u64 {
        let out = if window % 5 == 4 { talk.silence(32) } else { talk.voice(32) }.came();
        assert!(!out.contains(&Output::GoOn), "after {window} windows");
        for output in out {
            match output {
                Output::Guess { turn, .. } => asked = Some((turn, window)),
                Output::Forget { .. } => asked = None,
                Output::Speech { .. }
                | Output::Answer { .. }
                | Output::Interrupt
                | Output::GoOn
                | Output::Prompt { .. } => {}
            }
        }
        if let Some((turn, _)) = asked.filter(|(_, at)| window - at >= 4) {
            asked = None;
            talk.words(turn, "wait a moment");
        }
    }
    assert_eq!((talk.core.stats().barge_ins, talk.core.stats().false_interruptions), (1, 0));
}

#[test]
fn a_recogniser_may_end_a_turn_before_the_silence_is_long_enough() {
    let mut talk = talk();
    talk.voice(960).silence(192).gives(&[guess(1)]);
    talk.words(1, "hello there");
    talk.put(Input::EndOfSpeech).gives(&[ENDED, Output::Answer { turn: 1 }]);
    // Who goes on was cut off, and is heard out.
    talk.silence(64).voice(128).gives(&[Output::Forget { turn: 1 }, BEGAN]);
    // Before words were asked for they are asked for now.
    let mut patient = with(Settings { guess_silence: Duration::from_millis(384), ..settings() });
    patient.voice(960).silence(192).gives(&[]);
    patient.put(Input::EndOfSpeech).gives(&[guess(1), ENDED, Output::Answer { turn: 1 }]);
}

#[test]
fn an_end_that_our_own_ears_do_not_hear_is_none() {
    let mut talk = talk();
    talk.put(Input::EndOfSpeech).gives(&[]);
    talk.voice(960).put(Input::EndOfSpeech).gives(&[]);
    talk.silence(96).put(Input::EndOfSpeech).gives(&[]);
    // Whether it is an interruption at all has to be known first.
    talk.speaking().silence(320).voice(128);
    talk.silence(192).put(Input::EndOfSpeech).gives(&[]);
    talk.words(2, "stop").put(Input::EndOfSpeech).gives(&[ENDED, Output::Answer { turn: 2 }]);
}

#[test]
fn what_may_be_the_beginning_of_more_is_waited_for_but_not_for_long() {
    let mut talk = talk();
    talk.voice(320).silence(384);
    // A soft beginning, with a hole in it, at the very end of the silence that is asked for.
    assert!(talk.sound(0.3, false, 32).silence(32).sound(0.3, false, 32).came().is_empty());
    assert!(talk.voice(64).came().iter().all(|output| matches!(output, Output::Forget { .. })));
    assert_eq!(talk.core.stats().turns, 0);
    talk.silence(384);
    let came = talk.sound(0.3, false, 480).out.clone();
    let answers = came.iter().filter(|(_, output)| matches!(output, Output::Answer { .. })).count();
    assert_eq!(answers, 1, "{came:?}");
}

#[test]
fn a_turn_ends_when_no_sound_comes_any_more() {
    let mut talk = talk();
    talk.voice(960).nothing(600).gives(&[guess(1), ENDED, Output::Answer { turn: 1 }]);
    assert_eq!(talk.out[0].0, 960 + 500);
}

#[test]
fn a_turn_that_never_ends_is_cut_and_does_not_go_on_in_the_next() {
    let settings = Settings { max_utterance: Duration::from_secs(3), ..settings() };
    let mut talk = with(settings);
    talk.voice(3200).gives(&[BEGAN, guess(1), ENDED, Output::Answer { turn: 1 }]);
    talk.voice(6400).gives(&[]);
    talk.put(Input::Speaking { protected: false }).voice(3200).gives(&[]);
    talk.silence(320).voice(128).gives(&[Output::Interrupt, BEGAN]);
}

#[test]
fn words_that_are_none_bring_back_the_silence() {
    let mut talk = talk();
    talk.voice(320).silence(64).words(1, " ").silence(352).gives(&[ENDED, Output::Forget { turn: 1 }]);
    // The same when they come late.
    talk.voice(320).silence(416).gives(&[guess(2), ENDED, Output::Answer { turn: 2 }]);
    talk.words(2, "").gives(&[Output::Forget { turn: 2 }]);
    assert_eq!(talk.core.stats().empty, 2);
    talk.voice(320).gives(&[BEGAN]);
}

#[test]
fn a_caller_who_interrupts_is_heard_within_a_few_windows_and_answered() {
    let mut talk = talk();
    talk.speaking().silence(960).voice(64).gives(&[]);
    talk.voice(32).gives(&[Output::Interrupt, BEGAN]);
    talk.voice(416).gives(&[probe(1)]);
    talk.voice(320).words(1, "no stop").gives(&[]);
    talk.voice(320).silence(64).gives(&[guess(2)]);
    talk.words(2, "no stop I meant tomorrow").silence(352).gives(&[ENDED, Output::Answer { turn: 2 }]);
    assert_eq!((talk.core.stats().barge_ins, talk.core.stats().false_interruptions), (1, 0));
}

#[test]
fn noise_interrupts_once_and_the_agent_goes_on_in_time() {
    let mut talk = talk();
    talk.speaking().silence(960).voice(96).gives(&[Output::Interrupt, BEGAN]);
    // It goes on without a pause; nobody finds words in it.
    talk.voice(1024).gives(&[probe(1), ENDED, Output::GoOn]);
    assert_eq!(talk.out[2].0 - (960 + 96), 1024);
    talk.voice(9600).gives(&[]);
    assert_eq!(talk.core.stats().false_interruptions, 1);
}

#[test]
fn half_a_sentence_without_words_is_listened_to_again_before_the_agent_goes_on() {
    let mut talk = talk();
    talk.speaking().silence(960).voice(96).gives(&[Output::Interrupt, BEGAN]);
    talk.voice(416).gives(&[probe(1)]);
    talk.words(1, "").voice(320).gives(&[]);
    talk.voice(96).gives(&[probe(2)]);
    talk.words(2, "stop I need").voice(960).silence(64).gives(&[guess(3)]);
    talk.words(3, "stop I need a taxi").silence(352).gives(&[ENDED, Output::Answer { turn: 3 }]);
    assert_eq!((talk.core.stats().barge_ins, talk.core.stats().false_interruptions), (1, 0));
}

#[test]
fn who_speaks_on_after_the_agent_went_on_is_recorded_for_the_words_that_come_late() {
    let mut talk = talk();
    talk.speaking().silence(960).voice(1120);
    assert_eq!(talk.came().last(), Some(&Output::GoOn));
    assert!(talk.core.records() && !talk.core.keeps_speech());
    talk.voice(320).words(1, "stop I need").gives(&[Output::Interrupt, BEGAN, Output::Forget { turn: 1 }]);
    talk.voice(320).silence(64).gives(&[guess(2)]);
    talk.words(2, "stop I need a taxi").silence(352).gives(&[ENDED, Output::Answer { turn: 2 }]);
    // Silence is nobody's.
    let mut talk = with(Settings::default());
    talk.speaking().voice(1280).silence(320);
    assert!(!talk.core.records());
}

#[test]
fn noise_in_which_no_words_are_found_twice_lets_the_agent_go_on_at_once() {
    let mut talk = talk();
    talk.speaking().silence(960).voice(96).gives(&[Output::Interrupt, BEGAN]);
    talk.voice(416).gives(&[probe(1)]);
    talk.words(1, "").voice(416).gives(&[probe(2)]);
    talk.words(2, " ").gives(&[ENDED, Output::GoOn]);
    talk.voice(9600).gives(&[]);
}

#[test]
fn a_hole_after_the_first_word_of_an_interruption_is_not_its_end() {
    let mut talk = talk();
    talk.speaking().silence(960).voice(320).silence(64);
    assert_eq!(talk.came(), [guess(1)]);
    // "Stop" alone is nothing to the recogniser.
    talk.words(1, "").gives(&[]);
    talk.silence(96).gives(&[]);
    talk.voice(256).gives(&[Output::Forget { turn: 1 }, probe(2)]);
    talk.words(2, "stop I need").voice(320).silence(64).gives(&[guess(3)]);
    talk.words(3, "stop I need a taxi").silence(352).gives(&[ENDED, Output::Answer { turn: 3 }]);
}

#[test]
fn a_voice_that_the_agent_talked_over_is_listened_to_once_it_has_ended() {
    let mut talk = talk();
    talk.speaking().silence(960).voice(96).voice(416).gives(&[probe(1)]);
    // The recogniser takes its time, and then finds nothing in half a sentence.
    talk.voice(640);
    assert_eq!(talk.came().last(), Some(&Output::GoOn));
    talk.words(1, "").voice(640).gives(&[]);
    assert!(talk.core.records());
    talk.silence(320).gives(&[guess(2)]);
    talk.words(2, "stop I need a taxi").gives(&[Output::Interrupt, BEGAN, ENDED, Output::Answer { turn: 2 }]);
}

#[test]
fn noise_that_the_agent_talked_over_is_looked_at_once_more_and_no_longer() {
    let mut talk = talk();
    talk.speaking().silence(960).voice(96).voice(1600).silence(320);
    assert_eq!(talk.came(), [guess(2)]);
    talk.words(2, "").silence(3200).gives(&[]);
    assert!(!talk.core.records());
}

#[test]
fn a_filler_lets_the_agent_go_on_as_soon_as_it_is_understood() {
    let mut talk = talk();
    talk.speaking().voice(320).silence(64).gives(&[guess(1)]);
    talk.words(1, "Mm-hmm.").gives(&[ENDED, Output::GoOn]);
    talk.silence(3200).gives(&[]);
    talk.put(Input::Finished).voice(320).gives(&[BEGAN]);
}

#[test]
fn an_interruption_whose_words_come_late_interrupts_again() {
    let mut talk = talk();
    talk.speaking().voice(960).silence(320);
    assert_eq!(talk.came().last(), Some(&Output::GoOn));
    talk.words(2, "wait a minute").gives(&[Output::Interrupt, BEGAN]);
    talk.silence(32);
    assert_eq!(talk.came().last(), Some(&Output::Answer { turn: 2 }));
    assert_eq!(talk.core.stats().barge_ins, 1);
}

#[test]
fn words_that_are_known_while_the_last_ones_do_not_come_are_an_interruption() {
    let mut talk = with(Settings { guess_silence: Duration::from_millis(32), ..settings() });
    let so_far = |talk: &mut Talk, text| talk.put(Input::WordsSoFar { text }).came();
    talk.speaking().silence(960).voice(96).gives(&[Output::Interrupt, BEGAN]);
    // The words of a hole are asked for and do not come; the caller speaks on.
    talk.silence(32).gives(&[guess(1)]);
    assert_eq!(so_far(&mut talk, "stop"), []);
    talk.voice(384).gives(&[Output::Forget { turn: 1 }]);
    assert_eq!(talk.out[0].0 - (960 + 96), 416);
    assert_eq!(so_far(&mut talk, "stop I need"), []);
    talk.words(1, "stop").voice(1280).silence(32).gives(&[guess(2)]);
    talk.words(2, "stop I need a taxi").silence(384).gives(&[ENDED, Output::Answer { turn: 2 }]);
    assert_eq!((talk.core.stats().barge_ins, talk.core.stats().false_interruptions), (1, 0));
}

#[test]
fn in_a_silence_the_last_words_are_waited_for_and_those_so_far_count_when_they_do_not_come() {
    for (so_far, end) in [("stop", None), ("mhm", Some(Output::GoOn)), ("", Some(Output::GoOn))] {
        let mut talk = talk();
        talk.speaking().silence(960).voice(320).silence(64);
        talk.put(Input::WordsSoFar { text: "uh stop" }).put(Input::WordsSoFar { text: so_far }).silence(640).gives(&[]);
        talk.silence(192);
        assert_eq!(talk.came(), [ENDED, end.unwrap_or(Output::Answer { turn: 1 })], "{so_far:?}");
    }
    // Known before, "mhm" is none at once.
    let mut talk = talk();
    talk.speaking().silence(960).voice(320).silence(64).put(Input::WordsSoFar { text: "him" });
    talk.put(Input::WordsSoFar { text: "mhm" }).words(1, "mhm").gives(&[ENDED, Output::GoOn]);
}

#[test]
fn neither_a_protected_prompt_nor_an_echo_is_interrupted() {
    let mut talk = talk();
    talk.put(Input::Preparing).put(Input::Speaking { protected: true });
    talk.voice(3200).gives(&[]);
    // Who still speaks when it is over is heard.
    talk.put(Input::Finished).gives(&[BEGAN]);
    talk.silence(416).speaking().silence(320);
    talk.sound(0.95, true, 3200).gives(&[]);
    talk.voice(128).gives(&[Output::Interrupt, BEGAN]);
}

#[test]
fn an_agent_that_is_not_to_be_interrupted_is_not() {
    let mut talk = with(Settings { interruptible: false, ..settings() });
    talk.speaking().voice(3200).silence(960).gives(&[]);
    talk.put(Input::Finished).gives(&[]);
}

#[test]
fn a_long_silence_is_prompted_and_speech_starts_the_count_anew() {
    let mut talk = talk();
    talk.speaking().put(Input::Finished).nothing(7999).gives(&[]);
    talk.nothing(1).gives(&[Output::Prompt { nth: 1 }]);
    talk.put(Input::Speaking { protected: false })
        .put(Input::Finished)
        .nothing(8000)
        .gives(&[Output::Prompt { nth: 2 }]);
    talk.put(Input::Speaking { protected: false }).put(Input::Finished);
    talk.voice(320).silence(416).put(Input::Speaking { protected: false }).put(Input::Finished);
    talk.nothing(8000).gives(&[Output::Prompt { nth: 1 }]);
}

#[test]
fn what_the_agent_has_to_say_of_its_own_accord_goes_before_a_guess_and_is_not_cut_off_by_what_was_said_before() {
    let mut talk = talk();
    talk.voice(960).silence(64).put(Input::Preparing).gives(&[ENDED, Output::Forget { turn: 1 }]);
    talk.voice(320).gives(&[]);
    talk.put(Input::Speaking { protected: false }).voice(640).gives(&[]);
    talk.silence(320).voice(96).gives(&[Output::Interrupt, BEGAN]);
}

#[test]
fn a_hold_forgets_what_was_said() {
    let mut talk = talk();
    talk.voice(960).silence(64).put(Input::Held).gives(&[Output::Forget { turn: 1 }]);
    talk.nothing(2000).gives(&[]);
    assert!(!talk.core.keeps_speech());
}

#[derive(Debug, Clone)]
enum Step {
    Sound(f32, bool, u64),
    Nothing(u64),
    Words(u64, &'static str),
    WordsSoFar(&'static str),
    EndOfSpeech,
    Speaking(bool),
    Finished,
    Preparing,
    Unanswered,
    Held,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0.0_f32..1.0, prop::bool::weighted(0.1), 32_u64..1500).prop_map(|(v, e, ms)| Step::Sound(v, e, ms)),
        1 => (0_u64..12_000).prop_map(Step::Nothing),
        3 => (0_u64..3, prop::sample::select(vec!["", "mhm", "yes please"])).prop_map(|(back, text)| Step::Words(back, text)),
        2 => prop::sample::select(vec!["", "mhm", "yes please"]).prop_map(Step::WordsSoFar),
        1 => Just(Step::EndOfSpeech),
        2 => prop::bool::weighted(0.2).prop_map(Step::Speaking),
        2 => Just(Step::Finished),
        1 => Just(Step::Preparing),
        1 => Just(Step::Unanswered),
        1 => Just(Step::Held),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Whatever comes in whatever order: guesses are numbered upwards, only the newest is answered, nothing is answered
    /// twice, an agent goes on only after it was interrupted, and no deadline spins.
    #[test]
    fn whatever_happens_the_floor_is_somebodys(steps in steps()) {
        let mut talk = talk();
        let (mut newest, mut answered, mut interrupted) = (0, 0, false);
        for step in steps {
            match step {
                Step::Sound(voice, echo, ms) => talk.sound(voice, echo, ms),
                Step::Nothing(ms) => talk.nothing(ms),
                Step::Words(back, text) => talk.words(newest.max(back) - back, text),
                Step::WordsSoFar(text) => talk.put(Input::WordsSoFar { text }),
                Step::EndOfSpeech => talk.put(Input::EndOfSpeech),
                Step::Speaking(protected) => talk.put(Input::Speaking { protected }),
                Step::Finished => talk.put(Input::Finished),
                Step::Preparing => talk.put(Input::Preparing),
                Step::Unanswered => talk.put(Input::Unanswered),
                Step::Held => talk.put(Input::Held),
            };
            for out in talk.came() {
                match out {
                    Output::Guess { turn, .. } => {
                        prop_assert!(turn == newest + 1);
                        newest = turn;
                    }
                    Output::Answer { turn } => {
                        prop_assert!(turn == newest && turn > answered);
                        answered = turn;
                        interrupted = false;
                    }
                    Output::Forget { turn } => prop_assert!(turn == newest),
                    Output::Interrupt => interrupted = true,
                    Output::GoOn => prop_assert!(std::mem::replace(&mut interrupted, false)),
                    Output::Speech { .. } | Output::Prompt { .. } => {}
                }
            }
            talk.nothing(0);
        }
    }
}
