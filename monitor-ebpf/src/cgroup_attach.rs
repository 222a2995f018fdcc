//! `cgroup:cgroup_attach_task`: a process is in another cgroup, of any hierarchy. Whatever its name is: a rule may go by the
//! cgroup alone.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_common::RecordKind;

use crate::{
    changed,
    offsets::{self, field},
};

/// `void (struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`; the task is the
/// process's first thread if all of it is moved (`cgroup_attach_task` in kernel/cgroup/cgroup.c, kernel 6.18).
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach(ctx: BtfTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(2);
    // SAFETY: task is the tracepoint's argument.
    let (pid, name) = unsafe { (field(task, &offsets::TASK_TGID), field(task, &offsets::TASK_COMM)) };
    changed::tell(RecordKind::Moved, pid, name);
    0
}
