//! The brake: stops the registered worker that allocates past the line, in the very page fault. Called by the
//! usage hook. Nothing that is not registered is ever stopped.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_send_signal};
use monitor_common::{LETTING_GO, RecordKind, Stopped};

use crate::{
    maps::{WORKERS, dropped},
    ring,
};

/// Linux, all architectures that we know.
const SIGSTOP: u32 = 19;

/// Stops the running process if it is a worker's and was not stopped already, and tells the agent. That it was
/// stopped by us stands in the map too: a lost record leaves nobody stopped.
#[inline(always)]
pub(crate) fn stop_current(pid: u32, cell: u32, counter: i64) {
    let Some(entry) = WORKERS.get_ptr_mut(pid) else { return };
    // SAFETY: a map value stays valid during the program; the agent resets the field when it continues the
    // process.
    let (worker, stopped_at) = unsafe { ((*entry).worker, (*entry).stopped_at) };
    if stopped_at > LETTING_GO {
        return;
    }
    // SAFETY: takes a number; refused (EPERM, EBUSY) it does nothing.
    if unsafe { bpf_send_signal(SIGSTOP) } != 0 {
        return;
    }
    // SAFETY: as above.
    unsafe { (*entry).stopped_at = bpf_ktime_get_ns() };
    let header = ring::header(RecordKind::Stopped);
    if !ring::push(
        RecordKind::Stopped,
        true,
        Stopped { header, worker, cell, pid, counter, reserved: [0; 3] },
    ) {
        dropped(|drops| &mut drops.stopped);
    }
}
