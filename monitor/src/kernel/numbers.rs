//! The globals of the kernel programs (`monitor-ebpf/src/offsets.rs`) and where each comes from in BTF. One
//! table; the loader and `doctor` read it.

use super::btf::{Btf, BtfError};

/// What a global stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// An enumerator's value.
    Enumerator(&'static str),
    /// A field's offset in bytes.
    Offset(&'static str),
}

/// The kernel programs, one for each hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Memory charged to cgroups and given back, and the brake.
    Usage,
    /// Deaths of workers' processes.
    Exit,
    /// Children of workers' processes.
    Lineage,
}

use Hook::{Exit, Lineage, Usage};
use Number::{Enumerator, Offset};

impl Hook {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Usage, Self::Exit, Self::Lineage];

    /// The program's name in the object.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Exit => "exit",
            Self::Lineage => "lineage",
        }
    }

    /// The tracepoint as `/sys/kernel/tracing/events` has it.
    #[must_use]
    pub fn tracepoint(self) -> (&'static str, &'static str) {
        match self {
            Self::Usage => ("memcg", "mod_memcg_lruvec_state"),
            Self::Exit => ("sched", "sched_process_exit"),
            Self::Lineage => ("sched", "sched_process_fork"),
        }
    }

    /// What works without it.
    #[must_use]
    pub fn fallback(self) -> &'static str {
        match self {
            Self::Usage => "usage is read every refresh_ms only (polling), and there is no brake",
            Self::Exit => "deaths are seen through pidfds only, some microseconds later",
            Self::Lineage => "the descendants of workers are looked up in /proc at each tick",
        }
    }
}

/// Each global, the hook that needs it, and where it comes from.
pub const NUMBERS: [(&str, &[Hook], Number); 16] = [
    ("ITEM_ANON", &[Usage], Enumerator("NR_ANON_MAPPED")),
    ("ITEM_SHMEM", &[Usage], Enumerator("NR_SHMEM")),
    ("ITEM_PAGETABLE", &[Usage], Enumerator("NR_PAGETABLE")),
    ("MEMCG_CGROUP", &[Usage], Offset("mem_cgroup.css.cgroup")),
    ("MEMCG_SERIAL", &[Usage], Offset("mem_cgroup.css.serial_nr")),
    ("MEMCG_PARENT", &[Usage], Offset("mem_cgroup.css.parent")),
    ("CSS_CGROUP", &[Usage], Offset("cgroup_subsys_state.cgroup")),
    ("CSS_PARENT", &[Usage], Offset("cgroup_subsys_state.parent")),
    ("CGROUP_KN", &[Usage], Offset("cgroup.kn")),
    ("KN_ID", &[Usage], Offset("kernfs_node.id")),
    ("TASK_PID", &[Lineage], Offset("task_struct.pid")),
    ("TASK_TGID", &[Exit, Lineage], Offset("task_struct.tgid")),
    ("TASK_SIGNAL", &[Exit], Offset("task_struct.signal")),
    ("TASK_EXIT_CODE", &[Exit], Offset("task_struct.exit_code")),
    ("TASK_START", &[Exit, Lineage], Offset("task_struct.start_boottime")),
    ("SIGNAL_LIVE", &[Exit], Offset("signal_struct.live")),
];

impl Number {
    /// Its value in this kernel.
    ///
    /// # Errors
    /// If this kernel has none.
    pub fn resolve(self, btf: &Btf) -> Result<u32, BtfError> {
        match self {
            Self::Enumerator(name) => btf.enumerator(name),
            Self::Offset(path) => btf.offset(path),
        }
    }
}
