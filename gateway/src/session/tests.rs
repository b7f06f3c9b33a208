//! The call core by script and by property, in virtual time.

#![expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::twilio::message::{Malformed, Media};

const HOUR: Duration = Duration::from_secs(3600);

/// A session, its clock, and what it said last.
struct Script {
    session: Session,
    start: Instant,
}

impl Script {
    fn new() -> Self {
        let start = Instant::now();
        Self { session: Session::new(start, HOUR), start }
    }

    /// A call that a worker has taken.
    fn live() -> Self {
        let mut script = Self::new();
        assert_eq!(script.at(0, start()), ["authorize CA1"]);
        assert_eq!(script.at(0, Input::Authorized(Ok(()))), ["open CA1"]);
        assert_eq!(script.at(0, Input::WorkerOpen), [""; 0]);
        script
    }

    /// Hands `input` in at `ms` and answers everything that comes out: commands, then to the caller, then to the worker.
    fn at(&mut self, ms: u64, input: Input) -> Vec<String> {
        self.session.handle(input, self.start + Duration::from_millis(ms));
        let mut said: Vec<_> = std::iter::from_fn(|| self.session.poll_command()).map(|c| command(&c)).collect();
        while let Some((stream_sid, message, _)) = self.session.poll_caller() {
            assert_eq!(stream_sid, "MZ1");
            said.push(caller(&message));
        }
        said.extend(std::iter::from_fn(|| self.session.poll_worker()).map(|message| worker(&message)));
        said
    }

    fn timeout_ms(&self) -> Option<u128> {
        self.session.poll_timeout().map(|at| (at - self.start).as_millis())
    }
}

fn command(command: &Command) -> String {
    match command {
        Command::Authorize(start) => format!("authorize {}", start.call_sid),
        Command::OpenWorker(start) => format!("open {}", start.call_sid),
        Command::Ping => "ping".into(),
        Command::CloseSocket(code) => format!("close {code:?}"),
        Command::Instructed(id, outcome) => format!("instructed {id} {outcome:?}"),
        Command::Finished(reason) => {
            assert!(EndReason::LABELS.contains(&reason.label()));
            format!("finished {}", reason.label())
        }
    }
}

fn caller(message: &Outbound) -> String {
    match message {
        Outbound::Media(mulaw) => format!("media {}", mulaw.len()),
        Outbound::Mark(mark) => format!("mark {mark}"),
        Outbound::Clear => "clear".into(),
    }
}

fn worker(message: &ToWorker) -> String {
    match message {
        ToWorker::Audio { seq, media_time_ms, mulaw, .. } => format!("audio #{seq} @{media_time_ms} {}", mulaw.len()),
        ToWorker::Dtmf(key) => format!("dtmf {key}"),
        ToWorker::Played { utterance, ms, media_time_ms, cleared } => {
            format!("{} u{utterance}:{ms} @{media_time_ms}", if *cleared { "cleared" } else { "played" })
        }
        ToWorker::Instruct(id, what) => format!("instruct {id} {what:?}"),
        ToWorker::Notice(kind, value) => format!("notice {kind} {value}"),
        ToWorker::Close(reason) => format!("bye {}", reason.label()),
    }
}

fn said(event: Event) -> Input {
    Input::Caller(Inbound { stream_sid: Some("MZ1".into()), event })
}

fn start_with(is_mulaw_8000: bool) -> Input {
    let start = Start { call_sid: "CA1".into(), stream_sid: "MZ1".into(), is_mulaw_8000, parameters: [].into() };
    said(Event::Start(start))
}

fn start() -> Input {
    start_with(true)
}

fn media(chunk: u64, timestamp_ms: u64) -> Input {
    let mulaw = Bytes::from_static(&[0xFF; 160]);
    said(Event::Media(Media { is_inbound: true, chunk: Some(chunk), timestamp_ms: Some(timestamp_ms), mulaw }))
}

fn audio(utterance: u64, samples: usize) -> Input {
    Input::Worker(FromWorker::Audio { utterance, mulaw: vec![0xFF; samples].into() })
}

fn mark(name: &str) -> Input {
    said(Event::Mark(name.into()))
}

#[test]
fn a_call_from_start_to_stop() {
    let mut script = Script::new();
    assert_eq!(script.at(0, said(Event::Connected)), [""; 0]);
    assert_eq!(script.at(1, start()), ["authorize CA1"]);
    assert_eq!(script.at(1, Input::Authorized(Ok(()))), ["open CA1"]);
    assert_eq!(script.at(20, media(1, 0)), [""; 0], "kept until a worker is there");
    assert_eq!(script.at(30, Input::WorkerOpen), ["audio #1 @0 160"]);
    assert_eq!(script.at(40, media(2, 20)), ["audio #2 @20 160"]);
    assert_eq!(script.at(41, said(Event::Dtmf('5'))), ["dtmf 5"]);
    assert_eq!(script.at(42, audio(1, 160)), ["media 160"]);
    assert_eq!(script.at(60, said(Event::Stop)), ["close Normal", "finished caller_hangup", "bye caller_hangup"]);
    assert_eq!(script.at(80, media(3, 40)), [""; 0]);
    assert_eq!(script.timeout_ms(), None);
}

#[test]
fn marks_every_200_ms_and_at_the_end_tell_what_was_heard() {
    let mut script = Script::live();
    script.at(0, media(1, 0));
    assert_eq!(script.at(1, audio(1, 1600)), ["media 1600", "mark u1:200"]);
    assert_eq!(script.at(2, audio(1, 80)), ["media 80"]);
    assert_eq!(script.at(3, Input::Worker(FromWorker::UtteranceEnd(1))), ["mark u1:210"]);
    assert_eq!(script.at(200, mark("u1:200")), ["played u1:200 @20"]);
    assert_eq!(script.at(210, mark("u1:210")), ["played u1:210 @20"]);
    assert_eq!(script.at(211, mark("u1:210")), [""; 0]);
    assert_eq!(script.at(212, mark("theirs")), [""; 0]);
    assert_eq!((script.session.stats().marks_played, script.session.stats().marks_foreign), (2, 2));
}

#[test]
fn an_interrupt_clears_and_marks_that_come_back_are_not_playback() {
    let mut script = Script::live();
    script.at(0, audio(1, 1600));
    script.at(0, audio(1, 1600));
    assert_eq!(script.at(200, mark("u1:200")), ["played u1:200 @0"]);
    assert_eq!(script.at(250, Input::Worker(FromWorker::Interrupt(1))), ["clear", "cleared u1:200 @0"]);
    assert_eq!(script.at(251, mark("u1:400")), [""; 0]);
    assert_eq!(script.at(252, audio(1, 160)), [""; 0], "late audio of the dead utterance");
    assert_eq!(script.at(253, audio(2, 160)), ["media 160"]);
    let stats = script.session.stats();
    assert_eq!((stats.marks_cleared, stats.stale_samples, stats.clears), (1, 160, 1));
}

#[test]
fn an_interrupt_when_all_was_heard_clears_nothing() {
    let mut script = Script::live();
    script.at(0, audio(1, 1600));
    script.at(1, Input::Worker(FromWorker::UtteranceEnd(1)));
    script.at(200, mark("u1:200"));
    assert_eq!(script.at(250, Input::Worker(FromWorker::Interrupt(1))), [""; 0]);
}

#[test]
fn what_waits_for_the_socket_goes_with_the_interrupt() {
    let mut script = Script::live();
    let now = script.start;
    script.session.handle(audio(1, 1600), now);
    assert_eq!(script.at(1, Input::Worker(FromWorker::Interrupt(1))), ["clear", "cleared u1:0 @0"]);
    assert_eq!(script.session.stats().interrupted_samples, 1600);
}

#[test]
fn a_hang_up_after_playback_waits_for_the_last_mark() {
    let mut script = Script::live();
    script.at(0, audio(1, 800));
    assert_eq!(script.at(1, Input::Worker(FromWorker::Hangup { after_playback: true })), ["mark u1:100"]);
    assert_eq!(script.at(2, Input::WorkerGone), [""; 0]);
    assert_eq!(
        script.at(101, mark("u1:100")),
        ["close Normal", "finished agent_hangup", "played u1:100 @0", "bye agent_hangup"]
    );
}

#[test]
fn a_hang_up_after_playback_has_a_cap() {
    let mut script = Script::live();
    script.at(0, audio(1, 800));
    script.at(0, Input::Worker(FromWorker::Hangup { after_playback: true }));
    assert_eq!(script.timeout_ms(), Some(3300));
    assert_eq!(script.at(3300, Input::Tick), ["close Normal", "finished agent_hangup", "bye agent_hangup"]);
}

#[test]
fn hang_up_and_transfer_at_once() {
    let mut script = Script::live();
    script.at(0, audio(1, 800));
    assert_eq!(
        script.at(1, Input::Worker(FromWorker::Hangup { after_playback: false }))[..2],
        ["close Normal", "finished agent_hangup"]
    );
    let mut script = Script::live();
    let transfer = FromWorker::Transfer { to: "+15550100".into(), after_playback: false };
    assert_eq!(script.at(1, Input::Worker(transfer))[..2], ["close Normal", "finished agent_transfer"]);
}

#[test]
fn the_order_of_chunks_is_kept_and_gaps_are_counted() {
    let mut script = Script::live();
    assert_eq!(script.at(0, media(1, 0)), ["audio #1 @0 160"]);
    assert_eq!(script.at(1, media(1, 0)), [""; 0], "repeated");
    assert_eq!(script.at(2, media(4, 60)), ["audio #2 @60 160"], "two are missing");
    assert_eq!(script.at(3, media(3, 40)), [""; 0], "too late");
    assert_eq!(script.at(4, media(9, 80)), ["audio #3 @80 160"], "the counter ran over another track: no loss");
    assert_eq!(script.at(5, media(10, 500)), ["audio #4 @500 160"], "silence that was not sent");
    let stats = script.session.stats();
    assert_eq!((stats.repeated_chunks, stats.late_chunks, stats.missing_chunks), (1, 1, 2));
    assert_eq!((stats.gaps, stats.gap_ms), (2, 40 + 400));
}

#[test]
fn words_that_come_late_are_noticed_and_silence_that_was_not_sent_is_not_late() {
    let mut script = Script::live();
    for (at, chunk, timestamp, lag) in [
        (100, 1, 0, 0),
        (105, 2, 20, 0),
        (140, 3, 40, 15),
        (1500, 4, 1400, 15),
        (4000, 5, 1420, 2495),
        (4010, 6, 3900, 2495),
    ] {
        script.at(at, media(chunk, timestamp));
        assert_eq!(script.session.stats().caller_lag_peak_ms, lag, "at {at}");
    }
    script.at(4020, media(7, u64::MAX));
    script.at(4020, media(8, 3920));
}

#[test]
fn a_worker_that_takes_nothing_costs_the_oldest_audio_and_no_memory() {
    let mut script = Script::live();
    let now = script.start;
    for chunk in 1..=1000 {
        script.session.handle(media(chunk, chunk * 20), now);
    }
    let first = script.at(1, Input::Tick);
    assert_eq!((first.len(), first[0].as_str()), (50, "audio #951 @19020 160"), "one second is kept");
    assert_eq!(script.session.stats().dropped_caller_samples, 950 * 160);
}

#[test]
fn a_socket_that_takes_nothing_ends_the_call() {
    let mut script = Script::live();
    let now = script.start;
    for _ in 0..250 {
        script.session.handle(audio(1, 160), now);
    }
    assert!(script.session.poll_command().is_none(), "five seconds are kept");
    script.session.handle(audio(1, 160), now);
    assert_eq!(script.at(1, Input::Tick)[..2], ["close Normal", "finished caller_stalled"]);

    let mut script = Script::live();
    script.at(100, Input::WriteBlocked);
    script.at(5000, media(1, 0));
    assert_eq!(script.timeout_ms(), Some(10_100));
    assert_eq!(script.at(10_100, Input::Tick)[..2], ["close Normal", "finished caller_stalled"]);

    let mut script = Script::live();
    script.at(100, Input::WriteBlocked);
    script.at(9000, Input::WriteDone);
    assert_eq!(script.at(10_100, media(1, 0)), ["audio #1 @0 160"]);
}

#[test]
fn marks_that_never_come_back_end_the_call() {
    // The socket takes everything, as the kernel does for a while, but nothing is ever heard.
    let mut script = Script::live();
    for tick in 0..100 {
        assert_eq!(script.at(tick * 200, audio(1, 1600)).len(), 2, "audio and its mark");
    }
    script.at(20_000, audio(1, 1600));
    assert_eq!(script.at(20_200, audio(1, 1600))[..2], ["close Normal", "finished caller_stalled"]);
}

#[test]
fn start_must_come_in_time() {
    let mut script = Script::new();
    script.at(10, said(Event::Connected));
    assert_eq!(script.timeout_ms(), Some(5000));
    assert_eq!(script.at(5000, Input::Tick), ["close Policy", "finished start_timeout"]);
}

#[test]
fn nothing_counts_before_start_and_a_second_start_changes_nothing() {
    let mut script = Script::new();
    script.at(0, media(1, 0));
    script.at(0, mark("u1:20"));
    script.at(0, said(Event::Dtmf('1')));
    script.at(0, said(Event::Stop));
    assert_eq!(script.session.stats().out_of_place, 4);
    let mut script = Script::live();
    assert_eq!(script.at(1, start()), [""; 0]);
    assert_eq!(script.session.stats().out_of_place, 1);
    assert_eq!(script.at(2, media(1, 0)), ["audio #1 @0 160"]);
}

#[test]
fn another_encoding_is_refused() {
    let mut script = Script::new();
    assert_eq!(script.at(0, start_with(false)), ["close Unsupported", "finished unsupported_media"]);
}

#[test]
fn a_bad_ticket_ends_the_call_before_any_worker_is_opened() {
    let mut script = Script::new();
    script.at(0, start());
    let refused = Input::Authorized(Err(ticket::Refused::Reused));
    assert_eq!(script.at(0, refused), ["close Policy", "finished ticket_reused"]);
}

#[test]
fn what_cannot_be_used_is_counted_and_the_call_goes_on() {
    let mut script = Script::live();
    script.at(0, Input::CallerMalformed(Malformed::Json));
    script.at(0, Input::CallerBinary);
    script.at(0, said(Event::Unknown));
    script.at(0, Input::Caller(Inbound { stream_sid: Some("MZ2".into()), event: Event::Dtmf('1') }));
    let stats = *script.session.stats();
    assert_eq!((stats.malformed, stats.unknown_events, stats.wrong_stream), (2, 1, 1));
    assert_eq!(script.at(1, media(1, 0)), ["audio #1 @0 160"]);
}

#[test]
fn no_worker_and_a_lost_worker_have_their_reasons() {
    let mut script = Script::new();
    script.at(0, start());
    script.at(0, Input::Authorized(Ok(())));
    assert_eq!(script.at(9, Input::NoWorker(NoWorker::Full)), ["close Failed", "finished no_worker_full"]);

    let mut script = Script::new();
    script.at(0, start());
    script.at(0, Input::Authorized(Ok(())));
    assert_eq!(script.at(5000, Input::Tick), ["close Failed", "finished no_worker_unreachable"]);

    let mut script = Script::live();
    assert_eq!(script.at(9, Input::WorkerGone), ["close Failed", "finished worker_lost", "bye worker_lost"]);
}

#[test]
fn a_caller_that_vanishes() {
    let mut script = Script::live();
    assert_eq!(script.at(9, Input::CallerGone)[..2], ["close Normal", "finished caller_lost"]);

    let mut script = Script::live();
    script.at(500, media(1, 0));
    assert_eq!(script.at(20_500, Input::Tick), ["ping"]);
    assert_eq!(script.timeout_ms(), Some(60_500));
    script.at(60_499, Input::CallerAlive);
    assert_eq!(script.at(80_499, Input::Tick), ["ping"]);
    assert_eq!(script.at(120_499, Input::Tick)[..2], ["close Normal", "finished caller_silent"]);
}

#[test]
fn limits_and_drain() {
    let mut script = Script::live();
    let mut at = 0;
    while at < 3_600_000 {
        script.at(at, Input::CallerAlive);
        at += 10_000;
    }
    assert_eq!(script.at(3_600_000, Input::Tick)[..2], ["close Normal", "finished max_duration"]);
    assert_eq!(Script::live().at(1, Input::Drain)[..2], ["close Away", "finished gateway_drained"]);
    assert_eq!(Script::live().at(1, Input::CallerBroken)[..2], ["close Policy", "finished protocol_error"]);
}

/// Any step, as numbers: milliseconds passed, kind of input, and its number.
fn any_input() -> impl Strategy<Value = (u64, u8, u64)> {
    (0_u64..3000, 0u8..25, 0_u64..6)
}

fn input(kind: u8, n: u64) -> Input {
    match kind {
        0 => start(),
        1 | 2 => Input::Authorized(if n == 5 { Err(ticket::Refused::Forged) } else { Ok(()) }),
        3 | 4 => Input::WorkerOpen,
        5 => Input::WorkerGone,
        6 => Input::NoWorker(NoWorker::Full),
        7..=9 => media(n * 3, n * 50),
        10..=12 => audio(n, 160 + n as usize * 300),
        13 => Input::Worker(FromWorker::UtteranceEnd(n)),
        14 => Input::Worker(FromWorker::Interrupt(n)),
        15 => Input::Worker(FromWorker::Hangup { after_playback: n > 1 }),
        16 => mark(&format!("u{n}:{}", n * 200)),
        17 => said(Event::Dtmf('1')),
        18 => {
            if n == 0 {
                said(Event::Stop)
            } else {
                said(Event::Unknown)
            }
        }
        19 => {
            if n == 0 {
                Input::CallerGone
            } else {
                Input::CallerAlive
            }
        }
        20 => Input::WriteBlocked,
        21 => Input::WriteDone,
        22 => Input::CallerMalformed(Malformed::Json),
        23 => Input::Order(match n % 6 {
            0 => Order::Hangup,
            1 => Order::Transfer("+15550111".into()),
            2 => Order::CarrierSay("hello".into()),
            3 => Order::Notice("answered_by", "human".into()),
            _ => Order::Instruct(n, Instruction::Hold),
        }),
        _ => Input::Tick,
    }
}

#[test]
fn instructions_go_to_the_worker_and_its_answers_back() {
    let mut script = Script::live();
    let order = |id| Input::Order(Order::Instruct(id, Instruction::Hold));
    assert_eq!(script.at(0, order(7)), ["instruct 7 Hold"]);
    let answer = Input::Worker(FromWorker::Instructed(7, Instructed::Done));
    assert_eq!(script.at(1, answer), ["instructed 7 Done"]);
    let notice = Input::Order(Order::Notice("answered_by", "human".into()));
    assert_eq!(script.at(2, notice), ["notice answered_by human"]);
    script.at(3, audio(1, 160));
    script.at(4, Input::Worker(FromWorker::Hangup { after_playback: true }));
    assert_eq!(script.at(5, order(8)), ["instructed 8 TooLate"], "the agent has left");
}

#[test]
fn what_comes_before_the_worker_waits_for_it() {
    let mut script = Script::new();
    script.at(0, start());
    script.at(0, Input::Authorized(Ok(())));
    assert_eq!(script.at(1, Input::Order(Order::Notice("answered_by", "fax".into()))), [""; 0]);
    assert_eq!(script.at(2, Input::WorkerOpen), ["notice answered_by fax"]);
}

#[test]
fn a_hang_up_from_outside_is_at_once_and_a_transfer_after_what_was_said() {
    let mut script = Script::live();
    script.at(0, audio(1, 160));
    assert_eq!(script.at(1, Input::Order(Order::Transfer("+15550111".into()))), ["mark u1:20"]);
    assert_eq!(
        script.at(30, mark("u1:20")),
        ["close Normal", "finished api_transfer", "played u1:20 @0", "bye api_transfer"]
    );
    let mut script = Script::live();
    script.at(0, audio(1, 160));
    assert_eq!(script.at(1, Input::Order(Order::Hangup)), ["close Normal", "finished api_hangup", "bye api_hangup"]);
    let mut script = Script::new();
    script.at(0, start());
    script.at(0, Input::Authorized(Ok(())));
    assert_eq!(
        script.at(1, Input::Order(Order::Transfer("+15550111".into()))),
        ["close Normal", "finished api_transfer"]
    );
}

proptest! {
    #[test]
    fn promises_hold_for_any_sequence(steps in prop::collection::vec(any_input(), 1..120)) {
        let mut script = Script::new();
        let (mut at, mut finished, mut opened, mut killed, mut newest, mut live) = (0, 0, 0, 0, 0, false);
        for (pause, kind, n) in steps {
            at += pause;
            let now = script.start + Duration::from_millis(at);
            let over = finished > 0;
            let input = input(kind, n);
            let said_audio = matches!(&input, Input::Worker(FromWorker::Audio { .. }));
            // What a worker says before it has the call is not heard.
            live |= opened == 1 && matches!(input, Input::WorkerOpen);
            if let Input::Worker(FromWorker::Interrupt(utterance)) = &input
                && live
            {
                killed = killed.max(*utterance);
            }
            script.session.handle(input, now);
            let mut commands = 0;
            while let Some(command) = script.session.poll_command() {
                commands += 1;
                finished += u32::from(matches!(command, Command::Finished(_)));
                opened += u32::from(matches!(command, Command::OpenWorker(_)));
            }
            prop_assert!(!over || commands == 0, "nothing after the end");
            prop_assert!(finished <= 1 && opened <= 1);
            while let Some((_, message, _)) = script.session.poll_caller() {
                prop_assert!(!over);
                match message {
                    // Each step says at most one piece of audio, so this is the one just said.
                    Outbound::Media(mulaw) => {
                        prop_assert!(said_audio && n > killed);
                        prop_assert!(mulaw.len() <= 40_000);
                    }
                    Outbound::Mark(mark) => {
                        prop_assert!(mark.utterance > killed || mark.utterance >= newest);
                        newest = newest.max(mark.utterance);
                    }
                    Outbound::Clear => {}
                }
            }
            let mut farewells = 0;
            while let Some(message) = script.session.poll_worker() {
                farewells += u32::from(matches!(message, ToWorker::Close(_)));
            }
            prop_assert!(farewells <= 1 && (farewells == 0 || opened == 1));
            match script.session.poll_timeout() {
                Some(deadline) => prop_assert!(deadline > now && finished == 0),
                None => prop_assert_eq!(finished, 1),
            }
        }
    }
}
