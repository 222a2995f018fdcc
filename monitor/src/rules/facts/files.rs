//! The files of a process in PROCFS, parsed: what rules are matched by.

use std::fs;
use std::path::Path;

use crate::memory::kept;
use crate::units::{Bytes, Pid};

/// The most of a command line that is read: those of Java have their class path before what matters.
const TITLE_LENGTH: u64 = 32 << 10;

/// Set for threads that exit (include/linux/sched.h).
const PF_EXITING: u64 = 0x4;

/// Set for kernel threads (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

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

/// What is taken from PROCFS/PID/stat (proc_pid_stat(5)).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: Vec<u8>,
    pub(super) parent: Option<Pid>,
    flags: u64,
    /// It is a zombie, and no thread of it lives on.
    pub(super) ended: bool,
    /// When it started, in clock ticks since boot.
    pub(super) start: u64,
}

impl Stat {
    /// `None`: there is no such file, or it is no such file.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        fs::read(dir.join("stat")).ok().and_then(|text| Self::parse(&text))
    }

    /// It is on its way out.
    pub(super) fn exits(&self) -> bool {
        self.flags & PF_EXITING != 0
    }

    /// It is a thread of the kernel.
    pub(super) fn of_the_kernel(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The name may hold anything, also brackets: it ends at the last one.
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let comm = text.get(open + 1..close)?.to_vec();
        let rest = String::from_utf8_lossy(text.get(close + 1..)?).into_owned();
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok().filter(|pid| *pid > 0).map(Pid);
        let flags = fields.nth(4)?.parse().ok()?;
        // Field 20; flags were field 9.
        let threads: u64 = fields.nth(10)?.parse().ok()?;
        // Field 22.
        let start = fields.nth(1).and_then(|start| start.parse().ok()).unwrap_or(0);
        Some(Self { comm, parent, flags, ended: matches!(state, "Z" | "X" | "x") && threads <= 1, start })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_and_newlines_do_not_break_stat() {
        let line = b"42 (a) b (c\n) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 100 0 0";
        let found = Stat::parse(line).unwrap();
        let told = (found.comm.as_slice(), found.parent, found.ended);
        assert_eq!(told, (b"a) b (c\n".as_slice(), Some(Pid(7)), false));
        assert!(!found.of_the_kernel());
        let zombie = |threads: u32| format!("42 (x) Z 7 42 42 0 -1 0 1 0 0 0 0 0 0 0 20 0 {threads} 0 100");
        assert!(Stat::parse(zombie(1).as_bytes()).unwrap().ended);
        assert!(!Stat::parse(zombie(2).as_bytes()).unwrap().ended, "a thread of it lives on");
        assert_eq!(Stat::parse(b"42 (x"), None);
    }
}
