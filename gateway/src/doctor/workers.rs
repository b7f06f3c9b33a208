//! The workers: who answers at `WORKER_URL`, as whom, with which agents?

use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream};
use proto::v1::{GetInfoRequest, GetInfoResponse, voice_service_client::VoiceServiceClient};
use tokio::{io::AsyncReadExt, net::lookup_host, time::timeout};
use tonic::Status;

use super::{Outcome, report::Finding, trust};
use crate::{
    config::{Config, WorkerAddress},
    connector::{self, WorkerTls},
};

/// How long the name may take, and each worker.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a worker may take to say its first word in TLS; whoever waits for ours has not refused us.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// More are not asked.
const MAX_WORKERS: usize = 64;
/// Asked at a time.
const AT_A_TIME: usize = 16;
/// The same limit as a call's stream has; an answer is some hundred bytes.
const MAX_MESSAGE_BYTES: usize = 128 << 10;

const WORKER: &str = "worker";

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let WorkerAddress { host, port, .. } = &config.workers;
    let addresses: BTreeSet<SocketAddr> = match timeout(PATIENCE, lookup_host((host.as_str(), *port))).await {
        Ok(Ok(addresses)) => addresses.take(MAX_WORKERS).collect(),
        Ok(Err(_)) | Err(_) => BTreeSet::new(),
    };
    if addresses.is_empty() {
        let cure = "check WORKER_URL; in containers it is the name of the worker's service";
        return vec![Finding::failed(WORKER, format!("the name {host} is not known"), cure)];
    }
    let tls = WorkerTls::new(config);
    let mut findings: Vec<_> = stream::iter(addresses)
        .map(|address| {
            let tls = tls.as_ref();
            async move { finding(config, address, ask(address, tls).await) }
        })
        .buffered(AT_A_TIME)
        .collect()
        .await;
    // A name often has an address of each family and a worker at one of them only.
    if findings.iter().any(|finding| finding.outcome == Outcome::Ok) && host == "localhost" {
        findings.retain(|finding| finding.outcome == Outcome::Ok);
    }
    findings
}

/// Why a worker did not say what it is.
enum Failure {
    Tls(rustls::Error),
    Other(String),
}

async fn ask(address: SocketAddr, tls: Option<&WorkerTls>) -> Result<GetInfoResponse, Failure> {
    let other = |status: Status| Failure::Other(status.message().to_owned());
    let asked = async {
        if let Some(tls) = tls {
            shake_hands(address, tls).await.map_err(|error| match connector::distrust(&error) {
                Some(distrust) => Failure::Tls(distrust.clone()),
                None => Failure::Other("no connection".to_owned()),
            })?;
        }
        let endpoint = connector::endpoint(address, tls).map_err(other)?;
        let channel = connector::channel(&endpoint, address, tls);
        let mut client = VoiceServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let answer = client.get_info(GetInfoRequest {}).await;
        answer.map(tonic::Response::into_inner).map_err(|status| match connector::cause(&status) {
            Some(_) => Failure::Other("no connection".to_owned()),
            None => other(status),
        })
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(Failure::Other("no answer in time".to_owned())))
}

/// Whether both sides believe each other: in TLS 1.3 the peer's opinion of us comes after our handshake is done, with its
/// first word.
async fn shake_hands(address: SocketAddr, tls: &WorkerTls) -> io::Result<()> {
    let mut connection = tls.connect(address).await?;
    match timeout(FIRST_WORD, connection.read_u8()).await {
        Ok(read) => read.map(|_| ()),
        Err(_) => Ok(()),
    }
}

fn finding(config: &Config, address: SocketAddr, asked: Result<GetInfoResponse, Failure>) -> Finding {
    let info = match asked {
        Ok(info) => info,
        Err(Failure::Tls(error)) => {
            let (found, cure) = trust::told(&config.workers.host, &error);
            return Finding::failed(WORKER, format!("{address}: {found}"), cure);
        }
        Err(Failure::Other(what)) => {
            let cure = "start the worker, check WORKER_URL's port and WORKER_LISTEN, and let the gateway through to it; \
                        a worker with TLS_CERT is for https:// alone";
            return Finding::failed(WORKER, format!("{address}: {what}"), cure);
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
