//! What a process that does not die is doing, for people. Reads only files that never wait for the process itself
//! (not cmdline, maps or smaps, which take the lock of its memory).

use std::fs;
use std::path::Path;

use crate::engine::Remains;
use crate::proc_stat::Stat;
use crate::units::Pid;

/// How many threads of a process are looked at.
const MOST_THREADS: usize = 512;

/// What /proc says. What cannot be read is unknown, not an error: the process may die meanwhile. A process lives as long
/// as one of its threads, so that one that cannot die speaks for all.
pub(super) fn of(procfs: &Path, pid: Pid) -> Remains {
    let leader = at(procfs, pid, pid);
    if leader.cannot_die() {
        return leader;
    }
    let tasks = procfs.join(pid.to_string()).join("task");
    let threads = fs::read_dir(&tasks).into_iter().flatten().flatten().take(MOST_THREADS);
    let thread = |entry: fs::DirEntry| Some(Pid(entry.file_name().to_str()?.parse().ok()?));
    match threads.filter_map(thread).map(|thread| at(&tasks, thread, pid)).find(Remains::cannot_die) {
        Some(thread) => {
            Remains { sigkill_pending: leader.sigkill_pending.or(thread.sigkill_pending), ..thread }
        }
        None => leader,
    }
}

/// The same of one thread, which is listed in `tasks`, of a process.
fn at(tasks: &Path, thread: Pid, pid: Pid) -> Remains {
    let dir = tasks.join(thread.to_string());
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    Remains {
        pid,
        state: Stat::of(tasks, thread).ok().map(|stat| char::from(stat.state)),
        wait_channel: read("wchan").as_deref().and_then(wait_channel),
        sigkill_pending: read("status").as_deref().and_then(sigkill_pending),
    }
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
        assert_eq!(wait_channel("__refrigerator\n").as_deref(), Some("__refrigerator"));
        assert_eq!(wait_channel("0"), None);
        assert_eq!(sigkill_pending("SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n"), Some(true));
        assert_eq!(sigkill_pending("SigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"), Some(true));
        assert_eq!(sigkill_pending("SigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n"), Some(false));
        assert_eq!(sigkill_pending("ShdPnd:\tx\n"), None);
    }

    #[test]
    fn one_thread_that_cannot_die_speaks_for_a_process_whose_first_has_exited() {
        let procfs = tempfile::tempdir().unwrap();
        let write = |dir: &str, state: char| {
            let dir = procfs.path().join(dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("stat"), format!("7 (a) {state} {}", "1 ".repeat(40))).unwrap();
        };
        write("7", 'Z');
        write("7/task/7", 'Z');
        write("7/task/8", 'R');
        assert_eq!(of(procfs.path(), Pid(7)).state, Some('Z'));
        write("7/task/9", 't');
        assert_eq!(of(procfs.path(), Pid(7)).state, Some('t'));
    }

    #[test]
    fn a_process_that_is_gone_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let remains = of(dir.path(), Pid(7));
        assert_eq!((remains.state, remains.wait_channel, remains.sigkill_pending), (None, None, None));
    }
}
