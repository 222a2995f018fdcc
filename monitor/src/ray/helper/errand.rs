//! The helper's children: one is sent into a mount namespace for one errand, with a time limit. One that even SIGKILL does not
//! end, because the kernel waits for a file system, is counted until it ends.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::mounted::Mounted;
use crate::kill::Process;
use crate::ray::enter::{self, Entered};
use crate::ray::wire;
use crate::units::{Bytes, Pid};

/// A child that takes longer is killed.
const LONGEST: Duration = Duration::from_secs(2);

/// One that has answered or was killed ends within this, unless the kernel keeps it.
const ENDING: Duration = Duration::from_millis(200);

/// While so many cannot be ended no more files are put in place, and while so many no more are taken away. The unit has room
/// for 16 processes.
const MOST: usize = 6;
const MOST_IN_ALL: usize = 12;

/// So many late children of one user's raylets are counted together, for so long: they take the helper's time from all others.
const OF_A_USER: usize = 3;
const LEFT_ALONE: Duration = Duration::from_secs(20);

/// What a child is sent for.
pub(super) enum Errand<'a> {
    Attach {
        /// The raylet's folder in procfs.
        process: &'a OwnedFd,
        usage: &'a OwnedFd,
        stat: &'a OwnedFd,
        /// The kinds of files with mounts that would also show our files to others.
        shared: &'a str,
        log: Option<&'a Path>,
    },
    /// Of which kind, or `all`.
    Detach(&'a str),
    /// Only the settings are read, of a raylet with this much memory.
    Look { process: &'a OwnedFd, log: Option<&'a Path>, total: Bytes },
}

/// The children that did not end in time.
pub(super) struct Children {
    /// What they run.
    program: &'static str,
    longest: Duration,
    late: Vec<Late>,
}

struct Late {
    /// `None`: it has ended meanwhile.
    child: Option<Child>,
    since: Instant,
    namespace: u64,
    user: u32,
}

impl Children {
    pub(super) fn new() -> Self {
        Self { program: "/proc/self/exe", longest: LONGEST, late: Vec::new() }
    }

    /// Whether one has not ended yet.
    pub(super) fn some_live(&self) -> bool {
        self.late.iter().any(|late| late.child.is_some())
    }

    /// Takes the exit status of those that ended.
    pub(super) fn reap(&mut self) {
        for late in &mut self.late {
            if late.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
                late.child = None;
            }
        }
        self.late.retain(|late| late.child.is_some() || late.since.elapsed() < LEFT_ALONE);
    }

    /// Why no child is sent there now.
    pub(super) fn refusal(&self, namespace: u64, user: u32, detaches: bool) -> Option<&'static str> {
        let living = || self.late.iter().filter(|late| late.child.is_some());
        let most = if detaches { MOST_IN_ALL } else { MOST };
        if living().any(|late| late.namespace == namespace) {
            return Some("a process that entered its mount namespace hangs there and cannot be killed");
        }
        if living().count() >= most {
            return Some("too many processes that entered mount namespaces hang there");
        }
        let of_user = self.late.iter().filter(|late| late.user == user).count();
        (!detaches && of_user >= OF_A_USER)
            .then_some("mount namespaces of its user did not answer in time: the helper retries later")
    }

    /// Starts a child in the namespace and waits for what it says.
    pub(super) fn enter(
        &mut self,
        mounted: &Mounted,
        errand: Errand<'_>,
    ) -> io::Result<(Entered, Vec<OwnedFd>)> {
        self.reap();
        let detaches = matches!(errand, Errand::Detach(_));
        if let Some(why) = self.refusal(mounted.id, mounted.user, detaches) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
        }
        let (child, ours) = start(self.program, mounted, errand)?;
        self.attend(child, &ours, mounted)
    }

    /// Waits for an answer, and for the child's end.
    fn attend(
        &mut self,
        mut child: Child,
        ours: &OwnedFd,
        mounted: &Mounted,
    ) -> io::Result<(Entered, Vec<OwnedFd>)> {
        let said = hear(ours, Instant::now() + self.longest);
        if said.is_err() {
            let _ = child.kill();
        }
        let mut ended = ends(&mut child, ENDING);
        if !ended && said.is_ok() {
            let _ = child.kill();
            ended = ends(&mut child, ENDING);
        }
        let late = said.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
        if late || !ended {
            let child = (!ended).then_some(child);
            let (since, namespace, user) = (Instant::now(), mounted.id, mounted.user);
            self.late.push(Late { child, since, namespace, user });
        }
        said
    }

    #[cfg(test)]
    pub(super) fn of(program: &'static str) -> Self {
        Self { program, longest: Duration::from_millis(100), late: Vec::new() }
    }
}

/// Starts a child. The descriptor is what it answers to.
fn start(program: &str, mounted: &Mounted, errand: Errand<'_>) -> io::Result<(Child, OwnedFd)> {
    let (ours, theirs) = wire::pair()?;
    let mut command = Command::new(program);
    command.arg(enter::SUBCOMMAND);
    let Mounted { namespace, root, files, .. } = mounted;
    // Open across exec in the child alone: this process has one thread, and these are closed again before the next one.
    let mut fds = vec![
        ("--namespace", namespace),
        ("--root", root),
        ("--usage", &files.usage),
        ("--stat", &files.stat),
        ("--reply", &theirs),
    ];
    // One word: a path may begin as a flag does.
    let log = |path: &Path| {
        let mut argument = OsString::from("--log=");
        argument.push(path);
        argument
    };
    match errand {
        Errand::Attach { process, usage, stat, shared, log: path } => {
            fds.extend([("--process", process), ("--usage-mount", usage), ("--stat-mount", stat)]);
            command.arg("--shared").arg(shared).args(path.map(log));
        }
        Errand::Detach(kind) => {
            command.arg("--detach").arg(kind);
        }
        Errand::Look { process, log: path, total } => {
            fds.push(("--process", process));
            command.arg("--look").arg("--total").arg(total.0.to_string()).args(path.map(log));
        }
    }
    let mut inherited = Vec::new();
    for (flag, fd) in fds {
        let fd = rustix::io::dup(fd)?;
        command.arg(flag).arg(fd.as_raw_fd().to_string());
        inherited.push(fd);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear().current_dir("/");
    Ok((command.spawn()?, ours))
}

/// What a child says until then.
fn hear(ours: &OwnedFd, until: Instant) -> io::Result<(Entered, Vec<OwnedFd>)> {
    loop {
        match poll(&mut [PollFd::new(ours, PollFlags::IN)], Some(&left(until))) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(0) => {
                let why = "its mount namespace did not answer in time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Ok(_) => {
                let why = "the process that entered its mount namespace ended without an answer";
                return wire::receive(ours)?.ok_or_else(|| io::Error::other(why));
            }
        }
    }
}

/// Whether a child ends within this time. Its exit status is taken then.
fn ends(child: &mut Child, within: Duration) -> bool {
    let until = Instant::now() + within;
    // Not reaped yet, so that its number is its own.
    if let Ok(process) = Process::open_unchecked(Pid(child.id())) {
        let wait = || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left(until)));
        while wait() == Err(Errno::INTR) {}
    }
    !matches!(child.try_wait(), Ok(None))
}

/// How long it is until then.
fn left(until: Instant) -> Timespec {
    let left = until.saturating_duration_since(Instant::now());
    Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn late(child: Option<Child>, namespace: u64, user: u32) -> Late {
        Late { child, since: Instant::now(), namespace, user }
    }

    fn is_there(pid: u32) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    #[test]
    fn a_child_leaves_no_zombie_whether_it_ends_by_itself_or_is_killed() {
        let (mut children, mounted) = (Children::of("/bin/false"), Mounted::of_test(7, 1000));
        for child in [Command::new("true").spawn().unwrap(), sleeping()] {
            let (ours, theirs) = wire::pair().unwrap();
            let pid = child.id();
            let waits = children.late.is_empty() && children.attend(child, &ours, &mounted).is_err();
            assert!(waits && !is_there(pid), "{pid}");
            drop(theirs);
            children.late.clear();
        }
        let why = children.enter(&mounted, Errand::Detach("v1")).map(|_| ()).unwrap_err();
        assert!(why.to_string().contains("without an answer"), "{why}");
        assert!(!children.some_live() && children.late.is_empty());
    }

    #[test]
    fn a_namespace_with_a_child_that_hangs_is_left_alone_and_others_until_there_are_too_many() {
        let mut children = Children::of("/bin/false");
        children.late.push(late(Some(sleeping()), 1, 1000));
        let refused = |children: &Children, namespace, user, detaches| {
            children.refusal(namespace, user, detaches).is_some()
        };
        assert!(refused(&children, 1, 0, true) && refused(&children, 1, 0, false));
        assert!(!refused(&children, 2, 1000, false));
        let why = children.enter(&Mounted::of_test(1, 0), Errand::Detach("v1")).map(|_| ()).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::ResourceBusy);
        // Some that took too long, and ended: their user's are left alone for a while.
        children.late.extend((1..OF_A_USER).map(|_| late(None, 9, 1000)));
        assert!(refused(&children, 2, 1000, false) && !refused(&children, 2, 1001, false));
        assert!(!refused(&children, 2, 1000, true), "files are taken away all the same");
        children.late.extend((2..2 + MOST as u64 - 1).map(|id| late(Some(sleeping()), id, 7)));
        assert!(refused(&children, 99, 5, false) && !refused(&children, 99, 5, true));
        children.late.extend((50..50 + MOST_IN_ALL as u64).map(|id| late(Some(sleeping()), id, 7)));
        assert!(refused(&children, 99, 5, true));
        for child in children.late.iter_mut().filter_map(|late| late.child.as_mut()) {
            child.kill().unwrap();
            assert!(ends(child, Duration::from_secs(10)));
        }
        children.late.iter_mut().for_each(|late| late.since -= LEFT_ALONE);
        children.reap();
        assert!(children.late.is_empty());
    }
}
