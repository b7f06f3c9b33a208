//! Events as the published description has them. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::Answer;

/// Names of events that the beta had, by those of today.
const BETA: [(&str, &str); 4] = [
    ("response.output_audio.delta", "response.audio.delta"),
    ("response.output_audio.done", "response.audio.done"),
    ("response.output_audio_transcript.delta", "response.audio_transcript.delta"),
    ("response.output_audio_transcript.done", "response.audio_transcript.done"),
];

/// An event as the beta called it.
pub(super) fn beta(mut event: Value) -> Value {
    if let Some((_, old)) = BETA.iter().find(|(new, _)| event["type"] == *new) {
        event["type"] = (*old).into();
    }
    event
}

pub(super) fn error(kind: &str, code: &str, message: &str, about: &Value) -> Value {
    let error = json!({"type": kind, "code": code, "message": message, "param": null, "event_id": about});
    json!({"type": "error", "error": error})
}

/// A session as the server tells of it.
pub(super) fn session(asked: &Value) -> Value {
    let mut session = asked.clone();
    session["id"] = "sess_1".into();
    session["object"] = "realtime.session".into();
    session["model"] = "gpt-realtime".into();
    session
}

/// The ids of one response.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    pub(super) response: String,
    pub(super) item: String,
    pub(super) call: String,
}

pub(super) fn response(ids: &Ids, status: &str, output: &[Value]) -> Value {
    let mut response = json!({
        "object": "realtime.response",
        "id": ids.response,
        "status": status,
        "output": output,
        "output_modalities": ["audio"],
    });
    if status != "in_progress" {
        response["usage"] = json!({"total_tokens": 30, "input_tokens": 10, "output_tokens": 20});
    }
    if status == "cancelled" {
        response["status_details"] = json!({"type": "cancelled", "reason": "turn_detected"});
    }
    if status == "failed" {
        response["status_details"] =
            json!({"type": "failed", "error": {"type": "server_error", "code": "overloaded", "message": "Alas."}});
    }
    response
}

/// The events of a whole response; those of sound have it in pieces.
pub(super) fn whole(ids: &Ids, answer: &Answer, piece: usize) -> Vec<Value> {
    let place = |kind: &str, more: Value| {
        let mut event = json!({
            "type": kind,
            "response_id": ids.response,
            "item_id": ids.item,
            "output_index": 0,
            "content_index": 0,
        });
        let more = more.as_object().cloned().unwrap_or_default();
        if let Some(event) = event.as_object_mut() {
            event.extend(more);
        }
        event
    };
    let mut events = vec![json!({"type": "response.created", "response": response(ids, "in_progress", &[])})];
    let mut output = Vec::new();
    if !answer.sound.is_empty() {
        let content = json!([{"type": "output_audio", "transcript": answer.words}]);
        let item = |status: &str, content: &Value| {
            json!({
                "id": ids.item,
                "object": "realtime.item",
                "type": "message",
                "status": status,
                "role": "assistant",
                "content": content,
            })
        };
        let added = item("in_progress", &json!([]));
        events.push(json!({
            "type": "response.output_item.added", "response_id": ids.response, "output_index": 0, "item": added,
        }));
        let pieces: Vec<&[u8]> = answer.sound.chunks(piece).collect();
        let words: Vec<&str> = answer.words.split_inclusive(' ').collect();
        for (at, sound) in pieces.iter().enumerate() {
            // Words run ahead of their sound a little, as they do.
            let until = (words.len() * (at + 2)).div_ceil(pieces.len()).min(words.len());
            let from = if at == 0 { 0 } else { (words.len() * (at + 1)).div_ceil(pieces.len()).min(words.len()) };
            if until > from {
                let delta = words[from..until].concat();
                events.push(place("response.output_audio_transcript.delta", json!({"delta": delta})));
            }
            events.push(place("response.output_audio.delta", json!({"delta": STANDARD.encode(sound)})));
        }
        events.push(place("response.output_audio.done", json!({})));
        events.push(place("response.output_audio_transcript.done", json!({"transcript": answer.words})));
        let done = item("completed", &content);
        events.push(json!({
            "type": "response.output_item.done", "response_id": ids.response, "output_index": 0, "item": done,
        }));
        output.push(done);
    }
    if let Some((name, arguments)) = &answer.call {
        let mut event = place(
            "response.function_call_arguments.done",
            json!({"call_id": ids.call, "name": name, "arguments": arguments}),
        );
        if let Some(event) = event.as_object_mut() {
            event.remove("content_index");
        }
        events.push(event);
        output.push(json!({
            "id": format!("{}-call", ids.item),
            "object": "realtime.item",
            "type": "function_call",
            "status": "completed",
            "call_id": ids.call,
            "name": name,
            "arguments": arguments,
        }));
    }
    events.push(json!({"type": "response.done", "response": response(ids, "completed", &output)}));
    events
}
