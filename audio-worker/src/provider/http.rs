//! The worker's one HTTP client, for what providers are asked.
//!
//! What it adds to hyper: a limit on connecting, small buffers, no redirects, no proxy that nobody configured. Requests
//! run on the runtime that the client was made for, whichever shard asks: its connections are shared and outlive a call.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use telemetry::https::{ConnectError, Connector, Stream, root};
use tokio::runtime::Handle;

use super::{Fault, ProviderError, fault, place::Places};

/// How long a connection is kept for the next request: longer than most turns of a conversation. A server that closes
/// it earlier costs the next request one more try.
const KEEP_IDLE: Duration = Duration::from_secs(60);
/// Connections kept for one host: HTTP/1.1 carries one request at a time on each.
const MAX_IDLE: usize = 64;
/// What is read at once, and so the largest piece of an answer.
const READ_BYTES: usize = 64 << 10;

/// The client; clones share its connections and what is known of the places.
#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
    connector: Connector,
    runtime: Handle,
    places: Places,
}

impl Client {
    /// A client on `runtime`, which has to outlive all calls. It trusts what this system trusts (`SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` are heeded), or, where the system has no list, Mozilla's.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub fn new(runtime: Handle) -> io::Result<Self> {
        Ok(Self::connecting(runtime, Connector::new()?))
    }

    fn connecting(runtime: Handle, connector: Connector) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(READ_BYTES)
            .build(connector.clone());
        Self { http, connector, runtime, places: Places::default() }
    }

    /// The places that are asked through it, whatever agents there are.
    pub const fn places(&self) -> &Places {
        &self.places
    }

    /// The runtime that requests run on.
    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// A connection of its own, on the runtime that asks, to the host of `uri` (`http` or `https`).
    pub(super) async fn connect(&self, uri: Uri) -> Result<Stream, ConnectError> {
        self.connector.clone().connect(uri).await
    }

    /// Sends `request` and waits for the head of its answer. To be called on the client's runtime alone: the connection
    /// stays where it was opened.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ProviderError> {
        let agent = HeaderValue::from_static(concat!("tandem/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        self.http.request(request).await.map_err(|error| {
            let what = if error.is_connect() { "no connection" } else { "no answer" };
            ProviderError { kind: Fault::Unreachable, detail: fault::printable(&format!("{what}: {}", root(&error))) }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use http_body_util::BodyExt;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::{RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
    use telemetry::https::CONNECT_LIMIT;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::Instant,
    };
    use tokio_rustls::TlsAcceptor;

    fn get(port: u16) -> Request<Full<Bytes>> {
        Request::get(format!("https://localhost:{port}/")).body(Full::default()).unwrap()
    }

    #[tokio::test]
    async fn only_a_trusted_certificate_is_taken() {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not trust us goes away.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await.unwrap();
                assert!(String::from_utf8_lossy(&request[..read]).contains("user-agent: tandem/"));
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine").await.unwrap();
            }
        });
        let refused = Client::new(Handle::current()).unwrap().send(get(port)).await.unwrap_err();
        assert_eq!(refused.kind, Fault::Unreachable);
        assert!(refused.detail.contains("certificate"), "{refused}");
        let trusting = Client::connecting(Handle::current(), Connector::with_roots(roots).unwrap());
        let answer = trusting.send(get(port)).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "mine");
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the limit is measured in virtual time")]
    async fn a_handshake_without_end_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let begun = Instant::now();
        let error = Client::new(Handle::current()).unwrap().send(get(port)).await.unwrap_err();
        assert_eq!((error.kind, error.detail.as_str()), (Fault::Unreachable, "no connection: not within 5 s"));
        assert!(begun.elapsed() >= CONNECT_LIMIT && begun.elapsed() < CONNECT_LIMIT * 2);
        drop(listener);
    }
}
