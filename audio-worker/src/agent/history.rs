//! What was said so far in a call, as its model is told: of the agent's words, those that were heard.

use crate::provider::{Message, Role};

/// Most messages that are kept.
const MAX_MESSAGES: usize = 200;

/// Most text that is kept, in bytes; a model's context and its price have bounds of their own.
const MAX_BYTES: usize = 64 << 10;

/// Longest message that another of the same speaker is added to, in bytes.
const MAX_MERGED: usize = 8 << 10;

/// The messages of one call, oldest first. Beyond its bounds the oldest are forgotten.
#[derive(Debug, Default)]
pub struct History {
    messages: Vec<Message>,
    bytes: usize,
    forgotten: u64,
}

impl History {
    /// Somebody said something; two messages of the same speaker in a row become one.
    pub fn push(&mut self, role: Role, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        self.bytes += text.len();
        match self.messages.last_mut() {
            Some(last) if last.role == role && last.text.len() + text.len() <= MAX_MERGED => {
                last.text.push(' ');
                last.text.push_str(text);
                self.bytes += 1;
            }
            _ => self.messages.push(Message::new(role, text)),
        }
        let mut cut = 0;
        while self.messages.len() - cut > MAX_MESSAGES || (self.bytes > MAX_BYTES && self.messages.len() - cut > 1) {
            self.bytes -= self.messages[cut].text.len();
            cut += 1;
        }
        self.messages.drain(..cut);
        self.forgotten += cut as u64;
    }

    /// Oldest first.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// How many were forgotten.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_speaker_goes_on_in_one_message_and_nothing_is_no_message() {
        let mut history = History::default();
        for (role, text) in
            [(Role::User, "one "), (Role::User, "two"), (Role::Assistant, " "), (Role::Assistant, "three")]
        {
            history.push(role, text);
        }
        let said: Vec<_> = history.messages().iter().map(|message| (message.role, message.text.as_str())).collect();
        assert_eq!(said, [(Role::User, "one two"), (Role::Assistant, "three")]);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut history = History::default();
        for n in 0..MAX_MESSAGES + 10 {
            history.push(if n % 2 == 0 { Role::User } else { Role::Assistant }, &n.to_string());
        }
        assert_eq!((history.messages().len(), history.messages()[0].text.as_str()), (MAX_MESSAGES, "10"));
        history.push(Role::User, &"x".repeat(MAX_BYTES));
        assert_eq!((history.messages().len(), history.forgotten()), (1, MAX_MESSAGES as u64 + 10));
    }
}
