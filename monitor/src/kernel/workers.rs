//! The map from process to worker that the programs share with the agent, and with the releaser that outlives it:
//! which process belongs to which worker, and which are paused. Only stores and looks up; sends no signals.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::maps::{HashMap, IterableMap as _, Map, MapData, MapError};
use monitor_common::{ON_ITS_WAY, WorkerEntry, holds};

use super::unfollowed::UnfollowedMap;
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// Only if there is no such key (`BPF_NOEXIST`, include/uapi/linux/bpf.h).
const NO_EXIST: u64 = 1;

/// `WorkerEntry` for aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct MapEntry(WorkerEntry);

// SAFETY: two u64, no padding, every bit pattern is a value.
unsafe impl aya::Pod for MapEntry {}

/// See the module.
pub struct WorkerMap {
    /// `WORKERS` of the object. What stands in an entry when it was stopped is the programs' alone.
    entries: HashMap<MapData, u32, MapEntry>,
    /// `LET_GO` of the object: written on this side alone.
    let_go: HashMap<MapData, u32, u64>,
    /// The agent's alone: the releaser has no use for it.
    unfollowed: Option<UnfollowedMap>,
}

/// The descriptors of the two maps, to be inherited.
#[derive(Debug)]
pub struct WorkerFds<T> {
    /// Of `WORKERS`.
    pub entries: T,
    /// Of `LET_GO`.
    pub let_go: T,
}

/// A process that the brake stopped, as the map has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoppedEntry {
    /// Whose.
    pub worker: WorkerId,
    /// The process.
    pub pid: Pid,
    /// When.
    pub since: Nanos,
}

impl WorkerMap {
    /// The maps `WORKERS` and `LET_GO` of the object.
    ///
    /// # Errors
    /// If one has another form.
    pub fn new(entries: Map, let_go: Map) -> Result<Self, MapError> {
        Ok(Self { entries: entries.try_into()?, let_go: let_go.try_into()?, unfollowed: None })
    }

    /// With the map of workers with forks that are not followed.
    #[must_use]
    pub fn with_unfollowed(self, unfollowed: UnfollowedMap) -> Self {
        Self { unfollowed: Some(unfollowed), ..self }
    }

    /// From now on a worker's processes' children are not entered, and no record tells of them.
    ///
    /// # Errors
    /// If the map is full or the kernel refuses.
    pub fn stop_following(&mut self, worker: WorkerId) -> Result<(), MapError> {
        self.unfollowed.as_mut().map_or(Ok(()), |map| map.stop_following(worker))
    }

    /// They are again.
    pub fn follow_again(&mut self, worker: WorkerId) {
        if let Some(map) = &mut self.unfollowed {
            map.follow_again(worker);
        }
    }

    /// The same maps in another process, which inherited their descriptors.
    ///
    /// # Errors
    /// If the descriptors are no such maps, or the kernel refuses.
    pub fn inherit(fds: WorkerFds<OwnedFd>) -> Result<Self, MapError> {
        let map = |fd| MapData::from_fd(fd).map(Map::HashMap);
        Self::new(map(fds.entries)?, map(fds.let_go)?)
    }

    /// Their descriptors, to be inherited.
    ///
    /// # Errors
    /// If they can't be duplicated.
    pub fn fds(&self) -> std::io::Result<WorkerFds<OwnedFd>> {
        let copy = |map: &MapData| map.fd().as_fd().try_clone_to_owned();
        Ok(WorkerFds { entries: copy(self.entries.map())?, let_go: copy(self.let_go.map())? })
    }

    /// A process belongs to a worker. One that the fork hook entered already, with what the brake knows of it, stays
    /// as it is.
    ///
    /// # Errors
    /// If the map is full or the kernel refuses.
    pub fn add(&mut self, pid: Pid, worker: WorkerId) -> Result<(), MapError> {
        match self.entries.insert(pid.0, MapEntry(WorkerEntry { worker: worker.0, stopped_at: 0 }), NO_EXIST)
        {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                Ok(())
            }
            other => other,
        }
    }

    /// A process belongs to a worker, whatever was known of it.
    ///
    /// # Errors
    /// If the map is full or the kernel refuses.
    pub fn set(&mut self, pid: Pid, worker: WorkerId) -> Result<(), MapError> {
        self.entries.insert(pid.0, MapEntry(WorkerEntry { worker: worker.0, stopped_at: 0 }), 0)
    }

    /// The worker that a process belongs to. None once it began to exit.
    #[must_use]
    pub fn worker_of(&self, pid: Pid) -> Option<WorkerId> {
        self.entries.get(&pid.0, 0).ok().map(|MapEntry(entry)| WorkerId(entry.worker))
    }

    /// Forgets a process. One that is not known is left alone.
    pub fn remove(&mut self, pid: Pid) {
        // Both fail only if it is not there: the exit hook was first, or it was never let go.
        let _ = self.entries.remove(&pid.0);
        let _ = self.let_go.remove(&pid.0);
    }

    /// When the brake stopped this process; none if it did not, or it was let go.
    #[must_use]
    pub fn stopped_at(&self, pid: Pid) -> Option<Nanos> {
        let MapEntry(entry) = self.entries.get(&pid.0, 0).ok()?;
        holds(entry.stopped_at, self.let_go_at(pid)).then_some(Nanos(entry.stopped_at))
    }

    /// SIGCONT follows: from now on it may be stopped again. Before the signal, because a process that runs and counts
    /// as stopped would allocate without a brake for as long as the agent gets no processor. `at` is the time now.
    pub fn letting_go(&mut self, pid: Pid, at: Nanos) {
        self.note_let_go(pid, at.0 | ON_ITS_WAY);
    }

    /// SIGCONT was sent, after `letting_go` at the same time. If the process was stopped anew meanwhile, that stays.
    pub fn let_go(&mut self, pid: Pid, at: Nanos) {
        self.note_let_go(pid, at.0 & !ON_ITS_WAY);
    }

    fn note_let_go(&mut self, pid: Pid, at: u64) {
        // Nothing is kept of a process that is no worker's any more: nothing would remove it.
        if self.worker_of(pid).is_some() {
            // There is room for as many as there are workers' processes.
            let _ = self.let_go.insert(pid.0, at, 0);
        }
    }

    /// 0: never.
    fn let_go_at(&self, pid: Pid) -> u64 {
        self.let_go.get(&pid.0, 0).unwrap_or(0)
    }

    /// Every process that the brake has paused, or that was about to be resumed. A process that is entered or leaves
    /// meanwhile may be missed or seen twice.
    #[must_use]
    pub fn stopped(&self) -> Vec<StoppedEntry> {
        let mut stopped = self.all();
        stopped.retain(|entry| {
            let let_go_at = self.let_go_at(entry.pid);
            entry.since.0 != 0 && (holds(entry.since.0, let_go_at) || let_go_at & ON_ITS_WAY != 0)
        });
        stopped
    }

    /// Every process, with when it was last stopped, 0 for never.
    fn all(&self) -> Vec<StoppedEntry> {
        let entry = |(pid, MapEntry(entry)): (u32, MapEntry)| StoppedEntry {
            worker: WorkerId(entry.worker),
            pid: Pid(pid),
            since: Nanos(entry.stopped_at),
        };
        // What goes wrong here is a key that was removed under the iteration, which then ends: look again.
        (0..3).find_map(|_| self.entries.iter().collect::<Result<Vec<_>, _>>().ok()).map_or_else(
            || self.entries.iter().filter_map(Result::ok).map(entry).collect(),
            |all| all.into_iter().map(entry).collect(),
        )
    }

    /// Every process and the worker that the map gives it. As with `stopped`, one may be missed or seen twice.
    #[must_use]
    pub fn members(&self) -> Vec<(Pid, WorkerId)> {
        self.all().into_iter().map(|entry| (entry.pid, entry.worker)).collect()
    }
}
