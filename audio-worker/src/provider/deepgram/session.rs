//! What is said to Deepgram in a session: sound as it is, three orders, and its messages.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

use super::message;
use crate::provider::{
    ProviderError,
    listening::{Recognised, socket::Dialect},
};

/// Nothing has to be remembered: Deepgram tells what its words belong to.
pub(super) struct Session;

impl Dialect for Session {
    const JUDGES_ITSELF: bool = false;

    fn sound(&mut self, codes: Bytes) -> Option<Message> {
        Some(Message::Binary(codes))
    }

    fn voice(&mut self) {}

    fn finalize(&mut self) -> Option<Message> {
        Some(Message::text(r#"{"type":"Finalize"}"#))
    }

    fn alive(&mut self) -> Message {
        Message::text(r#"{"type":"KeepAlive"}"#)
    }

    fn goodbye(&mut self) -> Message {
        Message::text(r#"{"type":"CloseStream"}"#)
    }

    fn read(&mut self, text: &str) -> Result<Vec<Recognised>, ProviderError> {
        message::read(text)
    }

    fn closed(&self, code: u16, reason: &str) -> ProviderError {
        message::closed(code, reason)
    }
}
