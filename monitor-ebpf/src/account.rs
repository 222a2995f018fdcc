//! Counting pages in cells: what the usage hooks do with what they see. One that sees single pages adds to a number of this
//! CPU's own; only when that number reaches the quantum is it flushed into the cells, from the cgroup's own up to the node's.

use core::arch::asm;

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::map, maps::PerCpuArray};
use monitor_common::{Cell, Crossing, Delta, MAX_CELLS, NO_PARENT, NODE_CELL, RecordKind, quantum};

use crate::{
    brake,
    maps::{CELLS, GUARDED, dropped},
    offsets::{self, field},
    ring,
};

/// How many cgroups' cells a CPU remembers; a power of two.
const SLOTS: usize = 256;

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
pub(crate) struct Local {
    slots: [Slot; SLOTS],
    /// Pages not flushed yet, for each cell.
    pending: [i64; MAX_CELLS],
}

#[map]
static LOCAL: PerCpuArray<Local> = PerCpuArray::with_max_entries(1, 0);

/// A cell, found.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    index: u32,
    cell: *const Cell,
}

impl Place {
    #[inline(always)]
    pub(crate) fn of(index: u32) -> Option<Self> {
        let index = index & (MAX_CELLS as u32 - 1);
        CELLS.get_ptr(index).map(|cell| Self { index, cell })
    }

    #[inline(always)]
    pub(crate) fn index(self) -> u32 {
        self.index
    }
}

/// What this CPU keeps to itself.
#[inline(always)]
pub(crate) fn local() -> Option<&'static mut Local> {
    // SAFETY: the entry is this CPU's own, a program is not re-entered on its CPU, and one usage hook is attached.
    LOCAL.get_ptr_mut(0).map(|local| unsafe { &mut *local })
}

impl Local {
    /// The cell that guards a cgroup, by the css of its memory controller.
    #[inline(always)]
    pub(crate) fn place_of(&mut self, css: *const u8) -> Option<Place> {
        // SAFETY: css is a BTF pointer.
        let serial: u64 = unsafe { field(css, &offsets::CSS_SERIAL) };
        let slot = &mut self.slots[serial as usize & (SLOTS - 1)];
        let place = Place::of(slot.cell)?;
        // SAFETY: cells live as long as the map.
        let generation = unsafe { (*place.cell).generation };
        if slot.serial == serial && slot.generation == generation {
            return Some(place);
        }
        let found = Place::of(find_cell(css))?;
        *slot = Slot { serial, generation, cell: found.index };
        Some(found)
    }

    /// Adds pages to what is pending for a cell, and flushes that when it is enough. `css` is the cgroup that is
    /// charged; null if that is not known.
    #[inline(always)]
    pub(crate) fn add(&mut self, css: *const u8, place: Place, pages: i64) {
        let index = place.index as usize & (MAX_CELLS - 1);
        let pending = self.pending[index] + pages;
        // SAFETY: cells live as long as the map.
        let quantum = unsafe { (*place.cell).quantum };
        if pending < quantum && pending > -quantum {
            self.pending[index] = pending;
            return;
        }
        self.pending[index] = 0;
        flush(css, place.index, pending);
    }
}

/// The cell of the nearest guarded ancestor of a cgroup, itself included; the node's if there is none.
#[inline(never)]
fn find_cell(css: *const u8) -> u32 {
    let mut css = css;
    for _ in 0..MAX_DEPTH {
        // SAFETY: css is a BTF pointer; the others are fields of it.
        let id = unsafe { cgroup_id(field(css, &offsets::CSS_CGROUP)) };
        if let Some(index) = GUARDED.get_ptr(id) {
            // SAFETY: a map value stays valid during the program.
            return unsafe { *index };
        }
        // SAFETY: as above.
        css = unsafe { field(css, &offsets::CSS_PARENT) };
        if css.is_null() {
            break;
        }
    }
    NODE_CELL
}

/// `cgroup->kn->id`: the inode of its directory; 0 if there is none.
///
/// # Safety
/// `cgroup` must be a `struct cgroup *` from `field`.
#[inline(always)]
unsafe fn cgroup_id(cgroup: *const u8) -> u64 {
    if cgroup.is_null() {
        return 0;
    }
    // SAFETY: by the contract.
    let kn: *const u8 = unsafe { field(cgroup, &offsets::CGROUP_KN) };
    // SAFETY: as above.
    if kn.is_null() { 0 } else { unsafe { field(kn, &offsets::KN_ID) } }
}

/// Adds to the cell and to all above it, tells the agent what it should know, and sets the first one's quantum
/// anew: the least of all of them, so that no ancestor's line is overrun from below.
#[inline(never)]
fn flush(css: *const u8, first: u32, pages: i64) {
    let mut index = first & (MAX_CELLS as u32 - 1);
    let mut least = i64::MAX;
    for _ in 0..MAX_NESTING {
        let Some(cell) = CELLS.get_ptr_mut(index) else { return };
        let quantum = moved(css, cell, index, pages);
        if quantum < least {
            least = quantum;
        }
        // SAFETY: cells live as long as the map.
        let parent = unsafe { (*cell).parent };
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

/// Adds to a cell and tells the agent what it should know. The quantum that follows.
#[inline(always)]
pub(crate) fn moved(css: *const u8, cell: *mut Cell, index: u32, pages: i64) -> i64 {
    let counter = add(cell, pages);
    // SAFETY: cells live as long as the map; the agent writes whole aligned fields.
    let (line, quantum) = unsafe {
        let line = (*cell).line;
        let headroom = line.saturating_sub(counter);
        (line, quantum(headroom, (*cell).divisor, (*cell).floor, (*cell).ceiling))
    };
    if counter <= line {
        report(css, cell, index, counter);
    } else if pages > 0 {
        past_the_line(cell, index, counter);
    }
    quantum
}

/// Adds to a cell's counter and returns about what it is then. Not one atomic step: the instruction that
/// returns the sum needs kernel 5.12, and another CPU's pages seen early do no harm.
#[inline(always)]
fn add(cell: *mut Cell, pages: i64) -> i64 {
    // SAFETY: the field is aligned and lives as long as the map.
    unsafe {
        let counter = &raw mut (*cell).counter;
        add_to(counter, pages);
        counter.read_volatile()
    }
}

/// Adds to a number that other CPUs add to. Written out because core offers no atomic addition for a target without
/// compare-and-swap.
#[inline(always)]
pub(crate) fn add_to(number: *mut i64, addend: i64) {
    // SAFETY: callers pass an aligned number in a map, which lives as long as the program runs.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) number, in(reg) addend) }
}

/// Pushes a delta if the counter moved far enough since the last one.
#[inline(always)]
fn report(css: *const u8, cell: *mut Cell, index: u32, counter: i64) {
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
        // SAFETY: css is a BTF pointer.
        cgroup: if css.is_null() { 0 } else { unsafe { cgroup_id(field(css, &offsets::CSS_CGROUP)) } },
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
