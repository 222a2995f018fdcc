//! `sched:sched_process_fork`: a child of a worker's process belongs to the worker, from before it first runs
//! (`kernel_clone` in kernel/fork.c, kernel 6.18, calls the tracepoint before it wakes the child).

use aya_ebpf::{bindings::BPF_ANY, macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_common::{Fork, RecordKind, WorkerEntry};

use crate::{
    maps::{UNFOLLOWED, WORKERS, dropped},
    offsets::{self, field},
    ring,
};

/// `void (struct task_struct *parent, struct task_struct *child)`.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn lineage(ctx: BtfTracePointContext) -> i32 {
    let parent: *const u8 = ctx.arg(0);
    let child: *const u8 = ctx.arg(1);
    // SAFETY: both are the tracepoint's arguments.
    let (parent, pid, thread): (u32, u32, u32) = unsafe {
        (
            field(parent, &offsets::TASK_TGID),
            field(child, &offsets::TASK_TGID),
            field(child, &offsets::TASK_PID),
        )
    };
    if pid != thread {
        return 0;
    }
    let Some(entry) = WORKERS.get_ptr(parent) else { return 0 };
    // SAFETY: a map value stays valid during the program.
    let worker = unsafe { (*entry).worker };
    if UNFOLLOWED.get_ptr(worker).is_some() {
        return 0;
    }
    if WORKERS.insert(pid, WorkerEntry { worker, stopped_at: 0 }, u64::from(BPF_ANY)).is_err() {
        dropped(|drops| &mut drops.lineage);
    }
    let record = Fork {
        header: ring::header(RecordKind::Fork),
        worker,
        // SAFETY: child is the tracepoint's argument.
        start_time: unsafe { field(child, &offsets::TASK_START) },
        parent,
        pid,
        reserved: [0; 3],
    };
    if !ring::push(RecordKind::Fork, true, record) {
        dropped(|drops| &mut drops.fork);
    }
    0
}
