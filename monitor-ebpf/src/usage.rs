//! `memcg:mod_memcg_lruvec_state`: memory charged to and given back by cgroups.
//!
//! This is the hot path: it runs twice for each 4 KiB page touched and twice for each freed. Most events end
//! after the item is compared; the others add to a number of this CPU's own. Only when that number reaches the
//! quantum is it flushed into the cells, from the cgroup's own up to the node's.
//!
//! Of the items only anonymous, shared-memory and page-table pages are summed: they are what SPEC 2 counts as used
//! (file pages are subtracted there). Items in bytes (slab, percpu) are rounded up to pages by the kernel and can't be
//! summed (`memcg_rstat_updated`, mm/memcontrol.c, kernel 6.18).

use core::arch::asm;

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map},
    maps::PerCpuArray,
    programs::BtfTracePointContext,
};
use monitor_common::{Cell, Crossing, Delta, MAX_CELLS, NO_PARENT, NODE_CELL, RecordKind, quantum};

use crate::{
    brake,
    maps::{CELLS, GUARDED, dropped},
    offsets::{self, field},
    ring,
};

/// Cgroups whose cell a CPU remembers; a power of two.
const SLOTS: usize = 64;

/// How far up the hierarchy a cgroup's guarded ancestor is looked for.
const MAX_DEPTH: usize = 16;

/// How many cells can lie above one another.
const MAX_NESTING: usize = 8;

/// Which cell a cgroup belongs to.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    /// The css's serial number, which is never used again (its address is).
    serial: u64,
    generation: u32,
    cell: u32,
}

/// What a CPU keeps to itself.
#[repr(C)]
struct Local {
    slots: [Slot; SLOTS],
    /// Pages not flushed yet, for each cell.
    pending: [i64; MAX_CELLS],
}

#[map]
static LOCAL: PerCpuArray<Local> = PerCpuArray::with_max_entries(1, 0);

/// `void (struct mem_cgroup *memcg, int item, int val)`; `val` is a long from kernel 7.1 on.
#[btf_tracepoint(function = "mod_memcg_lruvec_state")]
pub fn usage(ctx: BtfTracePointContext) -> i32 {
    let item: u32 = ctx.arg(1);
    if !counts(item) {
        return 0;
    }
    let memcg: *const u8 = ctx.arg(0);
    let pages: i32 = ctx.arg(2);
    account(memcg, i64::from(pages));
    0
}

/// Whether an item is part of what is used, and in pages.
#[inline(always)]
fn counts(item: u32) -> bool {
    let item = item as usize;
    item == offsets::get(&offsets::ITEM_ANON)
        || item == offsets::get(&offsets::ITEM_SHMEM)
        || item == offsets::get(&offsets::ITEM_PAGETABLE)
}

#[inline(always)]
fn account(memcg: *const u8, pages: i64) {
    let Some(local) = LOCAL.get_ptr_mut(0) else { return };
    // SAFETY: the entry is this CPU's own, and a program is not re-entered on its CPU.
    let local = unsafe { &mut *local };
    // SAFETY: memcg is the tracepoint's argument.
    let serial: u64 = unsafe { field(memcg, &offsets::MEMCG_SERIAL) };
    let slot = &mut local.slots[serial as usize & (SLOTS - 1)];
    let mut index = slot.cell as usize & (MAX_CELLS - 1);
    let Some(mut cell) = CELLS.get_ptr(index as u32) else { return };
    // SAFETY: cells live as long as the map; fields are read once each.
    let generation = unsafe { (*cell).generation };
    if slot.serial != serial || slot.generation != generation {
        index = find_cell(memcg) as usize & (MAX_CELLS - 1);
        *slot = Slot { serial, generation, cell: index as u32 };
        let Some(found) = CELLS.get_ptr(index as u32) else { return };
        cell = found;
    }
    let pending = local.pending[index] + pages;
    // SAFETY: as above.
    let quantum = unsafe { (*cell).quantum };
    if pending < quantum && pending > -quantum {
        local.pending[index] = pending;
        return;
    }
    local.pending[index] = 0;
    flush(memcg, index as u32, pending);
}

/// The cell of the nearest guarded ancestor of a cgroup, itself included; the node's if there is none.
#[inline(never)]
fn find_cell(memcg: *const u8) -> u32 {
    // SAFETY: memcg is the tracepoint's argument; the others are fields of it.
    let mut cgroup: *const u8 = unsafe { field(memcg, &offsets::MEMCG_CGROUP) };
    let mut css: *const u8 = unsafe { field(memcg, &offsets::MEMCG_PARENT) };
    for _ in 0..MAX_DEPTH {
        let id = unsafe { cgroup_id(cgroup) };
        if let Some(index) = GUARDED.get_ptr(id) {
            return unsafe { *index };
        }
        if css.is_null() {
            break;
        }
        cgroup = unsafe { field(css, &offsets::CSS_CGROUP) };
        css = unsafe { field(css, &offsets::CSS_PARENT) };
    }
    NODE_CELL
}

/// `cgroup->kn->id`: the inode of its directory.
///
/// # Safety
/// `cgroup` must be a `struct cgroup *` from `field`.
#[inline(always)]
unsafe fn cgroup_id(cgroup: *const u8) -> u64 {
    unsafe {
        let kn: *const u8 = field(cgroup, &offsets::CGROUP_KN);
        field(kn, &offsets::KN_ID)
    }
}

/// Adds to the cell and to all above it, tells the agent what it should know, and sets the first one's quantum
/// anew: the least of all of them, so that no ancestor's line is overrun from below.
#[inline(never)]
fn flush(memcg: *const u8, first: u32, pages: i64) {
    let mut index = first & (MAX_CELLS as u32 - 1);
    let mut least = i64::MAX;
    for _ in 0..MAX_NESTING {
        let Some(cell) = CELLS.get_ptr_mut(index) else { return };
        let counter = add(cell, pages);
        // SAFETY: cells live as long as the map; the agent writes whole aligned fields.
        let (line, parent, quantum) = unsafe {
            let line = (*cell).line;
            let headroom = line.saturating_sub(counter);
            (line, (*cell).parent, quantum(headroom, (*cell).divisor, (*cell).floor, (*cell).ceiling))
        };
        if quantum < least {
            least = quantum;
        }
        if counter <= line {
            report(memcg, cell, index, counter);
        } else if pages > 0 {
            past_the_line(cell, index, counter);
        }
        if parent == NO_PARENT {
            break;
        }
        index = parent & (MAX_CELLS as u32 - 1);
    }
    if let Some(cell) = CELLS.get_ptr_mut(first & (MAX_CELLS as u32 - 1)) {
        // SAFETY: as above. The agent sets this field too: whoever comes last, the next flush sets it anew.
        unsafe { (*cell).quantum = least };
    }
}

/// Adds to a cell's counter and returns about what it is then. Not one atomic step: the instruction that
/// returns the sum needs kernel 5.12, and another CPU's pages seen early do no harm.
#[inline(always)]
fn add(cell: *mut Cell, pages: i64) -> i64 {
    // SAFETY: the field is aligned, lives as long as the map and is only changed by this instruction. Written
    // out because core offers no atomic addition for a target without compare-and-swap.
    unsafe {
        let counter = &raw mut (*cell).counter;
        asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) pages);
        counter.read_volatile()
    }
}

/// Pushes a delta if the counter moved far enough since the last one.
#[inline(always)]
fn report(memcg: *const u8, cell: *mut Cell, index: u32, counter: i64) {
    // SAFETY: cells live as long as the map. Two CPUs may both report the same change: a spare wake-up.
    let (reported, line, divisor, floor, wake_at) = unsafe {
        ((*cell).reported, (*cell).line, (*cell).report_divisor, (*cell).report_floor, (*cell).wake_at)
    };
    let urgent = counter >= wake_at;
    let least = quantum(line.saturating_sub(counter), divisor, floor, u32::MAX);
    let delta = counter - reported;
    if !urgent && delta < least && delta > -least {
        return;
    }
    // SAFETY: as above. The agent sets the second anew with the line that it draws on being woken.
    unsafe {
        (*cell).reported = counter;
        if urgent {
            (*cell).wake_at = i64::MAX;
        }
    }
    let record = Delta {
        header: ring::header(RecordKind::Delta),
        cell: index,
        // SAFETY: as above.
        generation: unsafe { (*cell).generation },
        delta,
        counter,
        // SAFETY: memcg is the tracepoint's argument.
        cgroup: unsafe { cgroup_id(field(memcg, &offsets::MEMCG_CGROUP)) },
        pid: current_process(),
        reserved: [0; 3],
    };
    if !ring::push(RecordKind::Delta, urgent, record) {
        dropped(|drops| &mut drops.usage);
    }
}

/// Pushes the crossing, once for each line, and brakes.
#[inline(always)]
fn past_the_line(cell: *mut Cell, index: u32, counter: i64) {
    // SAFETY: cells live as long as the map. Two CPUs may both push the crossing: the agent takes one.
    let (line, epoch, crossed, brake, generation) =
        unsafe { ((*cell).line, (*cell).epoch, (*cell).crossed_epoch, (*cell).brake, (*cell).generation) };
    let pid = current_process();
    if crossed != epoch {
        // SAFETY: as above.
        unsafe { (*cell).crossed_epoch = epoch };
        let header = ring::header(RecordKind::Crossing);
        let record =
            Crossing { header, cell: index, generation, epoch, pid, counter, line, reserved: [0; 2] };
        if !ring::push(RecordKind::Crossing, true, record) {
            dropped(|drops| &mut drops.usage);
            // Not told: the next page tries again.
            // SAFETY: as above.
            unsafe { (*cell).crossed_epoch = epoch.wrapping_sub(1) };
        }
    }
    if brake & monitor_common::brake::ON != 0 {
        brake::stop_current(pid, index, counter);
    }
}

/// The thread-group id of the process that is running.
#[inline(always)]
fn current_process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}
