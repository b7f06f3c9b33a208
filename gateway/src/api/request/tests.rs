//! What the calls API takes and what it refuses, field by field.

use http::header;
use serde_json::{Value, json};
use telemetry::settings::Values;

use super::*;
use crate::config::SETTINGS;

const GIVEN: [(&str, &str); 6] = [
    ("TWILIO_AUTH_TOKEN", "t"),
    ("TWILIO_VOICE_WEBHOOK_URL", "https://voice.example.com"),
    ("TWILIO_PHONE_NUMBER", "+15550100199"),
    ("OUTBOUND_ALLOW", "+1555"),
    ("OUTBOUND_STREAM_HOSTS", "Media.example.org"),
    ("EVENTS_SECRET", "a-secret-for-events"),
];

fn config() -> Config {
    Config::read(&Values::from_lookup(&SETTINGS, |name| {
        GIVEN.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    }))
    .unwrap()
}

fn headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap())])
}

fn read(body: &Value) -> Result<NewCall, Problem> {
    NewCall::read(&headers(), body.to_string().as_bytes(), &config())
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"to": "+15550100123"});
    body[field] = value;
    body
}

#[test]
fn a_call_needs_only_a_number() {
    let call = read(&json!({"to": "+15550100123"})).unwrap();
    assert_eq!((call.from.expose().as_str(), call.agent.as_str(), call.time_limit_s), ("+15550100199", "echo", 14_400));
    assert!(call.stream_url.is_none() && call.webhook.is_none() && call.answering_machine.is_none());
    let longer = read(&with("time_limit_s", json!(86_400))).unwrap();
    assert_eq!(longer.time_limit_s, 14_400, "MAX_CALL_SECONDS holds for all");
}

#[test]
fn everything_can_be_said() {
    let call = read(&json!({
        "to": "+15550100123", "from": "+15550100100", "agent": "sales.v2", "language": "ja-JP",
        "parameters": {"order": "17"}, "answering_machine": {"mode": "detect_message_end", "timeout_s": 20},
        "recording": "dual", "ring_timeout_s": 30, "time_limit_s": 600,
        "status_webhook": "https://example.org/events", "websocket_url": "wss://media.example.org/x",
    }))
    .unwrap();
    assert_eq!(call.answering_machine, Some((DetectionMode::DetectMessageEnd, Some(20))));
    assert_eq!((call.recording, call.ring_timeout_s), (Some(RecordingChannels::Dual), Some(30)));
    assert_eq!(call.stream_url.as_deref(), Some("wss://media.example.org/x"));
}

#[test]
fn each_field_is_checked_and_named() {
    let long = "x".repeat(436);
    let many: serde_json::Map<_, _> = (0..33).map(|n| (format!("p{n}"), json!("v"))).collect();
    let cases = [
        ("to", json!("15550100123")),
        ("to", json!("+0123456789")),
        ("to", json!("+1555010012\u{0}")),
        ("from", json!("anonymous")),
        ("agent", json!("")),
        ("agent", json!("a b")),
        ("language", json!("english!")),
        ("parameters", json!({"ticket": "x"})),
        ("parameters", json!({"order": long})),
        ("parameters", json!({"order": "a\u{7}b"})),
        ("parameters", json!({"a b": "x"})),
        ("parameters", Value::Object(many)),
        ("ring_timeout_s", json!(4)),
        ("ring_timeout_s", json!(601)),
        ("time_limit_s", json!(0)),
        ("time_limit_s", json!(86_401)),
        ("websocket_url", json!("ws://voice.example.com/voice/stream")),
        ("websocket_url", json!("wss://media.example.org/x?token=1")),
        ("websocket_url", json!("wss://user@media.example.org/x")),
        ("websocket_url", json!("wss://evil.example\\@media.example.org/x")),
        ("websocket_url", json!("wss:///x")),
        ("websocket_url", json!("nonsense")),
        ("status_webhook", json!("")),
        ("status_webhook", json!("https://")),
        ("status_webhook", json!("ftp://example.org/x")),
        ("status_webhook", json!("https://example.org/a b")),
        ("status_webhook", json!(format!("https://example.org/{}", "x".repeat(2048)))),
    ];
    for (field, value) in cases {
        match read(&with(field, value.clone())) {
            Err(Problem::Invalid { field: named, .. }) => assert_eq!(named, field, "{value}"),
            other => panic!("{field} {value}: {other:?}"),
        }
    }
    let machine = read(&with("answering_machine", json!({"mode": "detect", "timeout_s": 2})));
    assert!(matches!(machine, Err(Problem::Invalid { field: "answering_machine.timeout_s", .. })));
}

#[test]
fn what_is_not_of_the_shape_is_said() {
    for body in [
        json!([]),
        json!("x"),
        json!({}),
        json!({"to": 5}),
        json!({"to": null}),
        with("recording", json!("stereo")),
        with("parameters", json!({"a": 1})),
        with("ring_timeout_s", json!(-1)),
        with("ring_timeout_s", json!(1.5)),
        with("ring_timeout_s", json!(1e300)),
        with("ring_timeout_s", json!("30")),
        with("unknown", json!(1)),
        // Fields in their order are not an object.
        json!(["+15550100123", null, null, null, null, null, null, null, null, null, null]),
        with("answering_machine", json!(["detect", 5])),
    ] {
        assert!(matches!(read(&body), Err(Problem::Body(_))), "{body}");
    }
    let raw = |body: &str| NewCall::read(&headers(), body.as_bytes(), &config());
    for twice in [
        r#"{"to":"+15550100123","to":"+15550100124"}"#,
        r#"{"to":"+15550100123","parameters":{"a":"1","a":"2"}}"#,
        r#"{"to":"+15550100123"} {}"#,
    ] {
        assert!(matches!(raw(twice), Err(Problem::Body(_))), "{twice}");
    }
    assert!(matches!(raw(&"[".repeat(100_000)), Err(Problem::Body(_))));
    assert_eq!(read(&with("ring_timeout_s", json!(30.0))).unwrap().ring_timeout_s, Some(30), "30.0 is 30");
    let plain = HeaderMap::new();
    assert!(matches!(NewCall::read(&plain, b"{}", &config()), Err(Problem::MediaType)));
    assert!(matches!(NewCall::read(&headers(), b"{\"to\":\xff}", &config()), Err(Problem::Body(_))));
}

#[test]
fn forbidden_destinations_and_foreign_streams_are_refused() {
    assert!(matches!(read(&json!({"to": "+4930123456"})), Err(Problem::Destination)));
    for foreign in ["wss://evil.example/x", "wss://%/x", "wss://a:b:c", "wss://media.example.org.evil.example/"] {
        assert!(matches!(read(&with("websocket_url", json!(foreign))), Err(Problem::StreamHost)), "{foreign}");
    }
    for refused in ["http://example.org/x", "https://user@example.org/x", "https://%/"] {
        assert!(matches!(read(&with("status_webhook", json!(refused))), Err(Problem::Webhook(_))), "{refused}");
    }
    for ours in ["wss://voice.example.com/voice/stream", "wss://voice.example.com/ws"] {
        assert!(read(&with("websocket_url", json!(ours))).unwrap().stream_url.is_none());
    }
}

#[test]
fn the_documented_query_says_the_same() {
    let query = |query: &str| NewCall::read_query(query, &config());
    let call = query("to_number=%2B15550100123&websocket_url=wss%3A%2F%2Fvoice.example.com%2Fws").unwrap();
    assert_eq!(call.to.expose(), "+15550100123");
    let twice = query("to_number=%2B15550100123&to_number=%2B15550100124");
    assert!(matches!(twice, Err(Problem::Invalid { field: "to_number", .. })));
    assert!(matches!(query("to_number=%FF%FE"), Err(Problem::Invalid { field: "to_number", .. })));
    assert!(matches!(query("websocket_url="), Err(Problem::Invalid { field: "to_number", .. })));
    // As it stands in the documentation, where the plus ought to have been escaped.
    let plain = query("to_number=+15550100123&from_number=+15550100199").unwrap();
    assert_eq!([plain.to.expose(), plain.from.expose()], ["+15550100123", "+15550100199"]);
    assert!(matches!(query("to_number=++15550100123"), Err(Problem::Invalid { field: "to_number", .. })));
}

#[test]
fn a_change_is_exactly_one_thing() {
    let change = |body: Value| Change::read(&headers(), body.to_string().as_bytes(), &config());
    let instruct = |body| match change(body).unwrap() {
        Change::Instruct(what) => what,
        Change::Transfer(to) => panic!("{to}"),
    };
    assert_eq!(instruct(json!({"say": "Hello."})), Instruction::Say("Hello.".into()));
    assert_eq!(instruct(json!({"play_digits": "1w#D"})), Instruction::PlayDigits("1w#D".into()));
    assert_eq!(instruct(json!({"agent": "other"})), Instruction::ChangeAgent("other".into()));
    assert_eq!(instruct(json!({"hold": true})), Instruction::Hold);
    assert_eq!(instruct(json!({"hold": false})), Instruction::Resume);
    assert_eq!(change(json!({"transfer": "+15550100111"})).unwrap(), Change::Transfer("+15550100111".into()));
    assert!(change(json!({"transfer": "sip:desk@example.com"})).is_ok());
    let (none, two) = (json!({}), json!({"hold": true, "say": "x"}));
    let nulls = json!({"hold": null, "say": "x"});
    for bad in [none, two, nulls, json!({"say": null}), json!("hold"), json!([true]), json!({"stop": true})] {
        match change(bad.clone()) {
            Err(Problem::Body(what)) => assert!(what.contains("one of say, play_digits, agent"), "{what}"),
            other => panic!("{bad}: {other:?}"),
        }
    }
    for (field, value) in [
        ("say", json!("")),
        ("say", json!("a\nb")),
        ("play_digits", json!("12x")),
        ("transfer", json!("911")),
        ("transfer", json!("sip:@b")),
    ] {
        assert!(matches!(change(json!({field: value})), Err(Problem::Invalid { .. })), "{field}");
    }
    assert!(matches!(change(json!({"transfer": "+4930123456"})), Err(Problem::Destination)));
}

#[test]
fn pages_are_asked_for_within_bounds() {
    let page = Page::read("limit=500&state=live&cursor=17&other=1").unwrap();
    assert_eq!(page, Page { which: Which::Live, limit: 500, before: Some(17) });
    for bad in [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=-1",
        "limit=%2B5",
        "limit=1000000000",
        "limit=5&limit=6",
        "state=none",
        "cursor=abc",
        "cursor=",
        "cursor=%2B17",
        "cursor=18446744073709551616",
    ] {
        assert!(matches!(Page::read(bad), Err(Problem::Invalid { .. })), "{bad}");
    }
}

#[test]
fn a_key_is_visible_ascii() {
    let key = |key: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", http::HeaderValue::from_bytes(key).unwrap());
        idempotency_key(&headers)
    };
    assert_eq!(key(b"order-17").unwrap().as_deref(), Some("order-17"));
    assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
    for bad in [&b""[..], b"a b", b"a\tb", b"\xfc", &[b'x'; 256]] {
        assert!(matches!(key(bad), Err(Problem::Invalid { field: "Idempotency-Key", .. })), "{bad:?}");
    }
}
