//! What the agent itself takes, as /proc shows it: memory, descriptors, threads. Looks, and judges one look; what
//! becomes of it over time is [`super::flat`]'s.

use std::fs;

use anyhow::{Context, Result};

/// A look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// Resident memory that is its own, in KiB: neither files nor the maps it shares with the kernel.
    pub(crate) rss_kib: u64,
    /// Open descriptors.
    pub(crate) fds: usize,
    pub(crate) threads: usize,
}

impl Health {
    /// # Errors
    /// It is gone.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).context(path)?;
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let rss_kib =
            value("RssAnon:").and_then(|rss| rss.strip_suffix(" kB")).context("no RssAnon")?.parse()?;
        let threads = value("Threads:").context("no Threads")?.parse()?;
        Ok(Self { rss_kib, fds: fs::read_dir(format!("/proc/{pid}/fd"))?.count(), threads })
    }

    /// What is wrong with it, `idle` being the same agent before its first worker.
    pub(crate) fn wrongs(self, idle: Self) -> Vec<String> {
        /// 256 records and 32 reports of some KiB each, a few workers, and the threads' stacks and caches.
        const MOST_KIB: u64 = 4 << 10;
        /// The loop's, the watchdog's, those that write the log and the journal and take memory, four that wait for
        /// files, and room for one or two more.
        const MOST_THREADS: usize = 11;
        let mut wrongs = Vec::new();
        if self.rss_kib > idle.rss_kib + MOST_KIB {
            wrongs.push(format!(
                "the agent has {} KiB of memory, and had {} before its first worker",
                self.rss_kib, idle.rss_kib
            ));
        }
        if self.threads > MOST_THREADS {
            wrongs.push(format!("the agent has {} threads", self.threads));
        }
        wrongs
    }

    /// What is wrong with it when there is no worker any more.
    pub(crate) fn left_open(self, idle: Self) -> Option<String> {
        /// The watchdog's own reader of the domain; and for a moment: a file that is read, a caller that asks, the
        /// workers that the watchdog was given.
        const MOST_FDS: usize = 8;
        (self.fds > idle.fds + MOST_FDS).then(|| {
            format!(
                "the agent had {} descriptors before its first worker and has {} after all",
                idle.fds, self.fds
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_found_and_noise_is_not() {
        let health = |rss_kib, fds, threads| Health { rss_kib, fds, threads };
        let idle = health(2500, 20, 6);
        assert!(health(4000, 90, 10).wrongs(idle).is_empty(), "workers have descriptors");
        assert_eq!(health(9000, 20, 40).wrongs(idle).len(), 2);
        assert_eq!(
            (health(9, 21, 6).left_open(idle), health(9, 90, 6).left_open(idle).is_some()),
            (None, true)
        );
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let health = Health::of(std::process::id()).unwrap();
        assert!(health.rss_kib > 0 && health.fds > 2 && health.threads > 0, "{health:?}");
        assert!(Health::of(0).is_err());
    }
}
