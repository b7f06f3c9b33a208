//! Both services as processes of their own, on free local ports with development credentials: for the
//! bench and for the demo.
//!
//! Each writes its log to a file and is waited for on its `/readyz`. Stopped by SIGTERM to its own
//! process id; killed when dropped.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::sim::{CallPlan, Route, get};

/// How long a service may take to get ready.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(50);
/// The host that the pair believes to be reached at.
const PUBLIC_URL: &str = "https://bench.example";
/// A credential that is good for nothing else.
const AUTH_TOKEN: &str = "development-token-for-the-local-pair";

/// How to start the pair.
#[derive(Clone, Debug)]
pub struct PairSettings {
    /// The gateway's program.
    pub gateway: PathBuf,
    /// The worker's program.
    pub worker: PathBuf,
    /// Largest number of calls at once, for both.
    pub max_calls: u32,
    /// Directory for `gateway.log` and `worker.log`; also the working directory of both, so that a
    /// `.env` elsewhere has no part in it.
    pub logs: PathBuf,
    /// More environment for both.
    pub environment: Vec<(String, String)>,
}

impl PairSettings {
    /// Programs named `gateway` and `audio-worker` next to the running one.
    pub fn beside_current() -> anyhow::Result<Self> {
        let current = std::env::current_exe().context("cannot tell where this program is")?;
        let directory = current.parent().unwrap_or(Path::new("."));
        Ok(Self {
            gateway: directory.join("gateway"),
            worker: directory.join("audio-worker"),
            max_calls: 1000,
            logs: std::env::temp_dir().join(format!("tandem-pair-{}", std::process::id())),
            environment: Vec::new(),
        })
    }
}

/// A process to look at from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The service.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

/// A running pair.
#[derive(Debug)]
pub struct PairProcesses {
    gateway: Process,
    worker: Process,
    gateway_address: SocketAddr,
}

impl PairProcesses {
    /// Starts the worker, then the gateway, and waits until both are ready.
    pub async fn start(settings: &PairSettings) -> anyhow::Result<Self> {
        fs::create_dir_all(&settings.logs).with_context(|| format!("cannot create {}", settings.logs.display()))?;
        let [worker_listen, worker_ops, gateway_listen, gateway_ops] = free_addresses().context("no free ports")?;
        let max_calls = settings.max_calls.to_string();
        let worker = Process::start(
            "worker",
            &settings.worker,
            settings,
            &[
                ("WORKER_LISTEN", &worker_listen.to_string()),
                ("OPS_LISTEN", &worker_ops.to_string()),
                ("WORKER_MAX_CALLS", &max_calls),
            ],
        )?;
        let gateway = Process::start(
            "gateway",
            &settings.gateway,
            settings,
            &[
                ("SERVER_HOST", &gateway_listen.ip().to_string()),
                ("SERVER_PORT", &gateway_listen.port().to_string()),
                ("OPS_LISTEN", &gateway_ops.to_string()),
                ("WORKER_URL", &format!("http://{worker_listen}")),
                ("TWILIO_AUTH_TOKEN", AUTH_TOKEN),
                ("TWILIO_VOICE_WEBHOOK_URL", &format!("{PUBLIC_URL}/voice/incoming")),
                ("MAX_CALLS", &max_calls),
            ],
        )?;
        let mut pair = Self { gateway, worker, gateway_address: gateway_listen };
        pair.worker.wait_ready(worker_ops).await?;
        pair.gateway.wait_ready(gateway_ops).await?;
        Ok(pair)
    }

    /// Where the gateway takes calls.
    pub fn gateway_address(&self) -> SocketAddr {
        self.gateway_address
    }

    /// A plan for calls to this pair.
    pub fn call_plan(&self) -> anyhow::Result<CallPlan> {
        let public_url = Url::parse(PUBLIC_URL)?;
        Ok(CallPlan::new(self.gateway_address, public_url, AUTH_TOKEN))
    }

    /// Both processes, the gateway first.
    pub fn watched(&self) -> Vec<Watched> {
        [&self.gateway, &self.worker]
            .map(|process| Watched { name: process.name.to_owned(), pid: process.child.id() })
            .to_vec()
    }

    /// Asks both to end, the gateway first, and waits `limit` for each; what is still there then is
    /// killed. How they ended, gateway and worker.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<(ExitStatus, ExitStatus)> {
        let gateway = self.gateway.stop(limit).await?;
        let worker = self.worker.stop(limit).await?;
        Ok((gateway, worker))
    }
}

#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(
        name: &'static str,
        program: &Path,
        settings: &PairSettings,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let log = settings.logs.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = program.canonicalize().with_context(|| format!("no program at {}", program.display()))?;
        let child = Command::new(&program)
            .envs(environment.iter().copied())
            .envs(settings.environment.iter().map(|(n, v)| (n, v)))
            .current_dir(&settings.logs)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name, child, log })
    }

    async fn wait_ready(&mut self, ops: SocketAddr) -> anyhow::Result<()> {
        let url = Url::parse(&format!("http://{ops}/readyz"))?;
        let route = Route::Tcp(ops);
        let deadline = now() + READY_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.log_tail());
            }
            // Bounded by the poll as well, should the port accept and then say nothing.
            if let Ok(Ok(reply)) = timeout(READY_LIMIT, get(&route, &url)).await
                && reply.status == 200
            {
                return Ok(());
            }
            if now() >= deadline {
                let (name, tail) = (self.name, self.log_tail());
                bail!("{name} is not ready after {READY_LIMIT:?}:\n{tail}");
            }
            sleep(POLL).await;
        }
    }

    async fn stop(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = now() + limit;
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)
                .with_context(|| format!("cannot signal {}", self.name))?;
        }
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if now() >= deadline {
                self.child.kill()?;
                return Ok(self.child.wait()?);
            }
            sleep(POLL).await;
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(2000)..];
        String::from_utf8_lossy(tail).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Four local addresses that were free a moment ago.
fn free_addresses() -> io::Result<[SocketAddr; 4]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // Held together, so that they differ.
    let listeners = [bind()?, bind()?, bind()?, bind()?];
    let [a, b, c, d] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([a?, b?, c?, d?])
}

#[expect(clippy::disallowed_methods, reason = "waiting for a process takes the clock")]
fn now() -> Instant {
    Instant::now()
}
