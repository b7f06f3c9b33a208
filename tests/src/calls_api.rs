//! A client of the gateway's calls API: any request, right or wrong, over one connection each.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where to ask, and with which token.
#[derive(Clone, Debug)]
pub struct ApiClient {
    /// The gateway.
    pub gateway: SocketAddr,
    /// A bearer token; none is shown when empty.
    pub token: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its JSON; null when it has none.
    pub json: Value,
}

impl Answer {
    /// A field of the answer as text; empty when it is missing.
    pub fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_default()
    }

    /// Panics unless this is problem details of that status and code.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.text("code")), (status, code), "{}", self.json);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.json["status"], status);
        assert!(self.text("detail").len() > 10, "what to do: {}", self.json);
    }
}

impl ApiClient {
    /// `POST` of a JSON document.
    pub async fn post(&self, path: &str, json: &Value) -> Answer {
        self.ask("POST", path, &[], Some(json.to_string())).await
    }

    /// `PATCH` with a JSON document.
    pub async fn patch(&self, path: &str, json: &Value) -> Answer {
        self.ask("PATCH", path, &[], Some(json.to_string())).await
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], None).await
    }

    /// Any request; a body is sent as JSON unless `headers` say otherwise. Panics when there is no answer.
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<String>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "gateway.example");
        if !self.token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).expect("a good request");
        timeout(PATIENCE, self.send(request)).await.expect("an answer in time")
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = TcpStream::connect(self.gateway).await.expect("the gateway listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        let exchange = async {
            let (head, body) = sender.send_request(request).await.expect("an answer").into_parts();
            let body = body.collect().await.expect("a whole answer").to_bytes();
            let json = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
            Answer { status: head.status.as_u16(), headers: head.headers, json }
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // The connection may end first and leave the answer ready to be read.
            _ = connection => exchange.await,
        }
    }
}
