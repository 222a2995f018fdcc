//! The globals of the kernel programs (`monitor-ebpf/src/offsets.rs`) and where each comes from in BTF. One
//! table; the loader and `doctor` read it.

use super::btf::{Btf, BtfError};
use super::hook::Hook;

/// What a global stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// An enumerator's value.
    Enumerator(&'static str),
    /// A field's offset in bytes.
    Offset(&'static str),
    /// The offset of the element that an enumerator names in an array of pointers.
    Element(&'static str, &'static str),
    /// Where a `mm_struct` counts the pages of the kind that an enumerator names.
    Rss(&'static str),
    /// How many arguments a tracepoint has.
    Arguments(&'static str),
}

use Hook::{CgroupAttach, Charge, Exec, Exit, Lineage, MarkVictim, Memcg, Rename, RssStat};
use Number::{Arguments, Element, Enumerator, Offset, Rss};

/// Each global, the hook that needs it, and where it comes from.
pub const NUMBERS: [(&str, &[Hook], Number); 30] = [
    ("ITEM_ANON", &[Memcg], Enumerator("NR_ANON_MAPPED")),
    ("ITEM_SHMEM", &[Memcg], Enumerator("NR_SHMEM")),
    ("ITEM_PAGETABLE", &[Memcg], Enumerator("NR_PAGETABLE")),
    ("MM_ANON", &[RssStat], Enumerator("MM_ANONPAGES")),
    ("MM_SHMEM", &[RssStat], Enumerator("MM_SHMEMPAGES")),
    ("RSS_ANON", &[RssStat], Rss("MM_ANONPAGES")),
    ("RSS_SHMEM", &[RssStat], Rss("MM_SHMEMPAGES")),
    ("MM_OWNER", &[RssStat], Offset("mm_struct.owner")),
    ("TASK_MM", &[RssStat, Rename], Offset("task_struct.mm")),
    ("TASK_CGROUPS", &[RssStat], Offset("task_struct.cgroups")),
    ("CSS_SET_MEMORY", &[RssStat], Element("css_set.subsys", "memory_cgrp_id")),
    ("MEMCG_CSS", &[Memcg, Charge], Offset("mem_cgroup.css")),
    ("MEMCG_MEMORY", &[Charge], Offset("mem_cgroup.memory")),
    ("COUNTER_USAGE", &[Charge], Offset("page_counter.usage")),
    ("COUNTER_PARENT", &[Charge], Offset("page_counter.parent")),
    ("CGROUP_MEMORY", &[Charge], Element("cgroup.subsys", "memory_cgrp_id")),
    ("CSS_SERIAL", &[Memcg, RssStat, Charge], Offset("cgroup_subsys_state.serial_nr")),
    ("CSS_CGROUP", &[Memcg, RssStat, Charge], Offset("cgroup_subsys_state.cgroup")),
    ("CSS_PARENT", &[Memcg, RssStat], Offset("cgroup_subsys_state.parent")),
    ("CGROUP_KN", &[Memcg, RssStat, Charge], Offset("cgroup.kn")),
    ("KN_ID", &[Memcg, RssStat, Charge], Offset("kernfs_node.id")),
    ("TASK_PID", &[Lineage, Rename], Offset("task_struct.pid")),
    ("TASK_TGID", &[Exit, Lineage, MarkVictim, Exec, Rename, CgroupAttach], Offset("task_struct.tgid")),
    ("TASK_SIGNAL", &[Exit], Offset("task_struct.signal")),
    ("TASK_EXIT_CODE", &[Exit], Offset("task_struct.exit_code")),
    ("TASK_START", &[Exit, Lineage], Offset("task_struct.start_boottime")),
    ("SIGNAL_LIVE", &[Exit], Offset("signal_struct.live")),
    ("TASK_COMM", &[Exec, CgroupAttach], Offset("task_struct.comm")),
    ("MM_ARG_START", &[Rename], Offset("mm_struct.arg_start")),
    ("MARK_VICTIM_ARGUMENTS", &[MarkVictim], Arguments("mark_victim")),
];

/// The size of a pointer and of an `atomic_long_t` on the 64-bit machines that we know.
const WORD: u32 = 8;

impl Number {
    /// Its value in this kernel.
    ///
    /// # Errors
    /// If this kernel has none.
    pub fn resolve(self, btf: &Btf) -> Result<u32, BtfError> {
        match self {
            Self::Enumerator(name) => btf.enumerator(name),
            Self::Offset(path) => btf.offset(path),
            Self::Element(array, index) => Ok(btf.offset(array)? + WORD * btf.enumerator(index)?),
            Self::Rss(member) => rss(btf, btf.enumerator(member)?),
            Self::Arguments(tracepoint) => btf.arguments(tracepoint),
        }
    }
}

/// Where `struct percpu_counter rss_stat[]` has it (include/linux/mm_types.h); 0 up to kernel 6.1, where it is
/// `struct mm_rss_stat { atomic_long_t count[] }` (mm_types_task.h) and the tracepoint gives the count.
fn rss(btf: &Btf, member: u32) -> Result<u32, BtfError> {
    if btf.offset("mm_struct.rss_stat.count").is_ok() {
        return Ok(0);
    }
    let counters = btf.offset("mm_struct.rss_stat")? + btf.offset("percpu_counter.count")?;
    Ok(counters + btf.size("percpu_counter")? * member)
}
