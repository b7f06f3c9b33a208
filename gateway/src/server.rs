//! Listeners, the shards that serve them, and the phases of the drain; no rule about calls.

use std::{io, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use telemetry::{
    metrics::TEXT_FORMAT,
    shards::{Arrivals, Seat, Shards},
    tls::LOOK_EVERY,
    traces::dropped_spans,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use warp::{
    Filter, Reply,
    filters::BoxedFilter,
    http::{StatusCode, header::CONTENT_TYPE},
    reply::Response,
};

use crate::{
    api::Access,
    call::{Surroundings, now},
    calls::{Calls, Phase},
    capture::Recorder,
    carrier::Carrier,
    client::Client,
    config::Config,
    connector::WorkerTls,
    events::EventSink,
    fleet::Fleet,
    metrics::{Metrics, Now},
    news::News,
    outbound::Outbound,
    problem::Problem,
    registry::Registry,
    router,
    ticket::Key,
    worker::Dialer,
};

/// How long a peer may take to send its request's head, or to send another one on the same connection.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// How long a request may take to come and to be answered.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// Connections beyond those of calls: webhooks, health checks, sockets without a ticket.
const OTHER_CONNECTIONS: usize = 1024;

/// Read buffer of an HTTP connection before it becomes a media socket.
const HTTP_BUFFER_BYTES: usize = 16 << 10;

/// What the kernel may hold of what a caller does not read: about three seconds of agent audio, so that a stalled
/// caller is noticed.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// After the last call ended, how long Twilio gets to ask `/voice/after`.
const AFTERWORD: Duration = Duration::from_millis(1500);

/// How long calls that are told to end may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves until `shutdown`, then drains: not ready, no new calls, live ones go on until they end or the deadline is
/// reached.
pub(crate) async fn serve(
    config: Arc<Config>,
    listener: TcpListener,
    operations: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (calls, fleet) = (Calls::new(config.limits), Fleet::new());
    let client = Client::new(Handle::current())?;
    let metrics = Metrics::new().map_err(io::Error::other)?;
    let events = EventSink::new(&config.events, client.clone());
    let registry = Registry::new(config.outbound.limits, config.max_call, News::new(events.clone()));
    let carrier = Carrier::new(&config.carrier, client);
    let (outbound, desk) =
        Outbound::new(&config.outbound, config.origin.clone(), carrier, registry.clone(), metrics.clone());
    let access = Access::new(&config.api);
    let ticket_key = match &config.ticket_key {
        Some(key) => key.clone(),
        None => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(io::Error::other)?;
            Key::new(key)
        }
    };
    let captures = match &config.capture {
        Some(capture) => Some(Recorder::start(capture, calls.max_sockets())?),
        None => None,
    };
    let (recorder, captured) = captures.unzip();
    let closed = CancellationToken::new();
    let worker_tls = WorkerTls::new(&config);
    let shards = Shards::start(config.process.shards, "gateway", {
        let (config, calls, fleet, closed) = (Arc::clone(&config), calls.clone(), fleet.clone(), closed.clone());
        let (registry, outbound, access, metrics) = (registry.clone(), outbound.clone(), access, metrics.clone());
        let worker_tls = worker_tls.clone();
        move |_, arrivals| {
            let around = Surroundings {
                config: Arc::clone(&config),
                ticket_key: ticket_key.clone(),
                calls: calls.clone(),
                registry: registry.clone(),
                dialer: Arc::new(Dialer::new(fleet.clone(), worker_tls.clone())),
                outbound: outbound.clone(),
                access: access.clone(),
                routes: config.routes.clone(),
                metrics: metrics.clone(),
                recorder: recorder.clone(),
            };
            serve_shard(arrivals, around, closed.clone())
        }
    })?;
    let background = [
        tokio::spawn({
            let (fleet, config) = (fleet.clone(), Arc::clone(&config));
            async move { fleet.follow(&config.workers, config.known_workers.as_ref()).await }
        }),
        tokio::spawn({
            let tls = config.tls.clone();
            async move {
                if let Some(identity) = tls {
                    identity.follow(LOOK_EVERY).await;
                }
            }
        }),
        tokio::spawn(desk.run()),
        tokio::spawn(async move { registry.sweep().await }),
        tokio::spawn(serve_operations(
            operations,
            Watched {
                config: Arc::clone(&config),
                calls: calls.clone(),
                fleet,
                outbound,
                events: events.clone(),
                worker_tls,
                metrics,
            },
        )),
    ];
    tracing::info!(address = %listener.local_addr()?, shards = config.process.shards, origin = config.origin.http(""), "gateway up");
    if config.skip_validation {
        tracing::warn!("TWILIO_SKIP_VALIDATION=1: anyone can call this gateway; for local debugging only");
    }

    // Calls that go on during the drain still need their webhooks answered.
    let drained = async {
        shutdown.cancelled().await;
        drain(&calls, config.process.drain).await;
        closed.cancel();
    };
    let max_open = usize::try_from(config.limits.calls).unwrap_or(usize::MAX).saturating_add(OTHER_CONNECTIONS);
    tokio::join!(shards.accept(&listener, max_open, &closed), drained);
    drop(listener);
    if timeout(FAREWELL, shards.finish()).await.is_err() {
        tracing::warn!("some connections did not close in time");
    }
    events.flush(FAREWELL).await;
    for task in background {
        task.abort();
    }
    if let Some(captured) = captured {
        captured.wait(FAREWELL).await;
    }
    Ok(())
}

async fn drain(calls: &Calls, limit: Duration) {
    calls.enter(Phase::Draining);
    let live = calls.live();
    tracing::info!(live, limit_s = limit.as_secs(), "draining");
    if timeout(limit, calls.all_ended()).await.is_err() {
        tracing::warn!(live = calls.live(), "drain deadline reached; ending live calls");
        calls.enter(Phase::Over);
        let _ = timeout(FAREWELL, calls.all_ended()).await;
    }
    if live > 0 {
        sleep(AFTERWORD).await;
    }
}

async fn serve_shard(mut arrivals: Arrivals, around: Surroundings, closed: CancellationToken) {
    let metrics = around.metrics.clone();
    let routes = router::routes(around);
    while let Some((stream, seat)) = arrivals.next().await {
        tokio::spawn(serve_connection(stream, seat, (routes.clone(), metrics.clone()), closed.clone()));
    }
    closed.cancelled().await;
}

async fn serve_connection(
    stream: TcpStream,
    seat: Seat,
    (routes, metrics): (BoxedFilter<(Response,)>, Metrics),
    closed: CancellationToken,
) {
    if let Err(error) = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES) {
        tracing::debug!(%error, "the send buffer keeps its size");
    }
    let seat = Arc::new(seat);
    let routes = TowerToHyperService::new(warp::service(routes));
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Arc::clone(&seat));
        let (metrics, path, asked) = (metrics.clone(), request.uri().clone(), now());
        let answer = routes.call(request);
        async move {
            let answer = timeout(REQUEST_LIMIT, answer).await.unwrap_or_else(|_| Ok(Problem::Late.into_response()));
            if let Ok(answer) = &answer {
                metrics.answered(path.path(), answer.status().as_u16(), now() - asked);
            }
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HTTP_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        ended = connection => if let Err(error) = ended { tracing::debug!(%error, "an HTTP connection broke") },
        () = closed.cancelled() => {}
    }
}

/// What the operations port tells of.
struct Watched {
    config: Arc<Config>,
    calls: Calls,
    fleet: Fleet,
    outbound: Outbound,
    events: EventSink,
    worker_tls: Option<WorkerTls>,
    metrics: Metrics,
}

async fn serve_operations(listener: TcpListener, watched: Watched) {
    let watched = Arc::new(watched);
    let live = warp::path!("livez").map(|| "alive\n".into_response());
    let metrics = warp::path!("metrics").map({
        let watched = Arc::clone(&watched);
        move || warp::reply::with_header(watched.metrics(), CONTENT_TYPE, TEXT_FORMAT).into_response()
    });
    let ready = warp::path!("readyz").map(move || {
        let Watched { config, calls, fleet, .. } = &*watched;
        let (open, room) = (calls.phase() == Phase::Open, calls.room());
        let body = json!({
            "status": if open { "ready" } else { "draining" },
            "live_calls": calls.live(),
            "announced_calls": room.announced,
            "pending_sockets": room.pending_sockets,
            "refused": room.refused,
            "routes": config.routes.current().len(),
            "workers": fleet.len(),
            "signatures_checked": !config.skip_validation,
            "tickets_required": config.require_ticket,
        });
        let status = if open { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        warp::reply::with_status(warp::reply::json(&body), status).into_response()
    });
    warp::serve(warp::get().and(live.or(ready).unify().or(metrics).unify())).incoming(listener).run().await;
}

impl Watched {
    fn metrics(&self) -> String {
        let Self { config, calls, fleet, outbound, events, worker_tls, metrics } = self;
        metrics.text(&Now {
            live: calls.live(),
            limit: config.limits.calls,
            room: calls.room(),
            is_draining: calls.phase() != Phase::Open,
            workers: fleet.len(),
            outbound_waiting: outbound.backlog(),
            events: events.counts(),
            handshakes_failed: worker_tls.as_ref().map_or(0, WorkerTls::handshakes_failed),
            expiry: worker_tls.as_ref().map(WorkerTls::expiry),
            dropped_spans: dropped_spans(),
        })
    }
}
