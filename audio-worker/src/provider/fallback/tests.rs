//! Who answers, when, and what it costs, in virtual time.

use std::{
    sync::Mutex,
    task::{Context, Poll},
};

use tokio::time::{Instant as VirtualInstant, sleep};
use url::Url;

use super::*;
use crate::{
    agent::Stage,
    dsp::SampleRate,
    provider::{
        Fault, ProviderError, Role,
        cached_voice::CachedVoice,
        listening::{Recognised, Stretch},
        place::Places,
    },
};

const AFTER: Duration = Duration::from_millis(800);

/// Those at which one may stand in for another.
const STAGES: [Stage; 3] = [Stage::SpeechToText, Stage::Chat, Stage::TextToSpeech];

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Plan {
    /// The first piece comes after this time.
    Answers(Duration),
    /// This comes after that time, and nothing before it.
    Fails(Fault, Duration),
    /// A piece, and then this.
    Breaks(Fault),
    /// A time of a word, an empty text or such; then nothing.
    Stammers,
    Silent,
}

/// A provider of all three stages that does as planned.
#[derive(Debug)]
struct Planned {
    name: &'static str,
    plan: Mutex<Plan>,
    asked: AtomicU64,
}

impl Planned {
    fn stream<T: Send + Sync + Clone + 'static>(&self, little: Option<T>, piece: T, last: Option<T>) -> Streaming<T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let error = |kind| Err(ProviderError { kind, detail: "as planned".to_owned() });
        let at_once = |pieces: Vec<Result<T, ProviderError>>| stream::iter(pieces).boxed();
        let later = |after, pieces: Vec<Result<T, ProviderError>>| {
            stream::once(sleep(after)).flat_map(move |()| stream::iter(pieces.clone())).boxed()
        };
        match *self.plan.lock().unwrap() {
            Plan::Answers(after) => later(after, little.into_iter().chain([piece]).chain(last).map(Ok).collect()),
            Plan::Fails(fault, after) => later(after, vec![error(fault)]),
            Plan::Breaks(fault) => at_once(vec![Ok(piece), error(fault)]),
            Plan::Stammers => at_once(little.into_iter().map(Ok).collect()).chain(stream::pending()).boxed(),
            Plan::Silent => stream::pending().boxed(),
        }
    }
}

impl SpeechToText for Planned {
    fn transcribe(&self, _: Speech) -> Pending<String> {
        let mut words = self.stream(None, self.name.to_owned(), None);
        Box::pin(async move { words.next().await.unwrap() })
    }

    fn listen(&self, _: &str, _: Bytes) -> Option<Box<dyn Listening>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Some(Box::new(Session(*self.plan.lock().unwrap(), self.name)))
    }
}

struct Session(Plan, &'static str);

impl Listening for Session {
    fn feed(&mut self, _: &[u8]) {}

    fn finalize(&mut self) {}

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Result<Recognised, ProviderError>> {
        match self.0 {
            Plan::Answers(_) => {
                Poll::Ready(Ok(Recognised::Final(Stretch { text: self.1.to_owned(), ..Stretch::default() })))
            }
            Plan::Fails(kind, _) => Poll::Ready(Err(ProviderError { kind, detail: String::new() })),
            Plan::Breaks(_) | Plan::Stammers | Plan::Silent => Poll::Pending,
        }
    }
}

impl Chat for Planned {
    fn answer(&self, _: Vec<Message>, _: &[ToolSpec]) -> Streaming<Token> {
        let usage = Token::Usage { prompt: 40, completion: 2 };
        self.stream(Some(Token::Text(String::new())), Token::Text(self.name.to_owned()), Some(usage))
    }
}

impl TextToSpeech for Planned {
    fn speak(&self, _: &str, _: &str) -> Streaming<Sound> {
        let word = Sound::Word { text: "a".to_owned(), from_ms: 0, to_ms: 9 };
        self.stream(Some(word), Sound::Pcm(SampleRate::Hz8000, vec![self.name.len() as i16]), None)
    }
}

/// A provider and its stand-in at one stage.
struct Pair {
    first: Arc<Planned>,
    second: Arc<Planned>,
    places: [Arc<Place>; 2],
    meter: Meter,
    stage: Stage,
    chains: Chains,
}

/// Of each stage one, with breakers in common.
struct Chains {
    ears: Arc<dyn SpeechToText>,
    brain: Arc<dyn Chat>,
    voice: Arc<dyn TextToSpeech>,
}

fn between(stage: Stage, first: Plan, second: Plan) -> Pair {
    let planned = |name, plan| Arc::new(Planned { name, plan: Mutex::new(plan), asked: AtomicU64::new(0) });
    let (first, second) = (planned("first", first), planned("second", second));
    let places = ["a", "b"].map(|host| {
        let url = Url::parse(&format!("https://{host}.example")).unwrap();
        Places::default().at(stage, if host == "a" { "openai" } else { "google" }, &url, None)
    });
    let meter = Meter::default();
    macro_rules! chain {
        ($port:path) => {{
            let member = |provider: &Arc<Planned>, place: &Arc<Place>| Member {
                provider: Arc::clone(provider) as Arc<dyn $port>,
                place: Arc::clone(place),
            };
            let chain = Chain::<dyn $port>::of_two(member(&first, &places[0]), member(&second, &places[1]), AFTER);
            chain.metered(&meter).unwrap()
        }};
    }
    let chains = Chains { ears: chain!(SpeechToText), brain: chain!(Chat), voice: chain!(TextToSpeech) };
    Pair { first, second, places, meter, stage, chains }
}

impl Pair {
    /// Who gave the first piece, how the answer ended, and how long the first piece took.
    async fn ask(&self) -> (Option<&'static str>, Option<Fault>, Duration) {
        let begun = virtual_now();
        let name = |is_first: bool| Some(if is_first { "first" } else { "second" });
        let (mut who, mut fault, mut took) = (None, None, None);
        match self.stage {
            Stage::SpeechToText => {
                let speech = Speech { pcm: vec![0; 16 * 250].into(), ..Speech::default() };
                match self.chains.ears.transcribe(speech).await {
                    Ok(text) => who = name(text == "first"),
                    Err(error) => fault = Some(error.kind),
                }
                took = Some(begun.elapsed());
            }
            Stage::Chat => {
                let mut answer = self.chains.brain.answer(vec![Message::new(Role::User, "hello")], &[]);
                while let Some(token) = answer.next().await {
                    took.get_or_insert(begun.elapsed());
                    match token {
                        Ok(Token::Text(text)) if !text.is_empty() => who = name(text == "first"),
                        Ok(_) => {}
                        Err(error) => fault = Some(error.kind),
                    }
                }
            }
            Stage::Realtime | Stage::Agent => panic!("nobody stands in for it"),
            Stage::TextToSpeech => {
                let mut voice = self.chains.voice.speak("Good day", "en");
                while let Some(sound) = voice.next().await {
                    took.get_or_insert(begun.elapsed());
                    match sound {
                        Ok(Sound::Pcm(_, pcm)) => who = name(pcm == [5]),
                        Ok(Sound::Word { .. } | Sound::Mulaw(_)) => {}
                        Err(error) => fault = Some(error.kind),
                    }
                }
            }
        }
        (who, fault, took.unwrap())
    }

    fn cost(&self, family: &str) -> Cost {
        let costs = self.meter.costs();
        costs.entries().iter().find(|entry| entry.provider == family).map(|entry| entry.cost).unwrap_or_default()
    }

    fn asked(&self) -> (u64, u64) {
        (self.first.asked.load(Ordering::Relaxed), self.second.asked.load(Ordering::Relaxed))
    }

    fn listen(&self) -> Box<dyn Listening> {
        self.chains.ears.listen("en", Bytes::new()).unwrap()
    }

    fn is_open(&self) -> bool {
        self.places[0].is_open()
    }
}

#[expect(clippy::disallowed_methods, reason = "delays are measured in virtual time")]
fn virtual_now() -> VirtualInstant {
    VirtualInstant::now()
}

fn is_about(took: Duration, expected: Duration) -> bool {
    took >= expected && took <= expected + ms(5)
}

/// Refused at once, failed after a while, silent, or stammering: the other one answers within the time, and after three
/// times at once; the first is asked again after its pause, and has the calls back once it answers.
#[tokio::test(start_paused = true)]
async fn who_is_dead_costs_no_caller_a_second_and_soon_nothing() {
    let usual = ms(150);
    for stage in STAGES {
        for (plan, late) in [
            (Plan::Fails(Fault::Unreachable, ms(0)), ms(0)),
            (Plan::Fails(Fault::Failed, ms(110)), ms(110)),
            (Plan::Fails(Fault::Busy, ms(1000)), AFTER),
            (Plan::Fails(Fault::Malformed, ms(20)), ms(20)),
            (Plan::Silent, AFTER),
            (Plan::Stammers, AFTER),
        ] {
            if stage == Stage::SpeechToText && matches!(plan, Plan::Stammers) {
                continue;
            }
            let pair = between(stage, plan, Plan::Answers(usual));
            for nth in 1..=3 {
                let (who, fault, took) = pair.ask().await;
                assert_eq!((who, fault), (Some("second"), None), "{stage:?} {plan:?} {nth}");
                assert!(is_about(took, late + usual), "{stage:?} {plan:?}: {took:?}");
            }
            assert!(pair.is_open(), "{stage:?} {plan:?}");
            for _ in 0..5 {
                let (who, _, took) = pair.ask().await;
                assert!(who == Some("second") && is_about(took, usual), "{stage:?} {plan:?}: {took:?}");
            }
            assert_eq!(pair.asked(), (3, 8), "{stage:?} {plan:?}");
            // A trial that fails, and one that does not.
            sleep(Duration::from_secs(5)).await;
            assert_eq!(pair.ask().await.0, Some("second"));
            assert_eq!(pair.asked(), (4, 9));
            *pair.first.plan.lock().unwrap() = Plan::Answers(usual);
            sleep(Duration::from_secs(9)).await;
            assert_eq!((pair.ask().await.0, pair.asked().0), (Some("second"), 4));
            sleep(Duration::from_secs(1)).await;
            for _ in 0..2 {
                assert_eq!(pair.ask().await.0, Some("first"), "{stage:?} {plan:?}");
            }
            assert!(!pair.is_open());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_key_is_left_alone_at_once_and_a_wrong_request_never() {
    let pair = between(Stage::Chat, Plan::Fails(Fault::Denied, ms(5)), Plan::Answers(ms(1)));
    assert_eq!((pair.ask().await.0, pair.is_open()), (Some("second"), true));
    let pair = between(Stage::Chat, Plan::Fails(Fault::Rejected, ms(5)), Plan::Answers(ms(1)));
    for _ in 0..10 {
        assert_eq!((pair.ask().await.0, pair.is_open()), (Some("second"), false));
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_but_faster_than_the_other_answers_and_is_well() {
    let pair = between(Stage::TextToSpeech, Plan::Answers(ms(900)), Plan::Answers(ms(150)));
    for _ in 0..5 {
        let (who, _, took) = pair.ask().await;
        assert!(who == Some("first") && is_about(took, ms(900)), "{took:?}");
    }
    assert!(!pair.is_open());
    let (first, second) = (pair.cost("openai"), pair.cost("google"));
    assert_eq!((first.requests, first.given_up, first.characters), (5, 0, 40));
    // Whoever was asked beside it costs as well.
    assert_eq!((second.requests, second.given_up, second.characters, second.stood_in), (5, 5, 40, 0));
}

#[tokio::test(start_paused = true)]
async fn after_the_first_piece_a_failure_stays_one() {
    for stage in [Stage::Chat, Stage::TextToSpeech] {
        let pair = between(stage, Plan::Breaks(Fault::Failed), Plan::Answers(ms(1)));
        for _ in 0..3 {
            let (who, fault, _) = pair.ask().await;
            assert_eq!((who, fault), (Some("first"), Some(Fault::Failed)));
        }
        // It counts: the fourth is answered by the other.
        assert_eq!((pair.is_open(), pair.asked()), (true, (3, 0)));
        assert_eq!((pair.ask().await.0, pair.asked()), (Some("second"), (3, 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_last_word_is_told_and_when_all_are_left_alone_they_are_asked() {
    for stage in STAGES {
        let pair = between(stage, Plan::Fails(Fault::Unreachable, ms(1)), Plan::Fails(Fault::Failed, ms(1)));
        for nth in 1..=6 {
            let (who, fault, took) = pair.ask().await;
            assert_eq!((who, pair.asked()), (None, (nth, nth)), "{stage:?}");
            assert!(fault.is_some() && took < ms(10), "{fault:?} after {took:?}");
        }
        assert!(pair.places.iter().all(|place| place.is_open()));
        *pair.first.plan.lock().unwrap() = Plan::Answers(ms(1));
        assert_eq!(pair.ask().await.0, Some("first"));
        assert!(!pair.is_open());
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_stand_in_fails_the_first_is_asked_in_spite_of_its_faults() {
    let pair = between(Stage::Chat, Plan::Fails(Fault::Unreachable, ms(1)), Plan::Answers(ms(1)));
    for _ in 0..3 {
        pair.ask().await;
    }
    *pair.second.plan.lock().unwrap() = Plan::Fails(Fault::Busy, ms(1));
    *pair.first.plan.lock().unwrap() = Plan::Answers(ms(1));
    assert_eq!((pair.ask().await.0, pair.asked()), (Some("first"), (4, 4)));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_says_nothing_of_who_was_asked() {
    let pair = between(Stage::Chat, Plan::Silent, Plan::Silent);
    for _ in 0..5 {
        let mut answer = pair.chains.brain.answer(Vec::new(), &[]);
        let nothing = tokio::time::timeout(ms(300), answer.next()).await;
        assert!(nothing.is_err());
    }
    assert_eq!((pair.is_open(), pair.asked()), (false, (5, 0)));
    let cost = pair.cost("openai");
    assert_eq!((cost.requests, cost.given_up, cost.without_usage), (5, 5, 5));
}

#[tokio::test(start_paused = true)]
async fn each_stage_is_metered_as_it_is_paid_for() {
    let hears = between(Stage::SpeechToText, Plan::Fails(Fault::Failed, ms(0)), Plan::Answers(ms(1)));
    hears.ask().await;
    // What failed at once is not paid for.
    assert_eq!(hears.cost("openai"), Cost { requests: 1, failed: 1, ..Cost::default() });
    assert_eq!(hears.cost("google"), Cost { requests: 1, stood_in: 1, audio_ms: 250, ..Cost::default() });
    let thinks = between(Stage::Chat, Plan::Answers(ms(1)), Plan::Silent);
    thinks.ask().await;
    let read = Cost { requests: 1, tokens_in: 40, tokens_out: 2, ..Cost::default() };
    assert_eq!((thinks.cost("openai"), thinks.cost("google")), (read, Cost::default()));
    let speaks = between(Stage::TextToSpeech, Plan::Breaks(Fault::Timeout), Plan::Silent);
    speaks.ask().await;
    assert_eq!(speaks.cost("openai"), Cost { requests: 1, failed: 1, characters: 8, ..Cost::default() });
    // An answer that does not tell its tokens is counted as such, and nothing is invented.
    let breaks = between(Stage::Chat, Plan::Breaks(Fault::Failed), Plan::Silent);
    breaks.ask().await;
    assert_eq!(breaks.cost("openai"), Cost { requests: 1, failed: 1, without_usage: 1, ..Cost::default() });
}

#[tokio::test(start_paused = true)]
async fn what_another_voice_said_is_not_remembered() {
    let pair = between(Stage::TextToSpeech, Plan::Fails(Fault::Failed, ms(1)), Plan::Answers(ms(1)));
    let cached = CachedVoice::new(Arc::clone(&pair.chains.voice));
    let hear = async || {
        let said: Vec<_> = cached.speak("Hello.", "en").collect().await;
        said.into_iter().any(|sound| sound == Ok(Sound::Pcm(SampleRate::Hz8000, vec![5])))
    };
    assert!(!hear().await);
    *pair.first.plan.lock().unwrap() = Plan::Answers(ms(1));
    assert!(hear().await);
    assert_eq!(pair.asked(), (2, 1));
    assert!(hear().await);
    assert_eq!(pair.asked(), (2, 1), "its own voice is remembered");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_left_alone_is_not_listened_through() {
    let pair = between(Stage::SpeechToText, Plan::Fails(Fault::Unreachable, ms(0)), Plan::Answers(ms(0)));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut listen = || {
        let mut session = pair.chains.ears.listen("en", Bytes::from_static(&[0; 800])).unwrap();
        session.feed(&[0; 160]);
        match session.poll(&mut cx) {
            Poll::Ready(Ok(Recognised::Final(stretch))) => stretch.text,
            other @ (Poll::Ready(_) | Poll::Pending) => format!("{other:?}").chars().take(9).collect(),
        }
    };
    assert_eq!([(); 4].map(|()| listen()), ["Ready(Err", "Ready(Err", "Ready(Err", "second"]);
    assert_eq!(pair.cost("openai"), Cost { requests: 3, failed: 3, ..Cost::default() });
    assert_eq!(pair.cost("google"), Cost { requests: 1, audio_ms: 120, ..Cost::default() });
    // A trial that hears nothing leaves the place to the next one.
    sleep(Duration::from_secs(5)).await;
    *pair.first.plan.lock().unwrap() = Plan::Silent;
    assert_eq!(listen(), "Pending");
    assert!(pair.is_open());
    *pair.first.plan.lock().unwrap() = Plan::Answers(ms(0));
    assert_eq!((listen().as_str(), pair.is_open()), ("first", false));
}

/// The first three sessions of a pair whose first provider cannot be reached.
fn after_three_faults() -> (Pair, Context<'static>) {
    let pair = between(Stage::SpeechToText, Plan::Fails(Fault::Unreachable, ms(0)), Plan::Answers(ms(0)));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for _ in 0..3 {
        assert!(pair.listen().poll(&mut cx).is_ready());
    }
    assert!(pair.is_open());
    (pair, cx)
}

#[tokio::test(start_paused = true)]
async fn when_all_are_left_alone_one_listens_all_the_same() {
    let (pair, mut cx) = after_three_faults();
    *pair.second.plan.lock().unwrap() = Plan::Fails(Fault::Denied, ms(0));
    assert!(pair.listen().poll(&mut cx).is_ready());
    assert!(pair.places[1].is_open());
    *pair.first.plan.lock().unwrap() = Plan::Answers(ms(0));
    assert!(matches!(pair.listen().poll(&mut cx), Poll::Ready(Ok(_))));
    assert!(!pair.is_open());
}

#[tokio::test(start_paused = true)]
async fn whoever_listened_long_ago_does_not_say_that_it_answers() {
    let (pair, mut cx) = after_three_faults();
    sleep(Duration::from_secs(5)).await;
    *pair.first.plan.lock().unwrap() = Plan::Answers(ms(0));
    let mut old = pair.listen();
    assert!(matches!(old.poll(&mut cx), Poll::Ready(Ok(_))));
    assert!(!pair.is_open());
    *pair.first.plan.lock().unwrap() = Plan::Fails(Fault::Unreachable, ms(0));
    for _ in 0..3 {
        assert!(pair.listen().poll(&mut cx).is_ready());
    }
    drop(old);
    assert!(pair.is_open(), "a caller who hangs up is no answer");
    // A whole session without faults is one.
    sleep(Duration::from_secs(5)).await;
    for plan in [Plan::Answers(ms(0)), Plan::Fails(Fault::Failed, ms(0)), Plan::Fails(Fault::Failed, ms(0))] {
        *pair.first.plan.lock().unwrap() = plan;
        assert!(pair.listen().poll(&mut cx).is_ready());
    }
    *pair.first.plan.lock().unwrap() = Plan::Answers(ms(0));
    assert!(pair.listen().poll(&mut cx).is_ready());
    *pair.first.plan.lock().unwrap() = Plan::Fails(Fault::Failed, ms(0));
    assert!(pair.listen().poll(&mut cx).is_ready());
    assert!(!pair.is_open());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_given_up_for_its_silence_counts_as_a_fault() {
    let pair = between(Stage::SpeechToText, Plan::Answers(ms(0)), Plan::Silent);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for _ in 0..3 {
        let mut session = pair.listen();
        assert!(session.poll(&mut cx).is_ready() && !pair.is_open());
        session.lost(&ProviderError { kind: Fault::Timeout, detail: String::new() });
    }
    assert!(pair.is_open());
    assert_eq!(pair.cost("openai"), Cost { requests: 3, failed: 3, ..Cost::default() });
}
