//! A service of the user's that tools ask: one answer for everything, after a while; what was asked is kept.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

/// A running service; gone when dropped.
#[derive(Debug)]
pub struct Shop {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: AbortOnDropHandle<()>,
}

/// A request that it got.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method, path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// What was sent.
    pub body: Bytes,
}

impl Shop {
    /// Answers with this status and JSON, `after` so long.
    ///
    /// # Errors
    /// When there is no port for it.
    pub async fn open(status: u16, body: &'static str, after: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let service = service_fn(move |request| answer(request, Arc::clone(&kept), status, body, after));
                connections.spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { port, asked, _serving: AbortOnDropHandle::new(serving) })
    }

    /// Where it is on this machine.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<Asked>>>,
    status: u16,
    body: &'static str,
    after: Duration,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, content) = request.into_parts();
    let target = format!("{} {}", head.method, head.uri);
    let content = content.collect().await?.to_bytes();
    let asked = Asked { target, headers: head.headers, body: content };
    kept.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    tokio::time::sleep(after).await;
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}
