//! An agent that talks on while its caller coughs, types, breathes and says "mhm": what counts is that it goes on.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says what it counted")]

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use ::tests::corpus::disturbances;
use audio_worker::{
    agent::{
        Act, Agent, Cast, Heard, LiveSettings, Opening, Report, Talk,
        brain::{Answer, Brain, Farewell, Piece},
        text::Text,
    },
    dsp::{SampleRate, mulaw},
    pipeline::Uplink,
    provider::{Message, Pending, Sound, Speech, SpeechToText, Streaming, TextToSpeech},
    turn_taking::Settings,
};
use futures_util::stream;
use tokio::time::{advance, sleep};

/// How soon the rest has to be taken up.
const SOON_MS: u64 = 1500;

/// Nobody says words here: a good recogniser finds none, and takes its time.
#[derive(Debug)]
struct NoWords;

impl SpeechToText for NoWords {
    fn transcribe(&self, speech: Speech) -> Pending<String> {
        let text = if speech.pcm.len() > 16_000 { "Mm-hmm." } else { "" };
        Box::pin(async move {
            sleep(Duration::from_millis(250)).await;
            Ok(text.to_owned())
        })
    }
}

/// 60 ms of sound a character.
#[derive(Debug)]
struct Voice;

impl TextToSpeech for Voice {
    fn speak(&self, text: &str, _: &str) -> Streaming<Sound> {
        let sound = Sound::Pcm(SampleRate::Hz16000, vec![1000; text.chars().count() * 960]);
        Box::pin(stream::iter([Ok(sound)]))
    }
}

/// Never stops talking.
struct Talker;

impl Brain for Talker {
    fn greet(&mut self) -> Answer {
        Box::pin(stream::repeat(Ok(Piece::Say(
            "There is always something more that can be said about it. ".to_owned(),
        ))))
    }

    fn answer(&mut self, _: &str, _: &[Message]) -> Answer {
        self.greet()
    }

    fn settle(&mut self, _: &str) {}

    fn key(&mut self, _: char) -> Option<Answer> {
        None
    }

    fn silence(&mut self, _: u32) -> Option<Answer> {
        None
    }

    fn farewell(&mut self, _: Farewell) -> Answer {
        self.greet()
    }
}

/// The carrier's buffer: what was given is played in real time and reported.
#[derive(Default)]
struct Playout {
    utterance: u64,
    given_ms: u64,
    played_ms: u64,
    plays: bool,
}

#[tokio::test(start_paused = true)]
async fn coughs_and_murmurs_do_not_stop_an_agent_for_long() {
    talk_through(3).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "takes a minute without optimisation; part of `make proof`"]
async fn ten_minutes_of_them_do_not_either() {
    talk_through(10).await;
}

/// An agent talks for so many minutes and is not stopped for good.
async fn talk_through(minutes: usize) {
    let cast = Cast {
        speech_to_text: Arc::new(NoWords),
        live: LiveSettings::default(),
        text_to_speech: Arc::new(Voice),
        turn: Settings::default(),
        language: String::new(),
        apology: Text::fixed("Sorry."),
        max_faults: 3,
    };
    let mut talk = Talk::new(Arc::new(cast), Box::new(Talker), &Opening::default());
    let (mut uplink, mut playout, mut codes) = (Uplink::new().unwrap(), Playout::default(), Vec::new());
    mulaw::encode(&disturbances(minutes).pcm, &mut codes);
    let (mut interrupted_at, mut interruptions, mut late, mut turns, mut silent_ms) = (None, 0, Vec::new(), 0, 0_u64);
    for (frame, codes) in codes.chunks(160).enumerate() {
        let at_ms = frame as u64 * 20;
        talk.hear(Heard::Audio(uplink.push(codes, at_ms).unwrap().pcm));
        let mut pcm = Vec::new();
        while let Poll::Ready(act) = talk.poll_act(&mut Context::from_waker(Waker::noop()), &mut pcm) {
            match act {
                Act::Speak(rate) => {
                    if !std::mem::replace(&mut playout.plays, true) {
                        (playout.utterance, playout.given_ms, playout.played_ms) = (playout.utterance + 1, 0, 0);
                    }
                    playout.given_ms += (pcm.len() * 1000 / rate.hz()) as u64;
                    pcm.clear();
                }
                Act::Interrupt => {
                    interruptions += 1;
                    interrupted_at = Some(at_ms);
                    playout.plays = false;
                    let (utterance, ms) = (playout.utterance, playout.played_ms);
                    talk.hear(Heard::Played { utterance, ms, cleared: true });
                }
                Act::Continue => {
                    let took = at_ms - interrupted_at.take().expect("it goes on only after an interruption");
                    if took > SOON_MS {
                        late.push(took);
                    }
                }
                Act::Report(Report::Said { is_final: true, .. }) => turns += 1,
                Act::Report(_) | Act::EndUtterance => {}
                Act::PlayDigits { .. }
                | Act::Forward(_)
                | Act::Hangup { .. }
                | Act::Transfer { .. }
                | Act::Fail { .. } => {
                    panic!("at {at_ms} ms: {act:?}")
                }
            }
        }
        if playout.plays && playout.played_ms < playout.given_ms {
            playout.played_ms += 20;
            if playout.played_ms.is_multiple_of(200) {
                let (utterance, ms) = (playout.utterance, playout.played_ms);
                talk.hear(Heard::Played { utterance, ms, cleared: false });
            }
        } else {
            silent_ms += 20;
        }
        advance(Duration::from_millis(20)).await;
    }
    eprintln!("{minutes} min: {interruptions} interruptions, {silent_ms} ms silent, late: {late:?}, turns: {turns}");
    let not_taken_up = late.len() + usize::from(interrupted_at.is_some()) + turns;
    assert!(silent_ms < minutes as u64 * 10_000, "it hardly speaks: {silent_ms} ms of silence");
    assert!(not_taken_up <= 1, "{not_taken_up} of {interruptions} interruptions were not taken up: {late:?}, {turns}");
}
