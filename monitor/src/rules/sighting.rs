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
pub(crate) struct Known {
    pub(crate) pid: Pid,
    /// In clock ticks since boot.
    pub(crate) start: u64,
}

/// What a worker by rule is, as long as it is the same worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// This process with its descendants.
    Tree(Known),
    /// Everything in this cgroup. One that is made at the same path later, as for a container that is started again, is another.
    Cgroup(CgroupPath, CgroupId),
}

/// What does not change about a worker: with another rule it is another worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) rule: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) owner: Option<String>,
    pub(crate) priority: i32,
    pub(crate) memory: Option<Bytes>,
}

/// What may change about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) mode: Mode,
    pub(crate) name: String,
    pub(crate) idle: bool,
}

/// A worker that a rule makes.
#[derive(Debug)]
pub(crate) struct Sighting {
    pub(crate) key: Key,
    pub(crate) terms: Terms,
    pub(crate) shape: Shape,
    /// The process that matched; of a cgroup the first.
    pub(crate) root: Known,
    /// The user that it runs as.
    pub(crate) uid: u32,
    /// All its processes.
    pub(crate) members: Vec<Known>,
}

/// What a look was taken at.
#[derive(Debug)]
pub(crate) enum Scope {
    /// All processes.
    All,
    /// Some of them.
    Part(Part),
}

/// What a look at some processes found besides.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// Who was looked at, without those who only say what these are.
    pub(crate) asked: HashSet<Known>,
    /// The cgroups that were looked at whole.
    pub(crate) cgroups: HashSet<CgroupPath>,
    /// Who is part of a cgroup that is a worker already.
    pub(crate) joined: Vec<(Key, Known)>,
    /// Who is to be looked at once more.
    pub(crate) again: Vec<Ask>,
    /// It was at all that are new, whoever told of them.
    pub(crate) strangers: bool,
}

impl Part {
    /// Whether it says all of this worker, so that one that was not found is none any more.
    pub(crate) fn covers(&self, key: &Key) -> bool {
        match key {
            Key::Tree(root) => self.asked.contains(root),
            Key::Cgroup(path, _) => self.cgroups.contains(path),
        }
    }
}

/// A process that is nobody's, whatever it descends from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guarded {
    pub(crate) known: Known,
    /// Neither is what it is in, or what descends from it.
    pub(crate) spares: bool,
}

/// All that a look found.
#[derive(Debug)]
pub(crate) struct Sightings {
    pub(crate) workers: Vec<Sighting>,
    /// Processes that belong to no worker, whatever they descend from.
    pub(crate) protected: Vec<Guarded>,
    /// A cgroup is no worker only because of a process that is in it now.
    pub(crate) withheld: bool,
    /// What was looked at.
    pub(crate) scope: Scope,
    /// What cannot be a worker though a rule matched it, in words.
    pub(crate) refused: Vec<String>,
    /// Which rules they are of: there may be others by now.
    pub(crate) generation: u64,
    /// How long it kept a processor busy.
    pub(crate) took: Duration,
    /// For the next look.
    pub(crate) looker: Box<Looker>,
}
