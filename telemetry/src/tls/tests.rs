//! Files that are replaced, are broken, or do not belong together.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::settings::Values;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tandem-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn files(&self) -> Files {
        Files { certificate: self.0.join("tls.crt"), key: self.0.join("tls.key"), authority: self.0.join("ca.crt") }
    }

    /// A new authority, certificate and key.
    fn renew(&self) -> Files {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["worker".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let files = self.files();
        fs::write(&files.certificate, pem("CERTIFICATE", certificate.der())).unwrap();
        fs::write(&files.key, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        fs::write(&files.authority, pem("CERTIFICATE", authority.as_ref().der())).unwrap();
        files
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

#[test]
fn only_what_changed_and_can_be_used_is_taken_over() {
    let folder = Folder::new();
    let files = folder.renew();
    let identity = Identity::open(files.clone()).unwrap();
    let first = identity.current();
    assert!(!identity.reload(), "nothing changed");
    folder.renew();
    assert!(identity.reload() && !identity.reload(), "replaced once");
    let second = identity.current();
    assert_eq!((first.generation, second.generation), (0, 1));
    assert!(second.expiry.certificate.is_some() && second.expiry.authority.is_some());
    assert!(!Arc::ptr_eq(&first.server, &second.server) && !Arc::ptr_eq(&first.client, &second.client));
    for (file, broken) in [(&files.certificate, "nonsense"), (&files.key, ""), (&files.authority, "-----BEGIN")] {
        let (good, before) = (fs::read(file).unwrap(), identity.current());
        fs::write(file, broken).unwrap();
        assert!(!identity.reload(), "{}", file.display());
        assert!(Arc::ptr_eq(&identity.current().server, &before.server), "what was in use stays");
        fs::write(file, good).unwrap();
        assert!(identity.reload(), "it is good again");
        assert_eq!(identity.current().client.alpn_protocols, [ALPN]);
    }
}

#[test]
fn what_is_wrong_is_said_without_what_is_in_the_file() {
    let folder = Folder::new();
    let files = folder.renew();
    let certificate = fs::read(&files.certificate).unwrap();
    let other = Folder::new();
    let other_key = fs::read(other.renew().key).unwrap();
    let secret = "-----BEGIN PRIVATE KEY----- s3cret\ns3cret\n-----END PRIVATE KEY-----\n";
    let garbage = "-----BEGIN PRIVATE KEY-----\ns3crets3cret\n-----END PRIVATE KEY-----\n";
    let cases: [(&Path, &[u8], &str); 8] = [
        (&files.certificate, b"", "TLS_CERT (x/tls.crt): holds no certificate (-----BEGIN CERTIFICATE-----)"),
        (&files.certificate, &certificate[..200], "TLS_CERT (x/tls.crt): is no PEM file, or a damaged one"),
        (&files.key, &certificate, "TLS_KEY (x/tls.key): holds no private key that is not encrypted"),
        (&files.key, &other_key, "TLS_KEY (x/tls.key): is not the key of the certificate in TLS_CERT"),
        (&files.key, secret.as_bytes(), "TLS_KEY (x/tls.key): is no PEM file, or a damaged one"),
        (&files.key, garbage.as_bytes(), "TLS_KEY (x/tls.key): cannot be used: "),
        (&files.authority, b"s3cret", "TLS_CA (x/ca.crt): holds no certificate"),
        (&files.authority, &[b' '; (1 << 20) + 1], "TLS_CA (x/ca.crt): is larger than 1 MiB"),
    ];
    for (file, contents, expected) in cases {
        let good = fs::read(file).unwrap();
        fs::write(file, contents).unwrap();
        let told = Identity::open(files.clone()).unwrap_err().to_string();
        let shown = told.replace(&folder.0.display().to_string(), "x");
        assert!(shown.starts_with(expected) && !shown.contains("s3cret"), "{shown}, not {expected}");
        fs::write(file, good).unwrap();
    }
    fs::remove_file(&files.key).unwrap();
    let told = Identity::open(files).unwrap_err().to_string();
    assert!(told.starts_with("TLS_KEY") && told.contains("cannot be read"), "{told}");
}

#[test]
fn all_three_settings_or_none() {
    let folder = Folder::new();
    let files = folder.renew();
    let read = |given: &[(&str, &Path)]| {
        let values = Values::from_lookup(&[TLS_CERT, TLS_KEY, TLS_CA], |name| {
            given.iter().find(|(n, _)| *n == name).map(|(_, path)| path.display().to_string())
        });
        let mut reader = Reader::new(&values);
        let identity = Identity::read(&mut reader);
        let mistakes = reader.finish(Some(())).err().map_or_else(Vec::new, |mistakes| mistakes.0);
        (identity.is_some(), mistakes.into_iter().map(|mistake| mistake.name).collect::<Vec<_>>())
    };
    let (certificate, key, authority) =
        (("TLS_CERT", &*files.certificate), ("TLS_KEY", &*files.key), ("TLS_CA", &*files.authority));
    assert_eq!(read(&[]), (false, vec![]));
    assert_eq!(read(&[certificate, key, authority]), (true, vec![]));
    assert_eq!(read(&[key]), (false, vec!["TLS_CERT", "TLS_CA"]));
    assert_eq!(read(&[certificate, key]), (false, vec!["TLS_CA"]));
    assert_eq!(read(&[certificate, ("TLS_KEY", &files.certificate), authority]), (false, vec!["TLS_KEY"]));
}

#[tokio::test]
async fn the_files_are_looked_at_again_and_again() {
    let folder = Folder::new();
    let identity = Identity::open(folder.renew()).unwrap();
    let looking = identity.clone();
    let looking = tokio::spawn(async move { looking.follow(Duration::from_millis(5)).await });
    for generation in 1..=2 {
        folder.renew();
        let seen = async {
            // Files of two generations may be met half way: those are left alone, and count for nothing.
            while identity.current().generation < generation {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap();
    }
    looking.abort();
}
