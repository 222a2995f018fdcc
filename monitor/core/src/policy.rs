//! Which worker is killed, and why (docs/behavior.md#policies). A [`Roster`] keeps the candidates of one domain in the
//! order of one [`Policy`], so that a decision looks at the front and sorts nothing.
//!
//! Pure: no I/O, no clock, no threads. Whether to act at all (over the threshold, no kill in flight) is for the
//! caller to decide.

mod groups;
mod min_victim;
mod ordering;
mod roster;
#[cfg(test)]
mod tests;
mod why;

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::min_victim::{MinVictimMemory, ParseMinVictimError};
pub use self::roster::Roster;
pub use self::why::{End, Why};
use crate::prelude::*;
use crate::units::Bytes;
use crate::worker::WorkerId;

/// The names of the policies, as in the configuration and in snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// The newest worker of the largest group of retriable workers with one owner.
    #[default]
    GroupByOwner,
    /// Retriable first, then newest first.
    RetriableLifo,
    /// Retriable first, then oldest first.
    RetriableFifo,
    /// Idle first, then retriable, newest first; as many as bring the domain back.
    ByTime,
    /// Retriable first, then the one furthest above what it declared.
    ByMemory,
}

impl PolicyName {
    /// All of them, the default first.
    pub const ALL: [Self; 5] =
        [Self::GroupByOwner, Self::RetriableLifo, Self::RetriableFifo, Self::ByTime, Self::ByMemory];

    /// The name as written: `group_by_owner`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GroupByOwner => "group_by_owner",
            Self::RetriableLifo => "retriable_lifo",
            Self::RetriableFifo => "retriable_fifo",
            Self::ByTime => "by_time",
            Self::ByMemory => "by_memory",
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What was given is not the name of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no policy: expected group_by_owner, retriable_lifo, retriable_fifo, by_time or by_memory")]
pub struct ParsePolicyError(String);

impl FromStr for PolicyName {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| ParsePolicyError(text.chars().take(40).collect()))
    }
}

/// Which of two equally large groups goes first (docs/behavior.md#differences-from-ray).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerTieBreak {
    /// The group that began later, so that the older caller makes progress.
    #[default]
    Newest,
    /// The group that began earlier: the other reading of the documentation.
    Oldest,
}

/// What can be set about policies; each policy uses what concerns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// `group_by_owner`: see [`OwnerTieBreak`].
    pub owner_tie_break: OwnerTieBreak,
    /// `by_time`: how far below the threshold a kill aims; `None`: min(5% of total, 3 GiB).
    pub kill_buffer: Option<Bytes>,
    /// `by_time`: from this size on an idle worker that never ran anything is a candidate.
    pub idle_threshold: Bytes,
}

impl Default for Options {
    fn default() -> Self {
        Self { owner_tie_break: OwnerTieBreak::Newest, kill_buffer: None, idle_threshold: Bytes(1 << 30) }
    }
}

/// The rule by which victims are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Groups: retriable workers by owner, all non-retriable ones together. Retriable groups first, the larger
    /// first; within one the newest worker. The last worker of a group is not to be retried.
    GroupByOwner {
        /// Which of equally large groups goes first.
        tie: OwnerTieBreak,
    },
    /// Retriable first, then newest first.
    RetriableLifo,
    /// Retriable first, then oldest first.
    RetriableFifo,
    /// Idle first, the largest first; then retriable before non-retriable, newest first.
    ByTime {
        /// See [`Options::kill_buffer`].
        kill_buffer: Option<Bytes>,
        /// See [`Options::idle_threshold`].
        idle_threshold: Bytes,
    },
    /// Retriable before non-retriable; then the one that holds most above what it declared, the newest of equals.
    ByMemory,
}

impl Policy {
    /// The named policy with those of the options that concern it.
    #[must_use]
    pub fn new(name: PolicyName, options: Options) -> Self {
        match name {
            PolicyName::GroupByOwner => Self::GroupByOwner { tie: options.owner_tie_break },
            PolicyName::RetriableLifo => Self::RetriableLifo,
            PolicyName::RetriableFifo => Self::RetriableFifo,
            PolicyName::ByTime => {
                Self::ByTime { kill_buffer: options.kill_buffer, idle_threshold: options.idle_threshold }
            }
            PolicyName::ByMemory => Self::ByMemory,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> PolicyName {
        match self {
            Self::GroupByOwner { .. } => PolicyName::GroupByOwner,
            Self::RetriableLifo => PolicyName::RetriableLifo,
            Self::RetriableFifo => PolicyName::RetriableFifo,
            Self::ByTime { .. } => PolicyName::ByTime,
            Self::ByMemory => PolicyName::ByMemory,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(PolicyName::default(), Options::default())
    }
}

/// A victim: the worker that the policy takes, and what its owner is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Whom.
    pub id: WorkerId,
    /// Whether its workload may be tried again. What a task's or an actor's budget says about that comes on
    /// top: see `retry`.
    pub should_retry: bool,
    /// The facts that make it the first of its priority.
    pub why: Why,
    /// It is retried although it is the last of its owner: once there is more room.
    pub waits: bool,
    /// Its priority, where the candidates have different ones.
    pub priority: Option<i32>,
    /// How many stand before it in the order and are passed over, since they hold less than this.
    pub passed_over: Option<(usize, Bytes)>,
}

impl Choice {
    /// Why it is taken, as a sentence for people.
    #[must_use]
    pub fn reason(&self) -> String {
        let why = match self.passed_over {
            None if self.waits => {
                "the last retriable worker of its owner; it is retried once there is more room".to_owned()
            }
            None => self.why.to_string(),
            Some((1, least)) => {
                format!(
                    "first of the order that holds at least min_victim_memory ({least}); the worker before it holds less"
                )
            }
            Some((many, least)) => format!(
                "first of the order that holds at least min_victim_memory ({least}); {many} workers before it hold less"
            ),
        };
        match self.priority {
            Some(priority) => format!("lowest priority ({priority}): {why}"),
            None => why,
        }
    }
}
