//! A collector of traces that counts spans and keeps none: what the pair sends must go somewhere, at a price that is not its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// A running sink; it ends when dropped.
#[derive(Debug)]
pub struct TraceSink {
    address: SocketAddr,
    spans: Arc<AtomicU64>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

#[derive(Debug)]
struct Counting(Arc<AtomicU64>);

impl TraceSink {
    /// On a free port of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, spans) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let service = TraceServiceServer::new(Counting(Arc::clone(&spans)));
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        Ok(Self { address, spans, serving: tokio::spawn(serving) })
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Spans that came so far.
    pub fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }
}

impl Drop for TraceSink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Counting {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans: usize = resources.iter().flat_map(|of| &of.scope_spans).map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(spans as u64, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
