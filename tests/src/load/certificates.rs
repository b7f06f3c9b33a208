//! Certificates of an authority made for the occasion, with which a pair on this machine speaks mutual TLS.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Writes an authority and one certificate for both halves into `folder`; the settings that name them.
///
/// # Errors
/// When a file cannot be written.
pub fn issue_certificates(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
    fs::create_dir_all(folder)?;
    let files = [
        ("TLS_CERT", "CERTIFICATE", certificate.der().to_vec()),
        ("TLS_KEY", "PRIVATE KEY", key.serialize_der()),
        ("TLS_CA", "CERTIFICATE", authority.as_ref().der().to_vec()),
    ];
    files
        .into_iter()
        .map(|(setting, label, der)| {
            let path = folder.join(format!("{}.pem", setting.to_lowercase()));
            let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
            fs::write(&path, pem)?;
            Ok((setting.to_owned(), path.display().to_string()))
        })
        .collect()
}
