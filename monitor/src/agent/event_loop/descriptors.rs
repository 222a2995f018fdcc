//! How the process's file descriptors are shared out, so that all that users can make the agent open fits together:
//! connections of the socket, descriptors of workers' processes, files of the cgroups around them, and the agent's own.
//! Pure but for [`Shares::now`].

use monitor_common::{MAX_CELLS, MAX_WORKER_PROCESSES};
use rustix::process::{Resource, getrlimit};

use crate::control::server::Limits;

/// The agent's own: files of the domains that an operator names, maps and programs, journal, timers, connections that are just closing.
const OWN: u64 = 1024;
/// The least for these; with fewer nothing works.
const OWN_LEAST: u64 = 128;

/// A domain's: its folder and three files, for the loop and again for its watchdog, which must not wait for a file that the
/// loop is reading.
const A_DOMAIN: u64 = 8;
/// Domains that the configuration does not name: as many as the kernel side can count.
const MOST_DOMAINS: u64 = MAX_CELLS as u64;
/// A look at whether a cgroup has a limit: its folder and a file.
const A_LIMIT: u64 = 2;
/// Cgroups for which these are kept.
const MOST_LIMITS: u64 = 1024;

/// The shares of a limit on descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent) struct Shares {
    /// Connections of the socket.
    pub(in crate::agent) connections: usize,
    /// Descriptors that are kept of workers' processes.
    pub(in crate::agent) processes: usize,
    /// Domains that are guarded because a worker is in them.
    pub(in crate::agent) domains: usize,
    /// Cgroups with a descriptor kept for checking the limit.
    pub(in crate::agent) limits: usize,
}

impl Shares {
    /// What the agent asks for: one for each process that the kernel side follows.
    pub(in crate::agent) fn wanted() -> u64 {
        let around = MOST_DOMAINS * A_DOMAIN + MOST_LIMITS * A_LIMIT;
        u64::from(MAX_WORKER_PROCESSES) + Limits::default().connections as u64 + around + OWN
    }

    /// The shares under this limit; `None` is no limit.
    pub(in crate::agent) fn of(limit: Option<u64>) -> Self {
        let limit = limit.map_or_else(Self::wanted, |limit| limit.min(Self::wanted()));
        let small = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let most = Limits::default().connections as u64;
        // All in proportion, except that the agent's own files do not get fewer with the limit.
        let own = (limit / 16).clamp(OWN_LEAST, OWN);
        let left = limit.saturating_sub(own);
        let connections = (left / 5).min(most);
        let domains = (left / 6 / A_DOMAIN).min(MOST_DOMAINS);
        let limits = (left / 12 / A_LIMIT).min(MOST_LIMITS);
        let beside = |domains: u64| left - connections - domains * A_DOMAIN - limits * A_LIMIT;
        // More than one for each process is of no use.
        let spare = beside(domains).saturating_sub(u64::from(MAX_WORKER_PROCESSES));
        let domains = (domains + spare / A_DOMAIN).min(MOST_DOMAINS);
        let processes = beside(domains);
        Self {
            connections: small(connections),
            processes: small(processes),
            domains: small(domains),
            limits: small(limits),
        }
    }

    /// The shares of this process as it is limited now.
    pub(in crate::agent) fn now() -> Self {
        Self::of(getrlimit(Resource::Nofile).current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_limit_is_the_shares_fit_into_it() {
        for limit in (0..60_000).step_by(7).map(Some).chain([Some(u64::MAX), None]) {
            let Shares { connections, processes, domains, limits } = Shares::of(limit);
            let sum = (connections + processes) as u64 + domains as u64 * A_DOMAIN + limits as u64 * A_LIMIT;
            let most = limit.map_or_else(Shares::wanted, |limit| limit.min(Shares::wanted()));
            assert!(sum + OWN_LEAST.min(most) <= most, "{limit:?}: {connections} and {processes}");
        }
        let all = Shares::of(None);
        assert_eq!((all.connections, all.domains, all.limits), (4096, 1024, 1024));
        assert_eq!(all.processes, MAX_WORKER_PROCESSES as usize);
    }
}
