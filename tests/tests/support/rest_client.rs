//! A client of the REST API in a few lines of its own: one connection a request, over any route.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use tests::sim::Route;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::form_urlencoded;

pub(crate) const ACCOUNT: &str = "AC00000000000000000000000000000000";

/// Where to ask, and as whom.
#[derive(Clone)]
pub(crate) struct RestClient {
    pub(crate) route: Route,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The head, in small letters.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a refusal, beside its status.
    pub(crate) fn refusal(&self) -> (u16, u64) {
        let json = self.json();
        assert_eq!(json["status"], self.status, "{self:?}");
        assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert_eq!(json["more_info"], format!("https://www.twilio.com/docs/errors/{}", json["code"]));
        (self.status, json["code"].as_u64().unwrap())
    }
}

impl RestClient {
    pub(crate) fn new(route: Route, token: &str) -> Self {
        Self { route, user: ACCOUNT.into(), password: token.into() }
    }

    /// None when the connection ended without an answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Option<Reply> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let secret = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: api.twilio.com\r\nconnection: close\r\nauthorization: Basic {secret}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = Vec::new();
        match &self.route {
            Route::Tcp(address) => {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.read_to_end(&mut answer).await.unwrap();
            }
            Route::InProcess(server) => {
                let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
                server.send(theirs).await.unwrap();
                ours.write_all(request.as_bytes()).await.unwrap();
                ours.read_to_end(&mut answer).await.unwrap();
            }
        }
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    /// The same below the account, which must answer.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", &below(path), &[]).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.ask("POST", &below(path), fields).await.expect("an answer")
    }

    /// Makes a call, which must be accepted; its SID.
    pub(crate) async fn create(&self, fields: &[(&str, &str)]) -> String {
        let reply = self.post("/Calls.json", fields).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["sid"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn update(&self, sid: &str, fields: &[(&str, &str)]) -> Reply {
        self.post(&format!("/Calls/{sid}.json"), fields).await
    }
}

pub(crate) fn below(path: &str) -> String {
    format!("/2010-04-01/Accounts/{ACCOUNT}{path}")
}
