//! What both services tell Prometheus of calls.

use std::{
    collections::{BTreeSet, VecDeque},
    task::{Context, Poll},
    time::Duration,
};

use audio_worker::{
    agent::{Act, Agent, AgentStats, Agents, Heard, Report, Stage, Turn},
    provider::Fault,
    turn_taking,
};
use tests::{
    line::{Line, signed},
    sim::{CallPlan, post_form},
    stack::{Samples, Stack, StackPlan, eventually},
};

const CALL: &str = "CA00000000000000000000000000000001";

#[tokio::test]
async fn a_call_is_seen_while_it_lives_and_counted_when_it_ends() {
    let stack = Stack::start(StackPlan::default().gateway("MAX_CALLS", "7")).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    let live = stack.gateway_metrics().await;
    assert_eq!(live.of("tandem_gateway_live_calls"), Some(1.0));
    assert_eq!(live.of("tandem_gateway_calls_limit"), Some(7.0));
    assert_eq!(live.of("tandem_gateway_workers"), Some(1.0));
    assert_eq!(stack.worker_metrics().await.of("tandem_worker_live_conversations"), Some(1.0));
    // A long call is seen while it lasts.
    eventually("its audio is counted on both sides", async || {
        let (gateway, worker) = (stack.gateway_metrics().await, stack.worker_metrics().await);
        line.assert_echoes().await;
        gateway.of("tandem_gateway_caller_audio_seconds_total") > Some(0.0)
            && worker.of("tandem_worker_heard_seconds_total") > Some(0.0)
    })
    .await;
    line.hang_up().await;
    let told = async || (stack.gateway_metrics().await, stack.worker_metrics().await);
    eventually("the call has ended on both sides", async || {
        let (gateway, worker) = told().await;
        gateway.of("tandem_gateway_live_calls") == Some(0.0)
            && gateway.of("tandem_gateway_calls_total{reason=\"caller_hangup\"}") == Some(1.0)
            && worker.of("tandem_worker_conversations_total{reason=\"closed\"}") == Some(1.0)
    })
    .await;
    let (gateway, worker) = told().await;
    let audio = gateway.of("tandem_gateway_caller_audio_seconds_total").unwrap();
    assert!(audio > 0.0 && gateway.of("tandem_gateway_agent_audio_seconds_total").unwrap() > 0.0, "{}", gateway.0);
    assert_eq!(gateway.of("tandem_gateway_worker_open_seconds_count"), Some(1.0));
    assert_eq!(gateway.of("tandem_gateway_call_seconds_count"), Some(1.0));
    assert_eq!(worker.of("tandem_worker_heard_seconds_total"), Some(audio));
    for (samples, name) in [(&gateway, "tandem_gateway_hop_seconds"), (&worker, "tandem_worker_hop_seconds")] {
        let frames = |of: &str| samples.of(&format!("{name}_count{{audio=\"{of}\"}}")).unwrap();
        assert!(frames("caller") >= 50.0 * audio && frames("agent") > 0.0, "{}", samples.0);
    }
    stack.stop().await;
}

/// Answers a turn, and a provider of its own fails, as soon as it hears something.
#[derive(Debug, Default)]
struct Talkative {
    acts: VecDeque<Act>,
    turns: u64,
}

impl Agent for Talkative {
    fn hear(&mut self, heard: Heard<'_>) {
        if matches!(heard, Heard::Audio(_)) && self.turns == 0 {
            self.turns = 1;
            let turn = Turn { first_sent: Some(Duration::from_millis(640)), ..Turn::default() };
            let (stage, fault) = (Stage::TextToSpeech, Fault::Busy);
            let reports = [Report::Turn(turn), Report::Fault { stage, fault, detail: String::new() }];
            self.acts.extend(reports.map(Act::Report));
        }
    }

    fn stats(&self) -> AgentStats {
        let floor = turn_taking::Stats { turns: self.turns, ..turn_taking::Stats::default() };
        AgentStats { floor, ..AgentStats::default() }
    }

    fn poll_act(&mut self, _: &mut Context<'_>, _: &mut Vec<i16>) -> Poll<Act> {
        self.acts.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[tokio::test]
async fn what_an_agent_reports_and_counts_is_told() {
    let agents = Agents::default().with("talkative", |_| Box::new(Talkative::default()));
    let stack = Stack::start(StackPlan::default().agents(agents).gateway("DEFAULT_AGENT", "talkative")).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.speak(&[0xFF; 1600]).await;
    eventually("what it reports is told at once", async || {
        stack.worker_metrics().await.of("tandem_worker_response_seconds_count") == Some(1.0)
    })
    .await;
    line.hang_up().await;
    eventually("what it counts is told at the end", async || {
        stack.worker_metrics().await.of("tandem_worker_turns_total") == Some(1.0)
    })
    .await;
    let told = stack.worker_metrics().await;
    for series in [
        "tandem_worker_turn_stage_seconds_bucket{stage=\"first_sent\",le=\"0.8\"}",
        "tandem_worker_provider_errors_total{kind=\"busy\",stage=\"text_to_speech\"}",
    ] {
        assert_eq!(told.of(series), Some(1.0), "{series} in\n{}", told.0);
    }
    stack.stop().await;
}

#[tokio::test]
async fn requests_refusals_and_streams_that_twilio_could_not_open_are_counted() {
    let stack = Stack::start(StackPlan::default().gateway("MAX_CALLS", "1")).await;
    let plan = stack.call_plan();
    let url = plan.webhook_url().unwrap();
    assert_eq!(post_form(&plan.route, &url, &plan.parameters(CALL, "ringing"), None).await.unwrap().status, 403);
    for n in 0..3 {
        signed(&plan, "/voice/incoming", plan.parameters(&format!("{CALL}{n}"), "ringing")).await;
    }
    let failed = CallPlan { call_sid: Some(CALL.into()), ..plan.clone() };
    for error in ["31920 - WebSocket - Handshake Error", "secret +15550123456"] {
        let mut fields = failed.parameters(CALL, "in-progress");
        fields.push(("StreamEvent".into(), "stream-error".into()));
        fields.push(("StreamError".into(), error.into()));
        assert_eq!(signed(&plan, "/voice/stream-status", fields).await.status, 204);
    }
    let told = stack.gateway_metrics().await;
    for (series, value) in [
        ("tandem_gateway_http_requests_total{route=\"/voice/incoming\",status=\"403\"}", 1.0),
        ("tandem_gateway_http_requests_total{route=\"/voice/incoming\",status=\"2xx\"}", 3.0),
        ("tandem_gateway_refused_total{reason=\"max_calls\"}", 2.0),
        ("tandem_gateway_announced_calls", 1.0),
        ("tandem_gateway_stream_errors_total{code=\"31920\"}", 1.0),
        ("tandem_gateway_stream_errors_total{code=\"other\"}", 1.0),
    ] {
        assert_eq!(told.of(series), Some(value), "{series} in\n{}", told.0);
    }
    assert!(!told.0.contains("15550123456"));
    stack.stop().await;
}

#[tokio::test]
async fn every_metric_says_what_it_is() {
    let stack = Stack::start_default().await;
    for Samples(text) in [stack.gateway_metrics().await, stack.worker_metrics().await] {
        let about = |what: &str| -> BTreeSet<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(what)?.split(' ').next());
            lines.map(ToOwned::to_owned).collect()
        };
        let (help, types) = (about("# HELP "), about("# TYPE "));
        assert!(help.len() > 10 && help == types, "{text}");
        assert!(help.iter().all(|name| name.starts_with("tandem_")), "{help:?}");
    }
    stack.stop().await;
}
