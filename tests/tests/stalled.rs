//! Slow (half a minute): a caller whose socket stays open and is never read, while the agent talks without end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]
#![expect(clippy::disallowed_methods, reason = "the time until the call is given up is measured")]

use std::{net::SocketAddr, time::Duration};

use tests::{
    line::{Line, is_fallback},
    load::resident_kib,
    scripted::{Notes, Told},
    sim::{CallPlan, Route},
    stack::{Stack, StackPlan},
};
use tokio::{
    io::copy_bidirectional,
    net::TcpSocket,
    sync::mpsc,
    time::{Instant, sleep},
};

/// The kernels hold some 13 s of audio before anything blocks, and the session five more.
const LIMIT: Duration = Duration::from_secs(35);

#[tokio::test]
async fn a_caller_that_stops_reading_costs_no_memory_and_is_given_up() {
    let notes = Notes::default();
    let stack = Stack::start(StackPlan::default().agents(notes.agents()).gateway("DEFAULT_AGENT", "scripted")).await;
    let plan = CallPlan { route: narrow(stack.gateway_address()), ..stack.call_plan() };
    let mut line = Line::dial(&plan).await;
    line.press('C').await;
    line.listen_until(|heard| heard.mulaw.len() > 8000).await;
    let (began, before) = (Instant::now(), resident_kib(std::process::id()).unwrap());
    let mut most = before;
    while !notes.of(line.call_sid()).contains(&Told::Gone) {
        assert!(began.elapsed() < LIMIT, "the call goes on");
        // It talks on, and reads nothing.
        line.speak(&[0xff; 160]).await;
        most = most.max(resident_kib(std::process::id()).unwrap());
        sleep(Duration::from_millis(20)).await;
    }
    assert!(most - before < 4 << 10, "{} KiB more", most - before);
    assert!(is_fallback(&line.after().await));
    stack.stop().await;
}

/// A way to the gateway whose kernel takes little: left alone, a receive buffer grows for minutes before it is full.
fn narrow(gateway: SocketAddr) -> Route {
    let (route, mut connections) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(mut near) = connections.recv().await {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(8 << 10).unwrap();
            tokio::spawn(async move {
                let mut far = socket.connect(gateway).await?;
                copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    Route::InProcess(route)
}
