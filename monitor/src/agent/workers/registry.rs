//! The workers' processes: their pidfds, from registration to the end. Descriptors are bounded, in all
//! and for each user: of processes beyond that the pid is kept with what proves that it is still theirs (`without_pidfd`).

mod room;
mod signals;

use std::collections::{BTreeMap, HashMap};

use tokio_util::task::AbortOnDropHandle;

use self::room::{Room, Taken};
pub(in crate::agent) use self::signals::Killed;
use crate::control::answers::ProcessesView;
use crate::control::request::Peer;
use crate::kill::Process;
use crate::units::Pid;
use crate::worker::WorkerId;

/// A process of a worker.
pub(in crate::agent) struct Member {
    pub(in crate::agent) process: Process,
    /// Waits for its pidfd, which it keeps open, and ends with this entry. `None`: only the kernel's exit record tells of its end.
    pub(in crate::agent) watch: Option<AbortOnDropHandle<()>>,
}

/// What proves that a pid still means the process it meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) enum Proof {
    /// The kernel's map names its worker: the exit hook takes it off before the pid can be used again.
    Map,
    /// It started then, in clock ticks since boot.
    Started(u64),
}

/// A worker's processes, and the user that registered it.
pub(in crate::agent) struct WorkerProcesses {
    pub(in crate::agent) members: Vec<Member>,
    /// Those for which no descriptor is kept.
    pub(in crate::agent) without_pidfd: BTreeMap<Pid, Proof>,
    /// The process's user, who may see and change it.
    pub(in crate::agent) uid: u32,
    /// The user with whose rights it is signaled.
    pub(in crate::agent) registered_by: u32,
    /// The connection that wants its verdict, if any did.
    told: Option<Told>,
    /// The process that was registered.
    pub(in crate::agent) root: Pid,
    /// A rule made it; `None`: it was registered.
    pub(in crate::agent) by_rule: Option<ByRule>,
    /// It was said that there is no descriptor for some of its processes.
    pub(in crate::agent) said_full: bool,
}

/// Of a worker that a rule made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) struct ByRule {
    /// The kernel side follows it: not if it is only observed.
    pub(in crate::agent) followed: bool,
}

/// The connection that is told of a worker's verdict.
struct Told {
    peer: Peer,
    /// Its connection is open.
    connected: bool,
}

/// See the module.
#[derive(Default)]
pub(in crate::agent) struct Registry {
    workers: BTreeMap<WorkerId, WorkerProcesses>,
    by_pid: HashMap<Pid, WorkerId>,
    room: Room,
}

/// A worker's processes when it is forgotten.
#[derive(Default)]
pub(in crate::agent) struct Left {
    pub(in crate::agent) with_pidfd: Vec<Process>,
    pub(in crate::agent) without_pidfd: Vec<Pid>,
}

impl WorkerProcesses {
    /// Whether the kernel side is to know its processes.
    pub(in crate::agent) fn followed(&self) -> bool {
        self.by_rule.is_none_or(|by_rule| by_rule.followed)
    }

    /// None of its processes is left.
    pub(in crate::agent) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.without_pidfd.is_empty()
    }

    /// What it takes of the room.
    fn taken(&self) -> Taken {
        Taken { workers: 1, with_pidfd: self.members.len(), without_pidfd: self.without_pidfd.len() }
    }

    /// All its processes.
    pub(in crate::agent) fn pids(&self) -> Vec<Pid> {
        let with_pidfd = self.members.iter().map(|member| member.process.pid());
        with_pidfd.chain(self.without_pidfd.keys().copied()).collect()
    }
}

/// Why a worker cannot be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) enum NotTaken {
    /// The connection that it was registered on is open.
    Connected,
    /// It was registered as another user's.
    Anothers,
}

impl Registry {
    /// With room for so many descriptors.
    pub(in crate::agent) fn new(most: usize) -> Self {
        Self { room: Room::new(most), ..Self::default() }
    }

    /// The same where the kernel side can follow so many processes.
    #[cfg(test)]
    pub(in crate::agent) fn following(most: usize, followed: usize) -> Self {
        Self { room: Room::following(most, followed), ..Self::default() }
    }

    /// Whether one more worker of a user has room, when `instead_of` is none any more.
    ///
    /// # Errors
    /// Why not, for the user.
    pub(in crate::agent) fn room_for_worker(
        &self,
        uid: u32,
        instead_of: Option<WorkerId>,
    ) -> Result<(), String> {
        let entry = instead_of.and_then(|worker| self.get(worker));
        self.room.for_worker(uid, entry.map(|entry| (entry.uid, entry.taken())))
    }

    /// Whether a descriptor of one more process of a worker may be kept.
    pub(in crate::agent) fn room_for_member(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|entry| self.room.for_member(entry.uid))
    }

    /// See [`Room::reaches_fork_limit`].
    pub(in crate::agent) fn reaches_fork_limit(&mut self, uid: u32) -> bool {
        self.room.reaches_fork_limit(uid)
    }

    /// Whether this user's forks are not followed.
    pub(in crate::agent) fn is_fork_limited(&self, uid: u32) -> bool {
        self.room.is_fork_limited(uid)
    }

    /// See [`Room::below_fork_limit_again`].
    pub(in crate::agent) fn below_fork_limit_again(&mut self) -> Vec<u32> {
        self.room.below_fork_limit_again()
    }

    pub(in crate::agent) fn workers_of(&self, uid: u32) -> Vec<WorkerId> {
        let theirs = self.workers.iter().filter(|(_, entry)| entry.uid == uid);
        theirs.map(|(worker, _)| *worker).collect()
    }

    pub(in crate::agent) fn view(&self) -> ProcessesView {
        self.room.view()
    }

    pub(in crate::agent) fn add(
        &mut self,
        worker: WorkerId,
        root: Process,
        uid: u32,
        registered_by: u32,
        told: Option<Peer>,
    ) {
        self.by_pid.insert(root.pid(), worker);
        self.room.take(uid, Taken { workers: 1, with_pidfd: 1, without_pidfd: 0 });
        let entry = WorkerProcesses {
            root: root.pid(),
            members: vec![Member { process: root, watch: None }],
            without_pidfd: BTreeMap::new(),
            uid,
            registered_by,
            told: told.map(|peer| Told { peer, connected: true }),
            by_rule: None,
            said_full: false,
        };
        self.workers.insert(worker, entry);
    }

    /// Adds a process to a worker. False: no such worker, or the process is known.
    pub(in crate::agent) fn add_member(&mut self, worker: WorkerId, process: Process) -> bool {
        let pid = process.pid();
        if self.worker_of(pid) == Some(worker) {
            return false;
        }
        let Some(entry) = self.workers.get_mut(&worker) else { return false };
        let uid = entry.uid;
        entry.members.push(Member { process, watch: None });
        self.by_pid.insert(pid, worker);
        self.room.take(uid, Taken { with_pidfd: 1, ..Taken::default() });
        true
    }

    /// The same for a process without a kept descriptor.
    pub(in crate::agent) fn add_without_pidfd(&mut self, worker: WorkerId, pid: Pid, proof: Proof) -> bool {
        if self.worker_of(pid) == Some(worker) {
            return false;
        }
        let Some(entry) = self.workers.get_mut(&worker) else { return false };
        let new = entry.without_pidfd.insert(pid, proof).is_none();
        let uid = entry.uid;
        self.by_pid.insert(pid, worker);
        self.room.take(uid, Taken { without_pidfd: usize::from(new), ..Taken::default() });
        true
    }

    /// All of them.
    pub(in crate::agent) fn iter(&self) -> impl Iterator<Item = (WorkerId, &WorkerProcesses)> {
        self.workers.iter().map(|(worker, entry)| (*worker, entry))
    }

    /// One of them.
    pub(in crate::agent) fn get(&self, worker: WorkerId) -> Option<&WorkerProcesses> {
        self.workers.get(&worker)
    }

    pub(in crate::agent) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut WorkerProcesses> {
        self.workers.get_mut(&worker)
    }

    pub(in crate::agent) fn worker_of(&self, pid: Pid) -> Option<WorkerId> {
        self.by_pid.get(&pid).copied()
    }

    pub(in crate::agent) fn len(&self) -> usize {
        self.workers.len()
    }

    /// In order.
    pub(in crate::agent) fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    /// All, from this one on, and it again at the end if it is there.
    pub(in crate::agent) fn round_from(
        &self,
        worker: WorkerId,
    ) -> impl Iterator<Item = (WorkerId, &WorkerProcesses)> {
        self.workers.range(worker..).chain(self.workers.range(..=worker)).map(|(id, entry)| (*id, entry))
    }

    /// A process is gone.
    pub(in crate::agent) fn remove_member(&mut self, worker: WorkerId, pid: Pid) {
        if self.by_pid.get(&pid) == Some(&worker) {
            self.by_pid.remove(&pid);
        }
        let Some(entry) = self.workers.get_mut(&worker) else { return };
        let without_pidfd = usize::from(entry.without_pidfd.remove(&pid).is_some());
        let (before, uid) = (entry.members.len(), entry.uid);
        entry.members.retain(|member| member.process.pid() != pid);
        let with_pidfd = before - entry.members.len();
        self.room.give_back(uid, Taken { workers: 0, with_pidfd, without_pidfd });
    }

    /// A worker is forgotten; its processes, for the kernel's map.
    pub(in crate::agent) fn remove(&mut self, worker: WorkerId) -> Left {
        let Some(entry) = self.workers.remove(&worker) else {
            return Left::default();
        };
        self.room.give_back(entry.uid, entry.taken());
        for pid in entry.pids() {
            if self.by_pid.get(&pid) == Some(&worker) {
                self.by_pid.remove(&pid);
            }
        }
        Left {
            with_pidfd: entry.members.into_iter().map(|member| member.process).collect(),
            without_pidfd: entry.without_pidfd.into_keys().collect(),
        }
    }

    /// A connection is closed: it is no longer told of its workers' verdicts. They stay registered, and may be
    /// taken over by another connection.
    pub(in crate::agent) fn disconnected(&mut self, connection: u64) {
        for told in self.workers.values_mut().filter_map(|entry| entry.told.as_mut()) {
            told.connected &= told.peer.connection != connection;
        }
    }

    /// The launcher of a worker came back on a new connection; that the process is theirs now was looked at. Root may
    /// take over any worker, others one that was theirs at its registration too: since then its process may have
    /// become another user's, and whoever takes it over sees it, changes it and is told of its end. What root registered
    /// is root's.
    ///
    /// # Errors
    /// Why not.
    pub(in crate::agent) fn take_over(&mut self, worker: WorkerId, peer: Peer) -> Result<(), NotTaken> {
        let entry = self.workers.get_mut(&worker).ok_or(NotTaken::Connected)?;
        if peer.uid != 0 && (peer.uid != entry.uid || entry.registered_by == 0) {
            return Err(NotTaken::Anothers);
        }
        if entry.told.as_ref().is_some_and(|told| told.connected) {
            return Err(NotTaken::Connected);
        }
        entry.registered_by = peer.uid;
        entry.told = Some(Told { peer, connected: true });
        Ok(())
    }

    /// The connection to tell about a worker; `None`: none asked to be told.
    pub(in crate::agent) fn told(&self, worker: WorkerId) -> Option<&Peer> {
        self.workers.get(&worker)?.told.as_ref().map(|told| &told.peer)
    }
}
