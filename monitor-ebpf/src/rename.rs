//! `task:task_rename`: the main thread of a process gets another name. Names of other threads are not the process's, and
//! the name that exec gives is told by `exec`.

use aya_ebpf::{
    helpers::bpf_probe_read_kernel_str_bytes, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use monitor_common::{NAME_LENGTH, RecordKind, words};

use crate::{
    changed,
    offsets::{self, field},
};

/// `void (struct task_struct *task, const char *comm)`, before the name is in the task (`__set_task_comm` in fs/exec.c,
/// kernel 6.18).
#[btf_tracepoint(function = "task_rename")]
pub fn rename(ctx: BtfTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    // SAFETY: task is the tracepoint's argument.
    let (pid, thread): (u32, u32) =
        unsafe { (field(task, &offsets::TASK_TGID), field(task, &offsets::TASK_PID)) };
    if pid != thread {
        return 0;
    }
    // During exec the new address space has no arguments yet (`begin_new_exec`), and a kernel thread has none at all.
    // SAFETY: mm is a field of the task.
    let mm: *const u8 = unsafe { field(task, &offsets::TASK_MM) };
    // SAFETY: as above.
    if mm.is_null() || unsafe { field::<u64>(mm, &offsets::MM_ARG_START) } == 0 {
        return 0;
    }
    let text: *const u8 = ctx.arg(1);
    let mut name = [0; NAME_LENGTH];
    // SAFETY: the helper reads as far as there is memory, and no further than a zero.
    if unsafe { bpf_probe_read_kernel_str_bytes(text, &mut name) }.is_err() {
        return 0;
    }
    if changed::is_wanted(pid, words(name)) {
        changed::tell(RecordKind::Rename, pid, name);
    }
    0
}
