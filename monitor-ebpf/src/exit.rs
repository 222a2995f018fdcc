//! `sched:sched_process_exit`: deaths of workers' processes.
//!
//! The tracepoint fires for each thread, at the start of its exit; a process dies with the last of them.

use aya_ebpf::{helpers::bpf_get_current_cgroup_id, macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_common::{Exit, RecordKind};

use crate::{
    maps::{LET_GO, WORKERS, dropped},
    offsets::{self, field},
    ring,
};

/// `void (struct task_struct *p)`, from kernel 6.16 on with `bool group_dead`, which is not needed.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit(ctx: BtfTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    // SAFETY: task is the tracepoint's argument.
    let pid: u32 = unsafe { field(task, &offsets::TASK_TGID) };
    let Some(entry) = WORKERS.get_ptr(pid) else { return 0 };
    // SAFETY: signal is a field of the task.
    let signal: *const u8 = unsafe { field(task, &offsets::TASK_SIGNAL) };
    // `do_exit` has already taken this thread off `live`.
    // SAFETY: as above.
    if signal.is_null() || unsafe { field::<i32>(signal, &offsets::SIGNAL_LIVE) } != 0 {
        return 0;
    }
    let record = Exit {
        header: ring::header(RecordKind::Exit),
        // SAFETY: a map value stays valid during the program.
        worker: unsafe { (*entry).worker },
        // SAFETY: task is the tracepoint's argument.
        start_time: unsafe { field(task, &offsets::TASK_START) },
        // SAFETY: takes nothing.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        pid,
        // SAFETY: as above.
        status: unsafe { field(task, &offsets::TASK_EXIT_CODE) },
        reserved: [0; 2],
    };
    // Absent afterwards is all that matters: two threads that die together both come here.
    let _ = WORKERS.remove(pid);
    let _ = LET_GO.remove(pid);
    if !ring::push(RecordKind::Exit, true, record) {
        dropped(|drops| &mut drops.exit);
    }
    0
}
