//! `VoiceService`: reads `Open`, admits, and gives the conversation its task.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use proto::v1::{
    Codec, ConverseRequest, ConverseResponse, GetInfoRequest, GetInfoResponse, Open, Ready, converse_request,
    converse_response, voice_service_server::VoiceService,
};
use telemetry::{
    Sensitive,
    traces::{TraceContext, logged},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt, adapters::Map, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use tracing::Span;

use crate::{
    agent::{Agent, DEFAULT_AGENT, NotHired, Opening, Roster},
    conversation::{
        Conversation, MAX_AUDIO_BYTES, OUTBOUND_MESSAGES, Outbound, Reply, Staff, Telling, costs_to_wire, now,
    },
    conversations::{Conversations, Phase, Place},
    metrics::Metrics,
    provider::meter::Meter,
    status::{Problem, printable},
    traces::{self, Utterances},
    transcripts::Transcripts,
    turn::{EndReason, reply},
};

/// How long a stream may take to send `Open`.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// How long a stream may take to accept the status that ends it.
const STATUS_LIMIT: Duration = Duration::from_secs(1);

/// The service; one for all shards.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    pub(crate) conversations: Conversations,
    pub(crate) agents: Roster,
    pub(crate) metrics: Metrics,
    pub(crate) transcripts: Option<Transcripts>,
}

#[tonic::async_trait]
impl VoiceService for Voice {
    type ConverseStream = Map<ReceiverStream<Box<Reply>>, fn(Box<Reply>) -> Reply>;

    async fn converse(
        &self,
        request: Request<Streaming<ConverseRequest>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let place = self.conversations.admit().map_err(Problem::Refused)?;
        let span = traces::conversation(request.metadata());
        let mut inbound = request.into_inner();
        let (open, agent, staff) = self.open(&mut inbound, &span).await.inspect_err(|_| {
            traces::refused(&span);
            self.conversations.count_refused();
        })?;
        let (outbound, responses) = mpsc::channel(OUTBOUND_MESSAGES);
        let _ = outbound.try_send(Box::new(Ok(self.ready())));
        let (phase, utterances) = (self.conversations.watch_phase(), Utterances::below(&span));
        let call_id = printable(&open.call_id);
        let telling = Telling::new(self.transcripts.as_ref(), &call_id, staff.agent(), staff.language());
        let told = (self.metrics.clone(), telling);
        let conversation = Conversation::new(agent, staff, inbound, outbound.clone(), phase, utterances, told)
            .map_err(Problem::Conversation)?;
        self.conversations.count_opened();
        // Boxed: an async function holds its arguments twice, and a task is as large as its largest moment.
        tokio::spawn(converse(Box::new(conversation), outbound, (place, self.metrics.clone()), (open, span)));
        Ok(Response::new(ReceiverStream::new(responses).map(|reply| *reply)))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let conversations = &self.conversations;
        Ok(Response::new(GetInfoResponse {
            worker_id: conversations.worker_id().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            live: conversations.live(),
            capacity: conversations.capacity(),
            draining: conversations.phase() != Phase::Open,
            agents: self.agents.current().names().map(ToOwned::to_owned).collect(),
            opened_total: conversations.opened(),
            refused_total: conversations.refused(),
        }))
    }
}

impl Voice {
    async fn open(
        &self,
        inbound: &mut Streaming<ConverseRequest>,
        span: &Span,
    ) -> Result<(Box<Open>, Box<dyn Agent>, Staff), Status> {
        let first = timeout(OPEN_LIMIT, inbound.message()).await.map_err(|_| Problem::OpenLate)??;
        let Some(ConverseRequest { message: Some(converse_request::Message::Open(mut open)) }) = first else {
            return Err(Problem::OpenExpected.into());
        };
        match Codec::try_from(open.codec) {
            Ok(Codec::Unspecified | Codec::Mulaw8000) => {}
            Err(_) => return Err(Problem::UnknownCodec(open.codec).into()),
        }
        let opening = Opening {
            call_id: open.call_id.clone(),
            from: Sensitive::new(std::mem::take(&mut open.from)),
            to: Sensitive::new(std::mem::take(&mut open.to)),
            language: std::mem::take(&mut open.language),
            parameters: Sensitive::new(open.parameters.drain().collect::<BTreeMap<_, _>>()),
            trace: TraceContext::of(span).filter(|trace| trace.is_sampled()),
            taken_over_from: None,
            meter: Meter::default(),
        };
        let agent = self.agents.current().hire(&open.agent, &opening).map_err(|error| match error {
            NotHired::Unknown(known) => Problem::UnknownAgent { agent: printable(&open.agent), known },
            NotHired::Failed(why) => {
                let (call_id, agent) = (printable(&opening.call_id), printable(&open.agent));
                tracing::warn!(call_id, agent, why, "an agent cannot begin");
                Problem::AgentCannotBegin(why)
            }
        })?;
        let name = if open.agent.is_empty() { DEFAULT_AGENT } else { &open.agent };
        let staff = Staff::new(self.agents.clone(), opening, name.to_owned());
        Ok((open, agent, staff))
    }

    fn ready(&self) -> ConverseResponse {
        let ready = Ready {
            worker_id: self.conversations.worker_id().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            frame_samples: reply::FRAME_SAMPLES as u32,
            max_audio_bytes: MAX_AUDIO_BYTES as u32,
            lead_ms: u32::try_from(reply::LEAD.as_millis()).unwrap_or(u32::MAX),
            live: self.conversations.live(),
            capacity: self.conversations.capacity(),
        };
        ConverseResponse { message: Some(converse_response::Message::Ready(Box::new(ready))) }
    }
}

/// Runs one conversation to its end and says how it ended. Its panic ends here.
async fn converse(
    mut conversation: Box<Conversation>,
    outbound: Outbound,
    (place, metrics): (Place, Metrics),
    (open, span): (Box<Open>, Span),
) {
    let began = now();
    // The span is held, not entered: entering it on every wake-up costs more than these few fields.
    let Open { call_id, agent, .. } = *open;
    let (call_id, agent) = (printable(&call_id), printable(&agent));
    traces::describe(&span, &call_id, &agent);
    let trace_id = logged(TraceContext::of(&span));
    tracing::info!(call_id, agent, trace_id, "conversation began");
    let outcome = AssertUnwindSafe(conversation.run()).catch_unwind().await;
    // Nothing sensible comes from an agent that panicked.
    if outcome.is_ok() {
        conversation.tell_rest();
    }
    let (reason, problem) = match outcome {
        Ok(Ok(EndReason::Drained)) => (EndReason::Drained, Some(Problem::Drained)),
        Ok(Ok(reason)) => (reason, None),
        Ok(Err(error)) => {
            let chain: &dyn std::error::Error = &error;
            tracing::warn!(call_id, error = chain, "conversation failed");
            (EndReason::Failed, Some(Problem::Conversation(error)))
        }
        Err(_) => (EndReason::Failed, Some(Problem::Panicked)),
    };
    let (turn, seen, costs) = conversation.finish();
    conversation.tell_end(reason);
    metrics.ended(reason, (now() - began).as_secs_f64(), &turn);
    traces::ended(&span, reason, problem.is_some(), &turn, &seen);
    tracing::info!(
        call_id,
        trace_id,
        reason = reason.label(),
        heard_ms = seen.heard_samples / 8,
        gap_ms = seen.gap_ms,
        missing_messages = seen.missing_messages,
        said_ms = turn.sent_samples / 8,
        utterances = turn.utterances,
        interrupts = turn.interrupts,
        overflowed_ms = turn.overflowed_samples / 8,
        late_peak_ms = turn.late_peak.as_millis(),
        orders = turn.orders,
        orders_refused = turn.orders_refused,
        held_ms = seen.held_samples / 8,
        held_keys = seen.held_keys,
        %costs,
        "conversation ended"
    );
    // The agent and the buffers go before the place is free again, so that admission counts what is held.
    drop(conversation);
    drop(span);
    drop(place);
    if !costs.entries().is_empty() {
        // A peer that is gone, or reads nothing, has no use for it.
        let _ = timeout(STATUS_LIMIT, outbound.send(Box::new(Ok(costs_to_wire(&costs))))).await;
    }
    if let Some(problem) = problem {
        // A peer that is gone, or reads nothing, needs no status.
        let _ = timeout(STATUS_LIMIT, outbound.send(Box::new(Err(problem.into())))).await;
    }
}
