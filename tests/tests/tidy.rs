//! The tree itself: what must stay pure, small, documented and apart.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Files and folders without clock, socket, runtime, environment or chance.
const PURE: &[&str] = &[
    "telemetry/src/language.rs",
    "telemetry/src/backoff.rs",
    "telemetry/src/mistakes.rs",
    "telemetry/src/webhooks.rs",
    "telemetry/src/webhooks/outbox.rs",
    "telemetry/src/webhooks/signature.rs",
    "gateway/src/capture/mask.rs",
    "gateway/src/admission.rs",
    "gateway/src/admission",
    "gateway/src/rate.rs",
    "gateway/src/session.rs",
    "gateway/src/session",
    "gateway/src/twilio.rs",
    "gateway/src/twilio",
    "gateway/src/ticket.rs",
    "gateway/src/carrier/meaning.rs",
    "gateway/src/routes.rs",
    "gateway/src/routes",
    "audio-worker/src/agent/brain.rs",
    "audio-worker/src/agent/text.rs",
    "audio-worker/src/agent/remote/audio.rs",
    "audio-worker/src/agent/remote/listening.rs",
    "audio-worker/src/agent/remote/said.rs",
    "audio-worker/src/agent/remote/said",
    "audio-worker/src/agent/remote/wire.rs",
    "audio-worker/src/agent/realtime/codec.rs",
    "audio-worker/src/agent/realtime/message.rs",
    "audio-worker/src/agent/realtime/playback.rs",
    "audio-worker/src/agent/realtime/session.rs",
    "audio-worker/src/agent/realtime/session",
    "audio-worker/src/agent/realtime/settings.rs",
    "audio-worker/src/agent/realtime/wire.rs",
    "audio-worker/src/agent/survey.rs",
    "audio-worker/src/agent/survey/course.rs",
    "audio-worker/src/agent/survey/meaning.rs",
    "audio-worker/src/agent/survey/meaning",
    "audio-worker/src/agent/survey/numbers.rs",
    "audio-worker/src/agent/survey/plan.rs",
    "audio-worker/src/agent/survey/report.rs",
    "audio-worker/src/agent/survey/words.rs",
    "audio-worker/src/agent/survey/words",
    "audio-worker/src/agent/tools.rs",
    "audio-worker/src/agent/tools/address.rs",
    "audio-worker/src/agent/tools/built_in.rs",
    "audio-worker/src/agent/tools/schema.rs",
    "audio-worker/src/agents_file.rs",
    "audio-worker/src/agents_file",
    "audio-worker/src/turn.rs",
    "audio-worker/src/turn",
    "audio-worker/src/turn_taking.rs",
    "audio-worker/src/turn_taking",
    "audio-worker/src/pipeline.rs",
    "audio-worker/src/dsp.rs",
    "audio-worker/src/dsp",
    "audio-worker/src/ears.rs",
    "audio-worker/src/ears",
    "audio-worker/src/agent/talk/live_words/understood.rs",
    "audio-worker/src/provider/deepgram/message.rs",
    "audio-worker/src/provider/breaker.rs",
    "audio-worker/src/provider/fault.rs",
    "audio-worker/src/provider/google/streaming/course.rs",
    "audio-worker/src/provider/intake.rs",
    "audio-worker/src/provider/language.rs",
    "audio-worker/src/provider/mp3.rs",
    "audio-worker/src/provider/openai/calls.rs",
    "audio-worker/src/provider/meter.rs",
    "audio-worker/src/provider/sse.rs",
    "audio-worker/src/provider/wav.rs",
    "tests/src/signal",
    "tests/src/corpus.rs",
    "tests/src/corpus",
    "tests/src/hearing/score.rs",
    "tests/src/talk/clips.rs",
    "tests/src/hearing/energy.rs",
    "tests/src/realtime/hearing.rs",
    "tests/src/realtime/protocol.rs",
];

/// What gives impurity away.
const IMPURE: [&str; 12] = [
    "tokio",
    "warp",
    "tonic",
    "axum",
    "hyper",
    "Instant::now",
    "SystemTime::now",
    "std::env",
    "std::net",
    "std::thread",
    "rand::",
    "getrandom",
];

/// Longest file, without its tests.
const MAX_LINES: usize = 400;

/// Settings that containers must not be given: in there, each service listens where its image says.
const NOT_IN_COMPOSE: [&str; 4] = ["SERVER_HOST", "SERVER_PORT", "WORKER_LISTEN", "OPS_LISTEN"];

#[test]
fn the_cores_are_pure() {
    for place in PURE {
        let path = root().join(place);
        let files = if path.is_dir() { rust_files(&path) } else { vec![path] };
        for file in files.iter().filter(|file| !is_test(file)) {
            for (at, line) in code(file).iter().enumerate() {
                // What a comment says is no dependency.
                let statement = line.split("//").next().unwrap_or_default();
                for word in IMPURE {
                    assert!(!statement.contains(word), "{}:{}: {word}", file.display(), at + 1);
                }
            }
        }
    }
}

#[test]
fn files_stay_small_and_say_what_they_are() {
    for member in ["proto", "telemetry", "gateway", "audio-worker", "tests"] {
        for file in rust_files(&root().join(member)) {
            let text = fs::read_to_string(&file).unwrap();
            let lines = code(&file).len();
            assert!(is_test(&file) || lines <= MAX_LINES, "{} has {lines} lines", file.display());
            let is_script = file.file_name().is_some_and(|name| name == "build.rs");
            assert!(text.starts_with("//!") || is_script, "{} has no head", file.display());
        }
    }
}

#[test]
fn every_setting_reaches_the_containers_and_the_operator() {
    let compose = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let (_, services) = compose.split_once("services:").unwrap();
    let (gateway, worker) = services.split_once("\n  audio-worker:\n").unwrap();
    let documents = [".env.example", "README.md"].map(|name| fs::read_to_string(root().join(name)).unwrap_or_default());
    let tables = [(&gateway::config::SETTINGS[..], gateway), (&audio_worker::config::SETTINGS[..], worker)];
    for (settings, service) in tables {
        for setting in settings {
            let name = setting.name;
            let is_given = service.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")));
            assert_ne!(is_given, NOT_IN_COMPOSE.contains(&name), "{name} in docker-compose.yml");
            assert!(documents.iter().any(|text| mentions(text, name)), "{name} in .env.example or README.md");
        }
    }
}

#[test]
fn each_service_links_only_what_it_needs() {
    let tree = |package: &str| {
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        let arguments = ["tree", "--offline", "-p", package, "-e", "features,normal", "--prefix", "none"];
        let output = Command::new(cargo).args(arguments).current_dir(root()).output();
        match output {
            Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
            _ => {
                eprintln!("NOT CHECKED: cargo cannot list what {package} links");
                None
            }
        }
    };
    let links = |tree: &str, name: &str| tree.lines().any(|line| line.split([' ', '\t']).next() == Some(name));
    let has_feature = |tree: &str, feature: &str| tree.lines().any(|line| line.starts_with(feature));
    if let Some(worker) = tree("audio-worker") {
        // One TLS is enough, rustls on ring. TLS 1.2 is for providers: `telemetry::tls` keeps the pair to 1.3.
        for name in ["warp", "quick-xml", "gateway", "tests", "openssl-sys", "aws-lc-sys"] {
            assert!(!links(&worker, name), "the worker links {name}");
        }
        assert!(!has_feature(&worker, "rustls feature \"log"), "rustls would hand whole handshakes to the log");
        assert!(!has_feature(&worker, "tracing feature \"log\""), "log records would be formatted on every frame");
        let bridges = has_feature(&worker, "tracing-subscriber feature \"tracing-log\"");
        assert!(!bridges, "records of the log crate would be printed, whole messages among them");
    }
    if let Some(gateway) = tree("gateway") {
        // The same TLS, for what the gateway asks of workers and others. What asks the gateway ends TLS before it.
        for name in ["rubato", "audio-worker", "tests", "openssl-sys", "aws-lc-sys"] {
            assert!(!links(&gateway, name), "the gateway links {name}");
        }
        assert!(!has_feature(&gateway, "rustls feature \"log"), "rustls would hand whole handshakes to the log");
        let bridges = has_feature(&gateway, "tracing-subscriber feature \"tracing-log\"");
        assert!(!bridges, "tungstenite would print whole messages at the level trace");
    }
}

#[test]
fn no_service_or_library_links_the_tests() {
    for member in ["proto", "telemetry", "gateway", "audio-worker"] {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        assert!(!manifest.lines().any(|line| line.starts_with("tests")), "{member}");
        // What is generated keeps its own style.
        let has_ours = manifest.contains("[lints]\nworkspace = true");
        assert_ne!(has_ours, member == "proto", "lints of {member}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// True for files that hold nothing but tests.
fn is_test(file: &Path) -> bool {
    file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "benches") || {
        let inside = file.strip_prefix(root().join("tests/tests"));
        inside.is_ok()
    }
}

/// The lines of a file before its tests.
fn code(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).map(ToOwned::to_owned).collect()
}

/// The name as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part))
}
