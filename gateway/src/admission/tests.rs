//! Limits hold for every order of events, and give way again.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { calls: 3, pending_sockets: 2, calls_per_second: None, tickets: true };

#[expect(clippy::disallowed_methods, reason = "some moment to count from")]
fn start() -> Instant {
    Instant::now()
}

fn reason<T>(result: Result<T, Refused>) -> Option<Reason> {
    result.err().map(|refused| refused.reason)
}

#[test]
fn announced_calls_count_until_their_socket_comes_or_their_ticket_is_too_old() {
    let (mut admission, now) = (Admission::new(LIMITS), start());
    for call in ["CA1", "CA2", "CA3"] {
        admission.announce(call, now).unwrap();
    }
    assert_eq!(reason(admission.announce("CA4", now)), Some(Reason::Calls));
    // Its socket takes the room that was kept for it, no other.
    admission.open().unwrap();
    admission.begin("CA1");
    assert_eq!((admission.announced(), admission.pending()), (2, 0));
    assert_eq!(reason(admission.announce("CA4", now)), Some(Reason::Calls));
    admission.close(true);
    admission.announce("CA4", now).unwrap();
    admission.forget("CA2");
    admission.forget("CA2");
    admission.announce("CA5", now + ticket::LIFETIME).unwrap();
    assert_eq!(reason(admission.announce("CA6", now + ticket::LIFETIME)), Some(Reason::Calls));
    // A ticket is good through its last second; CA3 and CA4 came to nothing.
    let later = now + ticket::LIFETIME + Duration::from_secs(1);
    admission.announce("CA6", later).unwrap();
    assert_eq!(admission.announced(), 2);
}

#[test]
fn a_call_that_is_announced_again_has_its_room_and_its_token_already() {
    let limits = Limits { calls: 1, calls_per_second: Some(1), ..LIMITS };
    let (mut admission, now) = (Admission::new(limits), start());
    for seconds in [0, 1, 50] {
        admission.announce("CA1", now + Duration::from_secs(seconds)).unwrap();
        admission.announce("CA1", now + Duration::from_secs(seconds)).unwrap();
    }
    assert_eq!((admission.announced(), admission.deadlines.len()), (1, 1));
    // It counts from its last announcement.
    assert_eq!(reason(admission.announce("CA2", now + Duration::from_secs(100))), Some(Reason::Calls));
    admission.announce("CA2", now + Duration::from_secs(111)).unwrap();
}

#[test]
fn sockets_without_a_ticket_are_bounded_apart_from_calls() {
    let mut admission = Admission::new(LIMITS);
    admission.open().unwrap();
    admission.open().unwrap();
    assert_eq!(reason(admission.open()), Some(Reason::PendingSockets));
    admission.begin("CA1");
    admission.open().unwrap();
    assert_eq!(reason(admission.open()), Some(Reason::PendingSockets));
    admission.close(false);
    admission.open().unwrap();
    admission.close(true);
    assert_eq!((admission.calls, admission.pending()), (0, 2));
}

#[test]
fn where_no_webhook_announces_them_sockets_count_against_the_calls() {
    let mut admission = Admission::new(Limits { calls: 2, pending_sockets: 9, tickets: false, ..LIMITS });
    admission.open().unwrap();
    admission.begin("CA1");
    admission.open().unwrap();
    assert_eq!(reason(admission.open()), Some(Reason::Calls));
    admission.close(true);
    admission.open().unwrap();
}

#[test]
fn a_second_of_calls_may_come_at_once_and_then_one_after_another() {
    for per_second in [1, 3, 7, 50, 999, MAX_RATE] {
        let (mut rate, now) = (Rate::per_second(per_second), start());
        let take = |rate: &mut Rate, now| (0..2 * MAX_RATE).take_while(|_| rate.allow(now).is_ok()).count();
        assert_eq!(take(&mut rate, now), per_second as usize);
        let interval = Duration::from_secs(1).div_f64(per_second.into());
        assert!(rate.allow(now + interval - Duration::from_micros(11)).is_err());
        assert!(rate.allow(now + interval).is_ok());
        assert!(rate.allow(now + interval).is_err());
        // An hour of rest saves up no more than a second.
        assert_eq!(take(&mut rate, now + Duration::from_secs(3600)), per_second as usize);
    }
}

#[test]
fn a_call_on_the_line_is_not_turned_away_and_leaves_less_room_for_others() {
    let limits = Limits { calls: 2, calls_per_second: Some(1), ..LIMITS };
    let (mut admission, now) = (Admission::new(limits), start());
    for call in ["CA1", "CA2", "CA3", "CA3"] {
        admission.hold(call, now);
    }
    assert_eq!(admission.announced(), 3);
    assert_eq!(reason(admission.announce("CA4", now)), Some(Reason::Calls));
    admission.announce("CA4", now + ticket::LIFETIME + Duration::from_secs(1)).unwrap();
    assert_eq!(admission.announced(), 1);
}

#[test]
fn a_full_gateway_takes_no_tokens_from_calls_that_come_when_there_is_room() {
    let limits = Limits { calls: 1, calls_per_second: Some(2), ..LIMITS };
    let (mut admission, now) = (Admission::new(limits), start());
    admission.announce("CA1", now).unwrap();
    for _ in 0..5 {
        assert_eq!(reason(admission.announce("CA2", now)), Some(Reason::Calls));
    }
    admission.forget("CA1");
    admission.announce("CA2", now).unwrap();
    admission.forget("CA2");
    assert_eq!(reason(admission.announce("CA3", now)), Some(Reason::Rate));
}

#[test]
fn refusals_are_counted_by_reason_and_told_ever_more_rarely() {
    let mut admission = Admission::new(Limits { calls: 0, pending_sockets: 0, ..LIMITS });
    let told = (0..100).filter(|_| admission.announce("CA1", start()).unwrap_err().is_worth_a_line()).count();
    assert_eq!(told, 7);
    assert_eq!(reason(admission.open()), Some(Reason::PendingSockets));
    assert_eq!(admission.refuse(Reason::Draining).count, 1);
    let counts: Vec<_> = admission.refused().map(|(reason, count)| (reason.label(), count)).collect();
    let expected = [("max_calls", 100), ("max_calls_per_second", 0), ("max_pending_sockets", 1), ("draining", 1)];
    assert_eq!(counts, expected);
}

#[derive(Debug, Clone)]
enum Event {
    Announce(u8),
    Forget(u8),
    Open,
    Begin(u8),
    ClosePending,
    CloseCall,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..9_u8).prop_map(Event::Announce),
        1 => (0..9_u8).prop_map(Event::Forget),
        3 => Just(Event::Open),
        3 => (0..9_u8).prop_map(Event::Begin),
        1 => Just(Event::ClosePending),
        1 => Just(Event::CloseCall),
        1 => (0..70_u64).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn no_order_of_events_passes_a_limit(events in prop::collection::vec(event(), 0..200)) {
        let limits = Limits { calls_per_second: Some(2), ..LIMITS };
        let (mut admission, mut now) = (Admission::new(limits), start());
        let mut admitted = Vec::new();
        for event in events {
            match event {
                Event::Announce(call) => {
                    let call = call.to_string();
                    let is_new = admission.announced.get(&call).is_none_or(|deadline| *deadline <= now);
                    if admission.announce(&call, now).is_ok() && is_new {
                        admitted.push(now);
                    }
                }
                Event::Forget(call) => admission.forget(&call.to_string()),
                Event::Open => _ = admission.open(),
                // Only who was announced has a ticket, and only on a socket.
                Event::Begin(call) => {
                    admission.expire(now);
                    if admission.pending > 0 && admission.announced.contains_key(&call.to_string()) {
                        admission.begin(&call.to_string());
                    }
                }
                Event::ClosePending => admission.close(false),
                Event::CloseCall => admission.close(true),
                Event::Wait(tenths) => now += Duration::from_millis(100 * tenths),
            }
            prop_assert!(admission.calls + admission.announced() <= limits.calls);
            prop_assert!(admission.pending <= limits.pending_sockets);
            prop_assert_eq!(admission.announced.len(), admission.deadlines.len());
        }
        for window in admitted.windows(5) {
            // A full bucket and what flows in meanwhile: two and two more within a second.
            prop_assert!(window[4] - window[0] >= Duration::from_secs(1));
        }
    }
}
