//! The brake: pauses the registered worker that allocates past the line, in the very page fault. Called by the
//! usage hook. Nothing that is not registered is ever stopped.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_send_signal};
use monitor_common::{RecordKind, Stopped, holds};

use crate::{
    maps::{LET_GO, WORKERS, dropped},
    ring,
};

/// Linux, all architectures that we know.
const SIGSTOP: u32 = 19;

/// Stops the running process if it is a worker's and was not stopped already, and tells the agent. The map also
/// records that we stopped it: a lost record leaves no process stopped.
#[inline(always)]
pub(crate) fn stop_current(pid: u32, cell: u32, counter: i64) {
    let Some(entry) = WORKERS.get_ptr_mut(pid) else { return };
    // SAFETY: a map value stays valid during the program.
    let (worker, stopped_at) = unsafe { ((*entry).worker, (*entry).stopped_at) };
    if stopped_at != 0 {
        // SAFETY: as above.
        let let_go_at = LET_GO.get_ptr(pid).map_or(0, |at| unsafe { *at });
        if holds(stopped_at, let_go_at) {
            return;
        }
    }
    // SAFETY: takes a number; refused (EPERM, EBUSY) it does nothing.
    if unsafe { bpf_send_signal(SIGSTOP) } != 0 {
        return;
    }
    // Looked up again: what the agent took off meanwhile may be another process's by now.
    if let Some(entry) = WORKERS.get_ptr_mut(pid) {
        // SAFETY: as above. After the signal: a stop that comes after SIGCONT has a later time than that.
        unsafe { (*entry).stopped_at = bpf_ktime_get_ns() };
    }
    let header = ring::header(RecordKind::Stopped);
    if !ring::push(
        RecordKind::Stopped,
        true,
        Stopped { header, worker, cell, pid, counter, reserved: [0; 3] },
    ) {
        dropped(|drops| &mut drops.stopped);
    }
}
