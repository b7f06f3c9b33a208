//! HTTP in front of the script: requests are noted, checked, met by mishaps, and answered piece by piece.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinSet, spawn_blocking},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Asked, End, Heard, Mishap, Shared, Stage, Turn,
    answer::{Answer, Ending, tokens},
    form, now,
    script::Script,
};

/// Largest request: OpenAI takes recordings of 25 MB.
const BODY_LIMIT: usize = 26 << 20;
/// The rate that nobody asked for.
const WRONG_RATE_HZ: u32 = 11_025;

/// Serves connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Tokens are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| handle(Arc::clone(&shared), request));
    // A client that leaves is noted with its request.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<Playing>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return Err(io::Error::other("half a request, or too long a one"));
    };
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let stage = match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/audio/transcriptions") => Stage::Transcription,
        (&Method::POST, "/v1/chat/completions") => Stage::Chat,
        (&Method::POST, "/v1/audio/speech") => Stage::Speech,
        (&Method::GET, "/v1/models") => Stage::Models,
        _ => return respond(Answer::refusal(404, "invalid_request_error", "Unknown request URL"), now(), None).await,
    };
    let (script, mishap) = shared.next(stage);
    let key = text(header::AUTHORIZATION).strip_prefix("Bearer ").map(ToOwned::to_owned);
    let is_known = script.key.is_none() || key == script.key;
    let read = fields(stage, text(header::CONTENT_TYPE), &body.to_bytes());
    let (fields, file) = read.clone().unwrap_or_default();
    let at = now();
    let asked = Asked { stage, at, key, fields, file, answered: None, pieces: 0, end: None };
    let noted = Noted { place: shared.note(asked), shared, is_over: false };
    let answer = match (read, mishap) {
        _ if !is_known => Answer::refusal(401, "invalid_request_error", "Incorrect API key provided."),
        (None, _) => Answer::refusal(400, "invalid_request_error", "Not a form, or not JSON."),
        (Some((fields, file)), mishap) => {
            let of_rate = (mishap == Some(Mishap::WrongRate)).then_some(WRONG_RATE_HZ);
            let work = spawn_blocking(move || answer(stage, &script, &fields, file, of_rate));
            let answer = work.await.map_err(io::Error::other)?;
            match mishap {
                Some(mishap) if answer.status == 200 => answer.spoilt(&mishap),
                _ => answer,
            }
        }
    };
    respond(answer, at, Some(noted)).await
}

/// The fields of a request, and its file.
fn fields(stage: Stage, content_type: &str, body: &[u8]) -> Option<(Value, Vec<u8>)> {
    match stage {
        Stage::Models => Some((Value::Null, Vec::new())),
        Stage::Chat | Stage::Speech => {
            let is_json = content_type.starts_with("application/json");
            let fields: Value = serde_json::from_slice(body).ok()?;
            (is_json && fields.is_object()).then_some((fields, Vec::new()))
        }
        Stage::Transcription => {
            let (mut fields, mut file) = (Map::new(), Vec::new());
            for field in form::fields(content_type, body)? {
                if field.file_name.is_some() {
                    file = field.value.to_vec();
                } else {
                    fields.insert(field.name.to_owned(), String::from_utf8_lossy(field.value).into());
                }
            }
            Some((fields.into(), file))
        }
    }
}

/// What is answered when nothing goes wrong; made on a thread of its own.
fn answer(stage: Stage, script: &Script, fields: &Value, file: Vec<u8>, wrong_rate: Option<u32>) -> Answer {
    let refusal = |message: &str| Answer::refusal(400, "invalid_request_error", message);
    let text = |name: &str| fields[name].as_str().filter(|text| !text.is_empty());
    match (stage, text("model")) {
        (Stage::Models, _) => Answer::models(),
        (_, None) => refusal("you must provide a model parameter"),
        (Stage::Transcription, Some(_)) => {
            let Ok(samples) = hound::WavReader::new(&file[..])
                .map(|wav| f64::from(wav.duration()) / f64::from(wav.spec().sample_rate))
            else {
                return refusal("Invalid file format.");
            };
            let language = text("language").map(ToOwned::to_owned);
            if language.as_ref().is_some_and(|language| language.len() != 2) {
                return refusal("Invalid language. Language parameter must be specified in ISO-639-1 format.");
            }
            Answer::transcript(script, &(script.hear)(&Heard { wav: file, language }), samples)
        }
        (Stage::Chat, Some(model)) => {
            let turns = fields["messages"].as_array().and_then(|all| turns(all));
            let Some(turns) = turns.filter(|turns| !turns.is_empty()) else {
                return refusal("Invalid 'messages'.");
            };
            let Some(has_tools) = has_tools(&fields["tools"]) else { return refusal("Invalid 'tools'.") };
            let wanted = if has_tools { (script.want)(&turns) } else { Vec::new() };
            let prompt = turns.iter().map(|turn| tokens(&turn.text).len()).sum();
            let is_streamed = fields["stream"] == json!(true);
            let has_cost = fields["stream_options"]["include_usage"] == json!(true);
            Answer::chat(script, model, prompt, (&(script.think)(&turns), &wanted), is_streamed, has_cost)
        }
        (Stage::Speech, Some(_)) => {
            let (Some(input), Some(voice)) = (text("input"), text("voice")) else {
                return refusal("Input and voice are needed.");
            };
            if input.chars().count() > 4096 {
                return refusal("The input is too long.");
            }
            let file_of = match fields["response_format"].as_str() {
                Some("pcm") => None,
                Some("wav") => Some(super::RATE_HZ),
                _ => return refusal("The stand-in speaks pcm and wav only."),
            };
            Answer::speech(script, &(script.say)(input, voice), wrong_rate.or(file_of))
        }
    }
}

/// Whether a request has tools; `None` when they are not as OpenAI wants them.
fn has_tools(tools: &Value) -> Option<bool> {
    if tools.is_null() {
        return Some(false);
    }
    let is_tool = |tool: &Value| tool["type"] == "function" && tool["function"]["name"].is_string();
    // An empty list is refused as well.
    let is_good = tools.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_tool));
    is_good.then_some(true)
}

/// The messages of a request; `None` when they are not as OpenAI wants them: each call of a tool is answered at once.
fn turns(messages: &[Value]) -> Option<Vec<Turn>> {
    let mut open: Vec<&str> = Vec::new();
    let mut turns = Vec::new();
    for message in messages {
        let role = message["role"].as_str()?;
        let calls = message["tool_calls"].as_array();
        let content = &message["content"];
        let text = if content.is_null() && calls.is_some() { "" } else { content.as_str()? };
        if role == "tool" {
            let answered = open.iter().position(|id| message["tool_call_id"] == **id)?;
            open.remove(answered);
        } else if !open.is_empty() {
            return None;
        }
        for call in calls.into_iter().flatten().filter(|_| role == "assistant") {
            call["function"]["name"].as_str()?;
            call["function"]["arguments"].as_str()?;
            open.push(call["id"].as_str()?);
        }
        turns.push(Turn { role: role.to_owned(), text: text.to_owned() });
    }
    open.is_empty().then_some(turns)
}

/// Waits for the first piece, and with it begins to answer.
async fn respond(answer: Answer, asked: Instant, noted: Option<Noted>) -> io::Result<Response<Playing>> {
    match (answer.pieces.first(), answer.ending) {
        (Some((at, _)), _) => sleep_until(asked + *at).await,
        (None, Ending::Whole) => {}
        (None, Ending::Broken) => {
            if let Some(mut noted) = noted {
                noted.end();
            }
            return Err(io::Error::other("the answer is lost, as planned"));
        }
        (None, Ending::Never) => match std::future::pending::<Infallible>().await {},
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let due = answer.pieces.first().map_or(asked, |(at, _)| asked + *at);
    let playing = Playing {
        asked,
        pieces: answer.pieces.into_iter().collect::<Vec<_>>().into_iter(),
        next: None,
        timer: Box::pin(sleep_until(due)),
        ending: answer.ending,
        noted,
    };
    let mut response = Response::new(playing);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if let Some(time) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(time.as_secs()));
    }
    Ok(response)
}

/// An answer on its way out.
#[derive(Debug)]
struct Playing {
    asked: Instant,
    pieces: std::vec::IntoIter<(std::time::Duration, Bytes)>,
    /// What goes out when the timer fires.
    next: Option<Bytes>,
    timer: Pin<Box<Sleep>>,
    ending: Ending,
    noted: Option<Noted>,
}

impl Body for Playing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.next.is_none() {
            if let Some((at, piece)) = this.pieces.next() {
                this.timer.as_mut().reset(this.asked + at);
                this.next = Some(piece);
            } else {
                if this.ending == Ending::Never {
                    return Poll::Pending;
                }
                if let Some(noted) = &mut this.noted {
                    noted.end();
                }
                let broken = (this.ending == Ending::Broken).then(|| Err(io::Error::other("broken off, as planned")));
                return Poll::Ready(broken);
            }
        }
        ready!(this.timer.as_mut().poll(cx));
        if let Some(noted) = &this.noted {
            noted.shared.update(noted.place, |asked| {
                asked.answered.get_or_insert_with(now);
                asked.pieces += 1;
            });
        }
        Poll::Ready(this.next.take().map(|piece| Ok(Frame::data(piece))))
    }
}

/// A request that is kept; when it goes before its end, its client gave it up.
#[derive(Debug)]
struct Noted {
    shared: Arc<Shared>,
    place: usize,
    is_over: bool,
}

impl Noted {
    fn end(&mut self) {
        self.is_over = true;
        self.shared.update(self.place, |asked| asked.end = Some(End::Answered));
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.update(self.place, |asked| asked.end = Some(End::GivenUp));
        }
    }
}
