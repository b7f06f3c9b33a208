//! What an answer of the carrier means that is not the one hoped for. Pure.

use std::time::Duration;

use http::StatusCode;
use telemetry::{Sensitive, https::retry_after};

use crate::{client::Answer, twilio::rest::ErrorBody};

/// Bad credentials, whatever the status.
const BAD_CREDENTIALS: u32 = 20003;
/// No such thing.
const NOT_FOUND: u32 = 20404;
/// Too many requests at a time; never processed.
const THROTTLED: u32 = 20429;
/// The call is not in a state for this.
const WRONG_STATE: u32 = 21220;

/// Why the carrier did not do what it was asked for. Prints neither numbers nor Twilio's own words, which may quote
/// them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CarrierError {
    /// Nobody was asked.
    #[error("not configured: {0} is needed")]
    NotConfigured(&'static str),
    /// Asked and refused; asking again will not help.
    #[error("refused with {status}, Twilio's code {code:?}")]
    Refused {
        status: u16,
        code: Option<u32>,
        /// Twilio's words, for whoever asked.
        message: Sensitive<String>,
        /// Where Twilio explains the code.
        more_info: Option<String>,
    },
    /// Account, key or secret is wrong, or the key may not do this.
    #[error("the credentials were refused, Twilio's code {code:?}")]
    Credentials { code: Option<u32>, message: Sensitive<String> },
    /// There is no such thing in this account.
    #[error("not found, Twilio's code {code:?}")]
    NotFound { code: Option<u32> },
    /// Too many requests, to the end of our patience; certainly not done.
    #[error("throttled")]
    Throttled { retry_after: Option<Duration> },
    /// The request was not sent; certainly not done.
    #[error("unreachable: {what}")]
    Unreachable { what: String },
    /// It may have been done.
    #[error("unknown: {what}")]
    Unknown { what: String },
}

impl CarrierError {
    /// Whether it may have been done all the same.
    pub(crate) const fn may_have_happened(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// The call is past what was asked for.
    pub(super) const fn is_wrong_state(&self) -> bool {
        matches!(self, Self::Refused { code: Some(WRONG_STATE), .. })
    }
}

/// What an answer without success means.
pub(super) fn of(Answer { status, headers, body }: &Answer) -> CarrierError {
    let ErrorBody { code, message, more_info } = ErrorBody::parse(body);
    let number = status.as_u16();
    if *status == StatusCode::TOO_MANY_REQUESTS || code == Some(THROTTLED) {
        return CarrierError::Throttled { retry_after: retry_after(headers) };
    }
    if *status == StatusCode::REQUEST_TIMEOUT || !status.is_client_error() {
        let what = if status.is_redirection() {
            format!("a redirect ({number}), which is not followed; is TWILIO_API_URL right?")
        } else {
            format!("an answer of {number}")
        };
        return CarrierError::Unknown { what };
    }
    if *status == StatusCode::UNAUTHORIZED || code == Some(BAD_CREDENTIALS) {
        return CarrierError::Credentials { code, message };
    }
    if *status == StatusCode::NOT_FOUND || code == Some(NOT_FOUND) {
        return CarrierError::NotFound { code };
    }
    CarrierError::Refused { status: number, code, message, more_info }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderMap, header};

    fn meaning(status: u16, body: &str, retry_after: Option<&str>) -> CarrierError {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        of(&Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let quoting = r#"{"code":21211,"message":"+15550101 is not valid","status":400,
            "more_info":"https://www.twilio.com/docs/errors/21211"}"#;
        let refused = meaning(400, quoting, None);
        assert_eq!(
            refused,
            CarrierError::Refused {
                status: 400,
                code: Some(21211),
                message: Sensitive::new("+15550101 is not valid".to_owned()),
                more_info: Some("https://www.twilio.com/docs/errors/21211".to_owned()),
            }
        );
        assert!(!format!("{refused} {refused:?}").contains("5550101"));
        assert!(meaning(400, r#"{"code":21220}"#, None).is_wrong_state());
        assert!(matches!(meaning(401, "", None), CarrierError::Credentials { code: None, .. }));
        assert!(matches!(meaning(403, r#"{"code":20003}"#, None), CarrierError::Credentials { code: Some(20003), .. }));
        assert!(matches!(meaning(403, "<html>", None), CarrierError::Refused { status: 403, code: None, .. }));
        assert_eq!(meaning(404, "<html>", None), CarrierError::NotFound { code: None });
        for (retry_after, wait) in [(None, None), (Some("7"), Some(7)), (Some("soon"), None), (Some("-1"), None)] {
            let expected = CarrierError::Throttled { retry_after: wait.map(Duration::from_secs) };
            assert_eq!(meaning(429, "<html>", retry_after), expected);
        }
        for status in [302, 307, 408, 500, 502, 503] {
            let unknown = meaning(status, "<html>", Some("1"));
            assert!(unknown.may_have_happened() && unknown.to_string().contains(&status.to_string()), "{unknown}");
        }
    }
}
