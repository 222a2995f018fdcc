//! Pushing records. The one place that knows the ring buffer's calls.

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

/// Pushes a record; false if the ring buffer is full. With the setting `kernel_log` each one is logged too; without,
/// the loader sets the log level so that the verifier drops the branch.
#[inline(always)]
pub(crate) fn push<T: Copy + 'static>(kind: RecordKind, record: T) -> bool {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        debug!(&(), "no room for a record of kind {}", kind as u32);
        return false;
    };
    entry.write(record);
    entry.submit(0);
    debug!(&(), "pushed a record of kind {}", kind as u32);
    true
}
