//! Tools that the worker has itself: what a model may have done to its own call.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use telemetry::Sensitive;

use super::{About, Deed, Outcome, Tool, Working, failure};
use crate::{agent::Verdict, dsp::dtmf::Keys, provider::ToolSpec};

/// Most keys that a model may send in one go: an account number and a PIN have fewer.
const MAX_KEYS: usize = 32;

/// Longest reason for a hang-up, in characters.
const MAX_REASON: usize = 200;

/// Ends the call.
#[derive(Debug)]
pub(super) struct HangUp;

/// Hands the call to one of these, by their names: a model cannot dial anything else.
#[derive(Debug)]
pub(super) struct Transfer(pub(super) Sensitive<BTreeMap<String, String>>);

/// Presses keys.
#[derive(Debug)]
pub(super) struct SendDigits;

impl Tool for HangUp {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "hang_up".to_owned(),
            description:
                "Ends the telephone call, after the caller has heard all that you said. Say goodbye in the same \
                          answer. Call it when the caller says goodbye or wants nothing more."
                    .to_owned(),
            parameters: json!({
                "type": "object",
                "properties": {"reason": {"type": "string", "description": "Why, in a few words. The caller does not hear it."}},
                "required": []
            }),
        }
    }

    fn call(&self, arguments: Map<String, Value>, _: &About) -> Working {
        let reason: String = arguments
            .get("reason")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_REASON)
            .collect();
        let reason = if reason.is_empty() { "the model hung up".to_owned() } else { reason };
        let told =
            json!({"ok": "The call ends once the caller has heard you. If the caller interrupts you, it goes on."});
        done(Outcome::Do(Deed::Hangup { reason }, told.to_string()))
    }
}

impl Tool for Transfer {
    fn spec(&self) -> ToolSpec {
        let names: Vec<_> = self.0.expose().keys().collect();
        ToolSpec {
            name: "transfer".to_owned(),
            description:
                "Hands the telephone call to somebody else, after the caller has heard all that you said; you are \
                          out of it then. Say in the same answer that you connect the caller."
                    .to_owned(),
            parameters: json!({
                "type": "object",
                "properties": {"to": {"type": "string", "enum": names, "description": "Whom."}},
                "required": ["to"]
            }),
        }
    }

    fn call(&self, arguments: Map<String, Value>, _: &About) -> Working {
        // The schema's `enum` has let no other name pass.
        let to = arguments.get("to").and_then(Value::as_str).and_then(|name| self.0.expose().get(name));
        let told = json!({"ok": "The caller is handed over once they have heard you. If they interrupt you, the call goes on."});
        done(match to {
            Some(to) => Outcome::Do(Deed::Transfer { to: to.clone() }, told.to_string()),
            None => Outcome::Fail(Verdict::Invalid, failure("there is nobody of that name")),
        })
    }
}

impl Tool for SendDigits {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "send_digits".to_owned(),
            description:
                "Presses keys of the telephone, which the other side hears as tones: to go through a menu, or to \
                          type a number into a machine."
                    .to_owned(),
            parameters: json!({
                "type": "object",
                "properties": {"digits": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_KEYS,
                    "description": "0-9, *, #, A-D; w waits half a second, W a second."
                }},
                "required": ["digits"]
            }),
        }
    }

    fn call(&self, arguments: Map<String, Value>, _: &About) -> Working {
        let keys = arguments.get("digits").and_then(Value::as_str).unwrap_or_default();
        done(match Keys::parse(keys) {
            Ok(_) => Outcome::Do(Deed::Digits(keys.to_owned()), json!({"ok": "The keys are pressed."}).to_string()),
            Err(error) => Outcome::Fail(Verdict::Invalid, failure(&error.to_string())),
        })
    }
}

fn done(outcome: Outcome) -> Working {
    Box::pin(async { outcome })
}
