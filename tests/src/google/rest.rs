//! Recordings and tokens, over HTTP/1.1: one request a connection.

use std::{collections::HashMap, io};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Session, Shared};

/// Longest head of a request.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Answers one request.
pub(super) async fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        if head.len() > MAX_HEAD_BYTES {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let headers = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers: HashMap<_, _> =
        headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let path = text.split(' ').nth(1).unwrap_or_default();
    let (status, answer) = match path {
        "/token" => {
            let mut state = shared.state();
            state.tokens += 1;
            let token = format!("ya29.token-{}", state.tokens);
            (200, json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" }))
        }
        "/v1/speech:recognize" => {
            let credentials = headers.into_iter().collect();
            shared.note(Session {
                is_recording: true,
                is_over: true,
                credentials,
                bytes: length,
                ..Session::default()
            });
            let recorded = shared.state().recorded.clone();
            match recorded {
                Some(Ok(words)) => (200, json!({ "results": [{ "alternatives": [{ "transcript": words }] }] })),
                Some(Err(status)) => (status, json!({ "error": { "code": status, "message": "Not today." } })),
                None => (500, json!({})),
            }
        }
        _ => (404, json!({})),
    };
    let body = answer.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await
}
