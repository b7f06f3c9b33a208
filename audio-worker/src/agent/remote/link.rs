//! How a remote agent's service is reached: an HTTP/2 connection per agent and shard, TLS where its address says so, and a
//! stream per call.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    thread::{self, ThreadId},
    time::Duration,
};

use http::{HeaderValue, header::AUTHORIZATION};
use proto::agent::v1::{ConverseRequest, ConverseResponse, agent_service_client::AgentServiceClient};
use telemetry::{
    Sensitive,
    traces::{TRACEPARENT, TraceContext},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Status, Streaming, metadata::AsciiMetadataValue, transport::Channel};
use url::Url;

use crate::provider::{
    ProviderError,
    grpc::{self, Way},
};

/// Messages that may wait to be sent: 5 s of frames of 20 ms, and what else there is to tell.
pub(super) const WAITING: usize = 288;

/// Largest message taken: 10 s of PCM at 48 kHz.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// How long an agent that was told the end may take to end its stream; what it says meanwhile is thrown away.
const FAREWELL: Duration = Duration::from_secs(2);

/// Wait before a service that did not take a call is asked once more.
const PAUSE: Duration = Duration::from_millis(250);

/// What an agent sends in one call.
pub(super) type Inbound = Streaming<ConverseResponse>;

/// A stream that is being opened.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Inbound, Status>> + Send>>;

/// The way to one agent's service.
pub(super) struct Link {
    way: Way,
    token: Option<AsciiMetadataValue>,
    /// A connection lives on the runtime that made it, and so does a call.
    channels: Mutex<HashMap<ThreadId, Channel>>,
}

impl Link {
    /// To the service at `url`, which knows us by `token`.
    ///
    /// # Errors
    /// What is wrong with the address or the token.
    pub(super) fn new(url: &Url, token: Option<&Sensitive<String>>, limit: Duration) -> Result<Self, String> {
        Self::over(Way::new(url, limit)?, token)
    }

    fn over(way: Way, token: Option<&Sensitive<String>>) -> Result<Self, String> {
        let token = token.map(|token| {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value =
                value.map_err(|_| "the token of the agent holds characters that no header has".to_owned())?;
            value.set_sensitive(true);
            AsciiMetadataValue::try_from(value.as_bytes()).map_err(|_| "the token of the agent is no text".to_owned())
        });
        Ok(Self { way, token: token.transpose()?, channels: Mutex::default() })
    }

    /// Opens a call's stream; what it is told goes into `told`. A second try is made a little later than the first.
    pub(super) fn open(
        &self,
        told: mpsc::Receiver<ConverseRequest>,
        trace: Option<TraceContext>,
        is_again: bool,
    ) -> Opening {
        let mut client = AgentServiceClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut request = Request::new(ReceiverStream::new(told));
        if let Some(token) = &self.token {
            request.metadata_mut().insert(AUTHORIZATION.as_str(), token.clone());
        }
        if let Some(traceparent) = trace.and_then(|trace| trace.to_string().parse().ok()) {
            request.metadata_mut().insert(TRACEPARENT, traceparent);
        }
        Box::pin(async move {
            if is_again {
                sleep(PAUSE).await;
            }
            Ok(client.converse(request).await?.into_inner())
        })
    }

    fn channel(&self) -> Channel {
        // Nothing under the lock panics.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.entry(thread::current().id()).or_insert_with(|| self.way.channel()).clone()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("place", self.way.place()).finish_non_exhaustive()
    }
}

/// Lets an agent that was told the end read it, and end its stream by itself.
pub(super) fn farewell(mut inbound: Inbound) {
    // It ends by itself, and holds nothing of the call.
    drop(tokio::spawn(timeout(FAREWELL, async move { while let Some(Ok(_)) = inbound.next().await {} })));
}

/// What a status means that ended a stream. Its message is the agent's and might quote a caller.
pub(super) fn fault(status: &Status) -> ProviderError {
    let kind = grpc::fault(status.code());
    let detail = match grpc::cause(status) {
        // A connection's, or our own.
        Some(cause) => format!("{:?}: {cause}", status.code()),
        None => format!("the agent's service said {:?}", status.code()),
    };
    ProviderError { kind, detail: detail.chars().filter(|c| !c.is_control()).take(200).collect() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::agent::v1::agent_service_server::{AgentService, AgentServiceServer};
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::{RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
    use tokio::{io::AsyncReadExt, net::TcpListener};
    use tokio_rustls::TlsAcceptor;
    use tonic::{
        Response,
        metadata::MetadataMap,
        transport::{Server, server::TcpIncoming},
    };

    use super::*;
    use crate::provider::Fault;

    const LIMIT: Duration = Duration::from_secs(5);
    const TRACEPARENT_TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// Refuses every call and tells with which metadata it came.
    struct Refusing(mpsc::Sender<MetadataMap>);

    #[tonic::async_trait]
    impl AgentService for Refusing {
        type ConverseStream = ReceiverStream<Result<ConverseResponse, Status>>;

        async fn converse(
            &self,
            request: Request<Streaming<ConverseRequest>>,
        ) -> Result<Response<Self::ConverseStream>, Status> {
            self.0.send(request.metadata().clone()).await.unwrap();
            Err(Status::permission_denied("words of a caller"))
        }
    }

    #[tokio::test]
    async fn a_call_shows_its_token_and_its_trace_and_a_refusal_is_told_by_its_code_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (seen, mut metadata) = mpsc::channel(1);
        let service = AgentServiceServer::new(Refusing(seen));
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        let serving = tokio::spawn(serving);
        let link = Link::new(&url, Some(&Sensitive::new("t0ken".to_owned())), LIMIT).unwrap();
        assert!(!format!("{link:?}").contains("t0ken"));
        let refused = link.open(mpsc::channel(1).1, TRACEPARENT_TEXT.parse().ok(), false).await.unwrap_err();
        let told = fault(&refused);
        assert_eq!((told.kind, told.detail.as_str()), (Fault::Denied, "the agent's service said PermissionDenied"));
        let metadata = metadata.recv().await.unwrap();
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer t0ken");
        assert_eq!(metadata.get("traceparent").unwrap(), TRACEPARENT_TEXT);
        serving.abort();
    }

    #[tokio::test]
    async fn nobody_there_is_told_as_unreachable() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", gone.local_addr().unwrap()).parse().unwrap();
        drop(gone);
        let link = Link::new(&url, None, LIMIT).unwrap();
        let refused = link.open(mpsc::channel(1).1, None, false).await.unwrap_err();
        let told = fault(&refused);
        assert!(told.kind == Fault::Unreachable && told.detail.contains("refused"), "{told:?}");
    }

    #[tokio::test]
    async fn https_is_tls_that_asks_for_http_2_and_trusts_whom_it_should() {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url: Url = format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let server = tokio::spawn(async move {
            // One that is not trusted, and one that is.
            let refused = acceptor.accept(listener.accept().await.unwrap().0).await;
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            (refused.is_err(), protocol, preface)
        });
        let strange = telemetry::https::Connector::http2_with_roots(RootCertStore::empty()).unwrap();
        let link = Link::over(Way::through(strange, &url, LIMIT).unwrap(), None).unwrap();
        let told = fault(&link.open(mpsc::channel(1).1, None, false).await.unwrap_err());
        assert_eq!(told.kind, Fault::Unreachable, "{told:?}");
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let trusting = telemetry::https::Connector::http2_with_roots(roots).unwrap();
        let link = Link::over(Way::through(trusting, &url, LIMIT).unwrap(), None).unwrap();
        let opening = tokio::spawn(link.open(mpsc::channel(1).1, None, false));
        let (refused, protocol, preface) = server.await.unwrap();
        assert!(refused && protocol.as_deref() == Some(b"h2"), "{protocol:?}");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        opening.abort();
    }

    #[tokio::test]
    async fn a_token_that_no_header_holds_is_told() {
        let url = "http://127.0.0.1:1".parse().unwrap();
        let wrong = Link::new(&url, Some(&Sensitive::new("two\nlines".to_owned())), LIMIT).unwrap_err();
        assert!(wrong.contains("token") && !wrong.contains("lines"), "{wrong}");
    }
}
