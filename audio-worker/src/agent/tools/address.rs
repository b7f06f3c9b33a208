//! The address of a user's function, with places for arguments. Pure.
//!
//! What a model writes may come from a caller: it can fill a place, and it cannot leave it.

use std::fmt::{self, Write};

use serde_json::{Map, Value};
use url::Url;

/// `https://shop.example/orders/{order_id}`: `{NAME}` stands for an argument.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// What comes before the first place, and then each place with what comes after it.
    start: String,
    places: Vec<(String, String)>,
}

impl Address {
    /// Takes an address as it was written.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the address's setting.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (start, rest) = text.split_once('{').unwrap_or((text, ""));
        let mut places = Vec::new();
        let has_places = start.len() < text.len();
        for part in rest.split('{').filter(|_| has_places) {
            let (name, after) =
                part.split_once('}').ok_or("has a place without an end; write {NAME} for an argument")?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if name.is_empty() || !name.chars().all(is_name) {
                return Err("has a place with a bad name; write {NAME} for an argument");
            }
            places.push((name.to_owned(), after.to_owned()));
        }
        let address = Self { start: start.to_owned(), places };
        // Wherever a place can change who is asked, one of these shows it.
        let origins =
            ["x", "9", ""].map(|value| address.written(|_| value.to_owned()).parse::<Url>().map(|url| url.origin()));
        match &origins {
            [Ok(one), Ok(other), Ok(third)] if one == other && other == third => {}
            [Ok(_), ..] => return Err("must have its places behind the host, in the path or the query"),
            [Err(_), ..] => return Err("must be an address such as https://example.com/orders/{order_id}"),
        }
        if text.contains('#') || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("must have neither # nor blanks");
        }
        Ok(address)
    }

    /// The names of its places.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|(name, _)| name.as_str())
    }

    /// With something harmless in each place.
    pub(crate) fn example(&self) -> String {
        self.written(|_| "x".to_owned())
    }

    /// The address for these arguments; those that have no place are added to its query where `rest` says so.
    ///
    /// # Errors
    /// What does not fit, in words for the model.
    pub(super) fn fill(&self, arguments: &Map<String, Value>, rest: bool) -> Result<String, &'static str> {
        let value = |name: &str| arguments.get(name).map(plain).unwrap_or_default();
        if self.names().any(|name| value(name).is_empty()) {
            return Err("an argument that is part of the address must not be empty");
        }
        let mut address = self.written(|name| encoded(&value(name)));
        let path = address.split_once("://").map_or("", |(_, rest)| rest).split('?').next().unwrap_or_default();
        if path.split('/').skip(1).any(|part| part == "." || part == "..") {
            return Err("an argument must not be . or ..");
        }
        if rest {
            for (name, value) in arguments.iter().filter(|(name, _)| !self.names().any(|place| place == *name)) {
                let join = if address.contains('?') { '&' } else { '?' };
                address.push(join);
                address.push_str(&encoded(name));
                address.push('=');
                address.push_str(&encoded(&plain(value)));
            }
        }
        Ok(address)
    }

    fn written(&self, value: impl Fn(&str) -> String) -> String {
        let mut written = self.start.clone();
        for (name, after) in &self.places {
            written.push_str(&value(name));
            written.push_str(after);
        }
        written
    }
}

impl fmt::Debug for Address {
    /// Without what an address can hold beside its host: somebody's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("names", &self.names().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// A value as text: texts without quotes, nothing for null.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Everything but RFC 3986's unreserved characters by its bytes.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn filled(address: &str, arguments: Value) -> Result<String, &'static str> {
        let Value::Object(arguments) = arguments else { panic!() };
        Address::parse(address)?.fill(&arguments, true)
    }

    #[test]
    fn places_are_filled_and_the_rest_goes_into_the_query() {
        let address = "https://shop.example:8443/orders/{id}/items?key=1&lang={lang}";
        let arguments = json!({"id": "a/b ?&ü", "lang": "de", "n": 5, "all": [1, "x"], "none": null, "on": true});
        assert_eq!(
            filled(address, arguments).unwrap(),
            "https://shop.example:8443/orders/a%2Fb%20%3F%26%C3%BC/items?key=1&lang=de\
             &all=%5B1%2C%22x%22%5D&n=5&none=&on=true"
        );
        assert_eq!(filled("http://localhost", json!({"a b": "c"})).unwrap(), "http://localhost?a%20b=c");
        let address = Address::parse("https://a.example/{id}").unwrap();
        assert_eq!(address.fill(json!({"id": 1, "x": 2}).as_object().unwrap(), false).unwrap(), "https://a.example/1");
    }

    #[test]
    fn no_argument_leaves_its_place() {
        for id in [json!(""), json!(null), json!("."), json!("..")] {
            filled("https://a.example/x/{id}", json!({"id": id})).unwrap_err();
        }
        filled("https://a.example/x/{id}.{id}", json!({"id": "."})).unwrap();
        filled("https://a.example/x/.{id}", json!({"id": "."})).unwrap_err();
        assert_eq!(filled("https://a.example/{id}", json!({"id": "../x"})).unwrap(), "https://a.example/..%2Fx");
    }

    #[test]
    fn bad_addresses_are_told() {
        for (bad, why) in [
            ("https://a.example/{id", "without an end"),
            ("https://a.example/{}", "bad name"),
            ("https://a.example/{a b}", "bad name"),
            ("https://{host}/x", "behind the host"),
            ("https://a.example{host}/x", "behind the host"),
            ("https://a.example:{port}/", "an address such as"),
            ("{scheme}://a.example/", "behind the host"),
            ("nowhere", "an address such as"),
            ("https://a.example/{id}#x", "neither"),
        ] {
            let told = Address::parse(bad).unwrap_err();
            assert!(told.contains(why), "{bad}: {told}");
        }
    }

    proptest! {
        #[test]
        fn who_is_asked_never_changes(id in "\\PC{1,20}", path in "(/[a-z{}.]{0,4}){0,3}") {
            if let Ok(address) = Address::parse(&format!("https://a.example/{path}{{id}}/end")) {
                let names: Vec<_> = address.names().map(ToOwned::to_owned).collect();
                let arguments = names.into_iter().map(|name| (name, Value::String(id.clone()))).collect();
                if let Ok(filled) = address.fill(&arguments, true) {
                    let url: Url = filled.parse().unwrap();
                    prop_assert_eq!(url.host_str(), Some("a.example"));
                    prop_assert!(url.path().ends_with("/end"));
                }
            }
        }
    }
}
