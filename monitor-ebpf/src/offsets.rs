//! Numbers of the running kernel, resolved from its BTF by the loader (`monitor::kernel::btf`) before the
//! programs are loaded. They lie in `.rodata`, which is frozen: the verifier sees constants.

use core::ptr;

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub(crate) static $name: $type = 0;)*
    };
}

globals! {
    /// `NR_ANON_MAPPED` of `enum node_stat_item`.
    ITEM_ANON: u32,
    /// `NR_SHMEM` of `enum node_stat_item`.
    ITEM_SHMEM: u32,
    /// `NR_PAGETABLE` of `enum node_stat_item`.
    ITEM_PAGETABLE: u32,
    /// `MM_ANONPAGES`.
    MM_ANON: u32,
    /// `MM_SHMEMPAGES`.
    MM_SHMEM: u32,
    /// Where the first is counted in a `mm_struct`.
    RSS_ANON: u32,
    /// Where the second is.
    RSS_SHMEM: u32,
    /// `mm_struct.owner`.
    MM_OWNER: u32,
    /// `task_struct.mm`.
    TASK_MM: u32,
    /// `task_struct.cgroups`.
    TASK_CGROUPS: u32,
    /// `css_set.subsys[memory_cgrp_id]`.
    CSS_SET_MEMORY: u32,
    /// `mem_cgroup.css`.
    MEMCG_CSS: u32,
    /// `mem_cgroup.memory`.
    MEMCG_MEMORY: u32,
    /// `page_counter.usage`.
    COUNTER_USAGE: u32,
    /// `page_counter.parent`.
    COUNTER_PARENT: u32,
    /// `cgroup.subsys[memory_cgrp_id]`.
    CGROUP_MEMORY: u32,
    /// `cgroup_subsys_state.serial_nr`.
    CSS_SERIAL: u32,
    /// `cgroup_subsys_state.cgroup`.
    CSS_CGROUP: u32,
    /// `cgroup_subsys_state.parent`.
    CSS_PARENT: u32,
    /// `cgroup.kn`.
    CGROUP_KN: u32,
    /// `kernfs_node.id`.
    KN_ID: u32,
    /// `task_struct.pid`.
    TASK_PID: u32,
    /// `task_struct.tgid`.
    TASK_TGID: u32,
    /// `task_struct.signal`.
    TASK_SIGNAL: u32,
    /// `task_struct.exit_code`.
    TASK_EXIT_CODE: u32,
    /// `task_struct.start_boottime`.
    TASK_START: u32,
    /// `signal_struct.live`.
    SIGNAL_LIVE: u32,
    /// `task_struct.comm`.
    TASK_COMM: u32,
    /// `mm_struct.arg_start`.
    MM_ARG_START: u32,
    /// How many arguments the tracepoint `mark_victim` has.
    MARK_VICTIM_ARGUMENTS: u32,
}

/// The value of a global as the loader set it; the compiler must not take the 0 for it.
#[inline(always)]
pub(crate) fn get(global: &'static u32) -> usize {
    // SAFETY: a reference is valid for reads.
    (unsafe { ptr::read_volatile(global) }) as usize
}

/// The field of type `T` at `offset` of a kernel object that the verifier knows (a BTF pointer).
///
/// A pointer that can be null must be compared before: where the address is bad the kernel should read zero, but one
/// without commit 0108a4e9f358 ("bpf: ensure main program has an extable", 6.4; Debian's 5.10 has no copy of it) dies of that
/// in a program of several functions, as these are.
///
/// # Safety
/// `object` must come from the tracepoint's arguments or from a field read by this function, not be null, and `offset`
/// must be that of a `T`.
#[inline(always)]
pub(crate) unsafe fn field<T: Copy>(object: *const u8, offset: &'static u32) -> T {
    // SAFETY: by the contract; loads through BTF pointers have a fault handler (kernel/bpf/verifier.c).
    unsafe { ptr::read_volatile(object.add(get(offset)).cast::<T>()) }
}
