//! `cgroup:cgroup_rmdir`: a cgroup was removed; another may have its path next. Counted, as in `cgroup_mkdir`.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::cgroup_mkdir::count;

/// `void (struct cgroup *cgrp, const char *path)`.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(_: BtfTracePointContext) -> i32 {
    count();
    0
}
