//! Asks a running service of this machine whether it is ready: what `healthcheck` in a container does. It reads one
//! setting alone: whether the service is ready does not hang on a file that was changed since it began.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;

use crate::settings::{BAD_SETTINGS, Mistakes, Reader, Values};

/// How long the whole question may take, connect and answer each.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `healthcheck` of a service with these settings does: its exit code.
///
/// # Errors
/// When the service cannot be reached or does not answer in time.
#[expect(clippy::print_stderr, reason = "a command line answers on its streams")]
pub fn healthcheck(values: &Values) -> anyhow::Result<ExitCode> {
    match address(values) {
        Ok(operations) => {
            let is_ready = ready(operations).context("OPS_LISTEN does not answer; is the service up?")?;
            Ok(ExitCode::from(u8::from(!is_ready)))
        }
        Err(mistakes) => {
            eprintln!("{mistakes}");
            Ok(ExitCode::from(BAD_SETTINGS))
        }
    }
}

/// The operations port of the service that has these settings.
///
/// # Errors
/// When `OPS_LISTEN` cannot be used.
fn address(values: &Values) -> Result<SocketAddr, Mistakes> {
    let mut reader = Reader::new(values);
    let operations = reader.parsed("OPS_LISTEN");
    reader.finish(operations)
}

/// Whether `GET /readyz` on the operations port answers 200. A wildcard address is asked on loopback.
///
/// # Errors
/// When the service cannot be reached or does not answer in time.
fn ready(operations: SocketAddr) -> io::Result<bool> {
    let ip = match operations.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    let mut stream = TcpStream::connect_timeout(&(ip, operations.port()).into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status_line = [0; 12];
    stream.read_exact(&mut status_line)?;
    Ok(&status_line == b"HTTP/1.1 200")
}
