//! How a receiver knows that an event is ours: `Tandem-Signature: t=<unix seconds>,v1=<hex>`, where the latter is
//! HMAC-SHA256 by `EVENTS_SECRET` over the seconds, a dot and the body. Pure.

use std::fmt::Write;

use crate::Sensitive;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The header's value for `body`, sent at `seconds` since the Unix epoch.
pub fn sign(secret: &Sensitive<String>, seconds: u64, body: &[u8]) -> String {
    let mut value = format!("t={seconds},v1=");
    // HMAC takes keys of any length, so this is always there.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) {
        mac.update(seconds.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            // Writing to a string does not fail.
            let _ = write!(value, "{byte:02x}");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_body_has_a_known_signature() {
        let secret = Sensitive::new("whsec_test".to_owned());
        let signature = sign(&secret, 1_800_000_000, br#"{"type":"call.ended"}"#);
        // Python: hmac.new(b"whsec_test", b'1800000000.{"type":"call.ended"}', "sha256").hexdigest()
        assert_eq!(signature, "t=1800000000,v1=1707e18b78eb679443830d6be3c28acc3cddf69ef0918ee0873123db2e7d001c");
        assert_ne!(signature, sign(&secret, 1_800_000_001, br#"{"type":"call.ended"}"#));
    }
}
