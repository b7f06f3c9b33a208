//! A service account: its file, and the assertion that it signs (RFC 7523).

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Uri};
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    sign::SigningKey,
};
use serde::Deserialize;
use serde_json::json;
use url::{Host, Url};

use crate::provider::endpoint::SettingsError;

/// What may be done with the tokens; both services ask for this one.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How long a token is asked for, in seconds: the longest that Google gives.
const LIFETIME_S: u64 = 3600;

/// Who asks.
#[derive(Clone)]
pub(super) struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    key: Arc<dyn SigningKey>,
    token_url: String,
    /// The same, to be asked.
    pub(super) token_uri: Uri,
    /// Who pays, where that is somebody else.
    pub(super) quota_project: Option<HeaderValue>,
}

/// As Google writes it.
#[derive(Deserialize)]
struct File {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    token_uri: String,
    quota_project_id: Option<String>,
}

impl ServiceAccount {
    /// Reads the file that Google gives out.
    ///
    /// # Errors
    /// When something is missing, or the key is no RSA key.
    pub(super) fn parse(text: &str) -> Result<Self, SettingsError> {
        const WRONG: SettingsError = SettingsError::ServiceAccount;
        let file: File = serde_json::from_str(text).map_err(|_| WRONG)?;
        let key = PrivateKeyDer::from_pem_slice(file.private_key.as_bytes()).map_err(|_| WRONG)?;
        let key = any_supported_type(&key).map_err(|_| WRONG)?;
        let url: Url = file.token_uri.parse().map_err(|_| WRONG)?;
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_here(&url));
        let signs = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).is_some();
        if !is_safe || !signs || file.client_email.is_empty() {
            return Err(WRONG);
        }
        let quota_project = file.quota_project_id.filter(|id| !id.is_empty());
        Ok(Self {
            email: file.client_email,
            key_id: file.private_key_id,
            key,
            token_uri: url.as_str().parse().map_err(|_| WRONG)?,
            token_url: file.token_uri,
            quota_project: quota_project.map(HeaderValue::try_from).transpose().map_err(|_| WRONG)?,
        })
    }

    /// What a token is given for, at `now`, in seconds of Unix time; none when it cannot be signed.
    pub(super) fn assertion(&self, now: u64) -> Option<String> {
        let mut head = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.key_id {
            head["kid"] = id.as_str().into();
        }
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_url,
            "iat": now,
            "exp": now + LIFETIME_S,
        });
        let signed = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?;
        let signature = signer.sign(signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// True for this machine alone.
fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount").field("token_host", &self.token_uri.host()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    /// A file as Google gives it out, with a key of the tests.
    pub(in crate::provider::google) fn file(token_uri: &str) -> Value {
        let key = STANDARD.encode(include_bytes!("fixtures/key.der"));
        json!({
            "type": "service_account",
            "project_id": "tests",
            "private_key_id": "0123456789abcdef",
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
            "client_email": "tandem@tests.iam.gserviceaccount.com",
            "client_id": "7",
            "token_uri": token_uri,
        })
    }

    const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

    #[test]
    fn an_assertion_is_what_openssl_signs() {
        let account = ServiceAccount::parse(&file(TOKEN_URI).to_string()).unwrap();
        assert_eq!(account.assertion(1_700_000_000).unwrap(), include_str!("fixtures/assertion.txt"));
        assert!(!format!("{account:?}").contains("BEGIN"));
    }

    #[test]
    fn files_that_cannot_work_are_refused() {
        let with = |name: &str, value: Value| {
            let mut file = file(TOKEN_URI);
            file[name] = value;
            ServiceAccount::parse(&file.to_string()).map(|_| ())
        };
        assert_eq!(with("quota_project_id", "payer".into()), Ok(()));
        assert_eq!(with("token_uri", "http://127.0.0.1:1/token".into()), Ok(()));
        for (name, value) in [
            ("client_email", Value::Null),
            ("client_email", "".into()),
            ("private_key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into()),
            ("private_key", "no key".into()),
            ("token_uri", "http://oauth2.example.com/token".into()),
            ("token_uri", "token".into()),
            ("quota_project_id", "a\nb".into()),
        ] {
            assert_eq!(with(name, value), Err(SettingsError::ServiceAccount), "{name}");
        }
        for text in ["", "{}", "{\"type\": \"authorized_user\", \"refresh_token\": \"x\"}"] {
            assert!(ServiceAccount::parse(text).is_err(), "{text}");
        }
    }
}
