//! What only the socket of a browser is told, beyond Twilio's protocol: words, latencies, costs, and how the call ended.

use std::{collections::VecDeque, time::Duration};

use serde_json::json;

use crate::{
    api::cost,
    session::{CloseCode, EndReason},
    worker::{Aside, Latencies},
};

/// Messages that may wait for the socket; the oldest are dropped beyond it.
const MAX_WAITING: usize = 64;

/// The page at the other end of a socket.
#[derive(Debug, Default)]
pub(crate) struct Page {
    waiting: VecDeque<String>,
    dropped: u64,
    /// How the socket is to be closed, once all is told.
    pub(super) closing: Option<CloseCode>,
}

impl Page {
    /// Takes what a worker tells.
    pub(super) fn tell(&mut self, aside: Aside) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
            self.dropped += 1;
            if self.dropped == 1 {
                tracing::warn!("a browser does not take what was said; the oldest of it is dropped");
            }
        }
        self.waiting.push_back(message(aside));
    }

    /// The next message; pull when the socket takes it.
    pub(super) fn poll(&mut self) -> Option<String> {
        self.waiting.pop_front()
    }
}

/// The last message: how the call ended.
pub(super) fn ended(reason: &EndReason) -> String {
    json!({"event": "ended", "reason": reason.label()}).to_string()
}

fn message(aside: Aside) -> String {
    let ms = |time: Option<Duration>| time.and_then(|time| u64::try_from(time.as_millis()).ok());
    match aside {
        Aside::Said { by, text, is_final, interrupted } => {
            json!({"event": "transcript", "by": by, "text": text, "final": is_final, "interrupted": interrupted})
        }
        Aside::Turn(Latencies { endpoint, words, first_token, first_sound, first_sent }) => json!({
            "event": "turn",
            "endpoint_ms": ms(endpoint),
            "words_ms": ms(words),
            "first_token_ms": ms(first_token),
            "first_sound_ms": ms(first_sound),
            "first_sent_ms": ms(first_sent),
        }),
        Aside::Costs(costs) => json!({"event": "costs", "costs": costs.iter().map(cost).collect::<Vec<_>>()}),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn said(text: &str) -> Aside {
        Aside::Said { by: "caller", text: text.to_owned(), is_final: true, interrupted: false }
    }

    #[test]
    fn the_page_gets_words_latencies_and_the_end() {
        let mut page = Page::default();
        page.tell(said("\"quoted\""));
        page.tell(Aside::Turn(Latencies { first_sent: Some(Duration::from_millis(470)), ..Latencies::default() }));
        let read = |text: Option<String>| serde_json::from_str::<Value>(&text.unwrap()).unwrap();
        let words =
            json!({"event": "transcript", "by": "caller", "text": "\"quoted\"", "final": true, "interrupted": false});
        assert_eq!(read(page.poll()), words);
        let turn = read(page.poll());
        assert_eq!((&turn["first_sent_ms"], &turn["words_ms"]), (&json!(470), &Value::Null));
        assert_eq!(page.poll(), None);
        let end = read(Some(ended(&EndReason::AgentTransfer("+15550100".into()))));
        assert_eq!(end, json!({"event": "ended", "reason": "agent_transfer"}), "without the number");
    }

    #[test]
    fn a_page_that_takes_nothing_loses_the_oldest() {
        let mut page = Page::default();
        for at in 0..MAX_WAITING + 3 {
            page.tell(said(&at.to_string()));
        }
        assert_eq!((page.waiting.len(), page.dropped), (MAX_WAITING, 3));
        assert!(page.poll().unwrap().contains("\"3\""));
    }
}
