//! Server-sent events, as the HTML standard has them, from bytes cut anywhere.

use std::mem;

/// Longest line, and most data of one event, in bytes: a piece of an answer has some hundred.
const MAX_BYTES: usize = 64 << 10;

/// What a stream says at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its kind; empty when it does not say.
    pub(super) name: String,
    /// Its data; several lines are joined by line feeds.
    pub(super) data: String,
}

/// A line, or the data of one event, of more than 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {} KiB", MAX_BYTES >> 10)]
pub(super) struct TooLong;

/// Reads one stream.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The line so far, without its end.
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
    /// A line has ended already: no byte order mark can follow.
    is_begun: bool,
    event: Event,
    has_data: bool,
}

impl Parser {
    /// Takes the next bytes and gives the events that they complete.
    ///
    /// # Errors
    /// When there is no end to a line or to an event. Nothing is to be read after that.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        if bytes.is_empty() {
            return Ok(events);
        }
        if mem::take(&mut self.after_return) && bytes[0] == b'\n' {
            bytes = &bytes[1..];
        }
        while let Some(at) = bytes.iter().position(|&byte| byte == b'\n' || byte == b'\r') {
            self.extend(&bytes[..at])?;
            events.extend(self.end_line()?);
            let is_pair = bytes[at..].starts_with(b"\r\n");
            self.after_return = bytes[at..] == *b"\r";
            bytes = &bytes[at + 1 + usize::from(is_pair)..];
        }
        self.extend(bytes)?;
        Ok(events)
    }

    /// The event that the end of the stream completes. The standard drops it; some servers end without an empty line.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) fn finish(mut self) -> Result<Option<Event>, TooLong> {
        let last = self.end_line()?;
        Ok(last.or_else(|| self.end_event()))
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > MAX_BYTES {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Event>, TooLong> {
        let line = mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let mut line = &*line;
        if !mem::replace(&mut self.is_begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.event.data.len() + value.len() >= MAX_BYTES {
                    return Err(TooLong);
                }
                if mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.name),
            // A comment keeps the connection alive; ids and waits are for who reconnects.
            _ => {}
        }
        Ok(None)
    }

    fn end_event(&mut self) -> Option<Event> {
        let event = mem::take(&mut self.event);
        mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "\u{feff}: hello\ndata: one\n\n:\r\n\r\nevent: error\rdata:two\rdata:  three\r\rdata\n\nid: 7\nretry: 1\n\n\
                          data: \u{e4}\u{20ac}\r\ndata: {\"a\": 1}\r\n\r\nevent: none\n\ndata: [DONE]\n\n";

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    fn expected() -> Vec<Event> {
        vec![
            event("", "one"),
            event("error", "two\n three"),
            event("", ""),
            event("", "\u{e4}\u{20ac}\n{\"a\": 1}"),
            event("", "[DONE]"),
        ]
    }

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events: Vec<Event> = chunks.into_iter().flat_map(|chunk| parser.push(chunk).unwrap()).collect();
        events.extend(parser.finish().unwrap());
        events
    }

    #[test]
    fn events_are_the_same_wherever_the_bytes_are_cut() {
        let bytes = STREAM.as_bytes();
        assert_eq!(read([bytes]), expected());
        assert_eq!(read(bytes.chunks(1)), expected());
        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(read(chunks), expected(), "{first} {second}");
            }
        }
    }

    #[test]
    fn the_end_of_the_stream_ends_an_event() {
        assert_eq!(read([&b"data: 1\n\ndata: [DONE]"[..]]), [event("", "1"), event("", "[DONE]")]);
        assert_eq!(read([&b"data: 1\n"[..]]), [event("", "1")]);
        assert_eq!(read([&b"event: x\n: y"[..]]), []);
    }

    #[test]
    fn lines_and_events_have_a_bound() {
        let long = vec![b'x'; MAX_BYTES];
        let mut parser = Parser::default();
        assert_eq!(parser.push(&long), Ok(vec![]));
        assert_eq!(parser.push(b"x"), Err(TooLong));
        let mut parser = Parser::default();
        let line = [b"data: ", &long[..MAX_BYTES / 4], b"\n"].concat();
        let fits = (0..10).take_while(|_| parser.push(&line).is_ok()).count();
        assert_eq!(fits, 3);
        // Comments are forgotten.
        let mut parser = Parser::default();
        assert!((0..10).all(|_| parser.push(&[b":", &long[..MAX_BYTES / 4], b"\n"].concat()).is_ok()));
    }

    proptest! {
        #[test]
        fn anything_is_read_without_panic_and_alike(
            bytes in prop::collection::vec(prop_oneof![
                Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'd'), Just(b' '), any::<u8>()
            ], 0..200),
            size in 1_usize..50,
        ) {
            prop_assert_eq!(read(bytes.chunks(size)), read([&bytes[..]]));
        }
    }
}
