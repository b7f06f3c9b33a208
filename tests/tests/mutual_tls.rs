//! The pair in TLS: only halves that can show who they are work together, and certificates are replaced under live calls.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    fs,
    io::{self, ErrorKind},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gateway::{
    Config,
    config::SETTINGS,
    doctor::{Outcome, examine},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    AlertDescription, ClientConfig, Error, RootCertStore,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName},
};
use telemetry::settings::Values;
use tests::{
    line::{Line, is_fallback},
    stack::{AUTH_TOKEN, Stack, StackPlan, eventually},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_call_goes_through() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let stack = folder.pair(&authority.gateway(), &authority.worker(), &authority).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    line.hang_up().await;
    assert_eq!(failed_handshakes(&stack).await, 0.0);
    assert_eq!(gateway_failures(&stack).await, 0.0);
    // What rcgen gives where nothing is said: 4096-01-01.
    for (metrics, side) in [(stack.gateway_metrics().await, "gateway"), (stack.worker_metrics().await, "worker")] {
        for of in ["certificate", "authority"] {
            let name = format!("tandem_{side}_certificate_not_after_timestamp_seconds{{of=\"{of}\"}}");
            assert_eq!(metrics.of(&name), Some(67_090_118_400.0), "{name}");
        }
    }
    stack.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_not_known_is_refused_and_the_caller_hears_the_fallback() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for gateway in [stranger.gateway(), authority.issue("gateway", Validity::Over)] {
        let folder = Folder::new();
        let stack = folder.pair(&gateway, &authority.worker(), &authority).await;
        assert_fallback(&stack).await;
        eventually("it is counted", async || failed_handshakes(&stack).await >= 1.0).await;
        assert!(gateway_failures(&stack).await >= 1.0);
        stack.stop().await;
    }
    // Neither is one without TLS, nor one without a certificate.
    let folder = Folder::new();
    let stack = Stack::start(folder.worker(StackPlan::default(), &authority.worker(), &authority)).await;
    assert_fallback(&stack).await;
    eventually("it is counted", async || failed_handshakes(&stack).await >= 1.0).await;
    let before = failed_handshakes(&stack).await;
    assert_eq!(authority.visit(stack.worker_address(), None).await, Err(AlertDescription::CertificateRequired));
    eventually("it is counted", async || failed_handshakes(&stack).await > before).await;
    let known = authority.gateway();
    assert_eq!(authority.visit(stack.worker_address(), Some(&known)).await, Ok(()));
    stack.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_another_gets_no_call_and_the_doctor_says_why() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cases = [
        (authority.issue("worker.example", Validity::Now), "its certificate is not for 127.0.0.1", "alternative name"),
        (stranger.worker(), "of an authority that is not in TLS_CA", "gateway's TLS_CA"),
        (authority.issue("127.0.0.1", Validity::Over), "its certificate has expired", "renew the worker's"),
        (authority.issue("127.0.0.1", Validity::NotYet), "its certificate is not valid yet", "clocks"),
    ];
    for (worker, found, cure) in cases {
        let folder = Folder::new();
        let stack = folder.pair(&authority.gateway(), &worker, &authority).await;
        assert_fallback(&stack).await;
        assert!(gateway_failures(&stack).await >= 1.0);
        assert_doctor(&stack, &folder, found, cure).await;
        stack.stop().await;
    }
    let folder = Folder::new();
    let stack = Stack::start(folder.gateway(StackPlan::default(), &authority.gateway(), &authority)).await;
    assert_fallback(&stack).await;
    assert_doctor(&stack, &folder, "does not speak TLS", "http://").await;
    stack.stop().await;
}

#[tokio::test]
async fn the_doctor_says_what_the_worker_thinks_of_the_gateway() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cases = [
        (authority.gateway(), "1 of 500 calls", ""),
        (stranger.gateway(), "does not know the authority of our certificate", "worker's TLS_CA"),
        (authority.issue("gateway", Validity::Over), "our certificate has expired", "renew the gateway's"),
    ];
    let folder = Folder::new();
    let stack = folder.pair(&authority.gateway(), &authority.worker(), &authority).await;
    let mut line = Line::dial(&stack.call_plan()).await;
    line.assert_echoes().await;
    for (gateway, found, cure) in cases {
        folder.write("gateway", &gateway, &authority);
        assert_doctor(&stack, &folder, found, cure).await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn certificates_are_replaced_under_a_live_call() {
    let (old, new, folder) = (Authority::new(), Authority::new(), Folder::new());
    let stack = folder.pair(&old.gateway(), &old.worker(), &old).await;
    let mut live = Line::dial(&stack.call_plan()).await;
    live.assert_echoes().await;
    let of_old = old.gateway();
    assert_eq!(old.visit(stack.worker_address(), Some(&of_old)).await, Ok(()));

    folder.write("gateway", &new.gateway(), &new);
    folder.write("worker", &new.worker(), &new);
    stack.reload_worker_certificates();
    stack.reload_gateway_certificates();
    live.assert_echoes().await;
    let mut next = Line::dial(&stack.call_plan()).await;
    next.assert_echoes().await;
    live.assert_echoes().await;
    // The old authority counts for nothing any more, on either side.
    assert!(old.visit(stack.worker_address(), Some(&of_old)).await.is_err());
    let refused = new.visit(stack.worker_address(), Some(&of_old)).await.unwrap_err();
    // Both authorities have one name, as after a renewal: then it is the signature that does not fit.
    assert!(matches!(refused, AlertDescription::UnknownCA | AlertDescription::DecryptError), "{refused:?}");
    assert_eq!(new.visit(stack.worker_address(), Some(&new.gateway())).await, Ok(()));

    // What is broken is not taken over.
    fs::write(folder.file("gateway", "key"), "nonsense").unwrap();
    fs::write(folder.file("worker", "ca"), "").unwrap();
    let before = stack.certificates_replaced();
    stack.reload_worker_certificates();
    stack.reload_gateway_certificates();
    assert_eq!(stack.certificates_replaced(), before);
    assert_eq!(new.visit(stack.worker_address(), Some(&new.gateway())).await, Ok(()));
    let mut third = Line::dial(&stack.call_plan()).await;
    for line in [&mut live, &mut next, &mut third] {
        line.assert_echoes().await;
    }
    stack.stop().await;
}

#[tokio::test]
async fn a_certificate_that_was_replaced_is_shown_for_the_next_call() {
    let (authority, stranger, folder) = (Authority::new(), Authority::new(), Folder::new());
    let stack = folder.pair(&authority.gateway(), &authority.worker(), &authority).await;
    let mut live = Line::dial(&stack.call_plan()).await;
    live.assert_echoes().await;
    folder.write("gateway", &stranger.gateway(), &authority);
    stack.reload_gateway_certificates();
    // The connection that the live call has would take it.
    assert_fallback(&stack).await;
    live.assert_echoes().await;
    folder.write("gateway", &authority.gateway(), &authority);
    stack.reload_gateway_certificates();
    Line::dial(&stack.call_plan()).await.assert_echoes().await;
    live.assert_echoes().await;
    stack.stop().await;
}

#[tokio::test]
async fn an_authority_is_replaced_without_a_refusal_and_both_sides_look_by_themselves() {
    let (old, new, folder) = (Authority::new(), Authority::new(), Folder::new());
    let stack = folder.pair(&old.gateway(), &old.worker(), &old).await;
    let both = [old.der(), new.der()].map(|der| pem("CERTIFICATE", der)).concat();
    for side in ["gateway", "worker"] {
        fs::write(folder.file(side, "ca"), &both).unwrap();
    }
    eventually("both looked", async || {
        let (gateway, worker) = stack.certificates_replaced();
        gateway > 0 && worker > 0
    })
    .await;
    for gateway in [old.gateway(), new.gateway()] {
        assert_eq!(old.visit(stack.worker_address(), Some(&gateway)).await, Ok(()));
    }
    // The worker first; the gateway would do as well.
    folder.write("worker", &new.worker(), &new);
    fs::write(folder.file("worker", "ca"), &both).unwrap();
    stack.reload_worker_certificates();
    Line::dial(&stack.call_plan()).await.assert_echoes().await;
    folder.write("gateway", &new.gateway(), &new);
    stack.reload_gateway_certificates();
    Line::dial(&stack.call_plan()).await.assert_echoes().await;
    assert_eq!(failed_handshakes(&stack).await, 0.0);
    stack.stop().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_keeps_nobody_waiting() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let stack = folder.pair(&authority.gateway(), &authority.worker(), &authority).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(stack.worker_address()).await.unwrap());
    }
    let mut line = timeout(Duration::from_secs(4), Line::dial(&stack.call_plan())).await.unwrap();
    timeout(Duration::from_secs(4), line.assert_echoes()).await.unwrap();
    assert_eq!(failed_handshakes(&stack).await, 0.0, "the silent ones are still waited for");
    for mut peer in silent {
        // Their time is over: they are told, or not, and left.
        let left = timeout(PATIENCE, peer.read_to_end(&mut Vec::new())).await.unwrap();
        assert!(left.is_ok() || left.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    eventually("they are counted", async || failed_handshakes(&stack).await == 200.0).await;
    line.assert_echoes().await;
    stack.stop().await;
}

async fn assert_fallback(stack: &Stack) {
    let mut line = Line::dial(&stack.call_plan()).await;
    assert_eq!(line.close_code().await, Some(1011));
    assert!(is_fallback(&line.after().await));
}

async fn failed_handshakes(stack: &Stack) -> f64 {
    stack.worker_metrics().await.of("tandem_worker_handshakes_failed_total").unwrap()
}

async fn gateway_failures(stack: &Stack) -> f64 {
    stack.gateway_metrics().await.of("tandem_gateway_worker_handshakes_failed_total").unwrap()
}

/// What the doctor says of the worker, with the gateway's files in `folder`.
async fn assert_doctor(stack: &Stack, folder: &Folder, found: &str, cure: &str) {
    let mut given = vec![
        ("TWILIO_AUTH_TOKEN", AUTH_TOKEN.to_owned()),
        ("TWILIO_VOICE_WEBHOOK_URL", format!("http://{}", stack.gateway_address())),
        ("WORKER_URL", format!("https://{}", stack.worker_address())),
    ];
    given.extend(folder.settings("gateway"));
    let values =
        Values::from_lookup(&SETTINGS, |name| given.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()));
    let report = timeout(PATIENCE, examine(Config::read(&values))).await.unwrap().unwrap();
    let worker = report.findings().iter().find(|finding| finding.check == "worker").unwrap();
    assert!(worker.found.contains(found), "{worker:?}, not {found}");
    assert!(worker.cure.clone().unwrap_or_default().contains(cure), "{worker:?}, not {cure}");
    assert_eq!(worker.outcome == Outcome::Ok, cure.is_empty(), "{worker:?}");
}

/// An authority of its own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in DER.
struct Issued {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Validity {
    Now,
    Over,
    NotYet,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn gateway(&self) -> Issued {
        self.issue("gateway", Validity::Now)
    }

    fn worker(&self) -> Issued {
        self.issue("127.0.0.1", Validity::Now)
    }

    fn issue(&self, name: &str, validity: Validity) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        match validity {
            Validity::Now => {}
            Validity::Over => params.not_after = date_time_ymd(2020, 1, 1),
            Validity::NotYet => params.not_before = date_time_ymd(3000, 1, 1),
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.der().to_vec(), key: key.serialize_der() }
    }

    fn der(&self) -> &[u8] {
        self.0.as_ref().der()
    }

    /// What a worker that is believed for this authority's sake thinks of us: its word, or its alert.
    async fn visit(&self, worker: SocketAddr, own: Option<&Issued>) -> Result<(), AlertDescription> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der().to_vec().into()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            Some(Issued { certificate, key }) => {
                let key = PrivateKeyDer::Pkcs8(key.clone().into());
                config.with_client_auth_cert(vec![certificate.clone().into()], key).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let asked = async {
            let stream = TcpStream::connect(worker).await?;
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            // The beginning of HTTP/2 (RFC 9113, section 3.4), so that the worker has something to answer.
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
            stream.read_u8().await.map(|_| ())
        };
        timeout(PATIENCE, asked).await.unwrap().map_err(|error| alert(&error))
    }
}

/// The alert that a connection ended with; one of our own when it is we who do not believe.
fn alert(error: &io::Error) -> AlertDescription {
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => *alert,
        Some(Error::InvalidCertificate(_)) => AlertDescription::BadCertificate,
        _ => panic!("neither believed nor refused: {error}"),
    }
}

/// The files of a gateway and a worker; gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tandem-mutual-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    async fn pair(&self, gateway: &Issued, worker: &Issued, authority: &Authority) -> Stack {
        let plan = self.gateway(StackPlan::default(), gateway, authority);
        Stack::start(self.worker(plan, worker, authority)).await
    }

    fn gateway(&self, plan: StackPlan, issued: &Issued, authority: &Authority) -> StackPlan {
        self.write("gateway", issued, authority);
        self.settings("gateway").into_iter().fold(plan, |plan, (name, value)| plan.gateway(name, &value))
    }

    fn worker(&self, plan: StackPlan, issued: &Issued, authority: &Authority) -> StackPlan {
        self.write("worker", issued, authority);
        self.settings("worker").into_iter().fold(plan, |plan, (name, value)| plan.worker(name, &value))
    }

    fn settings(&self, side: &str) -> [(&'static str, String); 3] {
        [("TLS_CERT", "certificate"), ("TLS_KEY", "key"), ("TLS_CA", "ca")]
            .map(|(name, what)| (name, self.file(side, what).display().to_string()))
    }

    fn write(&self, side: &str, Issued { certificate, key }: &Issued, authority: &Authority) {
        fs::write(self.file(side, "certificate"), pem("CERTIFICATE", certificate)).unwrap();
        fs::write(self.file(side, "key"), pem("PRIVATE KEY", key)).unwrap();
        fs::write(self.file(side, "ca"), pem("CERTIFICATE", authority.der())).unwrap();
    }

    fn file(&self, side: &str, what: &str) -> PathBuf {
        self.0.join(format!("{side}-{what}.pem"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
