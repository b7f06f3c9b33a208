//! The register of calls: pages, bounds, callbacks in any order.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    registry::{After, Report},
    session::{EndReason, Stats},
};

const LIMITS: Limits = Limits { live: 3, minutes_per_day: 60, per_to_per_hour: 100, per_from_per_hour: 100 };
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn book() -> Book {
    Book::new(LIMITS, Duration::from_secs(3600))
}

fn inbound(n: usize) -> Record {
    let mut record = Record::new(format!("call_{n}"), Direction::Inbound, "+1".into(), "+2".into(), NOW);
    record.call_sid = Some(format!("CA{n}"));
    record
}

fn outbound(n: usize) -> Record {
    Record::new(format!("call_{n}"), Direction::Outbound, "+1".into(), "+2".into(), NOW)
}

fn report(status: Status, sequence: u64) -> Report {
    Report { status: Some(status), sequence: Some(sequence), duration_s: None }
}

#[test]
fn a_call_is_found_by_either_id() {
    let mut book = book();
    book.add(outbound(1));
    assert!(book.find("CA1").is_none());
    book.change("call_1", NOW, |record| record.call_sid = Some("CA1".into()));
    assert_eq!(book.find("CA1").unwrap().id, "call_1");
    assert!(book.find("call_2").is_none() && book.change("CA2", NOW, |_| ()).is_none());
}

#[test]
fn pages_are_newest_first_and_go_on_where_they_ended() {
    let mut book = book();
    for n in 0..25 {
        book.add(inbound(n));
    }
    for n in (0..25).step_by(5) {
        book.change(&format!("CA{n}"), NOW, |record| record.enter(Status::Completed, NOW));
    }
    let all = |which| {
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let (page, next) = book.page(which, before, 4);
            assert!(page.len() <= 4);
            ids.extend(page.into_iter().map(|record| record.id));
            match next {
                Some(_) => before = next,
                None => return ids,
            }
        }
    };
    assert_eq!(all(Which::All), (0..25).rev().map(|n| format!("call_{n}")).collect::<Vec<_>>());
    assert_eq!(all(Which::Ended), [20, 15, 10, 5, 0].map(|n| format!("call_{n}")));
    assert_eq!(all(Which::Live).len(), 20);
}

#[test]
fn only_so_many_ends_are_remembered_and_live_calls_all() {
    let mut book = book();
    book.add(inbound(0));
    for n in 1..=REMEMBERED_CALLS + 5 {
        book.add(inbound(n));
        book.change(&format!("CA{n}"), NOW, |record| record.enter(Status::Completed, NOW));
    }
    assert_eq!(book.calls.len(), REMEMBERED_CALLS + 1);
    assert_eq!((book.by_id.len(), book.by_sid.len()), (book.calls.len(), book.calls.len()));
    assert!(book.find("CA0").is_some() && book.find("CA5").is_none() && book.find("CA6").is_some());
}

#[test]
fn the_end_of_an_outbound_call_makes_room_for_another() {
    let mut book = book();
    for n in 0..3 {
        book.reserve("+1", "+2", NOW).unwrap();
        book.add(outbound(n));
    }
    assert_eq!(book.reserve("+1", "+2", NOW), Err(Reached::Live));
    book.change("call_0", NOW, |record| record.enter(Status::Busy, NOW));
    book.change("call_0", NOW, |record| record.enter(Status::Completed, NOW));
    assert_eq!(book.reserve("+1", "+2", NOW), Ok(()));
    assert_eq!(book.reserve("+1", "+2", NOW), Err(Reached::Live), "an end counts once");
    book.withdraw("call_1", NOW);
    assert_eq!(book.reserve("+1", "+2", NOW), Ok(()));
}

#[test]
fn talk_that_goes_on_counts_towards_the_day() {
    let mut book = book();
    book.reserve("+1", "+2", NOW).unwrap();
    book.add(outbound(0));
    book.change("call_0", NOW, |record| record.enter(Status::InProgress, NOW));
    let later = NOW + Duration::from_secs(3600);
    assert_eq!(book.reserve("+1", "+2", later), Err(Reached::Minutes));
}

#[test]
fn a_key_stands_for_its_call_for_a_day() {
    let mut book = book();
    let key = (0, "k".to_owned());
    assert_eq!(book.known(&key, &[1; 32], NOW), Known::Nothing);
    book.bind_key(key.clone(), [1; 32], "call_1", NOW);
    let evening = NOW + KEY_LIFETIME - Duration::from_secs(1);
    assert_eq!(book.known(&key, &[1; 32], evening), Known::Same("call_1".into()));
    assert_eq!(book.known(&key, &[2; 32], evening), Known::Other);
    assert_eq!(book.known(&(1, "k".into()), &[1; 32], evening), Known::Nothing, "somebody else's");
    assert_eq!(book.known(&key, &[1; 32], NOW + KEY_LIFETIME), Known::Nothing);
}

#[test]
fn calls_of_which_nothing_is_heard_are_given_up() {
    let mut book = book();
    book.add(inbound(1));
    book.add(outbound(2));
    book.change("call_2", NOW, |record| record.enter(Status::Ringing, NOW));
    book.add(inbound(3));
    let ended = EndReason::AgentTransfer("+3".into());
    book.change("call_3", NOW, |record| record.stream_ended(&ended, Stats::default(), NOW));
    book.add(inbound(4));
    book.change("call_4", NOW, |record| record.stream_ended(&EndReason::WorkerLost, Stats::default(), NOW));
    let silent =
        |after| book.silent(NOW + Duration::from_secs(after)).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(silent(59), Vec::<String>::new());
    assert_eq!(silent(60), ["call_4"]);
    assert_eq!(silent(120), ["call_1", "call_4"]);
    assert_eq!(silent(900), ["call_1", "call_2", "call_4"]);
    assert_eq!(silent(3600).len(), 4);
}

#[test]
fn what_comes_after_follows_from_how_it_ended() {
    let mut record = inbound(1);
    let mut ends = |reason: EndReason| {
        record.stream_ended(&reason, Stats::default(), NOW);
        record.after.clone()
    };
    assert_eq!(ends(EndReason::AgentHangup), After::Hangup);
    assert_eq!(ends(EndReason::WorkerLost), After::Fallback);
    assert_eq!(ends(EndReason::ApiTransfer("+3".into())), After::Transfer("+3".into()));
    assert_eq!(ends(EndReason::CarrierSay("hello".into())), After::Say("hello".into()));
    assert!(!record.is_over());
    record.stream_ended(&EndReason::CallerHangup, Stats::default(), NOW);
    assert_eq!((record.status, record.end_reason), (Status::Completed, Some("caller_hangup")));
}

proptest! {
    /// Callbacks of one call in any order and any number: the end stays the end, and without an end the newest holds.
    #[test]
    fn callbacks_may_come_in_any_order(order in prop::collection::vec(0_usize..4, 1..20)) {
        let words = [Status::Initiated, Status::Ringing, Status::InProgress, Status::Completed];
        let mut record = outbound(1);
        for at in &order {
            record.report(report(words[*at], *at as u64), NOW);
        }
        let newest = order.iter().max().unwrap();
        prop_assert_eq!(record.status, words[*newest]);
        prop_assert_eq!(record.is_over(), *newest == 3);
    }
}

#[test]
fn a_terminal_state_is_sticky_and_told_once() {
    let mut record = outbound(1);
    assert_eq!(record.report(report(Status::NoAnswer, 2), NOW), Some("call.ended"));
    assert_eq!(record.report(report(Status::Completed, 3), NOW), None);
    assert_eq!(record.report(report(Status::Ringing, 9), NOW), None);
    assert_eq!((record.status, record.end_reason), (Status::NoAnswer, Some("no_answer")));
}

#[test]
fn queued_and_initiated_are_told_as_one() {
    let mut call = outbound(1);
    let told = [Status::Dialling, Status::Queued, Status::Initiated, Status::Ringing, Status::InProgress, Status::Busy];
    let told: Vec<_> = told.into_iter().filter_map(|status| call.enter(status, NOW)).collect();
    assert_eq!(told, ["call.initiated", "call.ringing", "call.answered", "call.ended"]);
}

#[test]
fn a_call_that_another_gateway_placed_counts_and_makes_room_again() {
    let mut book = book();
    for n in 0..3 {
        book.adopt(outbound(n));
    }
    assert_eq!(book.reserve("+1", "+2", NOW), Err(Reached::Live));
    book.change("call_0", NOW, |record| record.enter(Status::Completed, NOW));
    assert_eq!(book.reserve("+1", "+2", NOW), Ok(()));
}
