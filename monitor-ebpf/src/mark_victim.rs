//! `oom:mark_victim`: the kernel's own out-of-memory killer chose a worker's process. It runs in the process that
//! needed the memory, not in the victim, which ends a moment later (`exit`).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_common::{OomVictim, RecordKind};

use crate::{
    maps::{WORKERS, dropped},
    offsets::{self, field},
    ring,
};

/// `void (struct task_struct *task, uid_t uid)`; before kernel 6.9 `void (int pid)`, which is a thread's number.
#[btf_tracepoint(function = "mark_victim")]
pub fn mark_victim(ctx: BtfTracePointContext) -> i32 {
    // The verifier knows the number, and drops the other branch.
    let pid: u32 = if offsets::get(&offsets::MARK_VICTIM_ARGUMENTS) == 1 {
        ctx.arg(0)
    } else {
        let task: *const u8 = ctx.arg(0);
        // SAFETY: task is the tracepoint's argument.
        unsafe { field(task, &offsets::TASK_TGID) }
    };
    let Some(entry) = WORKERS.get_ptr(pid) else { return 0 };
    let record = OomVictim {
        header: ring::header(RecordKind::OomVictim),
        // SAFETY: a map value stays valid during the program.
        worker: unsafe { (*entry).worker },
        pid,
        reserved: [0; 9],
    };
    if !ring::push(RecordKind::OomVictim, true, record) {
        dropped(|drops| &mut drops.exit);
    }
    0
}
