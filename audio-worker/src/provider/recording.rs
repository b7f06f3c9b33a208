//! The words of a recording: one question, one answer, and the words in it.

use super::{
    Fault, Limits, Pending, ProviderError,
    exchange::{self, Exchange, Outlet},
    fault::{self, error},
    http::Client,
    question::Question,
};

/// How the answers of a family are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Largest answer, in bytes.
    pub(super) most: usize,
    /// The words in an answer, by its content type and its body: empty when nobody spoke, `None` when it tells of none.
    pub(super) words: fn(&str, &[u8]) -> Option<String>,
    /// What is missing then, in words for the log.
    pub(super) missing: &'static str,
}

/// Asks for the words of the recording that `question` carries.
pub(super) fn transcribe<Q: Question>(
    client: &Client,
    limits: Limits,
    question: Q,
    reading: Reading,
) -> Pending<String> {
    exchange::once(client, limits, Recording { question, reading })
}

struct Recording<Q> {
    question: Q,
    reading: Reading,
}

impl<Q: Question> Exchange for Recording<Q> {
    type Piece = String;

    async fn attempt(&self, client: &Client, outlet: &mut Outlet<String>) -> Result<(), ProviderError> {
        let (mut answer, secrets) = self.question.ask(client, outlet).await?;
        let body = outlet.whole(&mut answer, self.reading.most).await?;
        let words = (self.reading.words)(&answer.content_type(), &body).ok_or_else(|| {
            match fault::message(&body, &secrets) {
                Some(message) => error(Fault::Failed, &message),
                None => error(Fault::Malformed, self.reading.missing),
            }
        })?;
        outlet.give(words).await;
        Ok(())
    }
}
