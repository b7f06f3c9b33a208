//! Enough of OpenAPI 3.0 to hold answers against Twilio's published document, and to make sample values.

use std::collections::BTreeSet;

use serde_json::Value;

#[path = "specs.rs"]
mod specs;

const FILE: &str = "twilio-calls.openapi.json";
const FORM: &str = "application/x-www-form-urlencoded";

pub(crate) struct Spec(Value);

impl Spec {
    /// The document, or none after a loud word about it.
    pub(crate) fn calls() -> Option<Self> {
        specs::document(FILE, "the simulated Twilio was").map(Self)
    }

    /// Names of the parameters in the query of a GET.
    pub(crate) fn query(&self, path: &str) -> BTreeSet<String> {
        let parameters = self.0["paths"][path]["get"]["parameters"].as_array().unwrap();
        let query = parameters.iter().filter(|parameter| parameter["in"] == "query");
        query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Names of the parameters in the body.
    pub(crate) fn form(&self, path: &str, method: &str) -> BTreeSet<String> {
        self.properties(path, method).keys().cloned().collect()
    }

    /// A good value for each parameter in the body of a POST.
    pub(crate) fn samples(&self, path: &str) -> Vec<(String, String)> {
        let sample = |(name, schema): (&String, &Value)| (name.clone(), self.sample(name, schema));
        self.properties(path, "post").iter().map(sample).collect()
    }

    /// The words of an enumeration.
    pub(crate) fn words(&self, name: &str) -> Vec<Value> {
        self.0["components"]["schemas"][name]["enum"].as_array().unwrap().clone()
    }

    /// Twilio's own first example of an answer.
    pub(crate) fn example(&self, path: &str, method: &str, status: u16) -> Value {
        let content = self.content(path, method, status);
        let examples = content["examples"].as_object().unwrap();
        examples.values().next().unwrap()["value"].clone()
    }

    /// Panics when an answer does not fit.
    pub(crate) fn check(&self, path: &str, method: &str, status: u16, answer: &Value) {
        let faults = self.faults(path, method, status, answer);
        assert!(faults.is_empty(), "{method} {path}: {faults:#?}\n{answer:#}");
    }

    /// What does not fit.
    pub(crate) fn faults(&self, path: &str, method: &str, status: u16, answer: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.hold(&self.content(path, method, status)["schema"], answer, "answer", &mut faults);
        faults
    }

    fn content(&self, path: &str, method: &str, status: u16) -> &Value {
        let content = &self.0["paths"][path][method]["responses"][status.to_string()]["content"]["application/json"];
        assert!(content.is_object(), "{method} {path} is not documented to answer {status}");
        content
    }

    fn properties(&self, path: &str, method: &str) -> &serde_json::Map<String, Value> {
        let schema = &self.0["paths"][path][method]["requestBody"]["content"][FORM]["schema"];
        schema["properties"].as_object().unwrap()
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
            None => schema,
        }
    }

    fn hold(&self, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
        let schema = self.resolve(schema);
        let mut fault = |why: &str| faults.push(format!("{place}: {why}: {value}"));
        if value.is_null() {
            if schema["nullable"] != true {
                fault("may not be null");
            }
            return;
        }
        if let Some(words) = schema["enum"].as_array()
            && !words.contains(value)
        {
            fault("not one of the words");
        }
        match schema["type"].as_str().unwrap() {
            "string" => match value.as_str() {
                Some(text) if !fits(schema, text) => fault("does not fit the pattern or format"),
                Some(_) => {}
                None => fault("not text"),
            },
            "integer" if !value.is_i64() => fault("not a whole number"),
            "boolean" if !value.is_boolean() => fault("not true or false"),
            "array" => match value.as_array() {
                Some(items) => {
                    for (at, item) in items.iter().enumerate() {
                        self.hold(&schema["items"], item, &format!("{place}[{at}]"), faults);
                    }
                }
                None => fault("not a list"),
            },
            "object" => {
                let Some(object) = value.as_object() else { return fault("not an object") };
                let Some(properties) = schema["properties"].as_object() else { return };
                // Nothing is marked as required; Twilio sends every field all the same.
                for name in properties.keys().filter(|name| !object.contains_key(*name)) {
                    faults.push(format!("{place}.{name}: missing"));
                }
                for (name, value) in object {
                    match properties.get(name) {
                        Some(property) => self.hold(property, value, &format!("{place}.{name}"), faults),
                        None => faults.push(format!("{place}.{name}: not documented")),
                    }
                }
            }
            _ => {}
        }
    }

    fn sample(&self, name: &str, schema: &Value) -> String {
        let schema = self.resolve(schema);
        if let Some(pattern) = schema["pattern"].as_str() {
            return format!("{}{}", &pattern[1..3], "0".repeat(32));
        }
        if let Some(words) = schema["enum"].as_array() {
            return words[0].as_str().unwrap().to_owned();
        }
        let value = match (name, schema["type"].as_str().unwrap(), schema["format"].as_str()) {
            ("StatusCallbackEvent", _, _) => "answered",
            ("RecordingStatusCallbackEvent", _, _) => "completed",
            ("SendDigits", _, _) => "W1234#",
            ("RecordingChannels", _, _) => "dual",
            ("RecordingTrack", _, _) => "both",
            ("MachineDetection", _, _) => "DetectMessageEnd",
            ("MachineDetectionSpeechThreshold", _, _) => "2400",
            ("MachineDetectionSpeechEndThreshold", _, _) => "1200",
            ("MachineDetectionSilenceTimeout", _, _) => "5000",
            ("AsyncAmd", _, _) => "true",
            ("Trim", _, _) => "do-not-trim",
            ("CallerId", _, _) => "+15550199",
            ("ApiVersion", _, _) => "2010-04-01",
            ("RecordingStatusCallback", _, _) | (_, "string", Some("uri")) => "https://demo.example/path",
            (_, "string", Some("twiml")) => "<Response><Hangup/></Response>",
            (_, "boolean", _) => "true",
            (_, "integer", _) => "30",
            _ => "text",
        };
        value.to_owned()
    }
}

fn fits(schema: &Value, text: &str) -> bool {
    let is_rfc2822 = || {
        // As in `Tue, 31 Aug 2010 20:36:28 +0000`.
        let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        shape.len() == 31 && shape.get(3..8) == Some(", 00 ") && shape.get(11..) == Some(" 0000 00:00:00 +0000")
    };
    let pattern = schema["pattern"].as_str().is_none_or(|pattern| {
        // All patterns are two letters and 32 hexadecimal digits.
        assert_eq!(&pattern[3..], "[0-9a-fA-F]{32}$");
        let digits = text.strip_prefix(&pattern[1..3]);
        digits.is_some_and(|digits| digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit()))
    });
    let format = match schema["format"].as_str() {
        Some("date-time-rfc-2822") => is_rfc2822(),
        Some("currency") => text.len() == 3 && text.chars().all(|c| c.is_ascii_uppercase()),
        Some("phone-number") => text.starts_with('+'),
        // Empty when it is not set, and without a host where it is relative to the API.
        Some("uri") => text.is_empty() || text.starts_with('/') || text.starts_with("https://"),
        _ => true,
    };
    pattern && format
}
