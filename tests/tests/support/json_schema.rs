//! Enough of JSON Schema to hold values against a published document. A keyword that it does not know is a panic: what
//! is not checked is not said to fit.

use serde_json::Value;

/// Keywords that say nothing about a value.
const ANNOTATIONS: [&str; 10] = [
    "default",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "format",
    "optional",
    "title",
    "x-oaiMeta",
    "x-oaiExpandable",
];

/// A document whose schemas refer to each other.
pub(crate) struct Document(pub(crate) Value);

impl Document {
    /// What does not fit.
    pub(crate) fn faults(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.hold(schema, value, "value", &mut faults);
        faults
    }

    fn hold(&self, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
        let Some(keywords) = schema.as_object() else {
            if *schema == Value::Bool(false) {
                faults.push(format!("{place}: not allowed"));
            }
            return;
        };
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        let fits = |schema: &Value| self.faults(schema, value).is_empty();
        let number = |keyword: &str| schema[keyword].as_f64().unwrap();
        let count = |keyword: &str| usize::try_from(schema[keyword].as_u64().unwrap()).unwrap();
        let size = || match value {
            Value::String(text) => text.chars().count(),
            Value::Array(items) => items.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => 0,
        };
        for (keyword, rule) in keywords {
            let is_good = match keyword.as_str() {
                "$ref" => {
                    let reference = rule.as_str().unwrap().strip_prefix('#').unwrap();
                    self.hold(self.0.pointer(reference).unwrap(), value, place, faults);
                    true
                }
                "type" => match rule.as_array() {
                    Some(types) => types.iter().any(|name| is_of(name, value)),
                    None => is_of(rule, value),
                },
                "const" => rule == value,
                "enum" => rule.as_array().unwrap().contains(value),
                "anyOf" | "oneOf" => rule.as_array().unwrap().iter().any(fits),
                "allOf" => {
                    rule.as_array().unwrap().iter().for_each(|part| self.hold(part, value, place, faults));
                    true
                }
                "required" => {
                    let missing = |name: &&Value| value.is_object() && value.get(name.as_str().unwrap()).is_none();
                    rule.as_array().unwrap().iter().find(missing).is_none_or(|name| {
                        faults.push(format!("{place}.{name}: missing"));
                        true
                    })
                }
                "properties" => {
                    for (name, property) in rule.as_object().unwrap() {
                        if let Some(value) = value.get(name) {
                            self.hold(property, value, &format!("{place}.{name}"), faults);
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    let known = |name: &str| schema["properties"].get(name).is_some();
                    for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| !known(name)) {
                        self.hold(rule, value, &format!("{place}.{name}"), faults);
                    }
                    true
                }
                "items" => {
                    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.hold(rule, item, &format!("{place}[{at}]"), faults);
                    }
                    true
                }
                "minimum" => value.as_f64().is_none_or(|value| value >= number("minimum")),
                "maximum" => value.as_f64().is_none_or(|value| value <= number("maximum")),
                "minItems" => !value.is_array() || size() >= count("minItems"),
                "maxItems" => !value.is_array() || size() <= count("maxItems"),
                "maxLength" => !value.is_string() || size() <= count("maxLength"),
                "nullable" | "x-oaiTypeLabel" | "x-stainless-const" => true,
                name => {
                    assert!(ANNOTATIONS.contains(&name), "{place}: the keyword {name} is not known");
                    true
                }
            };
            if !is_good {
                faults.push(format!("{place}: {keyword}: {value}"));
            }
        }
    }
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        name => panic!("the type {name} is not known"),
    }
}
