//! How the process's file descriptors are shared out, so that all that users can make the agent open fits together:
//! connections of the socket, descriptors of workers' processes, and the agent's own files. Pure but for [`Shares::now`].

use monitor_common::MAX_WORKER_PROCESSES;
use rustix::process::{Resource, getrlimit};

use crate::control::server::Limits;

/// The agent's own: files of 64 domains, maps and programs, journal, timers, connections that are just closing.
const OWN: u64 = 1024;
/// The least for these; with fewer nothing works.
const OWN_LEAST: u64 = 128;

/// The shares of a limit on descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Connections of the socket.
    pub(super) connections: usize,
    /// Processes of workers whose descriptors are kept.
    pub(super) processes: usize,
}

impl Shares {
    /// What the agent asks for: one for each process that the kernel side follows.
    pub(super) fn wanted() -> u64 {
        u64::from(MAX_WORKER_PROCESSES) + Limits::default().connections as u64 + OWN
    }

    /// The shares under this limit; `None` is no limit.
    pub(super) fn of(limit: Option<u64>) -> Self {
        let limit = limit.map_or_else(Self::wanted, |limit| limit.min(Self::wanted()));
        let small = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let most = Limits::default().connections as u64;
        // All in proportion, except that the agent's own files do not get fewer with the limit.
        let own = (limit / 16).clamp(OWN_LEAST, OWN);
        let left = limit.saturating_sub(own);
        let connections = (left / 5).min(most);
        Self { connections: small(connections), processes: small(left - connections) }
    }

    /// The shares of this process as it is limited now.
    pub(super) fn now() -> Self {
        Self::of(getrlimit(Resource::Nofile).current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_limit_is_the_shares_fit_into_it() {
        for limit in (0..60_000).step_by(7).map(Some).chain([Some(u64::MAX), None]) {
            let Shares { connections, processes } = Shares::of(limit);
            let sum = (connections + processes) as u64;
            let most = limit.map_or_else(Shares::wanted, |limit| limit.min(Shares::wanted()));
            assert!(sum + OWN_LEAST.min(most) <= most, "{limit:?}: {connections} and {processes}");
        }
        let all = Shares::of(None);
        assert_eq!(all.connections, 4096);
        assert_eq!(all.processes, MAX_WORKER_PROCESSES as usize);
    }
}
