//! Conversations in virtual time: a server that says what the test wants, a carrier that plays what it gets.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    agent::{Stage, realtime::settings::WireFormat},
    dsp::SampleRate,
    provider::{Fault, ProviderError, Sound, meter::Cost},
};

const SILENCE_PROMPT: Duration = Duration::from_secs(8);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn script() -> Script {
    Script {
        instructions: "Be brief.".to_owned(),
        greeting: String::new(),
        greeting_protected: false,
        apology: "Alas.".to_owned(),
        silence_prompts: vec!["Still there?".to_owned()],
        goodbye: "Bye.".to_owned(),
        give_up: "I give up.".to_owned(),
        language: "en-US".to_owned(),
        tools: Vec::new(),
        turn: turn_taking::Settings { silence_prompt: SILENCE_PROMPT, ..turn_taking::Settings::default() },
        max_faults: 2,
        patience: Duration::from_secs(10),
        has_voice: false,
    }
}

fn model(detection: Detection) -> Model {
    let format = WireFormat::Ulaw;
    Model { format, detection, voice: None, speed: None, transcribe: None, temperature: None, max_tokens: None }
}

const SERVER: Detection = Detection::Server { threshold: None, prefix_ms: None, silence_ms: None };

/// A conversation with what came of it.
struct Call {
    session: Session,
    start: Instant,
    now: Instant,
    sent: Vec<Value>,
    acts: Vec<Act>,
    opened: u32,
    closed: u32,
    spoken: Vec<String>,
    calls: Vec<wire::Call>,
    costs: Vec<Cost>,
    /// What it cost to put the caller's words into text.
    transcriptions: Vec<Cost>,
    /// How the server did: well, or ill in some way.
    health: Vec<Option<Fault>>,
    /// Of the utterance that plays: its number, what was given and what was played of it, ms.
    utterance: u64,
    is_playing: bool,
    given_ms: u64,
    played_ms: u64,
    heard: Vec<u8>,
}

impl Call {
    #[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
    fn new(script: Script, model: Model) -> Self {
        let start = Instant::now();
        let session = Session::new(script, model, start).unwrap();
        let mut call = Self {
            session,
            start,
            now: start,
            sent: Vec::new(),
            acts: Vec::new(),
            opened: 0,
            closed: 0,
            spoken: Vec::new(),
            calls: Vec::new(),
            costs: Vec::new(),
            transcriptions: Vec::new(),
            health: Vec::new(),
            utterance: 0,
            is_playing: false,
            given_ms: 0,
            played_ms: 0,
            heard: Vec::new(),
        };
        call.drain();
        call
    }

    /// A conversation whose server is there.
    fn open(script: Script, detection: Detection) -> Self {
        let mut call = Self::new(script, model(detection));
        call.input(Input::Opened);
        call.server(json!({"type": "session.created"}));
        call
    }

    fn input(&mut self, input: Input<'_>) {
        self.session.handle(input, self.now);
        self.drain();
    }

    fn server(&mut self, event: Value) {
        self.input(Input::Text(&event.to_string()));
    }

    fn drain(&mut self) {
        loop {
            while let Some(output) = self.session.poll() {
                match output {
                    Output::Open => self.opened += 1,
                    Output::Close => self.closed += 1,
                    Output::Send(text) => self.sent.push(serde_json::from_str(&text).unwrap()),
                    Output::Speak(text) => self.spoken.push(text),
                    Output::Call(call) => self.calls.push(call),
                    Output::Cost(Stage::Realtime, cost) => self.costs.push(cost),
                    Output::Cost(_, cost) => self.transcriptions.push(cost),
                    Output::Well | Output::Served => self.health.push(None),
                    Output::Ill(error) => self.health.push(Some(error.kind)),
                    Output::Hush => {}
                    Output::Act(act) => {
                        if act == Act::Interrupt {
                            self.is_playing = false;
                        }
                        self.acts.push(act);
                    }
                }
            }
            match self.session.give(self.now) {
                Some(Given::Sound { codes, begins, .. }) => {
                    if begins {
                        self.utterance += 1;
                        (self.is_playing, self.given_ms, self.played_ms) = (true, 0, 0);
                    }
                    self.given_ms += (codes.len() / 8) as u64;
                    self.heard.extend_from_slice(&codes);
                }
                Some(Given::End) => self.acts.push(Act::EndUtterance),
                None if self.session.has_more() => {}
                None => return,
            }
        }
    }

    /// Lets time pass: sound is played, and reported every 200 ms and at its end.
    fn pass(&mut self, time_ms: u64) {
        for _ in 0..time_ms / 20 {
            self.now += ms(20);
            if self.is_playing && self.played_ms < self.given_ms {
                self.played_ms += 20;
                if self.played_ms.is_multiple_of(200) || self.played_ms >= self.given_ms {
                    let (utterance, ms) = (self.utterance, self.played_ms);
                    self.input(Input::Played { utterance, ms, cleared: false });
                }
            }
            if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
                self.input(Input::Tick);
            }
        }
    }

    /// The gateway says how much was heard of what was thrown away.
    fn cleared(&mut self) {
        let (utterance, ms) = (self.utterance, self.played_ms);
        self.input(Input::Played { utterance, ms, cleared: true });
    }

    /// Windows of 32 ms with voice or without.
    fn windows(&mut self, count: usize, voice: f32) {
        for _ in 0..count {
            self.pass(20);
            self.now += ms(12);
            self.input(Input::Mulaw(&[if voice > 0.5 { 0x10 } else { 0xF0 }; 256]));
            self.input(Input::Window { voice, echo: false });
        }
    }

    fn begun(&mut self, response: &str) {
        self.server(json!({"type": "response.created", "response": {"id": response}}));
    }

    fn sound(&mut self, response: &str, item: &str, length_ms: usize, words: &str) {
        let place = json!({"response_id": response, "item_id": item, "content_index": 0});
        let with = |more: Value| {
            let mut event = place.clone();
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let sound: Value = serde_json::from_str(&wire::append(&vec![7; length_ms * 8])).unwrap();
        self.server(with(json!({"type": "response.output_audio_transcript.delta", "delta": words})));
        self.server(with(json!({"type": "response.output_audio.delta", "delta": sound["audio"]})));
    }

    fn done(&mut self, response: &str, status: &str) {
        let response = json!({"id": response, "status": status, "output": []});
        self.server(json!({"type": "response.done", "response": response}));
    }

    /// A whole response.
    fn respond(&mut self, response: &str, length_ms: usize, words: &str) {
        self.begun(response);
        self.sound(response, &format!("item of {response}"), length_ms, words);
        self.done(response, "completed");
    }

    fn speech(&mut self, began: bool) {
        let name = if began { "speech_started" } else { "speech_stopped" };
        self.server(json!({"type": format!("input_audio_buffer.{name}")}));
    }

    /// What was sent since the last time, without sound.
    fn take_sent(&mut self) -> Vec<Value> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter().filter(|event| event["type"] != "input_audio_buffer.append").collect()
    }

    fn kinds(&mut self) -> Vec<String> {
        self.take_sent().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    fn said(&self) -> Vec<(Speaker, &str, bool)> {
        let said = self.acts.iter().filter_map(|act| {
            let Act::Report(Report::Said { by, text, interrupted, .. }) = act else { return None };
            Some((*by, text.as_str(), *interrupted))
        });
        said.collect()
    }

    fn faults(&self) -> Vec<Fault> {
        let of = |act: &Act| if let Act::Report(Report::Fault { fault, .. }) = act { Some(*fault) } else { None };
        self.acts.iter().filter_map(of).collect()
    }

    fn lose(&mut self, kind: Fault) {
        self.input(Input::Lost(&ProviderError { kind, detail: "as scripted".to_owned() }));
    }
}

fn instructions(event: &Value) -> &str {
    event["response"]["instructions"].as_str().unwrap_or_default()
}

#[test]
fn a_greeting_is_asked_for_and_turns_are_answered_with_their_times() {
    let mut call = Call::open(Script { greeting: "Hello there.".to_owned(), ..script() }, SERVER);
    let sent = call.take_sent();
    assert_eq!((&sent[0]["type"], &sent[1]["type"]), (&json!("session.update"), &json!("response.create")));
    assert!(instructions(&sent[1]).ends_with("Hello there."), "{}", sent[1]);
    call.respond("r1", 1000, "Hello there.");
    call.pass(1500);
    assert_eq!(call.said(), [(Speaker::Agent, "Hello there.", false)]);
    call.speech(true);
    call.windows(10, 0.9);
    call.windows(15, 0.0);
    call.speech(false);
    call.server(json!({"type": "conversation.item.input_audio_transcription.completed", "transcript": "Hi. "}));
    call.pass(100);
    call.respond("r2", 500, "How are you?");
    call.pass(1000);
    let last = &call.said()[1..];
    assert_eq!(last, [(Speaker::Caller, "Hi.", false), (Speaker::Agent, "How are you?", false)]);
    let turns: Vec<_> = call
        .acts
        .iter()
        .filter_map(|act| if let Act::Report(Report::Turn(turn)) = act { Some(turn) } else { None })
        .collect();
    assert_eq!(turns.len(), 1);
    assert_eq!((turns[0].endpoint, turns[0].first_sent), (Some(ms(480)), Some(ms(580))));
    assert!(call.take_sent().is_empty() && call.session.stats().floor.turns == 1);
}

#[test]
fn the_callers_sound_is_sent_as_it_came_and_a_gap_as_silence() {
    let mut call = Call::new(script(), model(SERVER));
    let every: Vec<u8> = (0..=255).collect();
    // Before there is a server it waits.
    call.input(Input::Mulaw(&every));
    call.input(Input::Opened);
    call.input(Input::Mulaw(&every));
    call.input(Input::Gap(1500));
    call.input(Input::Gap(1_000_000));
    let sound: Vec<Value> =
        call.sent.iter().filter(|event| event["type"] == "input_audio_buffer.append").cloned().collect();
    let decoded: Vec<u8> = sound
        .iter()
        .flat_map(|event| {
            let delta = json!({"type": "response.audio.delta", "delta": event["audio"]}).to_string();
            let wire::Event::Sound { sound, .. } = wire::Event::read(&delta).unwrap() else { panic!() };
            sound
        })
        .collect();
    assert_eq!(decoded[..512], [&every[..], &every[..]].concat());
    assert_eq!(decoded[512..], vec![0xFF; 11_500 * 8]);
}

#[test]
fn an_interruption_cuts_the_item_where_it_was_heard() {
    let mut call = Call::open(script(), SERVER);
    call.speech(true);
    call.speech(false);
    call.take_sent();
    call.begun("r1");
    call.sound("r1", "i1", 2000, "aaaa bbbb cccc dddd");
    call.pass(1100);
    call.speech(true);
    assert_eq!(call.acts.iter().filter(|act| **act == Act::Interrupt).count(), 1);
    // The exact position is waited for.
    assert!(call.kinds().is_empty());
    call.pass(60);
    call.cleared();
    let sent = call.take_sent();
    assert_eq!(sent.len(), 1, "{sent:?}");
    let expected =
        json!({"type": "conversation.item.truncate", "item_id": "i1", "content_index": 0, "audio_end_ms": 1100});
    assert_eq!(sent[0], expected);
    assert_eq!(call.said(), [(Speaker::Agent, "aaaa bbbb", true)]);
    // What still comes of it is thrown away.
    let heard = call.heard.len();
    call.sound("r1", "i1", 500, "eeee");
    call.sound("r1", "i2", 500, "eeee");
    call.done("r1", "cancelled");
    call.pass(100);
    assert_eq!(call.heard.len(), heard);
    call.speech(false);
    call.respond("r2", 300, "Yes?");
    call.pass(600);
    assert_eq!(call.said()[1], (Speaker::Agent, "Yes?", false));
    assert_eq!(call.session.stats().floor.barge_ins, 1);
}

#[test]
fn without_a_report_the_newest_position_counts_and_never_more_than_came() {
    let mut call = Call::open(script(), SERVER);
    call.take_sent();
    call.begun("r1");
    call.sound("r1", "i1", 150, "aaaa bbbb");
    call.pass(100);
    call.speech(true);
    call.now += ms(299);
    call.input(Input::Tick);
    assert!(call.take_sent().is_empty());
    call.now += ms(1);
    call.input(Input::Tick);
    let sent = call.take_sent();
    assert_eq!(sent[0]["audio_end_ms"], 100, "{sent:?}");
    // More is reported than there was.
    call.done("r1", "cancelled");
    call.begun("r2");
    call.sound("r2", "i2", 150, "aaaa");
    call.pass(20);
    call.speech(false);
    call.speech(true);
    call.input(Input::Played { utterance: 2, ms: 9999, cleared: true });
    assert_eq!(call.take_sent()[0]["audio_end_ms"], 150);
}

#[test]
fn a_protected_greeting_is_not_interrupted() {
    let script = Script { greeting: "Hello.".to_owned(), greeting_protected: true, ..script() };
    let mut call = Call::open(script, SERVER);
    call.begun("r1");
    call.sound("r1", "i1", 1000, "Hello.");
    call.sent.clear();
    call.pass(300);
    call.input(Input::Mulaw(&[1; 160]));
    call.speech(true);
    call.speech(false);
    assert_eq!(call.sent.len(), 1);
    assert!(!call.sent[0].to_string().contains("AQEB") && !call.acts.contains(&Act::Interrupt));
    call.done("r1", "completed");
    call.pass(1000);
    call.input(Input::Mulaw(&[1; 160]));
    assert!(call.sent.last().unwrap().to_string().contains("AQEB"));
}

#[test]
fn with_our_own_ears_a_turn_is_committed_and_a_response_asked_for() {
    let mut call = Call::open(script(), Detection::Own);
    call.take_sent();
    call.windows(20, 0.0);
    assert!(call.sent.is_empty(), "nobody speaks, and nothing is sent");
    call.windows(20, 0.9);
    let streamed = call.sent.len();
    assert!(streamed > 10);
    call.windows(16, 0.0);
    assert_eq!(call.kinds(), ["input_audio_buffer.commit", "response.create"]);
    call.respond("r1", 1000, "Yes.");
    call.pass(1500);
    assert_eq!(call.said(), [(Speaker::Agent, "Yes.", false)]);
    let turn =
        call.acts.iter().find_map(|act| if let Act::Report(Report::Turn(turn)) = act { Some(*turn) } else { None });
    let endpoint = turn.unwrap().endpoint.unwrap();
    assert!((ms(440)..=ms(520)).contains(&endpoint), "{endpoint:?}");
}

/// An agent of ours that is being heard.
fn speaking() -> Call {
    let mut call = Call::open(Script { greeting: "Hello.".to_owned(), ..script() }, Detection::Own);
    call.begun("r1");
    call.sound("r1", "i1", 4000, "aaaa bbbb cccc dddd");
    call.windows(32, 0.0);
    call.take_sent();
    call
}

#[test]
fn with_our_own_ears_a_cough_interrupts_for_a_moment_only() {
    let mut call = speaking();
    call.windows(3, 0.9);
    assert!(call.acts.contains(&Act::Interrupt));
    call.cleared();
    call.windows(13, 0.0);
    assert!(call.acts.contains(&Act::Continue), "{:?}", call.acts);
    assert_eq!(call.kinds(), ["input_audio_buffer.clear"]);
    call.done("r1", "completed");
    call.pass(4500);
    assert_eq!(call.said(), [(Speaker::Agent, "aaaa bbbb cccc dddd", false)]);
    assert_eq!(call.session.stats().floor.false_interruptions, 1);
}

#[test]
fn with_our_own_ears_words_interrupt_for_good() {
    let mut call = speaking();
    call.windows(20, 0.9);
    call.cleared();
    assert_eq!(call.kinds(), ["response.cancel", "conversation.item.truncate"]);
    call.done("r1", "cancelled");
    call.windows(16, 0.0);
    assert_eq!(call.kinds(), ["input_audio_buffer.commit", "response.create"]);
    call.respond("r2", 200, "Pardon?");
    call.pass(600);
    assert_eq!(call.said(), [(Speaker::Agent, "aaaa", true), (Speaker::Agent, "Pardon?", false)]);
    assert_eq!(call.session.stats().floor.barge_ins, 1);
}

#[test]
fn with_our_own_ears_who_goes_on_gets_one_answer() {
    let mut call = Call::open(script(), Detection::Own);
    call.windows(20, 0.9);
    call.windows(16, 0.0);
    call.begun("r1");
    call.take_sent();
    // The answer has no sound yet.
    call.windows(10, 0.9);
    assert_eq!(call.kinds(), ["response.cancel"]);
    call.sound("r1", "i1", 500, "too soon");
    call.done("r1", "cancelled");
    call.windows(16, 0.0);
    assert_eq!(call.kinds(), ["input_audio_buffer.commit", "response.create"]);
    call.respond("r2", 200, "Yes.");
    call.pass(500);
    assert_eq!(call.said(), [(Speaker::Agent, "Yes.", false)]);
}

#[test]
fn keys_are_told_after_a_pause_or_a_hash_and_answered() {
    for detection in [SERVER, Detection::Own] {
        let mut call = Call::open(script(), detection);
        call.take_sent();
        for key in ['1', '2'] {
            call.input(Input::Key(key));
            call.pass(1000);
        }
        assert!(call.take_sent().is_empty());
        call.pass(1100);
        let sent = call.take_sent();
        assert_eq!(sent[0]["item"]["content"][0]["text"], "[keys: 12]");
        assert_eq!((sent.len(), &sent[1]["type"]), (2, &json!("response.create")));
        call.begun("r1");
        call.sound("r1", "i1", 2000, "aaaa bbbb");
        call.pass(500);
        call.take_sent();
        call.input(Input::Key('#'));
        assert!(call.acts.contains(&Act::Interrupt));
        // Nobody speaks: the server gives up what it is told to.
        assert!(call.kinds().contains(&"response.cancel".to_owned()));
        call.cleared();
        call.done("r1", "cancelled");
        let kinds = call.kinds();
        assert!(kinds.contains(&"conversation.item.truncate".to_owned()), "{kinds:?}");
        assert_eq!(kinds.last().unwrap(), "response.create");
    }
}

#[test]
fn a_silent_caller_is_prompted_and_then_left() {
    for detection in [SERVER, Detection::Own] {
        let mut call = Call::open(script(), detection);
        call.take_sent();
        call.pass(8100);
        assert!(instructions(&call.take_sent()[0]).ends_with("Still there?"));
        call.respond("r1", 500, "Still there?");
        call.pass(600);
        call.pass(8100);
        assert!(instructions(&call.take_sent()[0]).ends_with("Bye."));
        call.respond("r2", 500, "Bye.");
        assert!(!matches!(call.acts.last(), Some(Act::Hangup { .. })), "it is not heard yet");
        call.pass(700);
        assert!(matches!(call.acts.last(), Some(Act::Hangup { after_playback: true, .. })), "{:?}", call.acts);
    }
}

#[test]
fn orders_wait_for_each_other_and_are_bounded() {
    let mut call = Call::open(script(), SERVER);
    for n in 0..=MAX_ORDERED {
        assert_eq!(call.session.say(&format!("order {n}")), Ok(()));
    }
    // One is being said.
    assert_eq!(call.session.say("more"), Err(CannotSay::TooMuch));
    call.drain();
    call.take_sent();
    call.respond("r1", 100, "order 0");
    let sent = call.take_sent();
    assert_eq!((sent.len(), instructions(&sent[0]).ends_with("order 1")), (1, true));
}

#[test]
fn a_hold_throws_away_what_was_not_heard() {
    let mut call = Call::open(script(), SERVER);
    call.begun("r1");
    call.sound("r1", "i1", 2000, "aaaa bbbb cccc dddd");
    call.pass(1000);
    call.take_sent();
    call.input(Input::Held(true));
    assert_eq!(call.kinds(), ["response.cancel", "conversation.item.truncate"]);
    assert_eq!(call.said(), [(Speaker::Agent, "aaaa bbbb", true)]);
    call.input(Input::Held(false));
    call.done("r1", "cancelled");
    call.session.say("Here we are.").unwrap();
    call.drain();
    assert_eq!(call.kinds(), ["response.create"]);
}

#[test]
fn functions_are_called_and_answered_and_what_they_do_comes_last() {
    let mut call = Call::open(script(), SERVER);
    call.speech(true);
    call.speech(false);
    call.begun("r1");
    call.take_sent();
    let function = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"});
    call.server(
        json!({"type": "response.done", "response": {"id": "r1", "status": "completed", "output": [function]}}),
    );
    assert_eq!((call.calls.len(), call.calls[0].name.as_str()), (1, "f"));
    for _ in 0..2 {
        call.input(Input::Filler("Let me see.".to_owned()));
    }
    assert!(instructions(&call.take_sent()[0]).ends_with("Let me see."));
    call.input(Input::Called { call: "c1", name: "f", answer: "42", deed: None });
    let sent = call.take_sent();
    assert_eq!((&sent[0]["item"]["type"], &sent[0]["item"]["output"]), (&json!("function_call_output"), &json!("42")));
    call.respond("r2", 200, "Let me see.");
    assert_eq!(call.kinds(), ["response.create"]);
    let function = json!({"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"});
    call.begun("r3");
    call.sound("r3", "i3", 400, "Goodbye.");
    call.server(
        json!({"type": "response.done", "response": {"id": "r3", "status": "completed", "output": [function]}}),
    );
    let deed = Some(Act::Hangup { reason: "asked".to_owned(), after_playback: true });
    call.input(Input::Called { call: "c2", name: "g", answer: "done", deed });
    assert!(!call.acts.iter().any(|act| matches!(act, Act::Hangup { .. })));
    call.pass(1500);
    assert!(matches!(call.acts.last(), Some(Act::Hangup { .. })), "{:?}", call.acts);
    assert!(!call.kinds().contains(&"response.create".to_owned()));
}

#[test]
fn who_hangs_up_without_a_word_says_goodbye_and_who_speaks_needs_no_filler() {
    let function = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"});
    let response = json!({"id": "r1", "status": "completed", "output": [function]});
    let done = json!({"type": "response.done", "response": response});
    let deed = || Some(Act::Hangup { reason: "asked".to_owned(), after_playback: true });
    let mut call = Call::open(script(), SERVER);
    call.begun("r1");
    call.server(done.clone());
    call.take_sent();
    call.input(Input::Called { call: "c1", name: "f", answer: "done", deed: deed() });
    let sent = call.take_sent();
    assert_eq!((sent.len(), instructions(&sent[1]).ends_with("Bye.")), (2, true), "{sent:?}");
    call.respond("r2", 400, "Bye.");
    assert!(!matches!(call.acts.last(), Some(Act::Hangup { .. })));
    call.pass(700);
    assert_eq!(call.acts.last(), deed().as_ref());
    let mut call = Call::open(script(), SERVER);
    call.begun("r1");
    call.sound("r1", "i1", 400, "I am looking.");
    call.server(done);
    call.input(Input::Filler("Let me see.".to_owned()));
    assert!(call.take_sent().iter().all(|event| event["type"] != "response.create"));
}

#[test]
fn a_lost_session_is_resumed_with_what_was_said() {
    let mut call = Call::open(Script { greeting: "Hello.".to_owned(), ..script() }, SERVER);
    call.respond("r1", 400, "Hello.");
    call.pass(600);
    call.speech(true);
    call.speech(false);
    call.server(json!({"type": "conversation.item.input_audio_transcription.completed", "transcript": "Hi."}));
    call.begun("r2");
    call.take_sent();
    call.lose(Fault::Unreachable);
    assert_eq!((call.opened, call.faults().len()), (2, 1), "at once");
    call.input(Input::Mulaw(&[1; 160]));
    call.input(Input::Opened);
    let sent = call.take_sent();
    let texts: Vec<_> =
        sent.iter().map(|event| event["item"]["content"][0]["text"].as_str().unwrap_or_default()).collect();
    assert_eq!(texts, ["", "Hello.", "Hi.", ""]);
    assert_eq!((&sent[0]["type"], &sent[3]["type"]), (&json!("session.update"), &json!("response.create")));
    assert_eq!(sent[3].get("response"), None, "the answer that was due");
    call.respond("r1", 200, "Here.");
    call.pass(500);
    assert_eq!(call.said().last(), Some(&(Speaker::Agent, "Here.", false)));
}

#[test]
fn words_that_were_lost_with_a_session_are_asked_for_again() {
    let mut call = Call::open(Script { greeting: "Hello.".to_owned(), ..script() }, SERVER);
    call.respond("r1", 400, "Hello.");
    call.pass(600);
    call.speech(true);
    call.lose(Fault::Unreachable);
    call.take_sent();
    call.input(Input::Opened);
    let sent = call.take_sent();
    assert!(instructions(sent.last().unwrap()).contains("again"), "{sent:?}");
}

#[test]
fn a_server_that_cannot_be_had_is_tried_twice_and_given_up() {
    let mut call = Call::new(script(), model(SERVER));
    call.lose(Fault::Unreachable);
    assert_eq!(call.opened, 1);
    call.pass(980);
    assert_eq!(call.opened, 1);
    call.pass(40);
    assert_eq!(call.opened, 2);
    call.lose(Fault::Failed);
    assert!(matches!(call.acts.last(), Some(Act::Fail { .. })), "{:?}", call.acts);
    // With a voice of its own it says so.
    let mut call = Call::new(Script { has_voice: true, ..script() }, model(SERVER));
    call.lose(Fault::Denied);
    assert_eq!((call.opened, call.spoken.as_slice()), (1, &["I give up.".to_owned()][..]), "a wrong key stays wrong");
    let sound = Sound::Pcm(SampleRate::Hz24000, vec![0; 24_000]);
    call.input(Input::Voice(Some(Ok(sound))));
    call.input(Input::Voice(None));
    // The filter ends in a block of its own.
    assert!((8000..8400).contains(&call.heard.len()));
    call.pass(1200);
    assert!(matches!(call.acts.last(), Some(Act::Hangup { .. })), "{:?}", call.acts);
    assert_eq!(call.said(), [(Speaker::Agent, "I give up.", false)]);
    // Without any sound of it, whoever carries the call speaks.
    let mut call = Call::new(Script { has_voice: true, ..script() }, model(SERVER));
    call.lose(Fault::Denied);
    call.input(Input::Voice(Some(Err(ProviderError { kind: Fault::Failed, detail: String::new() }))));
    assert!(matches!(call.acts.last(), Some(Act::Fail { .. })), "{:?}", call.acts);
}

#[test]
fn a_server_that_is_left_alone_is_not_waited_for_and_how_it_does_is_told() {
    let mut call = Call::new(Script { has_voice: true, ..script() }, model(SERVER));
    call.input(Input::LeftAlone);
    assert_eq!((call.spoken.as_slice(), call.faults()), (&["I give up.".to_owned()][..], vec![Fault::Unreachable]));
    let mut call = Call::new(script(), model(SERVER));
    call.input(Input::LeftAlone);
    assert!(matches!(call.acts.last(), Some(Act::Fail { .. })), "{:?}", call.acts);
    assert!(call.health.is_empty());

    let mut call = Call::open(script(), SERVER);
    call.respond("r1", 100, "Mine.");
    call.lose(Fault::Unreachable);
    assert_eq!(call.health, [None, None, Some(Fault::Unreachable)]);
    // The end of a session that has lasted is no fault.
    call.health.clear();
    call.input(Input::Opened);
    call.server(json!({"type": "error", "error": {"type": "invalid_request_error", "code": "session_expired"}}));
    call.lose(Fault::Unreachable);
    assert!(call.health.is_empty(), "{:?}", call.health);
    // A single response that fails is none of the place either; too many are.
    let mut call = Call::open(script(), SERVER);
    for id in ["r1", "r2", "r3"] {
        assert_eq!(call.health, [None]);
        call.begun(id);
        call.done(id, "failed");
    }
    assert_eq!(call.health, [None, Some(Fault::Failed)]);
}

#[test]
fn a_failed_response_is_apologised_for_until_that_is_too_often() {
    let mut call = Call::open(script(), SERVER);
    let failed = |id: &str| {
        let details = json!({"error": {"type": "server_error", "code": "oops"}});
        json!({"type": "response.done", "response": {"id": id, "status": "failed", "status_details": details}})
    };
    call.speech(true);
    call.speech(false);
    call.begun("r1");
    call.take_sent();
    call.server(failed("r1"));
    assert!(instructions(&call.take_sent()[0]).ends_with("Alas."));
    call.begun("r2");
    call.server(failed("r2"));
    call.begun("r3");
    call.server(failed("r3"));
    assert!(matches!(call.acts.last(), Some(Act::Fail { .. })), "{:?}", call.acts);
    assert_eq!(call.faults(), [Fault::Failed; 3]);
    // A voice of its own is the better one for that.
    let mut call = Call::open(Script { has_voice: true, ..script() }, SERVER);
    call.begun("r1");
    call.server(failed("r1"));
    assert_eq!(call.spoken, ["Alas."]);
    call.input(Input::Voice(None));
    assert!(!matches!(call.acts.last(), Some(Act::Fail { .. })));
}

#[test]
fn errors_are_told_and_only_some_end_a_call() {
    let error = |kind: &str, code: &str, about: &str| json!({"type": "error", "error": {"type": kind, "code": code, "message": "what was said", "event_id": about}});
    let mut call = Call::open(script(), SERVER);
    call.server(error("invalid_request_error", "response_cancel_not_active", ""));
    assert!(call.acts.is_empty());
    call.server(error("invalid_request_error", "item_not_found", ""));
    assert_eq!(call.faults(), [Fault::Rejected]);
    assert!(!format!("{:?}", call.acts).contains("what was said"));
    call.session.say("Ho.").unwrap();
    call.drain();
    call.take_sent();
    // The server was quicker with one of its own: ours waits.
    call.server(error("invalid_request_error", "conversation_already_has_active_response", "response-1"));
    call.respond("r1", 100, "Mine.");
    assert!(instructions(&call.take_sent()[0]).ends_with("Ho."));
    for (kind, code, about, fault) in [
        ("invalid_request_error", "invalid_api_key", "", Fault::Denied),
        ("invalid_request_error", "invalid_value", "session", Fault::Rejected),
    ] {
        let mut call = Call::open(script(), SERVER);
        call.server(error(kind, code, about));
        assert_eq!(call.faults(), [fault]);
        assert!(matches!(call.acts.last(), Some(Act::Fail { .. })), "{:?}", call.acts);
    }
    // A session that has lasted as long as sessions do is opened anew, and nobody has failed.
    let mut call = Call::open(script(), SERVER);
    call.server(error("invalid_request_error", "session_expired", ""));
    call.lose(Fault::Denied);
    assert_eq!((call.opened, call.faults().len()), (2, 0));
}

#[test]
fn a_server_that_is_silent_floods_or_talks_nonsense_is_left() {
    let mut call = Call::open(script(), SERVER);
    call.speech(true);
    call.speech(false);
    call.pass(9980);
    assert_eq!(call.closed, 0);
    call.pass(40);
    assert_eq!((call.closed, call.opened, call.faults()), (1, 2, vec![Fault::Timeout]));

    let mut call = Call::open(script(), SERVER);
    call.begun("r1");
    for _ in 0..300 {
        call.sound("r1", "i1", 1000, "");
    }
    assert_eq!((call.closed, call.faults()), (1, vec![Fault::Malformed]));
    assert!(call.acts.contains(&Act::Interrupt));

    let mut call = Call::open(script(), SERVER);
    call.input(Input::Text("<html>"));
    assert_eq!((call.closed, call.faults()), (1, vec![Fault::Malformed]));
    call.pass(1100);
    call.input(Input::Opened);
    call.input(Input::Text("<html>"));
    assert!(matches!(call.acts.last(), Some(Act::Fail { .. })), "{:?}", call.acts);
}

#[test]
fn what_was_heard_at_the_end_of_a_call_is_told() {
    let mut call = Call::open(script(), SERVER);
    call.begun("r1");
    call.sound("r1", "i1", 2000, "aaaa bbbb cccc dddd");
    call.pass(1000);
    let reports = call.session.leave(call.now);
    let text = "aaaa bbbb".to_owned();
    assert_eq!(reports, [Report::Said { by: Speaker::Agent, text, is_final: true, interrupted: true }]);
    assert!(call.now > call.start);
}

#[test]
fn putting_words_into_text_is_paid_for_as_the_server_says() {
    let mut call = Call::open(script(), SERVER);
    let kind = "conversation.item.input_audio_transcription";
    for usage in [
        json!({"type": "duration", "seconds": 1.25}),
        json!({"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17}),
        json!({"type": "duration", "seconds": -1.0}),
        Value::Null,
    ] {
        call.server(json!({"type": format!("{kind}.completed"), "transcript": "Yes.", "usage": usage}));
    }
    call.server(json!({"type": format!("{kind}.failed"), "error": {"type": "server_error"}}));
    let one = Cost { requests: 1, ..Cost::default() };
    let expected = [
        Cost { audio_ms: 1250, ..one },
        Cost { tokens_in: 14, tokens_out: 3, ..one },
        Cost { without_usage: 1, ..one },
        Cost { without_usage: 1, ..one },
        Cost { failed: 1, ..one },
    ];
    assert_eq!((call.transcriptions.as_slice(), call.costs.len()), (&expected[..], 0));
    assert_eq!(call.said().len(), 4);
}

#[test]
fn every_response_is_paid_for_once_however_it_ends() {
    let one = Cost { requests: 1, ..Cost::default() };
    let mut call = Call::open(script(), SERVER);
    let usage = json!({"input_tokens": 7, "output_tokens": 9});
    call.begun("r1");
    call.sound("r1", "i1", 100, "One.");
    call.server(json!({"type": "response.done", "response": {"id": "r1", "status": "completed", "usage": usage}}));
    call.respond("r2", 100, "Two.");
    call.begun("r3");
    call.speech(true);
    call.done("r3", "cancelled");
    call.speech(false);
    call.begun("r4");
    call.done("r4", "failed");
    let answered = Cost { tokens_in: 7, tokens_out: 9, ..one };
    let unknown = Cost { without_usage: 1, ..one };
    let given_up = Cost { given_up: 1, ..unknown };
    assert_eq!(call.costs, [answered, unknown, given_up, Cost { failed: 1, ..one }]);
    // The apology was asked for; neither its end nor that of another is told any more.
    call.costs.clear();
    call.begun("r5");
    call.sound("r5", "i5", 1000, "Alas.");
    call.lose(Fault::Failed);
    assert_eq!(call.costs, [Cost { failed: 1, ..unknown }]);
    call.costs.clear();
    call.input(Input::Opened);
    call.begun("r6");
    assert!(call.session.leave(call.now).len() <= 1 && call.costs.is_empty());
    call.drain();
    assert_eq!(call.costs, [given_up]);
    // One that the server does not take is asked for all the same.
    let mut call = Call::open(script(), SERVER);
    call.session.say("Ho.").unwrap();
    call.drain();
    let error = json!({"type": "invalid_request_error", "code": "invalid_value", "event_id": "response-1"});
    call.server(json!({"type": "error", "error": error}));
    assert_eq!(call.costs, [Cost { failed: 1, ..one }]);
}

#[test]
fn with_our_own_ears_a_cough_during_the_goodbye_loses_no_hang_up() {
    let mut call = Call::open(script(), Detection::Own);
    call.windows(20, 0.9);
    call.windows(16, 0.0);
    call.begun("r1");
    call.sound("r1", "i1", 4000, "Goodbye and have a nice day.");
    let function = json!({"type": "function_call", "call_id": "c1", "name": "hang_up", "arguments": "{}"});
    call.server(
        json!({"type": "response.done", "response": {"id": "r1", "status": "completed", "output": [function]}}),
    );
    let deed = Some(Act::Hangup { reason: "asked".to_owned(), after_playback: true });
    call.input(Input::Called { call: "c1", name: "hang_up", answer: "ok", deed });
    call.windows(32, 0.0);
    call.windows(3, 0.9);
    assert!(call.acts.contains(&Act::Interrupt));
    call.cleared();
    call.windows(13, 0.0);
    assert!(call.acts.contains(&Act::Continue), "{:?}", call.acts);
    call.pass(6000);
    assert!(call.acts.iter().any(|act| matches!(act, Act::Hangup { .. })), "no hang-up: {:?}", call.acts);
}

#[test]
fn with_our_own_ears_a_turn_that_ends_before_there_is_a_server_is_answered() {
    let mut call = Call::new(script(), model(Detection::Own));
    call.windows(20, 0.9);
    call.windows(16, 0.0);
    call.input(Input::Opened);
    call.server(json!({"type": "session.created"}));
    let appended = call.sent.iter().rposition(|event| event["type"] == "input_audio_buffer.append");
    let committed = call.sent.iter().position(|event| event["type"] == "input_audio_buffer.commit");
    assert!(appended.is_some() && appended < committed, "{:?}", call.kinds());
    assert_eq!(call.kinds(), ["session.update", "input_audio_buffer.commit", "response.create"]);
}

#[test]
fn with_our_own_ears_a_goodbye_that_is_interrupted_for_good_does_not_end_the_call() {
    for with_keys in [false, true] {
        let mut call = speaking();
        call.done("r1", "completed");
        let deed = Some(Act::Hangup { reason: "asked".to_owned(), after_playback: true });
        call.input(Input::Called { call: "c1", name: "hang_up", answer: "ok", deed });
        if with_keys {
            call.input(Input::Key('#'));
        } else {
            call.windows(20, 0.9);
        }
        call.cleared();
        call.windows(16, 0.0);
        call.respond("r2", 200, "Yes?");
        call.pass(3000);
        assert!(!call.acts.iter().any(|act| matches!(act, Act::Hangup { .. })), "{:?}", call.acts);
    }
}

#[test]
fn a_hold_takes_a_hang_up_back_that_was_not_reached() {
    let mut call = speaking();
    call.done("r1", "completed");
    let deed = Some(Act::Hangup { reason: "asked".to_owned(), after_playback: true });
    call.input(Input::Called { call: "c1", name: "hang_up", answer: "ok", deed });
    call.input(Input::Held(true));
    call.input(Input::Held(false));
    call.pass(1000);
    assert!(!call.acts.iter().any(|act| matches!(act, Act::Hangup { .. })), "{:?}", call.acts);
}

#[test]
fn results_for_the_next_session_are_bounded_and_told_until_it_has_answered() {
    let mut call = Call::open(script(), SERVER);
    call.respond("r0", 100, "Well.");
    call.lose(Fault::Unreachable);
    for n in 0..10 {
        call.input(Input::Called { call: "c1", name: "f", answer: &format!("<{n}>"), deed: None });
    }
    let told = |call: &mut Call| {
        let sent = call.take_sent();
        (0..10).filter(|n| sent.iter().any(|event| event.to_string().contains(&format!("<{n}>")))).count()
    };
    call.take_sent();
    call.input(Input::Opened);
    assert_eq!(told(&mut call), 8);
    // Lost before it has answered.
    call.server(json!({"type": "session.created"}));
    call.lose(Fault::Unreachable);
    call.pass(1100);
    call.input(Input::Opened);
    assert_eq!(told(&mut call), 8);
    call.respond("r1", 100, "Well.");
    call.lose(Fault::Unreachable);
    call.input(Input::Opened);
    assert_eq!(told(&mut call), 0);
}

#[test]
fn what_a_function_answers_while_there_is_no_server_is_told_to_the_next() {
    let mut call = Call::open(script(), SERVER);
    call.begun("r1");
    let function = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"});
    call.server(
        json!({"type": "response.done", "response": {"id": "r1", "status": "completed", "output": [function]}}),
    );
    call.lose(Fault::Unreachable);
    call.input(Input::Called { call: "c1", name: "f", answer: "the order is 42", deed: None });
    call.take_sent();
    call.input(Input::Opened);
    call.server(json!({"type": "session.created"}));
    let sent = call.take_sent();
    assert!(sent.iter().any(|event| event.to_string().contains("the order is 42")), "{sent:?}");
}

#[test]
fn what_is_heard_of_a_lost_session_is_told_to_the_next() {
    let mut call = Call::open(script(), SERVER);
    call.speech(true);
    call.speech(false);
    call.begun("r1");
    call.sound("r1", "i1", 3000, "What is your order number?");
    call.done("r1", "completed");
    call.pass(1000);
    call.lose(Fault::Unreachable);
    call.take_sent();
    call.input(Input::Opened);
    call.server(json!({"type": "session.created"}));
    call.pass(2500);
    assert_eq!(call.said().last(), Some(&(Speaker::Agent, "What is your order number?", false)));
    let sent = call.take_sent();
    assert!(sent.iter().any(|event| event.to_string().contains("order number")), "{sent:?}");
}

#[test]
fn what_a_lost_session_said_is_not_cut_in_the_next() {
    let mut call = Call::open(script(), SERVER);
    call.begun("r1");
    call.sound("r1", "i1", 3000, "What is your order number?");
    call.done("r1", "completed");
    call.pass(1000);
    call.lose(Fault::Unreachable);
    call.input(Input::Opened);
    call.server(json!({"type": "session.created"}));
    call.take_sent();
    call.speech(true);
    call.cleared();
    let kinds = call.kinds();
    assert!(!kinds.contains(&"conversation.item.truncate".to_owned()), "{kinds:?}");
}

#[test]
fn a_function_that_is_done_while_the_caller_speaks_makes_no_second_answer() {
    let mut call = Call::open(script(), SERVER);
    call.speech(true);
    call.speech(false);
    call.begun("r1");
    let function = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"});
    call.server(
        json!({"type": "response.done", "response": {"id": "r1", "status": "completed", "output": [function]}}),
    );
    call.speech(true);
    call.input(Input::Called { call: "c1", name: "f", answer: "42", deed: None });
    call.speech(false);
    call.take_sent();
    call.respond("r2", 500, "It is 42.");
    call.pass(3000);
    let kinds = call.kinds();
    assert!(!kinds.contains(&"response.create".to_owned()), "a second answer: {kinds:?}");
}

#[test]
fn with_our_own_ears_a_function_that_is_done_meanwhile_makes_no_second_answer() {
    let mut call = Call::open(script(), Detection::Own);
    call.windows(20, 0.9);
    call.windows(16, 0.0);
    call.begun("r1");
    let function = json!({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"});
    call.server(
        json!({"type": "response.done", "response": {"id": "r1", "status": "completed", "output": [function]}}),
    );
    call.windows(15, 0.9);
    call.input(Input::Called { call: "c1", name: "f", answer: "42", deed: None });
    call.windows(16, 0.0);
    let kinds = call.kinds();
    call.respond("r2", 500, "It is 42.");
    call.windows(60, 0.0);
    let after = call.kinds();
    assert!(!after.contains(&"response.create".to_owned()), "a second answer: {kinds:?} {after:?}");
}
