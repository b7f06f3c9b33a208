//! What an error of the server's means, and what is told of it.

use crate::{agent::realtime::wire::Failure, provider::Fault};

impl Failure {
    /// In words for the log.
    pub(super) fn told(&self) -> String {
        let words = [&self.kind, &self.code, &self.param].map(String::as_str);
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        format!("the server says {}", if words.is_empty() { "nothing more".to_owned() } else { words.join(", ") })
    }

    /// The key is wrong, or may not do this.
    pub(super) fn is_denied(&self) -> bool {
        let codes = ["invalid_api_key", "insufficient_quota", "model_not_found", "unauthorized", "permission_denied"];
        codes.contains(&self.code.as_str())
            || ["authentication_error", "permission_error"].contains(&self.kind.as_str())
    }

    /// It is the server's own fault.
    pub(super) fn is_servers(&self) -> bool {
        self.kind.contains("server") || self.kind.contains("internal")
    }

    pub(super) fn fault(&self) -> Fault {
        if self.is_denied() {
            Fault::Denied
        } else if self.code.contains("rate_limit") {
            Fault::Busy
        } else if self.kind.contains("invalid_request") {
            Fault::Rejected
        } else {
            Fault::Failed
        }
    }
}
