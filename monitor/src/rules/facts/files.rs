//! The files of a process in PROCFS, parsed: what rules are matched by.

use std::fs;
use std::path::Path;

use crate::memory::kept;
use crate::units::{Bytes, Pid};

/// The most of a command line that is read: those of Java have their class path before what matters.
const TITLE_LENGTH: u64 = 32 << 10;

/// What is taken from PROCFS/PID/status.
pub(super) struct Status {
    pub(super) name: Vec<u8>,
    pub(super) parent: Option<Pid>,
    /// Its real, effective, saved and file-system users; fewer if they could not be read.
    pub(super) uids: Vec<u32>,
    pub(super) rss: Option<Bytes>,
}

impl Status {
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let text = fs::read(dir.join("status")).ok()?;
        let value = |key: &str| {
            let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key.as_bytes()));
            line.map(|value| String::from_utf8_lossy(value).trim().to_owned())
        };
        let uids = value("Uid:").unwrap_or_default().split_whitespace().flat_map(str::parse).collect();
        let kib = value("VmRSS:").and_then(|value| value.strip_suffix(" kB")?.trim().parse::<u64>().ok());
        Some(Self {
            name: value("Name:").unwrap_or_default().into_bytes(),
            parent: value("PPid:").and_then(|parent| parent.parse().ok()).filter(|pid| *pid > 0).map(Pid),
            uids,
            rss: kib.map(|kib| Bytes(kib.saturating_mul(1024))),
        })
    }

    /// Its real user.
    pub(super) fn uid(&self) -> Option<u32> {
        self.uids.first().copied()
    }
}

/// The command line with one space between arguments. What a process wrote over it may end in any number of zeros. Nothing that
/// must not wait calls this (`kept`).
pub(super) fn title(pid: Pid, dir: &Path) -> Vec<u8> {
    let mut text = kept::read(pid, dir, "cmdline", TITLE_LENGTH).unwrap_or_default();
    let end = text.iter().rposition(|byte| !matches!(byte, 0 | b' ' | b'\n')).map_or(0, |last| last + 1);
    text.truncate(end);
    for byte in &mut text {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    text
}
