//! The listeners, the shards that serve them, and the phases of the drain; no rule about conversations.

use std::{io, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use proto::v1::{audio_service_server::AudioServiceServer, voice_service_server::VoiceServiceServer};
use telemetry::{
    metrics::TEXT_FORMAT,
    shards::Shards,
    tls::{self, Identity},
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    agent::Roster,
    audio_service::{self, Audio},
    config::Config,
    connection::connections,
    conversations::{Conversations, Phase},
    metrics::Metrics,
    voice_service::Voice,
};

/// HTTP/2 flow control for all calls of one connection. Measured: a small or adaptive window stalls hundreds of
/// calls for good, so it is wide and fixed.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Flow control for one call: 8 s of mu-law.
const STREAM_WINDOW: u32 = 64 << 10;

/// Connections at a time: each carries up to hundreds of calls.
const MAX_CONNECTIONS: usize = 4096;

/// How often a silent connection is pinged, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How long streams that ended get to say so before the connections close.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves until `shutdown`, then drains: not ready, no new conversations, live ones go on until they end or the
/// deadline is reached.
pub(crate) async fn serve(
    config: &Config,
    voice: Voice,
    listener: TcpListener,
    operations: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let conversations = voice.conversations.clone();
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, ServingStatus::Serving).await;
    let closed = CancellationToken::new();
    let shards = Shards::start(config.process.shards, "worker", {
        let (voice, closed, max_calls) = (voice.clone(), closed.clone(), config.max_calls);
        let identity = config.tls.clone();
        move |_, arrivals| {
            let server = Server::builder()
                .initial_connection_window_size(CONNECTION_WINDOW)
                .initial_stream_window_size(STREAM_WINDOW)
                // Admission is ours to answer, with a status; this only bounds what a peer can make us hold.
                .max_concurrent_streams(max_calls.saturating_add(64))
                .http2_keepalive_interval(Some(KEEPALIVE))
                .http2_keepalive_timeout(Some(KEEPALIVE))
                .add_service(health_service.clone())
                .add_service(VoiceServiceServer::new(voice.clone()).max_decoding_message_size(128 << 10))
                .add_service(
                    AudioServiceServer::new(Audio)
                        .max_decoding_message_size(audio_service::MAX_MESSAGE_BYTES)
                        .max_encoding_message_size(6 * audio_service::MAX_MESSAGE_BYTES),
                );
            let incoming = connections(arrivals, identity.clone(), voice.metrics.clone());
            let closed = closed.clone();
            async move {
                let reflection = || {
                    tonic_reflection::server::Builder::configure()
                        .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
                        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                };
                let (v1, v1alpha) = match (reflection().build_v1(), reflection().build_v1alpha()) {
                    (Ok(v1), Ok(v1alpha)) => (v1, v1alpha),
                    (Err(error), _) | (_, Err(error)) => {
                        tracing::error!(%error, "reflection cannot be built");
                        return;
                    }
                };
                let server = server.add_service(v1).add_service(v1alpha);
                if let Err(error) = server.serve_with_incoming_shutdown(incoming, closed.cancelled_owned()).await {
                    tracing::error!(%error, "the gRPC service failed");
                }
            }
        }
    })?;
    let watched = (conversations.clone(), voice.agents.clone(), voice.metrics.clone(), config.tls.clone());
    let ops = tokio::spawn(serve_operations(operations, watched, closed.clone()));
    let looking =
        config.tls.clone().map(|identity| tokio::spawn(async move { identity.follow(tls::LOOK_EVERY).await }));
    let address = listener.local_addr()?;
    tracing::info!(%address, shards = config.process.shards, mutual_tls = config.tls.is_some(), "gRPC service up");

    shards.accept(&listener, MAX_CONNECTIONS, &shutdown).await;
    // Refused, a gateway asks the next worker at once; left waiting in the queue, only when it loses its patience.
    drop(listener);
    drain(&conversations, &health, config.process.drain).await;
    closed.cancel();
    if timeout(FAREWELL, shards.finish()).await.is_err() {
        tracing::warn!("some connections did not close in time");
    }
    let _ = ops.await;
    if let Some(looking) = looking {
        looking.abort();
    }
    Ok(())
}

async fn drain(conversations: &Conversations, health: &HealthReporter, limit: Duration) {
    report(health, ServingStatus::NotServing).await;
    conversations.enter(Phase::Draining(limit));
    tracing::info!(live = conversations.live(), limit_s = limit.as_secs(), "draining");
    if timeout(limit, conversations.all_ended()).await.is_err() {
        tracing::warn!(live = conversations.live(), "drain deadline reached; ending live conversations");
        conversations.enter(Phase::Over);
        let _ = timeout(FAREWELL, conversations.all_ended()).await;
    }
}

async fn report(health: &HealthReporter, status: ServingStatus) {
    for service in ["", "tandem.voice.v1.VoiceService", "tandem.voice.v1.AudioService"] {
        health.set_service_status(service, status).await;
    }
}

async fn serve_operations(
    listener: TcpListener,
    (conversations, agents, metrics, identity): (Conversations, Roster, Metrics, Option<Identity>),
    closed: CancellationToken,
) {
    let metrics = {
        let conversations = conversations.clone();
        async move || {
            let expiry = identity.as_ref().map(|identity| identity.current().expiry);
            ([(CONTENT_TYPE, TEXT_FORMAT)], metrics.text(&conversations, agents.current().places(), expiry))
        }
    };
    let ready = move || {
        let open = conversations.phase() == Phase::Open;
        async move { if open { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") } }
    };
    let routes = Router::new().route("/livez", get(async || "alive\n")).route("/readyz", get(ready));
    let routes = routes.route("/metrics", get(metrics));
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(closed.cancelled_owned()).await {
        tracing::error!(%error, "the operations endpoint failed");
    }
}
