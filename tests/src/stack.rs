//! Both services in this process, on free local ports with development credentials: what whole-system tests call.
//!
//! Helpers panic with what went wrong; a test that uses them fails there.

use std::{net::SocketAddr, time::Duration};

use audio_worker::agent::Agents;
use gateway::RouteTable;
use proto::v1::{
    GetInfoRequest, GetInfoResponse, audio_service_client::AudioServiceClient, voice_service_client::VoiceServiceClient,
};
use telemetry::{
    settings::{Setting, Values},
    tls::Identity,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use url::Url;

use crate::{
    sim::{CallPlan, Reply, Route, get, rest::Gateway},
    throttle::{LinePlan, Throttle},
};

mod several;

pub use several::Several;

/// What the gateway calls itself.
pub const PUBLIC_URL: &str = "https://gateway.example";
/// A credential that is good for nothing else.
pub const AUTH_TOKEN: &str = "development-token-of-the-stack";

/// How long a service may take to get ready, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// What to start.
#[derive(Clone, Debug)]
pub struct StackPlan {
    gateway: Vec<(String, String)>,
    worker: Vec<(String, String)>,
    agents: Agents,
    has_worker: bool,
    wire: Option<LinePlan>,
}

impl Default for StackPlan {
    fn default() -> Self {
        let set = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        // A stack that is stopped ends its live calls at once.
        let common = [("SHARDS", "1"), ("DRAIN_SECONDS", "0")];
        let twilio = [("TWILIO_AUTH_TOKEN", AUTH_TOKEN), ("TWILIO_VOICE_WEBHOOK_URL", PUBLIC_URL)];
        Self {
            gateway: set(&[common, twilio].concat()),
            worker: set(&common),
            agents: Agents::default(),
            has_worker: true,
            wire: None,
        }
    }
}

impl StackPlan {
    /// With a setting of the gateway; a later one of the same name wins.
    #[must_use]
    pub fn gateway(mut self, name: &str, value: &str) -> Self {
        self.gateway.insert(0, (name.to_owned(), value.to_owned()));
        self
    }

    /// With a setting of the worker.
    #[must_use]
    pub fn worker(mut self, name: &str, value: &str) -> Self {
        self.worker.insert(0, (name.to_owned(), value.to_owned()));
        self
    }

    /// With these agents at the worker.
    #[must_use]
    pub fn agents(mut self, agents: Agents) -> Self {
        self.agents = agents;
        self
    }

    /// The gateway alone; nobody listens where it looks for a worker.
    #[must_use]
    pub fn without_worker(mut self) -> Self {
        self.has_worker = false;
        self
    }

    /// With a wire between the two that [`Stack::cut_wire`] can cut.
    #[must_use]
    pub fn with_wire(self) -> Self {
        self.with_bad_wire(LinePlan::default())
    }

    /// With a wire between the two that is as bad as planned.
    #[must_use]
    pub fn with_bad_wire(mut self, wire: LinePlan) -> Self {
        self.wire = Some(wire);
        self
    }
}

/// A running gateway and, if asked for, its worker.
#[derive(Debug)]
pub struct Stack {
    gateway: Service,
    worker: Option<Service>,
    wire: Option<Throttle>,
    routes: RouteTable,
    /// Bound and never listening: connections are refused, and nobody else gets the port.
    _nobody: Option<TcpSocket>,
}

/// One service of the stack.
#[derive(Debug)]
struct Service {
    address: SocketAddr,
    operations: SocketAddr,
    tls: Option<Identity>,
    shutdown: CancellationToken,
    running: JoinHandle<std::io::Result<()>>,
}

impl Service {
    async fn stop(self) {
        self.shutdown.cancel();
        let ended = timeout(PATIENCE, self.running).await.expect("the service did not end");
        ended.expect("the service panicked").expect("the service failed");
    }

    async fn readiness(&self) -> Option<Reply> {
        self.ask("/readyz").await
    }

    async fn metrics(&self) -> Samples {
        let reply = self.ask("/metrics").await.expect("/metrics answers");
        assert!(reply.status == 200 && reply.content_type.starts_with("text/plain; version=0.0.4"), "{reply:?}");
        Samples(reply.body)
    }

    async fn ask(&self, path: &str) -> Option<Reply> {
        let url: Url = format!("http://localhost{path}").parse().expect("a URL");
        get(&Route::Tcp(self.operations), &url).await.ok()
    }
}

/// An answer to Prometheus.
#[derive(Clone, Debug)]
pub struct Samples(pub String);

impl Samples {
    /// The value of a series, written as in the answer: its name and its labels, if any.
    pub fn of(&self, series: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

impl Stack {
    /// Starts both with everything at its default.
    pub async fn start_default() -> Self {
        Self::start(StackPlan::default()).await
    }

    /// Starts what `plan` says and waits until it is ready.
    pub async fn start(plan: StackPlan) -> Self {
        let (mut nobody, mut wire) = (None, None);
        let worker = if plan.has_worker { Some(start_worker(&plan).await) } else { None };
        let reached = match (&worker, &plan.wire) {
            (Some(worker), Some(line)) => {
                let line = wire.insert(Throttle::start(worker.address, line.clone()));
                line.address()
            }
            (Some(worker), None) => worker.address,
            (None, _) => {
                let socket = TcpSocket::new_v4().expect("a socket");
                socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
                let address = socket.local_addr().expect("an address");
                nobody = Some(socket);
                address
            }
        };
        let (gateway, routes) = start_gateway(&plan, reached, None).await;
        let stack = Self { gateway, worker, wire, routes, _nobody: nobody };
        if let Some(worker) = &stack.worker {
            eventually("the worker is ready", async || worker.readiness().await.is_some_and(|r| r.status == 200)).await;
        }
        eventually("the gateway is ready and knows a worker", async || {
            let ready = stack.gateway.readiness().await;
            ready.is_some_and(|reply| reply.status == 200 && !reply.body.contains("\"workers\":0"))
        })
        .await;
        stack
    }

    /// A plan for calls to this stack.
    pub fn call_plan(&self) -> CallPlan {
        CallPlan::new(self.gateway.address, PUBLIC_URL.parse().expect("a URL"), AUTH_TOKEN)
    }

    /// What a simulated account needs to know of this stack, so that its calls come here.
    pub fn for_exchange(&self) -> Gateway {
        let public_url = PUBLIC_URL.parse().expect("a URL");
        Gateway { route: Route::Tcp(self.gateway.address), public_url }
    }

    /// Where the gateway takes webhooks and media.
    pub fn gateway_address(&self) -> SocketAddr {
        self.gateway.address
    }

    /// Where the worker takes calls.
    pub fn worker_address(&self) -> SocketAddr {
        self.worker().address
    }

    /// What the gateway's `/readyz` says, while it answers.
    pub async fn gateway_readiness(&self) -> Option<Reply> {
        self.gateway.readiness().await
    }

    /// What the worker's `/readyz` says, while it answers.
    pub async fn worker_readiness(&self) -> Option<Reply> {
        self.worker().readiness().await
    }

    /// What the gateway tells Prometheus.
    pub async fn gateway_metrics(&self) -> Samples {
        self.gateway.metrics().await
    }

    /// What the worker tells Prometheus.
    pub async fn worker_metrics(&self) -> Samples {
        self.worker().metrics().await
    }

    /// The gateway's live calls, as `/health` tells them.
    pub async fn live_calls(&self) -> u64 {
        let url: Url = "http://localhost/health".parse().expect("a URL");
        let reply = get(&Route::Tcp(self.gateway.address), &url).await.expect("/health answers");
        let body: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
        body["active_connections"].as_u64().expect("a number")
    }

    /// A connection to the worker.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.worker().address)).expect("an address");
        endpoint.connect().await.expect("the worker listens")
    }

    /// The worker's `VoiceService`.
    pub async fn voice(&self) -> VoiceServiceClient<Channel> {
        VoiceServiceClient::new(self.channel().await)
    }

    /// The worker's `AudioService`.
    pub async fn audio(&self) -> AudioServiceClient<Channel> {
        let limit = 64 << 20;
        AudioServiceClient::new(self.channel().await).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }

    /// What the worker says about itself.
    pub async fn info(&self) -> GetInfoResponse {
        self.voice().await.get_info(GetInfoRequest {}).await.expect("GetInfo answers").into_inner()
    }

    /// What SIGTERM does to the gateway.
    pub fn shut_gateway_down(&self) {
        self.gateway.shutdown.cancel();
    }

    /// What SIGTERM does to the worker.
    pub fn shut_worker_down(&self) {
        self.worker().shutdown.cancel();
    }

    /// True once the gateway has ended.
    pub fn gateway_has_ended(&self) -> bool {
        self.gateway.running.is_finished()
    }

    /// True once the worker has ended.
    pub fn worker_has_ended(&self) -> bool {
        self.worker().running.is_finished()
    }

    /// What the gateway sees when its worker's process dies: every connection is gone, new ones are refused.
    pub async fn cut_wire(&mut self) {
        self.wire.take().expect("the plan has a wire").cut().await;
    }

    /// What SIGHUP does to the gateway; whether the file's routes are in use now.
    pub fn reload_routes(&self) -> bool {
        self.routes.reload()
    }

    /// What the gateway does every ten seconds: what its files hold now is in use afterwards, if it can be.
    pub fn reload_gateway_certificates(&self) {
        self.gateway.tls.as_ref().expect("a gateway with certificates").reload();
    }

    /// The same at the worker.
    pub fn reload_worker_certificates(&self) {
        self.worker().tls.as_ref().expect("a worker with certificates").reload();
    }

    /// How often the gateway's certificates were replaced, and the worker's.
    pub fn certificates_replaced(&self) -> (u64, u64) {
        let replaced = |service: &Service| service.tls.as_ref().map_or(0, |identity| identity.current().generation);
        (replaced(&self.gateway), replaced(self.worker()))
    }

    /// Ends both, the gateway first.
    pub async fn stop(self) {
        self.gateway.stop().await;
        if let Some(worker) = self.worker {
            worker.stop().await;
        }
    }

    fn worker(&self) -> &Service {
        self.worker.as_ref().expect("the plan has a worker")
    }
}

/// Waits until `condition` holds, within a limit.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let held = async {
        while !condition().await {
            sleep(POLL).await;
        }
    };
    assert!(timeout(PATIENCE, held).await.is_ok(), "not within {PATIENCE:?}: {what}");
}

async fn start_worker(plan: &StackPlan) -> Service {
    let values = values(&audio_worker::config::SETTINGS, &plan.worker);
    let config = audio_worker::Config::read(&values).expect("good settings");
    let (listener, operations, shutdown) = (listen().await, listen().await, CancellationToken::new());
    let addresses = (listener.local_addr().expect("an address"), operations.local_addr().expect("an address"));
    let (agents, token, tls) = (plan.agents.clone(), shutdown.clone(), config.tls.clone());
    let running = tokio::spawn(async move { audio_worker::run(&config, agents, listener, operations, token).await });
    Service { address: addresses.0, operations: addresses.1, tls, shutdown, running }
}

async fn start_gateway(
    plan: &StackPlan,
    worker: SocketAddr,
    known: Option<watch::Receiver<Vec<SocketAddr>>>,
) -> (Service, RouteTable) {
    let mut settings = plan.gateway.clone();
    let scheme = if settings.iter().any(|(name, _)| name == "TLS_CERT") { "https" } else { "http" };
    settings.push(("WORKER_URL".to_owned(), format!("{scheme}://{worker}")));
    let mut config = gateway::Config::read(&values(&gateway::config::SETTINGS, &settings)).expect("good settings");
    config.known_workers = known;
    let (listener, operations, shutdown) = (listen().await, listen().await, CancellationToken::new());
    let addresses = (listener.local_addr().expect("an address"), operations.local_addr().expect("an address"));
    let (routes, tls) = (config.routes.clone(), config.tls.clone());
    let running = tokio::spawn(gateway::run(config, listener, operations, shutdown.clone()));
    (Service { address: addresses.0, operations: addresses.1, tls, shutdown, running }, routes)
}

fn values(table: &[Setting], given: &[(String, String)]) -> Values {
    Values::from_lookup(table, |name| given.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
}

async fn listen() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port")
}
