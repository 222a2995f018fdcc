//! The map from process to worker that the programs share with the agent, and with the watchdog that outlives it:
//! who belongs to whom, and whom the brake holds. Only stores and looks up; signals nobody.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{HashMap, IterableMap as _, Map, MapData, MapError};
use monitor_common::{LETTING_GO, WorkerEntry};

use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// Only if there is no such key (`BPF_NOEXIST`, include/uapi/linux/bpf.h).
const NO_EXIST: u64 = 1;
/// Only if there is one (`BPF_EXIST`).
const EXIST: u64 = 2;

/// `WorkerEntry` for aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Entry(WorkerEntry);

// SAFETY: two u64, no padding, every bit pattern is a value.
unsafe impl aya::Pod for Entry {}

/// See the module.
pub struct WorkerMap(HashMap<MapData, u32, Entry>);

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
    /// The map `WORKERS` of the object.
    ///
    /// # Errors
    /// If it has another form.
    pub fn new(map: Map) -> Result<Self, MapError> {
        HashMap::try_from(map).map(Self)
    }

    /// The same map in another process, which inherited its descriptor.
    ///
    /// # Errors
    /// If the descriptor is no such map, or the kernel refuses.
    pub fn inherit(fd: OwnedFd) -> Result<Self, MapError> {
        Self::new(Map::HashMap(MapData::from_fd(fd)?))
    }

    /// Its descriptor, to be inherited.
    ///
    /// # Errors
    /// If it can't be duplicated.
    pub fn fd(&self) -> std::io::Result<OwnedFd> {
        let fd: BorrowedFd<'_> = self.0.map().fd().as_fd();
        fd.try_clone_to_owned()
    }

    /// A process belongs to a worker. One that the fork hook entered already, with what the brake knows of it, stays
    /// as it is.
    ///
    /// # Errors
    /// If the map is full or the kernel refuses.
    pub fn add(&mut self, pid: Pid, worker: WorkerId) -> Result<(), MapError> {
        match self.0.insert(pid.0, Entry(WorkerEntry { worker: worker.0, stopped_at: 0 }), NO_EXIST) {
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
        self.0.insert(pid.0, Entry(WorkerEntry { worker: worker.0, stopped_at: 0 }), 0)
    }

    /// The worker that a process belongs to. None once it began to exit.
    #[must_use]
    pub fn worker_of(&self, pid: Pid) -> Option<WorkerId> {
        self.0.get(&pid.0, 0).ok().map(|Entry(entry)| WorkerId(entry.worker))
    }

    /// Forgets a process. One that is not known is left alone.
    pub fn remove(&mut self, pid: Pid) {
        // Fails only if it is not there: the exit hook was first.
        let _ = self.0.remove(&pid.0);
    }

    /// When the brake stopped this process; none if it did not, or it was let go.
    #[must_use]
    pub fn stopped_at(&self, pid: Pid) -> Option<Nanos> {
        self.0
            .get(&pid.0, 0)
            .ok()
            .filter(|entry| entry.0.stopped_at > LETTING_GO)
            .map(|e| Nanos(e.0.stopped_at))
    }

    /// SIGCONT follows: from now on it may be stopped again. Before the signal, because a process that runs and counts
    /// as stopped would allocate without a brake for as long as the agent gets no processor. The mark stays until it is
    /// stopped anew or ends: to take it off, not in one atomic step, would overwrite a stop in between, and if that
    /// stop's record were lost nobody would know of it.
    pub fn letting_go(&mut self, pid: Pid) {
        if let Ok(Entry(entry)) = self.0.get(&pid.0, 0) {
            // Fails only if it began to exit meanwhile. Nobody stops it in between: it counts as stopped.
            let _ = self.0.insert(pid.0, Entry(WorkerEntry { stopped_at: LETTING_GO, ..entry }), EXIST);
        }
    }

    /// Everyone whom the brake holds, or who was let go last (`since` is [`LETTING_GO`] then). A process that is entered or leaves meanwhile may be missed or seen twice.
    #[must_use]
    pub fn stopped(&self) -> Vec<StoppedEntry> {
        let held = |(pid, Entry(entry)): (u32, Entry)| {
            (entry.stopped_at != 0).then_some(StoppedEntry {
                worker: WorkerId(entry.worker),
                pid: Pid(pid),
                since: Nanos(entry.stopped_at),
            })
        };
        // What goes wrong here is a key that was removed under the iteration, which then ends: look again.
        (0..3).find_map(|_| self.0.iter().collect::<Result<Vec<_>, _>>().ok()).map_or_else(
            || self.0.iter().filter_map(Result::ok).filter_map(held).collect(),
            |all| all.into_iter().filter_map(held).collect(),
        )
    }
}
