//! `kmem:rss_stat`: how many pages a process has mapped. The cheaper of the two at tracepoints: one run for a page touched,
//! one for up to 512 given back, and next to all of them end at the first comparison.
//!
//! The kernel moves the number that is read here in steps only: by 32 pages (two for each CPU, if that is more) for each
//! CPU from kernel 6.2 on, or a huge page at once (`percpu_counter_add_batch`, lib/percpu_counter.c); by up to 64 faults
//! of each thread before (`check_sync_rss_stat`, mm/memory.c, kernel 6.1). A run without a step has nothing to add.
//!
//! What is mapped is not what is charged, and where they differ this hook errs to the early side or leaves it to the next
//! reading (docs/probes.md):
//! - A forked child maps what is charged to its parent: pages that come while another process runs are *inherited*.
//! They   are not counted, and the first to go is taken to be them. A copy on write changes no number: not seen.
//! - Shared memory that is unmapped lives on in its file: giving it back is not counted.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_task, bpf_probe_read_kernel},
    macros::{btf_tracepoint, map},
    maps::{LruHashMap, PerCpuArray},
    programs::BtfTracePointContext,
};
use monitor_common::{MEMORIES, NODE_CELL};

use crate::{
    account::{self, Place, add_to},
    maps::CELLS,
    offsets::{self, field, get},
};

/// A process with no larger number when it is first seen is new, and all of it is counted, in pages.
const NEW: i64 = 64;

/// A counter of an address space. The address is used again; what is then left of the old one's number is some pages,
/// and the first step of the new one takes it back.
#[derive(Clone, Copy)]
#[repr(C)]
struct Key {
    mm: u64,
    member: u64,
}

/// What is known of it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Known {
    /// The sum of all changes that were seen: the counter at the last one.
    count: i64,
    /// Pages of it that were mapped by others.
    inherited: i64,
    /// Where it was charged last, for when its owner has left it.
    cell: u32,
    generation: u32,
    /// The hook's attachment in which this was noted.
    attachment: u32,
    reserved: u32,
}

/// What this CPU saw last.
#[repr(C)]
struct Last {
    key: Key,
    count: i64,
}

#[map]
static MAPPED: LruHashMap<Key, Known> = LruHashMap::with_max_entries(MEMORIES, 0);

#[map]
static LAST: PerCpuArray<Last> = PerCpuArray::with_max_entries(1, 0);

/// `void (struct mm_struct *mm, int member)`; before kernel 6.2 with `long count`.
#[btf_tracepoint(function = "rss_stat")]
pub fn rss_stat(ctx: BtfTracePointContext) -> i32 {
    let mm: *const u8 = ctx.arg(0);
    let member: u32 = ctx.arg(1);
    let member = member as usize;
    // SAFETY: mm is the tracepoint's argument, and these are its counters.
    let count: i64 = if member == get(&offsets::MM_ANON) {
        unsafe { counted(&ctx, mm, &offsets::RSS_ANON) }
    } else if member == get(&offsets::MM_SHMEM) {
        unsafe { counted(&ctx, mm, &offsets::RSS_SHMEM) }
    } else {
        return 0;
    };
    let Some(last) = LAST.get_ptr_mut(0) else { return 0 };
    // SAFETY: the entry is this CPU's own, and a program is not re-entered on its CPU.
    let last = unsafe { &mut *last };
    let key = Key { mm: mm as u64, member: member as u64 };
    if last.count == count && last.key.mm == key.mm && last.key.member == key.member {
        return 0;
    }
    *last = Last { key, count };
    stepped(mm, key, count);
    0
}

/// Notes a step and counts what of it was charged.
#[inline(always)]
fn stepped(mm: *const u8, key: Key, count: i64) {
    let Some(node) = CELLS.get_ptr(NODE_CELL) else { return };
    // SAFETY: cells live as long as the map.
    let (attachment, generation) = unsafe { ((*node).attachment, (*node).generation) };
    let mine = current_mm() == key.mm;
    let known = match MAPPED.get_ptr_mut(key) {
        // SAFETY: a map value stays valid during the program.
        Some(known) if unsafe { (*known).attachment } == attachment => known,
        Some(_) | None => {
            let seen_from_the_start = mine && count <= NEW;
            let known = Known {
                count: if seen_from_the_start { 0 } else { count },
                inherited: if mine { 0 } else { count },
                cell: NODE_CELL,
                generation: generation.wrapping_sub(1),
                attachment,
                reserved: 0,
            };
            if MAPPED.insert(key, known, u64::from(BPF_ANY)).is_err() {
                return;
            }
            match MAPPED.get_ptr_mut(key) {
                Some(known) => known,
                None => return,
            }
        }
    };
    // SAFETY: as above. Two CPUs that see the same step both count it: the next one sees a difference of the other sign,
    // because what is added here is what is counted.
    let step = count - unsafe { (*known).count };
    add_to(unsafe { &raw mut (*known).count }, step);
    let pages = unsafe { charged(&mut *known, key, step, mine) };
    let Some(local) = account::local() else { return };
    if !mine {
        // SAFETY: as above.
        let (cell, remembered) = unsafe { ((*known).cell, (*known).generation) };
        if remembered == generation
            && pages != 0
            && let Some(place) = Place::of(cell)
        {
            local.add(core::ptr::null(), place, pages);
        }
        return;
    }
    let css = owners_css(mm);
    if css.is_null() {
        return;
    }
    let Some(place) = local.place_of(css) else { return };
    // SAFETY: as above.
    unsafe {
        (*known).cell = place.index();
        (*known).generation = generation;
    }
    if pages != 0 {
        local.add(css, place, pages);
    }
}

/// The part of a step that was charged or given back.
#[inline(always)]
fn charged(known: &mut Known, key: Key, step: i64, mine: bool) -> i64 {
    if step >= 0 {
        if mine {
            return step;
        }
        known.inherited += step;
        return 0;
    }
    if key.member as usize == get(&offsets::MM_SHMEM) {
        return 0;
    }
    let gone = -step;
    let inherited = if known.inherited < gone { known.inherited } else { gone };
    known.inherited -= inherited;
    inherited - gone
}

/// The counter at `offset` of an mm, or what the tracepoint gives where there is no offset: up to kernel 6.1 the counters
/// are in an array of a typedef, which the verifier lets no program read. It sees the constant and checks one branch
/// only.
///
/// # Safety
/// `mm` must be the tracepoint's first argument and `offset` one of its counters.
#[inline(always)]
unsafe fn counted(ctx: &BtfTracePointContext, mm: *const u8, offset: &'static u32) -> i64 {
    if get(offset) == 0 {
        return ctx.arg(2);
    }
    // SAFETY: by the contract.
    unsafe { field(mm, offset) }
}

/// The memory of the process that runs; 0 if it has none, or no longer.
#[inline(always)]
fn current_mm() -> u64 {
    // The helper that returns a typed pointer needs kernel 5.11.
    // SAFETY: takes nothing.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    // SAFETY: the helper checks the address; the offset is that of `task_struct.mm`.
    unsafe { bpf_probe_read_kernel(task.add(get(&offsets::TASK_MM)).cast::<u64>()) }.unwrap_or(0)
}

/// The css of the memory cgroup that an mm is charged to: its owner's (`get_mem_cgroup_from_mm`, mm/memcontrol.c); null
/// if it has none.
#[inline(always)]
fn owners_css(mm: *const u8) -> *const u8 {
    // SAFETY: mm is the tracepoint's argument, the others are fields of it.
    unsafe {
        let owner: *const u8 = field(mm, &offsets::MM_OWNER);
        if owner.is_null() {
            return core::ptr::null();
        }
        let set: *const u8 = field(owner, &offsets::TASK_CGROUPS);
        if set.is_null() {
            return core::ptr::null();
        }
        field(set, &offsets::CSS_SET_MEMORY)
    }
}
