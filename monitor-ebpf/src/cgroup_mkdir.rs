//! `cgroup:cgroup_mkdir`: a cgroup was made. Nobody is in it yet, so nobody is woken for it: it is counted, and what the
//! agent remembers of cgroups by their paths is asked anew.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use monitor_common::NODE_CELL;

use crate::{account::add_to, maps::CELLS};

/// `void (struct cgroup *cgrp, const char *path)`.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(_: BtfTracePointContext) -> i32 {
    count();
    0
}

/// One more cgroup was made or removed.
#[inline(always)]
pub(crate) fn count() {
    if let Some(node) = CELLS.get_ptr_mut(NODE_CELL) {
        // SAFETY: the field is aligned and lives as long as the map.
        add_to(unsafe { &raw mut (*node).cgroups }, 1);
    }
}
