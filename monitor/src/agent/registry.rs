//! The workers' processes: their pidfds, from registration to the end. Kills by them.

use std::collections::HashMap;
use std::path::Path;

use rustix::process::Signal;

use crate::control::request::Peer;
use crate::kill::{Process, SignalError};
use crate::memory::CgroupPath;
use crate::units::Pid;
use crate::worker::WorkerId;

/// A process of a worker.
pub(super) struct Member {
    pub(super) process: Process,
    /// Somebody waits for its pidfd; otherwise only the kernel's exit record tells of its end.
    pub(super) watched: bool,
}

/// A worker's processes, and who registered it.
pub(super) struct Entry {
    pub(super) members: Vec<Member>,
    /// Children of it that could not be opened (no descriptors, no memory).
    unopened: Vec<Pid>,
    pub(super) peer: Peer,
    /// The peer's connection is open.
    connected: bool,
    /// The process that was registered.
    pub(super) root: Pid,
    /// Where it was when it was last looked at (`upkeep`).
    pub(super) cgroup: Option<CgroupPath>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Registry {
    workers: HashMap<WorkerId, Entry>,
    by_pid: HashMap<Pid, WorkerId>,
}

/// What became of an order to kill a worker.
pub(super) struct Killed {
    /// How many processes were signalled.
    pub(super) signalled: usize,
    /// Which could not be, and why.
    pub(super) refused: Vec<(Pid, SignalError)>,
}

impl Registry {
    pub(super) fn add(&mut self, worker: WorkerId, root: Process, peer: Peer) {
        self.by_pid.insert(root.pid(), worker);
        let entry = Entry {
            root: root.pid(),
            members: vec![Member { process: root, watched: false }],
            unopened: Vec::new(),
            peer,
            cgroup: None,
            connected: true,
        };
        self.workers.insert(worker, entry);
    }

    /// Adds a process to a worker. False: no such worker, or the process is known.
    pub(super) fn add_member(&mut self, worker: WorkerId, process: Process) -> bool {
        let Some(entry) = self.workers.get_mut(&worker) else { return false };
        let pid = process.pid();
        if entry.members.iter().any(|member| member.process.pid() == pid) {
            return false;
        }
        self.by_pid.insert(pid, worker);
        entry.members.push(Member { process, watched: false });
        true
    }

    /// A child of a worker could not be opened. False: no such worker, or that is known.
    pub(super) fn note_unopened(&mut self, worker: WorkerId, pid: Pid) -> bool {
        let Some(entry) = self.workers.get_mut(&worker) else { return false };
        let new = !entry.unopened.contains(&pid);
        if new {
            entry.unopened.push(pid);
        }
        new
    }

    /// It could be, or is gone.
    pub(super) fn forget_unopened(&mut self, worker: WorkerId, pid: Pid) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.unopened.retain(|unopened| *unopened != pid);
        }
    }

    /// Those that could not be opened up to now.
    pub(super) fn unopened(&self, worker: WorkerId) -> Vec<Pid> {
        self.workers.get(&worker).map(|entry| entry.unopened.clone()).unwrap_or_default()
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Entry> {
        self.workers.get(&worker)
    }

    pub(super) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Entry> {
        self.workers.get_mut(&worker)
    }

    pub(super) fn worker_of(&self, pid: Pid) -> Option<WorkerId> {
        self.by_pid.get(&pid).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    /// A process is gone.
    pub(super) fn remove_member(&mut self, worker: WorkerId, pid: Pid) {
        if self.by_pid.get(&pid) == Some(&worker) {
            self.by_pid.remove(&pid);
        }
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.members.retain(|member| member.process.pid() != pid);
        }
    }

    /// A worker is forgotten; its processes, for the kernel's map.
    pub(super) fn remove(&mut self, worker: WorkerId) -> Vec<Process> {
        let Some(entry) = self.workers.remove(&worker) else { return Vec::new() };
        for member in &entry.members {
            let pid = member.process.pid();
            if self.by_pid.get(&pid) == Some(&worker) {
                self.by_pid.remove(&pid);
            }
        }
        entry.members.into_iter().map(|member| member.process).collect()
    }

    /// A connection is closed: nobody is told of its workers' verdicts any more. They stay registered, and may be
    /// taken over by another connection.
    pub(super) fn disconnected(&mut self, connection: u64) {
        for entry in self.workers.values_mut().filter(|entry| entry.peer.connection == connection) {
            entry.connected = false;
        }
    }

    /// The launcher of a worker came back on a new connection. False: the old one is open still.
    pub(super) fn take_over(&mut self, worker: WorkerId, peer: Peer) -> bool {
        let Some(entry) = self.workers.get_mut(&worker).filter(|entry| !entry.connected) else {
            return false;
        };
        (entry.peer, entry.connected) = (peer, true);
        true
    }

    /// Whom to tell about a worker.
    pub(super) fn whose(&self, worker: WorkerId) -> Option<&Peer> {
        self.workers.get(&worker).map(|entry| &entry.peer)
    }

    /// Sends a signal to every process of a worker that whoever registered it may kill. Nothing is allocated, opened
    /// or looked up by path unless one is refused (or the kernel is older than 6.13: see [`Process::killable_by`]).
    pub(super) fn signal(&self, worker: WorkerId, signal: Signal, procfs: &Path) -> Killed {
        self.signal_some(worker, signal, procfs, |_| true)
    }

    /// The same for one process.
    pub(super) fn signal_one(&self, worker: WorkerId, pid: Pid, signal: Signal, procfs: &Path) -> Killed {
        self.signal_some(worker, signal, procfs, |member| member.process.pid() == pid)
    }

    fn signal_some(
        &self,
        worker: WorkerId,
        signal: Signal,
        procfs: &Path,
        whom: impl Fn(&Member) -> bool,
    ) -> Killed {
        let mut killed = Killed { signalled: 0, refused: Vec::new() };
        let Some(entry) = self.workers.get(&worker) else { return killed };
        for member in entry.members.iter().filter(|member| whom(member)) {
            let process = &member.process;
            // Root may kill everybody. Others' right is looked at when it is used: a program may have changed its
            // user since it was registered.
            let allowed =
                if entry.peer.uid == 0 { Ok(()) } else { process.killable_by(entry.peer.uid, procfs) };
            match allowed.and_then(|()| process.signal(signal)) {
                Ok(()) => killed.signalled += 1,
                Err(SignalError::Gone) => {}
                Err(error) => killed.refused.push((process.pid(), error)),
            }
        }
        killed
    }
}
