//! Calls to an agent that is a service of its own: what it hears and says through the whole system, what it is told, and what
//! the caller gets when it does wrong.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, helpers included; an agent does nothing about the rest"
)]

use std::time::Duration;

use proto::agent::v1::{Encoding, EndReason, Played, converse_request::Message as Told};
use serde_json::json;
use tests::{
    line::{Line, is_fallback},
    openai::{OpenAi, Script, in_turn},
    remote::{Do, Misdeed, RemoteAgent, end_utterance, hangup, interrupt, mulaw, pcm, say, transfer},
    signal::{tone, tone_onset, tone_share},
    sim::{
        CallPlan, CallReport, Caller, Ended, Verb, decode_mulaw, encode_mulaw,
        rest::{self, AnsweredBy},
    },
    stack::{Stack, StackPlan, eventually},
    talk::{Phone, recorded, staff},
    world::{TO, World},
};
use tokio::{net::TcpListener, time::sleep};
use url::Url;

#[path = "../examples/agent.rs"]
#[allow(dead_code, reason = "its main is for who runs it as a program")]
mod example;

const AMPLITUDE: i16 = 8000;
/// Where callers are sent.
const ELSEWHERE: &str = "+15550111";

/// A stack whose calls go to the service at `url`; `more` is what the agents file says of it.
async fn stack(url: &Url, more: &str) -> Stack {
    stack_with(url, more, &"http://127.0.0.1:1".parse().unwrap()).await
}

async fn stack_with(url: &Url, more: &str, providers: &Url) -> Stack {
    let file = format!("[agent.mine]\nkind = \"remote\"\nurl = \"{url}\"\n{more}\n");
    Stack::start(StackPlan::default().agents(staff(&file, providers)).gateway("DEFAULT_AGENT", "mine")).await
}

/// Does what keys say: a digit is so many seconds of a tone, and the rest is as of the scripted agent.
fn by_keys(told: &Told) -> Vec<Do> {
    let Told::Dtmf(key) = told else { return Vec::new() };
    match key.digit.as_str() {
        "*" => vec![interrupt()],
        "#" => vec![hangup(true)],
        "0" => vec![transfer(ELSEWHERE)],
        "D" => vec![hangup(false)],
        digit => {
            let seconds: u64 = digit.parse().unwrap();
            let samples =
                tone(300.0 + 100.0 * seconds as f64, AMPLITUDE, 24_000 * usize::try_from(seconds).unwrap() / 3);
            // The tone is made for 8 kHz and sent as 24: three times as high.
            vec![
                pcm(40 + seconds, 24_000, &samples),
                pcm(40 + seconds, 24_000, &samples),
                pcm(40 + seconds, 24_000, &samples),
                end_utterance(),
            ]
        }
    }
}

fn frequency(seconds: u64) -> f64 {
    3.0 * (300.0 + 100.0 * seconds as f64)
}

#[tokio::test]
async fn the_example_in_rust_is_a_good_echo() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serving = tokio::spawn(async { example::serve(listener).await.map_err(|error| error.to_string()) });
    let stack = stack(&url, "interrupt = \"agent\"").await;
    let mut line = Line::dial(&stack.call_plan()).await;
    // Its greeting comes first.
    let greeting = line.listen_until(|heard| heard.mulaw.len() >= 3800).await;
    assert!(tone_share(&decode_mulaw(&greeting.mulaw)[800..3200], 660.0) > 0.9);
    line.converse(&encode_mulaw(&vec![0; 8000]), &[160], 1).await;
    line.assert_echoes().await;
    line.press('5').await;
    let tone = line.listen_until(|heard| heard.mulaw.len() >= 4000).await;
    let heard = decode_mulaw(&tone.mulaw);
    assert!((0..heard.len() - 800).step_by(80).any(|at| tone_share(&heard[at..at + 800], 900.0) > 0.9));
    line.press('#').await;
    assert_eq!(line.close_code().await, Some(1000));
    stack.stop().await;
    serving.abort();
}

#[tokio::test]
async fn mu_law_goes_through_untouched_both_ways() {
    let agent = RemoteAgent::start(|told| match told {
        Told::Audio(audio) => vec![mulaw(1, &audio.sound)],
        _ => Vec::new(),
    });
    let agent = agent.await.unwrap();
    let stack = stack(&agent.url(), "interrupt = \"agent\"\nformat = \"mulaw\"").await;
    let mut line = Line::dial(&stack.call_plan()).await;
    // Every code there is, so that nothing can be decoded and coded again unnoticed: 0x7F and 0xFF are both zero.
    let speech: Vec<u8> = (0..16_000_u32).map(|n| (n * 7 % 256) as u8).collect();
    let heard = line.converse(&speech, &[160], speech.len()).await;
    assert!(heard.mulaw == speech, "what came back differs");
    assert!(agent.heard() == speech, "what the agent heard differs");
    let start =
        agent.wait_for("start", |told| if let Told::Start(start) = told { Some(start.clone()) } else { None }).await;
    assert_eq!((start.encoding(), start.sample_rate), (Encoding::Mulaw, 8000));
    line.hang_up().await;
    stack.stop().await;
}

#[tokio::test]
async fn an_agent_is_told_who_calls_what_was_heard_and_how_it_ended() {
    let agent = RemoteAgent::start(by_keys).await.unwrap();
    let file = "interrupt = \"agent\"\nshare_numbers = true\nlanguage = \"de-DE\"\nrate = 8000";
    let stack = stack(&agent.url(), file).await;
    let report = call(&stack, &[(300, '2'), (3000, '5'), (4000, '*'), (4100, '1'), (6000, '#')], 20_000).await;
    assert_eq!(report.streams[0].close_code, Some(1000), "{report}");
    agent
        .wait_for("end", |told| matches!(told, Told::End(end) if end.reason() == EndReason::Hangup).then_some(()))
        .await;
    let told = agent.told();
    let Told::Start(start) = &told[0] else { panic!("{told:?}") };
    assert_eq!((start.from.as_str(), start.to.as_str()), ("+15550100", "+15550199"));
    assert_eq!((start.agent.as_str(), start.language.as_str(), start.sample_rate), ("mine", "de-DE", 8000));
    assert_eq!((start.call_id.as_str(), start.can_say, start.has_words), (report.call_sid.as_str(), false, false));
    let keys: String = told
        .iter()
        .filter_map(|told| if let Told::Dtmf(key) = told { Some(key.digit.as_str()) } else { None })
        .collect();
    assert_eq!(keys, "25*1#");
    let played = |number| {
        let of = |told: &Told| {
            if let Told::Played(played) = told { (played.utterance == number).then_some(*played) } else { None }
        };
        told.iter().filter_map(of).map(|played| (played.ms, played.cleared)).collect::<Vec<_>>()
    };
    // Its own numbers: 42 was heard whole, 45 for about a second, 41 whole.
    assert_eq!(played(42).last(), Some(&(2000, false)), "{:?}", played(42));
    let &(ms, cleared) = played(45).last().unwrap();
    assert!(cleared && (600..=1300).contains(&ms), "{:?}", played(45));
    assert_eq!(played(41).last(), Some(&(1000, false)), "{:?}", played(41));
    let heard = report.heard_pcm();
    assert!(
        tone_onset(&heard, frequency(2), AMPLITUDE).is_some() && tone_onset(&heard, frequency(1), AMPLITUDE).is_some()
    );
    stack.stop().await;
}

#[tokio::test]
async fn numbers_are_not_shared_unless_the_file_says_so_and_a_token_and_a_trace_are_shown() {
    let agent = RemoteAgent::start(by_keys).await.unwrap();
    let stack = stack(&agent.url(), "").await;
    let report = call(&stack, &[(300, 'D')], 20_000).await;
    assert_eq!(report.streams[0].ended, Ended::ServerClosed, "{report}");
    let Told::Start(start) = &agent.told()[0] else { panic!("{:?}", agent.told()) };
    assert_eq!((start.from.as_str(), start.to.as_str()), ("", ""));
    assert!(agent.metadata()[0].get("authorization").is_none());
    stack.stop().await;
}

/// Everything that it takes to place calls to the service at `url`.
async fn world(url: &Url, more: &str) -> World {
    let file = format!("[agent.mine]\nkind = \"remote\"\nurl = \"{url}\"\n{more}\n");
    let nowhere = "http://127.0.0.1:1".parse().unwrap();
    World::with(|plan| plan.agents(staff(&file, &nowhere)), |account| account).await
}

#[tokio::test]
async fn a_hold_is_told_and_throws_away_what_was_not_heard_and_the_agent_goes_on_after_it() {
    let agent = RemoteAgent::start(|told| match told {
        Told::Start(_) => vec![pcm(1, 8000, &tone(440.0, AMPLITUDE, 20 * 8000))],
        // The end of what is thrown away, and what is to be heard.
        Told::Held(held) if !held.held => vec![
            pcm(1, 8000, &tone(880.0, AMPLITUDE, 8000)),
            pcm(2, 8000, &tone(1320.0, AMPLITUDE, 4000)),
            end_utterance(),
            hangup(true),
        ],
        _ => Vec::new(),
    });
    let agent = agent.await.unwrap();
    let world = world(&agent.url(), "").await;
    let placed = world.talking("mine").await;
    let (id, sid) = (placed.text("id"), placed.text("call_sid"));
    agent.wait_for("a report", |told| matches!(told, Told::Played(played) if played.ms > 0).then_some(())).await;
    for held in [true, false] {
        assert_eq!(world.patch(id, json!({"hold": held})).await.status, 200);
        agent.wait_for("the hold", |told| matches!(told, Told::Held(told) if told.held == held).then_some(())).await;
    }
    let report = world.settled(sid).await.report.unwrap();
    let told = agent.told();
    let cleared = |told: &Told| matches!(told, Told::Played(played) if played.utterance == 1 && played.cleared);
    assert!(told.iter().any(cleared), "{told:?}");
    let whole = Told::Played(Played { utterance: 2, ms: 500, cleared: false });
    assert!(told.contains(&whole) && told.iter().any(|told| matches!(told, Told::End(_))), "{told:?}");
    let heard = report.heard_pcm();
    let [cut, late, after] = [440.0, 880.0, 1320.0].map(|hz| ms_of(&heard, hz));
    assert!((100..15_000).contains(&cut) && late == 0 && (400..=600).contains(&after), "{cut} {late} {after}");
    let dropped = world.stack.worker_metrics().await.of("tandem_worker_agent_dropped_seconds_total");
    assert_eq!(dropped, Some(1.0));
    world.stop().await;
}

#[tokio::test]
async fn an_agent_that_gets_a_call_on_hold_is_dialled_after_the_hold_and_has_its_whole_time() {
    let limit = Duration::from_millis(500);
    let agent = RemoteAgent::start(|told| match told {
        Told::Start(_) => vec![pcm(1, 8000, &tone(440.0, AMPLITUDE, 4000)), end_utterance(), hangup(true)],
        _ => Vec::new(),
    });
    let agent = agent.await.unwrap();
    let world = world(&agent.url(), &format!("first_answer_ms = {}", limit.as_millis())).await;
    let placed = world.talking("echo").await;
    let (id, sid) = (placed.text("id"), placed.text("call_sid"));
    for change in [json!({"hold": true}), json!({"agent": "mine"})] {
        assert_eq!(world.patch(id, change).await.status, 200);
    }
    // Longer than the agent may take, were it asked.
    sleep(2 * limit).await;
    assert_eq!(agent.told(), []);
    assert_eq!(world.patch(id, json!({"hold": false})).await.status, 200);
    let report = world.settled(sid).await.report.unwrap();
    let greeted = ms_of(&report.heard_pcm(), 440.0);
    assert!((400..=600).contains(&greeted), "{greeted}");
    world.stop().await;
}

#[tokio::test]
async fn who_answered_a_call_is_told_as_a_notice() {
    let agent = RemoteAgent::start(by_keys).await.unwrap();
    let world = world(&agent.url(), "").await;
    let line = rest::Line {
        answered_by: AnsweredBy::MachineStart,
        detected_after: Duration::from_millis(300),
        hangup_after: Some(Duration::from_secs(3)),
        ..rest::Line::default()
    };
    world.exchange.set_line(None, line);
    let placed = world.call(&json!({"to": TO, "agent": "mine", "answering_machine": {"mode": "detect"}})).await;
    assert_eq!(placed.status, 201, "{}", placed.json);
    let notice = agent
        .wait_for("a notice", |told| if let Told::Notice(notice) = told { Some(notice.clone()) } else { None })
        .await;
    assert_eq!((notice.kind.as_str(), notice.value.as_str()), ("answered_by", "machine_start"));
    world.settled(placed.text("call_sid")).await;
    world.stop().await;
}

#[tokio::test]
async fn a_transfer_is_carried_out_after_what_was_said() {
    let agent = RemoteAgent::start(by_keys).await.unwrap();
    let stack = stack(&agent.url(), "").await;
    let report = call(&stack, &[(300, '1'), (350, '0')], 20_000).await;
    assert_eq!(report.dialled, [ELSEWHERE], "{report}");
    // And what is left in the filter.
    assert!((8000..=8400).contains(&report.streams[0].playout.played), "{report}");
    agent
        .wait_for("end", |told| matches!(told, Told::End(end) if end.reason() == EndReason::Transfer).then_some(()))
        .await;
    stack.stop().await;
}

#[tokio::test]
async fn the_worker_stops_an_agent_that_is_interrupted_and_what_it_still_says_of_it() {
    // It talks for half a minute, in pieces, whatever comes.
    let agent = RemoteAgent::start(|told| match told {
        Told::Start(_) => vec![pcm(7, 8000, &tone(440.0, AMPLITUDE, 8 * 8000))],
        Told::Interrupted(_) => vec![pcm(7, 8000, &tone(880.0, AMPLITUDE, 8000))],
        Told::Turn(_) => vec![pcm(8, 8000, &tone(1320.0, AMPLITUDE, 4000)), end_utterance()],
        _ => Vec::new(),
    });
    let agent = agent.await.unwrap();
    let stack = stack(&agent.url(), "").await;
    let mut phone = Phone::dial(&stack.call_plan()).await.unwrap();
    phone.wait(Duration::from_secs(2)).await.unwrap();
    let clips = recorded();
    let clip = clips.iter().find(|clip| clip.ms() > 1500).unwrap();
    let said = phone.say_all(clip).await.unwrap().ended.unwrap();
    let answered = |log: &tests::talk::Log| log.has_answered(said, Duration::from_millis(600));
    phone.until("an answer", Duration::from_secs(10), answered).await.unwrap();
    phone.hang_up().await;
    let told = agent.told();
    let at = |wanted: fn(&Told) -> bool| told.iter().position(wanted).unwrap_or_else(|| panic!("{told:?}"));
    let (began, cut) = (
        at(|told| matches!(told, Told::Speech(speech) if speech.speaking)),
        at(|told| matches!(told, Told::Interrupted(_))),
    );
    assert!(began.abs_diff(cut) <= 1 && matches!(&told[cut], Told::Interrupted(cut) if cut.utterance == 7), "{told:?}");
    let cleared = told
        .iter()
        .find_map(|told| if let Told::Played(played) = told { played.cleared.then_some(*played) } else { None });
    let cleared = cleared.unwrap();
    assert!(cleared.utterance == 7 && (1500..4000).contains(&cleared.ms), "{cleared:?}");
    assert!(at(|told| matches!(told, Told::Turn(_))) > cut);
    let heard = decode_mulaw(&phone.into_heard());
    let [cut, late, answer] = [440.0, 880.0, 1320.0].map(|hz| ms_of(&heard, hz));
    assert!(cut < 4500 && late == 0 && (400..=600).contains(&answer), "{cut} {late} {answer}");
    stack.stop().await;
}

#[tokio::test]
async fn words_are_found_and_texts_are_said_by_the_agents_stages() {
    let providers = OpenAi::start(Script { hear: in_turn(["Where are you?"]), ..Script::default() }).await.unwrap();
    let agent = RemoteAgent::start(|told| match told {
        Told::Start(_) => vec![say(1, "Hello there."), end_utterance()],
        Told::Turn(turn) => vec![say(2, &format!("You said {}", turn.text)), end_utterance(), hangup(true)],
        _ => Vec::new(),
    });
    let agent = agent.await.unwrap();
    let stages =
        "[agent.mine.speech_to_text]\nmodel = \"m\"\n[agent.mine.text_to_speech]\nmodel = \"m\"\nformat = \"wav\"";
    let stack = stack_with(&agent.url(), stages, &providers.base()).await;
    let mut phone = Phone::dial(&stack.call_plan()).await.unwrap();
    let began = phone.began();
    phone
        .until("the greeting", Duration::from_secs(10), |log| log.has_answered(began, Duration::from_millis(500)))
        .await
        .unwrap();
    phone.say_all(&recorded()[0]).await.unwrap();
    phone.until("the end", Duration::from_secs(20), |log| log.closed.is_some()).await.unwrap();
    let turn = agent.wait_for("turn", |told| if let Told::Turn(turn) = told { Some(turn.clone()) } else { None }).await;
    assert_eq!((turn.turn, turn.text.as_str()), (1, "Where are you?"));
    assert!(turn.ended_ms > turn.began_ms, "{turn:?}");
    let said: Vec<_> = providers
        .asked()
        .into_iter()
        .map(|asked| asked.text("input").to_owned())
        .filter(|text| !text.is_empty())
        .collect();
    assert!(said.ends_with(&["Hello there.".to_owned(), "You said Where are you?".to_owned()]), "{said:?}");
    let Told::Start(start) = &agent.told()[0] else { panic!("{:?}", agent.told()) };
    assert!(start.can_say && start.has_words);
    stack.stop().await;
}

#[tokio::test]
async fn a_text_without_a_voice_is_refused_and_the_call_goes_on() {
    let agent = RemoteAgent::start(|told| match told {
        Told::Start(_) => vec![say(1, "Hello there.")],
        Told::Refused(_) => vec![pcm(2, 8000, &tone(660.0, AMPLITUDE, 4000)), end_utterance()],
        _ => Vec::new(),
    });
    let agent = agent.await.unwrap();
    let stack = stack(&agent.url(), "").await;
    let report = call(&stack, &[], 2500).await;
    let refused = agent
        .wait_for("refusal", |told| if let Told::Refused(refused) = told { Some(refused.clone()) } else { None })
        .await;
    assert!(refused.what == "say" && refused.reason.contains("text_to_speech"), "{refused:?}");
    assert!(tone_onset(&report.heard_pcm(), 660.0, AMPLITUDE).is_some(), "{report}");
    stack.stop().await;
}

#[tokio::test]
async fn whatever_an_agent_does_wrong_the_caller_hears_words_and_the_agent_is_told() {
    let wrong = [
        (Misdeed::NeverReady, "timeout", 4),
        (Misdeed::SpeaksFirst, "malformed", 3),
        (Misdeed::Refuses, "denied", 0),
        (Misdeed::WrongRate, "malformed", 3),
        (Misdeed::OddBytes, "malformed", 3),
        (Misdeed::Floods, "malformed", 8),
        (Misdeed::DiesOfKey, "failed", 0),
        (Misdeed::LeavesOnKey, "failed", 0),
        (Misdeed::NeverReads, "timeout", 8),
    ];
    // All first: to make one takes the thread that the agents live on.
    let mut prepared = Vec::new();
    for (misdeed, kind, code) in wrong {
        let agent = RemoteAgent::misbehaving(misdeed).await.unwrap();
        let stack = stack(&agent.url(), "first_answer_ms = 2500").await;
        prepared.push((misdeed, kind, code, agent, stack));
    }
    let calls = prepared.into_iter().map(|(misdeed, kind, code, agent, stack)| async move {
        let report = place(&stack, &[(500, '5')], 25_000).await;
        // The call ends as failed: its caller is told so in words.
        assert_eq!(report.streams[0].ended, Ended::ServerClosed, "{misdeed:?}: {report}");
        assert_eq!(report.actions[0].verbs, ["Say", "Hangup"], "{misdeed:?}: {report}");
        let counted = stack.worker_metrics().await;
        let count = |kind: &&str| {
            let series = format!("tandem_worker_provider_errors_total{{kind=\"{kind}\",stage=\"agent\"}}");
            counted.of(&series).is_some_and(|count| count > 0.5)
        };
        let kinds = ["timeout", "malformed", "denied", "failed", "unreachable", "rejected", "busy"];
        let kinds: Vec<_> = kinds.into_iter().filter(count).collect();
        assert_eq!(kinds, [kind], "{misdeed:?}");
        // One that does not read is told nothing.
        if code != 0 && misdeed != Misdeed::NeverReads {
            let end = |told: &Told| if let Told::End(end) = told { Some(end.clone()) } else { None };
            let end = agent.wait_for(&format!("end of {misdeed:?}"), end).await;
            assert_eq!((end.reason(), end.code), (EndReason::Failed, code), "{misdeed:?}: {end:?}");
            assert!(!end.detail.is_empty(), "{end:?}");
        }
        stack.stop().await;
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test]
async fn an_apology_is_heard_before_the_gateways_words() {
    let providers = OpenAi::start(Script::default()).await.unwrap();
    let agent = RemoteAgent::misbehaving(Misdeed::DiesOfKey).await.unwrap();
    let more = "apology = \"One moment.\"\n[agent.mine.text_to_speech]\nmodel = \"m\"\nformat = \"wav\"";
    let stack = stack_with(&agent.url(), more, &providers.base()).await;
    let report = place(&stack, &[(700, '5')], 20_000).await;
    // 60 ms a character of 440 Hz, as the stand-in speaks, after 200 ms of the agent's own.
    let spoken = ms_of(&report.heard_pcm(), 440.0);
    assert!((750..=950).contains(&spoken), "{spoken} ms: {report}");
    assert_eq!(report.actions[0].verbs, ["Say", "Hangup"], "{report}");
    stack.stop().await;
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told_in_words_and_one_that_comes_back_takes_the_next_call() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let stack = stack(&format!("http://{address}").parse().unwrap(), "interrupt = \"agent\"").await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.close_code().await;
    assert!(is_fallback(&line.after().await));
    let listener = TcpListener::bind(address).await.unwrap();
    let serving = tokio::spawn(async { example::serve(listener).await.map_err(|error| error.to_string()) });
    let mut line = Line::dial(&stack.call_plan()).await;
    line.listen_until(|heard| heard.mulaw.len() >= 3000).await;
    line.press('#').await;
    line.close_code().await;
    assert_eq!(line.after().await, [Verb::Hangup]);
    eventually("the conversation has ended", async || stack.info().await.live == 0).await;
    stack.stop().await;
    serving.abort();
}

/// Milliseconds of a tone in what was heard.
fn ms_of(heard: &[i16], hz: f64) -> usize {
    let is_tone =
        |frame: &&[i16]| tone_share(frame, hz) > 0.8 && frame.iter().any(|sample| sample.unsigned_abs() > 2000);
    heard.chunks(160).filter(is_tone).count() * 20
}

/// A silent caller that presses keys (at ms) and hangs up in the end, if the agent does not; all goes well.
async fn call(stack: &Stack, keys: &[(u64, char)], hangup_ms: u64) -> CallReport {
    let report = place(stack, keys, hangup_ms).await;
    assert!(report.is_ok(), "{report}");
    report
}

/// The same, however it goes.
async fn place(stack: &Stack, keys: &[(u64, char)], hangup_ms: u64) -> CallReport {
    let digits = keys.iter().map(|(ms, key)| (Duration::from_millis(*ms), *key)).collect();
    let hangup_after = Some(Duration::from_millis(hangup_ms));
    let plan = CallPlan { speech: [].into(), digits, hangup_after, ..stack.call_plan() };
    Caller::new(plan).place().await
}
