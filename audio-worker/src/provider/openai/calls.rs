//! Calls of tools, put together from the pieces of a streamed answer. Pure.

use serde::Deserialize;
use serde_json::Value;

use crate::provider::ToolCall;

/// Most calls in one answer.
const MAX_CALLS: usize = 8;

/// Most text of all calls of one answer together, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// A piece of a call, or the whole of it; servers leave out what they like.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CallPiece {
    index: Option<usize>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    name: Option<String>,
    /// Text; some servers write the object itself.
    arguments: Option<Value>,
}

/// The calls of one answer.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Each with the index that its pieces name.
    calls: Vec<(usize, ToolCall)>,
    bytes: usize,
    were_any: bool,
}

impl Calls {
    /// A piece came, the `at`th of its message.
    ///
    /// # Errors
    /// What is wrong, when it is too much.
    pub(super) fn push(&mut self, at: usize, piece: CallPiece) -> Result<(), &'static str> {
        let index = piece.index.unwrap_or(at);
        let id = piece.id.unwrap_or_default();
        let function = piece.function.unwrap_or_default();
        let arguments = match function.arguments {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
        };
        let name = function.name.unwrap_or_default();
        self.bytes += id.len() + name.len() + arguments.len();
        if self.bytes > MAX_BYTES {
            return Err("calls of tools of more than 64 KiB");
        }
        // Some servers give several calls the same index; then another id is another call.
        let is_same =
            |(of, call): &(usize, ToolCall)| *of == index && (id.is_empty() || call.id.is_empty() || call.id == id);
        let place = self.calls.iter().rposition(is_same);
        let place = match place {
            Some(place) => place,
            None if self.calls.len() == MAX_CALLS => return Err("more than 8 calls of tools in one answer"),
            None => {
                let call = ToolCall { id: String::new(), name: String::new(), arguments: String::new() };
                self.calls.push((index, call));
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[place].1;
        if call.id.is_empty() {
            call.id = id;
        }
        // A name comes whole; some servers repeat it with every piece.
        if call.name.is_empty() {
            call.name = name;
        }
        call.arguments.push_str(&arguments);
        Ok(())
    }

    /// Those that were not taken yet.
    ///
    /// # Errors
    /// When one has no name.
    pub(super) fn take(&mut self) -> Result<Vec<ToolCall>, &'static str> {
        let calls = std::mem::take(&mut self.calls);
        self.were_any |= !calls.is_empty();
        if calls.iter().any(|(_, call)| call.name.is_empty()) {
            return Err("a call of a tool without its name");
        }
        let named = calls.into_iter().zip(1..).map(|((_, call), nth)| {
            // An answer needs something to refer to.
            let id = if call.id.is_empty() { format!("call_{nth}") } else { call.id };
            ToolCall { id, ..call }
        });
        Ok(named.collect())
    }

    /// True when there were calls that have been taken.
    pub(super) const fn were_any(&self) -> bool {
        self.were_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(messages: &[Value]) -> Result<Vec<(String, String, String)>, &'static str> {
        let mut calls = Calls::default();
        for message in messages {
            let pieces: Vec<CallPiece> = serde_json::from_value(message.clone()).map_err(|_| "no pieces")?;
            for (at, piece) in pieces.into_iter().enumerate() {
                calls.push(at, piece)?;
            }
        }
        let taken = calls.take()?;
        assert_eq!((calls.were_any(), calls.take()?.len()), (!taken.is_empty(), 0));
        Ok(taken.into_iter().map(|call| (call.id, call.name, call.arguments)).collect())
    }

    fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
        (id.to_owned(), name.to_owned(), arguments.to_owned())
    }

    #[test]
    fn pieces_become_calls_however_they_are_cut() {
        let streamed = [
            json!([{"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}]),
            json!([{"index": 0, "function": {"arguments": "{\"at\":"}}]),
            json!([{"index": 1, "id": "c2", "function": {"name": "hang_up"}}]),
            json!([{"index": 0, "function": {"arguments": " 1}"}}, {"index": 1, "function": {"arguments": "{}"}}]),
        ];
        assert_eq!(taken(&streamed).unwrap(), [call("c1", "look", "{\"at\": 1}"), call("c2", "hang_up", "{}")]);
        // As a whole, without an index; as an object; without an id.
        let whole = [json!([{"id": "a", "function": {"name": "x", "arguments": "{}"}},
                            {"id": "b", "function": {"name": "y", "arguments": {"n": 1}}}, {"function": {"name": "z"}}])];
        assert_eq!(
            taken(&whole).unwrap(),
            [call("a", "x", "{}"), call("b", "y", "{\"n\":1}"), call("call_3", "z", "")]
        );
        // One index for all, and a name that is repeated.
        let muddled = [
            json!([{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{"}}]),
            json!([{"index": 0, "id": "a", "function": {"name": "x", "arguments": "}"}}]),
            json!([{"index": 0, "id": "b", "function": {"name": "x", "arguments": "{}"}}]),
        ];
        assert_eq!(taken(&muddled).unwrap(), [call("a", "x", "{}"), call("b", "x", "{}")]);
        assert_eq!(taken(&[]).unwrap(), []);
    }

    #[test]
    fn too_much_and_too_little_is_refused() {
        let many = (0..9).map(|n| json!([{"index": n, "id": n.to_string(), "function": {"name": "x"}}]));
        assert!(taken(&many.collect::<Vec<_>>()).unwrap_err().starts_with("more than 8"));
        let long = json!([{"index": 0, "function": {"name": "x", "arguments": "x".repeat(33_000)}}]);
        assert!(taken(&[long.clone(), long]).unwrap_err().contains("64 KiB"));
        assert!(taken(&[json!([{"index": 0, "id": "a"}])]).unwrap_err().contains("without its name"));
    }
}
