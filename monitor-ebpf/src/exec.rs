//! `sched:sched_process_exec`: a process executes a program. It fires when the new program is in place, before its first
//! instruction (`exec_binprm` in fs/exec.c, kernel 6.18).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_common::{NAME_LENGTH, RecordKind, words};

use crate::{
    changed,
    offsets::{self, field},
};

/// `void (struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec(ctx: BtfTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    // SAFETY: task is the tracepoint's argument.
    let (pid, name): (u32, [u8; NAME_LENGTH]) =
        unsafe { (field(task, &offsets::TASK_TGID), field(task, &offsets::TASK_COMM)) };
    if changed::is_wanted(pid, words(name)) {
        changed::tell(RecordKind::Exec, pid, name);
    }
    0
}
