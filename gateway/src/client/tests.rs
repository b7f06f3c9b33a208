//! Every way in which a request can fail, and on which side of the line between "not sent" and "unknown" it falls.

use super::{
    scripted::{Peer, Reply},
    *,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const LIMIT: Duration = Duration::from_secs(20);

fn client() -> Client {
    Client::new(Handle::current()).unwrap()
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

async fn ask(address: SocketAddr, limit: Duration) -> Result<Answer, Failure> {
    client().send(get(&format!("http://{address}/path?secret=1")), limit, Plain::ToLoopback).await
}

async fn unknown(reply: Reply) -> String {
    let peer = Peer::start(vec![reply]).await;
    let failure = ask(peer.address, LIMIT).await.unwrap_err();
    assert_eq!(peer.seen().len(), 1, "it went out, and once");
    let Failure::Unknown { what } = failure else { panic!("{failure}") };
    what
}

#[tokio::test]
async fn an_answer_is_an_answer_whatever_its_status() {
    let replies = [200, 404, 502].map(|status| Reply::answer(status, "Date: x\r\n", "text")).to_vec();
    let peer = Peer::start(replies).await;
    for status in [200, 404, 502] {
        let answer = ask(peer.address, LIMIT).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..], answer.headers.len()), (status, &b"text"[..], 3));
    }
    assert!(peer.seen()[0].contains("user-agent: tandem/"), "{:?}", peer.seen());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Peer::start(vec![Reply::answer(200, "", "")]).await;
    let to = format!("Location: http://{}/\r\n", elsewhere.address);
    let peer = Peer::start(vec![Reply::answer(307, &to, "")]).await;
    assert_eq!(ask(peer.address, LIMIT).await.unwrap().status.as_u16(), 307);
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn what_was_not_sent_is_known_not_to_have_been() {
    let refused = {
        // Bound, and gone again before anybody asks.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let failure = ask(refused, LIMIT).await.unwrap_err();
    assert!(matches!(failure, Failure::NotSent { stage: Stage::Connect, .. }), "{failure}");

    let no_name = client().send(get("https://no-such-host.invalid/"), LIMIT, Plain::ToLoopback).await.unwrap_err();
    assert!(matches!(no_name, Failure::NotSent { stage: Stage::Name, .. }), "{no_name}");
}

#[tokio::test]
async fn only_https_leaves_this_machine_unless_the_operator_says_otherwise() {
    for url in ["http://example.invalid/", "http://10.255.255.1/", "/path", "ftp://127.0.0.1/"] {
        let failure = client().send(get(url), LIMIT, Plain::ToLoopback).await.unwrap_err();
        assert!(matches!(failure, Failure::NotSent { stage: Stage::Address, .. }), "{url}: {failure}");
    }
    let failure = client().send(get("http://example.invalid/"), LIMIT, Plain::AsConfigured).await.unwrap_err();
    assert!(matches!(failure, Failure::NotSent { stage: Stage::Name, .. }), "{failure}");
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_unknown() {
    assert!(unknown(Reply::Reset).await.starts_with("no answer: "));
    assert!(unknown(Reply::Bytes(Vec::new())).await.starts_with("no answer: "));
    assert!(unknown(Reply::Bytes(b"nonsense\r\n\r\n".to_vec())).await.starts_with("no answer: "));
    assert!(unknown(Reply::Bytes(b"HTTP/1.1 201 Created\r\nContent-Le".to_vec())).await.starts_with("no answer: "));
    let half = b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"sid\":".to_vec();
    assert!(unknown(Reply::Bytes(half)).await.starts_with("the answer broke off"));
    let huge = Reply::answer(200, "", &"x".repeat(MAX_ANSWER_BYTES + 1));
    assert_eq!(unknown(huge).await, "an answer of more than 256 KiB");
}

#[tokio::test]
async fn silence_ends_at_the_limit() {
    let peer = Peer::start(vec![Reply::Silence]).await;
    let failure = ask(peer.address, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(failure, Failure::Unknown { .. }), "{failure}");
    assert_eq!(peer.seen().len(), 1);
}

#[tokio::test]
async fn only_a_trusted_certificate_is_taken() {
    let (peer, roots) = Peer::start_tls(vec![Reply::answer(200, "", ""), Reply::answer(200, "", "mine")]).await;
    let url = format!("https://localhost:{}/", peer.address.port());
    let failure = client().send(get(&url), LIMIT, Plain::ToLoopback).await.unwrap_err();
    assert!(matches!(failure, Failure::NotSent { stage: Stage::Tls, .. }), "{failure}");
    assert!(peer.seen().is_empty());
    let trusting = Client::connecting(Handle::current(), Connector::with_roots(roots).unwrap());
    let answer = trusting.send(get(&url), LIMIT, Plain::ToLoopback).await.unwrap();
    assert_eq!(&answer.body[..], b"mine");
}

#[test]
fn requests_of_any_runtime_run_on_the_clients_own() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, address, stop, ended) = {
        let (told, tell) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let ended = std::thread::spawn(move || {
            runtime().block_on(async {
                let peer = Peer::start(vec![Reply::answer(200, "", ""); 2]).await;
                told.send((client(), peer.address)).unwrap();
                let _ = stopped.await;
            });
        });
        let (client, address) = tell.recv().unwrap();
        (client, address, stop, ended)
    };
    // Each of these ends before the next begins.
    for _ in 0..2 {
        let url = format!("http://{address}/");
        let answer = runtime().block_on(client.send(get(&url), LIMIT, Plain::ToLoopback)).unwrap();
        assert_eq!(answer.status, StatusCode::OK);
    }
    let _ = stop.send(());
    ended.join().unwrap();
    let orphaned = runtime().block_on(client.send(get("http://127.0.0.1/"), LIMIT, Plain::ToLoopback));
    assert!(matches!(orphaned, Err(Failure::Unknown { .. })), "{orphaned:?}");
}

#[tokio::test]
async fn connections_are_kept_except_for_what_is_not_to_be_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::<AtomicUsize>::default();
    let peer = tokio::spawn({
        let connections = Arc::clone(&connections);
        async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    // It stays for as many requests as there are.
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                    }
                });
            }
        }
    });
    let client = client();
    let opens = async |client: &Client| {
        let before = connections.load(Ordering::Relaxed);
        client.send(get(&url), LIMIT, Plain::ToLoopback).await.unwrap();
        connections.load(Ordering::Relaxed) > before
    };
    // A connection is kept as soon as its own task has seen the end of the answer.
    let kept = async { while opens(&client).await {} };
    timeout(LIMIT, kept).await.unwrap();
    let fresh = client.on_fresh_connections();
    for _ in 0..3 {
        assert!(opens(&fresh).await);
    }
    peer.abort();
}
