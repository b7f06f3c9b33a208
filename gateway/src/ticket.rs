//! The one-time ticket: proof that a media stream was asked for by a webhook that we answered.
//!
//! `base64url(kind, expiry, nonce, HMAC-SHA256(key, kind ‖ expiry ‖ nonce ‖ CallSid))`. Pure: key, time and
//! nonce are arguments; that a nonce is spent once is for the caller to remember.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use telemetry::Sensitive;

/// Name of the `<Parameter>` that carries the ticket.
pub const PARAMETER: &str = "ticket";

/// How long a ticket is good: Twilio connects within a second or so of the TwiML.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// Random part of a ticket.
pub type Nonce = [u8; 16];

/// Whose stream a ticket is for: its first byte, which is signed like the rest, so that neither passes for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A phone call's, announced by a webhook.
    Phone = 1,
    /// A browser's, announced by the calls API.
    Browser = 2,
}

const SIGNED_BYTES: usize = 1 + 8 + 16;

/// The key that mints and checks tickets; all replicas need the same.
#[derive(Debug, Clone)]
pub struct Key(Sensitive<[u8; 32]>);

/// Why a ticket is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// None came.
    #[error("no ticket")]
    Missing,
    /// Not a ticket of ours, or not of this call.
    #[error("not a ticket for this call")]
    Forged,
    /// Too old.
    #[error("ticket expired")]
    Expired,
    /// Shown before.
    #[error("ticket used before")]
    Reused,
}

/// A good ticket, to be remembered until it expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Good {
    /// Spent now.
    pub nonce: Nonce,
    /// Seconds since the Unix epoch at which it may be forgotten.
    pub expiry: u64,
}

impl Key {
    /// A key from a secret of any length; `purpose` keeps keys from one secret apart.
    pub fn derive(secret: &Sensitive<String>, purpose: &str) -> Self {
        let digest = Sha256::new().chain_update(purpose).chain_update([0]).chain_update(secret.expose()).finalize();
        Self(Sensitive::new(digest.into()))
    }

    /// A key that nobody else has.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(Sensitive::new(key))
    }

    /// Makes a ticket for a call at `now` (time since the Unix epoch).
    pub fn mint(&self, kind: Kind, call_sid: &str, now: Duration, nonce: Nonce) -> String {
        let expiry = (now + LIFETIME).as_secs();
        let mut ticket = Vec::with_capacity(SIGNED_BYTES + 32);
        ticket.push(kind as u8);
        ticket.extend(expiry.to_be_bytes());
        ticket.extend(nonce);
        if let Some(mac) = self.mac(&ticket, call_sid) {
            ticket.extend(mac.finalize().into_bytes());
        }
        URL_SAFE_NO_PAD.encode(ticket)
    }

    /// Checks a ticket of a call at `now`.
    ///
    /// # Errors
    /// When it is not ours, of another kind or call, or too old. The comparison takes the same time whatever differs.
    pub fn check(&self, kind: Kind, ticket: &str, call_sid: &str, now: Duration) -> Result<Good, Refused> {
        let bytes = URL_SAFE_NO_PAD.decode(ticket).map_err(|_| Refused::Forged)?;
        let (signed, mac) = bytes.split_at_checked(SIGNED_BYTES).ok_or(Refused::Forged)?;
        let verified = self.mac(signed, call_sid).is_some_and(|expected| expected.verify_slice(mac).is_ok());
        let [of_kind, rest @ ..] = signed else { return Err(Refused::Forged) };
        let (Some(expiry), Some(nonce)) = (rest.first_chunk::<8>(), rest.last_chunk::<16>()) else {
            return Err(Refused::Forged);
        };
        if !verified || *of_kind != kind as u8 {
            return Err(Refused::Forged);
        }
        let expiry = u64::from_be_bytes(*expiry);
        if expiry < now.as_secs() {
            return Err(Refused::Expired);
        }
        Ok(Good { nonce: *nonce, expiry })
    }

    fn mac(&self, signed: &[u8], call_sid: &str) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of any length, so this is always there.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).ok()?;
        mac.update(signed);
        mac.update(call_sid.as_bytes());
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn key(secret: &str) -> Key {
        Key::derive(&Sensitive::new(secret.to_owned()), "ticket")
    }

    #[test]
    fn a_ticket_is_good_for_its_call_and_its_time() {
        let ticket = key("a").mint(Kind::Phone, "CA1", NOW, [7; 16]);
        assert!(ticket.len() < 500, "Twilio's limit for a parameter");
        let good = key("a").check(Kind::Phone, &ticket, "CA1", NOW + LIFETIME).unwrap();
        assert_eq!(good, Good { nonce: [7; 16], expiry: 1_800_000_060 });
        assert_eq!(key("a").check(Kind::Phone, &ticket, "CA2", NOW), Err(Refused::Forged));
        assert_eq!(key("b").check(Kind::Phone, &ticket, "CA1", NOW), Err(Refused::Forged));
        assert_eq!(key("a").check(Kind::Phone, &ticket, "CA1", NOW + Duration::from_secs(61)), Err(Refused::Expired));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let ticket = key("a").mint(Kind::Phone, "CA1", NOW, [7; 16]);
        let bytes = URL_SAFE_NO_PAD.decode(&ticket).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(
                key("a").check(Kind::Phone, &URL_SAFE_NO_PAD.encode(changed), "CA1", NOW),
                Err(Refused::Forged),
                "byte {at}"
            );
        }
        for nonsense in ["", "%", "AAAA", &ticket[..40]] {
            assert_eq!(key("a").check(Kind::Phone, nonsense, "CA1", NOW), Err(Refused::Forged));
        }
    }

    #[test]
    fn no_kind_passes_for_the_other() {
        for (kind, other) in [(Kind::Phone, Kind::Browser), (Kind::Browser, Kind::Phone)] {
            let ticket = key("a").mint(kind, "CA1", NOW, [7; 16]);
            assert!(key("a").check(kind, &ticket, "CA1", NOW).is_ok());
            assert_eq!(key("a").check(other, &ticket, "CA1", NOW), Err(Refused::Forged));
            // Nor does one whose first byte was changed.
            let mut bytes = URL_SAFE_NO_PAD.decode(&ticket).unwrap();
            bytes[0] = other as u8;
            assert_eq!(key("a").check(other, &URL_SAFE_NO_PAD.encode(bytes), "CA1", NOW), Err(Refused::Forged));
        }
    }
}
