//! Authoritative readings of memory that can run out (docs/behavior.md#accounting): the node, and cgroups with a limit.
//!
//! Owns: reading the kernel's files, and saying for each domain its total, its used bytes, or why they are
//! unknown. Must not: decide anything (thresholds and policies are elsewhere), cache a value from one reading
//! to the next, or turn something unknown into a number.
//!
//! The hot path is [`DomainReader::read`]: kept-open file descriptors, `pread` into a fixed buffer, no heap
//! allocation and no path lookup. [`users`] and [`process`] are cold paths, for reports.

pub mod domain;
pub mod error;
mod file;
#[cfg(test)]
mod fixture;
pub mod hierarchy;
pub(crate) mod kept;
pub mod limit;
mod meminfo;
pub mod own;
mod parse;
pub mod path;
pub mod process;
pub mod users;
mod v1;
mod v2;

use serde::Serialize;

use crate::units::Bytes;

pub use domain::DomainReader;
pub use error::{Defect, ReadError};
pub use hierarchy::{CgroupId, Hierarchy, Version};
pub use path::CgroupPath;

/// Which files a reading came from. Serialized as `meminfo`, `cgroup_v1`, `cgroup_v2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `/proc/meminfo`.
    Meminfo,
    /// `memory.limit_in_bytes` and its neighbors.
    CgroupV1,
    /// `memory.max` and its neighbors.
    CgroupV2,
}

impl Source {
    /// The name used in output: `meminfo`, `cgroup_v1` or `cgroup_v2`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meminfo => "meminfo",
            Self::CgroupV1 => "cgroup_v1",
            Self::CgroupV2 => "cgroup_v2",
        }
    }
}

/// A domain's memory at one moment (docs/behavior.md#accounting). Invariant: `used <= total` and `total > 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The limit in bytes; swap included if it is counted.
    pub total: Bytes,
    /// Bytes that cannot be had back by dropping page cache; swap included if it is counted.
    pub used: Bytes,
    /// Where both come from.
    pub source: Source,
    /// Huge pages that are reserved on the node, which both leave out; 0 for a cgroup.
    pub huge_pages: Bytes,
}

impl Reading {
    /// docs/behavior.md#accounting: used at or above the limit reads as the limit (the kernel lets usage overshoot for
    /// a moment).
    pub(crate) fn new(total: Bytes, used: Bytes, source: Source) -> Self {
        Self { total, used: used.min(total), source, huge_pages: Bytes(0) }
    }
}

/// What a domain's files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It has a limit: it is a domain.
    Limited(Reading),
    /// A cgroup without a limit: at this moment not a domain. A limit set later shows in the next reading.
    NoLimit {
        /// Bytes used, by the same rule.
        used: Bytes,
        /// Where it comes from.
        source: Source,
    },
}

/// A limit as a cgroup file states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// So many bytes, never 0.
    At(Bytes),
    /// `max`, 0, or v1's largest number (docs/behavior.md#accounting).
    Unlimited,
}

/// The directories that everything is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The proc file system, usually `/proc`.
    pub procfs: std::path::PathBuf,
    /// Where the cgroup file systems are mounted, usually `/sys/fs/cgroup`.
    pub cgroupfs: std::path::PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { procfs: "/proc".into(), cgroupfs: "/sys/fs/cgroup".into() }
    }
}
