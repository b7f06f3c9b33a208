//! The program itself and its agents file: what SIGHUP does, and which of its tasks need the file to be good.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use proto::v1::{GetInfoRequest, voice_service_client::VoiceServiceClient};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Endpoint;

/// How often something is asked that must come, and how long between.
const TRIES: u32 = 400;
const POLL: Duration = Duration::from_millis(50);

const GOOD: &str = "[agent.first]\nkind = \"echo\"\n";
const BETTER: &str = "[agent.second]\nkind = \"pipeline\"\ninstructions = \"x\"\n";
const BROKEN: &str =
    "[agent.third]\nkind = \"pipeline\"\ninstructions = \"s3cret\"\nchat.key = \"NOT_SET\"\nmood = \"s3cret\"\n";

/// A folder of one test with its agents file, and two ports.
struct Place {
    folder: PathBuf,
    listen: SocketAddr,
    operations: SocketAddr,
}

impl Place {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tandem-worker-hangup-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // Held together, so that they differ.
        let ports = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [listen, operations] = ports.each_ref().map(|port| port.local_addr().unwrap());
        Self { folder, listen, operations }
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.join("agents.toml"), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_audio-worker"));
        // Its settings are these and no others.
        command.env_clear().current_dir(&self.folder).stdin(Stdio::null()).env("OPENAI_API_KEY", "sk-test");
        let (listen, operations) = (self.listen.to_string(), self.operations.to_string());
        command.args(["--worker-listen", &listen, "--ops-listen", &operations, "--agents-file", "agents.toml"]);
        command
    }

    fn start(&self) -> Worker {
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let worker = Worker(self.command().stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        eventually("it is ready", || self.command().arg("healthcheck").output().unwrap().status.success());
        worker
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// The agents that the worker says it has.
    fn agents(&self) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = Endpoint::from_shared(format!("http://{}", self.listen)).unwrap();
            let mut client = VoiceServiceClient::new(address.connect().await.unwrap());
            client.get_info(GetInfoRequest {}).await.unwrap().into_inner().agents
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The running program; killed at the end.
struct Worker(Child);

impl Worker {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sighup_takes_a_good_file_into_use_and_refuses_a_broken_one() {
    let place = Place::new("reload");
    place.write(GOOD);
    let mut worker = place.start();
    assert_eq!(place.agents(), ["echo", "first"]);
    place.write(BETTER);
    worker.signal(Signal::HUP);
    eventually("the new agents are there", || place.agents() == ["echo", "second"]);
    place.write(BROKEN);
    worker.signal(Signal::HUP);
    eventually("the file is refused", || place.log().contains("the agents file was refused; the old agents stay"));
    assert_eq!(place.agents(), ["echo", "second"]);
    let log = place.log();
    assert!(log.contains("line 4, agent third: key names an environment variable that is not set"), "{log}");
    assert!(log.contains("line 5, agent third: an agent has an unknown key"), "{log}");
    assert!(!log.contains("s3cret") && !log.contains("sk-test"), "{log}");
    worker.signal(Signal::TERM);
    assert!(worker.0.wait().unwrap().success());
}

#[test]
fn a_broken_file_refuses_the_start_and_the_check() {
    let place = Place::new("start");
    let check = || place.command().arg("--check-config").output().unwrap();
    place.write(BETTER);
    assert!(check().status.success());
    let without_key = place.command().env_remove("OPENAI_API_KEY").arg("--check-config").output().unwrap();
    assert_eq!(without_key.status.code(), Some(64));
    place.write(BROKEN);
    for output in [check(), place.command().output().unwrap()] {
        assert_eq!(output.status.code(), Some(64));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("AGENTS_FILE: line 4, agent third: key names"), "{told}");
        assert!(told.contains("AGENTS_FILE: line 5, agent third: an agent has an unknown key"), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..TRIES {
        if condition() {
            return;
        }
        thread::sleep(POLL);
    }
    panic!("not in time: {what}");
}
