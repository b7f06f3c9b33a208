//! The bench and the pair of processes, with this test program itself in the place of both services.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the stand-in service reads its environment as the services do")]

#[expect(dead_code, reason = "the tests of the simulated Twilio use the rest")]
#[path = "support/stand_in.rs"]
mod stand_in;

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use stand_in::{Socket, StandIn};
use tests::{
    pair::{PairProcesses, PairSettings},
    sim::Caller,
};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

/// Sends media back and ends each with a mark, as a gateway would.
async fn echo(mut socket: Socket) {
    let mut sid = String::new();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else {
            continue;
        };
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        if message["event"] == "start" {
            sid = message["streamSid"].as_str().unwrap().to_owned();
        }
        if message["event"] == "media" {
            let payload = message["media"]["payload"].as_str().unwrap();
            let replies = [
                format!(r#"{{"event":"media","streamSid":"{sid}","media":{{"payload":"{payload}"}}}}"#),
                format!(r#"{{"event":"mark","streamSid":"{sid}","mark":{{"name":"m"}}}}"#),
            ];
            for reply in replies {
                if socket.send(Message::text(reply)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Not a test: what the programs of the pair run.
#[tokio::test]
#[ignore = "started by the other tests as a process of its own"]
async fn stand_in_service() {
    let Ok(ops) = std::env::var("OPS_LISTEN") else {
        return;
    };
    let metrics = std::env::var("METRICS_OF_THE_STAND_IN").unwrap_or_default();
    let server = StandIn::new(echo).page("/readyz", 200, "ready").page("/metrics", 200, &metrics);
    tokio::spawn(listen(ops, server.clone()));
    match std::env::var("SERVER_PORT") {
        Ok(port) => listen(format!("127.0.0.1:{port}"), server).await,
        Err(_) => std::future::pending().await,
    }
}

async fn listen(address: String, server: StandIn) {
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(server.clone().serve(Box::new(stream)));
    }
}

/// A directory with a program that runs [`stand_in_service`].
fn program(name: &str, arguments: &str) -> (PathBuf, PathBuf) {
    let directory = std::env::temp_dir().join(format!("tandem-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("service");
    let this = std::env::current_exe().unwrap();
    let script = format!("#!/bin/sh\nexec '{}' {arguments}\n", this.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    (directory, program)
}

const SERVE: &str = "--ignored --exact stand_in_service --nocapture";

fn settings(program: &Path, logs: &Path) -> PairSettings {
    PairSettings {
        gateway: program.to_owned(),
        worker: program.to_owned(),
        logs: logs.to_owned(),
        ..PairSettings::beside_current().unwrap()
    }
}

#[tokio::test]
async fn pair_is_ready_takes_a_call_and_ends_by_sigterm() {
    let (directory, program) = program("pair", SERVE);
    let pair = PairProcesses::start(&settings(&program, &directory)).await.unwrap();
    let mut plan = pair.call_plan().unwrap();
    plan.hangup_after = Some(Duration::from_millis(300));
    let report = Caller::new(plan).place().await;
    assert!(report.is_ok(), "{report}");
    assert!(report.streams[0].frames_received > 5, "{report}");
    let (gateway, worker) = pair.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!((gateway.signal(), worker.signal()), (Some(15), Some(15)));
    fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn service_that_ends_is_reported_with_its_log() {
    let (directory, program) = program("ends", "--exact no_such_test");
    let error = PairProcesses::start(&settings(&program, &directory)).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("worker ended"), "{text}");
    assert!(text.contains("0 tests") || text.contains("running 0"), "{text}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn bench_measures_and_writes_its_results() {
    let (directory, program) = program("bench", SERVE);
    let json = directory.join("out.json");
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--calls", "1,4", "--seconds", "3", "--scrape", "--env", "METRICS_OF_THE_STAND_IN=tandem_up 1"])
        .arg("--gateway-bin")
        .arg(&program)
        .arg("--worker-bin")
        .arg(&program)
        .arg("--logs")
        .arg(&directory)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let results: serde_json::Value =
        serde_json::from_slice(&fs::read(&json).unwrap_or_else(|_| panic!("{said}"))).unwrap();
    let steps = results["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{said}");
    for (step, calls) in steps.iter().zip([1, 4]) {
        // 50 frames a second; the ends of the window may cut off one for each call.
        let sent = step["frames_sent"].as_u64().unwrap();
        assert!(sent.abs_diff(150 * calls) <= 15 * calls, "{said}");
        assert_eq!(step["frames_lost"], 0, "{said}");
        assert!(step["tones"].as_u64().unwrap() >= 2 * calls, "{said}");
        assert!(step["latency"]["p50_ms"].as_f64().unwrap() < 100.0, "{said}");
        assert!(step["memory"][0]["loaded_kib"].as_u64().unwrap() > 0, "{said}");
        for (scrape, name) in step["scrapes"].as_array().unwrap().iter().zip(["gateway", "worker"]) {
            assert_eq!((scrape["name"].as_str(), scrape["scrapes"].as_u64()), (Some(name), Some(1)), "{said}");
            assert_eq!(scrape["bytes"], "tandem_up 1".len(), "{said}");
            assert!(scrape["max_ms"].as_f64().unwrap() > 0.0, "{said}");
        }
    }
    assert!(said.contains("| calls | frames sent |"), "{said}");
    fs::remove_dir_all(directory).unwrap();
}
