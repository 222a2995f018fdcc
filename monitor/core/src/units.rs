//! Newtypes for quantities and identities. Arithmetic that makes sense for the quantity and nothing else;
//! no I/O, no clocks.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::prelude::*;

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `self - other`, not below zero (docs/behavior.md#accounting: used is never negative).
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self + other`, not above `u64::MAX`.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// `self` moved by a signed number of bytes, held inside `0..=u64::MAX`.
    #[must_use]
    pub fn saturating_add_signed(self, delta: i64) -> Self {
        Self(self.0.saturating_add_signed(delta))
    }
}

impl fmt::Display for Bytes {
    /// Binary units with one decimal: `312.5 MiB`; below 1 KiB plain: `512 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in UNITS {
            if self.0 >> shift > 0 {
                // Tenths in integers: no float rounding surprises in snapshots.
                let tenths = (u128::from(self.0) * 10) >> shift;
                return f.pad(&format!("{}.{} {unit}", tenths / 10, tenths % 10));
            }
        }
        f.pad(&format!("{} B", self.0))
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns` too: the one time line of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Nanoseconds in a millisecond.
    pub const PER_MS: u64 = 1_000_000;

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> core::time::Duration {
        core::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved forward.
    #[must_use]
    pub fn after(self, duration: core::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A number of bytes with its sign, for growth.
#[must_use]
pub fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { '-' } else { '+' };
    alloc::format!("{sign}{}", Bytes(bytes.unsigned_abs()))
}

/// A process id as the agent's pid namespace sees it (a thread-group id, never a thread's). Alone it is no
/// identity: see `kill::Process`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a number of bytes was measured as (docs/behavior.md#accounting).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// Used memory of the worker's own cgroup.
    Cgroup,
    /// Proportional set size: shared pages divided among those that share them.
    Pss,
    /// Resident set size: shared pages counted whole, because PSS could not be read for all.
    Rss,
    /// What was last measured in one of these ways, and by how much private memory grew since.
    Estimate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_binary_units_with_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (327_680_000, "312.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
