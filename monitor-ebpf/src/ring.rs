//! Pushing records. The one place that knows the ring buffer's calls.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::{macros::map, maps::PerCpuArray};
use aya_log_ebpf::debug;
use monitor_common::{Header, RecordKind};

use crate::maps::EVENTS;

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

/// Whether the agent is woken. By a delta that is not `urgent` only now and then: nothing is decided by one (a crossing is found here, by the
/// line), and a wake-up is an interrupt to this CPU that costs more than the page; but an agent that was awake a moment
/// ago is quicker at the crossing. Each of the others wakes: the kernel's own rule, to wake only a reader that has read
/// everything, counts the deltas that lie unread.
#[inline(always)]
fn wake(kind: RecordKind, urgent: bool) -> u64 {
    match kind {
        RecordKind::Delta if !urgent && !due() => u64::from(BPF_RB_NO_WAKEUP),
        RecordKind::Delta
        | RecordKind::Crossing
        | RecordKind::Exit
        | RecordKind::Fork
        | RecordKind::Stopped
        | RecordKind::OomVictim => u64::from(BPF_RB_FORCE_WAKEUP),
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
