//! Orders to the worker, as a gateway gives them over gRPC: what is heard, what the agent is told, what is answered.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{collections::BTreeMap, time::Duration};

use audio_worker::agent::{Act, Agent, Agents, Heard};
use proto::v1::{
    CallerAudio, ChangeAgent, Close, ConverseRequest, ConverseResponse, Dtmf, Hold, Instruct, InstructOutcome, Notice,
    Open, PlayDigits, Played, Resume, Say, converse_request::Message, converse_response::Message as Answer,
    instruct::Instruction,
};
use tests::{
    scripted::{AMPLITUDE, Notes, Told, WORDS_HZ, WORDS_SAMPLES, frequency},
    signal::{keys_in, presses, tone, tone_share},
    sim::{decode_mulaw, encode_mulaw},
    stack::{Stack, StackPlan, eventually},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use InstructOutcome::{Done, Invalid, UnknownAgent, Unsupported};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn digits_are_heard_as_their_keys_in_order_with_their_timing() {
    let (stack, _) = start().await;
    let mut talk = Talk::open(&stack, "echo").await;
    assert_eq!(talk.order(1, digits("0123456789*#ABCD")).await, (Done, String::new()));
    let sound = talk.until_end_of(1).await;
    assert_eq!(sound.len(), 16 * 1600);
    let heard = presses(&sound);
    assert_eq!(heard.iter().map(|press| press.key).collect::<String>(), "0123456789*#ABCD");
    for (n, press) in heard.iter().enumerate() {
        assert!(press.from.abs_diff(n * 1600) <= 16 && press.samples.abs_diff(800) <= 24, "{press:?}");
    }
    assert_eq!(talk.order(2, digits("1w2W3")).await.0, Done);
    let heard: Vec<_> = presses(&talk.until_end_of(2).await);
    let begins: Vec<_> = heard.iter().map(|press| press.from).collect();
    for (begin, expected) in begins.iter().zip([0, 1600 + 4000, 2 * 1600 + 4000 + 8000]) {
        assert!(begin.abs_diff(expected) <= 16, "{begins:?}");
    }
    talk.close(&stack).await;
}

#[tokio::test]
async fn digits_come_between_what_the_agent_said_before_and_says_then() {
    let (stack, notes) = start().await;
    let mut talk = Talk::open(&stack, "scripted").await;
    talk.key('1').await;
    talk.order(1, digits("42#")).await;
    talk.key('2').await;
    let before = talk.until_end_of(1).await;
    let keys = talk.until_end_of(2).await;
    let after = talk.until_end_of(3).await;
    assert_eq!((before.len(), keys_in(&keys).as_str(), after.len()), (8000, "42#", 16_000));
    assert!(tone_share(&before, frequency(1)) > 0.98 && tone_share(&after, frequency(2)) > 0.98);
    // The agent counts its own utterances, and is not told of the keys.
    for utterance in 1..=3 {
        talk.send(Message::Played(Played { utterance, ms: 200, ..Played::default() })).await;
    }
    let told = [1, 2].map(|utterance| Told::Played { utterance, ms: 200, cleared: false });
    eventually("the agent knows", async || notes.of("CA1").contains(&told[1])).await;
    let played: Vec<_> = notes.of("CA1").into_iter().filter(|told| matches!(told, Told::Played { .. })).collect();
    assert_eq!(played, told);
    talk.close(&stack).await;
}

#[tokio::test]
async fn an_interrupt_spares_digits() {
    let (stack, _) = start().await;
    let mut talk = Talk::open(&stack, "scripted").await;
    talk.key('9').await;
    talk.order(1, digits("7")).await;
    talk.key('9').await;
    talk.key('*').await;
    let keys = talk.until_end_of(2).await;
    assert_eq!((keys_in(&keys).as_str(), talk.interrupts.clone()), ("7", vec![1]));
    talk.key('1').await;
    talk.until_end_of(4).await;
    assert!(!talk.heard.contains_key(&3), "what waited behind them is gone");
    talk.close(&stack).await;
}

#[tokio::test]
async fn digits_that_cannot_be_played_are_refused_and_not_told_back() {
    let (stack, _) = start().await;
    let mut talk = Talk::open(&stack, "echo").await;
    let long = "5".repeat(65);
    for (bad, says) in [("", "there is none"), ("12a4", "number 3"), ("1 2", "number 2"), (&long, "65 are too many")] {
        let (outcome, detail) = talk.order(9, digits(bad)).await;
        assert_eq!(outcome, Invalid, "{bad:?}");
        assert!(detail.contains(says) && detail.len() <= 200, "{detail}");
    }
    // The most that may be ordered, until too much waits.
    let mut outcomes = Vec::new();
    for id in 1..=9 {
        outcomes.push(talk.order(id, digits(&"W".repeat(64))).await.0);
    }
    assert_eq!(outcomes, [[Done; 8].as_slice(), &[Unsupported]].concat());
    talk.close(&stack).await;
}

#[tokio::test]
async fn on_hold_the_agent_neither_hears_nor_talks_and_goes_on_after() {
    let (stack, notes) = start().await;
    let mut talk = Talk::open(&stack, "scripted").await;
    talk.key('9').await;
    talk.caller(10).await;
    assert_eq!(talk.order(1, Instruction::Hold(Hold {})).await.0, Done);
    assert_eq!(talk.order(2, Instruction::Hold(Hold {})).await.0, Done);
    assert_eq!(talk.interrupts, [1], "what it had said is thrown away, once");
    // Half a second of which it hears nothing, and a key.
    talk.caller(25).await;
    talk.key('1').await;
    talk.send(Message::Notice(Notice { kind: "answered_by".into(), value: "human".into() })).await;
    let (outcome, detail) = talk.order(3, say("hello")).await;
    assert_eq!((outcome, detail.contains("on hold")), (Unsupported, true), "{detail}");
    assert_eq!(talk.order(4, digits("6")).await.0, Done);
    assert_eq!(keys_in(&talk.until_end_of(2).await), "6", "keys are played all the same");
    assert_eq!(talk.order(5, Instruction::Resume(Resume {})).await.0, Done);
    assert_eq!(talk.order(6, Instruction::Resume(Resume {})).await.0, Done);
    talk.key('2').await;
    let after = talk.until_end_of(3).await;
    assert!(tone_share(&after, frequency(2)) > 0.98);
    let told: Vec<_> = notes.of("CA1");
    let notice = Told::Notice("answered_by".into(), "human".into());
    let expected = [Told::Key('9'), Told::Held(true), notice, Told::Held(false), Told::Gap(500), Told::Key('2')];
    assert_eq!(told, expected);
    talk.close(&stack).await;
}

#[tokio::test]
async fn on_hold_nothing_comes_back_from_the_echo() {
    let (stack, _) = start().await;
    let mut talk = Talk::open(&stack, "echo").await;
    talk.caller(20).await;
    talk.order(1, Instruction::Hold(Hold {})).await;
    let before = talk.samples();
    talk.caller(50).await;
    talk.order(2, Instruction::Resume(Resume {})).await;
    assert_eq!(talk.samples(), before);
    talk.caller(20).await;
    let echoed = async {
        while talk.samples() < before + 19 * 160 {
            talk.next().await;
        }
    };
    timeout(PATIENCE, echoed).await.unwrap();
    assert!(talk.samples() <= before + 20 * 160, "only what came after is echoed");
    talk.close(&stack).await;
}

#[tokio::test]
async fn another_agent_takes_over_and_an_unknown_one_does_not() {
    let (stack, notes) = start().await;
    let mut talk = Talk::open(&stack, "echo").await;
    talk.caller(20).await;
    let (outcome, detail) = talk.order(1, change_agent("nobody\n")).await;
    assert_eq!(outcome, UnknownAgent);
    assert_eq!(detail, "no agent \"nobody\"; this worker has: broken, echo, failing, scripted");
    assert_eq!(talk.order(2, change_agent("")).await.0, Invalid);
    talk.caller(10).await;
    while talk.samples() < 29 * 160 {
        talk.next().await;
    }
    // The echo went on; now it is gone, with what it had said.
    assert_eq!(talk.order(3, change_agent("scripted")).await.0, Done);
    assert_eq!(talk.interrupts, [1]);
    talk.key('1').await;
    assert!(tone_share(&talk.until_end_of(2).await, frequency(1)) > 0.98);
    talk.send(Message::Played(Played { utterance: 1, ms: 100, cleared: true, ..Played::default() })).await;
    talk.send(Message::Played(Played { utterance: 2, ms: 100, ..Played::default() })).await;
    let played = Told::Played { utterance: 1, ms: 100, cleared: false };
    eventually("it knows how far it was heard", async || notes.of("CA1").contains(&played)).await;
    assert_eq!(notes.of("CA1"), [Told::TookOverFrom("echo".into()), Told::Key('1'), played]);
    // Held, and given to a fresh one of the same name: it is held as well.
    talk.order(4, Instruction::Hold(Hold {})).await;
    talk.order(5, change_agent("scripted")).await;
    talk.key('1').await;
    talk.order(6, Instruction::Resume(Resume {})).await;
    talk.key('3').await;
    assert!(tone_share(&talk.until_end_of(3).await, frequency(3)) > 0.98);
    let told = notes.of("CA1").split_off(3);
    let expected = [
        Told::Held(true),
        Told::TookOverFrom("scripted".into()),
        Told::Gone,
        Told::Held(true),
        Told::Held(false),
        Told::Key('3'),
    ];
    assert_eq!(told, expected);
    talk.close(&stack).await;
}

#[tokio::test]
async fn a_text_is_said_by_an_agent_with_a_voice_and_refused_by_one_without() {
    let (stack, notes) = start().await;
    let mut talk = Talk::open(&stack, "echo").await;
    let (outcome, detail) = talk.order(1, say("hello")).await;
    assert_eq!((outcome, detail.as_str()), (Unsupported, "this agent has no voice of its own"));
    talk.order(2, change_agent("scripted")).await;
    let text = "Grüße, this is a test";
    assert_eq!(talk.order(3, say(text)).await.0, Done);
    let said = talk.until_end_of(1).await;
    assert_eq!(said.len(), WORDS_SAMPLES * text.chars().count());
    assert!(tone_share(&said, WORDS_HZ) > 0.98);
    assert!(notes.of("CA1").contains(&Told::Say(text.into())));
    for bad in ["", "two\nlines", "bell\u{7}", "\u{85}"] {
        assert_eq!(talk.order(4, say(bad)).await.0, Invalid, "{bad:?}");
    }
    assert_eq!(talk.order(5, say(&"ö".repeat(4001))).await.0, Invalid);
    assert_eq!(talk.order(6, say(&"ö".repeat(4000))).await.0, Done);
    talk.close(&stack).await;
}

#[tokio::test]
async fn orders_are_answered_in_order_once_each_and_none_without_an_id() {
    let (stack, _) = start().await;
    let mut talk = Talk::open(&stack, "scripted").await;
    // A minute of talk waits; no answer waits behind it.
    talk.key('9').await;
    for id in 1..=200 {
        let instruction = match id % 5 {
            0 => Some(say("hi")),
            1 => Some(digits("nonsense")),
            2 => Some(Instruction::Hold(Hold {})),
            3 => Some(change_agent("nobody")),
            _ => Some(Instruction::Resume(Resume {})),
        };
        talk.send(Message::Instruct(Instruct { id: 0, instruction: instruction.clone() })).await;
        talk.send(Message::Instruct(Instruct { id, instruction })).await;
    }
    // A newer gateway's order.
    let unknown = Instruct { id: 201, instruction: None };
    talk.send(Message::Instruct(unknown)).await;
    while talk.answered.len() < 201 {
        talk.next().await;
    }
    let ids: Vec<_> = talk.answered.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, (1..=201).collect::<Vec<_>>());
    assert_eq!(talk.answered[200].1, Unsupported);
    assert!(talk.samples() < 9 * 8000, "before it has said everything");
    talk.close(&stack).await;
}

#[tokio::test]
async fn a_gateway_that_reads_no_answers_holds_itself_back_and_loses_none() {
    let (stack, _) = start().await;
    let mut talk = Talk::open(&stack, "echo").await;
    let sender = talk.requests.clone();
    // More answers than a client's window of 2 MiB holds.
    let orders = 25_000;
    let sending = tokio::spawn(async move {
        for id in 1..=orders {
            let order = Instruct { id, instruction: Some(change_agent(&"x".repeat(64))) };
            sender.send(request(Message::Instruct(order))).await.unwrap();
        }
    });
    // Nothing is read, until no more is taken: the channel is full and stays so.
    let mut full = 0;
    eventually("the worker takes no more", async || {
        full = if talk.requests.capacity() == 0 { full + 1 } else { 0 };
        full == 50
    })
    .await;
    assert!(!sending.is_finished());
    while talk.answered.len() < orders as usize {
        talk.next().await;
    }
    sending.await.unwrap();
    assert!(talk.answered.iter().map(|(id, ..)| *id).eq(1..=orders));
    talk.close(&stack).await;
}

#[tokio::test]
async fn orders_after_the_agent_hung_up_are_refused() {
    let (stack, _) = start().await;
    let mut talk = Talk::open(&stack, "scripted").await;
    talk.key('D').await;
    for (id, order) in [(1, digits("1")), (2, say("no")), (3, change_agent("echo")), (4, Instruction::Hold(Hold {}))] {
        let (outcome, detail) = talk.order(id, order).await;
        assert_eq!((outcome, detail.as_str()), (Unsupported, "the agent has ended the call"));
    }
    talk.close(&stack).await;
}

#[tokio::test]
async fn an_agent_that_breaks_while_it_takes_over_ends_its_call_and_no_other() {
    let (stack, _) = start().await;
    let mut beside = Talk::open(&stack, "echo").await;
    for (agent, reason) in [("broken", "CONVERSATION_PANICKED"), ("failing", "AGENT_FAILED")] {
        let mut talk = Talk::open(&stack, "echo").await;
        let order = Instruct { id: 1, instruction: Some(change_agent(agent)) };
        talk.send(Message::Instruct(order)).await;
        let status = talk.status().await;
        assert_eq!((status.code(), status.get_details_error_info().unwrap().reason.as_str()), (Code::Internal, reason));
    }
    eventually("one call is left", async || stack.info().await.live == 1).await;
    assert_eq!(beside.order(1, digits("5")).await.0, Done);
    assert_eq!(keys_in(&beside.until_end_of(1).await), "5");
    beside.close(&stack).await;
}

/// An agent that fails as soon as it is asked.
struct Failing;

impl Agent for Failing {
    fn hear(&mut self, _: Heard<'_>) {}

    fn poll_act(&mut self, _: &mut std::task::Context<'_>, _: &mut Vec<i16>) -> std::task::Poll<Act> {
        std::task::Poll::Ready(Act::Fail { reason: "asked to".into() })
    }
}

async fn start() -> (Stack, Notes) {
    let notes = Notes::default();
    let agents: Agents =
        notes.agents().with("broken", |_| panic!("asked to panic")).with("failing", |_| Box::new(Failing));
    (Stack::start(StackPlan::default().agents(agents)).await, notes)
}

/// One conversation and all that came back.
struct Talk {
    requests: mpsc::Sender<ConverseRequest>,
    answers: Streaming<ConverseResponse>,
    /// Caller's frames sent.
    frames: u64,
    /// mu-law by utterance.
    heard: BTreeMap<u64, Vec<u8>>,
    ended: Vec<u64>,
    interrupts: Vec<u64>,
    answered: Vec<(u64, InstructOutcome, String)>,
}

impl Talk {
    async fn open(stack: &Stack, agent: &str) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let open = Open { call_id: "CA1".into(), agent: agent.into(), ..Open::default() };
        requests.send(request(Message::Open(Box::new(open)))).await.unwrap();
        let answers = stack.voice().await.converse(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self {
            requests,
            answers,
            frames: 0,
            heard: BTreeMap::new(),
            ended: Vec::new(),
            interrupts: Vec::new(),
            answered: Vec::new(),
        }
    }

    async fn send(&mut self, message: Message) {
        timeout(PATIENCE, self.requests.send(request(message))).await.unwrap().unwrap();
    }

    async fn key(&mut self, key: char) {
        self.send(Message::Dtmf(Dtmf { digit: key.into() })).await;
    }

    /// The caller speaks for that many frames of 20 ms, at once.
    async fn caller(&mut self, frames: u64) {
        let mulaw = encode_mulaw(&tone(500.0, AMPLITUDE, 160));
        for _ in 0..frames {
            let (seq, media_time_ms) = (self.frames + 1, self.frames * 20);
            self.send(Message::Audio(CallerAudio { seq, media_time_ms, mulaw: mulaw.clone().into() })).await;
            self.frames += 1;
        }
    }

    /// Takes one message from the worker.
    async fn next(&mut self) {
        let answer = timeout(PATIENCE, self.answers.message()).await.unwrap().unwrap();
        match answer.unwrap().message.unwrap() {
            Answer::Ready(_) => {}
            Answer::Audio(audio) => {
                assert!(self.interrupts.iter().all(|killed| audio.utterance > *killed));
                self.heard.entry(audio.utterance).or_default().extend(audio.mulaw);
            }
            Answer::UtteranceEnd(end) => self.ended.push(end.utterance),
            Answer::Interrupt(interrupt) => self.interrupts.push(interrupt.utterance),
            Answer::Instructed(answer) => self.answered.push((answer.id, answer.outcome(), answer.detail)),
            Answer::Hangup(_) => {}
            Answer::Transfer(_)
            | Answer::Speech(_)
            | Answer::Transcript(_)
            | Answer::TurnMetrics(_)
            | Answer::Checkpoint(_)
            | Answer::Costs(_)
            | Answer::Draining(_) => panic!("nobody asked for that"),
        }
    }

    /// Gives an order and waits for its answer.
    async fn order(&mut self, id: u64, instruction: Instruction) -> (InstructOutcome, String) {
        let before = self.answered.len();
        self.send(Message::Instruct(Instruct { id, instruction: Some(instruction) })).await;
        while self.answered.len() == before {
            self.next().await;
        }
        let (answered, outcome, detail) = self.answered[before].clone();
        assert_eq!(answered, id);
        (outcome, detail)
    }

    /// What was heard of an utterance, once it has ended.
    async fn until_end_of(&mut self, utterance: u64) -> Vec<i16> {
        while !self.ended.contains(&utterance) {
            self.next().await;
        }
        decode_mulaw(&self.heard[&utterance])
    }

    /// Samples heard so far.
    fn samples(&self) -> usize {
        self.heard.values().map(Vec::len).sum()
    }

    /// The status with which the worker ends the conversation.
    async fn status(&mut self) -> Status {
        loop {
            match timeout(PATIENCE, self.answers.message()).await.unwrap() {
                Ok(answer) => assert!(answer.is_some(), "it ended without a status"),
                Err(status) => return status,
            }
        }
    }

    /// Hangs up, and sees the conversation end.
    async fn close(mut self, stack: &Stack) {
        self.send(Message::Close(Close::default())).await;
        drop(self.requests);
        let ended = async { while self.answers.message().await.unwrap().is_some() {} };
        timeout(PATIENCE, ended).await.unwrap();
        eventually("no call is left", async || stack.info().await.live == 0).await;
    }
}

fn request(message: Message) -> ConverseRequest {
    ConverseRequest { message: Some(message) }
}

fn digits(digits: &str) -> Instruction {
    Instruction::PlayDigits(PlayDigits { digits: digits.into() })
}

fn say(text: &str) -> Instruction {
    Instruction::Say(Say { text: text.into() })
}

fn change_agent(agent: &str) -> Instruction {
    Instruction::ChangeAgent(ChangeAgent { agent: agent.into() })
}
