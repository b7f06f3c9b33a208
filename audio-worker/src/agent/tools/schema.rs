//! Arguments of a tool against its JSON Schema: the part of it that says what is allowed, not all of JSON Schema. Pure.
//!
//! Understood are `type`, `properties`, `required`, `enum`, `items`, `additionalProperties`, `minimum`, `maximum`,
//! `minLength` and `maxLength`; what else a schema says is told to the model and not checked here.

use serde_json::{Map, Value};

/// How deep schemas may be nested.
const MAX_DEPTH: usize = 8;

/// How deep its tables and lists are nested then.
pub(crate) const MAX_NESTED: usize = 2 * MAX_DEPTH + 2;

/// Largest schema, as JSON, in bytes: it is sent with every request.
const MAX_BYTES: usize = 16 << 10;

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];

/// Whether this can describe the arguments of a tool.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the schema.
pub(crate) fn check(schema: &Value) -> Result<(), String> {
    if schema.to_string().len() > MAX_BYTES {
        return Err("is too long: at most 16 KiB are sent to a model".to_owned());
    }
    if schema["type"] != "object" {
        return Err("must be a JSON Schema with type = \"object\"".to_owned());
    }
    check_at(schema, MAX_DEPTH)
}

/// The names of the arguments that a schema declares, each with whether it is required.
pub(crate) fn names(schema: &Value) -> impl Iterator<Item = (&str, bool)> {
    let is_required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|of| of == name));
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.map(move |(name, _)| (name.as_str(), is_required(name)))
}

/// Arguments as a model wrote them.
///
/// # Errors
/// What does not fit, in words for the model; they quote no value.
pub(super) fn read(schema: &Value, arguments: &str) -> Result<Map<String, Value>, String> {
    // A tool without arguments is often called with nothing at all.
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    let Ok(arguments) = serde_json::from_str::<Value>(arguments) else {
        return Err("the arguments are no JSON".to_owned());
    };
    fits(schema, &arguments, "the arguments", MAX_DEPTH)?;
    if let Value::Object(arguments) = arguments { Ok(arguments) } else { Err("the arguments are no object".to_owned()) }
}

fn check_at(schema: &Value, depth: usize) -> Result<(), String> {
    let Some(keys) = schema.as_object() else { return Err("must be made of tables".to_owned()) };
    if depth == 0 {
        return Err(format!("is nested more than {MAX_DEPTH} deep"));
    }
    let is_type = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
    let is_list = |list: &Value, fits: &dyn Fn(&Value) -> bool| {
        list.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(fits))
    };
    for (key, value) in keys {
        let good = match key.as_str() {
            "type" => is_type(value) || is_list(value, &is_type),
            "properties" => value.is_object(),
            "required" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            "enum" => is_list(value, &|_| true),
            "minimum" | "maximum" => value.is_number(),
            "minLength" | "maxLength" => value.is_u64(),
            "additionalProperties" => value.is_boolean(),
            _ => true,
        };
        if !good {
            return Err(format!("has a {key} that is none of JSON Schema"));
        }
    }
    if let Some(missing) = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|name| schema["properties"].get(name).is_none())
    {
        return Err(format!("requires {missing:?}, which its properties do not have"));
    }
    let inner = schema["properties"].as_object().into_iter().flat_map(Map::values).chain(keys.get("items"));
    inner.into_iter().try_for_each(|schema| check_at(schema, depth - 1))
}

fn fits(schema: &Value, value: &Value, name: &str, depth: usize) -> Result<(), String> {
    let is_of = |name: &Value| name.as_str().is_some_and(|name| is_of_type(value, name));
    let types = &schema["type"];
    let of_type = types.is_null() || is_of(types) || types.as_array().is_some_and(|types| types.iter().any(is_of));
    if !of_type {
        return Err(format!("{name} must be of type {types}"));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return Err(format!("{name} must be one of {}", schema["enum"]));
    }
    if let Some(number) = value.as_f64() {
        let too_small = schema["minimum"].as_f64().is_some_and(|least| number < least);
        if too_small || schema["maximum"].as_f64().is_some_and(|most| number > most) {
            return Err(format!("{name} must be from {} to {}", schema["minimum"], schema["maximum"]));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        let too_short = schema["minLength"].as_u64().is_some_and(|least| length < least);
        if too_short || schema["maxLength"].as_u64().is_some_and(|most| length > most) {
            let (least, most) = (&schema["minLength"], &schema["maxLength"]);
            return Err(format!("{name} must have {least} to {most} characters"));
        }
    }
    if depth == 0 {
        return Ok(());
    }
    if let (Some(all), Some(items)) = (value.as_array(), schema.get("items")) {
        all.iter().try_for_each(|value| fits(items, value, &format!("each of {name}"), depth - 1))?;
    }
    let Some(given) = value.as_object() else { return Ok(()) };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for needed in required {
        if !given.contains_key(needed) {
            return Err(format!("{needed} is missing"));
        }
    }
    for (key, value) in given {
        match schema["properties"].get(key) {
            Some(schema) => fits(schema, value, key, depth - 1)?,
            None if schema["additionalProperties"] == true => {}
            None => return Err("there is an argument that the tool does not have".to_owned()),
        }
    }
    Ok(())
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "id": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
                "size": {"enum": ["s", "m", 3]},
                "count": {"type": ["integer", "null"], "minimum": 1, "maximum": 5},
                "tags": {"type": "array", "items": {"type": "string"}},
                "at": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
                "any": {}
            },
            "required": ["id"]
        })
    }

    #[test]
    fn good_arguments_are_taken() {
        check(&schema()).unwrap();
        assert_eq!(names(&schema()).filter(|(_, required)| *required).count(), 1);
        for good in [
            r#"{"id": "abc"}"#,
            r#" {"id": "ab", "size": 3, "count": null, "tags": ["x"], "at": {"x": 1.5}, "any": [1]}"#,
            r#"{"id": "ab", "count": 5.0}"#,
        ] {
            read(&schema(), good).unwrap();
        }
        let none = json!({"type": "object", "properties": {}});
        assert!(["", " ", "{}"].iter().all(|text| read(&none, text).unwrap().is_empty()));
    }

    #[test]
    fn what_does_not_fit_is_said_without_the_value() {
        for (bad, why) in [
            ("{", "no JSON"),
            ("[]", "type \"object\""),
            ("{}", "id is missing"),
            (r#"{"id": 5}"#, "id must be of type \"string\""),
            (r#"{"id": "s3cret"}"#, "2 to 4 characters"),
            (r#"{"id": "ab", "size": "s3cret"}"#, "size must be one of [\"s\",\"m\",3]"),
            (r#"{"id": "ab", "count": 1.5}"#, "count must be of type"),
            (r#"{"id": "ab", "count": 6}"#, "from 1 to 5"),
            (r#"{"id": "ab", "tags": ["x", 5]}"#, "each of tags must be"),
            (r#"{"id": "ab", "at": {}}"#, "x is missing"),
            (r#"{"id": "ab", "s3cret": 1}"#, "an argument that the tool does not have"),
        ] {
            let told = read(&schema(), bad).unwrap_err();
            assert!(told.contains(why) && !told.contains("s3cret"), "{bad}: {told}");
        }
        let open = json!({"type": "object", "additionalProperties": true});
        assert_eq!(read(&open, r#"{"x": 1}"#).unwrap().len(), 1);
    }

    #[test]
    fn schemas_that_are_none_are_told() {
        let mut deep = json!({"type": "string"});
        for _ in 0..10 {
            deep = json!({"type": "object", "properties": {"x": deep}});
        }
        for (bad, why) in [
            (json!({"type": "string"}), "type = \"object\""),
            (json!({"type": "object", "properties": []}), "has a properties"),
            (json!({"type": "object", "properties": {"x": {"type": "text"}}}), "has a type"),
            (json!({"type": "object", "properties": {"x": 5}}), "made of tables"),
            (json!({"type": "object", "required": ["x"]}), "requires \"x\""),
            (json!({"type": "object", "description": "x".repeat(20_000)}), "too long"),
            (deep, "8 deep"),
        ] {
            let told = check(&bad).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }

    proptest! {
        #[test]
        fn no_arguments_make_it_panic(text in "[\\[\\]{}\":,a-c0-9.eE-]{0,60}") {
            let _ = read(&schema(), &text);
        }
    }
}
