//! A form with a file, as `multipart/form-data` (RFC 7578).

use std::fmt::Write as _;

use bytes::Bytes;

/// A form that is being filled in.
#[derive(Debug)]
pub(super) struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    pub(super) fn new() -> Self {
        // Without chance it is still a boundary, which no recording holds by accident.
        let mut chance = [0; 16];
        let _ = getrandom::fill(&mut chance);
        Self { boundary: format!("tandem-{:032x}", u128::from_ne_bytes(chance)), body: Vec::new() }
    }

    /// Adds a field; `name` is one of ours.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ =
            write!(text, "--{}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n", self.boundary);
        self.body.extend_from_slice(text.as_bytes());
    }

    /// Adds the field `file`.
    pub(super) fn file(&mut self, name: &str, content_type: &str, bytes: &[u8]) {
        let mut text = String::new();
        let _ = write!(
            text,
            "--{}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: {content_type}\r\n\r\n",
            self.boundary
        );
        self.body.extend_from_slice(text.as_bytes());
        self.body.extend_from_slice(bytes);
        self.body.extend_from_slice(b"\r\n");
    }

    /// Its content type and itself.
    pub(super) fn finish(mut self) -> (String, Bytes) {
        self.body.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        (format!("multipart/form-data; boundary={}", self.boundary), self.body.into())
    }
}
