//! Tools that the worker has itself: what a model may have done to its own call.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use telemetry::Sensitive;

use super::{About, Deed, Outcome, Tool, Working, failure};
use crate::{agent::Verdict, dsp::dtmf::Keys, provider::ToolSpec};

/// Most keys that a model may send in one go: an account number and a PIN have fewer.
const MAX_KEYS: usize = 32;

/// Why a model may hang up. It chooses among these, since reasons are logged: words of its own could be the caller's.
const REASONS: [&str; 6] = ["finished", "not_interested", "wrong_number", "voicemail", "abuse", "other"];

const HANG_UP: &str = "Ends the telephone call, after the caller has heard all that you said. Say goodbye in the same answer. \
                       Call it when the caller says goodbye or wants nothing more.";
const TRANSFER: &str = "Hands the telephone call to somebody else, after the caller has heard all that you said; you are out \
                        of it then. Say in the same answer that you connect the caller.";
const SEND_DIGITS: &str = "Presses keys of the telephone, which the other side hears as tones: to go through a menu, or to \
                           type a number into a machine.";

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
            description: HANG_UP.to_owned(),
            parameters: json!({
                "type": "object",
                "properties": {"reason": {"type": "string", "enum": REASONS}},
                "required": []
            }),
        }
    }

    fn call(&self, arguments: Map<String, Value>, _: &About) -> Working {
        let reason = arguments.get("reason").and_then(Value::as_str).unwrap_or("finished");
        let reason = format!("the model hung up: {reason}");
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
            description: TRANSFER.to_owned(),
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
            description: SEND_DIGITS.to_owned(),
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::agent::tools::Toolbox;

    fn call(name: &str, arguments: &Value) -> Outcome {
        let people = [("sales", "+15550100"), ("desk", "sip:desk@example.com")];
        let people = people.map(|(name, to)| (name.to_owned(), to.to_owned())).into();
        let tools =
            Toolbox::new(vec![Box::new(HangUp), Box::new(SendDigits), Box::new(Transfer(Sensitive::new(people)))]);
        assert!(tools.specs().iter().all(|spec| !tools.is_safe(&spec.name)));
        let called = tools.call(name, &arguments.to_string(), &About::default());
        assert_eq!(called.filler, None);
        called.outcome.now_or_never().unwrap()
    }

    #[test]
    fn what_a_model_may_have_done_is_done() {
        let done = |name: &str, arguments: Value| {
            let outcome = call(name, &arguments);
            let Outcome::Do(deed, told) = outcome else { panic!("{outcome:?}") };
            assert!(told.contains("\"ok\""), "{told}");
            deed
        };
        let hang_up = |reason: &str| Deed::Hangup { reason: format!("the model hung up: {reason}") };
        assert_eq!(done("hang_up", json!({})), hang_up("finished"));
        assert_eq!(done("hang_up", json!({"reason": "voicemail"})), hang_up("voicemail"));
        assert_eq!(done("transfer", json!({"to": "sales"})), Deed::Transfer { to: "+15550100".to_owned() });
        assert_eq!(done("transfer", json!({"to": "desk"})), Deed::Transfer { to: "sip:desk@example.com".to_owned() });
        assert_eq!(done("send_digits", json!({"digits": "12w#"})), Deed::Digits("12w#".to_owned()));
    }

    #[test]
    fn what_it_may_not_is_refused_and_nobody_is_dialled_by_number() {
        for (name, arguments) in [
            ("transfer", json!({})),
            ("transfer", json!({"to": "+15550100"})),
            ("transfer", json!({"to": "+19005550100"})),
            ("send_digits", json!({"digits": ""})),
            ("send_digits", json!({"digits": "1".repeat(33)})),
            ("send_digits", json!({"digits": "12x"})),
            ("send_digits", json!({"digits": 12})),
            ("hang_up", json!({"reason": "Mr Smith was rude"})),
            ("play", json!({})),
        ] {
            let outcome = call(name, &arguments);
            assert_eq!(outcome.verdict(), Verdict::Invalid, "{outcome:?}");
            assert!(outcome.told().contains("\"error\"") && !outcome.told().contains("555"), "{outcome:?}");
        }
    }
}
