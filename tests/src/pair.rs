//! Both services as processes of their own, on local ports, with development credentials unless others
//! are given: for the bench and for the demo.
//!
//! Each writes its log to a file and is waited for on its `/readyz`. Stopped by SIGTERM to its own
//! process id; killed when dropped. What this program's own environment says about the services is
//! kept from them: a token exported for something else must not decide how a test ends.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::sim::{CallPlan, Route, get};

mod arguments;

pub use arguments::PairArguments;

/// How long a service may take to get ready.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(50);
/// A credential that is good for nothing else.
pub const DEVELOPMENT_TOKEN: &str = "development-token-for-the-local-pair";
/// Nobody's host, at which the pair believes to be reached.
pub const DEVELOPMENT_URL: &str = "https://voice.example.com";
/// Settings that stay as the environment has them: they change nothing but the logs.
const KEPT: [&str; 2] = ["RUST_LOG", "LOG_FORMAT"];

/// How to start the pair.
#[derive(Clone, Debug)]
pub struct PairSettings {
    /// The gateway's program.
    pub gateway: PathBuf,
    /// The worker's program.
    pub worker: PathBuf,
    /// Largest number of calls at once, for both; their own defaults when none.
    pub max_calls: Option<u32>,
    /// Directory for `gateway.log` and `worker.log`; also the working directory of both, so that a
    /// `.env` elsewhere has no part in it.
    pub logs: PathBuf,
    /// More environment for both; goes before all else that is said here, but for addresses.
    pub environment: Vec<(String, String)>,
    /// Ports to take if they are free; free ones instead of those that are not.
    pub ports: Ports,
    /// Signs requests; several with commas, of which calls use the first.
    pub auth_token: String,
    /// The address at which the pair believes to be reached.
    pub public_url: Url,
    /// A process group each, so that Ctrl-C reaches only this program, which then says who ends when.
    /// For programs that answer to signals; others would leave the pair behind.
    pub own_groups: bool,
}

/// Ports on the loopback interface; 0 is any free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// The gateway's webhooks and media socket.
    pub gateway: u16,
    /// The gateway's `/livez` and `/readyz`.
    pub gateway_ops: u16,
    /// The worker's gRPC.
    pub worker: u16,
    /// The worker's `/livez` and `/readyz`.
    pub worker_ops: u16,
}

/// Where a running pair listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The gateway's webhooks and media socket.
    pub gateway: SocketAddr,
    /// The gateway's `/livez` and `/readyz`.
    pub gateway_ops: SocketAddr,
    /// The worker's gRPC.
    pub worker: SocketAddr,
    /// The worker's `/livez` and `/readyz`.
    pub worker_ops: SocketAddr,
}

impl PairSettings {
    /// Programs named `gateway` and `audio-worker` next to the running one.
    pub fn beside_current() -> anyhow::Result<Self> {
        let current = std::env::current_exe().context("cannot tell where this program is")?;
        let directory = current.parent().unwrap_or(Path::new("."));
        Ok(Self {
            gateway: directory.join("gateway"),
            worker: directory.join("audio-worker"),
            max_calls: None,
            logs: std::env::temp_dir().join(format!("tandem-pair-{}", std::process::id())),
            environment: Vec::new(),
            ports: Ports::default(),
            auth_token: DEVELOPMENT_TOKEN.to_owned(),
            public_url: Url::parse(DEVELOPMENT_URL)?,
            own_groups: false,
        })
    }

    /// How the halves speak to each other: with certificates they speak TLS.
    fn scheme(&self) -> &'static str {
        if self.environment.iter().any(|(name, _)| name == "TLS_CERT") { "https" } else { "http" }
    }
}

/// A process to look at from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The service.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Where it tells its metrics.
    pub operations: SocketAddr,
}

/// A running pair.
#[derive(Debug)]
pub struct PairProcesses {
    gateway: Process,
    worker: Process,
    addresses: Addresses,
    auth_token: String,
    public_url: Url,
}

impl PairProcesses {
    /// Starts the worker, then the gateway, and waits until both are ready.
    pub async fn start(settings: &PairSettings) -> anyhow::Result<Self> {
        fs::create_dir_all(&settings.logs).with_context(|| format!("cannot create {}", settings.logs.display()))?;
        let addresses = settings.ports.addresses().context("no free ports")?;
        // An empty value is as good as none.
        let max_calls = settings.max_calls.map(|calls| calls.to_string()).unwrap_or_default();
        let worker = Process::start(
            "worker",
            &settings.worker,
            settings,
            &[("WORKER_MAX_CALLS", &max_calls)],
            &[("WORKER_LISTEN", &addresses.worker.to_string()), ("OPS_LISTEN", &addresses.worker_ops.to_string())],
        )?;
        let gateway = Process::start(
            "gateway",
            &settings.gateway,
            settings,
            &[
                ("TWILIO_AUTH_TOKEN", &settings.auth_token),
                ("TWILIO_VOICE_WEBHOOK_URL", settings.public_url.as_str()),
                ("MAX_CALLS", &max_calls),
            ],
            &[
                ("SERVER_HOST", &addresses.gateway.ip().to_string()),
                ("SERVER_PORT", &addresses.gateway.port().to_string()),
                ("OPS_LISTEN", &addresses.gateway_ops.to_string()),
                ("WORKER_URL", &format!("{}://{}", settings.scheme(), addresses.worker)),
            ],
        )?;
        let auth_token = settings.auth_token.split(',').next().unwrap_or_default().trim().to_owned();
        let mut pair = Self { gateway, worker, addresses, auth_token, public_url: settings.public_url.clone() };
        pair.worker.wait_ready(addresses.worker_ops).await?;
        pair.gateway.wait_ready(addresses.gateway_ops).await?;
        Ok(pair)
    }

    /// Where both listen.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// A plan for calls to this pair.
    pub fn call_plan(&self) -> anyhow::Result<CallPlan> {
        let mut origin = self.public_url.clone();
        origin.set_path("");
        origin.set_query(None);
        Ok(CallPlan::new(self.addresses.gateway, origin, &self.auth_token))
    }

    /// Fails, with the end of its log, when one of them has ended by itself.
    pub fn still_running(&mut self) -> anyhow::Result<()> {
        self.gateway.still_running()?;
        self.worker.still_running()
    }

    /// Both processes, the gateway first.
    pub fn watched(&self) -> Vec<Watched> {
        let both = [(&self.gateway, self.addresses.gateway_ops), (&self.worker, self.addresses.worker_ops)];
        both.map(|(process, operations)| Watched { name: process.name.to_owned(), pid: process.child.id(), operations })
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
        defaults: &[(&str, &str)],
        addresses: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let log = settings.logs.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = program.canonicalize().with_context(|| format!("no program at {}", program.display()))?;
        let mut command = Command::new(&program);
        for name in setting_names().filter(|name| !KEPT.contains(name)) {
            command.env_remove(name);
        }
        command
            .envs(defaults.iter().copied())
            .envs(settings.environment.iter().map(|(n, v)| (n, v)))
            .envs(addresses.iter().copied())
            .current_dir(&settings.logs)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        if settings.own_groups {
            command.process_group(0);
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name, child, log })
    }

    async fn wait_ready(&mut self, ops: SocketAddr) -> anyhow::Result<()> {
        let url = Url::parse(&format!("http://{ops}/readyz"))?;
        let route = Route::Tcp(ops);
        let deadline = now() + READY_LIMIT;
        loop {
            self.still_running()?;
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

    fn still_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.log_tail()),
            None => Ok(()),
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

/// The name of every setting of either service.
pub fn setting_names() -> impl Iterator<Item = &'static str> {
    let (gateway, worker) = (&gateway::config::SETTINGS, &audio_worker::config::SETTINGS);
    gateway.iter().chain(worker.iter()).map(|setting| setting.name)
}

impl Ports {
    /// Local addresses that were free a moment ago.
    fn addresses(self) -> io::Result<Addresses> {
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let bind = |port| bind(port).or_else(|_| bind(0));
        // Held together, so that they differ.
        let listeners = [bind(self.gateway)?, bind(self.gateway_ops)?, bind(self.worker)?, bind(self.worker_ops)?];
        let [gateway, gateway_ops, worker, worker_ops] = listeners.each_ref().map(TcpListener::local_addr);
        Ok(Addresses { gateway: gateway?, gateway_ops: gateway_ops?, worker: worker?, worker_ops: worker_ops? })
    }
}

#[expect(clippy::disallowed_methods, reason = "waiting for a process takes the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_gives_way_to_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let addresses = Ports { gateway: port, ..Ports::default() }.addresses().unwrap();
        assert_ne!(addresses.gateway.port(), port);
        drop(taken);
        let addresses = Ports { worker: port, ..Ports::default() }.addresses().unwrap();
        assert_eq!(addresses.worker.port(), port);
    }
}
