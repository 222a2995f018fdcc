//! Pushing records. The one place that knows the ring buffer's calls.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
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

/// Pushes a record; false if the ring buffer is full.
#[inline(always)]
pub(crate) fn push<T: Copy + 'static>(record: T) -> bool {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else { return false };
    entry.write(record);
    entry.submit(0);
    true
}
