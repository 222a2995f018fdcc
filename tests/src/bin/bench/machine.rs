//! Where and when it was measured.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// What numbers mean nothing without.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) unix_time: u64,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) memory_kib: u64,
    /// At the start: others that work here at the same time show in every tail.
    pub(crate) load: String,
    pub(crate) command: String,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let uname = rustix::system::uname();
        let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
        let value = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let memory = value(&read("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let args: Vec<String> = std::env::args().skip(1).collect();
        Ok(Self {
            unix_time: now.as_secs(),
            kernel: format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
            cpu: value(&read("/proc/cpuinfo")?, "model name").unwrap_or_else(|| "unknown".into()),
            cpus: std::thread::available_parallelism()?.get(),
            memory_kib: memory.trim_end_matches(" kB").parse().context("MemTotal")?,
            load: read("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" "),
            command: ["cargo xtask bench".to_owned(), args.join(" ")].join(" ").trim().to_owned(),
        })
    }
}
