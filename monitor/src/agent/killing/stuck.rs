//! What a process that does not die is doing, for people. Reads only files that never wait for the process itself
//! (not cmdline, maps or smaps, which take the lock of its memory).

use std::fs;
use std::path::Path;

use crate::engine::Remains;
use crate::units::Pid;

/// What /proc says. What cannot be read is unknown, not an error: the process may die meanwhile.
pub(in crate::agent) fn of(procfs: &Path, pid: Pid) -> Remains {
    let dir = procfs.join(pid.to_string());
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    Remains {
        pid,
        state: read("stat").as_deref().and_then(state),
        wait_channel: read("wchan").as_deref().and_then(wait_channel),
        sigkill_pending: read("status").as_deref().and_then(sigkill_pending),
    }
}

/// Field 3 of proc_pid_stat(5), after a command that may hold anything.
fn state(stat: &str) -> Option<char> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// "0": it waits nowhere, or the reader may not know.
fn wait_channel(wchan: &str) -> Option<String> {
    let name = wchan.trim();
    (!name.is_empty() && name != "0").then(|| name.to_owned())
}

/// SIGKILL is signal 9, hence bit 8; sent to the process (`ShdPnd`) or to its first thread (`SigPnd`).
fn sigkill_pending(status: &str) -> Option<bool> {
    let mask = |key: &str| {
        let hex = status.lines().find_map(|line| line.strip_prefix(key))?.trim();
        u64::from_str_radix(hex, 16).ok()
    };
    Some((mask("ShdPnd:")? | mask("SigPnd:")?) & (1 << 8) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_understood() {
        assert_eq!(state("7 (a) D (b) D 1 7 7"), Some('D'));
        assert_eq!(state("7 (a"), None);
        assert_eq!(wait_channel("__refrigerator\n").as_deref(), Some("__refrigerator"));
        assert_eq!(wait_channel("0"), None);
        assert_eq!(sigkill_pending("SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n"), Some(true));
        assert_eq!(sigkill_pending("SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"), Some(true));
        assert_eq!(sigkill_pending("SigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n"), Some(false));
        assert_eq!(sigkill_pending("ShdPnd:\tx\n"), None);
    }

    #[test]
    fn a_process_that_is_gone_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let remains = of(dir.path(), Pid(7));
        assert_eq!((remains.state, remains.wait_channel, remains.sigkill_pending), (None, None, None));
    }
}
