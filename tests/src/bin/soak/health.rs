//! What the agent itself takes: memory and descriptors, as /proc shows them.

use std::fs;

use anyhow::{Context, Result};

/// A look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// Resident memory that is its own, in KiB: neither files nor the maps it shares with the kernel.
    pub(crate) rss_kib: u64,
    /// Open descriptors.
    pub(crate) fds: usize,
    /// How many workers were killed by then.
    pub(crate) killed: u64,
}

impl Health {
    /// # Errors
    /// It is gone.
    pub(crate) fn of(pid: u32, killed: u64) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).context(path)?;
        let rss = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let rss_kib = rss.and_then(|rss| rss.trim().strip_suffix(" kB")).context("no RssAnon")?.parse()?;
        Ok(Self { rss_kib, fds: fs::read_dir(format!("/proc/{pid}/fd"))?.count(), killed })
    }
}

/// What is wrong with `later` if nothing but time lies between both. Kills are no excuse: what is kept of them is a
/// KiB of each, of the last 256.
pub(crate) fn grown(what: &str, earlier: Health, later: Health) -> Vec<String> {
    /// Those records, and what the allocator takes without need.
    const MOST_KIB: u64 = 4 << 10;
    /// The deputy's own reader of the domain; and for a moment: a file that is read, a caller that asks, whom the deputy
    /// was given.
    const MOST_FDS: usize = 8;
    let mut findings = Vec::new();
    if later.rss_kib > earlier.rss_kib + MOST_KIB {
        let kills = later.killed.saturating_sub(earlier.killed);
        findings.push(format!(
            "the agent had {} KiB {what} and has {} KiB, {kills} kills later",
            earlier.rss_kib, later.rss_kib
        ));
    }
    if later.fds > earlier.fds + MOST_FDS {
        findings.push(format!("the agent had {} descriptors {what} and has {}", earlier.fds, later.fds));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_found_and_noise_is_not() {
        let health = |rss_kib, fds, killed| Health { rss_kib, fds, killed };
        assert!(grown("then", health(9000, 20, 5), health(9500, 21, 5)).is_empty());
        assert_eq!(grown("then", health(9000, 20, 5), health(29_000, 40, 5)).len(), 2);
        assert_eq!(
            grown("then", health(9000, 20, 0), health(13_097, 20, 9000)).len(),
            1,
            "kills are no excuse"
        );
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let health = Health::of(std::process::id(), 0).unwrap();
        assert!(health.rss_kib > 0 && health.fds > 2, "{health:?}");
        assert!(Health::of(0, 0).is_err());
    }
}
