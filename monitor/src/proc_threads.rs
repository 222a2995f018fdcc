//! A process lives as long as one of its threads. If its first thread has called pthread_exit, it lives on, while its
//! files in /proc, which are that thread's, say that it is a zombie in no cgroup and without memory. This says which
//! thread's files tell of a process, and whether all its threads are ending.

use std::fs;
use std::path::{Path, PathBuf};

use crate::proc_stat::Stat;
use crate::units::Pid;

/// How many threads are looked at. One that has exited leaves the list, unless it is the first.
const MOST: usize = 512;

/// How often threads are listed until none is new.
const LOOKS: usize = 4;

/// The directory with the files that describe a process: PROCFS/PID, or that of a live thread if the first has exited.
#[must_use]
pub fn speaker(procfs: &Path, pid: Pid) -> PathBuf {
    let process = procfs.join(pid.to_string());
    another_speaks(procfs, pid).unwrap_or(process)
}

/// The directory of a thread that lives while the first does not. `None`: there is none.
#[must_use]
pub fn another_speaks(procfs: &Path, pid: Pid) -> Option<PathBuf> {
    if !Stat::of(procfs, pid).is_ok_and(|first| first.ends()) {
        return None;
    }
    let tasks = procfs.join(pid.to_string()).join("task");
    let lives = |thread: &Pid| Stat::of(&tasks, *thread).is_ok_and(|stat| !stat.ends());
    let thread = threads(&tasks).into_iter().filter(|thread| *thread != pid).find(lives)?;
    Some(tasks.join(thread.to_string()))
}

/// Whether `ends` is true of each thread, and of some. A thread that ends makes no other, so that one which is not listed
/// was made by one that lived. Too many threads, or one that cannot be looked at: no.
#[must_use]
pub fn all(procfs: &Path, pid: Pid, ends: impl Fn(&Stat) -> bool) -> bool {
    let tasks = procfs.join(pid.to_string()).join("task");
    let mut known = threads(&tasks);
    for _ in 0..LOOKS {
        // One that is gone meanwhile has ended.
        let ended = |thread: &Pid| match Stat::of(&tasks, *thread) {
            Ok(stat) => ends(&stat),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if known.is_empty() || known.len() >= MOST || !known.iter().all(ended) {
            return false;
        }
        let now = threads(&tasks);
        if now.iter().all(|thread| known.contains(thread)) {
            return true;
        }
        known = now;
    }
    false
}

fn threads(tasks: &Path) -> Vec<Pid> {
    let entries = fs::read_dir(tasks).into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| Some(Pid(entry.file_name().to_str()?.parse().ok()?));
    entries.filter_map(number).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Process 7, with threads in these states; `E` exits.
    fn process(threads: &[(u32, char)]) -> tempfile::TempDir {
        let procfs = tempfile::tempdir().unwrap();
        let write = |dir: &str, state: char| {
            let dir = procfs.path().join(dir);
            fs::create_dir_all(&dir).unwrap();
            let (state, flags) = if state == 'E' { ('R', 4) } else { (state, 0) };
            let stat = format!("7 (a) {state} 1 1 1 1 1 {flags} {}", "1 ".repeat(40));
            fs::write(dir.join("stat"), stat).unwrap();
        };
        for (thread, state) in threads {
            if *thread == 7 {
                write("7", *state);
            }
            write(&format!("7/task/{thread}"), *state);
        }
        procfs
    }

    fn speaks(threads: &[(u32, char)]) -> String {
        let procfs = process(threads);
        let dir = speaker(procfs.path(), Pid(7));
        dir.strip_prefix(procfs.path()).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_thread_that_lives_speaks_for_a_process_whose_first_has_ended() {
        assert_eq!(speaks(&[(7, 'S'), (8, 'R')]), "7");
        assert_eq!(speaks(&[(7, 'Z'), (8, 'R')]), "7/task/8");
        assert_eq!(speaks(&[(7, 'E'), (8, 'E'), (9, 'D')]), "7/task/9");
        assert_eq!(speaks(&[(7, 'Z')]), "7", "nobody else is left");
        assert_eq!(speaker(Path::new("/nowhere"), Pid(7)), Path::new("/nowhere/7"));
    }

    #[test]
    fn a_process_ends_when_all_its_threads_do() {
        let ends = |threads: &[(u32, char)]| all(process(threads).path(), Pid(7), Stat::ends);
        assert!(ends(&[(7, 'Z')]) && ends(&[(7, 'Z'), (8, 'E')]));
        assert!(!ends(&[(7, 'Z'), (8, 'E'), (9, 'S')]));
        assert!(!ends(&[(7, 'S')]));
        assert!(!all(Path::new("/nowhere"), Pid(7), |_| true), "nobody is known to end");
    }
}
