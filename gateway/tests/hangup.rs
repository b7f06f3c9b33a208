//! The program itself and its routes file: what SIGHUP does, and which of its tasks need the file to be good.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// How often something is asked that must come, and how long between.
const TRIES: u32 = 400;
const POLL: Duration = Duration::from_millis(50);

/// Numbers of the calls that were asked for.
static CALLS: AtomicU32 = AtomicU32::new(1);

const GOOD: &str = "[[route]]\nto = \"+15550101\"\nagent = \"first\"\n";
const BETTER: &str = "[[route]]\nto = \"+15550101\"\nagent = \"second\"\n";
const BROKEN: &str = "[[route]]\nto = \"+1555010\n";

/// A folder of one test with its routes file, and two ports.
struct Place {
    folder: PathBuf,
    server: SocketAddr,
    operations: SocketAddr,
}

impl Place {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tandem-hangup-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // Held together, so that they differ.
        let ports = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let [server, operations] = ports.each_ref().map(|port| port.local_addr().unwrap());
        Self { folder, server, operations }
    }

    fn routes(&self) -> PathBuf {
        self.folder.join("routes.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.routes(), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        // Its settings are these and no others.
        command.env_clear().current_dir(&self.folder).stdin(Stdio::null());
        let address = self.server.ip().to_string();
        let (port, operations) = (self.server.port().to_string(), self.operations.to_string());
        command.args(["--twilio-skip-validation", "1", "--twilio-voice-webhook-url", "http://localhost:8000"]);
        command.args(["--server-host", &address, "--server-port", &port, "--ops-listen", &operations]);
        command.arg("--routes-file").arg(self.routes());
        command
    }

    fn start(&self) -> Gateway {
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let child = self.command().stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let gateway = Gateway(child);
        eventually("it is ready", || self.healthcheck().status.success());
        gateway
    }

    fn healthcheck(&self) -> Output {
        self.command().arg("healthcheck").output().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// True when a call to the number of the routes gets the agent.
    fn gives(&self, agent: &str) -> bool {
        let ask = || -> io::Result<String> {
            // A new call each time: a webhook that is repeated keeps the route of its call.
            let call = CALLS.fetch_add(1, Ordering::Relaxed);
            let form = format!("CallSid=CA{call}&To=%2B15550101&From=%2B15550100");
            let mut stream = TcpStream::connect(self.server)?;
            write!(
                stream,
                "POST /voice/incoming HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
                form.len()
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().unwrap().contains(&format!("<Parameter name=\"agent\" value=\"{agent}\"/>"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The running program; killed at the end.
struct Gateway(Child);

impl Gateway {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sighup_takes_a_good_file_into_use_and_refuses_a_broken_one() {
    let place = Place::new("reload");
    place.write(GOOD);
    let mut gateway = place.start();
    assert!(place.gives("first"));
    place.write(BETTER);
    gateway.signal(Signal::HUP);
    eventually("the new routes hold", || place.gives("second"));
    place.write(BROKEN);
    gateway.signal(Signal::HUP);
    eventually("the file is refused", || place.log().contains("the routes file was refused; the old routes stay"));
    assert!(place.gives("second"));
    assert!(place.log().contains("line 2: is no TOML"), "{}", place.log());
    assert!(!place.log().contains("1555010"), "{}", place.log());
    assert!(place.healthcheck().status.success(), "readiness does not hang on the file");
    place.write(GOOD);
    gateway.signal(Signal::HUP);
    eventually("it is repaired", || place.gives("first"));
    gateway.signal(Signal::TERM);
    assert!(gateway.0.wait().unwrap().success());
}

#[test]
fn a_broken_file_refuses_the_start_and_the_check() {
    let place = Place::new("start");
    let check = || place.command().arg("--check-config").output().unwrap();
    place.write(GOOD);
    assert!(check().status.success());
    place.write("[[route]]\nto = \"030\"\n[[route]]\nagnt = \"x\"\n");
    for output in [check(), place.command().output().unwrap()] {
        assert_eq!(output.status.code(), Some(64));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("ROUTES_FILE: line 2, route 1: to must be"), "{told}");
        assert!(told.contains("ROUTES_FILE: line 4, route 2: has an unknown key"), "{told}");
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
