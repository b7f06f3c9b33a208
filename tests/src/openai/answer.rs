//! Pure: what is answered, piece by piece, each with the time at which it goes out.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Call, Mishap, RATE_HZ, Script};

/// A stretch of a voice that goes out at once, in samples: 40 ms.
const STRETCH: usize = 960;
/// When answers were made, in seconds of Unix time: always then.
const CREATED: u64 = 1_800_000_000;

/// An answer to be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// In whole seconds.
    pub(super) retry_after: Option<Duration>,
    /// Each with the time since the request came.
    pub(super) pieces: Vec<(Duration, Bytes)>,
    pub(super) ending: Ending,
}

/// What follows the last piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The end of the answer.
    Whole,
    /// The connection is closed.
    Broken,
    /// Nothing.
    Never,
}

impl Answer {
    fn new(content_type: &'static str, pieces: Vec<(Duration, Bytes)>) -> Self {
        Self { status: 200, content_type, retry_after: None, pieces, ending: Ending::Whole }
    }

    fn at_once(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, ..Self::new(content_type, vec![(Duration::ZERO, body.into())]) }
    }

    /// A refusal in OpenAI's words.
    pub(super) fn refusal(status: u16, kind: &str, message: &str) -> Self {
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": null}});
        Self::at_once(status, "application/json", body.to_string())
    }

    pub(super) fn models() -> Self {
        let model = json!({"id": "stand-in", "object": "model", "created": CREATED, "owned_by": "tests"});
        let body = json!({"object": "list", "data": [model]});
        Self::at_once(200, "application/json", body.to_string())
    }

    pub(super) fn transcript(script: &Script, words: &str, seconds: f64) -> Self {
        let body = json!({"text": words, "usage": {"type": "duration", "seconds": seconds}});
        Self::new("application/json", vec![(script.hear_after, body.to_string().into())])
    }

    /// The model's answer and what it calls for, streamed or not, with its cost or without.
    pub(super) fn chat(
        script: &Script,
        model: &str,
        prompt: usize,
        (text, wanted): (&str, &[Call]),
        stream: bool,
        cost: bool,
    ) -> Self {
        let tokens = tokens(text);
        let at = |index: usize| script.first_token + script.next_token * u32::try_from(index).unwrap_or(u32::MAX);
        let completion = tokens.len();
        let usage =
            json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion});
        let id = "chatcmpl-stand-in";
        let finish = if wanted.is_empty() { "stop" } else { "tool_calls" };
        let call = |(at, call): (usize, &Call)| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"id": format!("call_stand_in_{prompt}_{at}"), "type": "function", "function": function})
        };
        let calls: Vec<Value> = wanted.iter().enumerate().map(call).collect();
        if !stream {
            let mut message = json!({"role": "assistant", "content": text, "refusal": null});
            if !calls.is_empty() {
                message["tool_calls"] = calls.into();
            }
            let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish});
            let body = json!({"id": id, "object": "chat.completion", "created": CREATED, "model": model,
                              "choices": [choice], "usage": usage});
            return Self::new("application/json", vec![(at(completion), body.to_string().into())]);
        }
        let event = |choices: Value, usage: Option<&Value>| {
            let mut chunk = json!({"id": id, "object": "chat.completion.chunk", "created": CREATED, "model": model,
                                   "choices": choices});
            if cost {
                chunk["usage"] = usage.cloned().unwrap_or_default();
            }
            Bytes::from(format!("data: {chunk}\n\n"))
        };
        let said = |delta: Value, finish: Value| {
            event(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), None)
        };
        let begin = said(json!({"role": "assistant", "content": ""}), Value::Null);
        let mut pieces = vec![(script.first_token, begin)];
        pieces.extend(
            tokens.iter().enumerate().map(|(index, token)| (at(index), said(json!({"content": token}), Value::Null))),
        );
        let end = at(completion);
        for (at, mut call) in calls.into_iter().enumerate() {
            // As OpenAI does: the name first, then the arguments piece by piece.
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default().to_owned();
            (call["index"], call["function"]["arguments"]) = (at.into(), "".into());
            pieces.push((end, said(json!({"tool_calls": [call]}), Value::Null)));
            for part in self::tokens(&arguments) {
                let piece = json!({"index": at, "function": {"arguments": part}});
                pieces.push((end, said(json!({"tool_calls": [piece]}), Value::Null)));
            }
        }
        pieces.push((end, said(json!({}), finish.into())));
        if cost {
            pieces.push((end, event(json!([]), Some(&usage))));
        }
        pieces.push((end, Bytes::from_static(b"data: [DONE]\n\n")));
        Self::new("text/event-stream", pieces)
    }

    /// A voice, raw or in a file that says `rate`.
    pub(super) fn speech(script: &Script, pcm: &[i16], file_of: Option<u32>) -> Self {
        let head = file_of.map(|rate| (script.first_sound, Bytes::from(wav_head(rate))));
        let stretch = Duration::from_secs_f64(STRETCH as f64 / f64::from(RATE_HZ) / script.speed);
        let sound = pcm.chunks(STRETCH).zip(0_u32..).map(|(samples, at)| {
            let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            (script.first_sound + stretch * at, bytes.into())
        });
        let content_type = if file_of.is_some() { "audio/wav" } else { "audio/pcm" };
        Self::new(content_type, head.into_iter().chain(sound).collect())
    }

    /// What a mishap makes of it.
    pub(super) fn spoilt(mut self, mishap: &Mishap) -> Self {
        let half = self.pieces.len() / 2;
        match mishap {
            Mishap::Down => Self { pieces: Vec::new(), ending: Ending::Broken, ..self },
            Mishap::Silent => Self { pieces: Vec::new(), ending: Ending::Never, ..self },
            Mishap::Slow(time) => {
                self.pieces.iter_mut().for_each(|(at, _)| *at += *time);
                self
            }
            Mishap::Html => Self::at_once(200, "text/html", "<!doctype html><html><body>Oh no</body></html>"),
            Mishap::HalfJson => {
                if self.pieces.len() == 1 {
                    let (_, body) = &mut self.pieces[0];
                    body.truncate(body.len() / 2);
                    return self;
                }
                self.pieces.truncate(half);
                let at = self.pieces.last().map_or(Duration::ZERO, |(at, _)| *at);
                self.pieces.push((at, Bytes::from_static(b"data: {\"id\": \"chatcm\n\n")));
                self
            }
            Mishap::Nothing => Self { pieces: Vec::new(), ..self },
            // Made with its wrong rate already.
            Mishap::WrongRate => self,
            Mishap::ErrorText => {
                Self { content_type: "audio/pcm", ..Self::refusal(200, "server_error", "No such voice.") }
            }
            Mishap::ErrorMidway => {
                self.pieces.truncate(half);
                let at = self.pieces.last().map_or(Duration::ZERO, |(at, _)| *at);
                let event = json!({"error": {"message": "The model is overloaded.", "type": "server_error", "param": null, "code": null}});
                self.pieces.push((at, format!("data: {event}\n\n").into()));
                self
            }
            Mishap::CloseEarly => {
                if let [(_, body)] = &mut self.pieces[..] {
                    body.truncate(body.len() / 2);
                } else {
                    self.pieces.truncate(half);
                }
                Self { ending: Ending::Broken, ..self }
            }
            Mishap::Unauthorized => Self::refusal(401, "invalid_request_error", "Incorrect API key provided."),
            Mishap::TooMany { retry_after } => {
                let refusal = Self::refusal(429, "rate_limit_exceeded", "Rate limit reached.");
                Self { retry_after: *retry_after, ..refusal }
            }
            Mishap::Internal => Self::refusal(500, "server_error", "The server had an error."),
        }
    }
}

/// Words, each with the space before it: about what a model's tokens are.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut from = 0;
    for (at, _) in text.match_indices(' ').filter(|(at, _)| *at > 0) {
        tokens.push(&text[from..at]);
        from = at;
    }
    tokens.push(&text[from..]);
    tokens.retain(|token| !token.is_empty());
    tokens
}

/// The head of a file that is still being made: its length is not known.
fn wav_head(rate: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(44);
    head.extend_from_slice(b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0");
    head.extend_from_slice(&rate.to_le_bytes());
    head.extend_from_slice(&(rate * 2).to_le_bytes());
    head.extend_from_slice(b"\x02\0\x10\0data\xff\xff\xff\xff");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_whole_text() {
        assert_eq!(tokens("Hello there,  you."), ["Hello", " there,", " ", " you."]);
        assert_eq!(tokens(" a"), [" a"]);
        assert_eq!(tokens(""), [""; 0]);
    }

    #[test]
    fn pieces_go_out_when_they_are_due() {
        let ms = Duration::from_millis;
        let script = Script { next_token: ms(5), ..Script::default() };
        let times = |answer: Answer| answer.pieces.into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        let chat = Answer::chat(&script, "m", 3, ("one two", &[]), true, true);
        assert_eq!(times(chat.clone()), [150, 150, 155, 160, 160, 160].map(ms));
        assert_eq!(times(chat.spoilt(&Mishap::Slow(ms(1000))))[0], ms(1150));
        let voice = Answer::speech(&script, &[0; 2000], None);
        assert_eq!(times(voice), [80, 84, 88].map(ms));
        assert_eq!(Answer::speech(&script, &[0; 2000], Some(8000)).pieces[0].1.len(), 44);
    }
}
