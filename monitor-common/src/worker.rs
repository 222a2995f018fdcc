//! What the programs know of workers, and what they could not say.

/// How many processes can belong to workers at once; the map is preallocated (about 80 bytes each).
pub const MAX_WORKER_PROCESSES: u32 = 16_384;

/// Value of the map from process id to worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct WorkerEntry {
    /// The worker's number.
    pub worker: u64,
    /// When the brake last stopped this process, `CLOCK_MONOTONIC` nanoseconds; 0: never. Written by the programs
    /// only: when it was let go stands in a map of its own, so that neither side overwrites the other's news.
    pub stopped_at: u64,
}

/// Whether the brake holds a process that it stopped then, and that was let go then (0: never). At the same
/// moment it does not: a stop that SIGCONT did not end comes after it, and after the time that is noted before it.
#[must_use]
#[inline(always)]
pub const fn holds(stopped_at: u64, let_go_at: u64) -> bool {
    stopped_at > let_go_at
}

/// The lowest bit of the time at which a process is let go: SIGCONT is on its way. The process may be stopped again;
/// what takes over from an agent that died at this moment sends it once more.
pub const ON_ITS_WAY: u64 = 1;

/// What a CPU could not deliver, counted from the load of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Drops {
    /// Usage records (deltas and crossings) that found the ring buffer full.
    pub usage: u64,
    /// Exit records, and those of the kernel's own victims, that found it full.
    pub exit: u64,
    /// Fork records that found it full.
    pub fork: u64,
    /// Stop records that found it full.
    pub stopped: u64,
    /// Children that found the map of worker processes full.
    pub lineage: u64,
    /// Records of processes that changed: they found their share of the ring buffer full.
    pub changed: u64,
}

const _: () = {
    assert!(size_of::<WorkerEntry>() == 16);
    assert!(size_of::<Drops>() == 48);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_after_it_was_let_go_stays_whatever_the_order_in_which_the_two_are_noted() {
        let let_go_at = 100 | ON_ITS_WAY;
        assert!(!holds(0, 0), "never stopped");
        assert!(holds(90, 0));
        assert!(!holds(90, let_go_at));
        assert!(!holds(90, let_go_at & !ON_ITS_WAY), "once SIGCONT was sent too");
        assert!(holds(110, let_go_at), "stopped anew while SIGCONT was on its way");
        assert!(holds(110, let_go_at & !ON_ITS_WAY), "which the end of letting go does not undo");
    }
}
