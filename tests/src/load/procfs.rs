//! What Linux says about a process: CPU time per process and thread, resident memory.

use std::{collections::BTreeMap, fs, io};

/// CPU time in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) user: u64,
    pub(crate) system: u64,
}

impl Cpu {
    pub(crate) fn total(self) -> u64 {
        self.user + self.system
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }
}

/// CPU time of a process and of its threads at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessCpu {
    pub(crate) process: Cpu,
    /// By thread id: name and time.
    pub(crate) threads: BTreeMap<u32, (String, Cpu)>,
}

/// CPU times of `pid`; `/proc/PID/stat` counts in ticks of 10 ms.
pub(crate) fn cpu(pid: u32) -> io::Result<ProcessCpu> {
    let (_, process) = read_stat(&format!("/proc/{pid}/stat"))?;
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        let Some(tid) = entry.file_name().to_str().and_then(|s| s.parse().ok()) else {
            continue;
        };
        // A thread may end between the listing and the reading.
        if let Ok(stat) = read_stat(&format!("/proc/{pid}/task/{tid}/stat")) {
            threads.insert(tid, stat);
        }
    }
    Ok(ProcessCpu { process, threads })
}

/// Processor time of a process so far, in seconds.
///
/// # Errors
/// When there is no such process.
pub fn processor_seconds(pid: u32) -> io::Result<f64> {
    Ok(cpu(pid)?.process.total() as f64 / 1e6)
}

/// Resident memory of `pid` in KiB.
pub fn resident_kib(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_resident(&status).ok_or_else(|| io::Error::other("no VmRSS"))
}

fn read_stat(path: &str) -> io::Result<(String, Cpu)> {
    let ticks = rustix::param::clock_ticks_per_second();
    parse_stat(&fs::read_to_string(path)?, ticks).ok_or_else(|| io::Error::other("unknown format"))
}

/// Name and CPU time from a `stat` line; the name may hold spaces and brackets.
fn parse_stat(line: &str, ticks_per_second: u64) -> Option<(String, Cpu)> {
    let (head, tail) = line.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    // proc(5): after the name come fields 3 and on; utime is 14, stime 15.
    let mut fields = tail.split_whitespace().skip(11);
    let mut micros = || -> Option<u64> {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(ticks * 1_000_000 / ticks_per_second)
    };
    let cpu = Cpu { user: micros()?, system: micros()? };
    Some((name.to_owned(), cpu))
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name() {
        let line = "12 (tokio (rt) 1) S 1 1 1 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 3 0 100";
        let (name, cpu) = parse_stat(line, 100).unwrap();
        assert_eq!(name, "tokio (rt) 1");
        assert_eq!((cpu.user, cpu.system), (2_500_000, 500_000));
        assert_eq!(parse_stat("12 (x) S 1", 100), None);
    }

    #[test]
    fn own_process_has_memory_and_threads() {
        let pid = std::process::id();
        assert!(resident_kib(pid).unwrap() > 100);
        assert!(!cpu(pid).unwrap().threads.is_empty());
        assert_eq!(parse_resident("VmRSS:\t  1234 kB\n"), Some(1234));
    }
}
