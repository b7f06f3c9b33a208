//! An agent that is a service of its own, as a process: the example in Rust, for calls to it beside calls to the worker's own
//! echo.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

/// How long it may take to listen.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(50);
/// What the agents file calls it.
const NAME: &str = "remote-agent";

/// A running agent; it ends when dropped.
#[derive(Debug)]
pub struct AgentProcess {
    child: Child,
    address: SocketAddr,
}

impl AgentProcess {
    /// Starts `program` on a free port of this machine and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, or does not listen in time.
    pub async fn start(program: &Path) -> anyhow::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = address.context("no free port")?;
        let mut command = Command::new(program);
        command.env("AGENT_LISTEN", address.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut agent = Self { child, address };
        let listening = timeout(READY_LIMIT, async {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = agent.child.try_wait()? {
                    bail!("{} ended with {status}", program.display());
                }
                sleep(POLL).await;
            }
            Ok(())
        });
        listening.await.with_context(|| format!("{} does not listen", program.display()))??;
        Ok(agent)
    }

    /// Settings of a pair whose calls go to it; the agents file is put into `folder`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn settings(&self, folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join("remote-agent.toml");
        let text =
            format!("[agent.{NAME}]\nkind = \"remote\"\nurl = \"http://{}\"\ninterrupt = \"agent\"\n", self.address);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        let file = path.canonicalize()?.display().to_string();
        Ok(vec![("AGENTS_FILE".to_owned(), file), ("DEFAULT_AGENT".to_owned(), NAME.to_owned())])
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
