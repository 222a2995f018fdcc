//! The cell: the shared state of one guarded domain, in an mmap-able array that the kernel programs and the
//! agent both see. All sizes are in pages.
//!
//! Three numbers only ever meet here: `counter` (all the deltas since the agent started, never reset),
//! `line` (the value of `counter` at which the domain would reach its threshold, computed from an
//! authoritative reading) and `quantum` (how much a CPU may keep to itself).

/// A page of memory, in bytes: what the programs count in.
pub const PAGE: u64 = 4096;

/// How many domains can be counted at once; a power of two, because programs mask indexes with it. Each costs 128 bytes, and
/// 8 for each processor.
pub const MAX_CELLS: usize = 1024;

/// How many address spaces `rss_stat` remembers, one entry for each counter, preallocated (about 100 bytes each). The loader
/// asks for more where there are many CPUs.
pub const MEMORIES: u32 = 8192;

/// The cell of the node. It counts every cgroup that no other cell guards, and is every cell's last ancestor.
pub const NODE_CELL: u32 = 0;

/// `parent` of a cell without one.
pub const NO_PARENT: u32 = u32::MAX;

/// Bits of [`Cell::brake`].
pub mod brake {
    /// Stop the registered worker that allocates past the line.
    pub const ON: u32 = 1;
}

/// The shared state of one domain. First half: written by the agent. Second half: written by the programs,
/// except for `quantum` and `wake_at`, which the agent sets anew with each line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Cell {
    /// `counter` above this is a crossing. `i64::MAX`: no line.
    pub line: i64,
    /// The least quantum, in pages: what a CPU may keep to itself at the line.
    pub floor: u32,
    /// The largest quantum, in pages.
    pub ceiling: u32,
    /// By what the headroom is divided to get the quantum: CPUs x cells below x margin.
    pub divisor: u32,
    /// Index of the cell of the nearest guarded ancestor; [`NO_PARENT`] for the node.
    pub parent: u32,
    /// Which set of cells this is; a program that cached another looks its cgroup up again.
    pub generation: u32,
    /// Which line this is, counted up by the agent: one crossing record is pushed for each.
    pub epoch: u32,
    /// Bits of [`brake`].
    pub brake: u32,
    /// By what the headroom is divided to get how far `counter` must move before a delta record is pushed.
    pub report_divisor: u32,
    /// The least of that, in pages.
    pub report_floor: u32,
    /// In the node's cell: counted up by the agent as long as it lives and works. Not used in the others.
    pub heartbeat: u32,
    /// In the node's cell: counted up by the agent before it attaches a usage hook. What the programs noted in an
    /// earlier one is out of date. Not used in the others.
    pub attachment: u32,
    /// In the node's cell: a record that a process changed wakes the agent so many microseconds after the last one that
    /// did, at the earliest. Not used in the others.
    pub changed_pause: u32,
    /// Counted up by the agent before it reads the domain's memory: what moved before is in that reading.
    pub reading: u32,
    /// Not used.
    pub reserved: u32,

    /// Pages charged less pages given back since the agent started, flushed by all CPUs.
    pub counter: i64,
    /// What a CPU may keep to itself before it flushes, in pages, now.
    pub quantum: i64,
    /// `counter` at the last delta record.
    pub reported: i64,
    /// `counter` from which on a delta record wakes the agent, once; `i64::MAX`: none does. Set with each line.
    pub wake_at: i64,
    /// The `epoch` of the crossing that was pushed.
    pub crossed_epoch: u32,
    /// Not used.
    pub reserved_kernel: u32,
    /// In the node's cell: how many cgroups were made and removed while the hooks for that were attached. Not used in the
    /// others.
    pub cgroups: i64,
    /// Not used.
    pub unused_kernel: [u32; 4],
}

const _: () = {
    assert!(size_of::<Cell>() == 128);
    assert!(core::mem::offset_of!(Cell, counter) == 64, "both writers on one cache line");
    assert!(MAX_CELLS.is_power_of_two());
};

/// How much a CPU may keep to itself when `headroom` pages are left to the line: a share of the headroom,
/// never below `floor` (which bounds the record rate) and never above `ceiling`. Past the line: 1, every page
/// is flushed at once.
#[inline(always)]
#[must_use]
pub fn quantum(headroom: i64, divisor: u32, floor: u32, ceiling: u32) -> i64 {
    if headroom <= 0 {
        return 1;
    }
    // Unsigned: the BPF target has no signed division before instruction set v4.
    #[expect(clippy::cast_sign_loss, reason = "headroom is positive here")]
    let share = headroom as u64 / if divisor == 0 { 1 } else { divisor as u64 };
    let (floor, ceiling) = (floor as u64, ceiling as u64);
    let share = if share < floor { floor } else { share };
    let share = if share > ceiling { ceiling } else { share };
    if share == 0 { 1 } else { share as i64 }
}

#[cfg(test)]
mod tests {
    use super::quantum;

    #[test]
    fn the_quantum_shrinks_with_the_headroom_between_its_bounds() {
        assert_eq!(quantum(1 << 40, 8, 16, 4096), 4096);
        assert_eq!(quantum(8000, 8, 16, 4096), 1000);
        assert_eq!(quantum(100, 8, 16, 4096), 16);
        assert_eq!(quantum(1, 0, 0, 4096), 1);
    }

    #[test]
    fn past_the_line_every_page_is_flushed() {
        assert_eq!(quantum(0, 8, 16, 4096), 1);
        assert_eq!(quantum(i64::MIN, 8, 16, 4096), 1);
    }
}
