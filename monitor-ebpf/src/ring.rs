//! Pushing records. The one place that knows the ring buffer's calls.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};
use aya_log_ebpf::debug;
use monitor_common::{Header, NODE_CELL, RecordKind};

use crate::maps::{CELLS, EVENTS};

/// The header of a record made now, here.
#[inline(always)]
pub(crate) fn header(kind: RecordKind) -> Header {
    Header {
        kind: kind as u32,
        // SAFETY: both helpers take nothing and cannot fail.
        cpu: unsafe { bpf_get_smp_processor_id() } as u32,
        time: unsafe { bpf_ktime_get_ns() },
    }
}

/// How often deltas wake the agent, in nanoseconds: once in this time for each CPU.
const DELTA_WAKES: u64 = 2_000_000;

/// When a delta last woke the agent from this CPU.
#[map]
static WOKEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// When a process that changed last woke the agent, from any CPU: a storm of them on all CPUs wakes it no more often.
#[map]
static WOKEN_BY_CHANGES: Array<u64> = Array::with_max_entries(1, 0);

/// Whether the agent is woken. By a delta that is not `urgent` only now and then: nothing is decided by one (a crossing
/// is found here, by the line), and a wake-up is an interrupt to this CPU that costs more than the page; but an agent
/// that was awake a moment ago is quicker at the crossing. Each of the others wakes: the kernel's own rule, to wake
/// only a reader that has read everything, counts the deltas that lie unread.
#[inline(always)]
fn wake(kind: RecordKind, urgent: bool) -> u64 {
    match kind {
        RecordKind::Delta if !urgent && !due() => u64::from(BPF_RB_NO_WAKEUP),
        RecordKind::Exec | RecordKind::Rename | RecordKind::Moved if !change_due() => {
            u64::from(BPF_RB_NO_WAKEUP)
        }
        RecordKind::Delta
        | RecordKind::Crossing
        | RecordKind::Exit
        | RecordKind::Fork
        | RecordKind::Stopped
        | RecordKind::OomVictim
        | RecordKind::Exec
        | RecordKind::Rename
        | RecordKind::Moved => u64::from(BPF_RB_FORCE_WAKEUP),
    }
}

#[inline(always)]
fn due() -> bool {
    let Some(woken) = WOKEN.get_ptr_mut(0) else { return true };
    // SAFETY: takes nothing and cannot fail.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the entry is this CPU's own, and a program is not re-entered on its CPU.
    unsafe {
        let due = now.wrapping_sub(*woken) >= DELTA_WAKES;
        if due {
            *woken = now;
        }
        due
    }
}

/// The agent says how long it wants to be left alone, and looks by itself after that time. Two CPUs that come here at once
/// both wake it.
#[inline(always)]
fn change_due() -> bool {
    let (Some(woken), Some(node)) = (WOKEN_BY_CHANGES.get_ptr_mut(0), CELLS.get_ptr(NODE_CELL)) else {
        return true;
    };
    // SAFETY: takes nothing and cannot fail.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: both are values of maps, which live as long as the program runs; their fields are aligned, and the agent writes
    // the pause whole.
    unsafe {
        let due = now.wrapping_sub(woken.read_volatile()) >= u64::from((*node).changed_pause) * 1000;
        if due {
            woken.write_volatile(now);
        }
        due
    }
}

/// Pushes a record; false if the ring buffer is full. With the setting `kernel_log` each one is logged too; without,
/// the loader sets the log level so that the verifier drops the branch.
#[inline(always)]
pub(crate) fn push<T: Copy + 'static>(kind: RecordKind, urgent: bool, record: T) -> bool {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        debug!(&(), "no room for a record of kind {}", kind as u32);
        return false;
    };
    entry.write(record);
    entry.submit(wake(kind, urgent));
    debug!(&(), "pushed a record of kind {}", kind as u32);
    true
}
