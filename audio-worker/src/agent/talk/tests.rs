//! A conversation against scripted providers, in virtual time: a caller who speaks at moments, a carrier that plays.

use std::{collections::VecDeque, sync::Mutex};

use futures_util::{StreamExt, stream};
use tokio::time::sleep;

use super::*;
use crate::{
    agent::{
        Report, Speaker,
        brain::{Answer, Farewell, Piece},
    },
    dsp::SampleRate,
    ears::VoiceActivity,
    provider::{Fault, Message, Pending, ProviderError, Role, Sound, Speech, Streaming},
};

/// Sound of one character of a text, ms.
const MS_PER_CHAR: usize = 50;

/// Loud is voice.
struct Loudness;

impl VoiceActivity for Loudness {
    fn voice(&mut self, window: &[i16]) -> f32 {
        let loud = window.iter().filter(|sample| sample.unsigned_abs() > 1000).count();
        if loud > window.len() / 2 { 0.95 } else { 0.02 }
    }

    fn reset(&mut self) {}
}

fn error(kind: Fault) -> ProviderError {
    ProviderError { kind, detail: "as scripted".to_owned() }
}

/// Words in the order in which they are asked for; afterwards the last for ever.
#[derive(Debug)]
struct Ears(Mutex<VecDeque<Result<&'static str, Fault>>>, Mutex<Vec<usize>>);

impl SpeechToText for Ears {
    fn transcribe(&self, speech: Speech) -> Pending<String> {
        self.1.lock().unwrap().push(speech.pcm.len() / 16);
        let mut words = self.0.lock().unwrap();
        let next = if words.len() > 1 { words.pop_front().unwrap() } else { words[0] };
        Box::pin(async move {
            sleep(Duration::from_millis(120)).await;
            next.map(str::to_owned).map_err(error)
        })
    }
}

/// A voice that takes 80 ms to begin and then is done at once. It fails for texts with this in them.
#[derive(Debug)]
struct Mouth(Mutex<Option<&'static str>>);

impl TextToSpeech for Mouth {
    fn speak(&self, text: &str, _: &str) -> Streaming<Sound> {
        let (samples, is_broken) =
            (text.chars().count() * MS_PER_CHAR * 24, self.0.lock().unwrap().is_some_and(|word| text.contains(word)));
        let sound = async move {
            sleep(Duration::from_millis(80)).await;
            if is_broken { Err(error(Fault::Failed)) } else { Ok(Sound::Pcm(SampleRate::Hz24000, vec![500; samples])) }
        };
        Box::pin(stream::once(sound))
    }
}

/// Answers what it is told with the same words, or as its table says.
struct Parrot {
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    committed: usize,
    settled: Vec<String>,
    histories: Vec<Vec<Message>>,
    over: bool,
}

fn say(text: &str) -> Answer {
    let words: Vec<_> = text.split_inclusive(' ').map(|word| Ok(Piece::Say(word.to_owned()))).collect();
    Box::pin(stream::iter(words))
}

impl Brain for Parrot {
    fn greet(&mut self) -> Answer {
        say("Hello.")
    }

    fn answer(&mut self, said: &str, history: &[Message]) -> Answer {
        self.told.lock().unwrap().histories.push(history.to_vec());
        let late = stream::once(sleep(Duration::from_millis(150))).filter_map(async |()| None);
        match said {
            "break" => Box::pin(late.chain(stream::iter([Err(error(Fault::Failed))]))),
            "act" => {
                // As a tool does that must not run for a guess.
                let (told, before) = (self.told.clone(), self.told.lock().unwrap().committed);
                let committed = futures_util::future::poll_fn(move |_| match told.lock().unwrap().committed > before {
                    true => Poll::Ready(Ok(Piece::Digits("1".to_owned()))),
                    false => Poll::Pending,
                });
                Box::pin(late.chain(stream::once(committed)))
            }
            "bye" => {
                let end = Ok(Piece::Hangup { reason: "said".to_owned() });
                Box::pin(late.chain(say("Good bye.")).chain(stream::iter([end])))
            }
            said => Box::pin(late.chain(say(said))),
        }
    }

    fn commit(&mut self) {
        self.told.lock().unwrap().committed += 1;
    }

    fn settle(&mut self, said: &str) {
        self.told.lock().unwrap().settled.push(said.to_owned());
    }

    fn key(&mut self, key: char) -> Option<Answer> {
        (key != '#').then(|| say(&format!("Key {key}.")))
    }

    fn silence(&mut self, nth: u32) -> Option<Answer> {
        (nth < 3).then(|| say("Still there?"))
    }

    fn farewell(&mut self, _: Farewell) -> Answer {
        Box::pin(say("So long.").chain(stream::iter([Ok(Piece::Hangup { reason: "farewell".to_owned() })])))
    }

    fn over(&mut self) {
        self.told.lock().unwrap().over = true;
    }
}

/// The call: what the agent says is played in real time and reported every 200 ms, as the gateway does.
struct Call {
    talk: Talk,
    ears: Arc<Ears>,
    told: Arc<Mutex<Told>>,
    at_ms: u64,
    /// Utterances with sound that is not played: number, ms given, ms played, complete.
    playing: Option<(u64, u64, u64, bool)>,
    utterances: u64,
    acts: Vec<(u64, Act)>,
    /// When the agent could be heard.
    sounded: Vec<(u64, u64)>,
}

fn call(words: &[Result<&'static str, Fault>]) -> Call {
    broken(words, None)
}

fn broken(words: &[Result<&'static str, Fault>], mute: Option<&'static str>) -> Call {
    let ears = Arc::new(Ears(Mutex::new(words.iter().copied().collect()), Mutex::default()));
    seat(ears.clone(), ears, mute, LiveSettings::default())
}

fn seat(
    speech_to_text: Arc<dyn SpeechToText>,
    ears: Arc<Ears>,
    mute: Option<&'static str>,
    live: LiveSettings,
) -> Call {
    let told: Arc<Mutex<Told>> = Arc::default();
    let cast = Cast {
        speech_to_text,
        live,
        text_to_speech: Arc::new(Mouth(Mutex::new(mute))),
        // What the times below are written for, whatever the defaults are.
        turn: Settings {
            guess_silence: Duration::from_millis(64),
            endpoint_silence: Duration::from_millis(400),
            barge_in: Duration::from_millis(96),
            ..Settings::default()
        },
        language: "en".to_owned(),
        apology: Text::fixed("Sorry."),
        max_faults: 2,
    };
    let brain = Box::new(Parrot { told: told.clone() });
    let talk = Talk::hearing(Arc::new(cast), brain, &Opening::default(), Box::new(Loudness));
    Call { talk, ears, told, at_ms: 0, playing: None, utterances: 0, acts: Vec::new(), sounded: Vec::new() }
}

impl Call {
    /// The caller is this loud for so long.
    async fn sound(&mut self, level: i16, ms: u64) -> &mut Self {
        for _ in 0..ms / 20 {
            self.talk.hear(Heard::Mulaw(&[0xff; 160]));
            self.talk.hear(Heard::Audio(&[level; 320]));
            self.drain();
            self.play();
            self.drain();
            tokio::time::advance(Duration::from_millis(20)).await;
            self.at_ms += 20;
        }
        self
    }

    async fn voice(&mut self, ms: u64) -> &mut Self {
        self.sound(8000, ms).await
    }

    async fn silence(&mut self, ms: u64) -> &mut Self {
        self.sound(0, ms).await
    }

    fn drain(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut pcm = Vec::new();
        while let Poll::Ready(act) = self.talk.poll_act(&mut cx, &mut pcm) {
            match &act {
                Act::Speak(rate) => {
                    let ms = (pcm.len() * 1000 / rate.hz()) as u64;
                    let playing = self.playing.get_or_insert_with(|| {
                        self.utterances += 1;
                        (self.utterances, 0, 0, false)
                    });
                    playing.1 += ms;
                    pcm.clear();
                    continue;
                }
                Act::EndUtterance => {
                    if let Some(playing) = &mut self.playing {
                        playing.3 = true;
                    }
                    continue;
                }
                Act::Interrupt => {
                    if let Some((utterance, _, ms, _)) = self.playing.take() {
                        self.talk.hear(Heard::Played { utterance, ms, cleared: true });
                    }
                }
                Act::Forward(_) => panic!("this voice has no mu-law"),
                Act::Continue
                | Act::PlayDigits { .. }
                | Act::Hangup { .. }
                | Act::Transfer { .. }
                | Act::Report(_)
                | Act::Fail { .. } => {}
            }
            self.acts.push((self.at_ms, act));
        }
    }

    fn play(&mut self) {
        let Some((utterance, given, played, complete)) = &mut self.playing else { return };
        if played < given {
            *played = (*played + 20).min(*given);
            match self.sounded.last_mut().filter(|(_, to)| *to == self.at_ms) {
                Some((_, to)) => *to += 20,
                None => self.sounded.push((self.at_ms, self.at_ms + 20)),
            }
        }
        let (utterance, ms, is_over) = (*utterance, *played, *complete && played == given);
        if is_over || ms % 200 == 0 {
            self.talk.hear(Heard::Played { utterance, ms, cleared: false });
        }
        if is_over {
            self.playing = None;
        }
    }

    /// What was said by whom, final words alone.
    fn said(&self) -> Vec<(Speaker, &str, bool)> {
        let said = self.acts.iter().filter_map(|(_, act)| {
            let Act::Report(Report::Said { by, text, is_final: true, interrupted }) = act else { return None };
            Some((*by, text.as_str(), *interrupted))
        });
        said.collect()
    }

    fn count(&self, is: impl Fn(&Act) -> bool) -> usize {
        self.acts.iter().filter(|(_, act)| is(act)).count()
    }
}

const A: Speaker = Speaker::Agent;
const C: Speaker = Speaker::Caller;

#[tokio::test(start_paused = true)]
async fn an_answer_comes_as_soon_as_the_caller_has_finished_because_it_was_prepared_before() {
    let mut call = call(&[Ok("one two three")]);
    call.silence(1000).await.voice(1000).await.silence(1500).await;
    assert_eq!(call.said(), [(A, "Hello.", false), (C, "one two three", false), (A, "one two three", false)]);
    // 350 ms of work were done within the silence.
    let began = call.sounded[1].0 - 2000;
    assert!((384..=460).contains(&began), "{began} ms");
    let turns: Vec<_> = call
        .acts
        .iter()
        .filter_map(|(_, act)| if let Act::Report(Report::Turn(turn)) = act { Some(*turn) } else { None })
        .collect();
    assert_eq!(turns.len(), 1);
    assert!(turns[0].speech_to_text < turns[0].first_token && turns[0].first_audio <= turns[0].first_sent, "{turns:?}");
    assert!(turns[0].endpoint <= turns[0].first_sent, "{turns:?}");
    assert_eq!(call.told.lock().unwrap().settled, ["one two three"]);
    // All of the speech and a little before it.
    assert!(call.ears.1.lock().unwrap().iter().all(|ms| (1250..1450).contains(ms)));
}

#[tokio::test(start_paused = true)]
async fn a_guess_is_thrown_away_when_the_caller_goes_on() {
    let mut call = call(&[Ok("I would"), Ok("I would like tea")]);
    call.silence(1000).await.voice(800).await.silence(300).await.voice(600).await.silence(2000).await;
    assert_eq!(call.said()[1..], [(C, "I would like tea", false), (A, "I would like tea", false)]);
    assert_eq!((call.talk.stats().floor.guesses, call.talk.stats().floor.forgotten), (2, 1));
    assert_eq!(call.told.lock().unwrap().settled, ["I would like tea"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_committed_to_once_the_caller_has_finished_though_nothing_of_it_is_heard() {
    let mut call = call(&[Ok("act"), Ok("act"), Ok("fine")]);
    call.silence(1000).await.voice(800).await.silence(300).await;
    assert_eq!(call.told.lock().unwrap().committed, 0, "a guess");
    call.voice(600).await.silence(380).await;
    assert_eq!((call.told.lock().unwrap().committed, call.count(|act| matches!(act, Act::PlayDigits { .. }))), (0, 0));
    call.silence(100).await;
    let keys = Act::PlayDigits { keys: "1".to_owned() };
    assert_eq!((call.told.lock().unwrap().committed, call.count(|act| *act == keys)), (1, 1));
    assert_eq!(call.told.lock().unwrap().settled, ["act"]);
    // The caller is listened to as before.
    call.silence(500).await.voice(600).await.silence(2000).await;
    assert_eq!(call.said().last(), Some(&(A, "fine", false)));
}

#[tokio::test(start_paused = true)]
async fn history_holds_what_was_heard_and_not_what_was_said() {
    let long = "alpha bravo charlie delta echo foxtrot golf hotel india juliett";
    let mut call = call(&[Ok(long), Ok("stop it"), Ok("stop it"), Ok("stop it")]);
    call.silence(1000).await.voice(1000).await.silence(400 + 1000).await.voice(600).await.silence(3000).await;
    let said = call.said();
    let (_, heard, interrupted) = said[2];
    assert!(interrupted && long.starts_with(heard) && (10..30).contains(&heard.len()), "{said:?}");
    assert_eq!(said[3..], [(C, "stop it", false), (A, "stop it", false)]);
    // Played until 96 ms of voice were found, and no longer.
    let (from, to) = call.sounded[1];
    assert!((3480..3540).contains(&to) && from < 2500, "{from} {to}");
    let told = call.told.lock().unwrap();
    let last = told.histories.last().unwrap();
    let roles: Vec<_> = last.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::Assistant, Role::User, Role::Assistant]);
    assert_eq!(last[2].text, heard);
}

#[tokio::test(start_paused = true)]
async fn after_a_cough_the_agent_goes_on_from_the_word_where_it_stopped() {
    let long = "alpha bravo charlie delta echo foxtrot golf hotel india juliett";
    let mut call = call(&[Ok(long), Ok("")]);
    call.silence(1000).await.voice(1000).await.silence(400 + 1000).await.voice(200).await.silence(6000).await;
    assert_eq!(call.said()[2..], [(A, long, false)]);
    assert_eq!(call.count(|act| *act == Act::Continue), 1);
    // Whole, with less than two words said twice.
    let sounded: u64 = call.sounded[1..].iter().map(|(from, to)| to - from).sum();
    let length = (long.len() * MS_PER_CHAR) as u64;
    assert!(sounded >= length && sounded < length + 600, "{sounded} of {length}");
    let pause = call.sounded[2].0 - call.sounded[1].1;
    assert!(pause < 600, "{pause} ms of silence");
    assert_eq!(call.talk.stats().floor.false_interruptions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_recogniser_and_a_model_that_fail_are_apologised_for_and_the_call_goes_on() {
    let mut call = call(&[Err(Fault::Timeout), Ok("break"), Ok("fine")]);
    for _ in 0..3 {
        call.silence(1000).await.voice(600).await.silence(1500).await;
    }
    let said: Vec<_> = call.said().into_iter().map(|(_, text, _)| text).collect();
    assert_eq!(said, ["Hello.", "Sorry.", "break", "Sorry.", "fine", "fine"]);
    assert_eq!(call.count(|act| matches!(act, Act::Report(Report::Fault { .. }))), 2);
}

#[tokio::test(start_paused = true)]
async fn too_many_faults_in_a_row_end_the_call_politely() {
    for words in [Ok("break"), Err(Fault::Denied)] {
        let mut call = call(&[words]);
        for _ in 0..3 {
            call.silence(1000).await.voice(600).await.silence(1500).await;
        }
        assert_eq!(call.said().last(), Some(&(A, "So long.", false)));
        let ended = Act::Hangup { reason: "farewell".to_owned(), after_playback: true };
        assert_eq!(call.acts.last().map(|(_, act)| act), Some(&ended));
    }
}

/// A turn of the caller with pauses in it, at each of which an answer is guessed; how long it lasts is heard out.
async fn hesitant(call: &mut Call) {
    call.silence(1000).await;
    for _ in 0..4 {
        call.voice(600).await.silence(300).await;
    }
    call.silence(1500).await;
}

#[tokio::test(start_paused = true)]
async fn guesses_that_fail_are_forgotten_when_the_turn_is_answered_in_the_end() {
    let mut words = vec![Err(Fault::Failed), Err(Fault::Failed), Ok("break"), Ok("fine")];
    words.extend([Err(Fault::Failed); 8]);
    let mut call = call(&words);
    for _ in 0..4 {
        hesitant(&mut call).await;
    }
    // The bound is two: nothing of the first turn is in it.
    let said: Vec<_> = call.said().into_iter().map(|(_, text, _)| text).collect();
    assert_eq!(said, ["Hello.", "fine", "fine", "Sorry.", "Sorry.", "So long."]);
    // Each was told all the same.
    assert_eq!(call.count(|act| matches!(act, Act::Report(Report::Fault { .. }))), 3 + 4 * 3);
}

#[tokio::test(start_paused = true)]
async fn a_turn_counts_once_however_many_of_its_guesses_fail() {
    for words in [Ok("break"), Err(Fault::Unreachable)] {
        let mut call = call(&[words]);
        hesitant(&mut call).await;
        hesitant(&mut call).await;
        assert_eq!(call.said().last(), Some(&(A, "Sorry.", false)), "{words:?}");
        hesitant(&mut call).await;
        assert_eq!(call.said().last(), Some(&(A, "So long.", false)), "{words:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_even_apologise_takes_leave_within_the_turn() {
    // The voice is gone for the answer and the apology.
    let mut call = broken(&[Ok("great")], Some("r"));
    hesitant(&mut call).await;
    let said = call.said();
    assert_eq!((said.len(), said.last()), (2, Some(&(A, "So long.", false))), "{said:?}");
    assert!(matches!(call.acts.last(), Some((_, Act::Hangup { .. }))));
}

#[tokio::test(start_paused = true)]
async fn a_greeting_that_a_hold_came_before_is_said_after_it() {
    let mut call = call(&[Ok("x")]);
    call.talk.hear(Heard::Held(true));
    call.talk.hear(Heard::Held(false));
    call.silence(1000).await;
    assert_eq!(call.said(), [(A, "Hello.", false)]);
}

#[tokio::test(start_paused = true)]
async fn who_types_is_not_silent() {
    let mut call = call(&[Ok("x")]);
    for _ in 0..4 {
        call.silence(6000).await;
        call.talk.hear(Heard::Dtmf('#'));
    }
    assert_eq!(call.said().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_when_the_caller_hung_up_is_told() {
    let mut call = call(&[Ok("alpha bravo charlie delta echo foxtrot golf hotel")]);
    call.silence(1000).await.voice(600).await.silence(1700).await;
    let told = call.talk.leave();
    let Some(Report::Said { by: A, text, interrupted: true, .. }) = told.last() else { panic!("{told:?}") };
    assert!(text.starts_with("alpha") && !text.contains("hotel"), "{text}");
    // A report that makes no sense does not change what was said.
    call.talk.hear(Heard::Played { utterance: 2, ms: u64::MAX, cleared: true });
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_a_voice_fails_at_once_and_one_that_loses_it_says_what_it_can() {
    let mut mute = broken(&[Ok("x")], Some("Hello"));
    mute.silence(500).await;
    assert!(matches!(mute.acts.last(), Some((_, Act::Fail { .. }))), "{:?}", mute.acts);
    let mut hoarse =
        broken(&[Ok("good news first please. then all the xylophones of this wide world")], Some("xylophones"));
    hoarse.silence(1000).await.voice(600).await.silence(4000).await;
    assert_eq!(hoarse.said()[2], (A, "good news first please. Sorry.", false));
}

#[tokio::test(start_paused = true)]
async fn the_call_ends_once_the_last_word_was_heard() {
    let mut call = call(&[Ok("bye")]);
    call.silence(1000).await.voice(600).await.silence(2500).await;
    let (at, act) = call.acts.last().unwrap();
    assert!(matches!(act, Act::Hangup { reason, .. } if reason == "said"));
    assert!(*at >= call.sounded[1].1 - 20);
    call.voice(2000).await.silence(1000).await;
    assert_eq!(call.talk.stats().floor.turns, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_caller_is_asked_twice_and_then_left() {
    let mut call = call(&[Ok("x")]);
    call.silence(40_000).await;
    let said: Vec<_> = call.said().into_iter().map(|(_, text, _)| text).collect();
    assert_eq!(said, ["Hello.", "Still there?", "Still there?", "So long."]);
    assert!(matches!(call.acts.last(), Some((_, Act::Hangup { .. }))));
}

#[tokio::test(start_paused = true)]
async fn a_key_is_answered_at_once_and_stops_what_was_said() {
    let mut call = call(&[Ok("a rather long sentence that nobody wants to hear")]);
    call.silence(1000).await.voice(600).await.silence(1000).await;
    call.talk.hear(Heard::Dtmf('#'));
    call.talk.hear(Heard::Dtmf('1'));
    call.silence(1500).await;
    let said = call.said();
    assert!(said[2].2 && said[3] == (A, "Key 1.", false), "{said:?}");
    assert_eq!(call.count(|act| *act == Act::Interrupt), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_is_said_when_nobody_speaks_and_there_is_a_bound() {
    let mut call = call(&[Ok("yes")]);
    call.silence(100).await;
    assert!((0..MAX_ORDERED).all(|_| call.talk.say("Order.").is_ok()));
    assert_eq!(call.talk.say("Order."), Err(CannotSay::TooMuch));
    call.silence(6000).await;
    let said: Vec<_> = call.said().into_iter().map(|(_, text, _)| text).collect();
    assert_eq!(said.len(), 1 + MAX_ORDERED);
    assert_eq!(said[..2], ["Hello.", "Order."]);
}

#[tokio::test(start_paused = true)]
async fn a_hold_forgets_what_was_on_its_way_and_the_brain_is_told_of_the_end() {
    let mut call = call(&[Ok("one two three four five six seven")]);
    call.silence(1000).await.voice(600).await.silence(700).await;
    call.playing = None;
    call.talk.hear(Heard::Held(true));
    call.talk.hear(Heard::Held(false));
    call.silence(2000).await;
    assert!(call.said()[2].2);
    call.voice(600).await.silence(2500).await;
    assert_eq!(call.said().last(), Some(&(A, "one two three four five six seven", false)));
    let told = call.told.clone();
    drop(call);
    assert!(told.lock().unwrap().over);
}

mod streaming;
