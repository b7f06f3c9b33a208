//! Mutual TLS between the pair: a certificate, its key and an authority from files, read again when they change.
//!
//! Each side shows its certificate and takes only peers whose certificate the authority signed. TLS 1.3 and HTTP/2
//! alone, and nothing is resumed: every connection is checked in full against what the files said last.

use std::{
    fmt,
    fs::File,
    hash::{DefaultHasher, Hash, Hasher as _},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};

use crate::settings::{Reader, Setting};

mod expiry;

/// Our certificate.
pub const TLS_CERT: Setting = Setting {
    name: "TLS_CERT",
    default: None,
    help: "PEM file: own certificate, intermediate ones after it; with it only TLS is spoken between the pair",
};
/// Its key.
pub const TLS_KEY: Setting = Setting { name: "TLS_KEY", default: None, help: "PEM file: the key of TLS_CERT" };
/// Whom we believe.
pub const TLS_CA: Setting =
    Setting { name: "TLS_CA", default: None, help: "PEM file: the authority that the other side's certificate is of" };

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Largest file taken; a chain has some 10 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// HTTP/2, as gRPC has it (RFC 9113, section 3.2).
const ALPN: &[u8] = b"h2";

/// The three files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Own certificate, intermediate ones after it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities of the other side's certificate.
    pub authority: PathBuf,
}

/// Who we are and whom we believe, as of the last look at the files; clones are the same.
#[derive(Clone)]
pub struct Identity(Arc<Shared>);

struct Shared {
    files: Files,
    current: Mutex<Current>,
    /// Of what the files held at the last look, usable or not. Locked for a whole look, so that they follow one another.
    fingerprint: Mutex<u64>,
}

/// What a connection is made with that begins now.
#[derive(Clone)]
pub struct Current {
    /// For those that come.
    pub server: Arc<ServerConfig>,
    /// For those that we open.
    pub client: Arc<ClientConfig>,
    /// How often the files were replaced before.
    pub generation: u64,
    /// When they are of no use any more.
    pub expiry: Expiry,
}

/// Last seconds, since the Unix epoch; `None` where a certificate does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Of our certificate, or of an intermediate one that comes before.
    pub certificate: Option<u64>,
    /// Of the authority that we believe for the longest.
    pub authority: Option<u64>,
}

/// Why the files cannot be used. It names the file and shows nothing of what is in it.
#[derive(Debug, thiserror::Error)]
#[error("{setting} ({}): {what}", file.display())]
pub struct Error {
    /// The setting that names the file.
    pub setting: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub what: Unusable,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// No file, no right to read it.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// Larger than any that is needed.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// Neither text nor whole.
    #[error("is no PEM file, or a damaged one")]
    NotPem,
    /// Nothing in it.
    #[error("holds no certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// Nothing in it.
    #[error("holds no private key that is not encrypted (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// Of another certificate.
    #[error("is not the key of the certificate in TLS_CERT")]
    WrongKey,
    /// What TLS says.
    #[error("cannot be used: {0}")]
    Refused(String),
}

impl Identity {
    /// What the settings [`TLS_CERT`], [`TLS_KEY`] and [`TLS_CA`] say; `None` when none is given, or with a mistake.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let given = [TLS_CERT, TLS_KEY, TLS_CA].map(|setting| (setting.name, reader.text(setting.name)));
        let [(_, Some(certificate)), (_, Some(key)), (_, Some(authority))] = given else {
            if given.iter().any(|(_, path)| path.is_some()) {
                for (name, _) in given.iter().filter(|(_, path)| path.is_none()) {
                    reader.mistake(name, "is needed too: TLS_CERT, TLS_KEY and TLS_CA are set together or not at all");
                }
            }
            return None;
        };
        let [certificate, key, authority] = [certificate, key, authority].map(PathBuf::from);
        match Self::open(Files { certificate, key, authority }) {
            Ok(identity) => Some(identity),
            Err(Error { setting, file, what }) => {
                reader.mistake(setting, format!("{} {what}", file.display()));
                None
            }
        }
    }

    /// What `files` hold; later looks read them again.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(files: Files) -> Result<Self, Error> {
        let pems = files.read()?;
        let current = pems.prepare(&files, 0)?;
        let fingerprint = Mutex::new(fingerprint(&Ok(pems)));
        Ok(Self(Arc::new(Shared { files, current: Mutex::new(current), fingerprint })))
    }

    /// What a connection is made with that begins now.
    pub fn current(&self) -> Current {
        lock(&self.0.current).clone()
    }

    /// Looks at the files again. True when they changed and what they hold is in use now, for connections that begin from
    /// now on; files that cannot be used leave what was, and are logged once.
    pub fn reload(&self) -> bool {
        let Shared { files, current, fingerprint: last } = &*self.0;
        let mut last = lock(last);
        let pems = files.read();
        let seen = fingerprint(&pems);
        if std::mem::replace(&mut *last, seen) == seen {
            return false;
        }
        let generation = lock(current).generation + 1;
        match pems.and_then(|pems| pems.prepare(files, generation)) {
            Ok(new) => {
                *lock(current) = new;
                tracing::info!(file = %files.certificate.display(), generation, "the certificates were replaced");
                true
            }
            Err(error) => {
                tracing::error!(%error, "new certificates cannot be used; those that are in use stay");
                false
            }
        }
    }

    /// Looks at the files for ever, once a `period`.
    pub async fn follow(&self, period: Duration) {
        loop {
            tokio::time::sleep(period).await;
            let identity = self.clone();
            // Files may be on a slow disk, and calls' listeners on this runtime.
            let _ = tokio::task::spawn_blocking(move || identity.reload()).await;
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.files).finish()
    }
}

/// What the files hold.
#[derive(Hash)]
struct Pems {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

impl Files {
    fn read(&self) -> Result<Pems, Error> {
        let read = |setting: Setting, file: &Path| contents(file).map_err(|what| error(setting, file, what));
        Ok(Pems {
            certificate: read(TLS_CERT, &self.certificate)?,
            key: read(TLS_KEY, &self.key)?,
            authority: read(TLS_CA, &self.authority)?,
        })
    }
}

impl Pems {
    fn prepare(&self, files: &Files, generation: u64) -> Result<Current, Error> {
        let of_certificate = |what| error(TLS_CERT, &files.certificate, what);
        let of_key = |what| error(TLS_KEY, &files.key, what);
        let of_authority = |what| error(TLS_CA, &files.authority, what);
        let chain = certificates(&self.certificate).map_err(of_certificate)?;
        // Only whether there is one: the error's text may show a line of the file.
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            of_key(if matches!(error, pem::Error::NoItemsFound) { Unusable::NoKey } else { Unusable::NotPem })
        })?;
        let authorities = certificates(&self.authority).map_err(of_authority)?;
        let expiry = Expiry {
            certificate: chain.iter().filter_map(|certificate| expiry::not_after(certificate)).min(),
            authority: authorities.iter().filter_map(|authority| expiry::not_after(authority)).max(),
        };
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| of_authority(refused(&error)))?;
        }
        let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
        let of_pair = |failure: rustls::Error| {
            if matches!(failure, rustls::Error::InconsistentKeys(_)) {
                of_key(Unusable::WrongKey)
            } else if matches!(failure, rustls::Error::InvalidCertificate(_)) {
                of_certificate(refused(&failure))
            } else {
                of_key(refused(&failure))
            }
        };
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|failure| of_authority(Unusable::Refused(failure.to_string())))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(of_pair)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(of_pair)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(of_pair)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(of_pair)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Current { server: Arc::new(server), client: Arc::new(client), generation, expiry })
    }
}

fn contents(file: &Path) -> Result<Vec<u8>, Unusable> {
    let mut contents = Vec::new();
    let file = File::open(file).map_err(Unusable::Unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut contents).map_err(Unusable::Unreadable)?;
    if contents.len() as u64 > MAX_FILE_BYTES {
        return Err(Unusable::TooLarge);
    }
    Ok(contents)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| Unusable::NotPem)?;
    if found.is_empty() { Err(Unusable::NoCertificate) } else { Ok(found) }
}

fn fingerprint(pems: &Result<Pems, Error>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match pems {
        Ok(pems) => pems.hash(&mut hasher),
        Err(error) => error.to_string().hash(&mut hasher),
    }
    hasher.finish()
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under either lock panics.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn error(setting: Setting, file: &Path, what: Unusable) -> Error {
    Error { setting: setting.name, file: file.to_owned(), what }
}

fn refused(failure: &rustls::Error) -> Unusable {
    Unusable::Refused(failure.to_string())
}

#[cfg(test)]
mod tests;
