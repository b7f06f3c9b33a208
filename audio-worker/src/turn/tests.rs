//! The conversation core by script and by property, in virtual time.

#![expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]

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
        ToGateway::Audio { utterance, mulaw } => format!("a{utterance}:{}", mulaw.len()),
        ToGateway::UtteranceEnd { utterance } => format!("end{utterance}"),
        ToGateway::Interrupt { utterance } => format!("interrupt{utterance}"),
        ToGateway::Hangup { reason, .. } => format!("hangup {reason}"),
        ToGateway::Transfer { to, .. } => format!("transfer {to}"),
        ToGateway::Draining(left) => format!("draining {}", left.as_secs()),
    }
}

fn hangup(after_playback: bool) -> Input<'static> {
    Input::Hangup { reason: "bye".into(), after_playback }
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

fn any_input() -> impl Strategy<Value = Input<'static>> {
    static AUDIO: [u8; 3000] = [0; 3000];
    prop_oneof![
        6 => (0_usize..3000).prop_map(|samples| Input::Say(&AUDIO[..samples])),
        3 => Just(Input::EndUtterance),
        2 => Just(Input::Interrupt),
        4 => Just(Input::Tick),
        1 => any::<bool>().prop_map(hangup),
        1 => Just(Input::Draining(Duration::from_secs(1))),
        1 => Just(Input::Closed),
    ]
}

proptest! {
    /// For any sequence of inputs: utterance numbers only grow, nothing of an interrupted utterance is sent, the lead is
    /// kept, a deadline lies in the future once all was polled, and after the end nothing comes.
    #[test]
    fn promises_hold_for_any_sequence(steps in prop::collection::vec((0_u64..60, any_input()), 1..150)) {
        let mut script = Script::new();
        let (mut at, mut newest, mut killed, mut buffered_until) = (0, 0, 0, script.start);
        for (pause, input) in steps {
            at += pause;
            let now = script.start + Duration::from_millis(at);
            let over = script.turn.ended().is_some();
            script.turn.handle(input, now);
            while let Some(message) = script.turn.poll_gateway() {
                prop_assert!(!over);
                match message {
                    ToGateway::Audio { utterance, mulaw } => {
                        prop_assert!(utterance >= newest && utterance > killed && !mulaw.is_empty());
                        newest = utterance;
                        buffered_until = buffered_until.max(now) + Duration::from_micros(125) * mulaw.len() as u32;
                        prop_assert!(buffered_until - now <= LEAD + Duration::from_millis(20));
                    }
                    ToGateway::UtteranceEnd { utterance } => prop_assert!(utterance >= newest && utterance > killed),
                    ToGateway::Interrupt { utterance } => {
                        prop_assert!(utterance >= newest);
                        (killed, buffered_until) = (utterance, now);
                    }
                    ToGateway::Hangup { .. } | ToGateway::Transfer { .. } | ToGateway::Draining(_) => {}
                }
            }
            prop_assert!(script.turn.poll_timeout().is_none_or(|deadline| deadline > now));
        }
    }
}
