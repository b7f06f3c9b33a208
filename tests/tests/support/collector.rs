//! An OTLP collector in the test's process: takes spans over gRPC and keeps them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::status::StatusCode,
};
use tests::stack::eventually;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// One span as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// `service.name`.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for a root.
    pub(crate) parent: String,
    pub(crate) kind: i32,
    pub(crate) is_error: bool,
    pub(crate) ns: u64,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        self.get(name).parse().unwrap_or_else(|_| panic!("{name} of {self:?}"))
    }
}

/// A running collector; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Mutex<Vec<Seen>>,
    /// The header `authorization` of every request.
    authorization: Mutex<Vec<String>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), kept: Arc::default() };
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        collector
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn spans(&self) -> Vec<Seen> {
        self.kept.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn authorization(&self) -> Vec<String> {
        self.kept.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans of this name, once there are `count`.
    pub(crate) async fn wait_for(&self, name: &str, count: usize) -> Vec<Seen> {
        let named = || -> Vec<_> { self.spans().into_iter().filter(|span| span.name == name).collect() };
        eventually(&format!("{count} spans {name}"), async || named().len() >= count).await;
        named()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let authorization = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.kept.authorization.lock().unwrap().push(authorization.unwrap_or_default());
        for resource in request.into_inner().resource_spans {
            let about = attributes(resource.resource.unwrap_or_default().attributes);
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| Seen {
                service: about.get("service.name").cloned().unwrap_or_default(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind,
                is_error: span.status.is_some_and(|status| status.code() == StatusCode::Error),
                ns: span.end_time_unix_nano - span.start_time_unix_nano,
                attributes: attributes(span.attributes),
            });
            self.kept.spans.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => panic!("{other:?} is no attribute of ours"),
    };
    pairs.into_iter().map(|pair| (pair.key, text(pair.value.and_then(|value| value.value)))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
