//! Where a process is: its cgroup and the cgroups that hold it, and which patterns they match. Computed once for each
//! cgroup, however many processes are in it.

use core::fmt;
use core::ops::Range;

use serde::Serialize;

use super::Rules;
use super::pattern::{Hits, PatternKey};
use crate::prelude::*;

/// Why a cgroup that a rule matched is not made a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It holds everything.
    Root,
    /// It holds services and sessions.
    Slice,
    /// It is a login session.
    Session,
    /// It is a manager of services.
    Manager,
    /// A user other than root could have made it, with any name.
    NotRoots,
    /// A process in it is protected.
    HoldsProtected,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Root => "it is the root of all cgroups",
            Self::Slice => "it is a slice",
            Self::Session => "it is a login session",
            Self::Manager => "it is a service manager",
            Self::NotRoots => "it, or a cgroup around it, does not belong to root",
            Self::HoldsProtected => "a protected process is in it",
        })
    }
}

/// A cgroup, described for matching.
#[derive(Debug)]
pub struct Place {
    path: Box<[u8]>,
    trusted: usize,
    /// The lengths of its path and of those around it that match something, the innermost first.
    levels: Vec<(usize, Hits)>,
}

impl Rules {
    /// Describes the cgroup `path`, of which the first `trusted` bytes name cgroups that root owns, each of them. Empty:
    /// not known.
    #[must_use]
    pub fn place(&self, path: &[u8], trusted: usize) -> Place {
        let set = self.set(PatternKey::Cgroup);
        let mut levels = Vec::new();
        let mut length = path.len();
        while length > 0 {
            let hits = set.hits(&path[..length]);
            if hits.any() {
                levels.push((length, hits));
            }
            // The root holds everything, so what matches it would match all: it is itself only.
            length = path[..length].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        }
        Place { path: path.into(), trusted, levels }
    }
}

impl Place {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The innermost cgroup that one of these patterns matches: the length of its path, and the pattern.
    pub(super) fn innermost(&self, patterns: &Range<usize>) -> Option<(usize, usize)> {
        self.levels.iter().find_map(|(length, hits)| Some((*length, hits.first(patterns.clone())?)))
    }

    /// The same among the cgroups that root owns from the root of the hierarchy on.
    pub(super) fn innermost_trusted(&self, patterns: &Range<usize>) -> Option<(usize, usize)> {
        let trusted = self.levels.iter().filter(|(length, _)| *length <= self.trusted);
        trusted.into_iter().find_map(|(length, hits)| Some((*length, hits.first(patterns.clone())?)))
    }

    /// Why the cgroup with the path of this length is never killed as a whole, if so.
    pub(super) fn no_unit(&self, length: usize) -> Option<Refusal> {
        let untrusted = (length > self.trusted).then_some(Refusal::NotRoots);
        never_by_name(&self.path[..length]).or(untrusted)
    }
}

/// Why a cgroup of this path is never killed as a whole, whoever made it. Of a glob: whatever it matches is such a one.
pub(super) fn never_by_name(path: &[u8]) -> Option<Refusal> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let is = |begin: &[u8], end: &[u8]| name.starts_with(begin) && name.ends_with(end);
    if name.is_empty() {
        Some(Refusal::Root)
    } else if is(b"", b".slice") {
        Some(Refusal::Slice)
    } else if is(b"session-", b".scope") {
        Some(Refusal::Session)
    } else if is(b"user@", b".service") || name == b"init.scope" {
        Some(Refusal::Manager)
    } else {
        None
    }
}
