//! How the daemon's allocator keeps free memory: as little as it can. What it keeps is locked like everything else
//! (`survival::lock`), on a node that has none to spare. It must not be called when there are threads already.

/// Free memory at the end of the heap that is kept for what comes next, and the size from which a block is the kernel's
/// own (and goes back to it when it is freed), in bytes. An answer with all kills is larger, what is kept of one kill
/// is not.
#[cfg(target_env = "gnu")]
const SPARE: libc::c_int = 64 << 10;

/// One heap for all threads, which shrinks. glibc gives each thread a heap of its own: memory that is handed from one
/// thread to another comes back to the first's, where it is not used again, and such a heap is only given back by
/// `MADV_DONTNEED`, which the kernel refuses for locked memory. What it costs, that threads wait for each other while
/// one of them allocates, is not paid between a crossing and its signal: nothing is allocated there.
///
/// Other libraries' allocators are left as they are. A refusal changes nothing but the memory that is taken.
pub fn bound() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, SPARE),
        (libc::M_TRIM_THRESHOLD, 2 * SPARE),
        (libc::M_TOP_PAD, SPARE),
    ] {
        // SAFETY: sets numbers of the allocator under its own lock; touches nothing that is in use.
        if unsafe { libc::mallopt(parameter, value) } == 0 {
            tracing::debug!(parameter, value, "the allocator refuses");
        }
    }
}
