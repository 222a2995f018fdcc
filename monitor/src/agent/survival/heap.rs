//! How the daemon's allocator keeps free memory: as little as it can. What it keeps is locked like everything else
//! (`survival::lock`), on a node that has none to spare.

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
/// Other libraries' allocators are left as they are. A refusal changes nothing but the memory that is taken. It must not be
/// called when there are threads already.
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

/// Fewer workers leave little free memory behind.
const MANY: usize = 1000;

/// Whether most of many workers have gone. What was kept of them lies free between what is still used, where the
/// allocator does not give it back by itself.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// The most workers since free memory was last given back.
    most: usize,
}

impl Crowd {
    /// With so many workers now: whether to give free memory back.
    pub(super) fn has_gone(&mut self, workers: usize) -> bool {
        self.most = self.most.max(workers);
        let gone = self.most >= MANY && workers <= self.most / 2;
        if gone {
            self.most = workers;
        }
        gone
    }
}

/// Gives the allocator's free memory back to the kernel. Takes milliseconds, in which other threads cannot allocate.
pub(super) fn give_back() {
    // SAFETY: gives free memory of the allocator back; touches nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_has_gone_when_half_of_it_has_and_few_are_no_crowd() {
        let mut crowd = Crowd::default();
        let gone =
            [0, 999, 0, 10_000, 5_001, 5_000, 4_999, 2_500, 1_250, 625, 0].map(|now| crowd.has_gone(now));
        assert_eq!(gone, [false, false, false, false, false, true, false, true, true, true, false]);
    }
}
