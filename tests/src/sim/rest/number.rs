//! Pure: the account's numbers as the REST API shows and changes them (schema `api.v2010.account.incoming_phone_number`),
//! and the account itself.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    super::calendar::rfc2822,
    OwnedNumber, RestError,
    fields::{Fields, is_sid},
};

/// Parameters of `POST …/IncomingPhoneNumbers/{Sid}.json`, the field of the resource that each sets, and what it is.
pub const SETTINGS: [(&str, &str, Kind); 25] = [
    ("AccountSid", "account_sid", Kind::Sid("AC")),
    ("ApiVersion", "api_version", Kind::Text),
    ("FriendlyName", "friendly_name", Kind::Text),
    ("SmsApplicationSid", "sms_application_sid", Kind::Sid("AP")),
    ("SmsFallbackMethod", "sms_fallback_method", Kind::Method),
    ("SmsFallbackUrl", "sms_fallback_url", Kind::Url),
    ("SmsMethod", "sms_method", Kind::Method),
    ("SmsUrl", "sms_url", Kind::Url),
    ("StatusCallback", "status_callback", Kind::Url),
    ("StatusCallbackMethod", "status_callback_method", Kind::Method),
    ("VoiceApplicationSid", "voice_application_sid", Kind::Sid("AP")),
    ("VoiceCallerIdLookup", "voice_caller_id_lookup", Kind::Flag),
    ("VoiceFallbackMethod", "voice_fallback_method", Kind::Method),
    ("VoiceFallbackUrl", "voice_fallback_url", Kind::Url),
    ("VoiceMethod", "voice_method", Kind::Method),
    ("VoiceUrl", "voice_url", Kind::Url),
    ("EmergencyStatus", "emergency_status", Kind::OneOf(&["Active", "Inactive"])),
    ("EmergencyAddressSid", "emergency_address_sid", Kind::Sid("AD")),
    ("TrunkSid", "trunk_sid", Kind::Sid("TK")),
    ("VoiceReceiveMode", "voice_receive_mode", Kind::OneOf(&["voice", "fax"])),
    ("IdentitySid", "identity_sid", Kind::Sid("RI")),
    ("AddressSid", "address_sid", Kind::Sid("AD")),
    ("BundleSid", "bundle_sid", Kind::Sid("BU")),
    // What the plan may set and the REST API may not.
    ("Status", "status", Kind::Fixed),
    ("Type", "type", Kind::Fixed),
];

/// What a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// An absolute URL, or nothing.
    Url,
    /// `GET` or `POST`.
    Method,
    /// `true` or `false`.
    Flag,
    /// A SID with this prefix, or nothing.
    Sid(&'static str),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Not to be changed through the REST API.
    Fixed,
}

/// Changes a number as asked.
pub(super) fn change(number: &mut OwnedNumber, fields: Fields<'_>) -> Result<(), RestError> {
    let mut changed = number.settings.clone();
    for (name, _, kind) in SETTINGS {
        let Some(value) = fields.all(name).next() else {
            continue;
        };
        match kind {
            Kind::Url => drop(fields.target(name, "")?),
            Kind::Method if !["", "GET", "POST"].contains(&value) => return Err(RestError::method(name)),
            Kind::Flag if !["true", "false"].contains(&value) => {
                return Err(RestError::parameter(name, "true or false"));
            }
            Kind::Sid(prefix) if !value.is_empty() && !is_sid(value, prefix) => {
                return Err(RestError::parameter(name, &format!("{prefix} and 32 hexadecimal digits")));
            }
            Kind::OneOf(words) if !words.contains(&value) => {
                return Err(RestError::parameter(name, &format!("one of {}", words.join(", "))));
            }
            Kind::Fixed => continue,
            Kind::Text | Kind::Method | Kind::Flag | Kind::Sid(_) | Kind::OneOf(_) => {}
        }
        changed.insert(name.to_owned(), value.to_owned());
    }
    number.settings = changed;
    Ok(())
}

/// The resource. `since` is when the account was made.
pub(super) fn resource(number: &OwnedNumber, account_sid: &str, since: Duration) -> Value {
    let mut resource = Map::new();
    for (name, field, kind) in SETTINGS {
        let set = number.settings.get(name);
        let value = match (kind, set) {
            (Kind::Flag, set) => json!(set.is_some_and(|value| value == "true")),
            (Kind::Sid("AC"), None) => json!(account_sid),
            (Kind::Method, set) => json!(set.filter(|value| !value.is_empty()).map_or("POST", String::as_str)),
            (_, Some(value)) => json!(value),
            (_, None) => default(name, &number.number),
        };
        resource.insert(field.to_owned(), if value == "" && kind != Kind::Url { Value::Null } else { value });
    }
    let fixed = json!({
        "address_requirements": "none",
        "beta": false,
        "capabilities": {"voice": true, "sms": true, "mms": true, "fax": false},
        "date_created": rfc2822(since),
        "date_updated": rfc2822(since),
        "emergency_address_status": "unregistered",
        "origin": "twilio",
        "phone_number": number.number,
        "sid": number.sid,
        "uri": format!("/2010-04-01/Accounts/{account_sid}/IncomingPhoneNumbers/{}.json", number.sid),
    });
    if let Value::Object(fixed) = fixed {
        resource.extend(fixed);
    }
    Value::Object(resource)
}

fn default(name: &str, number: &str) -> Value {
    match name {
        "ApiVersion" => json!("2010-04-01"),
        "FriendlyName" => json!(number),
        "EmergencyStatus" => json!("Inactive"),
        "VoiceReceiveMode" => json!("voice"),
        "Status" => json!("in-use"),
        "Type" => json!("local"),
        "SmsUrl" | "SmsFallbackUrl" | "StatusCallback" | "VoiceUrl" | "VoiceFallbackUrl" => json!(""),
        _ => Value::Null,
    }
}

/// The account's own resource.
pub(super) fn account(account_sid: &str, since: Duration) -> Value {
    let uri = format!("/2010-04-01/Accounts/{account_sid}");
    json!({
        "sid": account_sid,
        "owner_account_sid": account_sid,
        "friendly_name": "Simulated account",
        "status": "active",
        "type": "Full",
        // Twilio shows it to whoever has it; nobody needs to see it here.
        "auth_token": null,
        "date_created": rfc2822(since),
        "date_updated": rfc2822(since),
        "uri": format!("{uri}.json"),
        "subresource_uris": {
            "calls": format!("{uri}/Calls.json"),
            "incoming_phone_numbers": format!("{uri}/IncomingPhoneNumbers.json"),
        },
    })
}

/// Does a number fit the filter `PhoneNumber`, in which `*` stands for any digits and a part will do?
pub(super) fn fits(number: &str, pattern: &str) -> bool {
    let mut rest = number;
    pattern.split('*').filter(|part| !part.is_empty()).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_parts_and_stars() {
        for (pattern, fits_it) in [("+15550199", true), ("5550", true), ("+1*0199", true), ("0199*555", false)] {
            assert_eq!(fits("+15550199", pattern), fits_it, "{pattern}");
        }
    }
}
