//! Pushing records. The one place that knows the ring buffer's calls.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
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

/// How much may lie in the ring buffer before a delta wakes the agent: 900 records, which it takes out in less time than
/// a crossing behind them may wait.
const PATIENT: u64 = 1 << 16;

/// Whether the agent is woken. Not for a delta that is not `urgent`: nothing is decided by one (a crossing is found here, by the line), and a
/// wake-up is an interrupt to this CPU, which costs more than the page. Of the others each wakes: the kernel's own rule,
/// to wake only a reader that has read everything, counts the deltas that lie unread.
#[inline(always)]
fn wake(kind: RecordKind, urgent: bool) -> u64 {
    match kind {
        RecordKind::Delta if !urgent && EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) < PATIENT => {
            u64::from(BPF_RB_NO_WAKEUP)
        }
        RecordKind::Delta
        | RecordKind::Crossing
        | RecordKind::Exit
        | RecordKind::Fork
        | RecordKind::Stopped => u64::from(BPF_RB_FORCE_WAKEUP),
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
