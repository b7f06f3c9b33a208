//! The conversation core by script and by property, in virtual time.

#![expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LEAD: Duration = Duration::from_millis(200);

struct Script {
    turn: Turn,
    start: Instant,
}

impl Script {
    fn new() -> Self {
        let start = Instant::now();
        Self { turn: Turn::new(LEAD, start), start }
    }

    /// Hands `input` in at `ms` and answers what goes out, audio as "a<utterance>:<samples>".
    fn at(&mut self, ms: u64, input: Input<'_>) -> Vec<String> {
        self.turn.handle(input, self.start + Duration::from_millis(ms));
        std::iter::from_fn(|| self.turn.poll_gateway()).map(|message| show(&message)).collect()
    }
}

fn show(message: &ToGateway) -> String {
    match message {
        ToGateway::Audio { utterance, mulaw, continues: None } => format!("a{utterance}:{}", mulaw.len()),
        ToGateway::Audio { utterance, mulaw, continues: Some(old) } => format!("a{utterance}<{old}:{}", mulaw.len()),
        ToGateway::Report { report: Report::Turn(_), utterance } => format!("turn{utterance}"),
        ToGateway::Report { utterance, .. } => format!("report{utterance}"),
        ToGateway::UtteranceEnd { utterance } => format!("end{utterance}"),
        ToGateway::Interrupt { utterance } => format!("interrupt{utterance}"),
        ToGateway::Hangup { reason, .. } => format!("hangup {reason}"),
        ToGateway::Transfer { to, .. } => format!("transfer {to}"),
        ToGateway::Instructed { id, outcome: Outcome::Done, .. } => format!("done{id}"),
        ToGateway::Instructed { id, outcome, .. } => format!("{outcome:?}{id}"),
        ToGateway::Draining(left) => format!("draining {}", left.as_secs()),
    }
}

fn hangup(after_playback: bool) -> Input<'static> {
    Input::Hangup { reason: "bye".into(), after_playback }
}

#[test]
fn what_goes_on_after_an_interruption_says_where_it_was_cut_once() {
    let mut script = Script::new();
    script.at(0, Input::Continue);
    assert_eq!(script.at(0, Input::Say(&[0; 160])), ["a1:160"]);
    assert_eq!(script.at(5, Input::Interrupt), ["interrupt1"]);
    script.at(6, Input::Continue);
    assert_eq!(script.at(9, Input::Say(&[0; 320])), ["a2<1:160", "a2:160"]);
    script.at(9, Input::EndUtterance);
    assert_eq!(script.at(10, Input::Say(&[0; 160])), ["a3:160"]);
}

#[test]
fn reports_go_before_audio_and_are_dropped_when_nobody_reads() {
    let mut script = Script::new();
    script.at(0, Input::Say(&[0; 160]));
    script.turn.handle(Input::Say(&[0; 160]), script.start);
    assert_eq!(script.at(0, Input::Report(Report::Turn(Default::default()))), ["turn2", "a1:160"]);
    let said = Report::Said { by: Speaker::Agent, text: "x".to_owned(), is_final: true, interrupted: false };
    assert_eq!(script.at(0, Input::Report(said)), ["report1"]);
    for _ in 0..2 * MAX_WAITING {
        script.turn.handle(Input::Report(Report::Speech { began: true }), script.start);
    }
    assert_eq!(script.at(0, Input::Tick).len(), MAX_WAITING);
    assert_eq!(script.turn.stats().reports_dropped, MAX_WAITING as u64);
}

#[test]
fn utterances_are_numbered_and_ended() {
    let mut script = Script::new();
    assert_eq!(script.at(0, Input::Say(&[0; 200])), ["a1:160"]);
    assert_eq!(script.at(5, Input::EndUtterance), ["a1:40", "end1"]);
    assert_eq!(script.at(9, Input::EndUtterance), [""; 0]);
    assert_eq!(script.at(10, Input::Say(&[0; 160])), ["a2:160"]);
    assert_eq!(script.turn.stats().utterances, 2);
}

#[test]
fn an_interrupt_goes_first_and_nothing_older_follows() {
    let mut script = Script::new();
    script.at(0, Input::Say(&[0; 8000]));
    assert_eq!(script.at(100, Input::Interrupt), ["interrupt1"]);
    assert_eq!(script.at(5000, Input::Tick), [""; 0]);
    assert_eq!(script.at(5001, Input::Say(&[0; 160])), ["a2:160"]);
}

#[test]
fn an_interrupt_before_anything_was_said_says_nothing() {
    assert_eq!(Script::new().at(0, Input::Interrupt), [""; 0]);
}

#[test]
fn a_hang_up_after_playback_waits_for_the_queue() {
    let mut script = Script::new();
    script.at(0, Input::Say(&[0; 12 * 160]));
    assert_eq!(script.at(1, hangup(true)), [""; 0]);
    assert_eq!(script.at(20, Input::Tick), ["a1:160", "end1", "hangup bye"]);
    assert_eq!(script.at(21, Input::Say(&[0; 160])), [""; 0]);
    assert_eq!(script.turn.stats().late_samples, 160);
}

#[test]
fn a_hang_up_at_once_throws_the_queue_away() {
    let mut script = Script::new();
    script.at(0, Input::Say(&[0; 8000]));
    assert_eq!(script.at(1, hangup(false)), ["hangup bye"]);
}

#[test]
fn a_gateway_that_does_not_carry_out_the_hang_up_ends_the_conversation() {
    let mut script = Script::new();
    script.at(0, hangup(false));
    assert_eq!(script.turn.poll_timeout(), Some(script.start + ENDING_LIMIT));
    script.at(90_000, Input::Tick);
    assert_eq!(script.turn.ended(), Some(EndReason::GatewayStuck));
}

#[test]
fn draining_is_told_and_the_conversation_goes_on_until_the_deadline() {
    let mut script = Script::new();
    assert_eq!(script.at(0, Input::Draining(Duration::from_secs(30))), ["draining 30"]);
    assert_eq!(script.at(10, Input::Say(&[0; 160])), ["a1:160"]);
    script.at(30_000, Input::Drained);
    assert_eq!(script.turn.ended(), Some(EndReason::Drained));
}

#[test]
fn nothing_happens_after_the_end() {
    for (input, reason) in [(Input::Closed, EndReason::Closed), (Input::GatewayGone, EndReason::GatewayGone)] {
        let mut script = Script::new();
        script.at(0, Input::Say(&[0; 8000]));
        assert_eq!(script.at(1, input), [""; 0]);
        assert_eq!(script.at(9999, Input::Say(&[0; 160])), [""; 0]);
        assert_eq!((script.turn.ended(), script.turn.poll_timeout()), (Some(reason), None));
    }
}

fn play(id: u64, digits: &str) -> Input<'static> {
    Input::PlayDigits { id, keys: Keys::parse(digits).unwrap() }
}

/// The audio of each utterance in the order of `sent`, as (utterance, samples).
fn heard(sent: &[String]) -> Vec<(u64, u64)> {
    let mut heard: Vec<(u64, u64)> = Vec::new();
    for (utterance, samples) in sent.iter().filter_map(|message| message.strip_prefix('a')?.split_once(':')) {
        let (utterance, samples) = (utterance.parse().unwrap(), samples.parse::<u64>().unwrap());
        match heard.last_mut() {
            Some(last) if last.0 == utterance => last.1 += samples,
            _ => heard.push((utterance, samples)),
        }
    }
    heard
}

impl Script {
    /// Lets time pass from `from` to `to`, in ms, and answers what goes out.
    fn between(&mut self, from: u64, to: u64) -> Vec<String> {
        (from..=to).step_by(5).flat_map(|ms| self.at(ms, Input::Tick)).collect()
    }
}

#[test]
fn keys_come_after_what_was_said_and_before_what_is_said_then() {
    let mut script = Script::new();
    let mut sent = script.at(0, Input::Say(&[0; 4000]));
    let ordered = script.at(1, play(7, "1"));
    assert_eq!(ordered[0], "done7", "the answer does not wait for audio");
    sent.extend(ordered);
    sent.extend(script.at(2, Input::Say(&[0; 1600])));
    sent.extend(script.between(5, 2000));
    assert_eq!(heard(&sent), [(1, 4000), (2, 1600), (3, 1600)]);
    let order: Vec<_> = sent.iter().filter(|message| message.starts_with("end")).collect();
    assert_eq!(order, ["end1", "end2"]);
    // The agent is still in its first utterance, half a second further.
    assert_eq!(script.turn.of_agent(1, 400), Some((1, 400)));
    assert_eq!(script.turn.of_agent(2, 100), None);
    assert_eq!(script.turn.of_agent(3, 100), Some((1, 600)));
    assert_eq!(script.turn.stats().utterances, 1);
    assert_eq!(script.at(2001, Input::EndUtterance), ["end3"]);
    script.at(2002, Input::Say(&[0; 160]));
    assert_eq!(script.turn.of_agent(4, 20), Some((2, 20)));
}

#[test]
fn keys_are_silent_mulaw_with_a_tone_and_paced_as_speech_is() {
    let mut script = Script::new();
    let mut sent = script.at(0, play(1, "5W"));
    // An answer, 200 ms ahead and the frame that fills it.
    assert_eq!(sent.len(), 1 + 11);
    sent.extend(script.between(5, 1500));
    assert_eq!(heard(&sent), [(1, 1600 + 8000)]);
    assert_eq!(sent.last().unwrap(), "end1");
}

#[test]
fn an_interrupt_spares_keys_that_wait() {
    let mut script = Script::new();
    script.at(0, Input::Say(&[0; 8000]));
    script.at(1, play(0, "12"));
    script.at(2, Input::Say(&[0; 8000]));
    // What was said before and after them is gone; the caller's buffer is emptied, as no key is in it.
    let mut sent = script.at(100, Input::Interrupt);
    assert_eq!(sent[0], "interrupt1");
    sent.extend(script.between(105, 3000));
    assert_eq!(heard(&sent), [(2, 3200)]);
    assert_eq!(script.at(3001, Input::Say(&[0; 160])), ["a4:160"]);
    assert_eq!(script.turn.of_agent(4, 0), Some((2, 0)), "a new utterance of the agent's");
}

#[test]
fn an_interrupt_does_not_cut_keys_that_sound() {
    let mut script = Script::new();
    let mut sent = script.at(0, play(0, "12"));
    script.at(1, Input::Say(&[0; 8000]));
    sent.extend(script.between(5, 100));
    let interrupted = script.at(101, Input::Interrupt);
    assert!(!interrupted.iter().any(|message| message.starts_with("interrupt")), "{interrupted:?}");
    sent.extend(interrupted);
    sent.extend(script.between(105, 3000));
    assert_eq!(heard(&sent), [(1, 3200)]);
    assert_eq!(script.turn.stats().interrupted_samples, 8000);
}

#[test]
fn what_is_said_behind_keys_leaves_once_they_have_been_played() {
    let mut script = Script::new();
    script.at(0, play(0, "1"));
    script.at(1, Input::Say(&[0; 8000]));
    assert_eq!(script.between(5, 199).iter().filter(|message| message.starts_with("a2")).count(), 0);
    assert_eq!(script.at(200, Input::Tick).len(), 11, "then a lead of it at once");
    // So an interrupt now empties a buffer that holds no key.
    assert_eq!(script.at(201, Input::Interrupt), ["interrupt2"]);
}

#[test]
fn a_hang_up_after_playback_waits_for_keys_and_one_at_once_does_not() {
    let mut script = Script::new();
    let mut sent = script.at(0, play(1, "123"));
    sent.extend(script.at(1, hangup(true)));
    sent.extend(script.between(5, 1000));
    assert_eq!(heard(&sent), [(1, 4800)]);
    assert_eq!(sent.last().unwrap(), "hangup bye");
    let mut script = Script::new();
    script.at(0, play(1, "123"));
    assert_eq!(script.at(1, hangup(false)), ["hangup bye"]);
}

#[test]
fn no_more_orders_of_keys_wait_than_the_bound() {
    let mut script = Script::new();
    for id in 1..=MAX_ROWS_OF_KEYS as u64 {
        assert_eq!(script.at(0, play(id, "WWWW"))[0], format!("done{id}"));
    }
    assert_eq!(script.at(1, play(99, "1")), ["Unsupported99"]);
    // One has been sent.
    script.between(5, 4000);
    assert_eq!(script.at(4001, play(100, "1"))[0], "done100");
}

#[test]
fn a_hold_interrupts_and_both_ways_may_be_ordered_twice() {
    let mut script = Script::new();
    script.at(0, Input::Say(&[0; 8000]));
    assert_eq!(script.at(10, Input::Hold { id: 1 }), ["interrupt1", "done1"]);
    assert!(script.turn.is_held());
    assert_eq!(script.at(20, Input::Hold { id: 2 }), ["done2"]);
    assert_eq!(script.at(30, Input::Say(&[0; 160])), [""; 0], "nobody talks on hold");
    let sent = [script.at(40, play(3, "1")), script.between(45, 400)].concat();
    assert_eq!((sent[0].as_str(), heard(&sent)), ("done3", vec![(2, 1600)]), "keys are played all the same");
    assert_eq!(script.at(500, Input::Draining(Duration::from_secs(9))), ["draining 9"]);
    assert_eq!(script.at(600, Input::Resume { id: 4 }), ["done4"]);
    assert_eq!(script.at(700, Input::Resume { id: 5 }), ["done5"]);
    assert_eq!(script.at(800, Input::Say(&[0; 160])), ["a3:160"]);
    assert_eq!((script.turn.stats().orders, script.turn.stats().late_samples), (5, 160));
}

#[test]
fn who_takes_over_counts_from_one_and_numbers_go_on() {
    let mut script = Script::new();
    script.at(0, Input::Say(&[0; 8000]));
    script.at(1, Input::Hold { id: 1 });
    assert_eq!(script.at(10, Input::TakenOver { id: 2 }), ["interrupt1", "done2"]);
    assert!(script.turn.is_held(), "a hold outlives the agent");
    script.at(11, Input::Resume { id: 0 });
    assert_eq!(script.at(20, Input::Say(&[0; 160])), ["a2:160"]);
    assert_eq!((script.turn.of_agent(1, 0), script.turn.of_agent(2, 20)), (None, Some((1, 20))));
}

#[test]
fn orders_are_refused_once_the_agent_has_ended_the_call() {
    let mut script = Script::new();
    script.at(0, Input::Say(&[0; 8000]));
    script.at(1, hangup(true));
    assert!(script.turn.refuses_orders().is_some());
    for (id, order) in [(1, play(1, "1")), (2, Input::Hold { id: 2 }), (3, Input::TakenOver { id: 3 })] {
        assert_eq!(script.at(1 + id, order), [format!("Unsupported{id}")]);
    }
    let sent = script.between(5, 2000);
    assert_eq!(sent.last().unwrap(), "hangup bye");
    assert_eq!(script.turn.stats().orders_refused, 3);
}

#[test]
fn orders_without_an_id_are_not_answered() {
    let mut script = Script::new();
    assert_eq!(script.at(0, Input::Hold { id: 0 }), [""; 0]);
    let refused = Input::Answer { id: 0, outcome: Outcome::Invalid, detail: "no".into() };
    assert_eq!(script.at(1, refused), [""; 0]);
    assert_eq!((script.turn.stats().orders, script.turn.stats().orders_refused), (1, 1));
}

#[test]
fn answers_that_nobody_fetches_say_so_before_they_are_too_many() {
    let mut script = Script::new();
    for id in 1..=MAX_ANSWERS as u64 {
        assert!(script.turn.has_room_for_answers());
        script.turn.handle(Input::Resume { id }, script.start);
    }
    assert!(!script.turn.has_room_for_answers());
    let answers: Vec<_> = (1..=MAX_ANSWERS).map(|id| format!("done{id}")).collect();
    assert_eq!(script.at(1, Input::Tick), answers);
    assert!(script.turn.has_room_for_answers());
}

/// The id of an order, 0 for anything else.
fn order_of(input: &Input<'_>) -> u64 {
    if let Input::PlayDigits { id, .. } | Input::Hold { id } | Input::Resume { id } | Input::TakenOver { id } = input {
        *id
    } else {
        0
    }
}

fn any_input() -> impl Strategy<Value = Input<'static>> {
    static AUDIO: [u8; 3000] = [0; 3000];
    prop_oneof![
        6 => (0_usize..3000).prop_map(|samples| Input::Say(&AUDIO[..samples])),
        3 => Just(Input::EndUtterance),
        2 => Just(Input::Interrupt),
        4 => Just(Input::Tick),
        2 => "[1w]{1,3}".prop_map(|digits| play(1, &digits)),
        1 => Just(Input::Hold { id: 1 }),
        2 => Just(Input::Resume { id: 1 }),
        1 => Just(Input::TakenOver { id: 1 }),
        1 => any::<bool>().prop_map(hangup),
        1 => Just(Input::Draining(Duration::from_secs(1))),
        1 => Just(Input::Closed),
    ]
}

proptest! {
    /// For any sequence of inputs: utterance numbers only grow, nothing of an interrupted utterance is sent, the lead is
    /// kept, keys are neither cut nor overlapped, each order is answered at once and once, a deadline lies in the future
    /// once all was polled, and after the end nothing comes.
    #[test]
    fn promises_hold_for_any_sequence(steps in prop::collection::vec((0_u64..60, any_input()), 1..150)) {
        let mut script = Script::new();
        let (mut at, mut newest, mut killed, mut buffered_until) = (0, 0, 0, script.start);
        // Samples that are left of each order of keys, by utterance, and when the last of what was sent has been played.
        let (mut keys_left, mut keys_until) = (BTreeMap::new(), script.start);
        for (pause, input) in steps {
            at += pause;
            let now = script.start + Duration::from_millis(at);
            let over = script.turn.ended().is_some();
            let keys = if let Input::PlayDigits { keys, .. } = &input { keys.remaining() } else { 0 };
            let mut unanswered = order_of(&input);
            let before = script.turn.newest;
            script.turn.handle(input, now);
            if script.turn.reply.is_empty() && matches!(script.turn.state, State::Ending(_)) {
                // A hang-up at once cuts everything.
                keys_until = now;
                keys_left.values_mut().for_each(|left| *left = 0);
            }
            if keys > 0 && script.turn.newest > before {
                keys_left.insert(script.turn.newest, keys);
            }
            while let Some(message) = script.turn.poll_gateway() {
                prop_assert!(!over);
                match message {
                    ToGateway::Audio { utterance, mulaw, .. } => {
                        prop_assert!(utterance >= newest && utterance > killed && !mulaw.is_empty());
                        newest = utterance;
                        let is_of_agent = !keys_left.contains_key(&utterance);
                        prop_assert!(!is_of_agent || now >= keys_until);
                        buffered_until = buffered_until.max(now) + Duration::from_micros(125) * mulaw.len() as u32;
                        prop_assert!(buffered_until - now <= LEAD + Duration::from_millis(20));
                        if let Some(left) = keys_left.get_mut(&utterance) {
                            *left -= mulaw.len();
                            keys_until = buffered_until;
                        }
                        prop_assert_eq!(script.turn.of_agent(utterance, 0).is_some(), is_of_agent);
                    }
                    ToGateway::UtteranceEnd { utterance } => {
                        prop_assert!(utterance >= newest && utterance > killed);
                        prop_assert!(keys_left.get(&utterance).is_none_or(|left| *left == 0));
                    }
                    ToGateway::Interrupt { utterance } => {
                        prop_assert!(utterance >= newest && now >= keys_until);
                        prop_assert!(keys_left.iter().all(|(keys, left)| *keys > utterance || *left == 0));
                        (killed, buffered_until) = (utterance, now);
                    }
                    ToGateway::Instructed { id, .. } => {
                        prop_assert_eq!(id, unanswered);
                        unanswered = 0;
                    }
                    ToGateway::Hangup { .. }
                    | ToGateway::Transfer { .. }
                    | ToGateway::Report { .. }
                    | ToGateway::Draining(_) => {}
                }
            }
            prop_assert!(unanswered == 0 || script.turn.ended().is_some());
            prop_assert!(script.turn.poll_timeout().is_none_or(|deadline| deadline > now));
        }
    }
}
