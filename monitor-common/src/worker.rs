//! What the programs know of workers, and what they could not say.

/// How many processes can belong to workers at once; the map is preallocated (about 80 bytes each).
pub const MAX_WORKER_PROCESSES: u32 = 16_384;

/// Value of the map from process id to worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct WorkerEntry {
    /// The worker's number.
    pub worker: u64,
    /// When the brake stopped this process, `CLOCK_MONOTONIC` nanoseconds; 0: it did not; [`LETTING_GO`].
    pub stopped_at: u64,
}

/// In [`WorkerEntry::stopped_at`]: SIGCONT was sent or is on its way. The process may be stopped again; whoever takes over
/// from an agent that died sends it once more.
pub const LETTING_GO: u64 = 1;

/// What a CPU could not deliver, counted from the load of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Drops {
    /// Usage records (deltas and crossings) that found the ring buffer full.
    pub usage: u64,
    /// Exit records that found it full.
    pub exit: u64,
    /// Fork records that found it full.
    pub fork: u64,
    /// Stop records that found it full.
    pub stopped: u64,
    /// Children that found the map of worker processes full.
    pub lineage: u64,
}

const _: () = {
    assert!(size_of::<WorkerEntry>() == 16);
    assert!(size_of::<Drops>() == 40);
};
