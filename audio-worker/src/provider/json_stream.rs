//! JSON objects one after the other, with or without line breaks between, from bytes cut anywhere.

use std::mem;

/// Longest object, in bytes: some ten seconds of a voice in base64 have 400 KiB.
const MAX_BYTES: usize = 4 << 20;

/// Why there is no next object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoObject {
    #[error("text or something else where a JSON object belongs")]
    NotJson,
    #[error("a JSON object of more than {} MiB", MAX_BYTES >> 20)]
    TooLong,
}

/// Finds where objects begin and end.
#[derive(Debug, Default)]
pub(super) struct Parser {
    object: Vec<u8>,
    depth: usize,
    in_text: bool,
    after_backslash: bool,
}

impl Parser {
    /// Takes the next bytes and appends the objects that they complete, as they stand.
    ///
    /// # Errors
    /// When something else comes, behind those objects. Nothing is to be pushed after that.
    pub(super) fn push(&mut self, bytes: &[u8], objects: &mut Vec<Vec<u8>>) -> Result<(), NoObject> {
        let mut from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if self.depth == 0 {
                match byte {
                    b'{' => (self.depth, from) = (1, at),
                    b' ' | b'\t' | b'\r' | b'\n' => {}
                    _ => return Err(NoObject::NotJson),
                }
                continue;
            }
            match byte {
                _ if mem::take(&mut self.after_backslash) => {}
                b'\\' if self.in_text => self.after_backslash = true,
                b'"' => self.in_text = !self.in_text,
                b'{' if !self.in_text => self.depth += 1,
                b'}' if !self.in_text => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.keep(&bytes[from..=at])?;
                        objects.push(mem::take(&mut self.object));
                    }
                }
                _ => {}
            }
        }
        if self.depth > 0 {
            self.keep(&bytes[from..])?;
        }
        Ok(())
    }

    /// True in the middle of an object.
    pub(super) const fn is_inside(&self) -> bool {
        self.depth > 0
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), NoObject> {
        if self.object.len() + bytes.len() > MAX_BYTES {
            return Err(NoObject::TooLong);
        }
        self.object.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str =
        "{\"a\": 1}\n{\"b\": \"}{\\\"}\\\\\"}{\"c\": {\"d\": [{}, {\"e\": \"\u{e4}\\n\"}]}}\r\n\r\n \t{}\n";

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut parser, mut objects) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.push(piece, &mut objects).unwrap();
        }
        assert!(!parser.is_inside());
        objects.into_iter().map(|object| String::from_utf8(object).unwrap()).collect()
    }

    #[test]
    fn objects_are_the_same_wherever_the_bytes_are_cut() {
        let bytes = STREAM.as_bytes();
        let expected =
            ["{\"a\": 1}", "{\"b\": \"}{\\\"}\\\\\"}", "{\"c\": {\"d\": [{}, {\"e\": \"\u{e4}\\n\"}]}}", "{}"];
        assert_eq!(read([bytes]), expected);
        assert_eq!(read(bytes.chunks(1)), expected);
        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                assert_eq!(read([&bytes[..first], &bytes[first..second], &bytes[second..]]), expected);
            }
        }
    }

    #[test]
    fn what_is_no_object_is_told() {
        for bytes in ["<html>", "[{}]", "null", "data: {}", "{}}"] {
            let mut objects = Vec::new();
            let told = Parser::default().push(bytes.as_bytes(), &mut objects);
            assert_eq!((told, objects.len()), (Err(NoObject::NotJson), usize::from(bytes == "{}}")), "{bytes}");
        }
        let (mut parser, mut objects) = (Parser::default(), Vec::new());
        assert_eq!(parser.push(b"{\"a\": {\"b\": \"}}", &mut objects), Ok(()));
        assert!(parser.is_inside());
        let piece = vec![b'x'; 64 << 10];
        let fits = (0..1000).take_while(|_| parser.push(&piece, &mut objects).is_ok()).count();
        assert_eq!(fits, (MAX_BYTES >> 16) - 1);
    }

    proptest! {
        #[test]
        fn anything_is_read_without_panic(
            bytes in prop::collection::vec(prop_oneof![
                Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\\'), Just(b'\n'), any::<u8>()
            ], 0..200),
            size in 1_usize..50,
        ) {
            let mut parser = Parser::default();
            for piece in bytes.chunks(size) {
                if parser.push(piece, &mut Vec::new()).is_err() {
                    break;
                }
            }
        }
    }
}
