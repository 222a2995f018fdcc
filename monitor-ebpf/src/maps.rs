//! The maps that hooks share. Names are looked up by `monitor::kernel::programs`.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use monitor_common::{Cell, Drops, MAX_CELLS, MAX_WORKER_PROCESSES, Wanted, WorkerEntry};

/// What is pushed to the agent. 512 KiB: 7,200 records of 64 + 8 bytes. All of it is resident in the agent, twice: it is
/// mapped twice in a row, so that no record is in two pieces.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 19, 0);

/// The state of each guarded domain, shared with the agent by mmap.
#[map]
pub(crate) static CELLS: Array<Cell> = Array::with_max_entries(MAX_CELLS as u32, BPF_F_MMAPABLE);

/// Which cell guards a cgroup: inode of the memory hierarchy's directory to index.
#[map]
pub(crate) static GUARDED: HashMap<u64, u32> = HashMap::with_max_entries(MAX_CELLS as u32, 0);

/// Which worker a process belongs to, by thread-group id.
#[map]
pub(crate) static WORKERS: HashMap<u32, WorkerEntry> = HashMap::with_max_entries(MAX_WORKER_PROCESSES, 0);

/// Workers with forks that are not followed, by number: written by the agent alone, and seldom.
#[map]
pub(crate) static UNFOLLOWED: HashMap<u64, u32> =
    HashMap::with_max_entries(MAX_WORKER_PROCESSES, BPF_F_NO_PREALLOC);

/// When the agent, or the releaser in its place, last let a process go that the brake held: `CLOCK_MONOTONIC`
/// nanoseconds, with `ON_ITS_WAY`. Programs only read it, and take a process off at its exit: entries are
/// allocated as they are added, which no program does.
#[map]
pub(crate) static LET_GO: HashMap<u32, u64> =
    HashMap::with_max_entries(MAX_WORKER_PROCESSES, BPF_F_NO_PREALLOC);

/// Which processes that are no worker's are told of when they change: one value, written by the agent alone.
#[map]
pub(crate) static WANTED: Array<Wanted> = Array::with_max_entries(1, 0);

/// What could not be delivered.
#[map]
pub(crate) static DROPS: PerCpuArray<Drops> = PerCpuArray::with_max_entries(1, 0);

/// Counts one drop of the kind that `count` picks.
#[inline(always)]
pub(crate) fn dropped(count: impl FnOnce(&mut Drops) -> &mut u64) {
    if let Some(drops) = DROPS.get_ptr_mut(0) {
        // SAFETY: the entry is this CPU's own, and a program is not re-entered on its CPU.
        *count(unsafe { &mut *drops }) += 1;
    }
}
