//! Pure: what the REST API refuses, in the only table of its codes, statuses and words.
//!
//! twilio.com/docs/api/errors, one page for each code; the words are those that clients have recorded, where any have.

use serde_json::{Value, json};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestError {
    /// HTTP status.
    pub status: u16,
    /// Twilio's code.
    pub code: u32,
    /// For a person.
    pub message: String,
}

impl RestError {
    /// Any refusal.
    pub fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The JSON that Twilio answers with.
    pub fn body(&self) -> Value {
        json!({
            "code": self.code,
            "message": self.message,
            "more_info": format!("https://www.twilio.com/docs/errors/{}", self.code),
            "status": self.status,
        })
    }

    /// A parameter that no code of its own is documented for.
    pub(super) fn parameter(name: &str, why: &str) -> Self {
        Self::new(400, 20001, format!("Invalid parameter {name}: {why}"))
    }

    pub(super) fn credentials() -> Self {
        Self::new(401, 20003, "Authenticate")
    }

    pub(super) fn not_allowed() -> Self {
        Self::new(405, 20004, "Method not allowed")
    }

    pub(super) fn not_found(path: &str) -> Self {
        Self::new(404, 20404, format!("The requested resource {path} was not found"))
    }

    pub(super) fn too_many() -> Self {
        Self::new(429, 20429, "Too Many Requests")
    }

    pub(super) fn internal() -> Self {
        Self::new(500, 20500, "Internal Server Error")
    }

    pub(super) fn no_to() -> Self {
        Self::new(400, 21201, "No 'To' number is specified")
    }

    pub(super) fn no_url() -> Self {
        let message = "Url parameter is required. For more information, see http://www.twilio.com/docs/api/twiml";
        Self::new(400, 21205, message)
    }

    pub(super) fn url(name: &str, value: &str) -> Self {
        let message = format!("{name} is not a valid URL: {value}");
        match name {
            "StatusCallback" | "AsyncAmdStatusCallback" | "RecordingStatusCallback" => {
                Self::new(400, 21609, format!("The '{name}' URL {value} is not a valid URL."))
            }
            "VoiceUrl" | "VoiceFallbackUrl" => Self::new(400, 21402, message),
            _ => Self::new(400, 21205, message),
        }
    }

    pub(super) fn send_digits() -> Self {
        Self::new(400, 21206, "SendDigits may hold 32 of 0-9, A-D, #, *, w and W")
    }

    pub(super) fn timeout() -> Self {
        Self::new(400, 21208, "Timeout must be a number of seconds from 1 to 600")
    }

    pub(super) fn method(name: &str) -> Self {
        Self::new(400, 21209, format!("{name} must be GET or POST"))
    }

    pub(super) fn not_owned(from: &str) -> Self {
        let message = format!(
            "The source phone number provided, {from}, is not yet verified for your account. You may only make \
             calls from phone numbers that you've verified or purchased from Twilio."
        );
        Self::new(400, 21210, message)
    }

    pub(super) fn to(to: &str) -> Self {
        Self::new(400, 21211, format!("The phone number you are attempting to call, {to}, is not valid."))
    }

    pub(super) fn from(from: &str) -> Self {
        Self::new(400, 21212, format!("The source phone number provided, {from}, is not valid."))
    }

    pub(super) fn no_from() -> Self {
        Self::new(400, 21213, "A 'From' phone number is required.")
    }

    pub(super) fn application() -> Self {
        Self::new(400, 21218, "ApplicationSid is not valid, or there is no such application")
    }

    pub(super) fn call_state() -> Self {
        Self::new(400, 21220, "Call is not in-progress. Cannot redirect.")
    }

    /// What Twilio answers for numbers that are reserved for tests, and the simulator as well
    /// (twilio.com/docs/iam/test-credentials).
    pub(super) fn reserved_to(to: &str) -> Option<Self> {
        let (code, message) = match to {
            "+15005550001" => (21217, "Phone number does not appear to be valid"),
            "+15005550002" => (21214, "'To' phone number cannot be reached"),
            "+15005550003" => (21215, "Account not authorized to call this number"),
            "+15005550004" => (21216, "Account not allowed to call this number"),
            _ => return None,
        };
        Some(Self::new(400, code, message))
    }
}
