//! One session: what comes is checked and noted, what is answered goes out at its pace.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::{StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request as Handshake, Response},
        protocol::{
            CloseFrame,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};

use super::{
    Mishap, Request, Seen, Shared,
    hearing::{Hearing, Turn},
    protocol::{self, Ids, error},
};

/// Events that a client may send.
const CLIENT: [&str; 8] = [
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.truncate",
    "response.create",
    "response.cancel",
];

/// Silence that ends a turn where the client says nothing else, ms.
const SILENCE_MS: u64 = 500;

/// Seconds of sound in a flood: more than any response has.
const FLOOD: usize = 250;

struct Session {
    shared: Arc<Shared>,
    at: usize,
    mishap: Mishap,
    hearing: Hearing,
    /// Nothing while the client decides itself.
    silence_ms: Option<u64>,
    is_pcm: bool,
    uncommitted: usize,
    events: u64,
    responses: usize,
    output: Option<String>,
    /// The response that is being made.
    active: Option<Ids>,
    queue: VecDeque<(Instant, Value)>,
}

#[expect(clippy::result_large_err, reason = "the handshake's callback has this type")]
pub(super) async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let (mishap, key) = {
        let mut script = shared.script();
        let mishap = if script.mishaps.is_empty() { Mishap::None } else { script.mishaps.remove(0) };
        (mishap, script.key.clone())
    };
    let mut seen = Seen::default();
    let refused = |status: u16| {
        let mut response = ErrorResponse::new(None);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response
    };
    if let Mishap::Refused(599) = mishap {
        let _ = stream.write_all(b"<html>").await;
        return;
    }
    let callback = |request: &Handshake, response: Response| {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        seen.target = request.uri().to_string();
        seen.key = authorization.and_then(|value| value.strip_prefix("Bearer ")).map(ToOwned::to_owned);
        if let Mishap::Refused(status) = mishap {
            Err(refused(status))
        } else if key.is_some() && seen.key != key {
            Err(refused(401))
        } else {
            Ok(response)
        }
    };
    let accepted = accept_hdr_async(stream, callback).await;
    let mut at = 0;
    shared.seen.send_modify(|all| {
        at = all.len();
        seen.is_over = accepted.is_err();
        all.push(seen);
    });
    let Ok(socket) = accepted else { return };
    let session = Session {
        shared: Arc::clone(&shared),
        at,
        mishap,
        hearing: Hearing::default(),
        silence_ms: Some(SILENCE_MS),
        is_pcm: false,
        uncommitted: 0,
        events: 0,
        responses: 0,
        output: None,
        active: None,
        queue: VecDeque::new(),
    };
    session.run(socket).await;
    shared.note(at, |seen| seen.is_over = true);
}

impl Session {
    async fn run(mut self, mut socket: WebSocketStream<TcpStream>) {
        let mut drops = self.shared.drops.subscribe();
        drops.mark_unchanged();
        match self.mishap {
            Mishap::Garbage => {
                let _ = socket.send(Message::text("<html>Bad Gateway</html>")).await;
            }
            Mishap::Closed(code) => {
                let refusal = error("invalid_request_error", "invalid_api_key", "Incorrect API key.", &Value::Null);
                let _ = socket.send(Message::text(refusal.to_string())).await;
                let frame = CloseFrame { code: code.into(), reason: "invalid_request_error.invalid_api_key".into() };
                let _ = socket.close(Some(frame)).await;
                // Whoever still writes must be able to read it first.
                while let Some(Ok(_)) = socket.next().await {}
                return;
            }
            Mishap::Mute => {}
            Mishap::None | Mishap::Refused(_) | Mishap::Fragments(_) | Mishap::Failing | Mishap::Flood => {
                self.queue_now(
                    json!({"type": "session.created", "session": protocol::session(&json!({"type": "realtime"}))}),
                );
            }
        }
        loop {
            let due = self.queue.front().map_or_else(|| now() + Duration::from_secs(3600), |(due, _)| *due);
            tokio::select! {
                _ = drops.changed() => return,
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.take(&text),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
                () = sleep_until(due) => {
                    if let Some((_, event)) = self.queue.pop_front()
                        && self.send(&mut socket, event).await.is_none()
                    {
                        return;
                    }
                }
            }
        }
    }

    async fn send(&mut self, socket: &mut WebSocketStream<TcpStream>, mut event: Value) -> Option<()> {
        if let Mishap::Mute | Mishap::Garbage = self.mishap {
            return Some(());
        }
        self.events += 1;
        event["event_id"] = format!("event_{}", self.events).into();
        if event["type"] == "response.done" {
            self.active = None;
        }
        let sent = if self.shared.script().is_beta { protocol::beta(event.clone()) } else { event.clone() };
        let text = sent.to_string();
        if event["type"] == "response.output_audio.delta" {
            let sound = STANDARD.decode(event["delta"].as_str().unwrap_or_default()).unwrap_or_default().len();
            let item = event["item_id"].as_str().unwrap_or_default().to_owned();
            event["delta"] = "".into();
            self.shared.note(self.at, |seen| match seen.items.iter_mut().find(|(known, _)| *known == item) {
                Some((_, bytes)) => *bytes += sound,
                None => seen.items.push((item, sound)),
            });
        }
        self.shared.note(self.at, |seen| seen.sent.push(event));
        let Mishap::Fragments(size) = self.mishap else { return socket.send(Message::text(text)).await.ok() };
        let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let kind = if at == 0 { Data::Text } else { Data::Continue };
            let is_last = at + 1 == pieces.len();
            let frame = Frame::message(piece.to_vec(), OpCode::Data(kind), is_last);
            socket.send(Message::Frame(frame)).await.ok()?;
        }
        Some(())
    }

    fn queue_now(&mut self, event: Value) {
        let at = self.queue.iter().position(|(due, _)| *due > now()).unwrap_or(self.queue.len());
        self.queue.insert(at, (now(), event));
    }

    fn violation(&mut self, what: String) {
        self.shared.note(self.at, |seen| seen.violations.push(what));
    }

    fn take(&mut self, text: &str) {
        let Ok(mut event) = serde_json::from_str::<Value>(text) else {
            return self.violation("no JSON".to_owned());
        };
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        if !CLIENT.contains(&kind.as_str()) {
            self.violation(format!("no such event: {kind}"));
            self.queue_now(error("invalid_request_error", "invalid_value", "No such event.", &event["event_id"]));
            return;
        }
        let sound =
            (kind == "input_audio_buffer.append").then(|| STANDARD.decode(event["audio"].as_str().unwrap_or_default()));
        if let Some(Ok(sound)) = &sound {
            event["audio"] = "".into();
            self.shared.note(self.at, |seen| seen.appended.extend(sound));
        }
        self.shared.note(self.at, |seen| seen.came.push(event.clone()));
        match kind.as_str() {
            "session.update" => self.on_update(&event["session"]),
            "input_audio_buffer.append" => match sound {
                Some(Ok(sound)) => self.on_sound(&sound),
                Some(Err(_)) | None => self.violation("sound that is no base64".to_owned()),
            },
            "input_audio_buffer.commit" => self.on_commit(&event),
            "input_audio_buffer.clear" => {
                self.uncommitted = 0;
                self.queue_now(json!({"type": "input_audio_buffer.cleared"}));
            }
            "conversation.item.create" => self.on_item(&event["item"]),
            "conversation.item.truncate" => self.on_truncate(&event),
            "response.create" => self.on_create(&event),
            _ if self.active.is_none() => self.queue_now(error(
                "invalid_request_error",
                "response_cancel_not_active",
                "Cancellation failed: no active response found",
                &event["event_id"],
            )),
            _ => self.cancel(),
        }
    }

    fn on_update(&mut self, session: &Value) {
        let input = &session["audio"]["input"];
        self.is_pcm = input["format"]["type"] == "audio/pcm";
        let detection = &input["turn_detection"];
        let silence_ms = || detection["silence_duration_ms"].as_u64().unwrap_or(SILENCE_MS);
        self.silence_ms = (!detection.is_null()).then(silence_ms);
        self.queue_now(json!({"type": "session.updated", "session": protocol::session(session)}));
    }

    fn on_sound(&mut self, sound: &[u8]) {
        self.uncommitted += sound.len();
        let Some(silence_ms) = self.silence_ms.filter(|_| !self.is_pcm) else { return };
        for turn in self.hearing.hear(sound, silence_ms) {
            let item = format!("user_{}", self.events);
            match turn {
                Turn::Began(ms) => {
                    let began = "input_audio_buffer.speech_started";
                    self.queue_now(json!({"type": began, "audio_start_ms": ms, "item_id": item}));
                    self.cancel();
                }
                Turn::Ended(ms) => {
                    let ended = "input_audio_buffer.speech_stopped";
                    self.queue_now(json!({"type": ended, "audio_end_ms": ms, "item_id": item}));
                    self.committed(&item);
                    self.respond(Request::default());
                }
            }
        }
    }

    fn on_commit(&mut self, event: &Value) {
        // A tenth of a second is the least that is taken.
        if self.uncommitted < if self.is_pcm { 4800 } else { 800 } {
            self.violation("a commit of next to nothing".to_owned());
            let code = "input_audio_buffer_commit_empty";
            return self.queue_now(error("invalid_request_error", code, "Too small.", &event["event_id"]));
        }
        let item = format!("user_{}", self.events);
        self.committed(&item);
    }

    fn committed(&mut self, item: &str) {
        self.uncommitted = 0;
        self.queue_now(json!({"type": "input_audio_buffer.committed", "item_id": item, "previous_item_id": null}));
        let words = self.shared.script().words.clone();
        if !words.is_empty() {
            let usage = json!({"type": "duration", "seconds": 1.0});
            self.queue_now(json!({
                "type": "conversation.item.input_audio_transcription.completed",
                "item_id": item,
                "content_index": 0,
                "transcript": words,
                "usage": usage,
            }));
        }
    }

    fn on_item(&mut self, item: &Value) {
        if item["type"] == "function_call_output" {
            self.output = item["output"].as_str().map(ToOwned::to_owned);
        }
        let mut item = item.clone();
        item["id"] = format!("item_{}", self.events).into();
        self.queue_now(json!({"type": "conversation.item.added", "item": item, "previous_item_id": null}));
    }

    fn on_truncate(&mut self, event: &Value) {
        let per_ms = if self.is_pcm { 48 } else { 8 };
        let item = event["item_id"].as_str().unwrap_or_default();
        let end_ms = event["audio_end_ms"].as_u64().unwrap_or(u64::MAX);
        let known = self.shared.seen.borrow()[self.at].items.iter().find(|(known, _)| known == item).cloned();
        let is_good = known.is_some_and(|(_, bytes)| end_ms <= (bytes / per_ms) as u64);
        if is_good {
            self.queue_now(json!({
                "type": "conversation.item.truncated", "item_id": item, "content_index": 0, "audio_end_ms": end_ms,
            }));
        } else {
            self.violation(format!("truncated beyond the end: {event}"));
            let code = "invalid_value";
            self.queue_now(error("invalid_request_error", code, "Audio content is shorter.", &event["event_id"]));
        }
    }

    fn on_create(&mut self, event: &Value) {
        if self.active.is_some() {
            let code = "conversation_already_has_active_response";
            return self.queue_now(error("invalid_request_error", code, "One at a time.", &event["event_id"]));
        }
        let instructions = event["response"]["instructions"].as_str().map(ToOwned::to_owned);
        self.respond(Request { instructions, ..Request::default() });
    }

    fn respond(&mut self, request: Request) {
        if self.active.is_some() {
            return;
        }
        let request = Request { before: self.responses, output: self.output.take(), ..request };
        self.responses += 1;
        let n = format!("{}_{}", self.at, self.responses);
        let ids = Ids { response: format!("resp_{n}"), item: format!("item_{n}"), call: format!("call_{n}") };
        let script = self.shared.script().clone();
        let mut answer = (script.respond)(&request);
        if self.mishap == Mishap::Flood {
            answer.sound = vec![0x55; FLOOD * 8000];
        }
        let mut events = protocol::whole(&ids, &answer, script.piece.max(1));
        if self.mishap == Mishap::Failing {
            let done = json!({"type": "response.done", "response": protocol::response(&ids, "failed", &[])});
            events = vec![events.swap_remove(0), done];
        }
        self.active = Some(ids);
        let mut due = now();
        for event in events {
            if event["type"] == "response.created" {
                self.queue.push_back((due, event));
                due += script.delay;
                continue;
            }
            let is_sound = event["type"] == "response.output_audio.delta";
            self.queue.push_back((due, event));
            if is_sound {
                due += script.pace;
            }
        }
    }

    /// Gives up the response that is being made: what was not sent of it will not be.
    fn cancel(&mut self) {
        let Some(ids) = self.active.clone() else { return };
        let is_of = |event: &Value| event["response_id"] == ids.response || event["response"]["id"] == ids.response;
        let was_begun = !self.queue.iter().any(|(_, event)| event["type"] == "response.created" && is_of(event));
        self.queue.retain(|(_, event)| !is_of(event) || (event["type"] == "response.created" && !was_begun));
        self.queue_now(json!({"type": "response.done", "response": protocol::response(&ids, "cancelled", &[])}));
    }
}

#[expect(clippy::disallowed_methods, reason = "delays are fixed in real time, or in a test's virtual time")]
fn now() -> Instant {
    Instant::now()
}
