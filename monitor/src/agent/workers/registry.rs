//! The workers' processes: their pidfds, from registration to the end. Descriptors are bounded, in all
//! and for each user: of processes beyond that the pid is kept with what proves that it is still theirs (`unheld`).

mod room;
mod signals;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(in crate::agent) use self::room::ProcessesView;
use self::room::{Room, Taken};
pub(in crate::agent) use self::signals::Killed;
use crate::control::request::Peer;
use crate::kill::{OwnCgroup, OwnFreezer, Process};
use crate::memory::CgroupPath;
use crate::units::Pid;
use crate::worker::WorkerId;

/// A process of a worker.
pub(in crate::agent) struct Member {
    pub(in crate::agent) process: Process,
    /// Somebody waits for its pidfd; otherwise only the kernel's exit record tells of its end.
    pub(in crate::agent) watched: bool,
}

/// What proves that a pid still means the process it meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) enum Proof {
    /// The kernel's map names its worker: the exit hook takes it off before the pid can be used again.
    Map,
    /// It started then, in clock ticks since boot.
    Started(u64),
}

/// A worker's processes, and who registered it.
pub(in crate::agent) struct Entry {
    pub(in crate::agent) members: Vec<Member>,
    /// Those for which no descriptor is kept.
    pub(in crate::agent) unheld: BTreeMap<Pid, Proof>,
    pub(in crate::agent) peer: Peer,
    /// Of whom it is: the process's user, who may see and change it.
    pub(in crate::agent) uid: u32,
    /// The peer's connection is open.
    connected: bool,
    /// The process that was registered.
    pub(in crate::agent) root: Pid,
    /// The cgroup that it charges, when it was last looked at (`upkeep`); none: there is no memory hierarchy.
    pub(in crate::agent) cgroup: Option<CgroupPath>,
    /// It was said that there is no descriptor for some of its processes.
    pub(in crate::agent) said_full: bool,
    /// The v2 cgroup that it had to itself when it was registered.
    pub(in crate::agent) own: Option<OwnCgroup>,
    /// The v1 freezer cgroup that it had to itself then.
    pub(in crate::agent) freezer: Option<Arc<OwnFreezer>>,
}

/// See the module.
#[derive(Default)]
pub(in crate::agent) struct Registry {
    workers: HashMap<WorkerId, Entry>,
    by_pid: HashMap<Pid, WorkerId>,
    room: Room,
}

/// A worker's processes when it is forgotten.
pub(in crate::agent) struct Former {
    pub(in crate::agent) held: Vec<Process>,
    pub(in crate::agent) unheld: Vec<Pid>,
}

impl Entry {
    /// All its processes.
    pub(in crate::agent) fn pids(&self) -> Vec<Pid> {
        let held = self.members.iter().map(|member| member.process.pid());
        held.chain(self.unheld.keys().copied()).collect()
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

    /// Whether one more worker of a user has room.
    ///
    /// # Errors
    /// Why not, for the user.
    pub(in crate::agent) fn room_for_worker(&self, uid: u32) -> Result<(), String> {
        self.room.for_worker(uid)
    }

    /// Whether a descriptor of one more process of a worker may be kept.
    pub(in crate::agent) fn room_for_member(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|entry| self.room.for_member(entry.uid))
    }

    /// See [`Room::crowds`].
    pub(in crate::agent) fn crowds(&mut self, uid: u32) -> bool {
        self.room.crowds(uid)
    }

    /// Whether this user's forks are not followed.
    pub(in crate::agent) fn is_crowd(&self, uid: u32) -> bool {
        self.room.is_crowd(uid)
    }

    /// See [`Room::thinned`].
    pub(in crate::agent) fn thinned(&mut self) -> Vec<u32> {
        self.room.thinned()
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
        peer: Peer,
        uid: u32,
        cgroup: Option<CgroupPath>,
    ) {
        self.by_pid.insert(root.pid(), worker);
        self.room.take(uid, Taken { workers: 1, held: 1, unheld: 0 });
        let entry = Entry {
            root: root.pid(),
            members: vec![Member { process: root, watched: false }],
            unheld: BTreeMap::new(),
            peer,
            uid,
            cgroup,
            said_full: false,
            own: None,
            freezer: None,
            connected: true,
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
        entry.members.push(Member { process, watched: false });
        self.by_pid.insert(pid, worker);
        self.room.take(uid, Taken { held: 1, ..Taken::default() });
        true
    }

    /// The same for one whose descriptor is not kept.
    pub(in crate::agent) fn add_unheld(&mut self, worker: WorkerId, pid: Pid, proof: Proof) -> bool {
        if self.worker_of(pid) == Some(worker) {
            return false;
        }
        let Some(entry) = self.workers.get_mut(&worker) else { return false };
        let new = entry.unheld.insert(pid, proof).is_none();
        let uid = entry.uid;
        self.by_pid.insert(pid, worker);
        self.room.take(uid, Taken { unheld: usize::from(new), ..Taken::default() });
        true
    }

    pub(in crate::agent) fn get(&self, worker: WorkerId) -> Option<&Entry> {
        self.workers.get(&worker)
    }

    pub(in crate::agent) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Entry> {
        self.workers.get_mut(&worker)
    }

    pub(in crate::agent) fn worker_of(&self, pid: Pid) -> Option<WorkerId> {
        self.by_pid.get(&pid).copied()
    }

    pub(in crate::agent) fn len(&self) -> usize {
        self.workers.len()
    }

    pub(in crate::agent) fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    /// A process is gone.
    pub(in crate::agent) fn remove_member(&mut self, worker: WorkerId, pid: Pid) {
        if self.by_pid.get(&pid) == Some(&worker) {
            self.by_pid.remove(&pid);
        }
        let Some(entry) = self.workers.get_mut(&worker) else { return };
        let unheld = usize::from(entry.unheld.remove(&pid).is_some());
        let (before, uid) = (entry.members.len(), entry.uid);
        entry.members.retain(|member| member.process.pid() != pid);
        let held = before - entry.members.len();
        self.room.give_back(uid, Taken { workers: 0, held, unheld });
    }

    /// A worker is forgotten; its processes, for the kernel's map.
    pub(in crate::agent) fn remove(&mut self, worker: WorkerId) -> Former {
        let Some(entry) = self.workers.remove(&worker) else {
            return Former { held: Vec::new(), unheld: Vec::new() };
        };
        let taken = Taken { workers: 1, held: entry.members.len(), unheld: entry.unheld.len() };
        self.room.give_back(entry.uid, taken);
        for pid in entry.pids() {
            if self.by_pid.get(&pid) == Some(&worker) {
                self.by_pid.remove(&pid);
            }
        }
        Former {
            held: entry.members.into_iter().map(|member| member.process).collect(),
            unheld: entry.unheld.into_keys().collect(),
        }
    }

    /// A connection is closed: nobody is told of its workers' verdicts any more. They stay registered, and may be
    /// taken over by another connection.
    pub(in crate::agent) fn disconnected(&mut self, connection: u64) {
        for entry in self.workers.values_mut().filter(|entry| entry.peer.connection == connection) {
            entry.connected = false;
        }
    }

    /// The launcher of a worker came back on a new connection; that the process is theirs now was looked at. Root may
    /// take over any worker, others one that was theirs at its registration too: since then its process may have
    /// become another user's, and whoever takes it over sees it, changes it and is told of its end.
    ///
    /// # Errors
    /// Why not.
    pub(in crate::agent) fn take_over(&mut self, worker: WorkerId, peer: Peer) -> Result<(), NotTaken> {
        let entry = self.workers.get_mut(&worker).ok_or(NotTaken::Connected)?;
        if peer.uid != 0 && peer.uid != entry.uid {
            return Err(NotTaken::Anothers);
        }
        if entry.connected {
            return Err(NotTaken::Connected);
        }
        (entry.peer, entry.connected) = (peer, true);
        Ok(())
    }

    /// Whom to tell about a worker.
    pub(in crate::agent) fn whose(&self, worker: WorkerId) -> Option<&Peer> {
        self.workers.get(&worker).map(|entry| &entry.peer)
    }
}
