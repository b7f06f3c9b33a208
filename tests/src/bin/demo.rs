//! `demo`: starts a gateway and a worker of their own, places one simulated call, and says what was heard;
//! with `--stay`, keeps them up for calls of others instead.
//!
//! Exit code 0 only when the echo came back whole, judged on what crossed the wire; how late a busy machine
//! played it is told and not judged.

use std::{
    collections::HashMap,
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ::tests::{
    demo::{Limits, Story, Verdict, bar, commands},
    pair::{PairProcesses, PairSettings, Ports, setting_names},
    sim::{CallPlan, CallReport, Caller, Progress, read_wav, write_wav},
};
use anyhow::{Context as _, bail};
use clap::Parser;
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, interval, timeout},
};
use url::Url;

/// How long each service may take to end when no call is left.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// The same when calls of others may live on: a little more than the longest drain that anybody wants.
const DRAIN_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a pair that stays up is looked after.
const WATCH: Duration = Duration::from_millis(500);
/// Exit code after a signal: that of a shell for SIGINT.
const INTERRUPTED: u8 = 130;
/// Where recordings and logs go unless told otherwise.
const OUT: &str = "out";
/// The services' own ports.
const USUAL: Ports = Ports { gateway: 8000, gateway_ops: 9464, worker: 50051, worker_ops: 9465 };
/// Settings that say where the pair listens, which is decided here.
const DECIDED_HERE: [&str; 5] = ["SERVER_HOST", "SERVER_PORT", "OPS_LISTEN", "WORKER_LISTEN", "WORKER_URL"];

/// Starts both services, places a simulated call, and says what was heard.
///
/// The gateway and the worker are the programs next to this one. Their logs go to `out/`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// No call: keep the pair up until Ctrl-C, with the settings of the environment and of `.env`.
    #[arg(long, conflicts_with_all = ["heard", "say", "json"])]
    stay: bool,
    /// Where to write what the caller heard; what was said goes to `sent.wav` beside it.
    #[arg(long, value_name = "WAV", default_value = "out/echo.wav")]
    heard: PathBuf,
    /// What the caller says: WAV, PCM 16 bit, mono, 8 kHz. Bundled speech when left out.
    #[arg(long, value_name = "WAV")]
    say: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Results<'a> {
    ready_ms: f64,
    verdict: &'a Verdict,
    call: &'a CallReport,
}

/// What ends this program early.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run(&Arguments::parse()).await.unwrap_or_else(|error| {
        tell(&format!("demo: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // Before the first child: from here on a signal ends this function in an orderly way, which ends them.
    let mut signals = Signals::new()?;
    if arguments.stay {
        return stay(&mut signals).await;
    }
    tokio::select! {
        code = call(arguments) => code,
        () = signals.next() => {
            tell("\ninterrupted: both services are ended");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// One call to a pair of its own, from the start of the pair to its end.
async fn call(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = arguments.heard.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let mut settings = PairSettings::beside_current()?;
    settings.logs = directory.to_owned();
    settings.own_groups = true;
    let own_speech = arguments.say.as_deref().map(read_wav).transpose()?;

    let begun = now();
    let pair = PairProcesses::start(&settings).await?;
    let ready = begun.elapsed();
    tell(&format!("  gateway and audio-worker are up after {} ms", ready.as_millis()));
    let mut plan = pair.call_plan()?;
    let limits = match own_speech {
        None => Limits::BUNDLED,
        Some(speech) => {
            plan.speech = speech.into();
            Limits::ANY
        }
    };
    let speech = plan.speech.len();
    let report = place(plan).await;
    if io::stderr().is_terminal() {
        tell("");
    }
    let (gateway, worker) = pair.stop(STOP_LIMIT).await?;

    let mut verdict = Verdict::new(&report, speech, limits);
    for (name, status) in [("gateway", gateway), ("audio-worker", worker)] {
        if !status.success() {
            verdict.failures.push(format!("the {name} did not end well: {status}"));
        }
    }
    let sent = arguments.heard.with_file_name("sent.wav");
    write_wav(&arguments.heard, &report.heard_pcm()).with_context(|| arguments.heard.display().to_string())?;
    write_wav(&sent, &report.sent_pcm()).with_context(|| sent.display().to_string())?;
    if arguments.json {
        let ready_ms = ready.as_secs_f64() * 1000.0;
        print(&serde_json::to_string_pretty(&Results { ready_ms, verdict: &verdict, call: &report })?);
    } else {
        let story = Story { report: &report, verdict: &verdict, ready, sent: &sent, heard: &arguments.heard };
        print(story.to_string().trim_end());
    }
    Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Places the call and shows how far it is.
async fn place(plan: CallPlan) -> CallReport {
    let (progress, total) = (Arc::clone(&plan.progress), plan.hangup_after());
    tokio::select! {
        report = Caller::new(plan).place() => report,
        () = show(&progress, total) => unreachable!("progress never ends"),
    }
}

/// A line a second; on a terminal it is always the same line.
async fn show(progress: &Progress, total: Duration) {
    let terminal = io::stderr().is_terminal();
    let begun = now();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let frames = [&progress.sent, &progress.received].map(|counter| counter.load(Ordering::Relaxed));
        let line = bar(begun.elapsed(), total, frames);
        if terminal {
            rewrite(&line);
        } else {
            tell(&line);
        }
    }
}

/// Keeps a pair up until a signal, or until one of the two has ended by itself.
async fn stay(signals: &mut Signals) -> anyhow::Result<ExitCode> {
    let given = Given::read();
    let mut settings = PairSettings::beside_current()?;
    settings.logs = PathBuf::from(OUT);
    settings.own_groups = true;
    settings.ports = USUAL;
    if let Some(port) = given.get("SERVER_PORT") {
        settings.ports.gateway = port.parse().context("SERVER_PORT is no port")?;
    }
    if let Some(token) = given.get("TWILIO_AUTH_TOKEN") {
        token.clone_into(&mut settings.auth_token);
    }
    if let Some(url) = given.public_url()? {
        settings.public_url = url;
    }
    settings.environment = given.environment();

    let mut pair = tokio::select! {
        pair = PairProcesses::start(&settings) => pair?,
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let mut plan = pair.call_plan()?;
    if let Some(sid) = given.get("TWILIO_ACCOUNT_SID") {
        sid.clone_into(&mut plan.account_sid);
    }
    let programs = settings.gateway.parent().unwrap_or(Path::new("."));
    let here = std::env::current_dir().unwrap_or_default();
    let programs = match programs.strip_prefix(here) {
        Ok(path) if !path.as_os_str().is_empty() => path,
        Ok(_) | Err(_) => programs,
    };
    print(&commands(&pair.addresses(), &plan, programs));
    let outcome = loop {
        match timeout(WATCH, signals.next()).await {
            Ok(()) => break Ok(()),
            Err(_) => match pair.still_running() {
                Ok(()) => {}
                ended => break ended,
            },
        }
    };
    tell("\nending: calls may go on for DRAIN_SECONDS; once more ends everything at once");
    let ends = tokio::select! {
        ends = pair.stop(DRAIN_LIMIT) => ends?,
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    outcome?;
    well(ends)?;
    tell("both services have ended");
    Ok(ExitCode::SUCCESS)
}

fn well((gateway, worker): (ExitStatus, ExitStatus)) -> anyhow::Result<()> {
    if !gateway.success() || !worker.success() {
        bail!("the gateway ended with {gateway}, the worker with {worker}; see the logs in {OUT}/");
    }
    Ok(())
}

/// What the environment and, where it says nothing, the file `.env` say.
struct Given {
    environment: HashMap<&'static str, String>,
    file: HashMap<String, String>,
}

impl Given {
    #[expect(clippy::disallowed_methods, reason = "the services' settings are handed through, not used")]
    fn read() -> Self {
        let set = |name| Some((name, std::env::var(name).ok().filter(|value| !value.is_empty())?));
        let environment = setting_names().filter_map(set).collect();
        let file: HashMap<String, String> =
            dotenvy::from_filename_iter(".env").map(|lines| lines.flatten().collect()).unwrap_or_default();
        Self { environment, file: file.into_iter().filter(|(_, value)| !value.is_empty()).collect() }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.environment.get(name).or_else(|| self.file.get(name)).map(String::as_str)
    }

    fn public_url(&self) -> anyhow::Result<Option<Url>> {
        let url = match (self.get("TWILIO_VOICE_WEBHOOK_URL"), self.get("TWILIO_DOMAIN")) {
            (Some(url), _) => url.to_owned(),
            (None, Some(domain)) if domain.contains("://") => domain.to_owned(),
            (None, Some(domain)) => format!("https://{domain}"),
            (None, None) => return Ok(None),
        };
        Url::parse(&url).map(Some).with_context(|| format!("TWILIO_VOICE_WEBHOOK_URL or TWILIO_DOMAIN: {url:?}"))
    }

    /// All of it for the services, which work in another directory.
    fn environment(&self) -> Vec<(String, String)> {
        let absolute = |name: &str, value: &str| match std::path::absolute(value) {
            Ok(path) if name.ends_with("_FILE") => path.display().to_string(),
            Ok(_) | Err(_) => value.to_owned(),
        };
        let file = self.file.iter().map(|(name, value)| (name.as_str(), value));
        let all: HashMap<&str, &String> = file.chain(self.environment.iter().map(|(name, v)| (*name, v))).collect();
        let theirs = all.into_iter().filter(|(name, _)| !DECIDED_HERE.contains(name));
        theirs.map(|(name, value)| (name.to_owned(), absolute(name, value))).collect()
    }
}

#[expect(clippy::print_stdout, reason = "the report is the output")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "progress goes to standard error")]
fn tell(line: &str) {
    eprintln!("{line}");
}

#[expect(clippy::print_stderr, reason = "progress goes to standard error")]
fn rewrite(line: &str) {
    eprint!("\r{line}");
}

#[expect(clippy::disallowed_methods, reason = "a program that waits for others takes the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn given(environment: &[(&'static str, &str)], file: &[(&str, &str)]) -> Given {
        Given {
            environment: environment.iter().map(|&(name, value)| (name, value.to_owned())).collect(),
            file: file.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }

    #[test]
    fn flags_are_consistent() {
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["demo", "--stay", "--json"]).is_err());
    }

    #[test]
    fn environment_goes_before_the_file_and_addresses_are_ours() {
        let given = given(&[("MAX_CALLS", "1")], &[("MAX_CALLS", "2"), ("OTEL_X", "3"), ("WORKER_LISTEN", "x")]);
        let mut environment = given.environment();
        environment.sort();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(environment, [pair("MAX_CALLS", "1"), pair("OTEL_X", "3")]);
    }

    #[test]
    fn public_address_comes_from_the_url_or_from_the_domain() {
        let url = |given: &Given| given.public_url().unwrap().map(String::from);
        assert_eq!(url(&given(&[], &[])), None);
        assert_eq!(url(&given(&[], &[("TWILIO_DOMAIN", "a.example")])).as_deref(), Some("https://a.example/"));
        let both = given(&[("TWILIO_VOICE_WEBHOOK_URL", "https://b.example/x")], &[("TWILIO_DOMAIN", "a.example")]);
        assert_eq!(url(&both).as_deref(), Some("https://b.example/x"));
    }

    #[test]
    fn files_are_found_from_another_directory() {
        let environment = given(&[], &[("ROUTES_FILE", "routes.toml")]).environment();
        assert!(Path::new(&environment[0].1).is_absolute());
    }
}
