//! Connections to servers elsewhere: name, TCP and TLS under one limit, trusting what this system trusts.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_native_certs::CertificateResult;
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;

/// How long name, connection and TLS may take together.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A connection on which nothing is said is probed by TCP after so long, and as often.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Whoever does not acknowledge probes or what was sent for so long is gone.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A connection, encrypted when the address begins with `https`.
pub type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Why there is no connection.
pub type ConnectError = Box<dyn Error + Send + Sync>;

/// Makes connections; clones share what they trust.
#[derive(Debug, Clone)]
pub struct Connector(HttpsConnector<HttpConnector>);

impl Connector {
    /// For HTTP/1.1. Trusts what this system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are heeded), or, where the system has
    /// no list, Mozilla's.
    ///
    /// # Errors
    /// When TLS cannot be set up at all, or one of the variables is set and nothing that can be used is there.
    pub fn new() -> io::Result<Self> {
        Self::with_roots(system_roots()?)
    }

    /// The same for HTTP/2 alone, as gRPC has it: in TLS it is asked for by name (ALPN).
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn http2() -> io::Result<Self> {
        Self::http2_with_roots(system_roots()?)
    }

    /// The same for addresses without TLS: nobody is trusted, and nothing is read for it.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn http2_without_tls() -> io::Result<Self> {
        Self::http2_with_roots(RootCertStore::empty())
    }

    /// Trusts `roots` alone.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn with_roots(roots: RootCertStore) -> io::Result<Self> {
        let https = HttpsConnectorBuilder::new().with_tls_config(tls(roots)?).https_or_http().enable_http1();
        Ok(Self(https.wrap_connector(tcp())))
    }

    /// The same for HTTP/2 alone.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn http2_with_roots(roots: RootCertStore) -> io::Result<Self> {
        let mut tls = tls(roots)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(HttpsConnector::from((tcp(), tls))))
    }

    /// A connection to the host of `uri`.
    ///
    /// # Errors
    /// When there is none within [`CONNECT_LIMIT`], or no trust.
    pub async fn connect(&mut self, uri: Uri) -> Result<Stream, ConnectError> {
        match timeout(CONNECT_LIMIT, self.0.call(uri)).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("not within {} s", CONNECT_LIMIT.as_secs()).into()),
        }
    }
}

/// Where the operator says whom to trust.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Most lines in the log about what cannot be read.
const MAX_TOLD: usize = 10;

fn system_roots() -> io::Result<RootCertStore> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let set: Vec<_> = VARIABLES.into_iter().filter(is_set).collect();
    roots(rustls_native_certs::load_native_certs(), &set)
}

/// Those that were found; Mozilla's where none were, and none of the variables is `set`.
fn roots(found: CertificateResult, set: &[&str]) -> io::Result<RootCertStore> {
    for error in found.errors.iter().take(MAX_TOLD) {
        tracing::warn!(%error, "authorities that cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() && !set.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(io::Error::other(format!("no certificate that can be used in {}{why}", set.join(", "))));
    }
    if roots.is_empty() {
        tracing::debug!(unusable, "this system has no list of authorities; taking Mozilla's");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    } else {
        tracing::debug!(usable, unusable, "authorities");
    }
    Ok(roots)
}

fn tls(roots: RootCertStore) -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
}

/// For hyper's client, which asks for connections as it needs them.
impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut connector = self.clone();
        Box::pin(async move { connector.connect(uri).await })
    }
}

/// What an error comes down to.
pub fn root(error: &(dyn Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// The patience in seconds that an answer asks for.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use tokio::net::TcpListener;

    use super::*;

    fn found(certs: Vec<CertificateDer<'static>>) -> CertificateResult {
        let mut found = CertificateResult::default();
        found.certs = certs;
        found
    }

    #[test]
    fn whoever_says_whom_to_trust_is_not_given_others() {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.der().clone();
        let broken = CertificateDer::from(vec![0; 10]);
        for certs in [Vec::new(), vec![broken.clone()]] {
            let error = roots(found(certs.clone()), &["SSL_CERT_FILE"]).unwrap_err();
            assert_eq!(error.to_string(), "no certificate that can be used in SSL_CERT_FILE");
            assert_eq!(roots(found(certs), &[]).unwrap().len(), webpki_roots::TLS_SERVER_ROOTS.len());
        }
        for set in [&["SSL_CERT_DIR"][..], &[]] {
            assert_eq!(roots(found(vec![broken.clone(), own.clone()]), set).unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn whoever_is_silently_gone_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let stream = Connector::http2_without_tls().unwrap().connect(uri).await.unwrap();
        let MaybeHttpsStream::Http(tcp) = &stream else { panic!("no TLS was asked for") };
        let socket = socket2::SockRef::from(tcp.inner());
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
    }
}
