//! Messages as Twilio documents them, as others send them, and as nobody should.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn event(value: &Value) -> Result<Event, Malformed> {
    Inbound::parse(&value.to_string()).map(|message| message.event)
}

#[test]
fn the_documented_messages_are_read() {
    let start = json!({
        "event": "start", "sequenceNumber": "1", "streamSid": "MZ18",
        "start": {"accountSid": "AC1", "streamSid": "MZ18", "callSid": "CA7", "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"FirstName": "Jane", "n": 3}}
    });
    let Ok(Event::Start(start)) = event(&start) else { panic!("no start") };
    assert_eq!((start.call_sid.as_str(), start.stream_sid.as_str(), start.is_mulaw_8000), ("CA7", "MZ18", true));
    assert_eq!(start.parameters["FirstName"], "Jane");
    assert_eq!(start.parameters["n"], "3");

    let media = json!({
        "event": "media", "sequenceNumber": "3", "streamSid": "MZ18",
        "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": "/////w=="}
    });
    let message = Inbound::parse(&media.to_string()).unwrap();
    assert_eq!(message.stream_sid.as_deref(), Some("MZ18"));
    let expected =
        Media { is_inbound: true, chunk: Some(1), timestamp_ms: Some(5), mulaw: Bytes::from_static(&[0xFF; 4]) };
    assert_eq!(message.event, Event::Media(expected));

    let connected = json!({"event": "connected", "protocol": "Call", "version": "1.0.0"});
    assert_eq!(event(&connected), Ok(Event::Connected));
    let dtmf = json!({"event": "dtmf", "streamSid": "MZ18", "sequenceNumber": "5", "dtmf": {"track": "inbound_track", "digit": "1"}});
    assert_eq!(event(&dtmf), Ok(Event::Dtmf('1')));
    let mark = json!({"event": "mark", "sequenceNumber": "4", "streamSid": "MZ18", "mark": {"name": "my label"}});
    assert_eq!(event(&mark), Ok(Event::Mark("my label".into())));
    let stop = json!({"event": "stop", "sequenceNumber": "5", "streamSid": "MZ18", "stop": {"accountSid": "AC1", "callSid": "CA7"}});
    assert_eq!(event(&stop), Ok(Event::Stop));
}

#[test]
fn numbers_may_be_strings_or_numbers_or_nonsense() {
    for (chunk, read) in [
        (json!("7"), Some(7)),
        (json!(7), Some(7)),
        (json!(7.0), Some(7)),
        (json!("x"), None),
        (json!(-1), None),
        (json!(null), None),
        (json!(true), None),
    ] {
        let media = json!({"event": "media", "media": {"chunk": chunk, "payload": "/w=="}});
        let Ok(Event::Media(media)) = event(&media) else { panic!("no media") };
        assert_eq!(media.chunk, read);
    }
}

#[test]
fn an_escaped_payload_is_the_same_payload() {
    let text = r#"{"event":"media","media":{"payload":"\/\/\/\/\/w=="}}"#;
    let Ok(Event::Media(media)) = Inbound::parse(text).map(|m| m.event) else { panic!("no media") };
    assert_eq!(media.mulaw, Bytes::from_static(&[0xFF; 4]));
}

#[test]
fn what_cannot_be_used_says_why() {
    let media = |payload: Value| json!({"event": "media", "media": {"payload": payload}});
    assert_eq!(Inbound::parse("hello"), Err(Malformed::Json));
    assert_eq!(Inbound::parse("[1]"), Err(Malformed::Json));
    assert_eq!(event(&json!({})), Err(Malformed::NoEvent));
    assert_eq!(event(&json!({"event": "media"})), Err(Malformed::Field("media")));
    assert_eq!(event(&media(json!("not base64!"))), Err(Malformed::Payload));
    assert_eq!(event(&media(json!(""))), Err(Malformed::EmptyPayload));
    assert_eq!(event(&media(json!(STANDARD.encode(vec![0; 65_536])))), Err(Malformed::LongPayload));
    assert_eq!(event(&media(json!(7))), Err(Malformed::Json));
    assert_eq!(event(&json!({"event": "dtmf", "dtmf": {"digit": "12"}})), Err(Malformed::Field("dtmf.digit")));
    let bad_sid = json!({"event": "start", "start": {"callSid": "CA\"7", "streamSid": "MZ1", "mediaFormat": {}}});
    assert_eq!(event(&bad_sid), Err(Malformed::Field("start.callSid")));
}

#[test]
fn unknown_events_and_fields_are_not_errors() {
    assert_eq!(event(&json!({"event": "party", "media": null, "more": [1, 2]})), Ok(Event::Unknown));
}

#[test]
fn only_documented_fields_are_written() {
    let written = |message: &Outbound| serde_json::from_str::<Value>(&message.write("MZ1")).unwrap();
    assert_eq!(
        written(&Outbound::Media(Bytes::from_static(&[0xFF; 4]))),
        json!({"event": "media", "streamSid": "MZ1", "media": {"payload": "/////w=="}})
    );
    let mark = Mark { utterance: 3, ms: 1200 };
    assert_eq!(
        written(&Outbound::Mark(mark)),
        json!({"event": "mark", "streamSid": "MZ1", "mark": {"name": "u3:1200"}})
    );
    assert_eq!(written(&Outbound::Clear), json!({"event": "clear", "streamSid": "MZ1"}));
}

proptest! {
    #[test]
    fn a_marks_name_says_what_it_marks(utterance: u64, ms: u64) {
        let mark = Mark { utterance, ms };
        prop_assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
    }

    #[test]
    fn no_text_panics(text in ".*") {
        let _ = Inbound::parse(&text);
        let _ = Mark::parse(&text);
    }
}
