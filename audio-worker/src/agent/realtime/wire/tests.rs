//! The wire, event by event.

use super::*;

fn here() -> Place {
    Place { response: "r".to_owned(), item: "i".to_owned(), content: 0 }
}

fn sent(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn events_are_read_by_their_published_names_and_by_those_of_the_beta() {
    let place = r#""event_id": "e", "response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0"#;
    for name in ["response.output_audio", "response.audio"] {
        let sound = format!(r#"{{"type": "{name}.delta", {place}, "delta": "AP9/"}}"#);
        assert_eq!(Event::read(&sound), Ok(Event::Sound { place: here(), sound: vec![0, 255, 127] }));
        let end = format!(r#"{{{place}, "type": "{name}.done"}}"#);
        assert_eq!(Event::read(&end), Ok(Event::SoundEnd { place: here() }));
        let words = format!(r#"{{"type": "{name}_transcript.delta", {place}, "delta": "d\u00e9j\u00e0 "}}"#);
        assert_eq!(Event::read(&words), Ok(Event::Words { place: here(), words: "d\u{e9}j\u{e0} ".to_owned() }));
        let all = format!(r#"{{"type": "{name}_transcript.done", {place}, "transcript": "so"}}"#);
        assert_eq!(Event::read(&all), Ok(Event::AllWords { place: here(), words: "so".to_owned() }));
    }
    for (text, event) in [
        (r#"{"type": "session.created", "session": {}}"#, Event::Ready),
        (r#"{"type": "input_audio_buffer.speech_started", "audio_start_ms": 5, "item_id": "i"}"#, Event::SpeechStarted),
        (r#"{"type": "response.created", "response": {"id": "r"}}"#, Event::Begun { response: "r".to_owned() }),
        (r#"{"type": "rate_limits.updated", "rate_limits": 7}"#, Event::Other),
        (r#"{"type": "something.new"}"#, Event::Other),
    ] {
        assert_eq!(Event::read(text), Ok(event), "{text}");
    }
}

#[test]
fn the_end_of_a_response_tells_its_calls_and_why_it_failed() {
    let done = r#"{"type": "response.done", "response": {"id": "r", "status": "completed", "status_details": null,
        "output": [{"type": "message"}, {"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"}]}}"#;
    let call = Call { id: "c".to_owned(), name: "n".to_owned(), arguments: "{}".to_owned() };
    let expected = Done { response: "r".to_owned(), calls: vec![call], ..Done::default() };
    assert_eq!(Event::read(done), Ok(Event::Done(expected.clone())));
    for (usage, tokens) in [
        (r#"{"input_tokens": 7, "output_tokens": 9, "total_tokens": 16}"#, Some((7, 9))),
        (r#"{"output_tokens": 9}"#, None),
        ("null", None),
        ("[]", None),
    ] {
        let done = done.replace(r#""id": "r""#, &format!(r#""id": "r", "usage": {usage}"#));
        assert_eq!(Event::read(&done), Ok(Event::Done(Done { usage: tokens, ..expected.clone() })), "{usage}");
    }
    let failed = r#"{"type": "response.done", "response": {"id": "r", "status": "failed", "status_details":
        {"type": "failed", "error": {"type": "server_error", "code": "x y, what was said"}}}}"#;
    let Ok(Event::Done(Done { failure: Some(failure), .. })) = Event::read(failed) else { panic!() };
    // What is no word is not told.
    assert_eq!((failure.kind.as_str(), failure.code.as_str()), ("server_error", ""));
}

#[test]
fn garbage_is_known_as_such() {
    let sound = r#"{"type": "response.output_audio.delta", "delta": "no base64!"}"#;
    for bad in ["", "<html>", "[]", "{}", r#"{"type": 1}"#, sound, r#"{"type": "response.done"}"#, "\u{0}"] {
        assert!(Event::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn sound_is_appended_byte_for_byte() {
    for length in [0, 1, 2, 3, 160, 1000] {
        let sound: Vec<u8> = (0..length).map(|at| (at * 7 % 256) as u8).collect();
        let event = sent(&append(&sound));
        assert_eq!(event["type"], "input_audio_buffer.append");
        assert_eq!(STANDARD.decode(event["audio"].as_str().unwrap()).unwrap(), sound);
    }
}

#[test]
fn a_session_is_configured_with_what_was_set_and_nothing_else() {
    let plain = Model {
        format: WireFormat::Ulaw,
        detection: Detection::Own,
        voice: None,
        speed: None,
        transcribe: None,
        temperature: None,
        max_tokens: None,
    };
    let expected = json!({
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": "Be brief.",
        "audio": {
            "input": {"format": {"type": "audio/pcmu"}, "turn_detection": null},
            "output": {"format": {"type": "audio/pcmu"}},
        },
    });
    assert_eq!(sent(&session(&plain, "Be brief.", "", &[]))["session"], expected);
    let full = Model {
        format: WireFormat::Pcm,
        detection: Detection::Server { threshold: Some(0.5), prefix_ms: None, silence_ms: Some(400) },
        voice: Some("marin".to_owned()),
        transcribe: Some("m".to_owned()),
        max_tokens: Some(99),
        ..plain
    };
    let configured = sent(&session(&full, "", "pt-BR", &[json!({"type": "function", "name": "f"})]));
    let (input, output) = (&configured["session"]["audio"]["input"], &configured["session"]["audio"]["output"]);
    assert_eq!(input["format"], json!({"type": "audio/pcm", "rate": 24_000}));
    assert_eq!(input["turn_detection"], json!({"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 400}));
    assert_eq!(input["transcription"], json!({"model": "m", "language": "pt"}));
    assert_eq!((&output["voice"], &configured["session"]["max_output_tokens"]), (&json!("marin"), &json!(99)));
    assert_eq!(configured["session"]["tools"][0]["name"], "f");
    assert_eq!(sent(&truncate(&here(), 250))["audio_end_ms"], 250);
}
