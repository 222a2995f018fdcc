//! How the daemon's allocator keeps free memory: as little as it can. What it keeps is locked like everything else
//! (`survival::lock`), on a node that has none to spare.

use std::time::Duration;

use crate::units::Nanos;

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

/// Meanwhile memory is not locked, and a user must not choose how often that is: workers that come and go again and
/// again wait.
const PAUSE: Duration = Duration::from_secs(600);

/// Whether most of many workers have gone. What was kept of them lies free between what is still used, where the
/// allocator does not give it back by itself.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// The most workers since free memory was last given back.
    most: usize,
    /// How many there were the last time: while they go, the next ones leave as much again.
    last: usize,
    given_back: Option<Nanos>,
}

impl Crowd {
    /// With so many workers now: whether to give free memory back. Whether it is calm is asked only then: it takes time.
    pub(super) fn has_gone(&mut self, workers: usize, now: Nanos, calm: impl FnOnce() -> bool) -> bool {
        self.most = self.most.max(workers);
        let pause = self.given_back.is_some_and(|at| now.since(at) < PAUSE);
        let settled = std::mem::replace(&mut self.last, workers) == workers;
        let gone = settled && self.most >= MANY && workers <= self.most / 2 && !pause && calm();
        if gone {
            (self.most, self.given_back) = (workers, Some(now));
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
        let time = |second: u64| Nanos(second * 1000 * Nanos::PER_MS);
        let mut at = |second: u64, now: usize| crowd.has_gone(now, time(second), || true);
        let few = [0, 999, 0].map(|now| at(0, now));
        let many = [10_000, 10_000, 5_001, 5_001, 5_000, 4_000, 4_000].map(|now| at(1, now));
        assert_eq!((few, many), ([false; 3], [false, false, false, false, false, false, true]));
        assert_eq!([at(2, 1_500), at(600, 1_500)], [false; 2], "not again so soon");
        assert_eq!([at(602, 1_500), at(1300, 500), at(1301, 500)], [true, false, true]);
        assert!(!at(2000, 400) && !at(2001, 400), "few are no crowd");
        assert!(!at(2002, 3_000) && !at(2003, 0));
        assert!(!crowd.has_gone(0, time(2004), || false) && crowd.has_gone(0, time(2005), || true), "later");
    }
}
