//! The workers: who answers at `WORKER_URL`, with which agents?

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream};
use proto::v1::{GetInfoRequest, GetInfoResponse, voice_service_client::VoiceServiceClient};
use tokio::{net::lookup_host, time::timeout};
use tonic::{Status, transport::Endpoint};

use super::{Outcome, report::Finding};
use crate::config::{Config, WorkerAddress};

/// How long the name may take, and each worker.
const PATIENCE: Duration = Duration::from_secs(3);
/// More are not asked.
const MAX_WORKERS: usize = 64;
/// Asked at a time.
const AT_A_TIME: usize = 16;
/// The same limit as a call's stream has; an answer is some hundred bytes.
const MAX_MESSAGE_BYTES: usize = 128 << 10;

const WORKER: &str = "worker";

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let WorkerAddress { host, port } = &config.workers;
    let addresses: BTreeSet<SocketAddr> = match timeout(PATIENCE, lookup_host((host.as_str(), *port))).await {
        Ok(Ok(addresses)) => addresses.take(MAX_WORKERS).collect(),
        Ok(Err(_)) | Err(_) => BTreeSet::new(),
    };
    if addresses.is_empty() {
        let cure = "check WORKER_URL; in containers it is the name of the worker's service";
        return vec![Finding::failed(WORKER, format!("the name {host} is not known"), cure)];
    }
    let mut findings: Vec<_> = stream::iter(addresses)
        .map(|address| async move { finding(config, address, ask(address).await) })
        .buffered(AT_A_TIME)
        .collect()
        .await;
    // A name often has an address of each family and a worker at one of them only.
    if findings.iter().any(|finding| finding.outcome == Outcome::Ok) && host == "localhost" {
        findings.retain(|finding| finding.outcome == Outcome::Ok);
    }
    findings
}

async fn ask(address: SocketAddr) -> Result<GetInfoResponse, Status> {
    let asked = async {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|error| Status::internal(error.to_string()))?;
        let channel = endpoint.connect().await.map_err(|_| Status::unavailable("no connection"))?;
        let mut client = VoiceServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(client.get_info(GetInfoRequest {}).await?.into_inner())
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
}

fn finding(config: &Config, address: SocketAddr, asked: Result<GetInfoResponse, Status>) -> Finding {
    let info = match asked {
        Ok(info) => info,
        Err(status) => {
            let found = format!("{address}: {}", status.message());
            let cure = "start the worker, check WORKER_URL's port and WORKER_LISTEN, and let the gateway through to it";
            return Finding::failed(WORKER, found, cure);
        }
    };
    let GetInfoResponse { worker_id, version, live, capacity, draining, agents, .. } = info;
    let who = format!("{address}: {worker_id} {version}");
    if draining {
        return Finding::failed(
            WORKER,
            format!("{who} is about to stop"),
            "start another one, or wait for its successor",
        );
    }
    let agent = &config.default_agent;
    if !agents.contains(agent) {
        let found = format!("{who} has no agent {agent}; it has {}", agents.join(", "));
        return Finding::failed(WORKER, found, "correct DEFAULT_AGENT, or give this worker the agent");
    }
    if live >= capacity {
        return Finding::failed(
            WORKER,
            format!("{who} is full with {live} calls"),
            "start more workers, or raise WORKER_MAX_CALLS",
        );
    }
    Finding::ok(WORKER, format!("{who}, {live} of {capacity} calls, agents {}", agents.join(", ")))
}
