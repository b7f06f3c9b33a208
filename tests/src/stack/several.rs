//! A gateway and several workers that come and go, all in this process.

use std::net::SocketAddr;

use proto::v1::{GetInfoRequest, GetInfoResponse, voice_service_client::VoiceServiceClient};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use super::{Service, StackPlan, eventually, start_gateway, start_worker};
use crate::sim::CallPlan;

/// One gateway, and as many workers as there are now. Workers are told by number, in the order in which they came.
#[derive(Debug)]
pub struct Several {
    plan: StackPlan,
    gateway: Service,
    workers: Vec<Service>,
    /// A connection to each: one that drains takes no new ones.
    channels: Vec<Channel>,
    /// What DNS would say.
    shown: watch::Sender<Vec<SocketAddr>>,
}

impl Several {
    /// Starts a gateway and `count` workers as `plan` says, and waits until it knows them.
    pub async fn start(plan: StackPlan, count: usize) -> Self {
        let mut workers = Vec::new();
        for _ in 0..count {
            workers.push(start_worker(&plan).await);
        }
        let addresses: Vec<_> = workers.iter().map(|worker| worker.address).collect();
        let first = *addresses.first().expect("a worker at least");
        let (shown, known) = watch::channel(addresses);
        let (gateway, _) = start_gateway(&plan, first, Some(known)).await;
        let channels = workers.iter().map(channel).collect();
        let several = Self { plan, gateway, workers, channels, shown };
        several.wait_until_known(count).await;
        several
    }

    /// A plan for calls to this gateway.
    pub fn call_plan(&self) -> CallPlan {
        CallPlan::new(self.gateway.address, super::PUBLIC_URL.parse().expect("a URL"), super::AUTH_TOKEN)
    }

    /// Starts one more, which DNS shows from now on.
    pub async fn add(&mut self) {
        let worker = start_worker(&self.plan).await;
        self.shown.send_modify(|shown| shown.push(worker.address));
        self.channels.push(channel(&worker));
        self.workers.push(worker);
    }

    /// What SIGTERM does to a worker; DNS shows it still.
    pub fn shut_down(&self, number: usize) {
        self.workers[number].shutdown.cancel();
    }

    /// True once that worker has ended.
    pub fn has_ended(&self, number: usize) -> bool {
        self.workers[number].running.is_finished()
    }

    /// DNS shows that worker no more.
    pub fn hide(&self, number: usize) {
        let address = self.workers[number].address;
        self.shown.send_modify(|shown| shown.retain(|a| *a != address));
    }

    /// Waits until the gateway knows so many workers.
    pub async fn wait_until_known(&self, count: usize) {
        eventually(&format!("the gateway knows {count} workers"), async || {
            let Some(ready) = self.gateway.readiness().await else { return false };
            let body: serde_json::Value = serde_json::from_str(&ready.body).expect("JSON");
            ready.status == 200 && body["workers"] == count
        })
        .await;
    }

    /// What a worker says about itself; of one that drains, only if it was asked before.
    pub async fn info(&self, number: usize) -> GetInfoResponse {
        let mut client = VoiceServiceClient::new(self.channels[number].clone());
        client.get_info(GetInfoRequest {}).await.expect("GetInfo answers").into_inner()
    }

    /// Ends all, the gateway first.
    pub async fn stop(self) {
        self.gateway.stop().await;
        for worker in self.workers {
            worker.stop().await;
        }
    }
}

fn channel(worker: &Service) -> Channel {
    Endpoint::from_shared(format!("http://{}", worker.address)).expect("an address").connect_lazy()
}
