//! `page_counter_try_charge`: memory as the kernel charges it, 64 pages at a time, kernel memory and files too. The cheapest of
//! the usage hooks where the kernel lets programs be attached to functions: it runs once for 64 pages that a CPU charges
//! (`MEMCG_CHARGE_BATCH`, mm/memcontrol.c), not once for each.
//!
//! Nothing is summed here: the kernel's own counter says what is used, so that what is given back needs no hook. A cell moves by
//! what its cgroup's counter has moved by since the last run. What came or went between the start of a memory check
//! and the run after it counts for nothing: the check has seen it, or sees it next.
//!
//! Not seen: what is charged to no cgroup but the root.

use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    macros::{fentry, map},
    maps::{Array, PerCpuArray},
    programs::FEntryContext,
};
use monitor_common::{MAX_CELLS, NODE_CELL};

use crate::{
    account::{self, add_to},
    maps::{CELLS, GUARDED},
    offsets::{self, field, get},
};

/// How many counters a CPU remembers; a power of two.
const SLOTS: usize = 256;

/// In place of a cell: a memory cgroup's counter that no cell is for.
const NOBODYS: u32 = u32::MAX;

/// The same: a counter of something else, such as huge pages or swap.
const FOREIGN: u32 = u32::MAX - 1;

/// Whose counter one is.
#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    /// Its address, which is used again ...
    counter: u64,
    /// ... and the css's serial number, which is not.
    serial: u64,
    generation: u32,
    cell: u32,
}

/// What a CPU remembers.
#[repr(C)]
struct Known {
    slots: [Slot; SLOTS],
}

/// A cell's counter at the last run.
#[derive(Clone, Copy)]
#[repr(C)]
struct Noted {
    /// What the kernel's counter said, in pages.
    usage: i64,
    /// The memory check that was the last one then.
    reading: u32,
    /// The hook's attachment.
    attachment: u32,
}

#[map]
static COUNTERS: PerCpuArray<Known> = PerCpuArray::with_max_entries(1, 0);

#[map]
static NOTED: Array<Noted> = Array::with_max_entries(MAX_CELLS as u32, 0);

/// `bool (struct page_counter *counter, unsigned long nr_pages, struct page_counter **fail)`.
#[fentry(function = "page_counter_try_charge")]
pub fn charge(ctx: FEntryContext) -> i32 {
    let counter: *const u8 = ctx.arg(0);
    let pages: i64 = ctx.arg(1);
    let Some(node) = CELLS.get_ptr(NODE_CELL) else { return 0 };
    // SAFETY: cells live as long as the map.
    let (generation, attachment) = unsafe { ((*node).generation, (*node).attachment) };
    let up = |counter: *const u8| match counter.is_null() {
        true => counter,
        false => level(counter, pages, generation, attachment),
    };
    // No loop: kernels before 5.13 refuse those that the compiler does not enter at their head.
    let four = |counter| up(up(up(up(counter))));
    four(four(four(four(counter))));
    0
}

/// A counter that is charged: its cell moves. Returns the counter of the cgroup above, or null if there is nothing more to do.
#[inline(never)]
fn level(counter: *const u8, pages: i64, generation: u32, attachment: u32) -> *const u8 {
    // SAFETY: counter is the function's argument or a field of one, and not null.
    let (usage, parent): (i64, *const u8) =
        unsafe { (field(counter, &offsets::COUNTER_USAGE), field(counter, &offsets::COUNTER_PARENT)) };
    match cell_of(counter, generation) {
        FOREIGN => return core::ptr::null(),
        // The root's counts what is below it.
        NOBODYS if parent.is_null() => moved(NODE_CELL, usage, pages, attachment),
        NOBODYS => {}
        cell => moved(cell, usage, pages, attachment),
    }
    parent
}

/// The cell that a counter is for, if it is one of a memory cgroup and guarded.
#[inline(always)]
fn cell_of(counter: *const u8, generation: u32) -> u32 {
    let memcg = counter.wrapping_sub(get(&offsets::MEMCG_MEMORY));
    let css = memcg.wrapping_add(get(&offsets::MEMCG_CSS));
    let Some(serial) = read(css, &offsets::CSS_SERIAL) else { return FOREIGN };
    let Some(known) = COUNTERS.get_ptr_mut(0) else { return FOREIGN };
    // SAFETY: the entry is this CPU's own, and a program is not re-entered on its CPU.
    let slot = unsafe { &mut (*known).slots[serial as usize & (SLOTS - 1)] };
    if slot.counter == counter as u64 && slot.serial == serial && slot.generation == generation {
        return slot.cell;
    }
    let cell = look_up(css);
    *slot = Slot { counter: counter as u64, serial, generation, cell };
    cell
}

/// The same without what is remembered. What lies before a counter is a memory cgroup's css if that one's cgroup says so.
#[inline(never)]
fn look_up(css: *const u8) -> u32 {
    let Some(cgroup) = read(css, &offsets::CSS_CGROUP) else { return FOREIGN };
    let cgroup = cgroup as *const u8;
    if read(cgroup, &offsets::CGROUP_MEMORY) != Some(css as u64) {
        return FOREIGN;
    }
    let Some(kn) = read(cgroup, &offsets::CGROUP_KN) else { return NOBODYS };
    let Some(id) = read(kn as *const u8, &offsets::KN_ID) else { return NOBODYS };
    // SAFETY: a map value stays valid during the program.
    GUARDED.get_ptr(id).map_or(NOBODYS, |index| unsafe { *index })
}

/// Eight bytes at `offset` of what may be a kernel object.
#[inline(always)]
fn read(object: *const u8, offset: &'static u32) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(object.wrapping_add(get(offset)).cast::<u64>()) }.ok()
}

/// A cell's cgroup has used so many pages, and is about to be charged for `pages` more.
#[inline(never)]
fn moved(index: u32, usage: i64, pages: i64, attachment: u32) {
    let index = index & (MAX_CELLS as u32 - 1);
    let (Some(cell), Some(noted)) = (CELLS.get_ptr_mut(index), NOTED.get_ptr_mut(index)) else { return };
    // SAFETY: both live as long as their maps; whole aligned fields are read and written. The usage is written first: who
    // sees the others new must not take an old one for the start. Two CPUs that both begin anew begin at about the same number.
    unsafe {
        let reading = (&raw const (*cell).reading).read_volatile();
        let known = (&raw const (*noted).reading).read_volatile();
        if known != reading || (&raw const (*noted).attachment).read_volatile() != attachment {
            (&raw mut (*noted).usage).write_volatile(usage);
            (&raw mut (*noted).attachment).write_volatile(attachment);
            (&raw mut (*noted).reading).write_volatile(reading);
        }
    }
    // SAFETY: as above. Two CPUs that see the same step both count it: the next one sees a difference of the other sign,
    // because what is added here is what is counted.
    let step = usage + pages - unsafe { (&raw const (*noted).usage).read_volatile() };
    add_to(unsafe { &raw mut (*noted).usage }, step);
    account::moved(core::ptr::null(), cell, index, step);
}
