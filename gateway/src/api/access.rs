//! Who may use the calls API, and how often: bearer tokens, kept as digests, compared in constant time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::{config, problem::Problem, rate::Rate};

/// The tokens of a gateway, over all its shards.
#[derive(Debug, Clone)]
pub(crate) struct Access(Arc<Vec<Token>>);

#[derive(Debug)]
struct Token {
    digest: [u8; 32],
    // Held for one comparison of two moments.
    rate: Mutex<Rate>,
}

/// Which of the tokens asks; keys of one are nothing to another.
pub(crate) type Owner = usize;

impl Access {
    pub(crate) fn new(api: &config::Api) -> Self {
        let token = |token: &telemetry::Sensitive<String>| Token {
            digest: Sha256::digest(token.expose()).into(),
            rate: Mutex::new(Rate::per_second(api.requests_per_second)),
        };
        Self(Arc::new(api.tokens.iter().map(token).collect()))
    }

    /// Lets a request in at `now`.
    ///
    /// # Errors
    /// When the API is off, no known token came, or too many requests came with it.
    pub(crate) fn enter(&self, headers: &HeaderMap, now: Instant) -> Result<Owner, Problem> {
        if self.0.is_empty() {
            return Err(Problem::ApiOff);
        }
        let shown = bearer(headers).ok_or(Problem::Unauthorized)?;
        let digest: [u8; 32] = Sha256::digest(shown).into();
        let (mut found, mut owner) = (Choice::from(0), 0_u64);
        for (at, token) in (0_u64..).zip(self.0.iter()) {
            let same = token.digest.ct_eq(&digest);
            owner = u64::conditional_select(&owner, &at, same);
            found |= same;
        }
        let owner = usize::try_from(owner).unwrap_or_default();
        let token = self.0.get(owner).filter(|_| bool::from(found)).ok_or(Problem::Unauthorized)?;
        let allowed = token.rate.lock().unwrap_or_else(PoisonError::into_inner).allow(now);
        allowed.map_err(|wait| Problem::TooManyRequests { wait: wait.max(Duration::from_secs(1)) })?;
        Ok(owner)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin at some moment")]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
    }

    fn access(tokens: &[&str]) -> Access {
        let tokens = tokens.iter().map(|token| (*token).to_owned().into()).collect();
        Access::new(&config::Api { tokens, requests_per_second: 2, browser_calls: false })
    }

    #[test]
    fn each_token_is_somebody_else_and_has_a_rate_of_its_own() {
        let (access, now) = (access(&["first-token-of-two", "second-token-of-two"]), Instant::now());
        let enter = |token: &str| access.enter(&headers(token), now);
        assert_eq!(enter("Bearer first-token-of-two").unwrap(), 0);
        assert_eq!(enter("bearer  second-token-of-two").unwrap(), 1);
        assert!(enter("Bearer first-token-of-two").is_ok());
        assert!(matches!(enter("Bearer first-token-of-two"), Err(Problem::TooManyRequests { .. })));
        assert!(enter("Bearer second-token-of-two").is_ok());
        for wrong in ["Bearer ", "Bearer first-token-of-tw", "Basic first-token-of-two", "first-token-of-two"] {
            assert!(matches!(enter(wrong), Err(Problem::Unauthorized)), "{wrong}");
        }
        assert!(matches!(access.enter(&HeaderMap::new(), now), Err(Problem::Unauthorized)));
    }

    #[test]
    fn without_tokens_it_is_off() {
        assert!(matches!(access(&[]).enter(&headers("Bearer x"), Instant::now()), Err(Problem::ApiOff)));
    }

    #[test]
    fn tokens_are_kept_as_digests() {
        assert!(!format!("{:?}", access(&["first-token-of-two"])).contains("first"));
    }
}
