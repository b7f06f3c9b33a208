//! What a TLS error between the pair means, and what to do.

use rustls::{AlertDescription, CertificateError, Error};

/// What was found and what to do, for a worker that was looked for under the name `host`.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other errors are told in the words of TLS")]
pub(super) fn told(host: &str, error: &Error) -> (String, String) {
    match error {
        Error::InvalidCertificate(wrong) => theirs(host, wrong),
        Error::AlertReceived(alert) => ours(*alert),
        Error::InvalidMessage(_) => (
            "what answers does not speak TLS".to_owned(),
            "give the worker TLS_CERT, TLS_KEY and TLS_CA, or let WORKER_URL begin with http://".to_owned(),
        ),
        _ => (
            format!("TLS failed: {error}"),
            "the worker must be an audio-worker with TLS_CERT: TLS 1.3 and HTTP/2 are asked for".to_owned(),
        ),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other errors are told in the words of TLS")]
fn theirs(host: &str, wrong: &CertificateError) -> (String, String) {
    use CertificateError as E;

    match wrong {
        E::UnknownIssuer | E::BadSignature => (
            "its certificate is of an authority that is not in TLS_CA".to_owned(),
            "put the authority of the worker's certificate into the gateway's TLS_CA; both sides may use one authority"
                .to_owned(),
        ),
        E::NotValidForName | E::NotValidForNameContext { .. } => (
            format!("its certificate is not for {host}"),
            format!("make the worker's certificate with the alternative name {host}, or correct WORKER_URL"),
        ),
        E::Expired | E::ExpiredContext { .. } => (
            "its certificate has expired".to_owned(),
            "renew the worker's certificate (it reads the files again by itself), and compare the clocks".to_owned(),
        ),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            ("its certificate is not valid yet".to_owned(), "compare the clocks of both machines".to_owned())
        }
        _ => (
            format!("its certificate cannot be used: {wrong}"),
            "make it with an alternative name and, where it limits its usage, for TLS servers".to_owned(),
        ),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other errors are told in the words of TLS")]
fn ours(alert: AlertDescription) -> (String, String) {
    use AlertDescription as A;

    match alert {
        A::UnknownCA | A::DecryptError | A::BadCertificate => (
            "it does not know the authority of our certificate".to_owned(),
            "put the authority of the gateway's TLS_CERT into the worker's TLS_CA".to_owned(),
        ),
        A::CertificateExpired => (
            "our certificate has expired, it says".to_owned(),
            "renew the gateway's TLS_CERT (it is read again by itself), and compare the clocks".to_owned(),
        ),
        _ => (
            format!("it refuses our certificate: {alert:?}"),
            "where the gateway's TLS_CERT limits its usage, it must be for TLS clients".to_owned(),
        ),
    }
}
