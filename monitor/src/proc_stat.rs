//! /proc/PID/stat, parsed: what identifies a process and says what it is doing.

use std::fs;
use std::io;
use std::path::Path;

use crate::units::Pid;

/// Set for processes that exit (include/linux/sched.h).
const PF_EXITING: u64 = 0x4;

/// Set for kernel threads (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// SIGKILL among the pending signals.
const KILLED: u64 = 1 << (libc::SIGKILL - 1);

/// What of proc_pid_stat(5) anybody here needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// The state's letter: `T` is stopped, `D` uninterruptible sleep.
    pub state: u8,
    /// The process that started it, or that it was given to; `None`: none that this procfs shows.
    pub parent: Option<Pid>,
    flags: u64,
    /// How many threads it has. A zombie's first thread counts.
    threads: u64,
    /// In clock ticks since boot: with the pid it names one process.
    pub start_time: u64,
    /// The signals that wait for its first thread, one bit each. SIGKILL waits for each thread of a process
    /// (`complete_signal` in kernel/signal.c).
    pending: u64,
}

impl Stat {
    /// Reads a process's file.
    ///
    /// # Errors
    /// `NotFound`: there is no such process. `InvalidData`: the file is malformed.
    pub fn of(procfs: &Path, pid: Pid) -> io::Result<Self> {
        Self::with_name(procfs, pid).map(|(_, stat)| stat)
    }

    /// The same with the process's name, which may hold any bytes.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn with_name(procfs: &Path, pid: Pid) -> io::Result<(Vec<u8>, Self)> {
        let path = procfs.join(pid.to_string()).join("stat");
        let text = fs::read(path).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
            _ => error,
        })?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "its stat file is malformed");
        let (name, stat) = Self::parse(&text).ok_or_else(malformed)?;
        Ok((name.to_owned(), stat))
    }

    /// Whether it has ended, and waits to be reaped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// Whether it has ended, and no thread of it lives on.
    #[must_use]
    pub fn has_ended_whole(&self) -> bool {
        self.has_ended() && self.threads <= 1
    }

    /// Whether it has begun to exit: no signal changes anything for it.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.exits() || self.has_ended()
    }

    /// Whether a thread of it is in its exit. If the first thread is a zombie, others may live.
    #[must_use]
    pub fn exits(&self) -> bool {
        self.flags & PF_EXITING != 0
    }

    /// Whether SIGKILL was sent to it, which it has not died of yet.
    #[must_use]
    pub fn killed(&self) -> bool {
        self.pending & KILLED != 0
    }

    /// Whether it is a thread of the kernel's.
    #[must_use]
    pub fn of_the_kernel(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Fields 3 (state), 4 (ppid), 9 (flags), 20 (num_threads), 22 (starttime) and 31 (signal), and the name before them. The
    /// name in parentheses may hold spaces and parentheses itself: what counts comes after the last one.
    fn parse(text: &[u8]) -> Option<(&[u8], Self)> {
        let begin = text.iter().position(|byte| *byte == b'(')?;
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let name = text.get(begin + 1..end)?;
        let mut fields = text.get(end + 2..)?.split(|byte| *byte == b' ');
        let state = *fields.next()?.first()?;
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
        let parent = number(fields.next()?)?;
        let parent = u32::try_from(parent).ok().filter(|parent| *parent > 0).map(Pid);
        let flags = number(fields.nth(4)?)?;
        let threads = number(fields.nth(10)?)?;
        let start_time = number(fields.nth(1)?)?;
        let pending = number(fields.nth(8)?)?;
        Some((name, Self { state, parent, flags, threads, start_time, pending }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text =
            b"42 (a) b (c)) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200 3 4 5 6 7 8 256 9";
        let (name, stat) = Stat::parse(text).unwrap();
        assert_eq!(name, b"a) b (c)");
        let found = (stat.state, stat.parent, stat.flags, stat.threads, stat.start_time, stat.pending);
        assert_eq!(found, (b'S', Some(Pid(1)), 4_194_304, 1, 98765, 256));
        assert!(stat.killed() && !stat.ends() && !stat.of_the_kernel());
        for name in ["a b", ") 1 2", "((", "", "c\n"] {
            let text =
                format!("17 ({name}) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 1 2 3 4 5 6 7 0");
            let (found, stat) = Stat::parse(text.as_bytes()).unwrap();
            assert_eq!((found, stat.start_time), (name.as_bytes(), 4711));
        }
        assert!(Stat::parse(b"42 (x").is_none());
        assert!(Stat::parse(b"42 (x) S 1").is_none());
        assert!(Stat::parse(b"42 )x( S 1").is_none());
    }

    #[test]
    fn a_zombie_whose_threads_live_has_not_ended_whole() {
        let zombie = |threads: u32| {
            let text =
                format!("42 (x) Z 7 42 42 0 -1 0 1 0 0 0 0 0 0 0 20 0 {threads} 0 100 1 2 3 4 5 6 7 8 9");
            Stat::parse(text.as_bytes()).unwrap().1
        };
        assert!(zombie(1).has_ended_whole());
        assert!(zombie(2).has_ended() && !zombie(2).has_ended_whole());
    }

    #[test]
    fn a_process_is_found_under_its_parent() {
        let stat = Stat::of(Path::new("/proc"), Pid(std::process::id())).unwrap();
        assert_eq!(stat.parent, Some(Pid(std::os::unix::process::parent_id())));
    }
}
