//! A registered worker as the core knows it.

use super::event::{DomainId, KillId, Seen};
use super::view::{Sample, WorkerState, WorkerView};
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::{Activity, Candidate, WorkerId};

/// A process that belongs to a worker and is not gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: Pid,
    /// Its exit record was seen.
    dying: bool,
    /// Its memory was taken by `process_mrelease`. No proof of its death: a frozen process is released too.
    released: bool,
    /// The signal to it was refused: its death is not waited for.
    refused: bool,
}

impl Process {
    fn new(pid: Pid) -> Self {
        Self { pid, dying: false, released: false, refused: false }
    }

    /// No kill waits for it any more.
    fn settled(&self) -> bool {
        self.dying || self.refused
    }
}

/// Where it is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    BeingKilled(KillId),
    Stuck(KillId),
    /// A process of it could not be signalled: no candidate any more, otherwise as running.
    Refused,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) candidate: Candidate,
    pub(super) pid: Pid,
    pub(super) name: Option<String>,
    pub(super) attempt: u32,
    /// The last measurement of its memory.
    pub(super) sample: Option<Sample>,
    /// The domains it charges, innermost first.
    pub(super) domains: Vec<DomainId>,
    pub(super) life: Life,
    processes: Vec<Process>,
    /// wait(2) status of the registered process, once seen.
    pub(super) status: Option<u32>,
    /// When the last living process was seen dying.
    dead_at: Option<Nanos>,
}

impl Worker {
    pub(super) fn new(candidate: Candidate, pid: Pid, domains: Vec<DomainId>) -> Self {
        let first = Process::new(pid);
        Self {
            candidate,
            pid,
            name: None,
            attempt: 0,
            sample: None,
            domains,
            life: Life::Running,
            processes: vec![first],
            status: None,
            dead_at: None,
        }
    }

    pub(super) fn id(&self) -> WorkerId {
        self.candidate.id
    }

    /// A process belongs to it from now on. False: it did already.
    pub(super) fn add(&mut self, pid: Pid) -> bool {
        if self.processes.iter().any(|process| process.pid == pid) {
            return false;
        }
        self.processes.push(Process::new(pid));
        self.dead_at = None;
        true
    }

    /// A process of it ends. Unknown ones are ignored: they were gone before.
    pub(super) fn end(&mut self, pid: Pid, seen: Seen, status: Option<u32>, at: Nanos) {
        if pid == self.pid && self.status.is_none() {
            self.status = status;
        }
        match seen {
            Seen::Gone => self.processes.retain(|process| process.pid != pid),
            Seen::Exit | Seen::Released => {
                for process in self.processes.iter_mut().filter(|process| process.pid == pid) {
                    process.dying |= seen == Seen::Exit;
                    process.released |= seen == Seen::Released;
                }
            }
        }
        self.settle(at);
    }

    /// The signal to a process of it was refused.
    pub(super) fn refuse(&mut self, pid: Pid, at: Nanos) {
        for process in self.processes.iter_mut().filter(|process| process.pid == pid) {
            process.refused = true;
        }
        self.settle(at);
    }

    fn settle(&mut self, at: Nanos) {
        if self.dead_at.is_none() && self.processes.iter().all(Process::settled) {
            self.dead_at = Some(at);
        }
    }

    /// Whether a process that is left could not be signalled.
    pub(super) fn refused(&self) -> bool {
        self.processes.iter().any(|process| process.refused && !process.dying)
    }

    /// When the last of its processes was seen dying; none while one lives that could be signalled.
    pub(super) fn dead_at(&self) -> Option<Nanos> {
        self.dead_at
    }

    /// Whether all that it held is given back.
    pub(super) fn memory_is_back(&self) -> bool {
        self.dead_at.is_some() && self.processes.iter().all(|process| process.released || process.refused)
    }

    /// Whether none of its processes is left.
    pub(super) fn gone(&self) -> bool {
        self.processes.is_empty()
    }

    /// Its processes that are not gone.
    pub(super) fn pids(&self) -> Vec<Pid> {
        self.processes.iter().map(|process| process.pid).collect()
    }

    pub(super) fn memory(&self) -> Option<Bytes> {
        self.candidate.memory
    }

    pub(super) fn view(&self, domain_name: impl Fn(DomainId) -> String) -> WorkerView {
        WorkerView {
            id: self.id(),
            kind: self.candidate.kind.name().to_owned(),
            owner: self.candidate.owner.as_deref().map(str::to_owned),
            name: self.name.clone(),
            pid: self.pid,
            processes: self.pids(),
            uid: self.candidate.uid,
            attempt: self.attempt,
            state: match self.life {
                Life::Running => match self.candidate.activity {
                    Activity::Busy => WorkerState::Running,
                    Activity::Idle { .. } => WorkerState::Idle,
                },
                Life::BeingKilled(_) => WorkerState::BeingKilled,
                Life::Stuck(_) => WorkerState::Stuck,
                Life::Refused => WorkerState::Refused,
            },
            ever_leased: self.candidate.activity != Activity::Idle { ever_leased: false },
            retriable: self.candidate.kind.retriable(),
            started: self.candidate.started,
            memory: self.candidate.memory,
            sample: self.sample,
            domains: self.domains.iter().map(|domain| domain_name(*domain)).collect(),
        }
    }
}
