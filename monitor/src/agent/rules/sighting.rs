//! What one look at all processes, or at some, found for the loop: owned data, made on another thread.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::memory::{CgroupId, CgroupPath};
use crate::rules::Mode;
use crate::rules::facts::looker::{Ask, Looker};
use crate::units::{Bytes, Pid};
use crate::worker::Kind;

/// A process, whatever becomes of its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::agent) struct Known {
    pub(in crate::agent) pid: Pid,
    /// In clock ticks since boot.
    pub(in crate::agent) start: u64,
}

/// What a worker by rule is, as long as it is the same worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::agent) enum Key {
    /// This process with its descendants.
    Tree(Known),
    /// Everything in this cgroup. One that is made at the same path later, as for a container that is started again, is another.
    Cgroup(CgroupPath, CgroupId),
}

/// What does not change about a worker: with another rule it is another worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::agent) struct Terms {
    pub(in crate::agent) rule: Arc<str>,
    pub(in crate::agent) kind: Kind,
    pub(in crate::agent) owner: Option<String>,
    pub(in crate::agent) priority: i32,
    pub(in crate::agent) memory: Option<Bytes>,
}

/// What may change about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::agent) struct Shape {
    pub(in crate::agent) mode: Mode,
    pub(in crate::agent) name: String,
    pub(in crate::agent) idle: bool,
}

/// A worker that a rule makes.
#[derive(Debug)]
pub(in crate::agent) struct Sighting {
    pub(in crate::agent) key: Key,
    pub(in crate::agent) terms: Terms,
    pub(in crate::agent) shape: Shape,
    /// The process that matched; of a cgroup the first.
    pub(in crate::agent) root: Known,
    /// The user that it runs as.
    pub(in crate::agent) uid: u32,
    /// All its processes.
    pub(in crate::agent) members: Vec<Known>,
}

/// What a look was taken at.
#[derive(Debug)]
pub(in crate::agent) enum Scope {
    /// All processes.
    All,
    /// Some of them.
    Part(Part),
}

/// What a look at some processes found besides.
#[derive(Debug, Default)]
pub(in crate::agent) struct Part {
    /// Who was looked at, without those who only say what these are.
    pub(in crate::agent) asked: HashSet<Known>,
    /// The cgroups that were looked at whole.
    pub(in crate::agent) cgroups: HashSet<CgroupPath>,
    /// Who is part of a cgroup that is a worker already.
    pub(in crate::agent) joined: Vec<(Key, Known)>,
    /// Who is to be looked at once more.
    pub(in crate::agent) again: Vec<Ask>,
    /// It was at all that are new, whoever told of them.
    pub(in crate::agent) strangers: bool,
}

impl Part {
    /// Whether it says all of this worker, so that one that was not found is none any more.
    pub(in crate::agent) fn covers(&self, key: &Key) -> bool {
        match key {
            Key::Tree(root) => self.asked.contains(root),
            Key::Cgroup(path, _) => self.cgroups.contains(path),
        }
    }
}

/// A process that is nobody's, whatever it descends from.
#[derive(Debug, Clone, Copy)]
pub(in crate::agent) struct Guarded {
    pub(in crate::agent) known: Known,
    /// Neither is what it is in, or what descends from it.
    pub(in crate::agent) spares: bool,
}

/// All that a look found.
#[derive(Debug)]
pub(in crate::agent) struct Sightings {
    pub(in crate::agent) workers: Vec<Sighting>,
    /// Processes that belong to no worker, whatever they descend from.
    pub(in crate::agent) protected: Vec<Guarded>,
    /// A cgroup is no worker only because of a process that is in it now.
    pub(in crate::agent) withheld: bool,
    /// What was looked at.
    pub(in crate::agent) scope: Scope,
    /// What cannot be a worker though a rule matched it, in words.
    pub(in crate::agent) refused: Vec<String>,
    /// Which rules they are of: there may be others by now.
    pub(in crate::agent) generation: u64,
    /// How long it kept a processor busy.
    pub(in crate::agent) took: Duration,
    /// For the next look.
    pub(in crate::agent) looker: Box<Looker>,
}
