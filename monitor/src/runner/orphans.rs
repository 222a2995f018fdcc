//! Reaps the processes that the kernel hands to the runner when their parents end: as pid 1 of a container, or as a
//! subreaper. Touches no child of the runner's own.

use std::io;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;

use crate::units::Pid;

/// See the module.
pub(super) struct Orphans {
    /// The kernel hands us orphans.
    ours: bool,
    /// Some child ended. Listened to in any case: if our parent ignores SIGCHLD, the kernel would reap the
    /// command itself, and its end would be lost.
    ended: Mutex<Signal>,
}

impl Orphans {
    /// Needs a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let subreaper = nix::sys::prctl::get_child_subreaper().unwrap_or(false);
        let ended = Mutex::new(signal(SignalKind::child())?);
        Ok(Self { ours: std::process::id() == 1 || subreaper, ended })
    }

    /// Waits until a child ended that may be an orphan. Can be canceled.
    pub(super) async fn some_child_ended(&self) {
        if !self.ours || self.ended.lock().await.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// Reaps those that ended. One of the runner's `own` that ended is left to its owner; those that ended after it
    /// are reaped when it is: at the next call.
    pub(super) fn reap(&self, own: &[Option<Pid>]) {
        // Not those of the threads of an agent in this process: they wait for theirs themselves.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD;
        if !self.ours {
            return;
        }
        loop {
            let Ok(Some(pid)) = waitid(Id::All, look | WaitPidFlag::WNOWAIT).map(|status| status.pid())
            else {
                return;
            };
            let is_own = own.iter().flatten().any(|own| i64::from(own.0) == i64::from(pid.as_raw()));
            if is_own || waitid(Id::Pid(pid), look).is_err() {
                return;
            }
        }
    }
}
